package bus

import (
	"context"
	"sync"
	"time"
)

// Webhooks that are stored faster than they are handled gain nothing by it: they wait, and take the processor from what they wait
// for. While more than paceAhead wait here, a group commit of WEBHOOKS therefore gathers, until as few wait, a whole frame is
// queued or paceLimit is over. It refuses nobody, and what a vendor sees is an answer that comes some milliseconds later. A hub that
// handles nothing (another process does, or the database is down) stores as fast as it can.
const (
	paceAhead = 2048
	paceLimit = 20 * time.Millisecond
	paceAlive = time.Second // since the last webhook was handled
)

// pace knows how many webhooks this process has stored and nobody here has handled.
type pace struct {
	mu      sync.Mutex
	waiting int
	handled time.Time     // when some were
	changed chan struct{} // closed when waiting shrinks; nil while nobody waits
}

func (p *pace) stored(webhooks int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting += webhooks
}

func (p *pace) done(webhooks int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting, p.handled = max(p.waiting-webhooks, 0), now // of an earlier life, or delivered again
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// wait returns nil when the next webhooks may be stored, else a channel that closes when that may have changed.
func (p *pace) wait(now time.Time) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting < paceAhead {
		return nil
	}
	if now.Sub(p.handled) > paceAlive {
		p.waiting = 0 // handled elsewhere, or not at all
		return nil
	}
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// hold returns when a group commit of WEBHOOKS is due.
func (p *pace) hold(ctx context.Context, full <-chan struct{}) {
	gather(ctx, full, paceLimit, func() <-chan struct{} { return p.wait(time.Now()) })
}
