package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// horizonPoll is how often the horizon is computed; a row that is older is only too low.
const horizonPoll = 250 * time.Millisecond

// Horizon computes and publishes the horizon of every connection, for as long as ctx lives. Only the holder of the lease works.
func (p *Pipeline) Horizon(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.ComputeHorizon(ctx); err != nil && ctx.Err() == nil {
			p.Log.Warn("horizon not computed", "error", err)
		}
		sleep(ctx, horizonPoll)
	}
	return nil
}

// ComputeHorizon reads, upstream first, what still waits, and publishes one row per connection and one for all ("").
//
// The order matters: a record moves from WEBHOOKS to a hydration row to EVENTS to SQL. Each place is read before the
// next, so that a record on its way is seen at least once; the streams are asked twice, around the hydration rows.
func (p *Pipeline) ComputeHorizon(ctx context.Context) error {
	if err := p.saveGaps(ctx); err != nil {
		return fmt.Errorf("gaps that are open: %w", err)
	}
	mine, err := p.onDuty(ctx)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if !mine {
		return nil
	}
	wire := p.Now()
	now := p.Clock.Business()
	first, err := p.Backlog.Oldest(ctx)
	if err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	hydrating, err := p.Store.OldestHydration(ctx)
	if err != nil {
		return fmt.Errorf("hydrations: %w", err)
	}
	second, err := p.Backlog.Oldest(ctx)
	if err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	gaps, err := p.Store.OpenGaps(ctx)
	if err != nil {
		return fmt.Errorf("gaps: %w", err)
	}
	all := now
	for _, waiting := range [...]time.Time{first, second} {
		if !waiting.IsZero() {
			all = minTime(all, p.Clock.At(waiting))
		}
	}
	all = all.Truncate(hub.Resolution)
	rows := []hub.Horizon{{At: all, ComputedAt: wire}}
	for _, name := range p.Connections.Names() {
		row := hub.Horizon{Connection: name, At: all, ComputedAt: wire}
		if oldest, ok := hydrating[name]; ok {
			if waited := wire.Sub(oldest); waited <= p.Hold {
				row.Hold = p.Clock.At(oldest).Truncate(hub.Resolution)
			} else {
				p.Log.Error("a record waits to be fetched for longer than hold: its facts will count as late",
					"connection", name, "waits_seconds", int(waited.Seconds()))
			}
		}
		if start, ok := gaps[name]; ok && (row.Hold.IsZero() || start.Before(row.Hold)) {
			row.Hold = start.Truncate(hub.Resolution)
		}
		row.At = bounded(row.At, row.Hold)
		rows = append(rows, row)
		p.metrics.held.WithLabelValues(name).Set(now.Sub(row.At).Seconds())
	}
	published := make(map[string]hub.Horizon, len(rows))
	for _, row := range rows {
		published[row.Connection] = row
	}
	if last := p.horizon.Load(); last == nil || holdsDiffer(*last, published) || wire.Sub(time.Unix(0, p.saved.Load())) >= horizonSave {
		if err := p.Store.SaveHorizons(ctx, rows); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		p.saved.Store(wire.UnixNano())
	}
	p.horizon.Store(&published)
	select {
	case p.moved <- struct{}{}:
	default:
	}
	return nil
}

// horizonSave is how old the rows in SQL may be. Wake-ups go by what was just computed; the rows are for other processes and for
// events, for which an older one is only too low. What holds silence back is saved at once.
const horizonSave = time.Second

func holdsDiffer(a, b map[string]hub.Horizon) bool {
	if len(a) != len(b) {
		return true
	}
	for name, h := range b {
		if before, ok := a[name]; !ok || !before.Hold.Equal(h.Hold) {
			return true
		}
	}
	return false
}

// OpenGaps records that webhooks may have been missed since start, at every connection. What is down does not make customers
// silent: their wake-ups wait until Settle has passed and the vendors' retries have come in. A gap that cannot be stored, because
// what made it has stopped the database too, is remembered, and this process computes no horizon before it is stored.
func (p *Pipeline) OpenGaps(ctx context.Context, start time.Time, connections ...string) error {
	if len(connections) == 0 {
		connections = p.Connections.Names()
	}
	p.gapsMu.Lock()
	for _, name := range connections {
		if at, ok := p.gaps[name]; !ok || start.Before(at) {
			p.gaps[name] = start
		}
	}
	p.gapsMu.Unlock()
	return p.saveGaps(ctx)
}

// saveGaps stores the gaps that are remembered.
func (p *Pipeline) saveGaps(ctx context.Context) error {
	p.gapsMu.Lock()
	defer p.gapsMu.Unlock()
	for name, start := range p.gaps {
		if err := p.Store.OpenGap(ctx, name, p.Clock.At(start)); err != nil {
			return fmt.Errorf("open gap of %s: %w", name, err)
		}
		delete(p.gaps, name)
		p.Log.Warn("intake gap opened: wake-ups wait until it is settled", "connection", name, "since", start, "settle", p.Settle.String())
	}
	return nil
}

// SettleGaps closes gaps that have been open for Settle, for as long as ctx lives.
func (p *Pipeline) SettleGaps(ctx context.Context) error {
	for ctx.Err() == nil {
		for _, name := range p.Connections.Names() {
			if err := p.Store.CloseGaps(ctx, name, p.Now().Add(-p.Settle)); err != nil && ctx.Err() == nil {
				p.Log.Warn("gap not closed", "connection", name, "error", err)
			}
		}
		sleep(ctx, min(p.Settle/4, 10*time.Second)+10*time.Millisecond)
	}
	return nil
}

// dutyTime is how long the lease of horizon and wake-ups lasts; it is renewed when half of it has passed.
const dutyTime = 6 * time.Second

// onDuty reports whether this process computes horizons and wakes customers. It asks the store only when the lease it
// holds is half over, or when it holds none and a second has passed.
func (p *Pipeline) onDuty(ctx context.Context) (bool, error) {
	p.duty.Lock()
	defer p.duty.Unlock()
	now := p.Now()
	if now.Before(p.dutyAsk) {
		return now.Before(p.dutyUntil), nil
	}
	held, err := p.Store.Lease(ctx, "horizon", p.Holder, dutyTime)
	if err != nil {
		return false, err
	}
	p.dutyAsk, p.dutyUntil = now.Add(time.Second), time.Time{}
	if held {
		p.dutyAsk, p.dutyUntil = now.Add(dutyTime/2), now.Add(dutyTime)
	}
	return held, nil
}
