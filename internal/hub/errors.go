package hub

import "errors"

// The kinds of error that cross package borders. They say what to do next, not what happened: the text
// wrapped around them says that. Test with errors.Is.
var (
	// ErrInvalid means the input can never succeed: do not try again, make a dead letter.
	ErrInvalid = errors.New("invalid")
	// ErrUnauthenticated means a signature, token or secret is wrong, missing or stale.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrStale means a signature is right but older than the scheme's tolerance. It always comes with ErrUnauthenticated.
	ErrStale = errors.New("stale")
	// ErrNotFound means the named thing does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict means somebody else changed it first: load again and repeat.
	ErrConflict = errors.New("conflict")
	// ErrTransient means trying again later makes sense.
	ErrTransient = errors.New("transient")
	// ErrBusy means a bounded queue is full: answer 503 with Retry-After.
	ErrBusy = errors.New("busy")
)
