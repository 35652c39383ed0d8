package app

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/store"
)

// wakes measures silence: a store full of customers whose wake-ups lie ahead, and many that come due at once.
func (b *bench) wakes(ctx context.Context) error {
	if b.o.Wakes == 0 || !b.does("wakes") {
		return nil
	}
	cfg, path, err := b.config("wakes", "", "")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	const due = 10_000
	now := time.Now()
	soon := now.Add(time.Duration(b.o.Wakes/3000)*time.Second + 25*time.Second).Truncate(time.Millisecond)
	if err := seedWakes(ctx, cfg.DataDir, b.o.Wakes, due, now, soon); err != nil {
		return err
	}
	b.o.Say("%d customers seeded", b.o.Wakes+due)
	_, set, err := b.o.Load(path)
	if err != nil {
		return err
	}
	a, err := Open(ctx, Options{Config: cfg, Connectors: set, Load: b.o.Load, Log: b.o.Log, Version: "bench"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	// The first start looks at every customer once.
	for limit := time.Now().Add(5 * time.Minute); !a.pipeline.Decided() && time.Now().Before(limit) && ctx.Err() == nil; {
		rest(ctx, 50*time.Millisecond)
	}
	b.o.Say("all looked at once, %.0f s before the next are due", time.Until(soon).Seconds())
	rest(ctx, 3*time.Second)
	cpu, begin := processCPU(), time.Now()
	rest(ctx, 10*time.Second)
	b.result.Wakes = BenchWakes{Customers: b.o.Wakes, Due: due, IdlePercent: 100 * float64(processCPU()-cpu) / float64(time.Since(begin)) / float64(runtime.NumCPU())}
	polls := time.Now()
	for range 1000 {
		if _, err := a.store.Due(ctx, "clc", now, wakeProbe); err != nil {
			return err
		}
	}
	b.result.Wakes.PollUs = micros(time.Since(polls), 1000)
	for ctx.Err() == nil && time.Now().Before(soon.Add(2*time.Minute)) {
		if a.pipeline.Counts().Wakes >= due {
			break
		}
		rest(ctx, 5*time.Millisecond)
	}
	b.result.Wakes.DecidedMS = millis(time.Since(soon))
	b.o.Say("%d customers waiting: %.2f %% idle CPU, poll %.0f µs; %d due at once decided within %.0f ms", b.o.Wakes, b.result.Wakes.IdlePercent, b.result.Wakes.PollUs, due, b.result.Wakes.DecidedMS)
	cancel()
	return <-done
}

const wakeProbe = 256

// silence is clc's: a customer is lost after so long without a paid order.
const silence = 180 * 24 * time.Hour

// seedWakes fills a store with customers as apply would have left them: waiting ones whose silence comes due in months, and due ones
// whose silence comes due at soon.
func seedWakes(ctx context.Context, dir string, waiting, due int, now, soon time.Time) error {
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer s.Close()
	const batch = 2000
	for from := 0; from < waiting+due; from += batch {
		var c hub.Changes
		for i := from; i < min(from+batch, waiting+due); i++ {
			last := now.Add(-time.Duration(i%100) * 24 * time.Hour).Truncate(time.Millisecond)
			if i >= waiting {
				last = soon.Add(-silence)
			}
			number := strconv.Itoa(i)
			id := hub.Identifier{Kind: "shopify_customer", Connection: "shop", Value: number, Record: true}
			ev := hub.Event{
				ID: hub.EventID("shop", number, "order.paid"), Kind: "order.paid", Connection: "shop", OccurredAt: last, ReceivedAt: last,
				Identifiers: []hub.Identifier{id}, Properties: map[string]any{"id": number},
			}
			var profile fact.Profile
			profile.Put(&ev)
			customer := hub.DeriveID(hub.PrefixCustomer, ev.ProfileID())
			c.Customers = append(c.Customers, &hub.CustomerRecord{
				ID: customer, Kind: hub.SubjectCustomer, Sequence: 2, FirstEventAt: last, DecidedAt: last, CreatedAt: now, UpdatedAt: now,
			})
			c.Profiles = append(c.Profiles, hub.ProfileRecord{
				ID: ev.ProfileID(), CustomerID: customer, Connection: "shop", Key: id.Key(), Identifiers: []hub.Identifier{id}, Facts: profile.Encode(),
			})
			c.Stages = append(c.Stages, hub.StageRecord{
				Subject: hub.Subject{Kind: hub.SubjectCustomer, ID: customer}, CustomerID: customer, Model: "clc", Version: 1, Stage: "new",
				Since: last, By: hub.ByRule, DecidedAt: last, WakesAt: last.Add(silence),
			})
		}
		if err := s.Apply(ctx, func(ctx context.Context, tx hub.Tx) error { return tx.Save(ctx, &c) }); err != nil {
			return err
		}
	}
	return nil
}
