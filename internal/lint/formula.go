package lint

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// term is what a formula says something about.
type term struct {
	key    string
	domain domain
	count  *counted // of a number of events; such terms bound each other
}

// counted is how many events of some kinds are younger than a length of time.
type counted struct {
	kinds    []string // sorted; nil for a list that is not of events
	list     string   // then its text
	standing bool     // of order.paid, without what was refunded or cancelled
	which    string   // the predicate's text, "" for all
	window   float64  // milliseconds; infinite without a window
}

// within reports whether every event that a counts is one that b counts.
func (a *counted) within(b *counted) bool {
	if a.list != b.list || b.which != "" && a.which != b.which || a.window > b.window || b.standing && !a.standing {
		return false
	}
	for _, k := range a.kinds {
		if _, ok := slices.BinarySearch(b.kinds, k); !ok {
			return false
		}
	}
	return true
}

// formula is a condition as far as it is understood: a literal, or a junction of formulas.
type formula struct {
	op    byte // '&', '|', '=' for a literal; an empty & is true, an empty | is false
	parts []formula
	term  *term
	set   set
}

var (
	holds = formula{op: '&'}
	fails = formula{op: '|'}
)

func constantly(b bool) formula {
	if b {
		return holds
	}
	return fails
}

func literal(t *term, s set) formula {
	switch {
	case t.domain.empty(s):
		return fails
	case t.domain.all(s):
		return holds
	}
	return formula{op: '=', term: t, set: s}
}

func all(parts ...formula) formula { return formula{op: '&', parts: parts} }
func some(parts ...formula) formula {
	return formula{op: '|', parts: parts}
}

func not(f formula) formula {
	switch f.op {
	case '=':
		return literal(f.term, f.term.domain.not(f.set))
	case '&', '|':
		out := formula{op: '&' + '|' - f.op}
		for _, p := range f.parts {
			out.parts = append(out.parts, not(p))
		}
		return out
	}
	return f
}

// alternative is a conjunction of literals, one per term.
type alternative map[string]formula

// maxAlternatives bounds how far a condition is taken apart.
const maxAlternatives = 600

// prover counts its work: a model made to be hard is not worth minutes. Past the bound it proves nothing more.
type prover struct{ work int }

// maxWork is about a second.
const maxWork = 10_000_000

// conjoin returns the alternatives of every one of as together with f, without the contradictory ones. It reports false where
// there are too many to look at.
func (p *prover) conjoin(as []alternative, f formula) ([]alternative, bool) {
	if p.work > maxWork {
		return nil, false
	}
	switch f.op {
	case '=':
		var out []alternative
		for _, a := range as {
			p.work += 1 + len(a)*len(a)
			if b := a.with(f); b != nil {
				out = append(out, b)
			}
		}
		return out, true
	case '&':
		// Literals first: they keep the number of alternatives small.
		parts := slices.Clone(f.parts)
		slices.SortStableFunc(parts, func(a, b formula) int { return a.width() - b.width() })
		for _, part := range parts {
			var ok bool
			if as, ok = p.conjoin(as, part); !ok {
				return nil, false
			}
		}
		return as, true
	}
	var out []alternative
	for _, part := range f.parts {
		more, ok := p.conjoin(as, part)
		if !ok || len(out)+len(more) > maxAlternatives {
			return nil, false
		}
		out = append(out, more...)
	}
	return out, true
}

func (f formula) width() int {
	switch f.op {
	case '=':
		return 1
	case '&':
		n := 1
		for _, p := range f.parts {
			n = min(1000, n*p.width())
		}
		return n
	}
	n := 0
	for _, p := range f.parts {
		n += p.width()
	}
	return n
}

// with adds a literal; nil where that contradicts.
func (a alternative) with(f formula) alternative {
	s := f.set
	if old, ok := a[f.term.key]; ok {
		s = f.term.domain.and(old.set, s)
	}
	if f.term.domain.empty(s) {
		return nil
	}
	out := maps.Clone(a)
	if out == nil {
		out = alternative{}
	}
	out[f.term.key] = formula{op: '=', term: f.term, set: s}
	if f.term.count != nil && !out.counts() {
		return nil
	}
	return out
}

// counts reports whether the numbers of events go together: what is counted within something else is no more than that.
func (a alternative) counts() bool {
	for _, inner := range a {
		if inner.term.count == nil {
			continue
		}
		least, _ := inner.set.bounds()
		for _, outer := range a {
			if outer.term.count == nil || outer.term.key == inner.term.key || !inner.term.count.within(outer.term.count) {
				continue
			}
			if _, most := outer.set.bounds(); least > most {
				return false
			}
		}
	}
	return true
}

// never reports whether f is a contradiction; false too where that cannot be told.
func (p *prover) never(f formula) bool {
	as, ok := p.conjoin([]alternative{{}}, f)
	return ok && len(as) == 0
}

// countTerm makes the term of a number of events.
func countTerm(c counted) *term {
	kinds := strings.Join(c.kinds, " ") + c.list
	if c.standing {
		kinds += " standing"
	}
	window := ""
	if !math.IsInf(c.window, 1) {
		window = millis(c.window)
	}
	return &term{key: "count " + kinds + " | " + c.which + " | " + window, domain: counts, count: &c}
}
