package lint

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// logic proves what it can of the rules: that a condition never or always holds, that a rule is shadowed.
func (l *linter) logic() {
	for i, r := range l.rules {
		if slices.ContainsFunc(l.rules[:i], func(above *rule) bool { return above.firm() && l.proof.never(not(all(above.open, above.when))) }) {
			r.dead = true // the one that always holds is reported
			continue
		}
		said := l.parts(r.condition)
		line, column := r.place(first(r.node))
		path := r.path
		switch {
		case l.proof.never(r.when):
			r.dead = true
			if !said {
				l.report(checkConstant, line, column, path, "its parts exclude each other: see which of them is wrong", "this condition can never hold")
			}
			continue
		case r.firm() && l.proof.never(not(r.when)):
			if !said {
				l.report(checkConstant, line, column, path, "say otherwise: "+r.Stage+" where that is meant", "this condition always holds, so no line below is ever asked")
			}
			continue
		case l.proof.never(all(r.open, r.when)):
			r.dead = true
			l.report(checkConstant, line, column, path, "compare it with from", "this condition can never hold in the stages that the rule is asked in")
			continue
		}
		l.shadow(i, r)
	}
	for _, d := range l.conditions() {
		if strings.HasPrefix(d.path, "define.") {
			l.parts(d)
		}
	}
}

// shadow reports a rule that cannot win because those above it hold whenever it does.
func (l *linter) shadow(i int, r *rule) {
	mine := all(r.open, r.when)
	report := func(suggestion, format string, args ...any) {
		r.dead = true
		l.report(checkShadowed, r.Line, l.ruleColumn(i), fmt.Sprintf("decide[%d]", i), suggestion, format, args...)
	}
	for _, above := range l.rules[:i] {
		if !above.firm() || !l.proof.never(all(mine, not(all(above.open, above.when)))) {
			continue
		}
		if above.Stage == r.Stage {
			report("take it out, or mend what makes it differ", "this rule is never reached: whenever it holds, the rule for %s on line %d holds as well", above.Stage, above.Line)
		} else {
			report(fmt.Sprintf("move it above line %d, or make one of the two narrower", above.Line),
				"this rule is never reached: whenever it holds, the rule for %s on line %d holds too and comes first", above.Stage, above.Line)
		}
		return
	}
	rest, ok := l.proof.conjoin([]alternative{{}}, mine)
	for _, above := range l.rules[:i] {
		if ok && above.firm() {
			rest, ok = l.proof.conjoin(rest, not(all(above.open, above.when)))
		}
	}
	if ok && len(rest) == 0 {
		report("move it up, or make those above it narrower", "this rule is never reached: whenever it holds, one of the rules above it holds too")
	}
}

func (l *linter) ruleColumn(i int) int {
	if n := item(child(l.root, "decide"), i); n != nil {
		return n.Column
	}
	return 1
}

// parts reports the parts of a condition that always or never hold.
func (l *linter) parts(c condition) bool {
	said := false
	report := func(n ast.Node, format string, args ...any) {
		said = true
		line, column := c.place(first(n))
		l.report(checkConstant, line, column, c.path, "leave it out, or mend the number", format, args...)
	}
	var walk func(n ast.Node, whole bool)
	walk = func(n ast.Node, whole bool) {
		switch n := n.(type) {
		case *ast.BinaryNode:
			switch n.Operator {
			case "and", "&&":
				walk(n.Left, false)
				walk(n.Right, false)
				return
			case "or", "||":
				walk(n.Left, false)
				walk(n.Right, false)
				if said {
					return
				}
				for _, side := range []ast.Node{n.Left, n.Right} {
					if b, ok := side.(*ast.BinaryNode); ok && (b.Operator == "and" || b.Operator == "&&") && l.proof.never(l.formula(side, 0)) {
						report(side, "this part can never hold: %s", b.String())
					}
				}
				return
			}
		case *ast.UnaryNode:
			if n.Operator == "not" || n.Operator == "!" {
				walk(n.Node, false)
				return
			}
		case *ast.BoolNode:
			if whole {
				return // said of the rule as a whole
			}
		case *ast.IdentifierNode, *ast.MemberNode:
			return // a named condition or a switch among the params: judged where it stands
		}
		switch f := l.formula(n, 0); {
		case f.op == '&' && len(f.parts) == 0:
			report(n, "this part always holds: %s", n.String())
		case f.op == '|' && len(f.parts) == 0:
			report(n, "this part can never hold: %s", n.String())
		}
	}
	walk(c.node, true)
	return said
}

// first returns the leftmost part of an expression: where a person sees it begin.
func first(n ast.Node) ast.Node {
	for {
		switch at := n.(type) {
		case *ast.BinaryNode:
			n = at.Left
		case *ast.MemberNode:
			n = at.Node
		case *ast.ChainNode:
			n = at.Node
		default:
			return n
		}
	}
}

// stages reports what is wrong with the stages as places to come to and to leave.
func (l *linter) stages() {
	otherwise, _ := l.m.Otherwise()
	reached := map[string]bool{}
	always := slices.ContainsFunc(l.rules, func(r *rule) bool { return r.firm() && l.proof.never(not(all(r.open, r.when))) })
	switch {
	case otherwise == "":
		reached[l.m.Stages[0].Name] = true
	case !always:
		reached[otherwise] = true
	}
	l.reached = reached
	for more := true; more; {
		more = false
		for _, r := range l.rules {
			from := len(r.From) == 0 || slices.ContainsFunc(r.From, func(s string) bool { return reached[s] })
			if !r.dead && from && !reached[r.Stage] {
				reached[r.Stage], more = true, true
			}
		}
	}
	list := child(l.root, "stages")
	for i, st := range l.m.Stages {
		n, path := item(list, i), fmt.Sprintf("stages[%d]", i)
		if !reached[st.Name] {
			// Where a rule leads to it that cannot win, that has been said.
			if always || slices.ContainsFunc(l.rules, func(r *rule) bool { return r.dead && r.Stage == st.Name }) {
				continue
			}
			l.at(child(n, "name"), checkUnreachable, path, "lead a rule to it, or take it out", "no customer can reach stage %s: no rule that can win leads to it", st.Name)
			continue
		}
		l.leaving(i, path)
		if st.Target == nil {
			continue
		}
		t := child(n, "target")
		switch to := st.Target.To; {
		case to == st.Name:
			l.at(child(t, "to"), checkTarget, path+".target.to", "name the stage they are to go on to", "the target of %s is %s itself", st.Name, to)
		case !reached[to]:
			l.at(child(t, "to"), checkTarget, path+".target.to", "lead a rule to it, or choose another target", "no customer can reach the target %s", to)
		case st.Target.Within < st.Dwell && !slices.Contains(st.YieldsTo, to):
			l.at(child(t, "within"), checkTarget, path+".target.within", "make it longer than dwell, or name the target in yields_to",
				"the target cannot be met: dwell keeps customers in %s for longer than that", st.Name)
		}
	}
	l.sameStage(otherwise)
}

// leaving reports a stage that nobody leaves.
func (l *linter) leaving(i int, path string) {
	st := l.m.Stages[i]
	otherwise, _ := l.m.Otherwise()
	if st.Terminal || len(l.m.Stages) == 1 {
		return
	}
	name := child(item(child(l.root, "stages"), i), "name")
	leads := otherwise != "" && otherwise != st.Name
	for _, r := range l.rules {
		open := len(r.From) == 0 || slices.Contains(r.From, st.Name)
		leads = leads || open && r.Stage != st.Name // one that cannot win has been told of
	}
	if !leads {
		l.at(name, checkNoWayOut, path, "say terminal: true where that is meant, or give a rule that leads on", "no rule leads out of stage %s", st.Name)
		return
	}
	for _, r := range l.rules {
		switch {
		case r.dead:
		case r.Stage != st.Name && (len(r.From) == 0 || slices.Contains(r.From, st.Name)):
			return // a rule above can lead out
		case r.Stage == st.Name && (len(r.From) == 0 || slices.Contains(r.From, st.Name)) && l.lasting(r.when):
			l.at(name, checkNoWayOut, path, "give the condition a window, put a rule above it, or say terminal: true where that is meant",
				"nobody leaves stage %s: the condition on line %d, once it holds, holds for ever, and no rule above it leads elsewhere", st.Name, r.Line)
			return
		}
	}
}

// lasting reports whether a formula that holds once goes on holding whatever happens.
func (l *linter) lasting(f formula) bool {
	switch f.op {
	case '=':
		c := f.term.count
		if c == nil || c.list != "" || c.standing || c.which != "" || !math.IsInf(c.window, 1) {
			return false
		}
		_, most := f.set.bounds()
		return math.IsInf(most, 1) && len(f.set.ranges) == 1
	}
	for _, p := range f.parts {
		if !l.lasting(p) {
			return false
		}
	}
	return true
}

// sameStage reports the rules at the end that give what otherwise gives.
func (l *linter) sameStage(otherwise string) {
	if otherwise == "" {
		return
	}
	i := len(l.rules)
	for i > 0 && l.rules[i-1].Stage == otherwise && !l.leadsOut(l.rules[i-1]) {
		i--
	}
	if i == len(l.rules) || l.rules[i].dead {
		return
	}
	r, path := l.rules[i], fmt.Sprintf("decide[%d]", i)
	if i == 0 {
		l.report(checkSameStage, r.Line, l.ruleColumn(i), path, "write a rule for each stage", "every line gives stage %s, so nothing is decided", otherwise)
		return
	}
	l.report(checkSameStage, r.Line, l.ruleColumn(i), path, "take it out", "this rule makes no difference: without it, otherwise gives %s as well", otherwise)
}

// leadsOut reports whether a rule leads out of a terminal stage, which otherwise never does.
func (l *linter) leadsOut(r *rule) bool {
	return slices.ContainsFunc(r.From, func(s string) bool { st := l.m.Stage(s); return st != nil && st.Terminal })
}
