package lint

import (
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// value is a constant of a condition.
type value struct {
	kind byte    // 'n'umber, 'd'uration in milliseconds, 'm'oney, 't'ext, 'b'ool, 'l'ist of texts, 'i'nstant
	n    float64 // number, milliseconds, amount
	text string  // text, or the currency
	list []string
	yes  bool

	unit    string  // of a duration: days, hours, …, as written; "" where it is calculated
	written float64 // how many of them
	param   string  // the parameter it comes from
}

var units = map[string]time.Duration{
	"minutes": time.Minute, "hours": time.Hour, "days": 24 * time.Hour, "weeks": 7 * 24 * time.Hour, "months": 365 * 24 * time.Hour / 12,
}

var unitSuffixes = map[string]string{"m": "minutes", "h": "hours", "d": "days", "w": "weeks", "mo": "months"}

func millis(ms float64) string { return strconv.FormatFloat(ms, 'f', -1, 64) }

// readParams takes the parameters as values. Their unit is the one they are written in.
func (l *linter) readParams() {
	l.params = map[string]value{}
	for name, p := range l.m.Params() {
		v := value{param: name}
		switch x := p.Value().(type) {
		case int:
			v.kind, v.n = 'n', float64(x)
		case float64:
			v.kind, v.n = 'n', x
		case bool:
			v.kind, v.yes = 'b', x
		case string:
			v.kind, v.text = 't', x
		case []any:
			v.kind = 'l'
			for _, s := range x {
				if s, ok := s.(string); ok {
					v.list = append(v.list, s)
				}
			}
		case time.Duration:
			v.kind, v.n = 'd', float64(x.Milliseconds())
			if n := child(child(l.root, "params"), name); n != nil {
				number := strings.TrimRight(n.Value, "abcdefghijklmnopqrstuvwxyz")
				unit := unitSuffixes[n.Value[len(number):]]
				if f, err := strconv.ParseFloat(number, 64); err == nil && unit != "" && float64(units[unit].Milliseconds())*f == v.n {
					v.unit, v.written = unit, f
				}
			}
		case hub.Money:
			v.kind, v.text = 'm', x.Currency
			v.n, _ = x.Amount.Float64()
		default:
			continue
		}
		l.params[name] = v
	}
}

// constant returns the value of an expression that reads nothing.
func (l *linter) constant(n ast.Node) (value, bool) {
	switch n := n.(type) {
	case *ast.PredicateNode:
		return l.constant(n.Node)
	case *ast.ChainNode:
		return l.constant(n.Node)
	case *ast.IntegerNode:
		return value{kind: 'n', n: float64(n.Value)}, true
	case *ast.FloatNode:
		return value{kind: 'n', n: n.Value}, true
	case *ast.BoolNode:
		return value{kind: 'b', yes: n.Value}, true
	case *ast.StringNode:
		return value{kind: 't', text: n.Value}, true
	case *ast.ArrayNode:
		v := value{kind: 'l'}
		for _, item := range n.Nodes {
			s, ok := item.(*ast.StringNode)
			if !ok {
				return value{}, false
			}
			v.list = append(v.list, s.Value)
		}
		return v, true
	case *ast.UnaryNode:
		v, ok := l.constant(n.Node)
		if ok && n.Operator == "-" && (v.kind == 'n' || v.kind == 'd' || v.kind == 'm') {
			return value{kind: v.kind, n: -v.n, text: v.text}, true
		}
		return value{}, false
	case *ast.MemberNode:
		if space, ok := n.Node.(*ast.IdentifierNode); ok && space.Value == "params" {
			v, ok := l.params[property(n)]
			return v, ok
		}
	case *ast.BinaryNode:
		return l.calculated(n)
	case *ast.CallNode:
		callee, ok := n.Callee.(*ast.IdentifierNode)
		if !ok || len(n.Arguments) != 1 {
			return value{}, false
		}
		return l.unitOrAmount(callee.Value, n.Arguments[0])
	}
	return value{}, false
}

func (l *linter) unitOrAmount(name string, arg ast.Node) (value, bool) {
	v, ok := l.constant(arg)
	if !ok {
		return value{}, false
	}
	switch of := units[name]; {
	case of > 0 && v.kind == 'n':
		return value{kind: 'd', n: v.n * float64(of.Milliseconds()), unit: name, written: v.n, param: v.param}, true
	case (name == "eur" || name == "usd" || name == "cny") && v.kind == 'n':
		return value{kind: 'm', n: v.n, text: strings.ToUpper(name)}, true
	case name == "money" && v.kind == 't':
		if amount, code, ok := strings.Cut(v.text, " "); ok {
			if m, err := hub.ParseMoney(amount, code); err == nil {
				f, _ := m.Amount.Float64()
				return value{kind: 'm', n: f, text: m.Currency}, true
			}
		}
	case name == "date" && v.kind == 't':
		for _, layout := range []string{time.DateOnly, time.RFC3339} {
			if t, err := time.Parse(layout, v.text); err == nil {
				return value{kind: 'i', n: float64(t.UnixMilli())}, true
			}
		}
	}
	return value{}, false
}

func (l *linter) calculated(n *ast.BinaryNode) (value, bool) {
	a, okA := l.constant(n.Left)
	b, okB := l.constant(n.Right)
	if !okA || !okB {
		return value{}, false
	}
	number := a.kind == 'n' && b.kind == 'n'
	out := value{kind: a.kind, text: a.text}
	if a.kind == 'n' {
		out.kind, out.text = b.kind, b.text
	}
	switch {
	case n.Operator == "*" && (a.kind == 'n' || b.kind == 'n'):
		out.n = a.n * b.n
	case n.Operator == "/" && b.kind == 'n' && b.n != 0:
		out.kind, out.text, out.n = a.kind, a.text, a.n/b.n
	case (n.Operator == "+" || n.Operator == "-") && (number || a.kind == b.kind && (a.kind == 'd' || a.kind == 'm' && a.text == b.text)):
		out.n = a.n + b.n
		if n.Operator == "-" {
			out.n = a.n - b.n
		}
	default:
		return value{}, false
	}
	return out, out.kind == 'n' || out.kind == 'd' || out.kind == 'm'
}

// property returns what stands behind the dot, "" for list[number].
func property(n *ast.MemberNode) string {
	if s, ok := n.Property.(*ast.StringNode); ok {
		return s.Value
	}
	return ""
}

// named returns the kinds that a literal stands for, nil for none.
func (l *linter) named(n ast.Node) ([]string, string) {
	if p, ok := n.(*ast.PredicateNode); ok {
		n = p.Node
	}
	s, ok := n.(*ast.StringNode)
	if !ok {
		return nil, ""
	}
	if _, ok := l.opts.Kinds.Lookup(s.Value); ok {
		return []string{s.Value}, s.Value
	}
	return l.opts.Kinds.Of(s.Value), s.Value
}

// condition is a rule's or a named condition, parsed.
type condition struct {
	lifecycle.Condition
	path string
	node ast.Node
}

func (c condition) place(n ast.Node) (line, column int) { return c.Place(n.Location().From) }
