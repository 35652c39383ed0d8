package expression

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/stagewire/stagewire/internal/hub"
)

// Operators: what may stand on their sides, and which of our functions runs them.

func (c *checker) unary(n *ast.UnaryNode) term {
	t := c.elab(n.Node)
	if t.typ.Base == Unknown {
		return t
	}
	if n.Operator == "not" || n.Operator == "!" {
		if !c.want(n.Node, t, Bool, "not") {
			return term{node: &ast.NilNode{}}
		}
		return unaryTerm(n, "not", t)
	}
	if t.typ.Optional {
		return c.guard(n.Node, t)
	}
	switch {
	case n.Operator == "+" && (t.typ.Base == Number || t.typ.Base == Duration || t.typ.Base == Money):
		return t
	case t.typ.Base == Number:
		return unaryTerm(n, "-", t)
	case t.typ.Base == Duration:
		return call(n, t.typ, "$spanop", t.node, &ast.IntegerNode{Value: -1}, constant("*"))
	case t.typ.Base == Money:
		return call(n, t.typ, "$moneyop", t.node, &ast.IntegerNode{Value: -1}, constant("*"))
	}
	return c.fail(n, "", "%s cannot stand before %s", n.Operator, t.typ)
}

func unaryTerm(at ast.Node, operator string, t term) term {
	m := &ast.UnaryNode{Operator: operator, Node: t.node}
	m.SetLocation(at.Location())
	if t.typ.Base == Bool {
		m.SetType(boolType)
	}
	return term{node: m, typ: t.typ}
}

func binaryTerm(at ast.Node, operator string, l, r ast.Node, t Type) term {
	m := &ast.BinaryNode{Operator: operator, Left: l, Right: r}
	m.SetLocation(at.Location())
	if t.Base == Bool {
		m.SetType(boolType)
	}
	return term{node: m, typ: t}
}

// want reports whether t is surely of base; if not it says so.
func (c *checker) want(n ast.Node, t term, base Base, by string) bool {
	switch {
	case t.typ.Base == Unknown:
		return false
	case t.typ.Base != base:
		c.fail(n, wantHint(t.typ, base), "%s wants %s, not %s", by, baseNames[base], t.typ)
		return false
	case t.typ.Optional:
		c.guard(n, t)
		return false
	}
	return true
}

func wantHint(t Type, base Base) string {
	switch {
	case base == Duration && t.Base == Number:
		return "say a number of what: days(30), hours(12)"
	case t.Base == Fading:
		return "a score changes as time passes: compare it as it is"
	case base == Duration && t.Base == Business:
		return "compare the time since something with it: since(…) >= business_hours(8)"
	}
	return ""
}

// guard reports a value that may be missing where one is needed.
func (c *checker) guard(n ast.Node, t term) term {
	base := t.typ.Base
	if base == Fading {
		base = t.typ.fades
	}
	def := map[Base]string{Number: "0", Text: `""`, Money: "eur(0)", Bool: "false", List: "[]", Any: `""`}[base]
	s := "check it first: " + n.String() + " != nil and …"
	if def != "" {
		s = "say what counts then: " + n.String() + " ?? " + def
	}
	return c.fail(n, s, "%s may be missing", n.String())
}

func (c *checker) binary(n *ast.BinaryNode) term {
	switch n.Operator {
	case "and", "&&", "or", "||":
		return c.logic(n)
	case "??":
		return c.otherwise(n)
	case "..":
		return c.fail(n, rangeHint, "ranges are not supported")
	}
	l, r := c.elab(n.Left), c.elab(n.Right)
	if l.typ.Base == Unknown || r.typ.Base == Unknown {
		return term{node: &ast.NilNode{}}
	}
	switch n.Operator {
	case "==", "!=", "<", "<=", ">", ">=":
		return c.compare(n, l, r)
	case "in":
		return c.in(n, l, r)
	case "matches", "contains", "startsWith", "endsWith":
		if !c.want(n.Left, l, Text, n.Operator) || !c.want(n.Right, r, Text, n.Operator) {
			return term{node: &ast.NilNode{}}
		}
		if n.Operator == "matches" {
			s, ok := n.Right.(*ast.StringNode)
			if !ok {
				return c.fail(n.Right, "", "a pattern is written out, not calculated")
			}
			if len(s.Value) > maxPattern {
				return c.fail(n.Right, "a rule needs no more than a few words: say \"refund|return\"", "a pattern has at most %d characters", maxPattern)
			}
			re, err := regexp.Compile(s.Value)
			if err != nil {
				return c.fail(n.Right, "a pattern is a regular expression; to look for a text write contains", "the pattern is not understood: %s",
					strings.NewReplacer("error parsing regexp: ", "", "`", "").Replace(err.Error()))
			}
			return binaryTerm(n, "matches", l.node, &ast.StringNode{Value: re.String()}, boolean)
		}
		return binaryTerm(n, n.Operator, l.node, r.node, boolean)
	}
	return c.arithmetic(n, l, r)
}

func (c *checker) logic(n *ast.BinaryNode) term {
	isAnd := n.Operator == "and" || n.Operator == "&&"
	l := c.elab(n.Left)
	okL := c.want(n.Left, l, Bool, n.Operator)
	release := c.assume(n.Left, isAnd)
	r := c.elab(n.Right)
	release()
	okR := c.want(n.Right, r, Bool, n.Operator)
	if !okL || !okR {
		return term{node: &ast.NilNode{}}
	}
	return binaryTerm(n, n.Operator, l.node, r.node, boolean)
}

// assume notes what is known not to be nil where n holds (or, with holds false, where it does not).
func (c *checker) assume(n ast.Node, holds bool) (release func()) {
	var keys []string
	var walk func(ast.Node, bool)
	walk = func(n ast.Node, holds bool) {
		switch n := n.(type) {
		case *ast.UnaryNode:
			if n.Operator == "not" || n.Operator == "!" {
				walk(n.Node, !holds)
			}
		case *ast.BinaryNode:
			switch n.Operator {
			case "and", "&&":
				if holds {
					walk(n.Left, holds)
					walk(n.Right, holds)
				}
			case "or", "||":
				if !holds {
					walk(n.Left, holds)
					walk(n.Right, holds)
				}
			case "!=", "==":
				if (n.Operator == "!=") != holds {
					return
				}
				if _, ok := n.Right.(*ast.NilNode); ok {
					keys = append(keys, n.Left.String())
				} else if _, ok := n.Left.(*ast.NilNode); ok {
					keys = append(keys, n.Right.String())
				}
			}
		}
	}
	walk(n, holds)
	for _, k := range keys {
		c.sure[k]++
	}
	return func() {
		for _, k := range keys {
			if c.sure[k]--; c.sure[k] == 0 {
				delete(c.sure, k)
			}
		}
	}
}

// otherwise is left ?? right.
func (c *checker) otherwise(n *ast.BinaryNode) term {
	l, r := c.elab(n.Left), c.elab(n.Right)
	if l.typ.Base == Unknown || r.typ.Base == Unknown {
		return term{node: &ast.NilNode{}}
	}
	if l.typ.Base == Nil || r.typ.Base == Nil || l.typ.Base == namespace || r.typ.Base == namespace {
		return c.fail(n, "", "?? wants a value on both sides")
	}
	t, base := l.typ, Unknown
	switch {
	case l.typ.Base == Any:
		if !slices.Contains([]Base{Text, Number, Bool, List, Any}, r.typ.Base) {
			return c.fail(n.Right, "", "a trait cannot be %s", r.typ)
		}
		t, base = r.typ, r.typ.Base
		if base == Any {
			base = Unknown
		}
	case l.typ.Base == Fading && r.typ.Base == l.typ.fades: // it can still only be compared
	case l.typ.Base == Elapsed && r.typ.Base == Duration:
		return c.fail(n, "compare it as it is: never compares as false", "a time since something can only be compared")
	case !same(l.typ, r.typ):
		base := l.typ.Base
		if base == Fading {
			base = l.typ.fades
		}
		return c.fail(n.Right, "", "?? wants %s on both sides, not %s", baseNames[base], r.typ)
	}
	t.Optional = r.typ.Optional
	t.Enum, t.enum = nil, ""
	if s, ok := r.node.(*ast.StringNode); ok && (l.typ.Enum != nil || l.typ.enum != "") {
		t.enum = l.typ.enum
		if l.typ.Enum != nil {
			t.Enum = append(slices.Clone(l.typ.Enum), s.Value)
		}
	}
	t.clamped = l.typ.clamped && r.typ.clamped
	if l.typ.Base == Money && l.typ.Currency != r.typ.Currency {
		t.Currency = ""
	}
	return call(n, t, "$else", l.node, r.node, constant(base))
}

func (c *checker) compare(n *ast.BinaryNode, l, r term) term {
	o := ops[n.Operator]
	if l.typ.Base == Nil || r.typ.Base == Nil {
		return c.compareNil(n, o, l, r)
	}
	if l.typ.Optional {
		return c.guard(n.Left, l)
	}
	if r.typ.Optional {
		return c.guard(n.Right, r)
	}
	for _, side := range []struct {
		at ast.Node
		term
	}{{n.Left, l}, {n.Right, r}} {
		if k, ok := side.node.(*ast.ConstantNode); ok {
			if d, ok := k.Value.(time.Duration); ok && (d > maxWindow || d < -maxWindow) {
				return c.fail(side.at, "", "a span is at most 100 years long")
			}
		}
	}
	if t, ok := c.comparesFading(n, l, r, o); ok {
		return t
	}
	switch lb, rb := l.typ.Base, r.typ.Base; {
	case lb == Elapsed && rb == Duration:
		return call(n, boolean, "$elapsed", self(), l.node, r.node, constant(comparison{op: o, clamped: l.typ.clamped}))
	case lb == Duration && rb == Elapsed:
		return call(n, boolean, "$elapsed", self(), r.node, l.node, constant(comparison{op: o.mirror(), clamped: r.typ.clamped}))
	case lb == Elapsed && rb == Elapsed:
		return call(n, boolean, "$spans", self(), l.node, r.node, constant(comparison{op: o, clamped: l.typ.clamped, second: r.typ.clamped}))
	case lb == Elapsed && rb == Business:
		return call(n, boolean, "$business", self(), l.node, r.node, constant(comparison{op: o, clamped: l.typ.clamped}))
	case lb == Business && rb == Elapsed:
		return call(n, boolean, "$business", self(), r.node, l.node, constant(comparison{op: o.mirror(), clamped: r.typ.clamped}))
	case lb == Duration && rb == Duration:
		return call(n, boolean, "$span", l.node, r.node, constant(o))
	case lb == Instant && rb == Instant:
		return call(n, boolean, "$instant", l.node, r.node, constant(o))
	case lb == Money && rb == Money:
		if l.typ.Currency != "" && r.typ.Currency != "" && l.typ.Currency != r.typ.Currency {
			return c.fail(n, "compare amounts of one currency", "%s and %s cannot be compared", l.typ.Currency, r.typ.Currency)
		}
		return call(n, boolean, "$moneyis", l.node, r.node, constant(o))
	case lb == Number && rb == Number:
		if l.win != nil && r.win == nil {
			return call(n, boolean, "$countis", self(), constant(l.win.set), l.win.span, r.node, constant(o))
		}
		if r.win != nil && l.win == nil {
			return call(n, boolean, "$countis", self(), constant(r.win.set), r.win.span, l.node, constant(o.mirror()))
		}
		if t, ok := dialed(n, l, r, o); ok {
			return t
		}
		if o == ne {
			return call(n, boolean, "$num", l.node, r.node, constant(o))
		}
		return binaryTerm(n, n.Operator, l.node, r.node, boolean)
	case lb == Text && rb == Text:
		c.enum(l, n.Right)
		c.enum(r, n.Left)
		if o != eq && o != ne && (l.typ.Enum != nil || r.typ.Enum != nil) {
			return c.fail(n, "compare with ==, != or in", "%s has no order", cmp.Or(l.typ.enum, r.typ.enum, "a stage"))
		}
		if t, ok := dialed(n, l, r, o); ok {
			return t
		}
		return binaryTerm(n, n.Operator, l.node, r.node, boolean)
	case lb == Bool && rb == Bool && (o == eq || o == ne):
		return binaryTerm(n, n.Operator, l.node, r.node, boolean)
	}
	return c.fail(n, mismatchHint(l.typ, r.typ), "%s cannot be compared with %s", l.typ, r.typ)
}

func mismatchHint(l, r Type) string {
	pair := func(a, b Base) bool { return l.Base == a && r.Base == b || l.Base == b && r.Base == a }
	switch {
	case pair(Elapsed, Number), pair(Duration, Number):
		return "say a number of what: days(30), hours(12)"
	case pair(Money, Number):
		return "say which currency: eur(50), usd(50), money(\"50 CHF\")"
	case pair(Business, Number):
		return "say a number of what: business_hours(8)"
	case pair(Business, Duration):
		return "both sides count time in their own way: compare since(…) or .open_for with business_hours(8)"
	case pair(Fading, Number):
		return "score.value is an amount: compare it with eur(50)"
	case pair(Fading, Money):
		return "score.active and score.expected_orders are numbers"
	case pair(Entry, Duration), pair(Entry, Business):
		return "compare its .age"
	case pair(Entry, Money):
		return "compare its .amount"
	case pair(Instant, Duration):
		return "since(…) gives the time since a point in time"
	case pair(Elapsed, Text), pair(Duration, Text):
		return "write a length of time as days(90), without quotes"
	case pair(Text, Number) && len(l.Enum)+len(r.Enum) > 0:
		return "it is one of the texts " + strings.Join(append(slices.Clone(l.Enum), r.Enum...), ", ")
	case pair(Text, Number):
		return "numbers stand without quotes, texts in quotes"
	case pair(Instant, Text):
		return `write a date as date("2026-03-01")`
	case pair(List, Number):
		return "count(list) gives how many"
	}
	return ""
}

func (c *checker) compareNil(n *ast.BinaryNode, o op, l, r term) term {
	if o != eq && o != ne {
		return c.fail(n, "", "nil can only be compared with == and !=")
	}
	t, at := l, n.Left
	if l.typ.Base == Nil {
		t, at = r, n.Right
	}
	switch {
	case t.typ.Base == Nil || t.typ.Optional:
	case c.sure[at.String()] > 0:
	case t.typ.Base == Elapsed || t.typ.Base == Instant || t.typ.Base == Duration:
		return c.fail(at, `ask never("kind"), or compare it: never compares as false`, "%s is never nil", at.String())
	default:
		return c.fail(at, "leave the check out", "%s is never nil", at.String())
	}
	is := call(n, boolean, "$isnil", t.node)
	if o == ne {
		return unaryTerm(n, "not", is)
	}
	return is
}

// enum checks a literal against the only values the other side can have.
func (c *checker) enum(t term, literal ast.Node) {
	s, ok := literal.(*ast.StringNode)
	switch {
	case !ok:
	case t.typ.enum == "zone" && s.Value == "":
	case t.typ.enum == "zone":
		if _, err := hub.LoadZone(s.Value); err != nil {
			c.fail(literal, "", "%s", told(err))
		}
	case t.typ.Enum == nil || slices.Contains(t.typ.Enum, s.Value):
	case t.typ.enum == "weekday":
		c.fail(literal, "", "%q is no day of the week: %s", s.Value, strings.Join(t.typ.Enum, ", "))
	default:
		c.unknown(literal, cmp.Or(t.typ.enum, "stage"), s.Value, t.typ.Enum)
	}
}

func (c *checker) in(n *ast.BinaryNode, l, r term) term {
	if l.typ.Optional {
		return c.guard(n.Left, l)
	}
	if r.typ.Optional {
		return c.guard(n.Right, r)
	}
	if r.typ.Base != List {
		suggestion := ""
		if s, ok := n.Right.(*ast.StringNode); ok {
			suggestion = fmt.Sprintf("write in [%q]", s.Value)
		}
		return c.fail(n.Right, suggestion, "in wants a list, not %s", r.typ)
	}
	switch l.typ.Base {
	case Text, Number, Bool:
	default:
		return c.fail(n.Left, "", "%s cannot be looked up in a list", l.typ)
	}
	if r.typ.Elem != nil && !same(l.typ, *r.typ.Elem) {
		return c.fail(n, "", "%s is never in %s", l.typ, r.typ)
	}
	if list, ok := n.Right.(*ast.ArrayNode); ok {
		for _, item := range list.Nodes {
			c.enum(l, item)
		}
	}
	if l.dial != nil && l.typ.Base != Unknown {
		return call(n, boolean, "$dialin", self(), constant(l.dial), r.node)
	}
	return binaryTerm(n, "in", l.node, r.node, boolean)
}

func (c *checker) arithmetic(n *ast.BinaryNode, l, r term) term {
	if l.typ.Optional {
		return c.guard(n.Left, l)
	}
	if r.typ.Optional {
		return c.guard(n.Right, r)
	}
	o := n.Operator
	lb, rb := l.typ.Base, r.typ.Base
	plus := o == "+" || o == "-"
	times := o == "*" || o == "/"
	switch {
	case lb == Number && rb == Number && (plus || times || o == "%" || o == "**" || o == "^"):
		return binaryTerm(n, o, l.node, r.node, Type{Base: Number})
	case lb == Text && rb == Text && o == "+":
		return binaryTerm(n, o, l.node, r.node, Type{Base: Text})
	case lb == Duration && rb == Duration && plus, lb == Duration && rb == Number && times, lb == Number && rb == Duration && o == "*":
		return call(n, Type{Base: Duration}, "$spanop", l.node, r.node, constant(o))
	case lb == Duration && rb == Duration && o == "/":
		return call(n, Type{Base: Number}, "$spanop", l.node, r.node, constant(o))
	case lb == Money && rb == Money && (plus || o == "/"):
		if l.typ.Currency != "" && r.typ.Currency != "" && l.typ.Currency != r.typ.Currency {
			return c.fail(n, "", "%s and %s never add up", l.typ.Currency, r.typ.Currency)
		}
		t := Type{Base: Money, Currency: l.typ.Currency}
		if o == "/" {
			t = Type{Base: Number}
		}
		return call(n, t, "$moneyop", l.node, r.node, constant(o))
	case lb == Money && rb == Number && times:
		return call(n, l.typ, "$moneyop", l.node, r.node, constant(o))
	case lb == Number && rb == Money && o == "*":
		return call(n, r.typ, "$moneyop", l.node, r.node, constant(o))
	case lb == Business && rb == Number && times, lb == Number && rb == Business && o == "*":
		return call(n, Type{Base: Business}, "$businessop", l.node, r.node, constant(o))
	case lb == Fading || rb == Fading:
		return c.fail(n, "calculate on the other side: (score.value ?? eur(0)) >= 2 * eur(50)", "a score changes as time passes and can only be compared")
	case lb == Elapsed || rb == Elapsed:
		return c.fail(n, "calculate on the other side: since(…) >= 2 * days(30)", "a time since something can only be compared")
	}
	return c.fail(n, mismatchHint(l.typ, r.typ), "%s and %s do not go together with %s", l.typ, r.typ, o)
}
