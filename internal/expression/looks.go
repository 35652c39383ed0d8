package expression

import (
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// Looks is what a clause looks at: what an explanation shows as the facts behind it, and what a search for a change
// can vary. It is found in the text alone, whatever the facts.
type Looks struct {
	Lists    []*Looked  // histories of kinds and lists of objects
	Surveys  []Windowed // by metric
	Spent    []Windowed // by currency
	Traits   []string   // by name: customer.traits.x, fields.x, customer.country
	Consents []string   // by channel
	Channels []string   // wechat.following, reachable("sms")
	Scores   []string   // score.active, rfm.recency
	Models   []string   // stages.x
	Fields   []string   // of events and objects, read in predicates
	Tags     bool       // customer.tags
	Stage    bool       // stage or stage_age
	// Compared are the values written out beside what they are compared with.
	Compared []Compared
}

// Windowed is something looked at over a window; zero for ever.
type Windowed struct {
	Name   string
	Window time.Duration
}

// Looked is a history or a list of objects that a clause goes through.
type Looked struct {
	Name      string   // the kind or group as written, or "orders", "tickets", …
	Kinds     []string // of a history
	Object    string   // of a list of objects: "order", "ticket", …
	Standing  bool     // without what was refunded or cancelled
	Window    time.Duration
	Predicate bool // only some of them count

	set     *kindSet
	matches *Program // the list of those that count; nil for all
}

// What a value is compared with: the first word of Compared.Of.
const (
	OfField   = "field"
	OfTrait   = "trait"
	OfConsent = "consent"
	OfModel   = "model"
	OfSurvey  = "survey"
	OfSpent   = "spent"
	OfCount   = "count"
	OfTags    = "tags"
	OfStage   = "stage"
	OfOther   = ""
)

// Compared is one comparison with a value that is written out, a parameter included.
type Compared struct {
	Of    string // one of the constants above
	Name  string // of the field, trait, channel, model, metric, currency
	Op    string // == != < <= > >= in contains startsWith endsWith matches, is (a flag by itself)
	Value any    // float64, string, bool, hub.Money, time.Duration, time.Time
}

// Looks tells what the clause looks at, named conditions inside of it included.
func (c *Clause) Looks() *Looks {
	c.lookOnce.Do(func() {
		l := &Looks{}
		l.walk(c.node, 0)
		c.looks = l
	})
	return c.looks
}

// maxDefines bounds how deep named conditions are followed; they cannot go round in a circle.
const maxDefines = 20

type looker struct {
	*Looks
	depth int
}

func (l *Looks) walk(n ast.Node, depth int) {
	if n == nil || depth > maxDefines {
		return
	}
	ast.Walk(&n, looker{l, depth})
	// A flag that stands by itself says something too: .open, not .refunded.
	l.flags(n)
}

func once[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

func (l looker) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.CallNode:
		l.call(n)
	case *ast.BuiltinNode:
		if len(n.Arguments) == 2 && slices.Contains([]string{"any", "none", "all", "one", "count", "find", "filter", "map"}, n.Name) {
			l.narrowed(n)
			if n.Name != "map" {
				l.flags(unwrap(n.Arguments[1]))
			}
		}
	}
	if left, op, right, ok := comparisonOf(*n); ok {
		l.compared(left, op, right)
		l.compared(right, mirrored(op), left)
	}
}

func (l looker) call(n *ast.CallNode) {
	name := n.Callee.(*ast.IdentifierNode).Value
	arg := func(i int) any {
		if i < len(n.Arguments) {
			if c, ok := n.Arguments[i].(*ast.ConstantNode); ok {
				return c.Value
			}
		}
		return nil
	}
	text := func(i int) string { s, _ := arg(i).(string); return s }
	window := func(i int) time.Duration { d, _ := arg(i).(time.Duration); return d }
	if name == "$define" {
		if p, ok := arg(1).(*Program); ok {
			l.walk(p.node, l.depth+1)
		}
		return
	}
	if k, ok := arg(1).(*kindSet); ok {
		look := &Looked{Name: k.name, Kinds: k.kinds, Standing: k.standing, set: k}
		switch name {
		case "$countin", "$countis", "$within", "$without", "$firstin", "$lastin", "$listin":
			look.Window = window(2)
		case "$sumfield":
			if f, ok := arg(2).(*field); ok {
				l.Fields = once(l.Fields, f.name)
			}
		}
		l.add(look)
		return
	}
	switch name {
	case "$spent":
		l.Spent = once(l.Spent, Windowed{text(1), window(2)})
	case "$survey":
		l.Surveys = once(l.Surveys, Windowed{text(1), window(2)})
	case "$objects":
		names := map[string]string{"company": "companies", "referred": "referred"}
		if names[text(1)] == "" {
			names[text(1)] = text(1) + "s"
		}
		l.add(&Looked{Name: names[text(1)], Object: text(1)})
	case "$channel":
		l.Channels = once(l.Channels, text(1))
	case "$get":
		if f, ok := arg(2).(*field); ok {
			l.Fields = once(l.Fields, f.name)
		}
	case "$person":
		f, ok := arg(1).(*field)
		switch {
		case !ok:
		case scoreName(f) != "":
			l.Scores = once(l.Scores, scoreName(f))
		case f.name == "tags":
			l.Tags = true
		case f.name != "created":
			l.Traits = once(l.Traits, f.name)
		}
	case "$trait", "$field":
		l.Traits = once(l.Traits, text(1))
	case "$consent":
		l.Consents = once(l.Consents, text(1))
	case "$stages":
		l.Models = once(l.Models, text(1))
	case "$stage", "$since":
		l.Stage = true
	}
}

// add notes a list, unless it is there already: what narrows a list is noted before the list inside of it.
func (l *Looks) add(look *Looked) {
	for _, have := range l.Lists {
		if have.Name == look.Name && have.Window == look.Window && (look.matches == nil || have.matches == look.matches) {
			return
		}
	}
	l.Lists = append(l.Lists, look)
}

// narrowed notes a list of which a predicate picks some.
func (l looker) narrowed(n *ast.BuiltinNode) {
	list, ok := n.Arguments[0].(*ast.CallNode)
	if !ok {
		return
	}
	before := len(l.Lists)
	inner := Looks{}
	looker{&inner, l.depth}.call(list)
	if len(inner.Lists) != 1 {
		return
	}
	look := inner.Lists[0]
	if n.Name != "map" {
		look.Predicate = true
		filter := &ast.BuiltinNode{Name: "filter", Arguments: n.Arguments}
		if code, err := assemble(filter, ""); err == nil {
			look.matches = &Program{code: code}
		}
		// The list inside was visited first.
		l.Lists = slices.DeleteFunc(l.Lists, func(have *Looked) bool {
			return have.Name == look.Name && have.Window == look.Window && have.matches == nil
		})
	}
	if len(l.Lists) <= before {
		l.Lists = append(l.Lists, look)
	}
}

// compared notes what a value that is written out is compared with.
func (l *Looks) compared(side ast.Node, op string, value ast.Node) {
	values, ok := written(value)
	if !ok {
		return
	}
	of, name := subjectOf(side)
	for _, v := range values {
		l.Compared = once(l.Compared, Compared{Of: of, Name: name, Op: op, Value: v})
	}
}

// flags notes fields that are true or false by themselves, under and, or, not.
func (l *Looks) flags(n ast.Node) {
	switch n := n.(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&", "or", "||":
			l.flags(n.Left)
			l.flags(n.Right)
		}
	case *ast.UnaryNode:
		l.flags(n.Node)
	case *ast.CallNode:
		// The field can lie deeper, in a named condition or beside ??: what stands around it is no field then.
		if of, name := subjectOf(n); of == OfField && len(n.Arguments) > 2 {
			if c, ok := n.Arguments[2].(*ast.ConstantNode); ok {
				if f, ok := c.Value.(*field); ok && f.typ.Base == Bool {
					l.Compared = once(l.Compared, Compared{Of: of, Name: name, Op: "is", Value: true})
				}
			}
		}
	}
}

// scoreName is how a rule names a score, "" where the field is none.
func scoreName(f *field) string {
	for _, space := range [...]string{"score", "rfm"} {
		if slices.Contains(scoreFields[space], f) {
			return space + "." + f.name
		}
	}
	return ""
}

// Score returns what a score that a clause looks at is, "" where it is unknown.
func (s *Session) Score(name string) string {
	space, field, _ := strings.Cut(name, ".")
	for _, f := range scoreFields[space] {
		if f.name == field {
			if v, err := f.get(s, nil); err == nil {
				return s.tell(v)
			}
		}
	}
	return ""
}

// comparisonOf takes a checked comparison apart.
func comparisonOf(n ast.Node) (left ast.Node, operator string, right ast.Node, ok bool) {
	switch n := n.(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "==", "!=", "<", "<=", ">", ">=", "in", "contains", "startsWith", "endsWith", "matches":
			return n.Left, n.Operator, n.Right, true
		}
	case *ast.CallNode:
		id, isName := n.Callee.(*ast.IdentifierNode)
		if !isName {
			return nil, "", nil, false
		}
		value := func(i int) any {
			if c, ok := n.Arguments[i].(*ast.ConstantNode); ok {
				return c.Value
			}
			return nil
		}
		switch id.Value {
		case "$elapsed", "$spans":
			if c, ok := value(3).(comparison); ok {
				return n.Arguments[1], c.op.String(), n.Arguments[2], true
			}
		case "$countis":
			if o, ok := value(4).(op); ok {
				count := &ast.CallNode{Callee: &ast.IdentifierNode{Value: "$countin"}, Arguments: n.Arguments[:3]}
				return count, o.String(), n.Arguments[3], true
			}
		case "$fades":
			if o, ok := value(3).(op); ok {
				return n.Arguments[1], o.String(), n.Arguments[2], true
			}
		case "$dialis", "$dialin": // hour(), weekday()
			operator := "in"
			if id.Value == "$dialis" {
				o, _ := value(3).(op)
				operator = o.String()
			}
			dial := &ast.CallNode{Callee: &ast.IdentifierNode{Value: "$dial"}, Arguments: n.Arguments[:2]}
			return dial, operator, n.Arguments[2], true
		case "$moneyis", "$num", "$span", "$instant":
			if o, ok := value(2).(op); ok {
				return n.Arguments[0], o.String(), n.Arguments[1], true
			}
		}
	}
	return nil, "", nil, false
}

// String is the operator as it is written.
func (o op) String() string { return [...]string{"<", "<=", ">", ">=", "==", "!="}[o] }

// mirrored is the operator with the sides swapped.
func mirrored(operator string) string {
	if o, ok := ops[operator]; ok {
		return o.mirror().String()
	}
	return operator
}

// written returns the value of a node that is written out, or the values of a list of such.
func written(n ast.Node) ([]any, bool) {
	if f, ok := literal(n); ok {
		return []any{f}, true
	}
	switch n := n.(type) {
	case *ast.StringNode:
		return []any{n.Value}, true
	case *ast.BoolNode:
		return []any{n.Value}, true
	case *ast.ConstantNode:
		switch v := n.Value.(type) {
		case string, bool, hub.Money, time.Duration:
			return []any{v}, true
		case instant:
			return []any{time.UnixMilli(int64(v)).UTC()}, true
		case []string:
			var out []any
			for _, s := range v {
				out = append(out, s)
			}
			return out, true
		}
	case *ast.ArrayNode:
		var out []any
		for _, item := range n.Nodes {
			v, ok := written(item)
			if !ok {
				return nil, false
			}
			out = append(out, v...)
		}
		return out, true
	}
	return nil, false
}

// subjectOf tells what a value is read from.
func subjectOf(n ast.Node) (of, name string) {
	switch n := n.(type) {
	case *ast.BuiltinNode:
		switch {
		case n.Name == "count" || n.Name == "len":
			return OfCount, ""
		case len(n.Arguments) > 0: // lower(customer.country)
			return subjectOf(n.Arguments[0])
		}
	case *ast.CallNode:
		id, ok := n.Callee.(*ast.IdentifierNode)
		if !ok {
			return OfOther, ""
		}
		arg := func(i int) any {
			if i < len(n.Arguments) {
				if c, ok := n.Arguments[i].(*ast.ConstantNode); ok {
					return c.Value
				}
			}
			return nil
		}
		text := func(i int) string { s, _ := arg(i).(string); return s }
		switch id.Value {
		case "$define":
			if p, ok := arg(1).(*Program); ok {
				return subjectOf(p.node)
			}
		case "$else":
			return subjectOf(n.Arguments[0])
		case "$get", "$sumfield":
			if f, ok := arg(2).(*field); ok {
				return OfField, f.name
			}
		case "$person":
			f, ok := arg(1).(*field)
			switch {
			case !ok || scoreName(f) != "":
			case f.name == "tags":
				return OfTags, ""
			default:
				return OfTrait, f.name
			}
		case "$trait", "$field":
			return OfTrait, text(1)
		case "$consent":
			return OfConsent, text(1)
		case "$stages":
			return OfModel, text(1)
		case "$survey":
			return OfSurvey, text(1)
		case "$spent":
			return OfSpent, text(1)
		case "$count", "$countin":
			return OfCount, ""
		case "$stage":
			return OfStage, ""
		}
	}
	return OfOther, ""
}

// Entries returns the events of a history that count at the session's instant, oldest first.
func (s *Session) Entries(l *Looked) []*fact.Entry {
	if l.set == nil {
		return nil
	}
	if l.matches != nil {
		v, err := s.Run(l.matches)
		if err != nil {
			return nil
		}
		list, _ := v.([]any)
		out := make([]*fact.Entry, 0, len(list))
		for _, item := range list {
			if e, ok := item.(*fact.Entry); ok {
				out = append(out, e)
			}
		}
		return out
	}
	all := s.entries(l.set)
	if l.Window > 0 {
		all = s.cut(all, l.Window)
	}
	return all
}

// Objects returns the objects of a list that count.
func (s *Session) Objects(l *Looked) []*fact.Object {
	if l.Object == "" {
		return nil
	}
	if l.matches == nil {
		return s.in.Facts.Objects(l.Object)
	}
	v, err := s.Run(l.matches)
	if err != nil {
		return nil
	}
	list, _ := v.([]any)
	out := make([]*fact.Object, 0, len(list))
	for _, item := range list {
		if o, ok := item.(*fact.Object); ok {
			out = append(out, o)
		}
	}
	return out
}
