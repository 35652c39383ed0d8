package expression

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/stagewire/stagewire/internal/hub"
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
	// dial is set for a bare weekday() or hour(), whose comparisons flip at an instant of their own.
	dial *dial
	// of is set for the stages of somebody else: the object they are read off.
	of ast.Node
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
	for _, v := range slices.Backward(c.vars) {
		if v.name == n.Value {
			return term{node: &ast.IdentifierNode{Value: n.Value}, typ: v.typ}
		}
	}
	if p, ok := c.env.Defines[n.Value]; ok {
		return c.defined(n, p)
	}
	if slices.Contains(c.env.Vars, n.Value) {
		return call(n, Type{Base: Text}, "$var", self(), constant(n.Value))
	}
	switch n.Value {
	case "deal", "company":
		if t, ok := c.subject(n); ok {
			return t
		}
	case "customer", "params", "stages", "fields", "score", "rfm":
		return term{node: &ast.NilNode{}, typ: Type{Base: namespace, name: n.Value}}
	case "zone":
		return c.zoneName(n)
	case "orders", "tickets", "deals", "carts", "subscriptions", "tasks":
		object := strings.TrimSuffix(n.Value, "s")
		c.program.ReadsDeals = c.program.ReadsDeals || object == "deal"
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
	if slices.Contains(hub.Channels, n.Value) {
		return term{node: &ast.NilNode{}, typ: Type{Base: namespace, name: "channel " + n.Value}}
	}
	if _, ok := c.env.Models[n.Value]; ok {
		return term{node: &ast.NilNode{}, typ: Type{Base: namespace, name: "model " + n.Value}}
	}
	if n.Value == "event" {
		return c.fail(n, `look back with last("order.paid")`, "event is not visible in conditions")
	}
	names := []string{"customer", "params", "stages", "fields", "orders", "tickets", "deals", "carts", "subscriptions", "tasks", "stage", "stage_age", "score", "rfm", "zone"}
	names = slices.Concat(names, hub.Channels, slices.Collect(maps.Keys(c.env.Defines)), slices.Collect(maps.Keys(c.env.Models)), c.env.Vars)
	if c.env.Of == hub.SubjectDeal || c.env.Of == hub.SubjectCompany {
		names = append(names, string(c.env.Of))
	}
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
	before := len(c.problems)
	base := c.elab(n.Node)
	if id, plain := n.Node.(*ast.IdentifierNode); plain && ok && len(c.problems) == before+1 && base.typ.Base == Unknown {
		if kind := id.Value + "." + name.Value; set(c.env.Kinds, kind) != nil {
			c.problems[before].Message = "the kind " + kind + " is not in quotes"
			c.problems[before].Suggestion = "write " + strconv.Quote(kind)
		}
	}
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
		if base.of != nil {
			return c.stageOf(n, base, name)
		}
		return c.inNamespace(n, base.typ.name, name)
	case Entry, Object, Money:
		return c.field(n, base, name)
	case List:
		return c.fail(name, "look into it: any("+n.Node.String()+", ."+name.Value+")", "a list has no field %s", name.Value)
	}
	return c.fail(name, "", "%s has no field %s", base.typ, name.Value)
}

func (c *checker) field(n ast.Node, base term, name *ast.StringNode) term {
	if base.typ.Base == Object && name.Value == "stages" && staged[base.typ.Object] {
		return term{node: &ast.NilNode{}, typ: Type{Base: namespace, name: "stages of " + base.typ.Object, Optional: base.typ.Optional}, of: base.node}
	}
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
	if channel, ok := strings.CutPrefix(space, "channel "); ok {
		return c.channelField(n, channel, name)
	}
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
		if !slices.Contains(hub.Channels, name.Value) {
			return c.unknown(name, "channel", name.Value, hub.Channels)
		}
		c.read("consent.changed")
		return call(n, optional(consentState), "$consent", self(), constant(name.Value))
	case "customer.traits":
		c.program.ReadsTraits = true
		return call(n, optional(Type{Base: Any}), "$trait", self(), constant(name.Value))
	case "score", "rfm":
		return c.scoreField(n, space, name)
	case "params":
		v, ok := c.env.Params[name.Value]
		if !ok {
			return c.unknown(name, "parameter", name.Value, slices.Sorted(maps.Keys(c.env.Params)))
		}
		return v.term(name)
	case "stages":
		m, ok := c.env.Models[name.Value]
		if !ok && name.Value == c.env.Name && c.env.Stages != nil {
			return c.fail(name, `its own stage is called stage: stage == "…"`, "a model cannot ask for itself among the others")
		}
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
			t := c.unknown(name, "field", name.Value, slices.Sorted(maps.Keys(c.env.Fields)))
			if last := &c.problems[len(c.problems)-1]; last.Suggestion == "" {
				last.Suggestion = "declare it in the configuration: fields: {" + name.Value + ": {type: text, from: crm." + name.Value + "}}"
			}
			return t
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
			case "email", "phone":
				c.program.ReadsTraits = true
				c.program.Needs |= NeedsIdentifiers
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
	case "referred":
		c.read(hub.KindReferredMoved)
		c.program.Needs |= NeedsReferrals
		return call(n, listOf(Type{Base: Object, Object: "referred"}), "$objects", self(), constant("referred"))
	case "companies":
		for _, k := range c.env.Kinds.All() {
			if k.Object == "company" {
				c.read(k.Name)
			}
		}
		c.program.Needs |= NeedsCompanies
		return call(n, listOf(Type{Base: Object, Object: "company"}), "$objects", self(), constant("company"))
	}
	return c.unknown(name, "field of customer:", name.Value, append(names, "referred", "companies"))
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
	case !same(a.typ, b.typ) || a.typ.fades != b.typ.fades:
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
		case t.typ.Base == Nil || t.typ.Base == namespace || t.typ.Base == Elapsed || t.typ.Base == Fading:
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

// date reads a date or a time; a date means its first instant in UTC.
func date(s string) (time.Time, bool) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Truncate(time.Millisecond), true
		}
	}
	return time.Time{}, false
}
