package lifecycle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

func TestAfter(t *testing.T) {
	m := compile(t, `
model: care
stages: [{name: fine}, {name: worried}]
decide:
  - stage: worried
    when: any(tickets, .open) or within("complaint.raised", days(2))
    after: 3d
  - otherwise: fine
`, Env{})
	if dependent, reasons := m.PathDependent(); !dependent || !slices.Equal(reasons, []string{"after"}) {
		t.Errorf("reasons %v", reasons)
	}
	ticket := func(kind string, n int) hub.Event {
		return hub.Event{Kind: kind, OccurredAt: day(n), Properties: map[string]any{"id": "1"}}
	}
	st := m.Initial(day(1).Add(-time.Millisecond))
	opened := facts(t, ticket("ticket.opened", 1))
	st, _ = m.Decide(opened, nil, st, day(1))
	if st.Stage != "fine" || !st.WakesAt.Equal(day(4)) || st.Path != nil {
		t.Fatalf("a stretch begins: %+v", st)
	}
	if d := cmp.Diff([]Waiting{{Rule: 0, Option: "after", Since: day(1), Until: day(4)}}, m.Waiting(opened, nil, st, day(2))); d != "" {
		t.Error(d)
	}
	if moved, _ := m.Decide(opened, nil, st, day(4)); moved.Stage != "worried" || !moved.Since.Equal(day(4)) {
		t.Fatalf("three days later: %+v", moved)
	}
	// Solved on day 2 and open again on day 3, which is told on day 3, or only on day 4, when the rule would have won.
	broken := facts(t, ticket("ticket.opened", 1), ticket("ticket.solved", 2), ticket("ticket.reopened", 3))
	for _, told := range []int{3, 4} {
		if again, _ := m.Decide(broken, nil, st, day(told)); again.Stage != "fine" || !again.WakesAt.Equal(day(6)) {
			t.Fatalf("broken, told on day %d: %+v", told, again)
		}
	}
	// A complaint holds for two days from day 2 on, over the ticket's gap: never broken.
	bridged := facts(t, ticket("ticket.opened", 1), hub.Event{Kind: "complaint.raised", OccurredAt: day(2)}, ticket("ticket.solved", 2), ticket("ticket.reopened", 3))
	if now, _ := m.Decide(bridged, nil, st, day(4)); now.Stage != "worried" {
		t.Fatalf("bridged: %+v", now)
	}
	// The complaint's two days end by silence before three have passed.
	st, _ = m.Decide(facts(t, hub.Event{Kind: "complaint.raised", OccurredAt: day(2)}), nil, m.Initial(day(2).Add(-time.Millisecond)), day(2))
	if st.Stage != "fine" || !st.WakesAt.Equal(day(4)) {
		t.Fatalf("the condition flips first: %+v", st)
	}
}

func TestCooldown(t *testing.T) {
	m := compile(t, `
model: winback
stages: [{name: quiet}, {name: calling}]
decide:
  - stage: calling
    when: within("order.cancelled", days(2))
    cooldown: 30d
  - otherwise: quiet
`, Env{})
	cancelled := func(n int) hub.Event { return hub.Event{Kind: "order.cancelled", OccurredAt: day(n)} }
	st := m.Initial(day(1).Add(-time.Millisecond))
	f := facts(t, cancelled(1))
	st, _ = m.Decide(f, nil, st, day(1))
	if st.Stage != "calling" {
		t.Fatalf("%+v", st)
	}
	_, st, _ = m.Advance(f, nil, st, day(10), 100)
	if st.Stage != "quiet" || !st.Since.Equal(day(3)) || st.Path == nil {
		t.Fatalf("left: %+v", st)
	}
	f = facts(t, cancelled(1), cancelled(20))
	if st, _ = m.Decide(f, nil, st, day(20)); st.Stage != "quiet" {
		t.Fatalf("within the cooldown: %+v", st)
	}
	f = facts(t, cancelled(1), cancelled(20), cancelled(32))
	st, _ = m.Decide(f, nil, st, day(32))
	if st.Stage != "quiet" || !st.WakesAt.Equal(day(33)) {
		t.Fatalf("a day to go: %+v", st)
	}
	if _, st, _ = m.Advance(f, nil, st, day(33), 100); st.Stage != "calling" {
		t.Fatalf("free again: %+v", st)
	}
	// A person takes her out: the cooldown runs from there.
	st = m.Place(nil, st, "quiet", day(33).Add(time.Hour))
	f = facts(t, cancelled(1), cancelled(62))
	if st, _ = m.Decide(f, nil, st, day(62)); st.Stage != "quiet" || !st.WakesAt.Equal(day(63).Add(time.Hour)) {
		t.Fatalf("after a pin: %+v", st)
	}
}

func TestAfterOnStages(t *testing.T) {
	m := compile(t, `
model: chase
stages: [{name: calm}, {name: chasing}]
decide:
  - stage: chasing
    when: stages.clc in ["lost", "asleep"]
    after: 3d
  - otherwise: calm
`, Env{Models: []string{"clc"}, Stages: map[string][]string{"clc": {"active", "asleep", "lost"}}})
	f := facts(t, paid(0))
	at := func(stage string) map[string]string { return map[string]string{"clc": stage} }
	st := m.Initial(day(0).Add(-time.Millisecond))
	for _, step := range []struct {
		day   int
		clc   string
		stage string
		wakes int
	}{
		{0, "active", "calm", -1},
		{5, "asleep", "calm", 8},
		{6, "lost", "calm", 8}, // the other half of the condition: no break
		{7, "active", "calm", -1},
		{8, "lost", "calm", 11},
		{11, "lost", "chasing", -1},
	} {
		st, _ = m.Decide(f, at(step.clc), st, day(step.day))
		if st.Stage != step.stage || st.WakesAt.IsZero() != (step.wakes < 0) || (step.wakes >= 0 && !st.WakesAt.Equal(day(step.wakes))) {
			t.Fatalf("day %d: %+v", step.day, st)
		}
	}
	// Damaged memory costs the memory and is told.
	st.Path = append(slices.Clone(st.Path), 0)
	if _, errs := m.Decide(f, at("lost"), st, day(12)); len(errs) != 1 || !strings.Contains(errs[0].Error(), "forgotten") {
		t.Errorf("%v", errs)
	}
}

// randomModel writes a model with path options. All lengths are milliseconds, so that a simulation can look at every instant.
func randomModel(r *rand.Rand) string {
	stages := []string{"a", "b", "c", "d"}[:2+r.IntN(3)]
	pick := func(of []string) string { return of[r.IntN(len(of))] }
	ms := func() string { return fmt.Sprintf("%dms", 1+r.IntN(12)) }
	var b strings.Builder
	b.WriteString("model: m\nparams: {p: 3ms, q: 7ms, r: 11ms}\nstages:\n")
	for _, s := range stages {
		fmt.Fprintf(&b, "  - name: %s\n", s)
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "    dwell: %s\n", ms())
			if r.IntN(2) == 0 {
				fmt.Fprintf(&b, "    yields_to: [%s]\n", pick(stages))
			}
		}
		if r.IntN(8) == 0 {
			b.WriteString("    terminal: true\n")
		}
	}
	b.WriteString("decide:\n")
	conditions := []string{
		`since("order.paid") >= params.%s`, `since("order.paid") < params.%s`, `count("order.paid", params.%s) >= 2`, `within("ticket.opened", params.%s)`,
		`never("order.paid", params.%s)`, `stage_age >= params.%s`, `stages.other == "x" and since("order.paid") >= params.%s`, `stages.other == "y" or count("ticket.opened", params.%s) == 1`,
		`stage != "a" and never("ticket.opened", params.%s)`, `any(tickets, .open) or within("order.paid", params.%s)`, `count("order.paid") %% 2 == 1 and never("ticket.opened", params.%s)`,
	}
	for range 2 + r.IntN(4) {
		fmt.Fprintf(&b, "  - stage: %s\n    when: %s\n", pick(stages), fmt.Sprintf(pick(conditions), pick([]string{"p", "q", "r"})))
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "    from: [%s]\n", pick(stages))
		}
		if r.IntN(2) == 0 {
			fmt.Fprintf(&b, "    after: %s\n", ms())
		}
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "    cooldown: %s\n", ms())
		}
	}
	fmt.Fprintf(&b, "  - otherwise: %s\n", pick(append([]string{"stay"}, stages...)))
	return b.String()
}

// told is an event and when it becomes known.
type told struct {
	hub.Event
	known int
}

// simulated decides at every millisecond by the words of LANGUAGE.md, and remembers every instant.
type simulated struct {
	m       *Model
	events  []told
	other   func(ms int) string
	stage   []string // by millisecond, from 0: what it was at the end of it
	since   []int
	left    map[string]int
	current string
	entered int
	// circle is set where the rules led round: what such a model says depends on how often it is asked.
	circle bool
}

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// facts are those known at an instant.
func (s *simulated) facts(now int) *fact.Facts {
	var p fact.Profile
	for i := range s.events {
		if s.events[i].known <= now {
			p.Put(&s.events[i].Event)
		}
	}
	return fact.Union(&p)
}

func holds(p *expression.Program, f *fact.Facts, ms int, stage string, since int, other string) bool {
	in := expression.Input{Facts: f, At: at(ms), Stage: stage, Stages: map[string]string{"other": other}}
	if stage != "" {
		in.Since = at(since)
	}
	s := expression.Begin(in)
	defer s.End()
	b, err := s.Bool(p)
	return b && err == nil
}

func (s *simulated) ask(now int, f *fact.Facts, stage string, since int) string {
	present := s.m.stage[stage]
	to := ""
	for i := range s.m.rules {
		r := &s.m.rules[i]
		if len(r.from) > 0 && !slices.Contains(r.from, stage) || len(r.from) == 0 && present != nil && present.Terminal {
			continue
		}
		if !holds(r.when, f, now, stage, since, s.other(now)) {
			continue
		}
		if left, was := s.left[r.stage]; was && stage != r.stage && now < left+int(r.cooldown/time.Millisecond) {
			continue
		}
		unbroken := true
		born := 0
		for u := now - 1; u >= now-int(r.after/time.Millisecond) && unbroken; u-- {
			unbroken = u >= born && holds(r.when, f.AsOf(at(u)), u, s.stage[u], s.since[u], s.other(u))
		}
		if unbroken {
			to = r.stage
			break
		}
	}
	if to == "" && (present == nil || !present.Terminal) {
		to = s.m.otherwise
	}
	if to == "" {
		if to = stage; stage == "" {
			to = s.m.Stages[0].Name
		}
	}
	if present != nil && to != stage && now < since+int(present.Dwell/time.Millisecond) && !slices.Contains(present.YieldsTo, to) {
		return stage
	}
	return to
}

func (s *simulated) step(now int) {
	f := s.facts(now)
	origin, stage, since := s.current, s.current, s.entered
	visited := []string{stage}
	for {
		to := s.ask(now, f, stage, since)
		if to == stage || slices.Contains(visited, to) {
			s.circle = s.circle || to != stage
			break
		}
		visited = append(visited, to)
		stage, since = to, now
	}
	if origin != "" && stage != origin {
		s.left[origin] = now
	}
	s.current, s.entered = stage, since
	s.stage, s.since = append(s.stage, stage), append(s.since, since)
}

func TestPathBruteForce(t *testing.T) {
	seed := uint64(20261122)
	if testing.Short() {
		t.Skip("looks at every millisecond")
	}
	t.Logf("seed %d", seed)
	moves, waited, compared := 0, 0, 0
	for n := range 1200 {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		text := randomModel(r)
		m := compile(t, text, Env{Models: []string{"other"}, Stages: map[string][]string{"other": {"x", "y"}}})
		const span = 90
		other := make([]string, span+1) // the other model's stage, by millisecond
		for i := range other {
			if other[i] = "x"; i > 0 {
				other[i] = other[i-1]
			}
			if r.IntN(15) == 0 {
				other[i] = []string{"x", "y"}[r.IntN(2)]
			}
		}
		s := &simulated{m: m, other: func(ms int) string { return other[max(ms, 0)] }, left: map[string]int{}}
		// The first event is at 1 and known then, so that the subject is born at 0; of the others one in four is told late.
		for i := range 1 + r.IntN(10) {
			e := told{Event: hub.Event{ID: fmt.Sprint("evt_", i), Kind: []string{"order.paid", "order.paid", "ticket.opened", "ticket.solved"}[r.IntN(4)], Connection: "shop"}}
			e.Properties = map[string]any{"id": fmt.Sprint(r.IntN(2))}
			when := 1
			if i > 0 {
				when = 1 + r.IntN(60)
			}
			e.OccurredAt, e.known = at(when), when
			if i > 0 && r.IntN(4) == 0 {
				e.known += r.IntN(15)
			}
			s.events = append(s.events, e)
		}
		for now := range span {
			s.step(now)
		}
		if s.circle {
			continue
		}
		compared++
		// The same by wake-ups alone.
		st := m.Initial(at(0))
		got := []string{st.Stage}
		f := s.facts(0)
		stages := func(ms int) map[string]string { return map[string]string{"other": other[ms]} }
		// Initial does not know the other models; the pipeline decides again once it does.
		st, _ = m.Decide(f, stages(0), State{}, at(0))
		st.Since = at(0)
		got[0] = st.Stage
		for now := 1; now < span; now++ {
			news := slices.ContainsFunc(s.events, func(e told) bool { return e.known == now })
			switch {
			case news || other[now] != other[now-1]:
				f = s.facts(now)
				st, _ = m.Decide(f, stages(now), st, at(now))
			case !st.WakesAt.IsZero() && !st.WakesAt.After(at(now)):
				if !st.WakesAt.Equal(at(now)) {
					t.Fatalf("model %d: the wake-up at %v was passed over", n, st.WakesAt)
				}
				st, _ = m.Decide(f, stages(now), st, at(now))
			}
			got = append(got, st.Stage)
			if got[now] != got[now-1] {
				moves++
			}
			waited += len(m.Waiting(f, stages(now), st, at(now)))
		}
		if d := cmp.Diff(s.stage, got); d != "" {
			var told []string
			for _, e := range s.events {
				told = append(told, fmt.Sprintf("%s %s at %d known at %d", e.Kind, e.Properties["id"], e.OccurredAt.Sub(start).Milliseconds(), e.known))
			}
			t.Fatalf("model %d (seed %d):\n%s\n%s\nother %v\n(-simulated +by wake-ups)\n%s\nsimulated %v\nby wakes  %v", n, seed, text, strings.Join(told, "\n"), other, d, s.stage, got)
		}
	}
	if compared < 800 || moves < 1000 || waited < 3000 {
		t.Errorf("only %d histories with %d moves and %d waits: they say too little", compared, moves, waited)
	}
	t.Logf("%d histories, %d moves, %d waits", compared, moves, waited)
}
