package sandbox

import (
	"maps"
	"slices"
	"time"
)

// index is a search index that sees writes late: each record keeps what was written and when, and a search sees what
// was written no later than the lag ago. Reading a record by its id never goes through it.
type index struct{ versions map[string][]version }

type version struct {
	at     time.Time         // wire time of the write
	fields map[string]string // nil: deleted
}

func newIndex() *index { return &index{versions: map[string][]version{}} }

// put records a write of id.
func (x *index) put(id string, fields map[string]string, at time.Time) {
	list := x.versions[id]
	if len(list) > 20 {
		list = slices.Delete(list, 0, 10)
	}
	x.versions[id] = append(list, version{at, fields})
}

// find returns the ids of the records that match as the index sees them at now, sorted.
func (x *index) find(now time.Time, lag time.Duration, match func(map[string]string) bool) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(x.versions)) {
		list := x.versions[id]
		for _, l := range slices.Backward(list) {
			if l.at.After(now.Add(-lag)) {
				continue
			}
			if l.fields != nil && match(l.fields) {
				out = append(out, id)
			}
			break
		}
	}
	return out
}
