package bus

import (
	"context"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Frames of EVENTS are worth filling: a SQL transaction costs its pages and its fsync whether it holds forty events or
// two hundred. While the frame before last is not applied yet, nothing is gained by publishing another one, so the
// publisher gathers; an idle hub publishes at once. Where another process applies the frames, this one does not
// see it and waits gatherLimit at most.
const (
	gatherAhead = 2 // frames published and not applied yet that are enough to keep apply busy
	gatherLimit = 60 * time.Millisecond
)

// ahead knows which frames of one partition this process has published and nobody here has applied.
type ahead struct {
	mu      sync.Mutex
	seqs    []uint64
	changed chan struct{} // closed when seqs shrinks; nil while nobody waits
	// joined is the last frame that was applied together with an earlier one, since the consumer was looked up: when it
	// comes itself it need not be read.
	joined uint64
	handed handover[hub.Event]
}

// together notes that everything through seq has been applied; 0 forgets it, for a consumer that may begin again further back.
func (a *ahead) together(seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.joined = seq
}

func (a *ahead) wasJoined(seq uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return seq <= a.joined
}

// publishing notes that a frame is sent, and its events where they are to be handed over.
func (a *ahead) publishing(id string, events []hub.Event, bytes int) {
	if events == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handed.put(id, events, bytes)
}

// published notes that a frame is stored.
func (a *ahead) published(id string, seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handed.stored(id, seq)
	if len(a.seqs) > 1024 { // applied elsewhere
		a.seqs = a.seqs[:0]
	}
	a.seqs = append(a.seqs, seq)
}

// take gives the events of a frame away, nil where they are not at hand or, with true, more than room. It is also for one that failed.
func (a *ahead) take(id string, room int) (events []hub.Event, tooMany bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.handed.take(id, room)
}

func (a *ahead) applied(seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handed.handled(seq)
	kept := a.seqs[:0]
	for _, s := range a.seqs {
		if s > seq {
			kept = append(kept, s)
		}
	}
	a.seqs = kept
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// wait returns nil when fewer than gatherAhead frames are out, else a channel that closes when that may have changed.
func (a *ahead) wait() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seqs) < gatherAhead {
		return nil
	}
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.changed
}

// hold gathers: it returns when apply needs the next frame, when a whole one is queued, or after gatherLimit.
func (a *ahead) hold(ctx context.Context, full <-chan struct{}) {
	if gather(ctx, full, gatherLimit, a.wait) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.seqs = a.seqs[:0] // somebody else applies them, or apply is stuck: gathering does not help
	}
}

// gather returns when wait gives nil instead of a channel that closes when that may have changed, when full closes, when ctx ends, and, with
// true, after limit.
func gather(ctx context.Context, full <-chan struct{}, limit time.Duration, wait func() <-chan struct{}) (expired bool) {
	var timer *time.Timer
	for changed := wait(); changed != nil; changed = wait() {
		if timer == nil {
			timer = time.NewTimer(limit)
			defer timer.Stop()
		}
		select {
		case <-changed:
		case <-full:
			return false
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	return false
}
