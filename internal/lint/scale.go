package lint

import (
	"github.com/expr-lang/expr/ast"
)

// metricOf returns nps, csat or ces where an expression is that score, perhaps with what counts where there is none.
func metricOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.BinaryNode:
		if n.Operator == "??" {
			return metricOf(n.Left)
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			switch id.Value {
			case "nps", "csat", "ces":
				return id.Value
			}
		}
	}
	return ""
}

// standIn looks at what counts where there is no score.
func (w *walker) standIn(n *ast.BinaryNode) {
	if metric := metricOf(n.Left); metric != "" {
		if v, ok := w.constant(n.Right); ok && v.kind == 'n' {
			w.scale(metric, "??", v.n, n.Right)
		}
	}
}

// metricScores looks at predicates such as .metric == "csat" and .score >= 4.
func (w *walker) metricScores(scope string, predicate ast.Node) {
	if scope != "survey.answered" {
		return
	}
	metric := ""
	for _, part := range conjuncts(predicate) {
		if b, ok := part.(*ast.BinaryNode); ok && b.Operator == "==" {
			if op, left, v, ok := w.sides(b); ok && op == "==" && v.kind == 't' {
				if m, ok := left.(*ast.MemberNode); ok && property(m) == "metric" {
					metric = v.text
				}
			}
		}
	}
	for _, part := range conjuncts(predicate) {
		b, ok := part.(*ast.BinaryNode)
		if !ok {
			continue
		}
		op, left, v, ok := w.sides(b)
		if !ok || v.kind != 'n' {
			continue
		}
		if m, ok := left.(*ast.MemberNode); ok && property(m) == "score" {
			w.scale(metric, op, v.n, b.Right)
		}
	}
}

// scale reports a threshold that is off a metric's scale, or usual on another's.
func (w *walker) scale(metric, op string, v float64, at ast.Node) {
	n := millis(v)
	good := op == ">=" || op == ">"
	switch metric {
	case "nps":
		switch {
		case v > 10 || v < 0 || v == 10 && op == ">" || v == 0 && op == "<":
			w.say(first(at), checkScale, "write 9 for promoters, 7 for content ones", "%s is off the scale: one NPS answer is 0 to 10 (the score of a whole company is -100 to 100)", n)
		case good && v >= 3 && v <= 5:
			w.say(first(at), checkScale, "did you mean csat()? For NPS write 9 for promoters, 7 for content ones", "%s is usual for CSAT (1 to 5); of NPS's 0 to 10, 6 and below are detractors", n)
		}
	case "csat":
		switch {
		case v > 100 || v < 0:
			w.say(first(at), checkScale, "write 4 for satisfied of 1 to 5, or 80 of 100", "%s is off the scale: CSAT is 1 to 5, or 0 to 100", n)
		case v > 5 && v <= 10:
			w.say(first(at), checkScale, "did you mean nps()? For CSAT write 4 of 5, or 80 of 100", "%s is usual for NPS (0 to 10); CSAT is 1 to 5, or 0 to 100", n)
		}
	case "ces":
		if v > 7 || v < 0 || v == 7 && op == ">" {
			w.say(first(at), checkScale, "write 5 for an easy one", "%s is off the scale: CES is 1 to 7", n)
		}
	}
}
