package app

import (
	"sort"
	"sync"
	"time"
)

// StoryClock is business time that moves by jumps, for quickstart and simulations: silence of months passes in seconds.
// Signatures, tokens, retries and leases stay in wire time.
//
// It remembers its jumps, so that the wire time at which a webhook was received can be told in business time.
type StoryClock struct {
	mu    sync.RWMutex
	now   func() time.Time
	jumps []jump
}

type jump struct{ wire, business time.Time }

// NewStoryClock starts at the business instant start. now is wire time.
func NewStoryClock(start time.Time, now func() time.Time) *StoryClock {
	return &StoryClock{now: now, jumps: []jump{{now(), start}}}
}

// Business returns the story's present instant.
func (c *StoryClock) Business() time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.jumps[len(c.jumps)-1].business
}

// At returns the story's instant at the wire time t.
func (c *StoryClock) At(t time.Time) time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := sort.Search(len(c.jumps), func(i int) bool { return c.jumps[i].wire.After(t) })
	if n == 0 {
		return c.jumps[0].business
	}
	return c.jumps[n-1].business
}

// Advance moves the story to t; it never goes back.
func (c *StoryClock) Advance(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.jumps[len(c.jumps)-1].business) {
		c.jumps = append(c.jumps, jump{c.now(), t})
	}
}
