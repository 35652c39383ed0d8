package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

const erp = hub.SubscriptionPrefix + "erp"

// callbacks saves as many for one customer, due one second after another from t0.
func (b *bench) callbacks(t *testing.T, p *hub.CustomerRecord, from, count int) {
	t.Helper()
	c := changes(p)
	for i := from; i < from+count; i++ {
		d := delivery(p, fmt.Sprintf("dlv_%03d", i), erp, t0.Add(time.Duration(i)*time.Second))
		d.Action, d.Body, d.Params = "callback", fmt.Appendf(nil, `{"id":"stg_%d"}`, i), nil
		c.Deliveries = append(c.Deliveries, d)
	}
	b.apply(t, c)
}

func (b *bench) listed(t *testing.T, state string) []string {
	t.Helper()
	all, _, err := b.Deliveries(t.Context(), hub.DeliveryQuery{State: state, Destination: erp})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for i := range all {
		found = append(found, all[i].ID+" "+all[i].State)
	}
	return found
}

// SQLite does not write the claims of callbacks. Whoever looks sees no difference.
func TestCallbackClaimsAreSeen(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		ada := person("ada")
		b.callbacks(t, ada, 0, 3)
		now := t0.Add(time.Second)
		got := b.claim(t, erp, now, 10, false)
		diff(t, "claimed", []string{"dlv_000", "dlv_001"}, ids(got))
		if d := got[0].Delivery; d.Claim != 1 || d.Row == 0 || d.State != hub.DeliverySending || !d.DueAt.Equal(now.Add(lease)) || d.Uncertain || string(d.Body) != `{"id":"stg_0"}` {
			t.Errorf("claim %+v", d)
		}
		if more := b.claim(t, erp, now, 10, false); len(more) != 0 {
			t.Errorf("claimed twice: %v", ids(more))
		}

		want := got[0].Delivery
		want.Row = 0
		diff(t, "the delivery", want, b.state(t, "dlv_000"))
		diff(t, "sending", []string{"dlv_001 sending", "dlv_000 sending"}, b.listed(t, hub.DeliverySending))
		diff(t, "due", []string{"dlv_002 due"}, b.listed(t, hub.DeliveryDue))
		diff(t, "all", []string{"dlv_002 due", "dlv_001 sending", "dlv_000 sending"}, b.listed(t, ""))
		entries, _, err := b.Timeline(ctx, ada.ID, hub.Page{})
		if err != nil {
			t.Fatal(err)
		}
		sending := 0
		for i := range entries {
			if d := entries[i].Delivery; d != nil && d.State == hub.DeliverySending {
				sending++
			}
		}
		if sending != 2 {
			t.Errorf("%d of the timeline are being sent, want 2", sending)
		}
		diff(t, "nothing is due", []string(nil), must(b.Destinations(ctx, now))(t))
		if due, oldest, err := b.Backlog(ctx, now); err != nil || due != 0 || !oldest.IsZero() {
			t.Errorf("backlog %d since %v, %v", due, oldest, err)
		}
		if p := must(b.Pending(ctx, now))(t); p.DeliveriesDue != 0 || p.DeliveriesOpen != 3 || !p.OldestDue.IsZero() {
			t.Errorf("pending %+v", p)
		}
		now = t0.Add(2 * time.Second)
		diff(t, "another is due", []string{erp}, must(b.Destinations(ctx, now))(t))
		if due, oldest, err := b.Backlog(ctx, now); err != nil || due != 1 || !oldest.Equal(now) {
			t.Errorf("backlog %d since %v, %v", due, oldest, err)
		}

		b.finish(t,
			hub.Finished{DeliveryID: "dlv_000", Row: got[0].Row, Claim: 1, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: now, Status: 204, Outcome: hub.Delivered}},
			hub.Finished{DeliveryID: "dlv_001", Claim: 1, State: hub.DeliveryRetrying, DueAt: now.Add(time.Hour), Attempt: hub.Attempt{At: now, Status: 500, Outcome: hub.Retry, Error: "a\x00b"}})
		want.State, want.DueAt, want.Attempts, want.Last = hub.DeliveryDelivered, time.Time{}, 1, &hub.Attempt{At: now, Status: 204, Outcome: hub.Delivered}
		diff(t, "delivered", want, b.state(t, "dlv_000"))
		diff(t, "retrying", []string{"dlv_001 retrying"}, b.listed(t, hub.DeliveryRetrying))
		diff(t, "sending no more", []string(nil), b.listed(t, hub.DeliverySending))
		if stats := must(b.ConnectionStats(ctx))(t); !stats[erp].LastDeliveryAt.Equal(now) {
			t.Errorf("last delivery %v", stats[erp])
		}
		again := b.claim(t, erp, now.Add(time.Hour), 10, false)
		diff(t, "the retry", []string{"dlv_002", "dlv_001"}, ids(again))
		if again[1].Claim != 2 || again[1].Attempts != 1 || again[1].Uncertain {
			t.Errorf("the retry %+v", again[1])
		}
		b.finish(t, hub.Finished{DeliveryID: "dlv_001", Row: again[1].Row, Claim: 2, State: hub.DeliveryDead, Attempt: hub.Attempt{At: now, Status: 422, Outcome: hub.Refused, Error: "no"}})
		letters, _, err := b.DeadLetters(ctx, hub.Page{})
		if err != nil || len(letters) != 1 || letters[0].Ref != "dlv_001" || letters[0].Attempts != 2 || letters[0].Place != erp {
			t.Errorf("dead letters %+v, %v", letters, err)
		}
		if n := must(b.Redrive(ctx, erp, nil, now))(t); n != 1 {
			t.Errorf("redrove %d", n)
		}
		last := b.claim(t, erp, now, 10, false)
		if len(last) != 1 || last[0].ID != "dlv_001" || last[0].Claim != 3 || last[0].Attempts != 0 {
			t.Errorf("redriven %+v", last)
		}
	})
}

func TestCallbackClaimsAreFenced(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		b.callbacks(t, person("ada"), 0, 1)
		first := b.claim(t, erp, t0, 1, false)
		if early := b.claim(t, erp, t0.Add(lease-time.Millisecond), 1, false); len(early) != 0 {
			t.Fatal("given again before the lease ran out")
		}
		diff(t, "the lease ran out", []string{erp}, must(b.Destinations(t.Context(), t0.Add(lease)))(t))
		second := b.claim(t, erp, t0.Add(lease), 1, false)
		if len(second) != 1 || !second[0].Uncertain || second[0].Claim != first[0].Claim+1 {
			t.Fatalf("second claim: %+v", second)
		}
		late := hub.Finished{DeliveryID: "dlv_000", Row: first[0].Row, Claim: first[0].Claim, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: t0, Outcome: hub.Delivered}}
		b.finish(t, late)
		d, attempts, err := b.Delivery(t.Context(), "dlv_000")
		if err != nil || d.State != hub.DeliverySending || d.Last != nil || len(attempts) != 0 {
			t.Errorf("an old claim changed it: %+v %v %v", d, attempts, err)
		}

		// What cannot be recorded stays in its worker's hand, who tries again.
		unfit := hub.Finished{DeliveryID: "dlv_000", Row: second[0].Row, Claim: second[0].Claim, State: "a\x00b", Attempt: hub.Attempt{At: t0, Outcome: hub.Delivered}}
		if err := b.Finish(t.Context(), []hub.Finished{unfit}); err == nil {
			t.Error("a state with a NUL was recorded")
		}
		if more := b.claim(t, erp, t0.Add(lease), 1, false); len(more) != 0 {
			t.Errorf("given away while its worker tries to record it: %v", ids(more))
		}
		// Handing back counts nothing.
		b.finish(t, hub.Finished{DeliveryID: "dlv_000", Row: second[0].Row, Claim: second[0].Claim, State: hub.DeliveryDue, DueAt: t0.Add(time.Hour), Uncertain: true})
		d, attempts, err = b.Delivery(t.Context(), "dlv_000")
		if err != nil || d.State != hub.DeliveryDue || d.Attempts != 0 || d.Last != nil || !d.Uncertain || !d.DueAt.Equal(t0.Add(time.Hour)) || len(attempts) != 0 {
			t.Errorf("handed back: %+v %v %v", d, attempts, err)
		}
		b.finish(t, late) // and once more, when nobody has it
		third := b.claim(t, erp, t0.Add(time.Hour), 1, false)
		if len(third) != 1 || third[0].Claim != 3 || third[0].Attempts != 0 {
			t.Errorf("third claim: %+v", third)
		}
		b.finish(t, hub.Finished{DeliveryID: "dlv_000", Row: third[0].Row, Claim: 3, State: hub.DeliveryParked})
		diff(t, "parked", []string{erp}, must(b.Parked(t.Context()))(t))
		if err := b.Unpark(t.Context(), erp, t0.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if fourth := b.claim(t, erp, t0.Add(time.Hour), 1, false); len(fourth) != 1 || fourth[0].Claim != 4 {
			t.Errorf("fourth claim: %+v", fourth)
		}
	})
}

// A callback whose process was killed is sent again under the same id, at once where nobody else can have it.
func TestCallbackAfterACrash(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		b.callbacks(t, person("ada"), 0, 2)
		b.claim(t, erp, t0, 1, false)
		b.again(t)
		now := t0.Add(time.Second)
		if b.dialect == "postgres" { // another process may be sending it
			diff(t, "before the lease runs out", []string{"dlv_001"}, ids(b.claim(t, erp, now, 10, false)))
			now = t0.Add(lease)
			diff(t, "after it", []string{"dlv_000"}, ids(b.claim(t, erp, now, 10, false)))
			return
		}
		got := b.claim(t, erp, now, 10, false)
		diff(t, "after the crash", []string{"dlv_000", "dlv_001"}, ids(got))

		// A claim that an earlier release wrote is given again when its lease has run out, or been released.
		b.exec(t, fmt.Sprintf("UPDATE deliveries SET state = 'sending', claim = 7, due_at = %d WHERE id = 'dlv_000'", now.Add(lease).UnixMicro()))
		b.again(t)
		diff(t, "its lease", []string{"dlv_001"}, ids(b.claim(t, erp, now, 10, false)))
		if err := b.Release(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		got = b.claim(t, erp, now, 10, false)
		if len(got) != 1 || got[0].ID != "dlv_000" || got[0].Claim != 8 || !got[0].Uncertain {
			t.Fatalf("released %+v", got)
		}
		b.finish(t, hub.Finished{DeliveryID: "dlv_000", Row: got[0].Row, Claim: 8, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: now, Outcome: hub.Delivered}})
		if d := b.state(t, "dlv_000"); d.State != hub.DeliveryDelivered {
			t.Errorf("finished %+v", d)
		}
	})
}

// Claiming, finishing and new work at the same time: every callback is given once.
func TestConcurrentCallbacks(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		const rounds, each = 10, 20
		b.callbacks(t, ada, 0, each)
		now := t0.Add(time.Hour)
		var mu sync.Mutex
		given := map[string]int{}
		var wait sync.WaitGroup
		for range 6 {
			wait.Go(func() {
				for {
					some, err := b.Claim(t.Context(), erp, now, lease, 7, false)
					if err != nil {
						t.Error(err)
						return
					}
					done := make([]hub.Finished, len(some))
					mu.Lock()
					for i := range some {
						given[some[i].ID]++
						done[i] = hub.Finished{DeliveryID: some[i].ID, Row: some[i].Row, Claim: some[i].Claim, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: now, Outcome: hub.Delivered}}
					}
					all := len(given)
					mu.Unlock()
					if err := b.Finish(t.Context(), done); err != nil {
						t.Error(err)
						return
					}
					if all == rounds*each {
						return
					}
				}
			})
		}
		for i := 1; i < rounds; i++ {
			b.callbacks(t, ada, i*each, each)
		}
		wait.Wait()
		for id, n := range given {
			if n != 1 {
				t.Errorf("%s was given %d times", id, n)
			}
		}
		if p := must(b.Pending(t.Context(), now))(t); p.DeliveriesOpen != 0 {
			t.Errorf("left over: %+v", p)
		}
	})
}

// An earlier callback in a worker's hand keeps the customer's later ones back, also those that came since.
func TestOrderedCallbacksInHand(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada, bob := person("ada"), person("bob")
		b.callbacks(t, ada, 0, 1)
		now := t0.Add(time.Minute)
		first := b.claim(t, erp, now, 10, true)
		b.callbacks(t, ada, 1, 1)
		b.callbacks(t, bob, 2, 1)
		diff(t, "while the first is being sent", []string{"dlv_002"}, ids(b.claim(t, erp, now, 10, true)))
		b.finish(t, hub.Finished{DeliveryID: "dlv_000", Row: first[0].Row, Claim: 1, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: now, Outcome: hub.Delivered}})
		diff(t, "after it", []string{"dlv_001"}, ids(b.claim(t, erp, now, 10, true)))
	})
}

// All attempts are told, the newest from the delivery's row; what an earlier release wrote of it in both places is told once.
func TestAttempts(t *testing.T) {
	for _, destination := range []string{"crm", erp} {
		t.Run(destination, func(t *testing.T) {
			on(t, func(t *testing.T, b *bench) {
				ada := person("ada")
				c := changes(ada)
				c.Deliveries = []hub.Delivery{delivery(ada, "dlv_1", destination, t0)}
				b.apply(t, c)
				now := t0
				var want []hub.Attempt
				try := func(old bool) {
					t.Helper()
					now = now.Add(time.Hour)
					got := b.claim(t, destination, now, 1, false)
					if len(got) != 1 {
						t.Fatalf("claimed %v", ids(got))
					}
					a := hub.Attempt{At: now, Status: 500 + len(want), Outcome: hub.Retry, Error: "it's down", Duration: 31 * time.Millisecond}
					want = append(want, a)
					b.finish(t, hub.Finished{DeliveryID: "dlv_1", Row: got[0].Row, Claim: got[0].Claim, State: hub.DeliveryRetrying, DueAt: now, Attempt: a})
					if old {
						b.exec(t, fmt.Sprintf("INSERT INTO attempts (delivery_no, at, status, outcome, error, duration) VALUES (%d, %d, %d, 'retry', 'it''s down', %d)",
							got[0].Row, now.UnixMicro(), a.Status, a.Duration))
					}
					d, attempts, err := b.Delivery(t.Context(), "dlv_1")
					if err != nil {
						t.Fatal(err)
					}
					diff(t, "attempts", want, attempts)
					diff(t, "last", &a, d.Last)
				}
				try(false)
				try(false)
				try(true)
				try(true)
				try(false)
				try(false)

				// Old ones go; the newest stays in the row.
				if n := must(b.PruneAttempts(t.Context(), now.Add(time.Second)))(t); n != 5 {
					t.Errorf("pruned %d, want 5", n)
				}
				want = want[5:]
				_, attempts, err := b.Delivery(t.Context(), "dlv_1")
				if err != nil {
					t.Fatal(err)
				}
				diff(t, "after pruning", want, attempts)
			})
		})
	}
}

func TestClaimOfAClosedStore(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		b.callbacks(t, person("ada"), 0, 2)
		b.claim(t, erp, t0, 1, false)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Claim(t.Context(), erp, t0.Add(time.Hour), lease, 1, false); err == nil {
			t.Error("a closed store gave a claim")
		}
	})
}
