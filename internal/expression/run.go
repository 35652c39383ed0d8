package expression

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"
	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// The functions that the checker's rewriting calls. Their names cannot be written by a user. The first argument is
// the Session wherever facts or time matter; arguments were typed by the checker, so assertions hold.
var functions = conf.FunctionsTable{}

func init() {
	for name, f := range map[string]func(...any) (any, error){
		"$define": func(a ...any) (any, error) { return a[0].(*Session).define(a[1].(*Program)) },

		"$list":   func(a ...any) (any, error) { return a[0].(*Session).list(a[1].(*kindSet)) },
		"$listin": listIn,
		"$count":  func(a ...any) (any, error) { return len(a[0].(*Session).entries(a[1].(*kindSet))), nil },
		"$countin": func(a ...any) (any, error) {
			s := a[0].(*Session)
			return len(s.window(s.entries(a[1].(*kindSet)), span(a[2]))), nil
		},
		"$countis": func(a ...any) (any, error) {
			s := a[0].(*Session)
			return s.countIs(s.entries(a[1].(*kindSet)), span(a[2]), float(a[3]), a[4].(op)), nil
		},
		"$ever":  func(a ...any) (any, error) { return len(a[0].(*Session).entries(a[1].(*kindSet))) > 0, nil },
		"$never": func(a ...any) (any, error) { return len(a[0].(*Session).entries(a[1].(*kindSet))) == 0, nil },
		"$within": func(a ...any) (any, error) {
			s := a[0].(*Session)
			return s.newest(s.entries(a[1].(*kindSet)), span(a[2])) != nil, nil
		},
		"$without": func(a ...any) (any, error) {
			s := a[0].(*Session)
			return s.newest(s.entries(a[1].(*kindSet)), span(a[2])) == nil, nil
		},
		"$first": func(a ...any) (any, error) { return entryOrNil(a[0].(*Session).entries(a[1].(*kindSet)), 0), nil },
		"$firstin": func(a ...any) (any, error) {
			s := a[0].(*Session)
			return entryOrNil(s.window(s.entries(a[1].(*kindSet)), span(a[2])), 0), nil
		},
		"$last": func(a ...any) (any, error) { return entryOrNil(a[0].(*Session).entries(a[1].(*kindSet)), -1), nil },
		"$lastin": func(a ...any) (any, error) {
			s := a[0].(*Session)
			if e := s.newest(s.entries(a[1].(*kindSet)), span(a[2])); e != nil {
				return e, nil
			}
			return nil, nil
		},
		"$gap":      func(a ...any) (any, error) { return usualGap(a[0].(*Session).entries(a[1].(*kindSet))), nil },
		"$trend":    trend,
		"$sumfield": sumField,
		"$spent":    spent,
		"$survey":   survey,

		"$fades":   fades,
		"$elapsed": elapsedIs,
		"$spans":   spansAre,
		"$instant": func(a ...any) (any, error) {
			x, okX := instantOf(a[0])
			y, okY := instantOf(a[1])
			return okX && okY && a[2].(op).holds(cmp.Compare(x, y)), nil
		},
		"$span": func(a ...any) (any, error) {
			x, y := span(a[0]), span(a[1])
			return x != neverSpan && y != neverSpan && a[2].(op).holds(cmp.Compare(x, y)), nil
		},
		"$spanop": spanOp,
		"$time":   func(a ...any) (any, error) { return length(float(a[0]), a[1].(time.Duration)), nil },
		"$at":     func(a ...any) (any, error) { ms, ok := instantOf(a[0]); return toInstant(ms, ok), nil },

		"$zone":         func(a ...any) (any, error) { return a[1].(place).at(a[0].(*Session)).String(), nil },
		"$dial":         dialValue,
		"$dialis":       dialIs,
		"$dialin":       dialIn,
		"$business":     businessIs,
		"$businessop":   businessOp,
		"$businesstime": func(a ...any) (any, error) { return inOffice(float(a[0]), a[1].(*office)), nil },

		"$channel": channelIs,
		"$shared":  func(a ...any) (any, error) { return a[0].(*Session).in.Facts.Shared(a[1].(string)), nil },
		"$stageof": stageOf,

		"$moneyis": moneyIs,
		"$moneyop": moneyOp,
		"$money":   func(a ...any) (any, error) { return toMoney(float(a[0]), a[1].(string)) },
		"$num": func(a ...any) (any, error) {
			x, y := float(a[0]), float(a[1])
			if math.IsNaN(x) || math.IsNaN(y) {
				return false, nil // a missing number is a never-value: even != does not hold
			}
			return a[2].(op).holds(cmp.Compare(x, y)), nil
		},

		"$get": func(a ...any) (any, error) { return a[2].(*field).get(a[0].(*Session), a[1]) },
		"$objects": func(a ...any) (any, error) {
			s := a[0].(*Session)
			l := s.in.Facts.Objects(a[1].(string))
			return l, s.charge(len(l))
		},
		"$person": func(a ...any) (any, error) { return a[1].(*field).get(a[0].(*Session), nil) },
		"$trait":  func(a ...any) (any, error) { return a[0].(*Session).in.Facts.Traits()[a[1].(string)].Value, nil },
		"$field": func(a ...any) (any, error) {
			return as(a[0].(*Session).in.Facts.Traits()[a[1].(string)].Value, a[2].(Base)), nil
		},
		"$consent": func(a ...any) (any, error) {
			if state, ok := a[0].(*Session).in.Facts.Consent()[a[1].(string)]; ok {
				return state, nil
			}
			return nil, nil
		},
		"$stage": func(a ...any) (any, error) { return a[0].(*Session).in.Stage, nil },
		"$since": func(a ...any) (any, error) {
			t := a[0].(*Session).in.Since
			return toInstant(t.UnixMilli(), !t.IsZero()), nil
		},
		"$stages": func(a ...any) (any, error) { return a[0].(*Session).in.Stages[a[1].(string)], nil },
		"$var":    func(a ...any) (any, error) { return a[0].(*Session).in.Vars[a[1].(string)], nil },

		"$isnil": func(a ...any) (any, error) { return a[0] == nil, nil },
		"$else": func(a ...any) (any, error) {
			v := a[0]
			if b := a[2].(Base); b != Unknown {
				v = as(v, b)
			}
			if missing(v) {
				return a[1], nil
			}
			return v, nil
		},
		"$index":     index,
		"$aggregate": func(a ...any) (any, error) { return aggregate(a[0].(string), a[1], a[2].(Base)) },
	} {
		functions[name] = &builtin.Function{Name: name, Func: f}
	}
}

func span(v any) time.Duration {
	if d, ok := v.(time.Duration); ok {
		return d
	}
	return neverSpan
}

func float(v any) float64 {
	switch v := v.(type) {
	case int:
		return float64(v)
	case float64:
		return v
	}
	return math.NaN()
}

// missing reports whether v is nil or one of the never-values.
func missing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case float64:
		return math.IsNaN(v)
	case time.Duration:
		return v == neverSpan
	case instant:
		return int64(v) == none
	}
	return false
}

// absent is the never-value of base.
func absent(base Base) any {
	switch base {
	case Number:
		return math.NaN()
	case Duration:
		return neverSpan
	case Instant:
		return instant(none)
	}
	return nil
}

// as returns v if it is of base, else nil.
func as(v any, base Base) any {
	ok := false
	switch v := v.(type) {
	case string:
		ok = base == Text
	case float64:
		ok = base == Number
	case bool:
		ok = base == Bool
	case []string:
		ok = base == List
	case time.Time:
		if base == Instant {
			return instant(v.UnixMilli())
		}
	case hub.Money:
		ok = base == Money
	}
	if !ok {
		return nil
	}
	return v
}

func toInstant(ms int64, ok bool) any {
	if !ok {
		return instant(none)
	}
	return instant(ms)
}

// length is n times unit in whole milliseconds, kept within maxSpan.
func length(n float64, unit time.Duration) time.Duration {
	f := n * float64(unit/time.Millisecond)
	limit := float64(maxSpan / time.Millisecond)
	switch {
	case math.IsNaN(f):
		return neverSpan
	case f > limit:
		return maxSpan
	case f < -limit:
		return -maxSpan
	}
	return time.Duration(math.Round(f)) * time.Millisecond
}

func (s *Session) list(k *kindSet) ([]*fact.Entry, error) {
	l := s.entries(k)
	return l, s.charge(len(l))
}

func listIn(a ...any) (any, error) {
	s := a[0].(*Session)
	l := s.window(s.entries(a[1].(*kindSet)), span(a[2]))
	return l, s.charge(len(l))
}

func entryOrNil(l []*fact.Entry, i int) any {
	if len(l) == 0 {
		return nil
	}
	if i < 0 {
		i = len(l) - 1
	}
	return l[i]
}

// usualGap is the median of the gaps between consecutive entries, never with fewer than two entries.
func usualGap(l []*fact.Entry) time.Duration {
	if len(l) < 2 {
		return neverSpan
	}
	gaps := make([]int64, len(l)-1)
	for i := range gaps {
		gaps[i] = l[i+1].Millis() - l[i].Millis()
	}
	slices.Sort(gaps)
	mid := gaps[len(gaps)/2]
	if len(gaps)%2 == 0 {
		mid = gaps[len(gaps)/2-1] + (mid-gaps[len(gaps)/2-1])/2
	}
	return length(float64(mid), time.Millisecond)
}

// trend is the number of entries in the window over that in the window before it; nil where that one is empty.
func trend(a ...any) (any, error) {
	s, w := a[0].(*Session), span(a[2])
	all := s.entries(a[1].(*kindSet))
	if w <= 0 {
		return nil, nil
	}
	both := s.window(all, 2*w)
	now := s.window(both, w)
	before := len(both) - len(now)
	if before == 0 {
		return nil, nil
	}
	return float64(len(now)) / float64(before), nil
}

// sumField adds one property over all entries of a set; those without it are left out.
func sumField(a ...any) (any, error) {
	s, f := a[0].(*Session), a[2].(*field)
	l := s.entries(a[1].(*kindSet))
	if err := s.charge(len(l)); err != nil {
		return nil, err
	}
	t := tally{}
	for _, e := range l {
		v, err := f.get(s, e)
		if err != nil {
			return nil, err
		}
		if err := t.add(v); err != nil {
			return nil, err
		}
	}
	return t.sum(f.typ.Base), nil
}

// tally adds numbers, amounts of one currency, or durations.
type tally struct {
	number float64
	money  hub.Money
	span   time.Duration
	n      int
}

func (t *tally) add(v any) error {
	if missing(v) {
		return nil
	}
	t.n++
	switch v := v.(type) {
	case hub.Money:
		if t.money.IsZero() {
			t.money = v
			return nil
		}
		if v.IsZero() {
			return nil
		}
		sum, err := t.money.Add(v)
		if err != nil {
			return moneyError(t.money, v, err)
		}
		t.money = sum
	case time.Duration:
		t.span = length(float64(t.span/time.Millisecond)+float64(v/time.Millisecond), time.Millisecond)
	default:
		t.number += float(v)
	}
	return nil
}

func (t *tally) sum(base Base) any {
	switch base {
	case Money:
		return t.money // zero without currency: nothing, in whatever currency
	case Duration:
		return t.span
	}
	return t.number
}

func moneyError(a, b hub.Money, err error) error {
	if a.Currency != b.Currency {
		return fmt.Errorf("%s and %s have different currencies", a, b)
	}
	return err
}

// spent is what was paid in one currency, in the window or ever, without cancelled orders and less what was refunded.
func spent(a ...any) (any, error) {
	s, currency := a[0].(*Session), a[1].(string)
	paid := s.in.Facts.Kind("order.paid")
	if len(a) > 2 {
		paid = s.window(paid, span(a[2]))
	}
	if err := s.charge(len(paid)); err != nil {
		return nil, err
	}
	total := hub.Money{Currency: currency}
	seen := map[*fact.Object]bool{}
	for _, e := range paid {
		m, ok := e.Money("amount")
		if !ok || m.Currency != currency {
			continue
		}
		if o := s.in.Facts.ObjectOf(e); o != nil {
			if o.Cancelled || o.Refunded {
				continue
			}
			if back := o.RefundedAmount; back.Currency == currency && !seen[o] {
				seen[o] = true
				less, err := total.Amount.Sub(back.Amount)
				if err != nil {
					return nil, err
				}
				total.Amount = less
			}
		}
		sum, err := total.Add(m)
		if err != nil {
			return nil, err
		}
		total = sum
	}
	return total, nil
}

// survey is the score of the latest answer to a kind of survey, nil without one.
func survey(a ...any) (any, error) {
	s, metric := a[0].(*Session), a[1].(string)
	l := s.in.Facts.Kind("survey.answered")
	for i, v := range slices.Backward(l) {
		if m, _ := v.Text("metric"); m != metric {
			continue
		}
		score, ok := v.Number("score")
		if !ok {
			continue
		}
		if len(a) > 2 && s.newest(l[i:i+1], span(a[2])) == nil {
			return nil, nil
		}
		return score, nil
	}
	return nil, nil
}

func elapsedIs(a ...any) (any, error) {
	base, ok := instantOf(a[1])
	d := span(a[2])
	if !ok || d == neverSpan {
		return false, nil
	}
	c := a[3].(comparison)
	return a[0].(*Session).elapsed(base, c.clamped, d, c.op), nil
}

// comparison is an operator and which sides are clamped.
type comparison struct {
	op              op
	clamped, second bool
}

func spansAre(a ...any) (any, error) {
	x, okX := instantOf(a[1])
	y, okY := instantOf(a[2])
	if !okX || !okY {
		return false, nil
	}
	c := a[3].(comparison)
	return a[0].(*Session).spans(x, y, c.clamped, c.second, c.op), nil
}

// spanOp calculates with durations: + - between two, * / with a number, / between two gives a number.
func spanOp(a ...any) (any, error) {
	o := a[2].(string)
	x, isX := a[0].(time.Duration)
	y, isY := a[1].(time.Duration)
	if isX && x == neverSpan || isY && y == neverSpan {
		if o == "/" && isX && isY {
			return math.NaN(), nil
		}
		return neverSpan, nil
	}
	fx, fy := float64(x/time.Millisecond), float64(y/time.Millisecond)
	switch o {
	case "+":
		return length(fx+fy, time.Millisecond), nil
	case "-":
		return length(fx-fy, time.Millisecond), nil
	case "*":
		if !isX {
			fx = float(a[0])
		}
		if !isY {
			fy = float(a[1])
		}
		return length(fx*fy, time.Millisecond), nil
	}
	if isY {
		return fx / fy, nil
	}
	return length(fx/float(a[1]), time.Millisecond), nil
}

func moneyIs(a ...any) (any, error) {
	x, okX := a[0].(hub.Money)
	y, okY := a[1].(hub.Money)
	if !okX || !okY {
		return false, nil
	}
	if x.Currency != y.Currency && !x.IsZero() && !y.IsZero() {
		return nil, moneyError(x, y, nil)
	}
	return a[2].(op).holds(x.Amount.Cmp(y.Amount)), nil
}

// moneyOp calculates with amounts: + - between two, * / with a number, / between two gives a number.
func moneyOp(a ...any) (any, error) {
	o := a[2].(string)
	x, isX := a[0].(hub.Money)
	y, isY := a[1].(hub.Money)
	if isX && isY {
		if x.IsZero() {
			x.Currency = y.Currency
		}
		if y.IsZero() {
			y.Currency = x.Currency
		}
		if x.Currency != y.Currency {
			return nil, moneyError(x, y, nil)
		}
		var d decimal.Decimal
		var err error
		switch o {
		case "+":
			d, err = x.Amount.Add(y.Amount)
		case "-":
			d, err = x.Amount.Sub(y.Amount)
		default:
			f, _ := x.Amount.Float64()
			g, _ := y.Amount.Float64()
			return f / g, nil
		}
		return hub.Money{Amount: d, Currency: x.Currency}, err
	}
	m, n := x, float(a[1])
	if isY {
		m, n = y, float(a[0])
	} else if !isX {
		return nil, nil // a missing amount stays missing
	}
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return nil, nil
	}
	factor, err := decimal.NewFromFloat64(n)
	if err != nil {
		return nil, err
	}
	if o == "/" {
		m.Amount, err = m.Amount.Quo(factor)
	} else {
		m.Amount, err = m.Amount.Mul(factor)
	}
	return m, err
}

func toMoney(n float64, currency string) (any, error) {
	d, err := decimal.NewFromFloat64(n)
	if err != nil {
		return nil, fmt.Errorf("%v is not an amount of money", n)
	}
	return hub.Money{Amount: d, Currency: currency}, nil
}

// index is list[i], nil outside of the list; negative numbers count from the end.
func index(a ...any) (any, error) {
	i := int(float(a[1]))
	at := func(n int) (int, bool) {
		if i < 0 {
			i += n
		}
		return i, i >= 0 && i < n
	}
	switch l := a[0].(type) {
	case []*fact.Entry:
		if i, ok := at(len(l)); ok {
			return l[i], nil
		}
	case []*fact.Object:
		if i, ok := at(len(l)); ok {
			return l[i], nil
		}
	case []string:
		if i, ok := at(len(l)); ok {
			return l[i], nil
		}
	case []any:
		if i, ok := at(len(l)); ok {
			return l[i], nil
		}
	}
	return nil, nil
}

// aggregate is sum, min, max, mean or median of a list; values that are missing are left out. Of an empty list sum is
// zero, the others are missing.
func aggregate(name string, list any, base Base) (any, error) {
	l, _ := list.([]any)
	present := make([]any, 0, len(l))
	for _, v := range l {
		if !missing(v) {
			present = append(present, v)
		}
	}
	if name == "sum" || name == "mean" {
		t := tally{}
		for _, v := range present {
			if err := t.add(v); err != nil {
				return nil, err
			}
		}
		if name == "sum" {
			return t.sum(base), nil
		}
		if t.n == 0 {
			return absent(base), nil
		}
		switch base {
		case Money:
			return moneyOp(t.money, t.n, "/")
		case Duration:
			return spanOp(t.span, t.n, "/")
		}
		return t.number / float64(t.n), nil
	}
	if len(present) == 0 {
		return absent(base), nil
	}
	var failed error
	slices.SortStableFunc(present, func(a, b any) int {
		switch x := a.(type) {
		case hub.Money:
			y, _ := b.(hub.Money)
			if x.Currency != y.Currency {
				failed = moneyError(x, y, nil)
			}
			return x.Amount.Cmp(y.Amount)
		case time.Duration:
			return cmp.Compare(x, span(b))
		case instant:
			y, _ := b.(instant)
			return cmp.Compare(x, y)
		}
		return cmp.Compare(float(a), float(b))
	})
	if failed != nil {
		return nil, failed
	}
	switch name {
	case "min":
		return present[0], nil
	case "max":
		return present[len(present)-1], nil
	}
	mid := present[len(present)/2]
	if len(present)%2 == 1 {
		return mid, nil
	}
	return aggregate("mean", []any{present[len(present)/2-1], mid}, base)
}
