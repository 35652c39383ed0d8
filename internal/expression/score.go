package expression

import (
	"cmp"
	"math"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// Scores: score.active, score.expected_orders, score.value, and rfm.recency, rfm.frequency, rfm.monetary.
//
// Those of score fall with every instant of silence. So they are Fading, a type of their own that can only be compared, as the time since
// something can; the comparison finds the instant at which it flips by bisection. Those of rfm stay until there is another order or
// another snapshot: they are numbers.

// scoreFields are what can follow score and rfm.
var scoreFields = map[string][]*field{
	"score": {
		calculated("active", "the probability that the customer still buys, 0 to 1", fact.Active, Type{Base: Fading, fades: Number}),
		calculated("expected_orders", "how many orders are expected within 365 days", fact.ExpectedOrders, Type{Base: Fading, fades: Number}),
		calculated("value", "what those orders are expected to be worth", fact.Value, Type{Base: Fading, fades: Money}),
	},
	"rfm": {
		calculated("recency", "how recently the customer bought: 1 to 5, 5 is best", fact.Recency, Type{Base: Number}),
		calculated("frequency", "how often the customer bought: 1 to 5", fact.Frequency, Type{Base: Number}),
		calculated("monetary", "how much the customer spent: 1 to 5", fact.Monetary, Type{Base: Number}),
	},
}

func calculated(name, doc string, which fact.Score, t Type) *field {
	return &field{name: name, doc: doc, typ: optional(t), get: func(s *Session, _ any) (any, error) { return s.score(which) }}
}

func (c *checker) scoreField(n ast.Node, space string, name *ast.StringNode) term {
	var names []string
	for _, f := range scoreFields[space] {
		if f.name == name.Value {
			c.program.Needs |= NeedsScores
			c.read("order.paid", "order.refunded", "order.cancelled")
			return call(n, f.typ, "$person", self(), constant(f))
		}
		names = append(names, f.name)
	}
	if p, ok := c.env.Models[space].Defines[name.Value]; ok {
		return c.defined(n, p)
	}
	return c.unknown(name, "field of "+space+":", name.Value, names)
}

// comparesFading checks a comparison with a Fading on one side; false where there is none.
func (c *checker) comparesFading(n *ast.BinaryNode, l, r term, o op) (term, bool) {
	switch lf, rf := l.typ.Base == Fading, r.typ.Base == Fading; {
	case lf && rf:
		return c.fail(n, "compare each with a value", "two scores cannot be compared with each other"), true
	case lf && r.typ.Base == l.typ.fades:
		return call(n, boolean, "$fades", self(), l.node, r.node, constant(o)), true
	case rf && l.typ.Base == r.typ.fades:
		return call(n, boolean, "$fades", self(), r.node, l.node, constant(o.mirror())), true
	}
	return nothing, false
}

// fading is a score at run time. A default from the right of ?? stands beside it as a plain number or amount.
type fading struct {
	which fact.Score
	now   any // float64 or hub.Money
}

// score returns one of the customer's scores at the session's instant, nil where it is unknown.
func (s *Session) score(which fact.Score) (any, error) {
	v, ok := s.in.Facts.Score(which, time.UnixMilli(s.at))
	if !ok {
		return nil, nil
	}
	switch which {
	case fact.Active, fact.ExpectedOrders:
		return fading{which, v}, nil
	case fact.Value:
		amount, ok := worth(v, s.in.Facts.ScoreCurrency())
		if !ok {
			return nil, nil
		}
		return fading{which, amount}, nil
	}
	return v, nil
}

// worth is an expected value as money, to the hundredth.
func worth(v float64, currency string) (hub.Money, bool) {
	d, err := decimal.NewFromFloat64(math.Round(v*100) / 100)
	return hub.Money{Amount: d, Currency: currency}, err == nil
}

func fades(a ...any) (any, error) {
	s, o := a[0].(*Session), a[3].(op)
	f, ok := a[1].(fading)
	if !ok { // the default
		if x, ok := a[1].(hub.Money); ok {
			return moneyIs(x, a[2], o)
		}
		x, y := float(a[1]), float(a[2])
		return !math.IsNaN(x) && !math.IsNaN(y) && o.holds(cmp.Compare(x, y)), nil
	}
	switch y := a[2].(type) {
	case hub.Money:
		x := f.now.(hub.Money)
		if x.Currency != y.Currency && !y.IsZero() {
			return nil, moneyError(x, y, nil)
		}
		return s.fades(o, func(at int64) int {
			v, _ := s.in.Facts.Score(f.which, time.UnixMilli(at))
			x, _ := worth(v, y.Currency)
			return x.Amount.Cmp(y.Amount)
		})
	default:
		limit := float(y)
		if math.IsNaN(limit) {
			return false, nil
		}
		return s.fades(o, func(at int64) int {
			v, _ := s.in.Facts.Score(f.which, time.UnixMilli(at))
			return cmp.Compare(v, limit)
		})
	}
}

// fades compares what only falls as time passes with a constant, and records when that comparison flips. compare tells, for an
// instant, on which side of the constant it is.
func (s *Session) fades(o op, compare func(at int64) int) (bool, error) {
	now := compare(s.at)
	end := add(s.at, int64(maxWindow/time.Millisecond))
	last := compare(end)
	falls := func(below int) error { // record when compare reaches below, 0 or -1
		if now <= below || last > below {
			return nil
		}
		from, to := s.at, end // above below at from, not at to
		for to-from > 1 {
			if mid := from + (to-from)/2; compare(mid) > below {
				from = mid
			} else {
				to = mid
			}
		}
		s.record(to)
		return s.charge(50)
	}
	var err error
	switch o {
	case ge, lt:
		err = falls(-1)
	case gt, le:
		err = falls(0)
	default:
		if err = falls(0); err == nil {
			err = falls(-1)
		}
	}
	return o.holds(now), err
}
