package fact

import (
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Facts is a customer's view: the entries of all profiles in (at, id) order, and what is derived from them. It is
// made by [Union], does not change when a profile does, and derives lazily: not safe for concurrent use.
type Facts struct {
	entries []*Entry
	kinds   []kindIndex // sorted by kind
	sets    []setIndex  // merged lists of several kinds, by the set's name
	objects [8]*folded  // by the index in Objects, see fold
	outside []*Entry    // see Outside
	paid    []*Entry    // see Standing
	hasPaid bool
	traits  map[string]Trait
	known   Known
	scored  Scored   // see scores
	of      *subject // nil: the customer's own
}

type kindIndex struct {
	kind    string
	entries []*Entry
}

type setIndex struct {
	name    string
	entries []*Entry
}

// Union returns the facts of a customer who has these profiles. Nil profiles are skipped. Where two profiles hold
// an event of the same id and instant, it counts once.
func Union(profiles ...*Profile) *Facts {
	var entries []*Entry
	total, used := 0, 0
	for _, p := range profiles {
		if p != nil && len(p.entries) > 0 {
			total += len(p.entries)
			used++
		}
	}
	entries = make([]*Entry, 0, total)
	for _, p := range profiles {
		if p != nil {
			entries = append(entries, p.entries...)
		}
	}
	if used > 1 {
		slices.SortStableFunc(entries, compare)
		entries = slices.CompactFunc(entries, func(a, b *Entry) bool { return a.at == b.at && a.ID == b.ID })
	}
	return index(entries)
}

// index groups entries by kind without disturbing their order.
func index(entries []*Entry) *Facts {
	var fewKinds [8]kindIndex // most customers have no more: these cost no memory
	var fewCounts [8]int
	kinds, counts := fewKinds[:0], fewCounts[:0]
	for _, e := range entries {
		i, ok := search(kinds, e.Kind)
		if !ok {
			kinds = slices.Insert(kinds, i, kindIndex{kind: e.Kind})
			counts = slices.Insert(counts, i, 0)
		}
		counts[i]++
	}
	f := &Facts{entries: entries, kinds: slices.Clone(kinds)}
	if len(kinds) == 1 {
		f.kinds[0].entries = slices.Clip(entries)
		return f
	}
	block := make([]*Entry, len(entries))
	for i, n := range counts {
		f.kinds[i].entries, block = block[0:0:n], block[n:]
	}
	for _, e := range entries {
		i, _ := search(f.kinds, e.Kind)
		f.kinds[i].entries = append(f.kinds[i].entries, e)
	}
	return f
}

// search returns where kind is, or belongs.
func search(kinds []kindIndex, kind string) (int, bool) {
	for i := range kinds {
		if kinds[i].kind >= kind {
			return i, kinds[i].kind == kind
		}
	}
	return len(kinds), false
}

// Entries returns all entries in (at, id) order. Do not change the slice.
func (f *Facts) Entries() []*Entry { return f.entries }

// Outside returns the entries that outside systems told of, without the hub's own (hub.Kind.Own). Do not change the slice.
func (f *Facts) Outside() []*Entry {
	if f.outside != nil {
		return f.outside
	}
	f.outside = f.entries
	if slices.ContainsFunc(f.kinds, func(k kindIndex) bool { return isOwn(k.kind) }) {
		f.outside = slices.DeleteFunc(slices.Clone(f.entries), func(e *Entry) bool { return isOwn(e.Kind) })
	}
	return f.outside
}

func isOwn(kind string) bool {
	switch kind {
	case hub.KindReferredMoved, hub.KindCompanyMoved, hub.KindIdentityShared, hub.KindMemberJoined, hub.KindMemberLeft:
		return true
	}
	return false
}

// Kind returns the entries of one kind. Do not change the slice.
func (f *Facts) Kind(kind string) []*Entry {
	if i, ok := search(f.kinds, kind); ok {
		return f.kinds[i].entries
	}
	return nil
}

// Set returns the entries of several kinds in (at, id) order; name identifies the set and is what it is remembered by.
func (f *Facts) Set(name string, kinds []string) []*Entry {
	if len(kinds) == 1 {
		return f.Kind(kinds[0])
	}
	for i := range f.sets {
		if f.sets[i].name == name {
			return f.sets[i].entries
		}
	}
	var out []*Entry
	for i := range f.kinds {
		if slices.Contains(kinds, f.kinds[i].kind) {
			out = append(out, f.kinds[i].entries...)
		}
	}
	slices.SortFunc(out, compare)
	f.sets = append(f.sets, setIndex{name, out})
	return out
}

// Standing returns the entries of order.paid whose order was neither cancelled nor fully refunded since.
func (f *Facts) Standing() []*Entry {
	if f.hasPaid {
		return f.paid
	}
	f.hasPaid, f.paid = true, f.Kind("order.paid")
	if len(f.Kind("order.refunded")) == 0 && len(f.Kind("order.cancelled")) == 0 {
		return f.paid
	}
	all := f.paid
	f.paid = make([]*Entry, 0, len(all))
	for _, e := range all {
		if o := f.ObjectOf(e); o == nil || (!o.Cancelled && !o.Refunded) {
			f.paid = append(f.paid, e)
		}
	}
	return f.paid
}

// AsOf returns the facts without the entries after t.
func (f *Facts) AsOf(t time.Time) *Facts {
	ms := t.UnixMilli()
	if f.of != nil {
		if full := f.of.full.AsOf(t); full != f.of.full {
			return full.Deal(f.of.deal.connection, f.of.deal.id)
		}
		return f
	}
	known := upTo(f.entries, ms)
	if len(known) == len(f.entries) {
		return f
	}
	// Each list is in order, so that what was known is a prefix of it.
	past := &Facts{entries: known, kinds: make([]kindIndex, 0, len(f.kinds)), known: f.known}
	for _, k := range f.kinds {
		if entries := upTo(k.entries, ms); len(entries) > 0 {
			past.kinds = append(past.kinds, kindIndex{k.kind, entries})
		}
	}
	return past
}

// upTo returns the entries no later than ms.
func upTo(entries []*Entry, ms int64) []*Entry {
	n, _ := slices.BinarySearchFunc(entries, ms, func(e *Entry, ms int64) int {
		if e.at <= ms {
			return -1
		}
		return 1
	})
	return entries[:n:n]
}

// FirstEventAt returns when the customer's earliest event occurred, zero without events.
func (f *Facts) FirstEventAt() time.Time {
	if f.of != nil {
		return f.of.full.FirstEventAt()
	}
	if len(f.entries) == 0 {
		return time.Time{}
	}
	return f.entries[0].At()
}

// LastEventAt returns when the latest event occurred, zero without events.
func (f *Facts) LastEventAt() time.Time {
	if len(f.entries) == 0 {
		return time.Time{}
	}
	return f.entries[len(f.entries)-1].At()
}

// Summary is what the API tells of one kind.
type Summary struct {
	Count   int         `json:"count"`
	FirstAt time.Time   `json:"first_at"`
	LastAt  time.Time   `json:"last_at"`
	Sum     []hub.Money `json:"sum,omitempty"` // of the property amount, one per currency, sorted by it
}

// Summary returns, per kind the customer has events of, their number, span and sums per currency.
func (f *Facts) Summary() map[string]Summary {
	out := make(map[string]Summary, len(f.kinds))
	for _, k := range f.kinds {
		s := Summary{Count: len(k.entries), FirstAt: k.entries[0].At(), LastAt: k.entries[len(k.entries)-1].At()}
		for _, e := range k.entries {
			m, ok := e.Money("amount")
			if !ok {
				continue
			}
			i, found := slices.BinarySearchFunc(s.Sum, m.Currency, func(a hub.Money, c string) int {
				return strings.Compare(a.Currency, c)
			})
			if !found {
				s.Sum = slices.Insert(s.Sum, i, m)
			} else if sum, err := s.Sum[i].Add(m); err == nil {
				// More than nineteen digits cannot be told; the sum then stays at what could be added.
				s.Sum[i] = sum
			}
		}
		out[k.kind] = s
	}
	return out
}
