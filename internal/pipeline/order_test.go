package pipeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/govalues/decimal"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
)

// The order in which facts arrive, how often, and how they are packed into frames changes nothing: facts, stages and wake-ups
// end up the same, up to the customers' ids. This is promise 3.
func TestAnyOrderEndsInTheSame(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range rounds {
		events := randomHistory(r)
		horizon := epoch.AddDate(0, 0, 200+r.IntN(400))
		var want map[string]person
		for variant := range 4 {
			frames := [][]hub.Event{slices.Clone(events)}
			if variant > 0 {
				frames = shuffleIntoFrames(r, events)
			}
			got := runFrames(t, nil, frames, horizon)
			if variant == 0 {
				want = got
				continue
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d round %d variant %d: other order, other end (-first +now):\n%s", seed, round, variant, diff)
			}
		}
	}
}

// The same over PostgreSQL with two processes, which take the frames in turns and at the same time.
func TestAnyOrderOverTwoProcesses(t *testing.T) {
	url := postgres(t)
	seed := uint64(time.Now().UnixNano())
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range rounds {
		events := randomHistory(r)
		horizon := epoch.AddDate(0, 0, 200+r.IntN(400))
		want := runFrames(t, nil, [][]hub.Event{slices.Clone(events)}, horizon)
		h := newHarness(t, url(fmt.Sprintf("order_%d_%d", seed%1e9, round)))
		second := &harness{store: h.store, now: epoch}
		second.pipeline = second.newPipeline(t, "two")
		frames := shuffleIntoFrames(r, events)
		var wg sync.WaitGroup
		for i, each := range []*harness{h, second} {
			wg.Go(func() {
				for n := i; n < len(frames); n += 2 {
					each.applyTo(t.Context(), t, n, 1, frames[n]) // a partition each: no frame waits for another
				}
			})
		}
		wg.Wait()
		h.horizon(t.Context(), t, horizon)
		h.drainWakes(t.Context(), t)
		if diff := cmp.Diff(want, h.people(t.Context(), t)); diff != "" {
			t.Fatalf("seed %d round %d: two processes, other end (-one +two):\n%s", seed, round, diff)
		}
	}
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// person is what must be the same, under a name that does not depend on the order: her identifiers.
type person struct {
	Facts  string
	Stages []string
}

// runFrames applies the frames in one process, then lets silence come due up to horizon.
func runFrames(t *testing.T, h *harness, frames [][]hub.Event, horizon time.Time) map[string]person {
	t.Helper()
	if h == nil {
		h = newHarness(t, "")
	}
	ctx := t.Context()
	for i, frame := range frames {
		h.apply(ctx, t, uint64(i+1), frame)
	}
	h.horizon(ctx, t, horizon)
	h.drainWakes(ctx, t)
	return h.people(ctx, t)
}

func (h *harness) people(ctx context.Context, t *testing.T) map[string]person {
	t.Helper()
	out := map[string]person{}
	cursor := ""
	for {
		list, next, err := h.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 200, Cursor: cursor}})
		if err != nil {
			t.Fatal(err)
		}
		for _, summary := range list {
			rec, err := h.store.Customer(ctx, summary.ID)
			if err != nil {
				t.Fatal(err)
			}
			var profiles []*fact.Profile
			for _, p := range rec.Profiles {
				profile, err := fact.DecodeProfile(p.Facts)
				if err != nil {
					t.Fatal(err)
				}
				profiles = append(profiles, profile)
			}
			var facts strings.Builder
			for _, e := range fact.Union(profiles...).Entries() {
				fmt.Fprintf(&facts, "%s %s\n", e.At().Format(time.RFC3339Nano), e.ID)
			}
			var names []string
			for _, id := range hub.UnionIdentifiers(rec.Profiles) {
				names = append(names, id.Key())
			}
			slices.Sort(names)
			var stages []string
			for _, s := range rec.Stages {
				wakes := "never"
				if !s.WakesAt.IsZero() {
					wakes = s.WakesAt.UTC().Format(time.RFC3339Nano)
				}
				stages = append(stages, fmt.Sprintf("%s=%s wakes %s", s.Model, s.Stage, wakes))
			}
			slices.Sort(stages)
			out[strings.Join(names, " ")] = person{Facts: facts.String(), Stages: stages}
		}
		if next == "" {
			return out
		}
		cursor = next
	}
}

// randomHistory makes the events of a few people who are known to two systems under ids, addresses and phones that overlap.
func randomHistory(r *rand.Rand) []hub.Event {
	var events []hub.Event
	kinds := []string{"order.placed", "order.paid", "order.paid", "order.refunded", "ticket.opened", "customer.updated", "email.opened", "survey.answered"}
	for i := range 20 + r.IntN(60) {
		who := r.IntN(6)
		connection := []string{"shop", "crm", "desk"}[r.IntN(3)]
		kind := kinds[r.IntN(len(kinds))]
		at := epoch.Add(time.Duration(r.Int64N(int64(400 * 24 * time.Hour)))).Truncate(time.Millisecond)
		if r.IntN(4) == 0 && len(events) > 0 {
			at = events[r.IntN(len(events))].OccurredAt // ties
		}
		ev := hub.Event{
			ID: hub.EventID(connection, fmt.Sprint(i), kind), Version: hub.Version{Activation: 1}, Kind: kind, Connection: connection,
			OccurredAt: at, ReceivedAt: at.Add(time.Second), Properties: map[string]any{}, WebhookID: hub.DeriveID(hub.PrefixWebhook, fmt.Sprint(i)),
		}
		if r.IntN(3) > 0 {
			ev.Identifiers = append(ev.Identifiers, hub.Identifier{Kind: connection + "_person", Connection: connection, Value: fmt.Sprint(who), Record: true})
		}
		if r.IntN(2) == 0 || len(ev.Identifiers) == 0 {
			ev.Identifiers = append(ev.Identifiers, hub.Identifier{Kind: hub.IdentifierEmail, Value: fmt.Sprintf("p%d@example.com", who/2*2)})
		}
		if r.IntN(5) == 0 {
			ev.Identifiers = append(ev.Identifiers, hub.Identifier{Kind: hub.IdentifierPhone, Value: fmt.Sprintf("+4930123456%d", who)})
		}
		switch kind {
		case "order.placed", "order.paid", "order.refunded":
			ev.Properties["id"] = fmt.Sprint(i / 3)
			ev.Properties["amount"] = hub.Money{Amount: decimal.MustNew(int64(r.IntN(20000)), 2), Currency: "EUR"}
		case "ticket.opened":
			ev.Properties["id"] = fmt.Sprint(i)
			ev.Properties["type"] = "complaint"
		case "customer.updated":
			ev.Traits = []hub.Trait{{Name: "plan", Value: fmt.Sprint(r.IntN(3)), At: at}}
		case "survey.answered":
			ev.Properties["metric"], ev.Properties["score"], ev.Properties["scale"] = "nps", float64(r.IntN(11)), 10.0
		}
		events = append(events, ev)
	}
	return events
}

func shuffleIntoFrames(r *rand.Rand, events []hub.Event) [][]hub.Event {
	all := slices.Clone(events)
	for range len(events) / 3 {
		all = append(all, events[r.IntN(len(events))])
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var frames [][]hub.Event
	for len(all) > 0 {
		n := 1 + r.IntN(min(len(all), 20))
		frames = append(frames, all[:n:n])
		all = all[n:]
	}
	return frames
}

// harness is a pipeline over a real store, without streams.
type harness struct {
	store    testStore
	pipeline *pipeline.Pipeline
	now      time.Time
	seq      uint64 // of the frames of own events
	registry *prometheus.Registry
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (h *harness) apply(ctx context.Context, t testing.TB, seq uint64, frame []hub.Event) {
	t.Helper()
	h.applyTo(ctx, t, 0, seq, frame)
}

func (h *harness) applyTo(ctx context.Context, t testing.TB, partition int, seq uint64, frame []hub.Event) {
	t.Helper()
	for range 5 {
		err := h.pipeline.Apply(ctx, hub.EventFrame{Incarnation: "test", Partition: partition, Seq: seq, First: seq, Events: frame})
		if err == nil {
			return
		}
		t.Logf("apply: %v", err)
	}
	t.Error("the frame was not applied")
}

// horizon publishes the same horizon for all connections.
func (h *harness) horizon(ctx context.Context, t *testing.T, at time.Time) {
	t.Helper()
	h.now = at
	if err := h.pipeline.ComputeHorizon(ctx); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) drainWakes(ctx context.Context, t *testing.T) {
	t.Helper()
	for {
		n, err := h.pipeline.WakeOnce(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}
