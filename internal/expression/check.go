package expression

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// Problem is one mistake in an expression.
type Problem struct {
	Offset     int // in characters from the start of the text
	Message    string
	Suggestion string
}

// term is a checked part of an expression: the node that runs it and its type.
type term struct {
	node ast.Node
	typ  Type
	// win is set for a bare count over a window, whose comparisons flip at an instant of their own.
	win *windowed
}

type windowed struct {
	set  *kindSet
	span ast.Node
}

// checker types an expression and rewrites it for the machine.
type checker struct {
	env      *Env
	problems []Problem
	scopes   []Type              // what . and # stand for, innermost last
	vars     []variable          // let
	sure     map[string]int      // expressions known not to be nil here
	reads    map[string]struct{} // kinds
	program  *Program
	sawOrder bool // .refunded or .cancelled was read off an event
}

type variable struct {
	name string
	typ  Type
}

func (c *checker) fail(n ast.Node, suggestion, format string, args ...any) term {
	c.problems = append(c.problems, Problem{Offset: n.Location().From, Message: fmt.Sprintf(format, args...), Suggestion: suggestion})
	return term{node: &ast.NilNode{}}
}

// unknown reports a name that is not there, with what was probably meant.
func (c *checker) unknown(n ast.Node, what, name string, candidates []string) term {
	return c.fail(n, didYouMean(closest(name, candidates)), "unknown %s %s", what, name)
}

func didYouMean(s string) string {
	if s == "" {
		return ""
	}
	return "did you mean " + s + "?"
}

// Emitting.

func self() ast.Node { return &ast.IdentifierNode{Value: "$env"} }

func constant(v any) ast.Node { return &ast.ConstantNode{Value: v} }

func call(at ast.Node, t Type, name string, args ...ast.Node) term {
	n := &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: args}
	n.SetLocation(at.Location())
	switch {
	case t.Optional:
	case t.Base == Bool:
		n.SetType(boolType)
	case t.Base == Text:
		n.SetType(textType)
	}
	return term{node: n, typ: t}
}

func (c *checker) read(kinds ...string) {
	for _, k := range kinds {
		c.reads[k] = struct{}{}
	}
}

// elab checks a node. It reports what it finds and goes on; what could not be typed is Unknown.
func (c *checker) elab(n ast.Node) term {
	t := c.elabNode(n)
	if t.typ.Optional && len(c.sure) > 0 && c.sure[n.String()] > 0 {
		t.typ.Optional = false
	}
	return t
}

func (c *checker) elabNode(n ast.Node) term {
	switch n := n.(type) {
	case *ast.NilNode:
		return term{node: &ast.NilNode{}, typ: Type{Base: Nil}}
	case *ast.BoolNode:
		m := &ast.BoolNode{Value: n.Value}
		m.SetType(boolType)
		return term{node: m, typ: boolean}
	case *ast.IntegerNode:
		m := &ast.IntegerNode{Value: n.Value}
		m.SetType(intType)
		return term{node: m, typ: Type{Base: Number}}
	case *ast.FloatNode:
		return term{node: constant(n.Value), typ: Type{Base: Number}}
	case *ast.StringNode:
		m := &ast.StringNode{Value: n.Value}
		m.SetType(textType)
		return term{node: m, typ: Type{Base: Text}}
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.ChainNode:
		return c.elab(n.Node)
	case *ast.MemberNode:
		return c.member(n)
	case *ast.PointerNode:
		return c.pointer(n)
	case *ast.PredicateNode:
		return c.elab(n.Node)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.ArrayNode:
		return c.array(n)
	case *ast.VariableDeclaratorNode:
		return c.let(n)
	case *ast.CallNode:
		id, ok := n.Callee.(*ast.IdentifierNode)
		if !ok {
			return c.fail(n, "", "only functions can be called")
		}
		return c.function(n, id.Value, n.Arguments)
	case *ast.BuiltinNode:
		return c.function(n, n.Name, n.Arguments)
	case *ast.SliceNode:
		return c.fail(n, "", "slices are not supported")
	case *ast.MapNode:
		return c.fail(n, "write conditions in block style, not inside { }", "maps are not supported")
	case *ast.SequenceNode:
		return c.fail(n, "join conditions with and, or", "; between expressions is not supported")
	}
	return c.fail(n, "", "not supported")
}

func (c *checker) identifier(n *ast.IdentifierNode) term {
	for i := len(c.vars) - 1; i >= 0; i-- {
		if c.vars[i].name == n.Value {
			return term{node: &ast.IdentifierNode{Value: n.Value}, typ: c.vars[i].typ}
		}
	}
	if p, ok := c.env.Defines[n.Value]; ok {
		return c.defined(n, p)
	}
	if slices.Contains(c.env.Vars, n.Value) {
		return call(n, Type{Base: Text}, "$var", self(), constant(n.Value))
	}
	switch n.Value {
	case "customer", "params", "stages", "fields":
		return term{node: &ast.NilNode{}, typ: Type{Base: namespace, name: n.Value}}
	case "orders", "tickets", "deals", "carts", "subscriptions", "tasks":
		object := strings.TrimSuffix(n.Value, "s")
		for _, k := range c.env.Kinds.All() {
			if k.Object == object {
				c.read(k.Name)
			}
		}
		return call(n, listOf(Type{Base: Object, Object: object}), "$objects", self(), constant(object))
	case "stage":
		if c.env.Stages == nil {
			return c.fail(n, "name the model: stages.<model>", "stage is not known here")
		}
		c.program.usesStage = true
		return call(n, Type{Base: Text, Enum: c.env.Stages}, "$stage", self())
	case "stage_age":
		if c.env.Stages == nil {
			return c.fail(n, "", "stage_age is not known here")
		}
		c.program.usesStage = true
		return call(n, Type{Base: Elapsed, clamped: true}, "$since", self())
	}
	if _, ok := c.env.Models[n.Value]; ok {
		return term{node: &ast.NilNode{}, typ: Type{Base: namespace, name: "model " + n.Value}}
	}
	if later[n.Value] {
		return c.fail(n, "", "%s is not supported yet", n.Value)
	}
	if n.Value == "event" {
		return c.fail(n, `look back with last("order.paid")`, "event is not visible in conditions")
	}
	names := []string{"customer", "params", "stages", "fields", "orders", "tickets", "deals", "carts", "subscriptions", "tasks", "stage", "stage_age"}
	names = slices.Concat(names, slices.Collect(maps.Keys(c.env.Defines)), slices.Collect(maps.Keys(c.env.Models)), c.env.Vars)
	if _, ok := library[n.Value]; ok {
		return c.fail(n, "write "+library[n.Value].Signature, "%s is a function and needs ( )", n.Value)
	}
	slices.Sort(names)
	return c.unknown(n, "name", n.Value, names)
}

func (c *checker) defined(n ast.Node, p *Program) term {
	c.read(p.Reads...)
	c.program.take(p)
	return call(n, p.Type, "$define", self(), constant(p))
}

func (c *checker) pointer(n *ast.PointerNode) term {
	if len(c.scopes) == 0 {
		return c.fail(n, "", outsidePredicate)
	}
	switch n.Name {
	case "":
		return term{node: &ast.PointerNode{}, typ: c.scopes[len(c.scopes)-1]}
	case "index":
		return term{node: &ast.PointerNode{Name: "index"}, typ: Type{Base: Number}}
	}
	return c.fail(n, "", "#%s is not supported", n.Name)
}

func (c *checker) member(n *ast.MemberNode) term {
	name, ok := n.Property.(*ast.StringNode)
	base := c.elab(n.Node)
	if !ok {
		return c.item(n, base)
	}
	if n.Method {
		return c.fail(n.Property, "", "%s is not a function", name.Value)
	}
	switch base.typ.Base {
	case Unknown:
		return term{node: &ast.NilNode{}}
	case namespace:
		return c.inNamespace(n, base.typ.name, name)
	case Entry, Object, Money:
		return c.field(n, base, name)
	case List:
		return c.fail(name, "look into it: any(list, ."+name.Value+" == …)", "a list has no field %s", name.Value)
	}
	return c.fail(name, "", "%s has no field %s", base.typ, name.Value)
}

func (c *checker) field(n ast.Node, base term, name *ast.StringNode) term {
	all := fieldsOf(base.typ, c.env.Kinds)
	f, ok := all[name.Value]
	if !ok {
		what := "field of " + base.typ.sure().String() + ":"
		return c.unknown(name, what, name.Value, slices.Sorted(maps.Keys(all)))
	}
	if base.typ.Base == Entry {
		if base.typ.Kinds.clash[name.Value] {
			return c.fail(name, "name one kind", "%s has another type in different kinds of %s", name.Value, base.typ.Kinds.name)
		}
		if name.Value == "refunded" || name.Value == "cancelled" {
			c.sawOrder = true
			c.readOrders()
		}
	}
	t := f.typ
	if base.typ.Optional {
		switch t.Base {
		case Elapsed, Instant, Duration: // never-values need no guard
		default:
			t.Optional = true
		}
	}
	if base.typ.Base == Entry && name.Value == "age" {
		return term{node: base.node, typ: t} // the event itself stands for the span since it
	}
	return call(name, t, "$get", self(), base.node, constant(f))
}

func (c *checker) readOrders() {
	for _, k := range c.env.Kinds.All() {
		if k.Object == "order" {
			c.read(k.Name)
		}
	}
}

func (c *checker) inNamespace(n ast.Node, space string, name *ast.StringNode) term {
	if model, ok := strings.CutPrefix(space, "model "); ok {
		if p, ok := c.env.Models[model].Defines[name.Value]; ok {
			return c.defined(n, p)
		}
		return c.unknown(name, "condition of model "+model+":", name.Value, slices.Sorted(maps.Keys(c.env.Models[model].Defines)))
	}
	switch space {
	case "customer":
		return c.customer(n, name)
	case "customer.consent":
		c.read("consent.changed")
		return call(n, optional(Type{Base: Text}), "$consent", self(), constant(name.Value))
	case "customer.traits":
		c.program.ReadsTraits = true
		return call(n, optional(Type{Base: Any}), "$trait", self(), constant(name.Value))
	case "params":
		v, ok := c.env.Params[name.Value]
		if !ok {
			return c.unknown(name, "parameter", name.Value, slices.Sorted(maps.Keys(c.env.Params)))
		}
		return v.term(name)
	case "stages":
		m, ok := c.env.Models[name.Value]
		if !ok {
			return c.unknown(name, "model", name.Value, slices.Sorted(maps.Keys(c.env.Models)))
		}
		if !slices.Contains(c.program.UsesModels, name.Value) {
			c.program.UsesModels = append(c.program.UsesModels, name.Value)
		}
		return call(n, Type{Base: Text, Enum: m.Stages}, "$stages", self(), constant(name.Value))
	case "fields":
		p, ok := c.env.Fields[name.Value]
		if !ok {
			return c.unknown(name, "field", name.Value, slices.Sorted(maps.Keys(c.env.Fields)))
		}
		c.program.ReadsTraits = true
		t := ofProperty(p)
		return call(n, optional(t), "$field", self(), constant(name.Value), constant(t.Base))
	}
	return c.fail(name, "", "unknown name %s", name.Value)
}

func (c *checker) customer(n ast.Node, name *ast.StringNode) term {
	names := []string{"consent", "traits"}
	for _, f := range customerFields {
		if f.name == name.Value {
			switch name.Value {
			case "created":
				c.read(c.env.Kinds.Of("any")...)
			case "tags":
				c.read("tag.added", "tag.removed")
				c.program.ReadsTraits = true
			default:
				c.program.ReadsTraits = true
			}
			return call(n, f.typ, "$person", self(), constant(f))
		}
		names = append(names, f.name)
	}
	switch name.Value {
	case "consent", "traits":
		return term{node: &ast.NilNode{}, typ: Type{Base: namespace, name: "customer." + name.Value}}
	case "referred", "companies":
		return c.fail(name, "", "customer.%s is not supported yet", name.Value)
	}
	return c.unknown(name, "field of customer:", name.Value, names)
}

// item is list[number].
func (c *checker) item(n *ast.MemberNode, base term) term {
	i := c.elab(n.Property)
	switch {
	case base.typ.Base == Unknown || i.typ.Base == Unknown:
		return term{node: &ast.NilNode{}}
	case base.typ.Base != List:
		return c.fail(n, "", "%s has no items", base.typ)
	case i.typ.Base != Number || i.typ.Optional:
		return c.fail(n.Property, "", "an item is named by its number, not by %s", i.typ)
	}
	return call(n, optional(*base.typ.Elem), "$index", base.node, i.node)
}

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
	if base == Duration && t.Base == Number {
		return "say a number of what: days(30), hours(12)"
	}
	return ""
}

// guard reports a value that may be missing where one is needed.
func (c *checker) guard(n ast.Node, t term) term {
	def := map[Base]string{Number: "0", Text: `""`, Money: "eur(0)", Bool: "false", List: "[]", Any: `""`}[t.typ.Base]
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
		return c.fail(n, "", "ranges are not supported")
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
				return c.fail(n.Right, "", "a pattern has at most %d characters", maxPattern)
			}
			re, err := regexp.Compile(s.Value)
			if err != nil {
				return c.fail(n.Right, "", "%s", err)
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
	case l.typ.Base == Elapsed && r.typ.Base == Duration:
		return c.fail(n, "compare it as it is: never compares as false", "a time since something can only be compared")
	case !same(l.typ, r.typ):
		return c.fail(n.Right, "", "?? wants %s on both sides, not %s", baseNames[l.typ.Base], r.typ)
	}
	t.Optional = r.typ.Optional
	t.Enum, t.clamped = nil, l.typ.clamped && r.typ.clamped
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
	switch lb, rb := l.typ.Base, r.typ.Base; {
	case lb == Elapsed && rb == Duration:
		return call(n, boolean, "$elapsed", self(), l.node, r.node, constant(comparison{op: o, clamped: l.typ.clamped}))
	case lb == Duration && rb == Elapsed:
		return call(n, boolean, "$elapsed", self(), r.node, l.node, constant(comparison{op: o.mirror(), clamped: r.typ.clamped}))
	case lb == Elapsed && rb == Elapsed:
		return call(n, boolean, "$spans", self(), l.node, r.node, constant(comparison{op: o, clamped: l.typ.clamped, second: r.typ.clamped}))
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
		if o == ne {
			return call(n, boolean, "$num", l.node, r.node, constant(o))
		}
		return binaryTerm(n, n.Operator, l.node, r.node, boolean)
	case lb == Text && rb == Text:
		c.enum(n.Left, l, n.Right)
		c.enum(n.Right, r, n.Left)
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
	case pair(Entry, Duration):
		return "compare its .age"
	case pair(Entry, Money):
		return "compare its .amount"
	case pair(Instant, Duration):
		return "since(…) gives the time since a point in time"
	case pair(Instant, Text), pair(Elapsed, Text):
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
func (c *checker) enum(_ ast.Node, t term, literal ast.Node) {
	s, ok := literal.(*ast.StringNode)
	if !ok || t.typ.Enum == nil || slices.Contains(t.typ.Enum, s.Value) {
		return
	}
	c.unknown(literal, "stage", s.Value, t.typ.Enum)
}

func (c *checker) in(n *ast.BinaryNode, l, r term) term {
	if l.typ.Optional {
		return c.guard(n.Left, l)
	}
	if r.typ.Optional {
		return c.guard(n.Right, r)
	}
	if r.typ.Base != List {
		return c.fail(n.Right, "", "in wants a list, not %s", r.typ)
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
			c.enum(n.Left, l, item)
		}
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
	case lb == Elapsed || rb == Elapsed:
		return c.fail(n, "calculate on the other side: since(…) >= 2 * days(30)", "a time since something can only be compared")
	}
	return c.fail(n, mismatchHint(l.typ, r.typ), "%s and %s do not go together with %s", l.typ, r.typ, o)
}

func (c *checker) conditional(n *ast.ConditionalNode) term {
	cond := c.elab(n.Cond)
	ok := c.want(n.Cond, cond, Bool, "a choice")
	release := c.assume(n.Cond, true)
	a := c.elab(n.Exp1)
	release()
	release = c.assume(n.Cond, false)
	b := c.elab(n.Exp2)
	release()
	if !ok || a.typ.Base == Unknown || b.typ.Base == Unknown {
		return term{node: &ast.NilNode{}}
	}
	t := a.typ
	switch {
	case a.typ.Base == Nil:
		t = optional(b.typ)
	case b.typ.Base == Nil:
		t = optional(a.typ)
	case !same(a.typ, b.typ):
		return c.fail(n, "", "a choice between %s and %s has no type", a.typ, b.typ)
	default:
		t.Optional = a.typ.Optional || b.typ.Optional
	}
	if a.typ.Base == Elapsed && a.typ.clamped != b.typ.clamped {
		return c.fail(n, "compare inside of the choice", "a choice between spans since an event and since a date has no type")
	}
	t.Enum = nil
	if a.typ.Currency != b.typ.Currency {
		t.Currency = ""
	}
	m := &ast.ConditionalNode{Cond: cond.node, Exp1: a.node, Exp2: b.node}
	m.SetLocation(n.Location())
	if t.Base == Bool && !t.Optional {
		m.SetType(boolType)
	}
	return term{node: m, typ: t}
}

func (c *checker) array(n *ast.ArrayNode) term {
	m := &ast.ArrayNode{}
	m.SetLocation(n.Location())
	var elem *Type
	for _, item := range n.Nodes {
		t := c.elab(item)
		switch {
		case t.typ.Base == Unknown:
			continue
		case t.typ.Optional:
			c.guard(item, t)
			continue
		case t.typ.Base == Nil || t.typ.Base == namespace || t.typ.Base == Elapsed:
			c.fail(item, "", "%s cannot be in a list", t.typ)
			continue
		case elem != nil && !same(*elem, t.typ):
			c.fail(item, "", "a list holds values of one type: %s or %s", *elem, t.typ)
			continue
		case elem == nil:
			et := t.typ
			et.Enum, et.Currency = nil, ""
			elem = &et
		}
		m.Nodes = append(m.Nodes, t.node)
	}
	return term{node: m, typ: Type{Base: List, Elem: elem}}
}

func (c *checker) let(n *ast.VariableDeclaratorNode) term {
	v := c.elab(n.Value)
	if _, taken := library[n.Name]; taken || c.env.Defines[n.Name] != nil {
		return c.fail(n, "", "%s is taken", n.Name)
	}
	c.vars = append(c.vars, variable{n.Name, v.typ})
	body := c.elab(n.Expr)
	c.vars = c.vars[:len(c.vars)-1]
	m := &ast.VariableDeclaratorNode{Name: n.Name, Value: v.node, Expr: body.node}
	m.SetLocation(n.Location())
	return term{node: m, typ: body.typ}
}

// predicate checks what follows the list or kind: over elem, # and .field mean its items.
func (c *checker) predicate(n ast.Node, elem Type) term {
	c.scopes = append(c.scopes, elem)
	t := c.elab(n)
	c.scopes = c.scopes[:len(c.scopes)-1]
	return t
}

const outsidePredicate = `# and .field mean something only inside a predicate such as count("order.paid", .amount > eur(50))`

// parseError turns what the parser says into a problem.
func parseError(f *file.Error, text string) Problem {
	p := Problem{Offset: f.From, Message: f.Message}
	if strings.Contains(f.Message, "exceeds maximum allowed nodes") {
		p.Message = fmt.Sprintf("the expression is too long: more than %d parts", maxNodes)
		p.Suggestion = "name parts of it under define:"
	}
	switch {
	case strings.Contains(f.Message, `Operator(".")`) || strings.Contains(f.Message, `Operator("#")`):
		p.Message = outsidePredicate
	case strings.Contains(f.Message, "coalesce expressions (??) cannot be mixed"):
		p.Message, p.Suggestion = "?? needs brackets beside another operator", `write (customer.name ?? "") == "Ada"`
	}
	p.Message = strings.ReplaceAll(p.Message, `token EOF`, "end")
	if n := len([]rune(text)); p.Offset > n {
		p.Offset = n
	}
	return p
}

// date reads a date or a time; a date means its first instant in UTC.
func date(s string) (time.Time, bool) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Truncate(time.Millisecond), true
		}
	}
	return time.Time{}, false
}
