package lint

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// search runs the model's tests and sends made-up customers through the model and reports the rules that none of them reaches.
func (l *linter) search() {
	missing := map[int]bool{}
	for i, r := range l.rules {
		closed := len(r.From) > 0 && !slices.ContainsFunc(r.From, func(s string) bool { return l.reached[s] })
		if !r.dead && !closed && !l.doubted(i) {
			missing[i] = true
		}
	}
	for i := range l.m.Tests { // what a test shows needs no search
		l.m.Tests[i].Watch(l.m, func(at lifecycle.Moment) { delete(missing, at.After.Rule) })
	}
	if l.m.Of != hub.SubjectCustomer {
		return // a deal's or company's events are not made up like a customer's
	}
	g := l.generator()
	made := 0
	for ; made < l.opts.Customers && len(missing) > 0; made++ {
		g.customer(missing)
	}
	for _, i := range slices.Sorted(maps.Keys(missing)) {
		r := l.rules[i]
		l.report(checkUnreached, r.Line, l.ruleColumn(i), fmt.Sprintf("decide[%d]", i), "show by a test that it can be reached, or mend it",
			"no customer out of %d made up reached this rule: either a rule above holds before it, or its condition hardly ever does", made)
	}
}

// doubted reports whether something has been said of the rule's condition that would keep it from being reached.
func (l *linter) doubted(i int) bool {
	return slices.ContainsFunc(l.findings, func(f Finding) bool {
		return (f.Check == checkScale || f.Check == checkConstant) && f.Path == fmt.Sprintf("decide[%d].when", i)
	})
}

// generator makes up customers from the words of a model.
type generator struct {
	*linter
	dice *rand.Rand

	kinds   []string             // those conditions name, some several times
	words   map[string][]string  // texts by property or trait
	numbers map[string][]float64 // thresholds by property or trait
	amounts []hub.Money
	spans   []time.Duration
	models  map[string][]string
	often   int // the greatest number of events a condition asks for
}

// generator returns one whose dice depend on the model's name alone.
func (l *linter) generator() *generator {
	h := fnv.New64a()
	h.Write([]byte(l.m.Name))
	g := &generator{linter: l, dice: rand.New(rand.NewPCG(h.Sum64(), 1)), words: map[string][]string{}, numbers: map[string][]float64{}}
	g.learn()
	return g
}

// learn takes from the conditions what customers can have to do with them.
func (g *generator) learn() {
	g.models, g.often = map[string][]string{}, 2
	for _, v := range g.params {
		g.constantSeen("", v)
	}
	for _, c := range g.conditions() {
		node := c.node
		ast.Walk(&node, g)
	}
	// Kinds that conditions only reach through groups and objects come in too, less often.
	g.kinds = append(g.kinds, slices.DeleteFunc(slices.Clone(g.m.Reads()), func(k string) bool {
		kind, _ := g.opts.Kinds.Lookup(k)
		return kind.Group == hub.GroupStage || kind.Group == hub.GroupSystem
	})...)
	if g.m.ReadsTraits() || len(g.kinds) == 0 {
		g.kinds = append(g.kinds, "customer.updated")
	}
	if len(g.spans) == 0 {
		g.spans = []time.Duration{24 * time.Hour}
	}
	slices.Sort(g.spans)
	g.spans = slices.Compact(g.spans)
	for _, model := range g.m.UsesModels() {
		g.models[model] = append(g.models[model], g.opts.Stages[model]...)
	}
}

// Visit implements ast.Visitor.
func (g *generator) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.StringNode:
		if _, ok := g.opts.Kinds.Lookup(n.Value); ok {
			g.kinds = append(g.kinds, n.Value, n.Value, n.Value, n.Value)
		} else if list := g.opts.Kinds.Of(n.Value); len(list) > 0 {
			g.kinds = append(g.kinds, list[g.dice.IntN(len(list))])
		}
	case *ast.CallNode:
		if v, ok := g.constant(n); ok {
			g.constantSeen("", v)
		}
		if id, ok := n.Callee.(*ast.IdentifierNode); ok && (id.Value == "nps" || id.Value == "csat" || id.Value == "ces") {
			g.kinds = append(g.kinds, "survey.answered", "survey.answered")
			g.words["metric"] = append(g.words["metric"], id.Value)
		}
	case *ast.BinaryNode:
		if _, left, v, ok := g.sides(n); ok {
			name := g.subject(left, 0)
			if space, model, ok := strings.Cut(name, "."); ok && space == "stages" {
				g.models[model] = append(g.models[model], v.text)
			}
			g.constantSeen(name, v)
			if v.kind == 'n' && v.n > float64(g.often) && v.n <= 200 {
				g.often = int(v.n)
			}
			return
		}
		if n.Operator == "in" || n.Operator == "contains" || n.Operator == "startsWith" || n.Operator == "endsWith" {
			if v, ok := g.constant(n.Right); ok {
				g.constantSeen(g.subject(n.Left, 0), v)
			}
			if v, ok := g.constant(n.Left); ok && v.kind == 't' {
				g.constantSeen(g.subject(n.Right, 0), v)
			}
		}
	}
}

// subject names what an expression is about: the last name behind a dot, with its space for stages. depth counts the named
// conditions it stands in.
func (g *generator) subject(n ast.Node, depth int) string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if d, ok := g.defines[n.Value]; ok && depth < 20 {
			return g.subject(parse(d.Text), depth+1)
		}
	case *ast.MemberNode:
		if space, ok := n.Node.(*ast.IdentifierNode); ok && space.Value == "stages" {
			return "stages." + property(n)
		}
		return property(n)
	case *ast.BinaryNode:
		return g.subject(n.Left, depth)
	case *ast.ChainNode:
		return g.subject(n.Node, depth)
	case *ast.PredicateNode:
		return g.subject(n.Node, depth)
	case *ast.CallNode:
		if len(n.Arguments) > 0 {
			return g.subject(n.Arguments[0], depth)
		}
	case *ast.BuiltinNode:
		if len(n.Arguments) > 0 {
			return g.subject(n.Arguments[len(n.Arguments)-1], depth)
		}
	}
	return ""
}

func (g *generator) constantSeen(name string, v value) {
	switch v.kind {
	case 'd':
		if d := time.Duration(v.n) * time.Millisecond; d > 0 && d < 20*365*24*time.Hour {
			g.spans = append(g.spans, d)
		}
	case 'm':
		if d, err := decimal.NewFromFloat64(v.n); err == nil {
			g.amounts = append(g.amounts, hub.Money{Amount: d, Currency: v.text})
		}
	case 'n':
		g.numbers[name] = append(g.numbers[name], v.n)
	case 't':
		g.words[name] = append(g.words[name], v.text)
	case 'l':
		g.words[name] = append(g.words[name], v.list...)
	}
}

// pick takes one at random.
func pick[T any](g *generator, from []T) T { return from[g.dice.IntN(len(from))] }

// customer makes up one and takes the rules that decide her out of missing.
func (g *generator) customer(missing map[int]bool) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.dice.IntN(365*24)) * time.Hour)
	stages := map[string]string{}
	for _, model := range slices.Sorted(maps.Keys(g.models)) {
		stages[model] = pick(g, append([]string{""}, g.models[model]...))
	}
	// A few kinds make up one customer's life, so that rare ones come together.
	mine := make([]string, 1+g.dice.IntN(4))
	for i := range mine {
		mine[i] = pick(g, g.kinds)
	}
	var p fact.Profile
	st := g.m.Initial(at.Add(-hub.Resolution))
	// With no event at all the initial decision is what somebody gets.
	delete(missing, st.Rule)
	ids := 0
	for n := 1 + g.dice.IntN(8); n > 0; n-- {
		kind := pick(g, mine)
		if g.dice.IntN(6) == 0 {
			kind = pick(g, g.kinds)
		}
		times := 1
		if g.dice.IntN(3) == 0 {
			times += g.dice.IntN(g.often + 1)
		}
		for range times {
			ids++
			ev := g.event(kind, at, ids)
			p.Put(&ev)
			at = at.Add(g.gap(times > 1))
		}
		facts := fact.Union(&p)
		for _, instant := range []time.Time{facts.LastEventAt(), at.Add(-hub.Resolution)} {
			if instant.Before(facts.LastEventAt()) {
				continue
			}
			st, _ = g.m.Decide(facts, stages, st, instant)
			delete(missing, st.Rule)
			for wakes := 0; wakes < 50 && !st.WakesAt.IsZero() && st.WakesAt.Before(at); wakes++ {
				st, _ = g.m.Decide(facts, stages, st, st.WakesAt)
				delete(missing, st.Rule)
			}
		}
		if len(missing) == 0 {
			return
		}
	}
	facts := fact.Union(&p)
	for wakes := 0; wakes < 50 && !st.WakesAt.IsZero(); wakes++ {
		st, _ = g.m.Decide(facts, stages, st, st.WakesAt)
		delete(missing, st.Rule)
	}
}

// gap is how long nothing happens: a part of a length of time that conditions name, or somewhat more than one.
func (g *generator) gap(burst bool) time.Duration {
	d := pick(g, g.spans)
	switch n := g.dice.IntN(10); {
	case burst && n < 8:
		return d / time.Duration(g.often+2+g.dice.IntN(20))
	case n < 3:
		return d / time.Duration(2+g.dice.IntN(10))
	case n < 5:
		return d - time.Hour
	case n < 8:
		return d + time.Duration(g.dice.IntN(48))*time.Hour
	}
	return time.Duration(1+g.dice.IntN(72)) * time.Hour
}

func (g *generator) event(kind string, at time.Time, n int) hub.Event {
	at = at.Truncate(hub.Resolution)
	k, _ := g.opts.Kinds.Lookup(kind)
	ev := hub.Event{ID: "made-" + strconv.Itoa(n), Kind: kind, Connection: "test", OccurredAt: at, ReceivedAt: at, Properties: map[string]any{}}
	for _, name := range slices.Sorted(maps.Keys(k.Properties)) {
		if name == "id" {
			ev.Properties["id"] = g.object(n)
			continue
		}
		if v := g.value(name, k.Properties[name], at); v != nil {
			ev.Properties[name] = v
		}
	}
	if kind == "survey.answered" {
		g.answer(&ev)
	}
	if g.m.ReadsTraits() {
		for _, name := range append(slices.Sorted(maps.Keys(g.words)), slices.Sorted(maps.Keys(g.numbers))...) {
			if name == "" || g.dice.IntN(2) == 0 {
				continue
			}
			var v any
			switch {
			case name == "tags":
				v = []string{pick(g, g.words[name])}
			case len(g.words[name]) > 0:
				v = pick(g, g.words[name])
			default:
				v = g.number(name)
			}
			ev.Traits = append(ev.Traits, hub.Trait{Name: name, Value: v, At: at})
		}
	}
	return ev
}

// object names an order, ticket, …: mostly a new one, else one of before, so that it is refunded, solved, won.
func (g *generator) object(n int) string {
	if g.dice.IntN(2) == 0 && n > 1 {
		return strconv.Itoa(1 + g.dice.IntN(n))
	}
	return strconv.Itoa(n)
}

func (g *generator) answer(ev *hub.Event) {
	metric := "nps"
	if list := g.words["metric"]; len(list) > 0 {
		metric = pick(g, list)
	}
	ev.Properties["metric"] = metric
	switch metric {
	case "nps":
		ev.Properties["score"] = float64(g.dice.IntN(11))
	default:
		ev.Properties["score"] = float64(1 + g.dice.IntN(7))
		if g.dice.IntN(4) == 0 {
			ev.Properties["score"] = float64(10 * g.dice.IntN(11))
		}
	}
}

func (g *generator) number(name string) float64 {
	from := g.numbers[name]
	if len(from) == 0 || g.dice.IntN(4) == 0 {
		return float64(g.dice.IntN(100))
	}
	return pick(g, from) + float64(g.dice.IntN(5)-2)
}

func (g *generator) value(name string, t hub.PropertyType, at time.Time) any {
	if g.dice.IntN(8) == 0 {
		return nil
	}
	switch t {
	case hub.Text:
		if list := g.words[name]; len(list) > 0 && g.dice.IntN(5) > 0 {
			return pick(g, list)
		}
		return "other"
	case hub.Texts:
		if list := g.words[name]; len(list) > 0 {
			return []string{pick(g, list)}
		}
		return []string{"other"}
	case hub.Number:
		return g.number(name)
	case hub.Bool:
		return g.dice.IntN(2) == 0
	case hub.Time:
		return at.Add(pick(g, g.spans)).Truncate(hub.Resolution)
	case hub.Amount:
		amount := hub.Money{Currency: "EUR"}
		amount.Amount, _ = decimal.New(int64(1+g.dice.IntN(20_000)), 2)
		if len(g.amounts) > 0 {
			amount = pick(g, g.amounts)
			factor, _ := decimal.New(int64(pick(g, []int{2, 5, 10, 11, 20, 30})), 1)
			if product, err := amount.Amount.Mul(factor); err == nil {
				amount.Amount = product
			}
		}
		return amount
	}
	return nil
}
