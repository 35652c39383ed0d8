package lint

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"

	"github.com/stagewire/stagewire/internal/lifecycle"
)

// rule is one line of decide with its condition as a formula.
type rule struct {
	lifecycle.Rule
	condition
	when formula // of the condition alone
	open formula // of the present stage: from, terminal
	dead bool    // proved never to win
}

// firm reports whether the rule wins wherever it is asked and its condition holds: not where it waits.
func (r *rule) firm() bool { return !r.dead && r.After == 0 && r.Cooldown == 0 }

func parse(text string) ast.Node {
	tree, err := parser.Parse(text)
	if err != nil {
		return &ast.NilNode{} // it compiled: unreachable, and nothing is concluded from it
	}
	return tree.Node
}

func (l *linter) readRules() {
	stage := &term{key: "stage", domain: words(append(l.m.StageNames(), ""))}
	var terminal []string
	for _, st := range l.m.Stages {
		if st.Terminal {
			terminal = append(terminal, st.Name)
		}
	}
	for i, r := range l.m.Rules() {
		c := condition{r.When, fmt.Sprintf("decide[%d].when", i), parse(r.When.Text)}
		made := &rule{Rule: r, condition: c, when: l.formula(c.node, 0), open: holds}
		switch {
		case len(r.From) > 0:
			made.open = literal(stage, set{words: sortedSet(r.From)})
		case len(terminal) > 0:
			made.open = literal(stage, stage.domain.not(set{words: sortedSet(terminal)}))
		}
		l.rules = append(l.rules, made)
	}
}

// conditions returns every condition of the model, in the order of the file.
func (l *linter) conditions() []condition {
	var out []condition
	for name, d := range l.defines {
		out = append(out, condition{d, "define." + name, parse(d.Text)})
	}
	slices.SortFunc(out, func(a, b condition) int { return strings.Compare(a.path, b.path) })
	for _, r := range l.rules {
		out = append(out, r.condition)
	}
	return out
}

// formula reads a condition. depth counts how many named conditions it stands in.
func (l *linter) formula(n ast.Node, depth int) formula {
	switch n := n.(type) {
	case *ast.PredicateNode:
		return l.formula(n.Node, depth)
	case *ast.ChainNode:
		return l.formula(n.Node, depth)
	case *ast.BoolNode:
		return constantly(n.Value)
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return not(l.formula(n.Node, depth))
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&":
			return all(l.formula(n.Left, depth), l.formula(n.Right, depth))
		case "or", "||":
			return some(l.formula(n.Left, depth), l.formula(n.Right, depth))
		case "in":
			if f, ok := l.member(n); ok {
				return f
			}
		}
		if f, ok := l.comparison(n); ok {
			return f
		}
	case *ast.IdentifierNode:
		if d, ok := l.defines[n.Value]; ok && depth < 20 {
			return l.formula(parse(d.Text), depth+1)
		}
	case *ast.MemberNode:
		if v, ok := l.constant(n); ok && v.kind == 'b' {
			return constantly(v.yes)
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			if f, ok := l.asked(id.Value, n.Arguments); ok {
				return f
			}
		}
	case *ast.BuiltinNode:
		if f, ok := l.asked(n.Name, n.Arguments); ok {
			return f
		}
	}
	return literal(&term{key: "true: " + l.text(n), domain: truths}, set{yes: true})
}

var paramForm = regexp.MustCompile(`\bparams\.([a-z][a-z0-9_]*)`)

// text writes an expression the same way wherever the same is meant.
func (l *linter) text(n ast.Node) string {
	return paramForm.ReplaceAllStringFunc(n.String(), func(name string) string {
		switch v := l.params[strings.TrimPrefix(name, "params.")]; {
		case v.kind == 'd' && v.unit != "":
			return v.unit + "(" + millis(v.written) + ")"
		case v.kind == 'n':
			return millis(v.n)
		}
		return name
	})
}

// asked reads what is true or false by itself and is about numbers of events.
func (l *linter) asked(name string, args []ast.Node) (formula, bool) {
	switch name {
	case "ever", "within", "any", "never", "none", "one":
		t, ok := l.counted(args)
		if !ok {
			return formula{}, false
		}
		switch name {
		case "never", "none":
			return literal(t, counts.compare("==", 0)), true
		case "one":
			return literal(t, counts.compare("==", 1)), true
		}
		return literal(t, counts.compare(">=", 1)), true
	}
	return formula{}, false
}

// counted makes the term of count(kind), count(kind, window), count(kind, predicate) or count(list, predicate).
func (l *linter) counted(args []ast.Node) (*term, bool) {
	if len(args) == 0 {
		return nil, false
	}
	c := counted{window: math.Inf(1)}
	kinds, name := l.named(args[0])
	if kinds == nil {
		list := args[0]
		if p, ok := list.(*ast.PredicateNode); ok {
			list = p.Node
		}
		c.list = l.text(list)
		if c.list == "" {
			return nil, false
		}
	}
	c.kinds, c.standing = sortedSet(kinds), name == "order.paid"
	if len(args) == 1 {
		return countTerm(c), true
	}
	if v, ok := l.constant(args[1]); ok {
		if v.kind != 'd' {
			return nil, false
		}
		c.window = v.n
		return countTerm(c), true
	}
	if _, isWindow := args[1].(*ast.CallNode); isWindow {
		return nil, false // a window that is calculated
	}
	var which []string
	for _, part := range conjuncts(args[1]) {
		if w, ok := l.young(part); ok && kinds != nil {
			c.window = min(c.window, w)
			continue
		}
		text := l.text(part)
		if strings.Contains(text, "refunded") || strings.Contains(text, "cancelled") {
			c.standing = false
		}
		which = append(which, text)
	}
	slices.Sort(which)
	c.which = strings.Join(which, " and ")
	return countTerm(c), true
}

// conjuncts takes a predicate apart at and.
func conjuncts(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.PredicateNode:
		return conjuncts(n.Node)
	case *ast.BinaryNode:
		if n.Operator == "and" || n.Operator == "&&" {
			return slices.Concat(conjuncts(n.Left), conjuncts(n.Right))
		}
	}
	return []ast.Node{n}
}

// young reads .age < window.
func (l *linter) young(n ast.Node) (float64, bool) {
	b, ok := n.(*ast.BinaryNode)
	if !ok {
		return 0, false
	}
	op, left, v, ok := l.sides(b)
	if !ok || v.kind != 'd' {
		return 0, false
	}
	m, ok := left.(*ast.MemberNode)
	if !ok || property(m) != "age" {
		return 0, false
	}
	if p, ok := m.Node.(*ast.PointerNode); !ok || p.Name != "" {
		return 0, false
	}
	switch op {
	case "<":
		return v.n, true
	case "<=":
		return v.n + 1, true
	}
	return 0, false
}

var mirrored = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}

// sides returns a comparison with a constant, turned so that the constant is on the right.
func (l *linter) sides(n *ast.BinaryNode) (op string, left ast.Node, v value, ok bool) {
	if mirrored[n.Operator] == "" {
		return "", nil, value{}, false
	}
	if v, ok := l.constant(n.Right); ok {
		return n.Operator, n.Left, v, true
	}
	if v, ok := l.constant(n.Left); ok {
		return mirrored[n.Operator], n.Right, v, true
	}
	return "", nil, value{}, false
}

func (l *linter) comparison(n *ast.BinaryNode) (formula, bool) {
	op, left, v, ok := l.sides(n)
	if !ok {
		return formula{}, false
	}
	if c, ok := l.constant(left); ok {
		if c.kind == v.kind && c.kind != 't' && c.kind != 'b' {
			return constantly(len(numbers.and(numbers.compare(op, v.n), numbers.compare("==", c.n)).ranges) > 0), true
		}
		return formula{}, false
	}
	switch v.kind {
	case 'n':
		if b, ok := left.(*ast.BuiltinNode); ok && b.Name == "count" {
			if t, ok := l.counted(b.Arguments); ok {
				return literal(t, counts.compare(op, v.n)), true
			}
		}
		t := &term{key: l.text(left), domain: numbers}
		if strings.HasPrefix(t.key, "hour(") {
			t.domain = hours
		}
		return literal(t, t.domain.compare(op, v.n)), true
	case 'd':
		if c, ok := left.(*ast.CallNode); ok && len(c.Arguments) == 1 {
			if id, ok := c.Callee.(*ast.IdentifierNode); ok && id.Value == "since" {
				if kinds, _ := l.named(c.Arguments[0]); kinds != nil {
					return l.silence(c.Arguments, op, v.n)
				}
			}
		}
		return literal(&term{key: l.text(left), domain: numbers}, numbers.compare(op, v.n)), true
	case 'm':
		return literal(&term{key: l.text(left) + " " + v.text, domain: numbers}, numbers.compare(op, v.n)), true
	case 't':
		t := l.textTerm(left)
		switch op {
		case "==":
			return literal(t, t.domain.and(set{words: []string{v.text}}, t.domain.full)), true
		case "!=":
			return literal(t, t.domain.not(set{words: []string{v.text}})), true
		}
	case 'b':
		f := l.formula(left, 0)
		switch {
		case op == "==" && v.yes, op == "!=" && !v.yes:
			return f, true
		case op == "==", op == "!=":
			return not(f), true
		}
	}
	return formula{}, false
}

// silence is since(kind) op d: there is one, and none (or some) is younger than d.
func (l *linter) silence(args []ast.Node, op string, d float64) (formula, bool) {
	ever, ok := l.counted(args)
	if !ok {
		return formula{}, false
	}
	happened := literal(ever, counts.compare(">=", 1))
	young := func(than float64) formula {
		if than <= 0 {
			return fails
		}
		c := *ever.count
		c.window = than
		return literal(countTerm(c), counts.compare(">=", 1))
	}
	switch op {
	case ">=":
		return all(happened, not(young(d))), true
	case ">":
		return all(happened, not(young(d+1))), true
	case "<":
		return young(d), true
	case "<=":
		return young(d + 1), true
	case "==":
		return all(young(d+1), not(young(d))), true
	case "!=":
		return all(happened, some(young(d), not(young(d+1)))), true
	}
	return formula{}, false
}

func (l *linter) textTerm(n ast.Node) *term {
	key := l.text(n)
	if key == "stage" {
		return &term{key: key, domain: words(append(l.m.StageNames(), ""))}
	}
	return &term{key: key, domain: texts}
}

// member is x in ["a", "b"].
func (l *linter) member(n *ast.BinaryNode) (formula, bool) {
	v, ok := l.constant(n.Right)
	if !ok || v.kind != 'l' {
		return formula{}, false
	}
	if _, ok := l.constant(n.Left); ok {
		return formula{}, false
	}
	t := l.textTerm(n.Left)
	return literal(t, t.domain.and(set{words: sortedSet(v.list)}, t.domain.full)), true
}
