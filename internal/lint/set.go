package lint

import (
	"math"
	"slices"
)

// set is the values a term can have where a formula holds. The zero value is empty.
type set struct {
	ranges []span // of a number, disjoint and sorted
	never  bool   // of a number: that there is none

	words  []string // of a text, sorted: these, or with except all but these
	except bool

	yes, no bool // of what is true or false
}

// span is an interval with closed or open ends.
type span struct {
	from, to         float64
	fromOpen, toOpen bool
}

func (s span) empty() bool { return s.from > s.to || s.from == s.to && (s.fromOpen || s.toOpen) }

// domain is what is known of a term's values from the start.
type domain struct {
	kind  byte // 'n'umber, 't'ext, 'b'ool
	whole bool // whole numbers from zero: counts
	full  set
}

var (
	counts  = domain{kind: 'n', whole: true, full: set{ranges: []span{{0, math.Inf(1), false, true}}}}
	hours   = domain{kind: 'n', whole: true, full: set{ranges: []span{{0, 23, false, false}}, never: true}}
	numbers = domain{kind: 'n', full: set{ranges: []span{{math.Inf(-1), math.Inf(1), true, true}}, never: true}}
	texts   = domain{kind: 't', full: set{except: true}}
	truths  = domain{kind: 'b', full: set{yes: true, no: true}}
)

// texts of a fixed set.
func words(all []string) domain {
	return domain{kind: 't', full: set{words: sortedSet(all)}}
}

func sortedSet(all []string) []string {
	out := slices.Clone(all)
	slices.Sort(out)
	return slices.Compact(out)
}

// compare returns the numbers for which x op v.
func (d domain) compare(op string, v float64) set {
	inf := math.Inf(1)
	var r []span
	switch op {
	case ">=":
		r = []span{{v, inf, false, true}}
	case ">":
		r = []span{{v, inf, true, true}}
	case "<=":
		r = []span{{-inf, v, true, false}}
	case "<":
		r = []span{{-inf, v, true, true}}
	case "==":
		r = []span{{v, v, false, false}}
	case "!=":
		r = []span{{-inf, v, true, true}, {v, inf, true, true}}
	}
	return d.and(set{ranges: r}, d.full)
}

// and returns what is in both.
func (d domain) and(a, b set) set {
	var out set
	switch d.kind {
	case 'n':
		out.never = a.never && b.never
		for _, x := range a.ranges {
			for _, y := range b.ranges {
				s := x
				if y.from > s.from || y.from == s.from && y.fromOpen {
					s.from, s.fromOpen = y.from, y.fromOpen
				}
				if y.to < s.to || y.to == s.to && y.toOpen {
					s.to, s.toOpen = y.to, y.toOpen
				}
				if s = d.round(s); !s.empty() {
					out.ranges = append(out.ranges, s)
				}
			}
		}
	case 't':
		switch {
		case a.except && b.except:
			out.words, out.except = sortedSet(slices.Concat(a.words, b.words)), true
		case a.except:
			out.words = without(b.words, a.words)
		case b.except:
			out.words = without(a.words, b.words)
		default:
			out.words = without(a.words, without(a.words, b.words))
		}
	default:
		out.yes, out.no = a.yes && b.yes, a.no && b.no
	}
	return out
}

// round closes the ends of an interval of whole numbers.
func (d domain) round(s span) span {
	if !d.whole {
		return s
	}
	if up := math.Ceil(s.from); up != s.from {
		s.from, s.fromOpen = up, false
	} else if s.fromOpen && !math.IsInf(s.from, 0) {
		s.from, s.fromOpen = s.from+1, false
	}
	if down := math.Floor(s.to); down != s.to {
		s.to, s.toOpen = down, false
	} else if s.toOpen && !math.IsInf(s.to, 0) {
		s.to, s.toOpen = s.to-1, false
	}
	return s
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// not returns what is not in s.
func (d domain) not(s set) set {
	out := set{}
	switch d.kind {
	case 'n':
		out = d.full
		for _, r := range s.ranges {
			out = d.and(out, set{ranges: []span{{math.Inf(-1), r.from, true, !r.fromOpen}, {r.to, math.Inf(1), !r.toOpen, true}}, never: true})
		}
		out.never = d.full.never && !s.never
		return out
	case 't':
		out.words, out.except = s.words, !s.except
	default:
		out.yes, out.no = !s.yes, !s.no
	}
	return d.and(out, d.full)
}

func (d domain) empty(s set) bool {
	switch d.kind {
	case 'n':
		return len(s.ranges) == 0 && !s.never
	case 't':
		return !s.except && len(s.words) == 0
	}
	return !s.yes && !s.no
}

// all reports whether s holds every value there is.
func (d domain) all(s set) bool { return d.empty(d.not(s)) }

// bounds returns the least and the greatest number of s.
func (s set) bounds() (from, to float64) {
	from, to = math.Inf(1), math.Inf(-1)
	for _, r := range s.ranges {
		from, to = min(from, r.from), max(to, r.to)
	}
	return from, to
}
