package fact

import (
	"slices"

	"github.com/stagewire/stagewire/internal/hub"
)

// With returns the facts as they would be with more events; f stays as it is. An event of an id that is there already counts
// beside it only at another instant.
func (f *Facts) With(events ...hub.Event) *Facts {
	if f.of != nil {
		return f.of.full.With(events...).Deal(f.of.deal.connection, f.of.deal.id)
	}
	entries := make([]*Entry, len(f.entries), len(f.entries)+len(events))
	copy(entries, f.entries)
	sorted := true
	for i := range events {
		e := newEntry(&events[i])
		sorted = sorted && (len(entries) == 0 || compare(entries[len(entries)-1], e) < 0)
		entries = append(entries, e)
	}
	if !sorted {
		slices.SortStableFunc(entries, compare)
		entries = slices.CompactFunc(entries, func(a, b *Entry) bool { return a.at == b.at && a.ID == b.ID })
	}
	out := index(entries)
	out.known = f.known
	return out
}

// Entries returns the events an object's state was derived from, oldest first. Do not change the slice.
func (o *Object) Entries() []*Entry { return o.entries }

// EventID returns the event that brought the value.
func (t Trait) EventID() string { return t.eventID }
