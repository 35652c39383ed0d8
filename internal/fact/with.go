package fact

import (
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// With returns the facts as they would be with more events; f stays as it is. An event of an id that is there already counts
// beside it only at another instant. What f has derived and the events do not touch is shared, so that events at the end of a long
// history cost little.
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
		out := index(entries)
		out.known = f.known
		return out
	}
	out := &Facts{entries: entries, kinds: slices.Clone(f.kinds), known: f.known, traits: f.traits}
	about := map[string]bool{}
	for _, e := range entries[len(f.entries):] {
		i, ok := search(out.kinds, e.Kind)
		if !ok {
			out.kinds = slices.Insert(out.kinds, i, kindIndex{kind: e.Kind})
		}
		k := &out.kinds[i]
		k.entries = append(slices.Clip(k.entries), e) // f keeps its own
		object, _, _ := strings.Cut(e.Kind, ".")
		about[object] = true
		if e.traits != "" {
			out.traits = nil
		}
	}
	for n, object := range Objects {
		if !about[object] {
			out.objects[n] = f.objects[n]
		}
	}
	if f.hasPaid && !about["order"] {
		out.hasPaid, out.paid = true, f.paid
	}
	return out
}

// Entries returns the events an object's state was derived from, oldest first. Do not change the slice.
func (o *Object) Entries() []*Entry { return o.entries }

// EventID returns the event that brought the value.
func (t Trait) EventID() string { return t.eventID }
