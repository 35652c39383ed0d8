package bus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	watchEvery   = 250 * time.Millisecond
	probeEvery   = 10 * time.Second // where nothing else was published meanwhile
	probeTimeout = 5 * time.Second
	silentLimit  = 2               // unanswered publishes in a row that make a restart due
	restartPause = 5 * time.Second // between restarts; doubles while they do not help
	restartLimit = 2 * time.Minute
)

// disk is a file system's space in bytes.
type disk struct{ free, size int64 }

// minFree returns the space that must stay free: as configured, else the larger of 1 GiB and 5 %.
func minFree(configured int64, dir string) int64 {
	if configured > 0 {
		return configured
	}
	d, err := statDisk(dir)
	if err != nil {
		return 1 << 30
	}
	return max(1<<30, d.size/20)
}

// health is what is known of the log's ability to take more.
type health struct {
	full atomic.Pointer[error] // set while the disk has too little room
	mute atomic.Pointer[error] // set while a stream does not answer

	mu       sync.Mutex
	silence  map[string]int // publishes in a row that got no answer, by stream
	trouble  error          // why the server is not trusted; nil while it is
	answerAt time.Time      // when a publish was last answered
}

// answered records that stream acked a message.
func (h *health) answered(stream string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.silence, stream)
	h.answerAt = time.Now()
	if len(h.silence) == 0 {
		h.trouble = nil
		h.mute.Store(nil)
	}
}

// silent records that stream did not answer.
func (h *health) silent(stream string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.silence == nil {
		h.silence = map[string]int{}
	}
	h.silence[stream]++
	h.trouble = fmt.Errorf("stream %s does not answer: %w", stream, err)
	if h.silence[stream] >= silentLimit {
		mute := fmt.Errorf("%w: %w", h.trouble, hub.ErrBusy)
		h.mute.Store(&mute)
	}
}

// forget begins anew, with what is known to be wrong, if anything is.
func (h *health) forget(trouble error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silence, h.trouble = nil, trouble
	h.mute.Store(nil)
}

// state returns whether a stream has been silent too long, the trouble, and when something was last published.
func (h *health) state() (silent bool, answerAt time.Time, trouble error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.silence {
		silent = silent || n >= silentLimit
	}
	return silent, h.answerAt, h.trouble
}

// serverDown reports whether the embedded server needs a restart: after a write error a stream answers nobody any more,
// or JetStream has shut itself down altogether.
func (b *Bus) serverDown() bool {
	silent, _, _ := b.health.state()
	return silent || !b.server.jetStream()
}

// accepting returns an error that wraps hub.ErrBusy while nothing can be stored.
func (b *Bus) accepting() error {
	if err := b.health.full.Load(); err != nil {
		return *err
	}
	if err := b.health.mute.Load(); err != nil {
		return *err
	}
	return nil
}

// roomFor measures the disk right before a frame is written.
func (b *Bus) roomFor() error {
	if b.server != nil {
		b.checkDisk()
	}
	return b.accepting()
}

// checkDisk measures the free space and remembers whether it is too little.
func (b *Bus) checkDisk() disk {
	if b.server == nil {
		return disk{} // the cluster's disks are its own business; it refuses when they are full
	}
	d, err := statDisk(b.config.Dir)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: %w", err, hub.ErrBusy)
	case d.free < b.config.MinFreeDisk:
		err = fmt.Errorf("%d MiB are free in %s, less than min_free_disk of %d MiB: %w", d.free>>20, b.config.Dir, b.config.MinFreeDisk>>20, hub.ErrBusy)
	}
	b.metrics.free.Set(float64(d.free))
	if err == nil {
		if b.health.full.Swap(nil) != nil {
			b.log.Info("the disk has room again", "free_mib", d.free>>20)
		}
		return d
	}
	if b.health.full.Swap(&err) == nil {
		b.log.Error("refusing webhooks: too little room on the disk", "error", err)
	}
	return d
}

// Healthy returns nil while webhooks can be stored. It asks NATS, within ctx.
func (b *Bus) Healthy(ctx context.Context) error {
	if err := b.accepting(); err != nil {
		return err
	}
	if b.server != nil && !b.server.jetStream() {
		return fmt.Errorf("embedded JetStream is down: %w", hub.ErrTransient)
	}
	if _, _, trouble := b.health.state(); trouble != nil {
		return fmt.Errorf("%w: %w", trouble, hub.ErrTransient)
	}
	_, err := b.streamInfo(ctx, streamWebhooks)
	return err
}

// watch measures the disk, probes publishing where nothing else publishes, and restarts an embedded server that is down.
func (b *Bus) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	pause, notBefore, lastBacklog := restartPause, time.Time{}, time.Time{}
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		b.checkDisk()
		if now := time.Now(); now.Sub(lastBacklog) > probeTimeout {
			lastBacklog = now
			b.measureBacklog(ctx)
		}
		silent, answerAt, _ := b.health.state()
		if b.health.full.Load() != nil {
			continue // nothing can be stored, and a new server would fail the same way
		}
		if b.server == nil {
			if silent || time.Since(answerAt) > probeEvery {
				if b.probe(ctx) && silent {
					b.health.forget(nil) // the cluster is back
				}
			}
			continue
		}
		if !silent && time.Since(answerAt) > probeEvery {
			b.probe(ctx)
		}
		if !b.serverDown() || time.Now().Before(notBefore) {
			continue
		}
		b.restart()
		if b.probe(ctx) {
			pause = restartPause
		} else {
			pause = min(2*pause, restartLimit)
		}
		notBefore = time.Now().Add(pause)
	}
}

// restart replaces the embedded server. Connections find the new one by themselves.
func (b *Bus) restart() {
	began := time.Now()
	b.log.Warn("restarting the embedded NATS server: it does not store messages any more")
	b.metrics.restarts.Inc()
	err := b.server.restart()
	b.health.forget(err)
	if err != nil {
		b.log.Error("embedded NATS did not start", "error", err)
		return
	}
	b.log.Info("embedded NATS is back", "took", time.Since(began))
}

// probe publishes one tiny message and reports whether that went well. Its silence is counted like that of any other.
func (b *Bus) probe(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*probeTimeout)
	defer cancel()
	_, err := b.send(ctx, b.links[linkRequest], streamProbe, &nats.Msg{Subject: subjectProbe, Header: nats.Header{}})
	if err != nil {
		b.log.Debug("publish probe", "error", err)
	}
	return err == nil
}
