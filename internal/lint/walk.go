package lint

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
)

// walkAll looks at every comparison and window of the model.
func (l *linter) walkAll() {
	w := &walker{linter: l}
	for _, c := range l.conditions() {
		w.condition = c
		w.walk(c.node, "")
	}
	w.units()
}

// walker walks one condition after the other.
type walker struct {
	*linter
	condition condition
	timed     []timed
}

// timed is a length of time that is compared with, or looked back over, somewhere.
type timed struct {
	of           string // what about
	v            value
	line, column int
	path         string
}

func (w *walker) say(n ast.Node, check, suggestion, format string, args ...any) {
	line, column := w.condition.place(n)
	w.report(check, line, column, w.condition.path, suggestion, format, args...)
}

// time notes a length of time. One that a parameter gives is the parameter's.
func (w *walker) time(of string, v value, n ast.Node) {
	if v.kind != 'd' || v.unit == "" {
		return
	}
	t := timed{of: of, v: v, path: w.condition.path}
	t.line, t.column = w.condition.place(first(n))
	if p := child(child(w.root, "params"), v.param); p != nil {
		t.line, t.column, t.path = p.Line, p.Column, "params."+v.param
	}
	w.timed = append(w.timed, t)
}

// walk goes through an expression; scope is what . and # stand for: a kind's name, or a list's text.
func (w *walker) walk(n ast.Node, scope string) {
	switch n := n.(type) {
	case *ast.PredicateNode:
		w.walk(n.Node, scope)
	case *ast.ChainNode:
		w.walk(n.Node, scope)
	case *ast.UnaryNode:
		w.walk(n.Node, scope)
	case *ast.MemberNode:
		w.walk(n.Node, scope)
	case *ast.ConditionalNode:
		w.walk(n.Cond, scope)
		w.walk(n.Exp1, scope)
		w.walk(n.Exp2, scope)
	case *ast.VariableDeclaratorNode:
		w.walk(n.Value, scope)
		w.walk(n.Expr, scope)
	case *ast.ArrayNode:
		for _, item := range n.Nodes {
			w.walk(item, scope)
		}
	case *ast.BinaryNode:
		w.compared(n, scope)
		if n.Operator == "??" {
			w.standIn(n)
		}
		w.walk(n.Left, scope)
		w.walk(n.Right, scope)
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			w.called(id.Value, n.Arguments, scope)
		}
	case *ast.BuiltinNode:
		w.called(n.Name, n.Arguments, scope)
	}
}

func (w *walker) called(name string, args []ast.Node, scope string) {
	if len(args) == 0 {
		return
	}
	inner := ""
	kinds, kind := w.named(args[0])
	switch {
	case name == "nps" || name == "csat" || name == "ces":
		if v, ok := w.constant(args[0]); ok {
			w.window("survey.answered", []string{"survey.answered"}, v, args[0])
		}
	case name == "spent" && len(args) == 2:
		if v, ok := w.constant(args[1]); ok {
			w.window("order.paid", []string{"order.paid"}, v, args[1])
		}
	case kinds != nil:
		inner = kind
		if len(args) == 2 {
			if v, ok := w.constant(args[1]); ok {
				if name == "trend" {
					v.n *= 2
				}
				w.window(kind, kinds, v, args[1])
			}
		}
	default:
		w.walk(args[0], scope)
		inner = w.text(args[0])
		if e, ok := args[0].(*ast.CallNode); ok { // events("order.paid"): still that kind
			if len(e.Arguments) > 0 {
				if k, name := w.named(e.Arguments[0]); k != nil {
					inner = name
				}
			}
		}
	}
	for _, arg := range args[1:] {
		w.metricScores(inner, arg)
		w.walk(arg, inner)
	}
}

func (w *walker) window(name string, kinds []string, v value, n ast.Node) {
	if v.kind != 'd' {
		return
	}
	w.time(name, v, n)
	w.kept(name, kinds, v, n, "looks back")
}

// kept reports a length of time longer than the events are kept.
func (w *walker) kept(name string, kinds []string, v value, n ast.Node, what string) {
	longest := time.Duration(0)
	for _, kind := range kinds {
		k, _ := w.opts.Kinds.Lookup(kind)
		keep, ok := w.opts.Retention[kind]
		if !ok {
			keep, ok = w.opts.Retention[k.Group]
		}
		if !ok || keep == 0 {
			return
		}
		longest = max(longest, keep)
	}
	if longest > 0 && v.n > float64(longest.Milliseconds()) {
		w.say(first(n), checkRetention, fmt.Sprintf("look back less far, or keep them longer: retention: {kinds: {%s: …}}", name),
			"this %s further than events %s are kept: %s", what, name, days(longest))
	}
}

func days(d time.Duration) string { return millis(math.Round(d.Hours()/24)) + " days" }

// compared looks at a comparison with a constant.
func (w *walker) compared(n *ast.BinaryNode, scope string) {
	op, left, v, ok := w.sides(n)
	if !ok {
		return
	}
	at := n.Right
	if op != n.Operator || at == left {
		at = n.Left
	}
	switch v.kind {
	case 'd':
		of, silent, kinds := w.elapsed(left, scope)
		w.time(of, v, at)
		if kinds != nil {
			w.kept(of, kinds, v, at, "waits")
		}
		if op == ">" && silent {
			want := ">="
			if n.Operator == "<" {
				want = "<="
			}
			w.say(n, checkSilence, "write "+want, "with %s the stage changes a moment after the time is up; silence is compared with >=, at the very instant", n.Operator)
		}
	case 'n':
		if metric := metricOf(left); metric != "" {
			w.scale(metric, op, v.n, at)
		}
		if b, ok := left.(*ast.BuiltinNode); ok && b.Name == "count" && op == "==" && v.n >= 3 {
			if kinds, name := w.named(b.Arguments[0]); kinds != nil {
				w.say(n, checkExact, fmt.Sprintf("write >= %s where more is as good", millis(v.n)), "this stops holding at number %s of %s", millis(v.n+1), name)
			}
		}
	}
}

// elapsed says what a time since something is about, whether it is one that grows by silence, and the kinds of its event.
func (w *walker) elapsed(n ast.Node, scope string) (of string, silent bool, kinds []string) {
	switch n := n.(type) {
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok && id.Value == "since" && len(n.Arguments) == 1 {
			if kinds, name := w.named(n.Arguments[0]); kinds != nil {
				return name, true, kinds
			}
			return w.text(n.Arguments[0]), true, nil
		}
	case *ast.MemberNode:
		p, inside := n.Node.(*ast.PointerNode)
		if !inside || p.Name != "" {
			break
		}
		kinds := w.opts.Kinds.Of(scope)
		if _, ok := w.opts.Kinds.Lookup(scope); ok {
			kinds = []string{scope}
		}
		if property(n) == "age" && len(kinds) > 0 {
			return scope, false, kinds
		}
		return scope + "." + property(n), property(n) == "open_for", nil
	case *ast.IdentifierNode:
		return n.Value, n.Value == "stage_age", nil
	}
	return w.text(n), false, nil
}

// What is usual for a number of days, hours, …: what people say.
var usual = map[string][]float64{
	"minutes": {1, 2, 3, 5, 10, 15, 20, 25, 30, 40, 45, 60, 90, 120},
	"hours":   {1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 18, 20, 24, 36, 48, 72, 96},
	"days":    {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 20, 21, 25, 28, 30, 40, 42, 45, 50, 56, 60, 70, 75, 80, 84, 90, 100, 120, 135, 150, 180, 200, 210, 240, 250, 270, 300, 330, 360, 365, 366, 400, 500, 540, 545, 550, 700, 720, 730, 1000, 1095, 1460, 1825, 3650},
	"weeks":   {1, 2, 3, 4, 5, 6, 8, 10, 12, 13, 16, 20, 24, 26, 39, 52, 104},
	"months":  {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 18, 24, 30, 36, 48, 60},
}

// units reports lengths of time whose number is usual in another unit that the same thing is measured in, or in no unit but another.
func (w *walker) units() {
	said := map[string]bool{}
	for i, t := range w.timed {
		other := ""
		odd := !slices.Contains(usual[t.v.unit], t.v.written)
		for j, o := range w.timed {
			if i == j || o.of != t.of || o.v.unit == t.v.unit {
				continue
			}
			// Of the same number in two units one is a slip: the unusual one, else the later.
			twin := o.v.written == t.v.written && t.v.written >= 10
			twinOdd := !slices.Contains(usual[o.v.unit], o.v.written)
			if twin && (odd || !twinOdd && j < i) || odd && slices.Contains(usual[o.v.unit], t.v.written) {
				other = fmt.Sprintf("on line %d it is %s", o.line, written(o.v))
				said[fmt.Sprint(t.line, t.column)] = true
				w.report(checkUnits, t.line, t.column, t.path, "did you mean "+o.v.unit+"?", "%s for %s looks like a slip: %s", written(t.v), thing(t.of), other)
				break
			}
		}
		if said[fmt.Sprint(t.line, t.column)] {
			continue
		}
		switch {
		case strings.HasSuffix(t.of, ".open_for") && t.v.unit == "days" && slices.Contains([]float64{24, 48, 72, 96}, t.v.written):
			w.report(checkUnits, t.line, t.column, t.path, "did you mean hours?", "%s for %s looks like a slip: that is a usual number of hours", written(t.v), thing(t.of))
		case t.v.unit == "hours" && slices.Contains([]float64{180, 365, 730}, t.v.written):
			w.report(checkUnits, t.line, t.column, t.path, "did you mean days?", "%s for %s looks like a slip: that is a usual number of days", written(t.v), thing(t.of))
		}
	}
}

func written(v value) string { return v.unit + "(" + millis(v.written) + ")" }

func thing(of string) string { return strings.TrimPrefix(of, ".") }

// unused reports parameters and named conditions that nothing names.
func (l *linter) unused() {
	used := map[string]bool{}
	for _, name := range l.opts.Used {
		used[name] = true
	}
	for _, c := range l.conditions() {
		node := c.node
		ast.Walk(&node, names{used, c.path})
	}
	for _, name := range slices.Sorted(maps.Keys(l.defines)) {
		if !used[name] {
			l.at(keyNode(child(l.root, "define"), name), checkUnused, "define."+name, "take it out, or use it", "nothing uses the condition %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.params)) {
		if !used["params."+name] {
			l.at(keyNode(child(l.root, "params"), name), checkUnused, "params."+name, "take it out, or use it as params."+name, "nothing uses the parameter %s", name)
		}
	}
}

// names collects the names an expression uses. A condition's own name inside of itself does not count.
type names struct {
	used map[string]bool
	path string
}

// Visit implements ast.Visitor.
func (v names) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.IdentifierNode:
		v.used[n.Value] = true
	case *ast.MemberNode:
		if space, ok := n.Node.(*ast.IdentifierNode); ok && space.Value == "params" {
			v.used["params."+property(n)] = true
		}
	}
}

// labels reports a stage without a label in a language that other stages have one in.
func (l *linter) labels() {
	languages := map[string]string{}
	for _, st := range l.m.Stages {
		for language := range st.Labels {
			if languages[language] == "" {
				languages[language] = st.Name
			}
		}
	}
	for i, st := range l.m.Stages {
		for _, language := range slices.Sorted(maps.Keys(languages)) {
			if st.Labels[language] != "" {
				continue
			}
			n := item(child(l.root, "stages"), i)
			at := keyNode(n, "labels")
			if at == nil {
				at = child(n, "name")
			}
			l.at(at, checkLabels, fmt.Sprintf("stages[%d].labels", i), "add "+language+": …", "stage %s has no label in %s, stage %s has one", st.Name, language, languages[language])
		}
	}
}
