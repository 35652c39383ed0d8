package hub

import "time"

// ScoresRecord is a snapshot of what was fitted to all customers together. Scores of one customer are derived from it and her own
// orders, and are not stored.
type ScoresRecord struct {
	Version int64     // grows by one
	At      time.Time // business time of what it says
	SavedAt time.Time // wire time from which on it decides
	Body    []byte    // JSON
}
