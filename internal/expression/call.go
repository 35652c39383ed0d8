package expression

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/stagewire/stagewire/internal/hub"
)

// function checks a call.
func (c *checker) function(n ast.Node, name string, args []ast.Node) term {
	if f, ok := library[name]; ok {
		return f.check(c, n, args)
	}
	if name == "now" {
		return c.fail(n, `compare since("kind") or .age with a duration`, "now() is not available: the result would change at every instant")
	}
	return c.unknown(n, "function", name, slices.Sorted(maps.Keys(library)))
}

// arity reports a wrong number of arguments.
func (c *checker) arity(n ast.Node, name string, args []ast.Node, least, most int) bool {
	if len(args) >= least && len(args) <= most {
		return true
	}
	what := "too few"
	if len(args) > most {
		what = "too many"
	}
	suggestion := "write " + library[name].Signature
	if len(args) == most+1 && most == 1 && bothWritten(args[len(args)-2:]) {
		suggestion = "write large numbers without a comma: 1000, and parts with a point: 0.5"
	}
	c.fail(n, suggestion, "%s arguments for %s", what, name)
	return false
}

// bothWritten reports whether all are numbers that are written out.
func bothWritten(args []ast.Node) bool {
	return !slices.ContainsFunc(args, func(n ast.Node) bool { _, ok := literal(n); return !ok })
}

// kind returns what a literal names; nil, with a report, if it names nothing.
func (c *checker) kind(n ast.Node) *kindSet {
	s, ok := unwrap(n).(*ast.StringNode)
	if !ok {
		c.elab(n)
		c.fail(n, `name a kind or group: "order.paid", "service", "any"`, "a kind is written out in quotes")
		return nil
	}
	k := set(c.env.Kinds, s.Value)
	if k == nil {
		c.unknownKind(s)
		return nil
	}
	c.read(k.kinds...)
	return k
}

// unknownKind reports a kind that there is not, with what was probably meant: by its letters, its other names, its last word.
func (c *checker) unknownKind(s *ast.StringNode) {
	c.unknown(s, "event kind", s.Value, kindNames(c.env.Kinds))
	if last := &c.problems[len(c.problems)-1]; last.Suggestion == "" {
		last.Suggestion = KindHint(s.Value, c.env.Kinds)
	}
}

// KindHint tells what a word that is no kind was probably meant to be.
func KindHint(word string, kinds *hub.Kinds) string {
	names := kindNames(kinds)
	if near := closest(word, names); near != "" {
		return didYouMean(near)
	}
	if meant := otherNames[strings.ToLower(strings.TrimSpace(word))]; meant != "" {
		return didYouMean(meant)
	}
	object, verb, _ := strings.Cut(word, ".")
	var like []string
	for _, name := range names {
		if kind, ok := kinds.Lookup(name); ok && kind.Group != hub.GroupStage {
			o, v, _ := strings.Cut(name, ".")
			if o == object || v == word || verb != "" && v == verb {
				like = append(like, name)
			}
		}
	}
	slices.SortStableFunc(like, func(a, b string) int { // those about the same thing first
		return map[bool]int{true: 0, false: 1}[strings.HasPrefix(a, object+".")] - map[bool]int{true: 0, false: 1}[strings.HasPrefix(b, object+".")]
	})
	if len(like) > 0 {
		return didYouMean(strings.Join(like[:min(len(like), 3)], " or "))
	}
	return "`stagewire events` lists them"
}

// otherNames are what vendors and people call kinds.
var otherNames = map[string]string{
	"order.created": "order.placed", "checkout.created": "cart.updated", "checkout.updated": "cart.updated", "checkout.expired": "cart.abandoned",
	"contact.created": "customer.created", "contact.updated": "customer.updated", "csat.received": "survey.answered", "nps.received": "survey.answered",
	"stage.changed": "stage.set", "channel.followed": "social.followed", "channel.unfollowed": "social.unfollowed", "conversation.started": "chat.started",
	"purchase": "order.paid", "order": "order.paid", "sale": "order.paid", "payment": "order.paid", "buy": "order.paid", "refund": "order.refunded",
	"signup": "customer.created", "registration": "customer.created", "complaint": "complaint.raised", "ticket": "ticket.opened",
	"visit": "page.viewed", "review": "review.posted", "referral": "referral.made", "survey": "survey.answered", "newsletter": "list.joined",
}

// standing is kind for those who ask how often or when: a refunded or cancelled order was no order.
func (c *checker) standing(n ast.Node) *kindSet {
	k := c.kind(n)
	if k != nil && k.name == "order.paid" {
		k.standing = true
		c.readOrders()
	}
	return k
}

func isKind(n ast.Node) bool {
	_, ok := unwrap(n).(*ast.StringNode)
	return ok
}

func unwrap(n ast.Node) ast.Node {
	if p, ok := n.(*ast.PredicateNode); ok {
		return p.Node
	}
	return n
}

// window checks a length of time to look back over.
func (c *checker) window(n ast.Node) (ast.Node, bool) {
	t := c.elab(n)
	if !c.want(n, t, Duration, "a window") {
		return nil, false
	}
	return t.node, c.windowLength(n, t.node)
}

func (c *checker) windowLength(n, node ast.Node) bool {
	if k, ok := node.(*ast.ConstantNode); ok {
		switch d, _ := k.Value.(time.Duration); {
		case d <= 0:
			c.fail(n, "", "a window is longer than nothing")
			return false
		case d > maxWindow:
			c.fail(n, "leave the window out to look at everything", "a window is at most 100 years long")
			return false
		}
	}
	return true
}

// source checks the first argument of count, any, sum, …: a kind gives its events, anything else must be a list.
func (c *checker) source(n ast.Node, standing bool) (list term, k *kindSet, ok bool) {
	if isKind(n) {
		if standing {
			k = c.standing(n)
		} else {
			k = c.kind(n)
		}
		if k == nil {
			return term{}, nil, false
		}
		return call(n, listOf(Type{Base: Entry, Kinds: k}), "$list", self(), constant(k)), k, true
	}
	list = c.elab(n)
	if !c.want(n, list, List, "this") {
		return term{}, nil, false
	}
	return list, nil, true
}

// over checks the predicate or expression of such a call. Of paid orders it sees the refunded ones only if it asks about them.
func (c *checker) over(n ast.Node, list term, k *kindSet) term {
	if list.typ.Elem == nil {
		return c.fail(n, "", "the list is empty")
	}
	saw := c.sawOrder
	c.sawOrder = false
	t := c.predicate(n, *list.typ.Elem)
	if c.sawOrder && k != nil {
		k.standing = false
	}
	c.sawOrder = saw
	return t
}

func builtinTerm(n ast.Node, name string, t Type, args ...ast.Node) term {
	for i := 1; i < len(args); i++ {
		args[i] = &ast.PredicateNode{Node: args[i]}
	}
	b := &ast.BuiltinNode{Name: name, Arguments: args}
	b.SetLocation(n.Location())
	if t.Base == Bool && !t.Optional {
		b.SetType(boolType)
	}
	return term{node: b, typ: t}
}

var nothing = term{node: &ast.NilNode{}}

func (c *checker) count(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "count", args, 1, 2) {
		return nothing
	}
	list, k, ok := c.source(args[0], true)
	number := Type{Base: Number}
	if len(args) == 1 {
		switch {
		case !ok:
			return nothing
		case k != nil:
			return intTerm(call(n, number, "$count", self(), constant(k)))
		case list.typ.Elem != nil && list.typ.Elem.Base != Bool:
			return builtinCall(n, "len", number, list.node)
		}
		return builtinTerm(n, "count", number, list.node)
	}
	if !ok {
		// The kind is unknown: whatever the predicate says of its fields would be a second report of one mistake.
		return nothing
	}
	t := c.over(args[1], list, k)
	if k != nil && t.typ.Base == Duration && !t.typ.Optional {
		if !c.windowLength(args[1], t.node) {
			return nothing
		}
		w := intTerm(call(n, number, "$countin", self(), constant(k), t.node))
		w.win = &windowed{k, t.node}
		return w
	}
	if k != nil && t.typ.Base == Number {
		return c.fail(unwrap(args[1]), "say a number of what: days(30), hours(12)", "count wants a window or a predicate, not %s", t.typ)
	}
	if !c.want(unwrap(args[1]), t, Bool, "a predicate") {
		return nothing
	}
	return builtinTerm(n, "count", number, list.node, t.node)
}

func intTerm(t term) term { t.node.SetType(intType); return t }

func builtinCall(n ast.Node, name string, t Type, args ...ast.Node) term {
	b := &ast.BuiltinNode{Name: name, Arguments: args}
	b.SetLocation(n.Location())
	return term{node: b, typ: t}
}

// listed checks (kind or list, predicate or expression).
func (c *checker) listed(n ast.Node, name string, args []ast.Node) (list, body term, k *kindSet, ok bool) {
	if !c.arity(n, name, args, 2, 2) {
		return term{}, term{}, nil, false
	}
	if list, k, ok = c.source(args[0], true); !ok {
		return term{}, term{}, nil, false
	}
	body = c.over(args[1], list, k)
	return list, body, k, body.typ.Base != Unknown
}

func quantifier(name string) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		list, body, _, ok := c.listed(n, name, args)
		if !ok || !c.want(unwrap(args[1]), body, Bool, "a predicate") {
			return nothing
		}
		return builtinTerm(n, name, boolean, list.node, body.node)
	}
}

func finder(name string) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		list, body, _, ok := c.listed(n, name, args)
		if !ok || !c.want(unwrap(args[1]), body, Bool, "a predicate") {
			return nothing
		}
		if name == "findLast" {
			// expr's own findLast leaves a value on the machine's stack for each item it passes (1.17.8), which
			// shifts the arguments of an enclosing call.
			found := builtinTerm(n, "filter", list.typ, list.node, body.node)
			return call(n, optional(*list.typ.Elem), "$index", found.node, constant(-1))
		}
		return builtinTerm(n, name, optional(*list.typ.Elem), list.node, body.node)
	}
}

func (c *checker) filter(n ast.Node, args []ast.Node) term {
	list, body, _, ok := c.listed(n, "filter", args)
	if !ok || !c.want(unwrap(args[1]), body, Bool, "a predicate") {
		return nothing
	}
	return builtinTerm(n, "filter", list.typ, list.node, body.node)
}

func (c *checker) mapping(n ast.Node, args []ast.Node) term {
	list, body, _, ok := c.listed(n, "map", args)
	if !ok {
		return nothing
	}
	switch body.typ.Base {
	case Elapsed, Fading, namespace, Nil, Any:
		return c.fail(unwrap(args[1]), "", "%s cannot be in a list", body.typ)
	}
	elem := body.typ.sure() // aggregates leave missing values out; items of the list are optional anyway
	if body.typ.Optional && elem.Base != Money && elem.Base != Number {
		return c.guard(unwrap(args[1]), body)
	}
	return builtinTerm(n, "map", listOf(elem), list.node, body.node)
}

func presence(ever, in string) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		if !c.arity(n, strings.TrimPrefix(ever, "$"), args, 1, 2) {
			return nothing
		}
		k := c.standing(args[0])
		if len(args) == 1 {
			if k == nil {
				return nothing
			}
			return call(n, boolean, ever, self(), constant(k))
		}
		w, ok := c.window(args[1])
		if k == nil || !ok {
			return nothing
		}
		return call(n, boolean, in, self(), constant(k), w)
	}
}

func (c *checker) within(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "within", args, 2, 2) {
		return nothing
	}
	return presence("$ever", "$within")(c, n, args)
}

func ends(whole, in string, i int) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		if !c.arity(n, strings.TrimPrefix(whole, "$"), args, 1, 2) {
			return nothing
		}
		if !isKind(args[0]) && len(args) == 1 {
			list := c.elab(args[0])
			if !c.want(args[0], list, List, "this") || list.typ.Elem == nil {
				return nothing
			}
			return call(n, optional(*list.typ.Elem), "$index", list.node, constant(i))
		}
		k := c.standing(args[0])
		if len(args) == 1 {
			if k == nil {
				return nothing
			}
			return call(n, optional(Type{Base: Entry, Kinds: k}), whole, self(), constant(k))
		}
		w, ok := c.window(args[1])
		if k == nil || !ok {
			return nothing
		}
		return call(n, optional(Type{Base: Entry, Kinds: k}), in, self(), constant(k), w)
	}
}

func (c *checker) since(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "since", args, 1, 1) {
		return nothing
	}
	if isKind(args[0]) {
		k := c.standing(args[0])
		if k == nil {
			return nothing
		}
		return call(n, Type{Base: Elapsed, clamped: true}, "$last", self(), constant(k))
	}
	t := c.elab(args[0])
	switch t.typ.Base {
	case Unknown:
		return nothing
	case Instant:
		return call(n, Type{Base: Elapsed}, "$at", t.node)
	case Entry:
		return term{node: t.node, typ: Type{Base: Elapsed, clamped: true}}
	}
	return c.fail(args[0], `name a kind: since("order.paid")`, "since wants a kind or a point in time, not %s", t.typ)
}

func (c *checker) events(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "events", args, 1, 2) {
		return nothing
	}
	k := c.standing(args[0])
	if len(args) == 1 {
		if k == nil {
			return nothing
		}
		return call(n, listOf(Type{Base: Entry, Kinds: k}), "$list", self(), constant(k))
	}
	w, ok := c.window(args[1])
	if k == nil || !ok {
		return nothing
	}
	return call(n, listOf(Type{Base: Entry, Kinds: k}), "$listin", self(), constant(k), w)
}

func (c *checker) gap(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "usual_gap", args, 1, 1) {
		return nothing
	}
	k := c.standing(args[0])
	if k == nil {
		return nothing
	}
	return call(n, Type{Base: Duration}, "$gap", self(), constant(k))
}

func (c *checker) trend(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "trend", args, 2, 2) {
		return nothing
	}
	k := c.standing(args[0])
	w, ok := c.window(args[1])
	if k == nil || !ok {
		return nothing
	}
	return call(n, optional(Type{Base: Number}), "$trend", self(), constant(k), w)
}

func (c *checker) sum(n ast.Node, args []ast.Node) term {
	if len(args) == 1 && !isKind(args[0]) {
		return aggregated("sum")(c, n, args)
	}
	list, body, k, ok := c.listed(n, "sum", args)
	if !ok {
		return nothing
	}
	switch body.typ.Base {
	case Number, Money, Duration:
	default:
		return c.fail(unwrap(args[1]), "", "sum wants numbers or amounts, not %s", body.typ)
	}
	t := body.typ.sure()
	if get, ok := body.node.(*ast.CallNode); ok && k != nil && get.Callee.(*ast.IdentifierNode).Value == "$get" {
		if _, ok := get.Arguments[1].(*ast.PointerNode); ok {
			return call(n, t, "$sumfield", self(), constant(k), get.Arguments[2])
		}
	}
	mapped := builtinTerm(n, "map", listOf(t), list.node, body.node)
	return call(n, t, "$aggregate", constant("sum"), mapped.node, constant(t.Base))
}

// aggregated checks min, max, mean, median and sum of a list or of several values.
func aggregated(name string) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		if !c.arity(n, name, args, 1, 100) {
			return nothing
		}
		var list term
		if len(args) == 1 {
			list = c.elab(args[0])
			if s, ok := args[0].(*ast.StringNode); ok && set(c.env.Kinds, s.Value) != nil {
				return c.fail(s, fmt.Sprintf("say which value of each: %s(map(%q, .amount))", name, s.Value), "%s wants values, not events", name)
			}
			if !c.want(args[0], list, List, name) {
				return nothing
			}
		} else {
			a := &ast.ArrayNode{Nodes: args}
			a.SetLocation(n.Location())
			list = c.array(a)
		}
		if list.typ.Elem == nil {
			return nothing
		}
		elem := list.typ.Elem.sure()
		switch elem.Base {
		case Number, Money, Duration:
		case Instant:
			if name != "min" && name != "max" {
				return c.fail(n, "", "%s wants numbers, amounts or durations", name)
			}
		default:
			return c.fail(n, `pick a value of each: max(map("order.paid", .amount))`, "%s wants numbers, amounts or durations, not %s", name, list.typ)
		}
		return call(n, elem, "$aggregate", constant(name), list.node, constant(elem.Base))
	}
}

func (c *checker) length(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "len", args, 1, 1) {
		return nothing
	}
	t := c.elab(args[0])
	switch {
	case t.typ.Base == Unknown:
		return nothing
	case t.typ.Optional:
		return c.guard(args[0], t)
	case t.typ.Base != List && t.typ.Base != Text:
		return c.fail(args[0], "", "len wants a list or a text, not %s", t.typ)
	}
	return builtinCall(n, "len", Type{Base: Number}, t.node)
}

func (c *checker) text(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "string", args, 1, 1) {
		return nothing
	}
	t := c.elab(args[0])
	switch {
	case t.typ.Base == Unknown:
		return nothing
	case t.typ.Optional:
		return c.guard(args[0], t)
	case t.typ.Base != Number && t.typ.Base != Text && t.typ.Base != Bool && t.typ.Base != Money:
		return c.fail(args[0], "", "%s has no text", t.typ)
	}
	return builtinCall(n, "string", Type{Base: Text}, t.node)
}

// plain checks a builtin of expr that takes and gives one value.
func plain(name string, in, out Base) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		if !c.arity(n, name, args, 1, 1) {
			return nothing
		}
		t := c.elab(args[0])
		if !c.want(args[0], t, in, name) {
			return nothing
		}
		return builtinCall(n, name, Type{Base: out}, t.node)
	}
}

// unit checks days(n) and the like. A literal becomes a constant.
func unit(of time.Duration) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		if len(args) != 1 {
			return c.fail(n, "write days(30)", "a duration wants one number")
		}
		t := c.elab(args[0])
		if !c.want(args[0], t, Number, "a duration") {
			return nothing
		}
		if f, ok := literal(t.node); ok {
			return term{node: constant(length(f, of)), typ: Type{Base: Duration}}
		}
		return call(n, Type{Base: Duration}, "$time", t.node, constant(of))
	}
}

// literal returns the value of a number that is written out.
func literal(n ast.Node) (float64, bool) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return float64(n.Value), true
	case *ast.ConstantNode:
		switch v := n.Value.(type) {
		case float64:
			return v, true
		case int:
			return float64(v), true
		}
	case *ast.UnaryNode:
		if f, ok := literal(n.Node); ok && n.Operator == "-" {
			return -f, true
		}
	}
	return 0, false
}

func (c *checker) date(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "date", args, 1, 1) {
		return nothing
	}
	s, ok := args[0].(*ast.StringNode)
	if !ok {
		return c.fail(args[0], `write date("2026-03-01")`, "a date is written out in quotes")
	}
	t, ok := date(s.Value)
	if !ok {
		return c.fail(args[0], `write date("2026-03-01") or date("2026-03-01T10:00:00Z")`, "%q is not a date", s.Value)
	}
	return term{node: constant(instant(t.UnixMilli())), typ: Type{Base: Instant}}
}

func currency(code string) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		if !c.arity(n, strings.ToLower(code), args, 1, 1) {
			return nothing
		}
		t := c.elab(args[0])
		if !c.want(args[0], t, Number, strings.ToLower(code)) {
			return nothing
		}
		typ := Type{Base: Money, Currency: code}
		if f, ok := literal(t.node); ok {
			m, err := toMoney(f, code)
			if err != nil {
				return c.fail(args[0], "", "%s", err)
			}
			return term{node: constant(m), typ: typ}
		}
		return call(n, typ, "$money", t.node, constant(code))
	}
}

func (c *checker) money(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "money", args, 1, 1) {
		return nothing
	}
	s, ok := args[0].(*ast.StringNode)
	if !ok {
		return c.fail(args[0], `write money("15000 CNY")`, "an amount is written out in quotes")
	}
	m, ok := parseMoney(s.Value)
	if !ok {
		return c.fail(args[0], `write money("15000 CNY")`, "%q is not an amount of money", s.Value)
	}
	return term{node: constant(m), typ: Type{Base: Money, Currency: m.Currency}}
}

// parseMoney reads "40 EUR".
func parseMoney(s string) (hub.Money, bool) {
	amount, code, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok {
		return hub.Money{}, false
	}
	m, err := hub.ParseMoney(amount, code)
	return m, err == nil
}

func (c *checker) spent(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "spent", args, 1, 2) {
		return nothing
	}
	c.readOrders()
	s, ok := args[0].(*ast.StringNode)
	if !ok {
		return c.fail(args[0], `write spent("EUR")`, "a currency is written out in quotes")
	}
	if _, err := hub.ParseMoney("0", s.Value); err != nil || s.Value != strings.ToUpper(s.Value) {
		return c.fail(args[0], `write spent("EUR")`, "%q is not a currency", s.Value)
	}
	typ := Type{Base: Money, Currency: s.Value}
	if len(args) == 1 {
		return call(n, typ, "$spent", self(), constant(s.Value))
	}
	w, ok := c.window(args[1])
	if !ok {
		return nothing
	}
	return call(n, typ, "$spent", self(), constant(s.Value), w)
}

func metric(name string) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		if !c.arity(n, name, args, 0, 1) {
			return nothing
		}
		c.read("survey.answered")
		typ := optional(Type{Base: Number})
		if len(args) == 0 {
			return call(n, typ, "$survey", self(), constant(name))
		}
		w, ok := c.window(args[0])
		if !ok {
			return nothing
		}
		return call(n, typ, "$survey", self(), constant(name), w)
	}
}
