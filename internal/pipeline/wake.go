package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	// wakeLook is how many due customers are looked up at once. They are decided in the order of their ids, so that many share the pages
	// of indexes that lead to them.
	wakeLook = 8192
	// wakeBatch is how many one transaction decides.
	wakeBatch = 256
	// wakeAtOnce is how many are under way: while one works, the next is read, and the one before is taken to the disk.
	wakeAtOnce = 3
)

// wakePoll is how often due wake-ups are looked for at least. Nobody comes due but by a horizon that moves on, so they are looked for
// whenever it did. The look costs an index probe, however many customers wait.
const wakePoll = time.Second

// Wake decides customers whose silence comes due, for as long as ctx lives. Only the process that computes the horizon works:
// both duties go under one lease.
func (p *Pipeline) Wake(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := p.WakeOnce(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			p.Log.Error("wake-ups not decided", "error", err)
			sleep(ctx, time.Second)
		case n == 0:
			p.untilMoved(ctx)
		}
	}
	return nil
}

// untilMoved waits until the horizon was computed anew, at most wakePoll.
func (p *Pipeline) untilMoved(ctx context.Context) {
	poll := time.NewTimer(wakePoll)
	defer poll.Stop()
	select {
	case <-p.moved:
	case <-poll.C:
	case <-ctx.Done():
	}
}

// WakeOnce decides up to wakeLook customers a model and returns how many it decided.
func (p *Pipeline) WakeOnce(ctx context.Context) (int, error) {
	program := p.Program()
	if program == nil {
		return 0, nil
	}
	mine, err := p.onDuty(ctx)
	if err != nil || !mine {
		return 0, err
	}
	total := 0
	horizons, err := p.published(ctx)
	if err != nil || horizons == nil {
		return 0, err
	}
	for i := range program.Models {
		model := &program.Models[i]
		_, until := (&goes{horizons: horizons}).limits(model)
		if until.IsZero() {
			continue
		}
		ids, err := p.Store.Due(ctx, model.Name, until, wakeLook)
		if err != nil {
			return total, fmt.Errorf("due: %w", err)
		}
		if len(ids) == 0 {
			continue
		}
		slices.Sort(ids) // one customer may have several deals that are due
		ids = slices.Compact(ids)
		n, err := p.decideDue(ctx, ids)
		if total += n; errors.Is(err, hub.ErrTransient) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// published reads the horizon rows without a transaction of their own.
func (p *Pipeline) published(ctx context.Context) (map[string]hub.Horizon, error) {
	if h := p.horizon.Load(); h != nil {
		return *h, nil
	}
	return nil, nil
}

// decideDue chains the wake-ups of the customers up to their models' horizons and returns how many it decided. After an error it begins no
// further transaction.
func (p *Pipeline) decideDue(ctx context.Context, ids []string) (int, error) {
	var decided atomic.Int64
	work, stopped := errgroup.WithContext(ctx)
	work.SetLimit(wakeAtOnce)
	for batch := range slices.Chunk(ids, wakeBatch) {
		work.Go(func() error {
			if stopped.Err() != nil {
				return nil
			}
			if err := p.Store.Warm(ctx, batch); err != nil {
				return fmt.Errorf("warm: %w", err)
			}
			if err := p.decideAll(ctx, batch, (*goes).wake); err != nil {
				return err
			}
			decided.Add(int64(len(batch)))
			return nil
		})
	}
	err := work.Wait()
	return int(decided.Load()), err
}

// wake chains one customer's due wake-ups in all models. Each wake-up that moves her is a go of its own.
func (g *goes) wake(ctx context.Context, m *mind) error {
	g.useComputed()
	if err := g.chainToHorizon(m); err != nil {
		return err
	}
	return g.effects(ctx, m, nil)
}

// useComputed takes over the horizon that made the customers due: the rows in SQL may be older by horizonSave, and she would be due again and
// again until they are not. What holds silence back is always saved, so where a hold differs the row is newer.
func (g *goes) useComputed() {
	computed := g.p.horizon.Load()
	if computed == nil {
		return
	}
	for name, saved := range g.horizons {
		if h, ok := (*computed)[name]; ok && h.Hold.Equal(saved.Hold) && h.At.After(saved.At) {
			g.horizons[name] = h
		}
	}
}

// Rest computes the horizon, decides what is due up to it, and reports whether silence has nothing left to say at business
// now. For stories, whose clock goes on only then.
func (p *Pipeline) Rest(ctx context.Context) (still bool, what string, err error) {
	if err := p.ComputeHorizon(ctx); err != nil {
		return false, "", err
	}
	n, err := p.WakeOnce(ctx)
	if err != nil || n > 0 {
		return false, "wake-ups", err
	}
	published, err := p.published(ctx)
	if err != nil || published == nil {
		return false, "the horizon", err
	}
	now := p.Clock.Business().Truncate(hub.Resolution)
	for _, h := range published {
		if h.At.Before(now) {
			return false, "the horizon of " + h.Connection, nil
		}
	}
	return true, "", nil
}
