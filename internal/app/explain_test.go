package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/server"
)

func onDay(n float64) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n * 24 * float64(time.Hour)))
}

// knownEvent is a version of an event that happened and came on two days.
func knownEvent(customer, id string, from int64, happened, came float64) hub.KnownEvent {
	return hub.KnownEvent{
		Event:      hub.Event{ID: id, Kind: "order.paid", Connection: "shop", OccurredAt: onDay(happened), ReceivedAt: onDay(came), Properties: map[string]any{"id": id}},
		CustomerID: customer, KnownFrom: from,
	}
}

func pastOf(p *past) *past {
	p.clock = func(t time.Time) time.Time { return t }
	p.folded = map[string]bool{}
	for i := range p.Events {
		p.folded[p.Events[i].ID] = p.Events[i].Kind != "echo"
	}
	if p.rec == nil {
		p.rec = &hub.CustomerRecord{ID: "ada", Kind: hub.SubjectCustomer, FirstEventAt: onDay(0)}
	}
	return p
}

func TestWhenEventsCounted(t *testing.T) {
	gone := knownEvent("ada", "e2", 6, 3, 12)
	gone.Withdrawn = true
	p := pastOf(&past{Past: hub.Past{
		Events: []hub.KnownEvent{
			knownEvent("ada", "e1", 1, 0, 0),
			knownEvent("ada", "e2", 2, 3, 3.5), // delivered late, but nothing else was decided meanwhile
			knownEvent("ada", "e3", 4, 8, 10),  // after silence was decided past it
			knownEvent("bob", "b1", 1, 5, 5),
			knownEvent("ada", "e4", 5, 1, 11),
			gone,
		},
		Transitions: []hub.Transition{{CustomerID: "ada", Sequence: 3, At: onDay(9)}},
	}})
	got := p.knownAt()
	if d := cmp.Diff([]time.Time{onDay(0), onDay(3), onDay(10), onDay(5), onDay(11), onDay(12)}, got); d != "" {
		t.Error(d)
	}
	at := map[*hub.KnownEvent]time.Time{}
	for i := range p.Events {
		at[&p.Events[i]] = got[i]
	}
	for day, want := range map[float64]string{-1: "", 2: "e1", 4: "e1 e2", 9: "e1 e2", 10: "e1 e2 e3", 11: "e1 e4 e2 e3", 12: "e1 e4 e3"} {
		var ids []string
		for _, e := range p.facts(func(ev *hub.KnownEvent) bool { return ev.CustomerID == "ada" && !at[ev].After(onDay(day)) }).Entries() {
			ids = append(ids, e.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("day %v: %q, want %q", day, got, want)
		}
	}
}

func TestLineage(t *testing.T) {
	p := pastOf(&past{Past: hub.Past{Merges: []hub.Merge{
		{From: "eve", Into: "bob", At: onDay(1), Sequence: 3}, {From: "bob", Into: "ada", At: onDay(5), Sequence: 9}, {From: "kim", Into: "ada", At: onDay(7), Sequence: 12},
	}}})
	for day, want := range map[float64]int{0: 1, 5: 3, 8: 4} {
		if got := p.lineage("ada", func(m *hub.Merge) bool { return !m.At.After(onDay(day)) }); len(got) != want {
			t.Errorf("day %v: %v", day, got)
		}
	}
	if got := p.lineage("bob", func(m *hub.Merge) bool { return m.Sequence <= 3 }); len(got) != 2 {
		t.Errorf("of one who was merged: %v", got)
	}
}

// The hub is asked about a move, and about the time before a late event came, as the pipeline left them behind.
func TestExplainThePast(t *testing.T) {
	const text = `
model: care
stages: [{name: calm, labels: {en: Calm, de: Ruhig}}, {name: busy}, {name: lost}]
decide:
  - stage: lost
    when: since("order.paid") >= days(30)
  - stage: busy
    cooldown: 5d
    when: count("order.paid", days(30)) >= 2
  - otherwise: calm
`
	m, err := lifecycle.Compile("care.yaml", []byte(text), lifecycle.Env{})
	if err != nil {
		t.Fatal(err)
	}
	ada := hub.Subject{Kind: hub.SubjectCustomer, ID: "ada"}
	move := func(id string, sequence int64, from, to string, day float64, cause string, rule int) hub.Transition {
		return hub.Transition{ID: id, Subject: ada, CustomerID: "ada", Model: "care", Version: 1, From: from, To: to, At: onDay(day), Sequence: sequence, Cause: hub.Cause{Type: cause}, Rule: rule}
	}
	p := pastOf(&past{
		Past: hub.Past{
			Events: []hub.KnownEvent{
				knownEvent("ada", "e1", 1, 0, 0), knownEvent("ada", "e2", 2, 3, 3),
				knownEvent("ada", "e3", 6, 70, 70), // silence was decided before it
			},
			Transitions: []hub.Transition{
				move("t1", 3, "calm", "busy", 3, hub.CauseEvent, 1), move("t2", 4, "busy", "calm", 30, hub.CauseWake, 2),
				move("t3", 7, "calm", "lost", 33, hub.CauseWake, 0), move("t4", 8, "lost", "calm", 70, hub.CauseEvent, 2),
			},
		},
		rec: &hub.CustomerRecord{
			ID: "ada", Kind: hub.SubjectCustomer, FirstEventAt: onDay(0),
			Stages: []hub.StageRecord{{Subject: ada, Model: "care", Stage: "calm"}, {Subject: ada, Model: "other", Stage: "x"}},
		},
	})
	want := map[string]string{
		"t1": "calm since 2025-12-31 → busy (busy: 2 order.paid within 30 days, at least 2 needed.)",
		"t2": "busy since 2026-01-04 → calm (Calm: no other rule holds.)",
		"t3": "calm since 2026-01-31 → lost (lost: last order.paid 30 days ago (2026-01-04), at least 30 days needed.)",
		"t4": "lost since 2026-02-03 → calm (Calm: no other rule holds.)",
	}
	for i := range p.Transitions {
		tr := &p.Transitions[i]
		found, err := p.transition(server.ExplainQuery{Transition: tr.ID})
		if err != nil || found != tr {
			t.Fatal(found, err)
		}
		facts := p.facts(p.knownBy(tr))
		st, stages := p.before(m, tr.Subject, func(o *hub.Transition) bool { return o.Sequence < tr.Sequence })
		e := m.ExplainMove(facts, stages, st, tr.At)
		won := slices.IndexFunc(e.Rules, func(r lifecycle.RuleExplanation) bool { return r.Won })
		got := fmt.Sprintf("%s since %s → %s (%s)", e.Stage, e.Since.Format(time.DateOnly), e.Rules[won].Stage, e.Why)
		if got != want[tr.ID] || won != tr.Rule || stages["other"] != "x" {
			t.Errorf("%s: %s, rule %d, %v", tr.ID, got, won, stages)
		}
	}
	// On day 32 the cooldown since day 30 still counts.
	st, stages := p.before(m, ada, func(o *hub.Transition) bool { return !o.At.After(onDay(32)) })
	w := m.Waiting(fact.Union().With(p.Events[0].Event, p.Events[1].Event, func() hub.Event { e := p.Events[2].Event; e.OccurredAt = onDay(32); return e }()), stages, st, onDay(32))
	if len(w) != 1 || w[0].Option != "cooldown" || !w[0].Until.Equal(onDay(35)) {
		t.Errorf("%+v %+v", st, w)
	}
	if last, err := p.transition(server.ExplainQuery{Transition: "last", Model: "care"}); err != nil || last.ID != "t4" {
		t.Errorf("%v %v", last, err)
	}
	for q, part := range map[struct{ Transition, Model string }]string{
		{Transition: "stg_x"}:                "customer ada has no transition stg_x; the newest are t4 (care: lost to calm, 2026-03-12T00:00:00Z), t3",
		{Transition: "last", Model: "other"}: "customer ada has no transition in model other: not found",
	} {
		if _, err := p.transition(server.ExplainQuery{Transition: q.Transition, Model: q.Model}); !errors.Is(err, hub.ErrNotFound) || !strings.Contains(err.Error(), part) {
			t.Errorf("%v", err)
		}
	}
}

func TestWhichStage(t *testing.T) {
	deal := func(id string) hub.Subject { return hub.Subject{Kind: hub.SubjectDeal, ID: id} }
	rec := &hub.CustomerRecord{ID: "ada", Stages: []hub.StageRecord{
		{Subject: hub.Subject{Kind: hub.SubjectCustomer, ID: "ada"}, Model: "clc", Stage: "new"},
		{Subject: deal("crm:1"), Model: "b2b", Stage: "won"},
		{Subject: deal("crm:2"), Model: "b2b", Stage: "open"},
		{Subject: deal("crm:1"), Model: "size", Stage: "big"},
	}}
	for _, c := range []struct{ model, deal, want string }{
		{"clc", "", "new"},
		{"b2b", "crm:1", "won"},
		{"b2b", "2", "open"},
		{"size", "", "big"},
		{"b2b", "", "say which deal: crm:1, crm:2 stand in model b2b"},
		{"b2b", "9", "customer ada has no deal 9 in model b2b"},
		{"rfm", "", "customer ada has no stage in model rfm yet"},
	} {
		st, err := whichStage(rec, c.model, c.deal)
		switch {
		case err != nil:
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%+v: %v", c, err)
			}
		case st.Stage != c.want:
			t.Errorf("%+v: %+v", c, st)
		}
	}
	if d := cmp.Diff(map[string]string{"clc": "new", "b2b": "won", "size": "big"}, stagesOf(rec, deal("crm:1"))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"clc": "new"}, stagesOf(rec, rec.Stages[0].Subject)); d != "" {
		t.Error(d)
	}
}
