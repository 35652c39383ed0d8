package connector

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds of an expression: of its text when compiled, of what it may build when it runs.
const (
	maxNodes     = 300
	memoryBudget = 50_000
)

// expression is one compiled piece of logic with the place it was written.
type expression struct {
	program *vm.Program
	path    member  // set where the whole expression is a chain of members: read without the VM
	place   Problem // File, Line, Column, Path
}

// machines keeps VMs for reuse; each is used by one goroutine at a time.
var machines = sync.Pool{New: func() any { return &vm.VM{MemoryBudget: memoryBudget} }}

// run evaluates x. Errors wrap hub.ErrInvalid and name the place; they never quote values.
func (x *expression) run(env any) (any, error) {
	if x.path != nil {
		if v, ok := x.path(env); ok {
			return v, nil
		}
	}
	m := machines.Get().(*vm.VM)
	v, err := m.Run(x.program, env)
	machines.Put(m)
	if err != nil {
		return nil, x.errorf("%s", runtimeMessage(err))
	}
	return v, nil
}

// holds evaluates a condition; nil means true.
func (x *expression) holds(env any) (bool, error) {
	if x == nil {
		return true, nil
	}
	v, err := x.run(env)
	if err != nil {
		return false, err
	}
	b, _ := v.(bool)
	return b, nil
}

// string evaluates to text: a string, or an integer's digits. nil is "".
func (x *expression) string(env any) (string, error) {
	if x == nil {
		return "", nil
	}
	v, err := x.run(env)
	if err != nil {
		return "", err
	}
	s, err := asText(v)
	if err != nil {
		return "", x.errorf("%s", err)
	}
	return s, nil
}

func (x *expression) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s: %s: %w", x.place.File, x.place.Line, x.place.Path, fmt.Sprintf(format, args...), hub.ErrInvalid)
}

// quoted matches what expr quotes of a value in its messages.
var quoted = regexp.MustCompile(`"[^"]*"`)

// runtimeMessage is the first line of expr's message, without values: those may be personal.
func runtimeMessage(err error) string {
	message := err.Error()
	if fe, ok := errors.AsType[*file.Error](err); ok {
		message = fe.Message
	}
	message, _, _ = strings.Cut(message, "\n")
	return cutText(quoted.ReplaceAllString(message, `"…"`), 200)
}

// wants is what an expression must give.
type wants int

const (
	wantsAny wants = iota
	wantsBool
)

// expression compiles the scalar at a against env, a pointer to one of the environments of environment.go.
func (a at) expression(env any, want wants) *expression {
	text := a.text()
	if strings.TrimSpace(text) == "" {
		if !a.absent() {
			a.problem("", "an expression is missing")
		}
		return nil
	}
	return a.compile(text, 0, env, want)
}

// compile compiles text, which starts offset bytes into the scalar at a.
func (a at) compile(text string, offset int, env any, want wants) *expression {
	// Manifests repeat themselves: most expressions stand in several events.
	key := compileKey{text, reflect.TypeOf(env), want}
	if x, ok := a.compiled[key]; ok {
		again := *x
		again.place = Problem{File: a.file, Line: a.node.Line, Column: a.node.Column, Path: a.path}
		return &again
	}
	options := append([]expr.Option{expr.Env(env), expr.MaxNodes(maxNodes)}, functions...)
	if want == wantsBool {
		options = append(options, expr.AsBool(), expr.WarnOnAny())
	}
	broken := &expression{} // not nil, so that what is misspelt does not count as missing too
	program, err := expr.Compile(text, options...)
	if err != nil {
		a.expressionProblem(err, offset, env)
		return broken
	}
	// Not as a patcher of the compiler: with one, expr 1.17.8 no longer reports unknown names in the arguments of typed functions.
	tree, err := parser.Parse(text)
	if err != nil {
		a.expressionProblem(err, offset, env)
		return broken
	}
	seen := &reader{loader: a.loader}
	ast.Walk(&tree.Node, seen)
	if seen.whole {
		a.problem("", "$env is not supported")
		return broken
	}
	for _, s := range seen.settings {
		if _, ok := a.settings[s]; !ok {
			a.problem(suggest(s, settingNames(a.settings)), "unknown setting %q", s)
		}
	}
	x := &expression{
		program: program, path: shortcut(program.Node(), env),
		place: Problem{File: a.file, Line: a.node.Line, Column: a.node.Column, Path: a.path},
	}
	a.compiled[key] = x
	return x
}

// compileKey is what makes two expressions of a manifest the same program.
type compileKey struct {
	text string
	env  reflect.Type
	want wants
}

func (a at) expressionProblem(err error, offset int, env any) {
	p := Problem{File: a.file, Line: a.node.Line, Column: a.node.Column, Path: a.path, Message: err.Error()}
	if fe, ok := errors.AsType[*file.Error](err); ok {
		p.Message = fe.Message
		p.Line, p.Column = place(a.node, fe.Line, fe.Column+offset)
		if name, ok := strings.CutPrefix(fe.Message, "unknown name "); ok {
			p.Suggestion = suggest(name, environmentNames(env))
		}
		if strings.HasPrefix(fe.Message, "expected bool, but got unknown") {
			p.Suggestion = "compare it, e.g. … == true"
		}
	}
	p.Message, _, _ = strings.Cut(p.Message, "\n")
	a.problems = append(a.problems, p)
}

// place finds where line and column (from 0) of a scalar's text stand in the file.
func place(n *yaml.Node, line, column int) (int, int) {
	switch n.Style {
	case yaml.LiteralStyle, yaml.FoldedStyle:
		return n.Line + line, column + 1
	case yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle:
		column++
	}
	if line > 1 {
		return n.Line + line - 1, column + 1
	}
	return n.Line, n.Column + column
}

func environmentNames(env any) []string {
	var names []string
	t := reflect.TypeOf(env)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for _, f := range reflect.VisibleFields(t) {
		if tag := f.Tag.Get("expr"); tag != "" && tag != "-" {
			names = append(names, tag)
		}
	}
	return append(names, functionNames...)
}

// reader notes, while an expression is compiled, which members of the body it can read. The decoder keeps only those.
type reader struct {
	*loader
	settings []string
	whole    bool // $env is used
}

// Visit implements ast.Visitor.
func (r *reader) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.StringNode:
		r.names[n.Value] = n.Value
	case *ast.IdentifierNode:
		r.whole = r.whole || n.Value == "$env"
		r.usesSettings = r.usesSettings || n.Value == "settings"
	case *ast.MemberNode:
		switch p := n.Property.(type) {
		case *ast.StringNode:
			if id, ok := n.Node.(*ast.IdentifierNode); ok && id.Value == "settings" {
				r.settings = append(r.settings, p.Value)
			}
		case *ast.IntegerNode, *ast.UnaryNode:
		default:
			if id, ok := n.Node.(*ast.IdentifierNode); !ok || id.Value != "settings" {
				r.dynamic = true
			}
		}
	case *ast.BinaryNode:
		if n.Operator == "in" {
			_, list := n.Right.(*ast.ArrayNode)
			_, constant := n.Left.(*ast.StringNode)
			r.dynamic = r.dynamic || !list && !constant
		}
	case *ast.BuiltinNode:
		// map and filter over an object would see its values; over a list they see items, which is what they are for.
		if slices.Contains([]string{"keys", "values", "toPairs", "toJSON", "get"}, n.Name) {
			r.dynamic = true
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok && slices.Contains([]string{"pairs", "with"}, id.Value) {
			r.dynamic = true
		}
	}
}

// member evaluates without the VM. It reports false where the VM must decide (and make the error).
type member func(env any) (any, bool)

// shortcut returns a way to evaluate n without the VM, or nil. Most of a mapping is constants, members of the body
// (item.customer?.id), those joined by ?? or +, and calls of our own functions and of header with such arguments.
func shortcut(n ast.Node, env any) member {
	if _, ok := env.(rooted); !ok {
		return nil
	}
	switch n := n.(type) {
	case *ast.StringNode:
		var v any = n.Value
		return func(any) (any, bool) { return v, true }
	case *ast.BoolNode:
		return func(any) (any, bool) { return n.Value, true }
	case *ast.BinaryNode:
		left, right := shortcut(n.Left, env), shortcut(n.Right, env)
		if left == nil || right == nil {
			return nil
		}
		switch n.Operator {
		case "??":
			return func(env any) (any, bool) {
				v, ok := left(env)
				if !ok || v != nil {
					return v, ok
				}
				return right(env)
			}
		case "+":
			return func(env any) (any, bool) {
				l, ok1 := left(env)
				r, ok2 := right(env)
				a, ok3 := l.(string)
				b, ok4 := r.(string)
				return a + b, ok1 && ok2 && ok3 && ok4
			}
		}
		return nil
	case *ast.CallNode:
		return callShortcut(n, env)
	}
	return memberPath(n)
}

func callShortcut(n *ast.CallNode, env any) member {
	id, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return nil
	}
	args := make([]member, len(n.Arguments))
	for i, a := range n.Arguments {
		if args[i] = shortcut(a, env); args[i] == nil {
			return nil
		}
	}
	if _, ok := env.(*webhookEnv); ok && id.Value == "header" {
		names := make([]string, len(n.Arguments))
		for i, a := range n.Arguments {
			s, ok := a.(*ast.StringNode)
			if !ok {
				return nil
			}
			names[i] = s.Value
		}
		return func(env any) (any, bool) { return env.(*webhookEnv).Header(names...), true }
	}
	f := ownFunctions[id.Value]
	if f == nil {
		return nil
	}
	return func(env any) (any, bool) {
		values := make([]any, len(args))
		for i, a := range args {
			v, ok := a(env)
			if !ok {
				return nil, false
			}
			values[i] = v
		}
		v, err := f(values)
		return v, err == nil
	}
}

// memberPath reads a chain of members from one of the trees, nil where n is something else.
func memberPath(n ast.Node) member {
	var names []string
	var optional []bool
	for {
		switch x := n.(type) {
		case *ast.ChainNode:
			if len(names) > 0 {
				return nil // (a?.b).c fails where a is nil, unlike a?.b.c
			}
			n = x.Node
		case *ast.MemberNode:
			s, ok := x.Property.(*ast.StringNode)
			if !ok || x.Method {
				return nil
			}
			names = append(names, s.Value)
			optional = append(optional, x.Optional)
			n = x.Node
		case *ast.IdentifierNode:
			root := x.Value
			if root != "body" && root != "item" && root != "context" && root != "each" {
				return nil
			}
			slices.Reverse(names)
			slices.Reverse(optional)
			return func(env any) (any, bool) { return follow(env.(rooted).root(root), names, optional) }
		default:
			return nil
		}
	}
}

func follow(v any, names []string, optional []bool) (any, bool) {
	for i, name := range names {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, v == nil && optional[i]
		}
		v = m[name]
	}
	return v, true
}

// rooted is an environment whose trees can be read directly.
type rooted interface{ root(name string) any }

func settingNames(settings map[string]Setting) []string {
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
