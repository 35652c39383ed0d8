package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// A past has every version in the order of applying, and survives a merge with the numbers of whom it was.
func TestPast(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		if _, err := b.Past(ctx, "cus_none"); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
		ada, bob := person("ada"), person("bob")
		move := func(p *hub.CustomerRecord, id string, sequence int64) hub.Transition {
			return hub.Transition{
				ID: id, Subject: hub.Subject{Kind: hub.SubjectCustomer, ID: p.ID}, CustomerID: p.ID, Model: "clc", Version: 1, From: "new", To: "active",
				At: t0.Add(time.Duration(sequence) * time.Minute), DecidedAt: t0, Sequence: sequence, Cause: hub.Cause{Type: hub.CauseEvent, ID: "evt"}, Why: "bought",
			}
		}
		known := func(p *hub.CustomerRecord, number string, at time.Time, from int64) hub.LedgerRecord {
			r := order(p, number, at)
			r.KnownFrom = from
			return r
		}
		c := changes(ada, bob)
		// The second was applied before the first happened; the third is bob's.
		c.Ledger = []hub.LedgerRecord{known(ada, "2", t0.Add(time.Hour), 1), known(ada, "1", t0, 2), known(bob, "3", t0.Add(time.Minute), 1)}
		c.Transitions = []hub.Transition{move(ada, "stg_1", 3), move(bob, "stg_2", 2)}
		b.apply(t, c)
		again := known(ada, "1", t0, 4)
		again.Version.Fetch = 7
		again.Properties = map[string]any{"id": "1"}
		gone := known(ada, "2", t0.Add(time.Hour), 5)
		gone.Version.Fetch, gone.Withdrawn = 8, true
		b.apply(t, &hub.Changes{Ledger: []hub.LedgerRecord{again, gone}, Transitions: []hub.Transition{move(ada, "stg_3", 6)}})

		type version struct {
			Customer string
			Fetch    int64
			From     int64
			Gone     bool
		}
		seen := func(h hub.Past) (events []version, moves []string) {
			for i := range h.Events {
				e := &h.Events[i]
				events = append(events, version{e.CustomerID, e.Version.Fetch, e.KnownFrom, e.Withdrawn})
			}
			for i := range h.Transitions {
				moves = append(moves, h.Transitions[i].ID)
			}
			return events, moves
		}
		h := must(b.Past(ctx, ada.ID))(t)
		events, moves := seen(h)
		diff(t, "ada's events", []version{{ada.ID, 0, 1, false}, {ada.ID, 0, 2, false}, {ada.ID, 7, 4, false}, {ada.ID, 8, 5, true}}, events)
		diff(t, "ada's moves", []string{"stg_1", "stg_3"}, moves)
		diff(t, "a move", c.Transitions[0], h.Transitions[0])
		diff(t, "an event", c.Ledger[1].Event, h.Events[1].Event)

		merge := hub.Merge{From: bob.ID, Into: ada.ID, At: t0.Add(2 * time.Hour), DecidedAt: t0, Reason: "email", EventID: "evt_x", Sequence: 7}
		bob.MergedInto = ada.ID
		b.apply(t, &hub.Changes{Customers: []*hub.CustomerRecord{bob}, Merges: []hub.Merge{merge}})
		h = must(b.Past(ctx, bob.ID))(t) // leads to the survivor
		events, moves = seen(h)
		diff(t, "both's events", []version{{ada.ID, 0, 1, false}, {ada.ID, 0, 2, false}, {bob.ID, 0, 1, false}, {ada.ID, 7, 4, false}, {ada.ID, 8, 5, true}}, events)
		diff(t, "both's moves", []string{"stg_1", "stg_2", "stg_3"}, moves)
		diff(t, "the merge", []hub.Merge{merge}, h.Merges)
	})
}

// The set that decided then is found by its version and by the time, published again or not.
func TestPublishedSets(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		if _, err := b.PublishedSet(ctx, t0); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("nothing was published: %v", err)
		}
		save := func(hash string, models ...string) int64 {
			set := hub.ModelSet{Hash: hash, Definition: []byte("{}")}
			for i := 0; i < len(models); i += 2 {
				set.Models = append(set.Models, hub.ModelVersion{Name: models[i], Text: hash, Hash: models[i+1]})
			}
			return must(b.SaveDraft(ctx, set))(t).Number
		}
		first := save("a", "clc", "1", "rfm", "1")
		second := save("b", "clc", "2", "rfm", "1")
		third := save("c", "clc", "2", "rfm", "2")
		draft := save("d", "clc", "3", "rfm", "2")
		for i, number := range []int64{first, second, third} {
			if err := b.Publish(ctx, number, t0.Add(time.Duration(i)*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		for after, want := range map[time.Duration]int64{-time.Hour: first, 0: first, 30 * time.Minute: first, time.Hour: second, 100 * time.Hour: third} {
			if set := must(b.PublishedSet(ctx, t0.Add(after)))(t); set.Number != want || len(set.Models) != 2 {
				t.Errorf("after %s it was set %d, not %d", after, set.Number, want)
			}
		}
		for _, c := range []struct {
			model   string
			version int
			after   time.Duration
			want    int64
		}{{"clc", 1, 0, first}, {"clc", 1, 9 * time.Hour, first}, {"clc", 2, time.Hour, second}, {"clc", 2, 9 * time.Hour, third}, {"clc", 2, 0, second}, {"rfm", 1, 90 * time.Minute, second}} {
			if set := must(b.SetWith(ctx, c.model, c.version, t0.Add(c.after)))(t); set.Number != c.want {
				t.Errorf("%+v: set %d", c, set.Number)
			}
		}
		if _, err := b.SetWith(ctx, "clc", 3, t0.Add(9*time.Hour)); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("draft %d was never published: %v", draft, err)
		}
	})
}
