package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/store"
)

// BenchmarkSave applies frames of 256 events of as many customers among 50,000: each event is looked up in the ledger, its customer loaded,
// and ledger, customer, profile, stage, transition, outbox row and callback are saved. It prints the time and the CPU of one event.
func BenchmarkSave(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmarkSave(b, store.Options{Dir: b.TempDir()}) })
	b.Run("postgres", func(b *testing.B) {
		server := os.Getenv("STAGEWIRE_TEST_POSTGRES")
		if server == "" {
			b.Skip("STAGEWIRE_TEST_POSTGRES is not set: no PostgreSQL to test on")
		}
		benchmarkSave(b, store.Options{URL: schemaOf(b, server)})
	})
}

const (
	benchCustomers = 50_000
	benchFrame     = 256
)

func benchmarkSave(b *testing.B, o store.Options) {
	s, err := store.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	people := make([]*hub.CustomerRecord, benchCustomers)
	for i := range people {
		people[i] = person(fmt.Sprintf("p%05d", i))
		people[i].Profiles[0].Facts = make([]byte, 700)
	}
	for i := 0; i < len(people); i += 1000 {
		if err := s.Apply(b.Context(), func(ctx context.Context, tx hub.Tx) error {
			return tx.Save(ctx, changes(people[i:min(i+1000, len(people))]...))
		}); err != nil {
			b.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	body := make([]byte, 600)
	before, wrote := cpu(b), written()
	b.ResetTimer()
	events := 0
	for frame := range b.N {
		if err := s.Apply(b.Context(), func(ctx context.Context, tx hub.Tx) error {
			return benchFrameOnce(ctx, tx, people, random, frame, body)
		}); err != nil {
			b.Fatal(err)
		}
		events += benchFrame
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(events), "cpu-µs/event")
	b.ReportMetric(float64(written()-wrote)/1024/float64(events), "KiB/event")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(events), "µs/event")
}

func benchFrameOnce(ctx context.Context, tx hub.Tx, people []*hub.CustomerRecord, random *rand.Rand, frame int, body []byte) error {
	if _, err := tx.Advance(ctx, hub.Cursor{Incarnation: "i", Seq: uint64(frame + 1)}); err != nil {
		return err
	}
	records := make([]hub.LedgerRecord, benchFrame)
	ids := make([]string, benchFrame)
	var identifiers []hub.Identifier
	customers := make([]string, benchFrame)
	when := t0.Add(time.Duration(frame) * time.Second)
	for i := range records {
		p := people[random.IntN(len(people))]
		records[i] = order(p, fmt.Sprintf("%d-%d", frame, i), when)
		ids[i], customers[i] = records[i].ID, p.ID
		identifiers = append(identifiers, p.Profiles[0].Identifiers[:2]...)
	}
	if _, err := tx.Ledger(ctx, ids); err != nil {
		return err
	}
	if _, err := tx.LockIdentifiers(ctx, identifiers); err != nil {
		return err
	}
	loaded, err := tx.LockCustomers(ctx, customers)
	if err != nil {
		return err
	}
	c := &hub.Changes{Ledger: records}
	for _, p := range loaded {
		p.Sequence++
		from := p.Stages[0].Stage
		to := map[string]string{"new": "active", "active": "new"}[from]
		p.Stages[0].Stage, p.Stages[0].Since, p.Stages[0].DecidedAt, p.Stages[0].WakesAt = to, when, when, when.Add(90*24*time.Hour)
		c.Customers, c.Profiles, c.Stages = append(c.Customers, p), append(c.Profiles, p.Profiles...), append(c.Stages, p.Stages...)
		id := hub.DeriveID(hub.PrefixTransition, p.ID, fmt.Sprint(frame))
		c.Transitions = append(c.Transitions, hub.Transition{
			ID: id, Subject: p.Stages[0].Subject, CustomerID: p.ID, Model: "clc", Version: 3, From: from, To: to, At: when, DecidedAt: when, Sequence: p.Sequence,
			Cause: hub.Cause{Type: hub.CauseEvent, ID: ids[0]}, Why: "count of order.paid was 2",
		})
		c.Outbox = append(c.Outbox, hub.OutboxRecord{ID: id, Kind: hub.OutboxTransition, Subject: "stages.clc.active", CustomerID: p.ID, Body: body, CreatedAt: when})
		c.Deliveries = append(c.Deliveries, hub.Delivery{
			ID: hub.DeriveID(hub.PrefixDelivery, id), Destination: "subscription:erp", Action: "callback", CustomerID: p.ID, Subject: p.Stages[0].Subject, State: hub.DeliveryDue,
			DueAt: when, CreatedAt: when, Body: body, Cause: hub.DeliveryCause{TransitionID: id, EventID: ids[0]},
		})
	}
	return tx.Save(ctx, c)
}

// written returns how many bytes this process has written, 0 where the system does not tell.
func written() (n int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err == nil {
		_, _ = fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", new(int64), &n)
	}
	return n
}

func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
