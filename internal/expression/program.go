package expression

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds on what can be written.
const (
	maxNodes = 500
	maxBytes = 16 << 10
	maxDepth = 200 // of brackets: the parser recurses
	// maxPattern keeps regular expressions small: (a{1000}) repeated within 16 KB would compile to a million states.
	maxPattern = 500
)

var (
	boolType = reflect.TypeFor[bool]()
	textType = reflect.TypeFor[string]()
	intType  = reflect.TypeFor[int]()
)

// Model is what one model lets others see.
type Model struct {
	Stages  []string            // nil: unknown, any text compares
	Defines map[string]*Program // usable as model.name
}

// Env is what an expression can name.
type Env struct {
	Kinds   *hub.Kinds // nil: the built-in catalogue
	Params  map[string]Param
	Models  map[string]Model
	Defines map[string]*Program
	Fields  map[string]hub.PropertyType // fields.<name>, read from the trait of that name
	Name    string                      // of the model itself, "" elsewhere
	Stages  []string                    // of the model itself; nil: stage and stage_age are unknown
	// Of is whose stage is decided. For a deal the name deal stands for it (fact.Facts.Subject), for a company the name company
	// for what is otherwise called customer.
	Of   hub.SubjectKind
	Vars []string // texts given at run time, such as explanation
	// Clock says what weekday(), hour() and business_hours() go by.
	Clock Clock
}

// Clock is the zone and the calendars of the configuration or of a model.
type Clock struct {
	// Zone is an IANA name such as Europe/Berlin, or "customer" for the customer's own. "" is UTC.
	Zone string `json:"zone,omitempty"`
	// Default is the zone of customers whose own is not known, where Zone is "customer". "" is UTC.
	Default string `json:"default,omitempty"`
	// Calendars are those of the configuration, by name.
	Calendars map[string]hub.Calendar `json:"calendars,omitempty"`
	// Calendar names the one that business_hours(n) counts by. "" is the one called office; where there is none, Monday to
	// Friday from 9 to 17 in Zone.
	Calendar string `json:"calendar,omitempty"`
}

// Needs is what an expression reads beside the customer's own events: whoever evaluates it must give that to the facts
// ([fact.Facts.Know]) or keep it coming as events. It is a set.
type Needs uint8

// What can be needed.
const (
	NeedsScores      Needs = 1 << iota // score.…, rfm.…: fact.Known.Scores
	NeedsIdentifiers                   // reachable(…), customer.email: fact.Known.Identifiers
	NeedsReferrals                     // customer.referred: referral.moved events of those the customer brought
	NeedsCompanies                     // customer.companies: company.moved events
	NeedsSharing                       // shared(…): identity.shared events
)

// Has reports whether all of other is needed.
func (n Needs) Has(other Needs) bool { return n&other == other }

// Param is a value given beside the expressions.
type Param struct {
	typ   Type
	value any
}

// NewParam reads a parameter as YAML has it: a number, true or false, a text; of texts "180d" is a duration and
// "40 EUR" an amount of money.
func NewParam(v any) (Param, error) {
	switch v := v.(type) {
	case int:
		return Param{Type{Base: Number}, v}, nil
	case float64:
		return Param{Type{Base: Number}, v}, nil
	case bool:
		return Param{boolean, v}, nil
	case string:
		if d, ok := ParseDuration(v); ok {
			return Param{Type{Base: Duration}, d}, nil
		}
		if m, ok := parseMoney(v); ok {
			return Param{Type{Base: Money, Currency: m.Currency}, m}, nil
		}
		return Param{Type{Base: Text}, v}, nil
	case []string:
		l := make([]any, len(v))
		for i := range v {
			l[i] = v[i]
		}
		return Param{listOf(Type{Base: Text}), l}, nil
	}
	return Param{}, fmt.Errorf("a parameter is a number, a text, a duration such as 180d, an amount such as 40 EUR, or a list of texts: %w", hub.ErrInvalid)
}

// Same reports whether q may stand in for p: it has the same type.
func (p Param) Same(q Param) bool { return same(p.typ, q.typ) }

// Type tells a person what the parameter is.
func (p Param) Type() string { return p.typ.String() }

// Value returns the parameter: an int, float64, bool, string, time.Duration, hub.Money, or a list of texts as []any.
func (p Param) Value() any { return p.value }

func (p Param) term(at ast.Node) term {
	var n ast.Node
	switch v := p.value.(type) {
	case int:
		n = &ast.IntegerNode{Value: v}
		n.SetType(intType)
	case string:
		n = &ast.StringNode{Value: v}
		n.SetType(textType)
	case bool:
		n = &ast.BoolNode{Value: v}
		n.SetType(boolType)
	case []any:
		a := &ast.ArrayNode{}
		for _, s := range v {
			a.Nodes = append(a.Nodes, &ast.StringNode{Value: s.(string)})
		}
		n = a
	default:
		n = constant(v)
	}
	n.SetLocation(at.Location())
	return term{node: n, typ: p.typ}
}

// ParseDuration reads a duration as files write it: a whole or decimal number and one of ms s m h d w mo.
func ParseDuration(s string) (time.Duration, bool) {
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.') {
		end++
	}
	of, ok := map[string]time.Duration{
		"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "mo": month,
	}[s[end:]]
	if !ok || end == 0 || strings.Count(s[:end], ".") > 1 || s[0] == '.' || s[end-1] == '.' || end > 12 {
		return 0, false
	}
	var f float64
	if _, err := fmt.Sscan(s[:end], &f); err != nil {
		return 0, false
	}
	return length(f, of), true
}

// Program is a compiled expression. It is immutable and safe for concurrent use.
type Program struct {
	Text string
	Type Type
	// Reads are the event kinds it reads, sorted; groups are spelled out.
	Reads []string
	// ReadsTraits is set where it reads traits, which any event can bring.
	ReadsTraits bool
	// ReadsDeals is set where it looks at the list of all deals.
	ReadsDeals bool
	// UsesModels are the models whose stage it reads.
	UsesModels []string
	// Needs is what it reads beside events.
	Needs Needs

	usesStage bool
	code      *vm.Program
	node      ast.Node
	clauses   []*Clause
}

// UsesStage reports whether it reads the model's own present stage or its age.
func (p *Program) UsesStage() bool { return p.usesStage }

// take makes p depend on what q depends on.
func (p *Program) take(q *Program) {
	p.ReadsTraits = p.ReadsTraits || q.ReadsTraits
	p.ReadsDeals = p.ReadsDeals || q.ReadsDeals
	p.usesStage = p.usesStage || q.usesStage
	p.Needs |= q.Needs
	for _, m := range q.UsesModels {
		if !slices.Contains(p.UsesModels, m) {
			p.UsesModels = append(p.UsesModels, m)
		}
	}
}

// Clause is a part of a condition that is true or false by itself, for explanations.
type Clause struct {
	Text    string
	Offset  int    // in characters from the start of the program's text
	Op      string // "and", "or", "not", or "" for a leaf
	Clauses []*Clause
	Define  *Program // of a leaf that is a named condition
	Left    string   // of a leaf that compares: its left side
	Right   string   // and its right side

	kinds   []string
	node    ast.Node
	once    sync.Once
	program *Program

	lookOnce sync.Once
	looks    *Looks
	sayOnce  sync.Once
	said     said
}

// Clauses returns the condition split at and, or, not: one clause at the top.
func (p *Program) Clauses() []*Clause { return p.clauses }

// Program returns the clause as a program of its own.
func (c *Clause) Program() *Program {
	c.once.Do(func() {
		if c.program == nil {
			if code, err := assemble(c.node, c.Text); err == nil {
				c.program = &Program{Text: c.Text, Type: boolean, code: code}
			}
		}
	})
	return c.program
}

// Compile checks and compiles a condition: something true or false. With any problem the program is nil.
func Compile(text string, env *Env) (*Program, []Problem) {
	p, problems := CompileValue(text, env)
	if p != nil && p.Type.Base != Bool {
		return nil, []Problem{{Message: "a condition is true or false, this is " + p.Type.String(), Suggestion: conditionHint(p.Type)}}
	}
	if p != nil && p.Type.Optional {
		return nil, []Problem{{Message: "the condition may be missing", Suggestion: "say what counts then: … ?? false"}}
	}
	return p, problems
}

func conditionHint(t Type) string {
	switch t.Base {
	case Number:
		return "compare it: … >= 1"
	case Elapsed:
		return "compare it: … >= days(30)"
	case Text:
		return `compare it: … == "…"`
	case Money:
		return "compare it: … >= eur(50)"
	case List:
		return "ask about its items: any(list, …), or how many: count(list) >= 1"
	case Fading:
		return "compare it: … < 0.3"
	}
	return ""
}

// CompileValue checks and compiles an expression of any type.
func CompileValue(text string, env *Env) (p *Program, problems []Problem) {
	if env.Kinds == nil {
		e := *env
		e.Kinds, env = hub.Catalogue, &e
	}
	if problem, ok := tooMuch(text); !ok {
		return nil, []Problem{problem}
	}
	config := conf.CreateNew()
	config.MaxNodes = maxNodes
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		if f, ok := errors.AsType[*file.Error](err); ok {
			return nil, []Problem{parseError(f, text)}
		}
		return nil, []Problem{{Message: err.Error()}}
	}
	p = &Program{Text: text}
	c := &checker{env: env, sure: map[string]int{}, reads: map[string]struct{}{}, program: p}
	t := c.elab(tree.Node)
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, func(a, b Problem) int { return a.Offset - b.Offset })
		return nil, slices.CompactFunc(c.problems, func(a, b Problem) bool { return a == b })
	}
	switch t.typ.Base {
	case namespace, Nil, Unknown:
		return nil, []Problem{{Message: "this has no value"}}
	}
	p.Type, p.node, p.Reads = t.typ, t.node, slices.Sorted(maps.Keys(c.reads))
	slices.Sort(p.UsesModels)
	if p.code, err = assemble(t.node, text); err != nil {
		return nil, []Problem{{Message: err.Error()}}
	}
	if t.typ.Base == Bool && !t.typ.Optional {
		runes := []rune(text)
		p.clauses = []*Clause{split(tree.Node, t.node, runes, 0, len(runes))}
	}
	return p, nil
}

var tooManyParts = Problem{Message: fmt.Sprintf("the expression is too long: more than %d parts", maxNodes), Suggestion: "name parts of it under define:"}

// tooMuch refuses what would make the parser itself expensive.
func tooMuch(text string) (Problem, bool) {
	switch {
	case strings.TrimSpace(text) == "":
		return Problem{Message: "the expression is empty"}, false
	case len(text) > maxBytes:
		return Problem{Message: fmt.Sprintf("the expression is too long: %d bytes, at most %d", len(text), maxBytes)}, false
	case !utf8.ValidString(text):
		return Problem{Message: "the expression is not valid UTF-8"}, false
	}
	depth, unary := 0, 0
	for i, r := range text {
		switch r {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case '!', '-', '+', '?', ':':
			unary++
		}
		switch {
		case depth > maxDepth:
			return Problem{Offset: utf8.RuneCountInString(text[:i]), Message: "the expression is nested too deeply"}, false
		case unary > 4*maxNodes:
			return tooManyParts, false
		}
	}
	return Problem{}, true
}

// assemble makes bytecode of a checked node. The compiler panics on trees it does not know; that would be our mistake.
func assemble(n ast.Node, text string) (*vm.Program, error) {
	config := conf.CreateNew()
	config.Functions = functions
	code, err := compiler.Compile(&parser.Tree{Node: n, Source: file.NewSource(text)}, config)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("this cannot be compiled: %s", first)
	}
	return code, nil
}

// split takes a condition apart at and, or, not. user is the tree as written, made the checked one: both have the same
// shape down to the leaves. The text of a part is what stands between the operators.
func split(user, made ast.Node, text []rune, from, to int) *Clause {
	from, to = trim(text, from, to)
	c := &Clause{Text: string(text[from:to]), Offset: from, node: made}
	defer func() {
		if c.Op == "" {
			ast.Walk(&made, named{&c.kinds})
		}
	}()
	switch u := user.(type) {
	case *ast.BinaryNode:
		m, ok := made.(*ast.BinaryNode)
		at := u.Location().From
		if comparisons[u.Operator] && at > from && at < to {
			a, b := trim(text, from, at)
			c.Left = string(text[a:b])
			a, b = trim(text, min(at+len(u.Operator), to), to)
			c.Right = string(text[a:b])
		}
		if !ok || m.Operator != u.Operator || at < from || at >= to {
			return c
		}
		switch u.Operator {
		case "and", "&&":
			c.Op = "and"
		case "or", "||":
			c.Op = "or"
		default:
			return c
		}
		end := min(at+len(u.Operator), to)
		c.add(split(u.Left, m.Left, text, from, at))
		c.add(split(u.Right, m.Right, text, end, to))
	case *ast.UnaryNode:
		m, ok := made.(*ast.UnaryNode)
		at := u.Location().From
		if ok && (u.Operator == "not" || u.Operator == "!") && at >= from && at < to {
			c.Op = "not"
			c.Clauses = []*Clause{split(u.Node, m.Node, text, min(at+len(u.Operator), to), to)}
		}
	case *ast.IdentifierNode, *ast.MemberNode:
		if m, ok := made.(*ast.CallNode); ok && m.Callee.(*ast.IdentifierNode).Value == "$define" {
			c.Define = m.Arguments[1].(*ast.ConstantNode).Value.(*Program)
		}
	}
	return c
}

// add appends a part, or its parts where it is the same operator again: a and b and c has three.
func (c *Clause) add(part *Clause) {
	if part.Op == c.Op && c.Op != "not" {
		c.Clauses = append(c.Clauses, part.Clauses...)
		return
	}
	c.Clauses = append(c.Clauses, part)
}

// trim leaves out space and brackets around text[from:to].
func trim(text []rune, from, to int) (int, int) {
	space := func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\r' }
	for {
		for from < to && space(text[from]) {
			from++
		}
		for from < to && space(text[to-1]) {
			to--
		}
		if from >= to || text[from] != '(' || closing(text, from, to) != to-1 {
			return from, to
		}
		from, to = from+1, to-1
	}
}

// closing returns where the bracket opened at from closes, -1 if it does not before to.
func closing(text []rune, from, to int) int {
	depth := 0
	var quote rune
	for i := from; i < to; i++ {
		r := text[i]
		switch {
		case quote != 0:
			if r == '\\' && quote != '`' {
				i++
			} else if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'' || r == '`':
			quote = r
		case r == '(' || r == '[' || r == '{':
			depth++
		case r == ')' || r == ']' || r == '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// comparisons are the operators whose left side says more than true or false.
var comparisons = map[string]bool{"==": true, "!=": true, "<": true, "<=": true, ">": true, ">=": true, "in": true, "contains": true, "startsWith": true, "endsWith": true, "matches": true}

// Kinds returns the single kinds that the clause names, as written; groups and "any" are left out.
func (c *Clause) Kinds() []string { return c.kinds }

// named collects the kinds that calls below n name.
type named struct{ kinds *[]string }

func (v named) Visit(n *ast.Node) {
	if k, ok := (*n).(*ast.ConstantNode); ok {
		if s, ok := k.Value.(*kindSet); ok && len(s.kinds) == 1 && !slices.Contains(*v.kinds, s.name) {
			*v.kinds = append(*v.kinds, s.name)
		}
	}
}

// Describe evaluates p for a person: a span since an event becomes its length, a list the number of its items.
// What is missing or fails is "".
func (s *Session) Describe(p *Program) string {
	v, err := s.Run(p)
	if err != nil {
		return ""
	}
	if p.Type.Base == Elapsed {
		base, ok := instantOf(v)
		if !ok {
			return "never"
		}
		d := time.Duration(add(s.at, -base)) * time.Millisecond
		if p.Type.clamped {
			d = max(0, d)
		}
		return about(d)
	}
	if p.Type.Base == List {
		return fmt.Sprintf("%d of them", lengthOf(v))
	}
	return render(v)
}

func lengthOf(list any) int {
	if v := reflect.ValueOf(list); v.Kind() == reflect.Slice {
		return v.Len()
	}
	return 0
}

// about writes a span in its largest fitting unit, cut: "180 days", "5 hours".
func about(d time.Duration) string {
	for _, u := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if d >= u || d <= -u {
			return FormatDuration(d / u * u)
		}
	}
	return FormatDuration(d)
}
