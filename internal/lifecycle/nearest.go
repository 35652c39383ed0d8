package lifecycle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// Nearest is a small change that leads the subject to another stage. It was tried on the model before it is told: with
// Events at the explanation's instant and Stages in the other models, and silence up to At, the stage at At is To.
type Nearest struct {
	Change string     `json:"change"` // in words: "one more order.paid before 2026-03-03T10:00:00Z"
	To     string     `json:"to"`
	At     time.Time  `json:"at"`               // when the stage changes
	Before *time.Time `json:"before,omitempty"` // the events lead there up to this instant, and not at it; nil for no end that was found
	// Events are what has to happen, in this order. None of them is there for a change by silence alone.
	Events []hub.Event `json:"events"`
	// Stages are those in other models that have to be different.
	Stages map[string]string `json:"stages,omitempty"`
	// Release is set for the change that a person's decision no longer holds the subject.
	Release bool `json:"release,omitempty"`

	cost  float64
	shape string // equal for changes that are alike
}

// Bounds of one search for the nearest changes.
const (
	searchWork    = 500_000 // events looked at, some more for each evaluation
	searchWidth   = 6       // changes that are followed at a time
	searchRepairs = 3       // times that a rule above is made to fail
	searchWakes   = 12      // instants that silence is followed through
	perStage      = 2       // changes told for one stage
	maxNearest    = 8
	maxCount      = 64 // events of one kind that a change may add
)

// search looks for changes that lead away from where the subject stands.
type search struct {
	m      *Model
	f      *fact.Facts
	stages map[string]string
	at     time.Time
	st     State // as it was kept
	now    State // as it is decided at the instant
	work   int
	silent []string // stages that silence alone leads to
	found  []Nearest
}

// part is one thing that changes.
type part struct {
	events       []hub.Event
	model, stage string // of another model
	words        string
	plain        string // the kind, where nothing but the number of events matters
	more         bool   // there is one of that kind already
	shape        string // what is alike: of changes of one shape the cheapest is told
	cost         float64
	// others are parts of which words says that they do as well; else exact is said.
	others []part
	exact  string
}

// change is what is tried: parts at the search's instant, then silence up to until.
type change struct {
	parts []part
	until time.Time // zero: at once
	facts *fact.Facts
}

func (c *change) cost() float64 {
	cost := 0.0
	for i := range c.parts {
		cost += c.parts[i].cost
	}
	if !c.until.IsZero() {
		cost += 1.5
	}
	return cost
}

func (c *change) with(p part) *change {
	return &change{parts: append(slices.Clone(c.parts), p), until: c.until}
}

// nearest searches. st is the state as kept; it changes nothing.
func (m *Model) nearest(f *fact.Facts, stages map[string]string, st State, at time.Time) []Nearest {
	s := &search{m: m, f: f, stages: stages, at: at, st: st, work: searchWork}
	s.now, _ = m.Decide(f, stages, st, at)
	s.silence()
	present := m.stage[s.now.Stage]
	for i := range m.rules {
		if r := &m.rules[i]; r.stage != s.now.Stage && r.open(s.now.Stage, present) {
			s.reach(r.stage, s.satisfy(top(r.when), true, []*change{{}}), i)
		}
	}
	if m.otherwise != s.now.Stage {
		s.reach(m.otherwise, []*change{{}}, len(m.rules))
	}
	return s.best()
}

// top returns a condition as one clause.
func top(p *expression.Program) *expression.Clause {
	if clauses := p.Clauses(); len(clauses) == 1 {
		return clauses[0]
	}
	return nil
}

// reach notes what of the tried changes leads to another stage. Where a rule above the wanted one wins, it is made to
// fail as well.
func (s *search) reach(goal string, tried []*change, rule int) {
	for range searchRepairs {
		var next []*change
		for _, c := range tried {
			after := s.decided(c)
			switch {
			case after.Stage != s.now.Stage && (len(c.parts) > 0 || !c.until.IsZero()):
				s.note(c, goal)
			case after.Rule >= 0 && after.Rule < rule && after.Rule < len(s.m.rules):
				next = append(next, s.satisfy(top(s.m.rules[after.Rule].when), false, []*change{c})...)
			default:
				s.note(c, goal)
				if rule < len(s.m.rules) && after.Rule > rule { // what made another rule fail made this one fail too
					next = append(next, s.satisfy(top(s.m.rules[rule].when), true, []*change{c})...)
				}
			}
			if s.work <= 0 {
				return
			}
		}
		if tried = cheapest(next); len(tried) == 0 {
			return
		}
	}
	for _, c := range tried {
		s.note(c, goal)
	}
}

func cheapest(list []*change) []*change {
	slices.SortStableFunc(list, func(a, b *change) int { return cmp.Compare(a.cost(), b.cost()) })
	return list[:min(len(list), searchWidth)]
}

// input is what conditions are evaluated over once the change has happened.
func (s *search) input(c *change) expression.Input {
	if c.facts == nil {
		if c.facts = s.f; len(c.parts) > 0 {
			c.facts = s.f.With(s.events(c, s.at)...)
			s.work -= len(c.facts.Entries()) / 4
		}
	}
	s.work -= 50 + len(c.facts.Entries())/2
	at := s.at
	if !c.until.IsZero() {
		at = c.until
	}
	return expression.Input{Facts: c.facts, At: at, Stages: s.stagesAfter(c), Stage: s.now.Stage, Since: s.now.Since}
}

// events are the change's, at the instant at. Their ids sort in the order in which they happen.
func (s *search) events(c *change, at time.Time) []hub.Event {
	var out []hub.Event
	for i := range c.parts {
		for _, ev := range c.parts[i].events {
			ev.ID = fmt.Sprintf("nearest-%04d", len(out))
			ev.OccurredAt, ev.ReceivedAt = at, at
			if len(ev.Traits) > 0 {
				ev.Traits = slices.Clone(ev.Traits)
				for j := range ev.Traits {
					ev.Traits[j].At = at
				}
			}
			out = append(out, ev)
		}
	}
	return out
}

func (s *search) stagesAfter(c *change) map[string]string {
	stages := s.stages
	for i := range c.parts {
		if p := &c.parts[i]; p.model != "" {
			changed := make(map[string]string, len(stages)+1)
			maps.Copy(changed, stages)
			changed[p.model] = p.stage
			stages = changed
		}
	}
	return stages
}

// decided is the decision right after the change.
func (s *search) decided(c *change) State {
	in := s.input(c)
	if in.At.After(s.at) {
		_, st, _ := s.m.Advance(in.Facts, in.Stages, s.decided(&change{parts: c.parts, facts: c.facts}), in.At, searchWakes)
		return st
	}
	st, _ := s.m.Decide(in.Facts, in.Stages, s.now, in.At)
	return st
}

// outcome plays the change at the search's instant, with silence after it up to the instant until: the first stage it leads to
// that is not the present one, and when.
func (s *search) outcome(c *change, until time.Time) (stage string, when time.Time) {
	f, st := s.play(c, s.now, s.at)
	stages := s.stagesAfter(c)
	for range searchWakes {
		if st.Stage != s.now.Stage {
			return st.Stage, maxInstant(s.at, st.Since)
		}
		if st.WakesAt.IsZero() || st.WakesAt.After(until) {
			break
		}
		s.work -= 50
		st, _ = s.m.Decide(f, stages, st, st.WakesAt)
	}
	return s.now.Stage, s.at
}

// play lets the change happen at the instant at to a subject in the state st. Where the way matters each event is decided for
// itself, as it would be.
func (s *search) play(c *change, st State, at time.Time) (*fact.Facts, State) {
	f, stages := s.f, s.stagesAfter(c)
	events := s.events(c, at)
	if len(s.m.reasons) == 0 && len(events) > 0 {
		f = f.With(events...)
		events = nil
	}
	s.work -= len(f.Entries()) + 50 // a decision can go through all of them
	for i := range events {
		f = f.With(events[i])
		s.work -= len(f.Entries()) + 50 // a decision can go through all of them
		st, _ = s.m.Decide(f, stages, st, at)
	}
	if len(events) == 0 && len(c.parts) > 0 {
		st, _ = s.m.Decide(f, stages, st, at)
	}
	return f, st
}

// later is the stage that the change leads to where it happens at an instant to come.
func (s *search) later(c *change, at time.Time) string {
	_, st, _ := s.m.Advance(s.f, s.stages, s.now, at.Add(-hub.Resolution), searchWakes)
	_, st = s.play(c, st, at)
	return st.Stage
}

func maxInstant(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// silence notes where nothing but time leads.
func (s *search) silence() {
	st := s.now
	for range searchWakes {
		if st.WakesAt.IsZero() || len(s.silent) >= 3 {
			return
		}
		s.work -= 50
		next, _ := s.m.Decide(s.f, s.stages, st, st.WakesAt)
		if next.Stage != st.Stage && next.Stage != s.now.Stage && !slices.Contains(s.silent, next.Stage) {
			s.silent = append(s.silent, next.Stage)
			at := next.DecidedAt
			s.found = append(s.found, Nearest{
				Change: s.absent(at) + " until " + at.Format(time.RFC3339), To: next.Stage, At: at, shape: "silence", cost: 1 + 0.5*float64(len(s.silent)),
			})
		}
		st = next
	}
}

// absent names what must not happen until the instant at, for the clauses that flip there.
func (s *search) absent(at time.Time) string {
	var names []string
	for i := range s.m.rules {
		for _, leaf := range leaves(top(s.m.rules[i].when), nil) {
			before, okBefore := s.holds(leaf, &change{until: at.Add(-hub.Resolution)})
			after, okAfter := s.holds(leaf, &change{until: at})
			if before == after && okBefore == okAfter {
				continue
			}
			for _, l := range leaf.Looks().Lists {
				name := l.Name
				switch {
				case l.Object != "":
					name = "change of " + name
				case name == "any":
					name = "event"
				case len(l.Kinds) != 1 || l.Kinds[0] != name:
					name += " event"
				}
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	if len(names) == 0 || len(names) > 3 {
		return "nothing happens"
	}
	return "no " + strings.Join(names, " and no ")
}

// leaves returns the clauses that and, or, not and named conditions are made of.
func leaves(c *expression.Clause, out []*expression.Clause) []*expression.Clause {
	switch {
	case c == nil:
	case c.Define != nil:
		for _, part := range c.Define.Clauses() {
			out = leaves(part, out)
		}
	case c.Op == "":
		out = append(out, c)
	default:
		for _, part := range c.Clauses {
			out = leaves(part, out)
		}
	}
	return out
}

// holds evaluates a clause once the change has happened; one that fails does not hold.
func (s *search) holds(c *expression.Clause, after *change) (holds, ok bool) {
	p := c.Program()
	if p == nil {
		return false, false
	}
	session := expression.Begin(s.input(after))
	defer session.End()
	b, err := session.Bool(p)
	return b, err == nil
}

// satisfy returns changes after which the clause holds, or with want false does not: each of those it starts from, with as
// little as possible added.
func (s *search) satisfy(c *expression.Clause, want bool, from []*change) []*change {
	if c == nil || len(from) == 0 || s.work <= 0 {
		return nil
	}
	var out, open []*change
	for _, base := range from {
		if holds, ok := s.holds(c, base); holds == want && (ok || !want) {
			out = append(out, base)
		} else {
			open = append(open, base)
		}
	}
	if len(open) == 0 {
		return cheapest(out)
	}
	switch {
	case c.Op == "not":
		out = append(out, s.satisfy(c.Clauses[0], !want, open)...)
	case c.Op == "and" && want, c.Op == "or" && !want:
		out = append(out, s.all(c, c.Clauses, want, open)...)
		if len(out) == 0 || len(cheapest(out)[0].parts) > 1 {
			// What is done for the last part may do for the first.
			backwards := slices.Clone(c.Clauses)
			slices.Reverse(backwards)
			out = append(out, s.all(c, backwards, want, open)...)
		}
	case c.Op != "":
		for _, part := range c.Clauses {
			out = append(out, s.satisfy(part, want, open)...)
		}
	case c.Define != nil && len(c.Define.Clauses()) == 1:
		out = append(out, s.satisfy(c.Define.Clauses()[0], want, open)...)
	default:
		for _, base := range open {
			out = append(out, s.extend(c, want, base)...)
		}
	}
	return cheapest(out)
}

// all satisfies the parts one after the other.
func (s *search) all(c *expression.Clause, parts []*expression.Clause, want bool, from []*change) []*change {
	for _, part := range parts {
		from = s.satisfy(part, want, from)
	}
	// What a later part needs can spoil an earlier one.
	return slices.DeleteFunc(from, func(base *change) bool {
		holds, ok := s.holds(c, base)
		return holds != want || !ok && want
	})
}

// extend adds to a change what makes a leaf hold, or not.
func (s *search) extend(c *expression.Clause, want bool, base *change) []*change {
	var out []*change
	try := func(next *change) bool {
		holds, ok := s.holds(c, next)
		return holds == want && (ok || !want)
	}
	// By silence alone.
	if next := s.wait(c, want, base); next != nil {
		out = append(out, next)
	}
	for _, a := range s.atoms(c) {
		if s.work <= 0 {
			break
		}
		switch {
		case a.scale != nil:
			if n := least(a.limit, func(n int) bool { return s.work > 0 && try(base.with(a.scale(n))) }); n > 0 {
				out = append(out, base.with(a.scale(n)))
			}
		case a.scores != nil:
			out = append(out, a.choose(base, try)...)
		default:
			next := base.with(a.part)
			if try(next) {
				out = append(out, next)
			} else if waited := s.wait(c, want, next); waited != nil {
				out = append(out, waited)
			}
		}
	}
	return cheapest(out)
}

// wait lets silence go on after a change until the leaf holds, or no longer does; nil where it does not come to that.
func (s *search) wait(c *expression.Clause, want bool, base *change) *change {
	p := c.Program()
	if p == nil {
		return nil
	}
	next := &change{parts: base.parts, until: base.until, facts: base.facts}
	for range 4 {
		session := expression.Begin(s.input(next))
		holds, err := session.Bool(p)
		flips := session.Next()
		session.End()
		if holds == want && (err == nil || !want) && !next.until.IsZero() {
			return next
		}
		if flips.IsZero() {
			return nil
		}
		next = &change{parts: base.parts, until: flips, facts: base.facts}
	}
	return nil
}

// least returns the smallest n up to limit that works, 0 for none. Small numbers of events are tried one by one, greater ones and
// amounts by halving, as if whatever is above one that works did so too.
func least(limit int, works func(n int) bool) int {
	few, step := 6, 2
	if limit > maxCount {
		few, step = 1, 16
	}
	for n := 1; n <= min(limit, few); n++ {
		if works(n) {
			return n
		}
	}
	below := few
	for n := few * step; below < limit; n *= step {
		n = min(n, limit)
		if !works(n) {
			below = n
			continue
		}
		for n-below > 1 {
			if mid := below + (n-below)/2; works(mid) {
				n = mid
			} else {
				below = mid
			}
		}
		return n
	}
	return 0
}

// note keeps a change that leads to another stage, once it has no part that is not needed.
func (s *search) note(c *change, goal string) {
	if s.work <= 0 || len(c.parts) == 0 {
		return // silence has been looked at
	}
	until := s.at
	if !c.until.IsZero() {
		until = c.until
	}
	to, when := s.outcome(c, until)
	if to == s.now.Stage {
		// What has to hold for a while first is waited for, unless silence leads there anyway.
		to, when = s.outcome(c, s.at.AddDate(20, 0, 0))
		if to != goal || slices.Contains(s.silent, to) {
			return
		}
	}
	for i := 0; i < len(c.parts) && len(c.parts) > 1; {
		less := &change{parts: slices.Delete(slices.Clone(c.parts), i, i+1), until: c.until}
		if stage, at := s.outcome(less, when); stage == to && !at.After(when) {
			c, when = less, at
		} else {
			i++
		}
	}
	if when.After(s.at) {
		if stage, at := s.outcome(&change{}, when); stage == to && !at.After(when) {
			return // the same comes of silence
		}
	}
	n := Nearest{To: to, At: when, Events: s.events(c, s.at)}
	for i := range c.parts {
		p := &c.parts[i]
		n.cost += p.cost
		if p.model != "" {
			n.Stages = s.stagesOf(c)
		}
		for _, other := range p.others {
			swapped := &change{parts: slices.Clone(c.parts)}
			swapped.parts[i] = other
			if stage, _ := s.outcome(swapped, when); stage != to {
				p.words = p.exact
				break
			}
		}
	}
	n.Change = words(c)
	switch {
	case when.After(s.at):
		n.Change += ", then nothing more until " + when.Format(time.RFC3339)
		n.cost++
	case len(n.Events) > 0:
		if n.Before = s.deadline(c, to); n.Before != nil {
			n.Change += " before " + n.Before.Format(time.RFC3339Nano)
		}
	}
	n.shape = shape(c)
	for i := range s.found {
		if have := &s.found[i]; have.To == n.To && have.shape == n.shape {
			if n.cost < have.cost {
				*have = n
			}
			return
		}
	}
	s.found = append(s.found, n)
}

func (s *search) stagesOf(c *change) map[string]string {
	out := map[string]string{}
	for i := range c.parts {
		if p := &c.parts[i]; p.model != "" {
			out[p.model] = p.stage
		}
	}
	return out
}

// words says a change: "2 more order.paid and an NPS of 7 or more".
func words(c *change) string { return strings.Join(allWords(c), " and ") }

// shape is equal for changes of whose parts each is like one of the other's.
func shape(c *change) string {
	var list []string
	for i := range c.parts {
		list = append(list, c.parts[i].shape)
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " and ")
}

func allWords(c *change) []string {
	counts := map[string]int{}
	for i := range c.parts {
		if p := &c.parts[i]; p.plain != "" {
			counts[p.plain] += len(p.events)
		}
	}
	var out []string
	said := map[string]bool{}
	for i := range c.parts {
		p := &c.parts[i]
		if p.plain == "" {
			out = append(out, p.words)
		} else if !said[p.plain] {
			said[p.plain] = true
			out = append(out, howMany(counts[p.plain], p.more)+" "+p.plain)
		}
	}
	return out
}

func howMany(n int, more bool) string {
	switch {
	case n == 1 && more:
		return "one more"
	case n == 1:
		return "a first"
	case more:
		return fmt.Sprintf("%d more", n)
	}
	return fmt.Sprint(n)
}

// deadline returns the instant from which on the change does not lead to the stage any more, nil where none was found.
func (s *search) deadline(c *change, to string) *time.Time {
	leads := func(at time.Time) bool { return s.later(c, at) == to }
	good := s.at
	for _, at := range s.boundaries(c) {
		for _, t := range [...]time.Time{good.Add(at.Sub(good) / 2).Truncate(hub.Resolution), at.Add(-hub.Resolution), at} {
			if !t.After(good) || s.work <= 0 {
				continue
			}
			if leads(t) {
				good = t
				continue
			}
			for t.Sub(good) > hub.Resolution {
				mid := good.Add(t.Sub(good) / 2).Truncate(hub.Resolution)
				if !mid.After(good) {
					break
				}
				if leads(mid) {
					good = mid
				} else {
					t = mid
				}
			}
			return &t
		}
	}
	return nil
}

// boundaries returns the instants at which silence flips some clause, with the change and without it, in order.
func (s *search) boundaries(c *change) []time.Time {
	var out []time.Time
	var all []*expression.Program
	for i := range s.m.rules {
		for _, leaf := range leaves(top(s.m.rules[i].when), nil) {
			if p := leaf.Program(); p != nil {
				all = append(all, p)
			}
		}
	}
	for _, start := range [...]*change{{}, c} {
		at := &change{parts: start.parts, facts: start.facts}
		for range searchWakes {
			session := expression.Begin(s.input(at))
			for _, p := range all {
				_, _ = session.Bool(p) // only when it flips matters
			}
			next := session.Next()
			session.End()
			if next.IsZero() {
				break
			}
			out = append(out, next)
			at = &change{parts: start.parts, facts: at.facts, until: next}
		}
	}
	if !s.now.WakesAt.IsZero() {
		out = append(out, s.now.WakesAt)
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

// best returns the cheapest changes, at most a few of each stage.
func (s *search) best() []Nearest {
	slices.SortStableFunc(s.found, func(a, b Nearest) int { return cmp.Compare(a.cost, b.cost) })
	out := []Nearest{}
	count, cheapest := map[string]int{}, map[string]float64{}
	for _, n := range s.found {
		if count[n.To] == 0 {
			cheapest[n.To] = n.cost
		}
		// Another way to the same stage is worth telling where it is no much longer one.
		if count[n.To] < perStage && n.cost <= 2*cheapest[n.To] && len(out) < maxNearest {
			count[n.To]++
			out = append(out, n)
		}
	}
	return out
}
