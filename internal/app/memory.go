package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// A hub's live heap is small (20 to 40 MiB), and with Go's default it is collected every few hundred webhooks, which costs a tenth
// of all its work. So the heap may grow by spareHeap between two collections, whatever its size, within these percentages.
const (
	spareHeap      = 68 << 20
	leastGCPercent = 60
	mostGCPercent  = 400
)

// collector sets GOGC anew after each collection, from what is alive. Who has set GOGC or GOMEMLIMIT knows better.
type collector struct {
	stopped atomic.Bool
	before  int
	now     int
}

// collectLess starts it; stop puts back what was.
func collectLess() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	c := &collector{before: debug.SetGCPercent(mostGCPercent), now: mostGCPercent}
	c.watch()
	return func() {
		c.stopped.Store(true)
		debug.SetGCPercent(c.before)
	}
}

// watch is told of the end of the next collection by an object that does not outlive it.
func (c *collector) watch() {
	runtime.AddCleanup(&struct{ _ [16]byte }{}, func(c *collector) {
		if c.stopped.Load() {
			return
		}
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		if percent := gcPercent(sample[0].Value.Uint64()); percent != c.now {
			c.now = percent
			debug.SetGCPercent(percent)
		}
		c.watch()
	}, c)
}

// gcPercent is the growth allowed to a live heap of that many bytes.
func gcPercent(live uint64) int {
	return int(min(max(spareHeap*100/max(live, 1), leastGCPercent), mostGCPercent)) //nolint:gosec // bounded just here
}
