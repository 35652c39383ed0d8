package connector

import "sync"

// Maps come in sizes of Go's making: up to eight entries fill one group, up to 28 four of them.
const (
	smallObject = 8
	largeObject = 28
	maxShelf    = 64 // maps of one size that are kept
)

// objects lends the maps of one decoded body, and the environment it is read in, and takes them back together when nobody reads the body
// any more. For one goroutine.
type objects struct {
	small, large shelf
	env          webhookEnv
}

var lenders = sync.Pool{New: func() any { return new(objects) }}

// make returns an empty map for n entries. Without a lender it is the caller's own.
func (o *objects) make(n int) map[string]any {
	switch {
	case o == nil || n > largeObject:
		return make(map[string]any, n)
	case n > smallObject:
		return o.large.lend(largeObject)
	default:
		return o.small.lend(smallObject)
	}
}

// back ends the use of everything that was lent.
func (o *objects) back() {
	o.small.back()
	o.large.back()
	o.env = webhookEnv{}
	lenders.Put(o)
}

// shelf holds maps of one size. The first of them are lent.
type shelf struct {
	maps []map[string]any
	lent int
}

func (s *shelf) lend(size int) map[string]any {
	switch {
	case s.lent == maxShelf:
		return make(map[string]any, size)
	case s.lent == len(s.maps):
		s.maps = append(s.maps, make(map[string]any, size))
	}
	s.lent++
	return s.maps[s.lent-1]
}

func (s *shelf) back() {
	for _, m := range s.maps[:s.lent] {
		clear(m)
	}
	s.lent = 0
}
