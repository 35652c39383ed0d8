package lifecycle

import (
	"errors"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// maxLookBack bounds how often a condition with after is evaluated to find since when it holds.
const maxLookBack = 20_000

var errLookBack = errors.New("the past changed too often to see since when this holds")

// Waiting is a rule whose condition holds and that is asked, but does not win yet.
type Waiting struct {
	Rule   int    // index in decide
	Option string // "after" or "cooldown"
	// Since is when the condition began to hold, or when the stage was left; Until is when the rule is free, if nothing happens.
	Since, Until time.Time
}

// decision is one decision being taken.
type decision struct {
	m      *Model
	facts  *fact.Facts
	stages map[string]string
	at     int64
	mem    memory
	// waiting are the rules that hold but wait, where somebody asks.
	waiting *[]Waiting
}

// Waiting tells which rules hold at instant at but wait for their after or cooldown to pass.
func (m *Model) Waiting(f *fact.Facts, stages map[string]string, st State, at time.Time) []Waiting {
	out := []Waiting{}
	d := decision{m: m, facts: f, stages: stages, at: millis(at), waiting: &out}
	d.mem, _ = m.recall(st.Path)
	d.decide(st)
	return out
}

// free reports whether rule i, whose condition holds, may win; if not, from when on it may, 0 for unknown.
func (d *decision) free(i int, st State) (ok bool, until int64, err error) {
	r := &d.m.rules[i]
	if r.cooldown > 0 && st.Stage != r.stage {
		if left, was := d.mem.left[r.stage]; was {
			if until := left + int64(r.cooldown/time.Millisecond); d.at < until {
				d.wait(i, "cooldown", left, until)
				return false, until, nil
			}
		}
	}
	if r.after > 0 {
		start, err := d.stretch(r, st)
		if err != nil {
			return false, 0, err
		}
		if until := start + int64(r.after/time.Millisecond); d.at < until {
			d.wait(i, "after", start, until)
			return false, until, nil
		}
	}
	return true, 0, nil
}

func (d *decision) wait(i int, option string, since, until int64) {
	if d.waiting != nil {
		*d.waiting = append(*d.waiting, Waiting{Rule: i, Option: option, Since: time.UnixMilli(since).UTC(), Until: time.UnixMilli(until).UTC()})
	}
}

// born is the instant before which nothing counts: just before the subject's first event.
func (d *decision) born(st State) int64 {
	first := fact.None
	if deal := d.facts.Subject(); deal != nil {
		first = deal.CreatedAt
	} else if t := d.facts.FirstEventAt(); !t.IsZero() {
		first = millis(t)
	}
	switch {
	case first != fact.None:
		return min(d.at, first-int64(hub.Resolution/time.Millisecond))
	case !st.Since.IsZero():
		return min(d.at, millis(st.Since))
	}
	return d.at
}

// stretch returns since when the condition of r has held without a break, given that it holds now. It looks back no further than
// matters: a stretch longer than r.after begins at now-after.
//
// The past is what is known of it now: at each instant u the condition is asked over the facts up to u. It can change only where a
// fact it reads lies, where a stage it reads changed, and where it flips by silence; between two of the first it is followed forward from
// flip to flip, the latest piece first, since the latest break is the one that counts.
func (d *decision) stretch(r *rule, st State) (int64, error) {
	from := max(d.at-int64(r.after/time.Millisecond), d.born(st))
	if r.logs {
		if len(d.mem.log) == 0 {
			return d.at, nil
		}
		from = max(from, d.mem.log[0].at)
	}
	if from >= d.at {
		return d.at, nil
	}
	start, budget := d.at, maxLookBack
	pieces := d.pieces(r, from)
	for i, begin := range slices.Backward(pieces) {
		end := d.at
		if i+1 < len(pieces) {
			end = pieces[i+1]
		}
		whole, since := true, begin
		held := true
		for u := begin; u < end; {
			if budget--; budget < 0 {
				return 0, errLookBack
			}
			holds, next := d.past(r, st, u)
			if !holds {
				whole = false
			} else if !held || u == begin {
				since = u
			}
			held = holds
			if next == 0 || next >= end {
				break
			}
			u = next
		}
		switch {
		case !held:
			return start, nil
		case !whole:
			return since, nil
		}
		start = begin
	}
	return start, nil
}

// pieces returns the instants from which on, up to now, r's condition is asked over other facts or stages; the first is from.
func (d *decision) pieces(r *rule, from int64) []int64 {
	at := []int64{from}
	add := func(entries []*fact.Entry) {
		for _, e := range slices.Backward(entries) {
			ms := e.Millis()
			if ms <= from {
				break
			}
			if ms < d.at {
				at = append(at, ms)
			}
		}
	}
	if r.when.ReadsTraits {
		add(d.facts.Whole().Entries())
	} else {
		for _, kind := range r.when.Reads {
			add(d.facts.Whole().Kind(kind))
		}
	}
	if r.logs {
		for _, now := range d.mem.log {
			if now.at > from && now.at < d.at {
				at = append(at, now.at)
			}
		}
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// past asks r's condition at an earlier instant. One that fails did not hold.
func (d *decision) past(r *rule, st State, u int64) (holds bool, next int64) {
	t := time.UnixMilli(u).UTC()
	in := expression.Input{Facts: d.facts.AsOf(t), At: t, Stages: d.stages, Stage: st.Stage, Since: st.Since}
	if r.logs {
		then, _ := d.mem.when(u)
		in.Stage, in.Since, in.Stages = then.stage, time.UnixMilli(then.since).UTC(), make(map[string]string, len(then.others))
		for i, name := range d.m.watches {
			in.Stages[name] = then.others[i]
		}
	}
	s := expression.Begin(in)
	defer s.End()
	holds, err := s.Bool(r.when)
	if n := s.Next(); !n.IsZero() {
		next = millis(n)
	}
	return holds && err == nil, next
}
