package expression

import (
	"fmt"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// said is a leaf prepared for being told: its sides, where it compares.
type said struct {
	left, right         *Program // nil where it does not compare
	subject             ast.Node // the left side, named values resolved
	operator            string
	leftText, rightText string
}

// say takes the clause apart once. What is written out stands on the right.
func (c *Clause) say() *said {
	c.sayOnce.Do(func() {
		left, operator, right, ok := comparisonOf(c.node)
		if !ok {
			return
		}
		leftText, rightText := c.Left, c.Right
		if n, isBinary := c.node.(*ast.BinaryNode); isBinary {
			if _, fixed := written(n.Left); fixed && operator != "in" {
				left, right, operator = right, left, mirrored(operator)
				leftText, rightText = rightText, leftText
			}
		} else if left.Location().From > c.node.Location().From {
			// The checker has put what changes on the left already; a call for a comparison lies where its operator does.
			leftText, rightText = rightText, leftText
		}
		code, err := assemble(left, "")
		if err != nil {
			return
		}
		bound, err := assemble(right, "")
		if err != nil {
			return
		}
		c.said = said{
			left: &Program{code: code}, right: &Program{code: bound}, subject: resolved(left), operator: operator,
			leftText: oneLine(leftText), rightText: oneLine(rightText),
		}
	})
	return &c.said
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// resolved follows named values to what they stand for.
func resolved(n ast.Node) ast.Node {
	for range maxDefines {
		call, ok := n.(*ast.CallNode)
		if !ok {
			return n
		}
		if id, ok := call.Callee.(*ast.IdentifierNode); !ok || id.Value != "$define" {
			return n
		}
		p, ok := call.Arguments[1].(*ast.ConstantNode).Value.(*Program)
		if !ok {
			return n
		}
		n = p.node
	}
	return n
}

// Found tells what the side of a comparison that depends on the facts came to, "" where the clause does not compare, fails or
// nothing is there.
func (s *Session) Found(c *Clause) string {
	side := c.say()
	if side.left == nil {
		return ""
	}
	v, err := s.Run(side.left)
	if err != nil {
		return ""
	}
	return s.tell(v)
}

// Needed tells what the clause compares with: "at least 180 days"; "" where it does not compare.
func (s *Session) Needed(c *Clause) string {
	side := c.say()
	if side.left == nil {
		return ""
	}
	return s.needed(side, side.operator)
}

func (s *Session) needed(side *said, operator string) string {
	v, err := s.Run(side.right)
	if err != nil {
		return ""
	}
	value := s.tell(v)
	if value == "" {
		if value = side.rightText; value == `""` || value == "''" {
			value = "nothing"
		}
	}
	switch operator {
	case ">=":
		return "at least " + value
	case ">":
		return "more than " + value
	case "<":
		return "less than " + value
	case "<=":
		return "at most " + value
	case "==":
		return value
	case "!=":
		return "other than " + value
	case "in":
		return "one of " + value
	case "not in":
		return "none of " + value
	}
	return operator + " " + value
}

// tell writes a value for a person; what stands for a point in time that something is measured from becomes the span since then.
func (s *Session) tell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case *fact.Entry:
		return about(time.Duration(max(0, add(s.at, -v.Millis()))) * time.Millisecond)
	case *fact.Object:
		return v.Kind + " " + v.ID
	case instant:
		if int64(v) == none {
			return "never"
		}
		if t := time.UnixMilli(int64(v)).UTC(); t.Equal(t.Truncate(24 * time.Hour)) {
			return t.Format(time.DateOnly)
		}
		return render(v)
	case time.Duration:
		if v == neverSpan {
			return "never"
		}
		return about(v)
	case hub.Money:
		if v.IsZero() {
			return v.Amount.String()
		}
		return v.String()
	case []*fact.Entry, []*fact.Object:
		return fmt.Sprintf("%d of them", lengthOf(v))
	}
	return render(v)
}

var opposite = map[string]string{
	">=": "<", ">": "<=", "<": ">=", "<=": ">", "==": "!=", "!=": "==", "in": "not in",
	"contains": "does not contain", "startsWith": "does not start with", "endsWith": "does not end with", "matches": "does not match",
}

// Say tells in words what made a leaf hold, or with holds false what made it not hold: "last order.paid 180 days ago
// (2026-01-01), at least 180 days needed". Where it has no words it gives the text.
func (s *Session) Say(c *Clause, holds bool) string {
	side := c.say()
	if side.left == nil {
		return s.sayPlain(c, holds)
	}
	v, err := s.Run(side.left)
	if err != nil {
		return c.plainText(holds)
	}
	operator := side.operator
	if !holds {
		operator = opposite[operator]
	}
	bound := s.needed(side, operator)
	found := s.foundWords(side, v)
	if operator == "==" || operator == "in" {
		return found // which is what was asked for
	}
	if right, err := s.Run(side.right); err != nil || missing(right) || !holds && missing(v) {
		return found // with what is not there every comparison is false
	}
	return found + ", " + bound + " needed"
}

func (c *Clause) plainText(holds bool) string {
	if holds {
		return oneLine(c.Text)
	}
	return "not " + oneLine(c.Text)
}

// foundWords tells what the left side of a comparison found.
func (s *Session) foundWords(side *said, v any) string {
	value := s.tell(v)
	name, arg := calleeOf(side.subject)
	fallback := func() string {
		if value == "" {
			value = "nothing"
		}
		return side.leftText + " is " + value
	}
	switch name {
	case "$last", "$lastin", "$first", "$firstin":
		k, ok := arg(1).(*kindSet)
		e, isEntry := v.(*fact.Entry)
		if !ok || v != nil && !isEntry {
			return fallback()
		}
		if e == nil {
			return "no " + k.noun() + " so far"
		}
		return s.ago(strings.TrimSuffix(strings.TrimPrefix(name, "$"), "in")+" "+k.noun(), e.Millis())
	case "$count", "$countin":
		if k, ok := arg(1).(*kindSet); ok {
			words := value + " " + k.noun()
			if d, ok := arg(2).(time.Duration); ok {
				words += " within " + FormatDuration(d)
			}
			return words
		}
	case "$spent":
		words := value + " spent"
		if d, ok := arg(2).(time.Duration); ok {
			words += " within " + FormatDuration(d)
		}
		return words
	case "$survey":
		if metric, ok := arg(1).(string); ok && v != nil {
			return strings.ToUpper(metric) + " " + value
		}
	case "$else":
		return s.withDefault(side, v)
	case "$trait", "$field":
		if trait, ok := arg(1).(string); ok && value != "" {
			return trait + " is " + value
		}
	case "$person":
		if f, ok := arg(1).(*field); ok && value != "" {
			if score := scoreName(f); score != "" {
				return score + " is " + value
			}
			return f.name + " is " + value
		}
	case "$stages":
		if model, ok := arg(1).(string); ok {
			return "stage in " + model + " is " + value
		}
	case "$stage":
		return "stage was " + value
	case "$since":
		if i, ok := v.(instant); ok && int64(i) != none {
			return s.ago("stage entered", int64(i))
		}
	case "$consent":
		if channel, ok := arg(1).(string); ok && value != "" {
			return "consent for " + channel + " is " + value
		}
	case "$gap":
		if k, ok := arg(1).(*kindSet); ok {
			return "usual gap between " + k.noun() + " " + value
		}
	case "$at":
		if i, ok := v.(instant); ok && int64(i) != none {
			return s.ago(side.leftText, int64(i))
		}
	}
	return fallback()
}

// withDefault tells a value that ?? stands in for.
func (s *Session) withDefault(side *said, v any) string {
	call := side.subject.(*ast.CallNode)
	inner := resolved(call.Arguments[0])
	of, name := subjectOf(inner)
	code, err := assemble(inner, "")
	if err != nil {
		return side.leftText + " is " + s.tell(v)
	}
	real, err := s.Run(&Program{code: code})
	if err == nil && !missing(real) {
		part := *side
		part.subject = inner
		text, _, _ := strings.Cut(side.leftText, "??")
		part.leftText = strings.TrimLeft(strings.TrimSpace(text), "(")
		return s.foundWords(&part, real)
	}
	value := s.tell(v)
	if value == "" {
		value = "empty"
	}
	switch of {
	case OfSurvey:
		return "no " + strings.ToUpper(name) + " given, which counts as " + value
	case OfTrait:
		return name + " is not known, which counts as " + value
	case OfConsent:
		return "no consent for " + name + " is known, which counts as " + value
	}
	text, _, _ := strings.Cut(side.leftText, "??")
	return strings.TrimLeft(strings.TrimSpace(text), "(") + " is missing, which counts as " + value
}

// sayPlain tells a leaf that does not compare.
func (s *Session) sayPlain(c *Clause, holds bool) string {
	n := resolved(c.node)
	if b, ok := n.(*ast.BuiltinNode); ok && len(b.Arguments) == 2 {
		if words := s.sayQuantifier(c, b, holds); words != "" {
			return words
		}
	}
	name, arg := calleeOf(n)
	negated := false
	if u, ok := n.(*ast.UnaryNode); ok { // x != nil
		if inner, _ := calleeOf(u.Node); inner == "$isnil" {
			name, negated = inner, true
		}
	}
	if name == "$isnil" && c.Left != "" {
		side := c.Left
		if side == "nil" {
			side = c.Right
		}
		if holds != negated {
			return oneLine(side) + " is not known"
		}
		return oneLine(side) + " is known"
	}
	k, ok := arg(1).(*kindSet)
	if !ok {
		return c.plainText(holds)
	}
	all := s.entries(k)
	last := int64(none)
	if len(all) > 0 {
		last = all[len(all)-1].Millis()
	}
	within := ""
	if d, ok := arg(2).(time.Duration); ok {
		within = " within " + FormatDuration(d)
	}
	switch name {
	case "$ever", "$never", "$within", "$without":
	default:
		return c.plainText(holds)
	}
	happened := (name == "$ever" || name == "$within") == holds
	switch {
	case happened && within != "":
		return s.ago("last "+k.noun(), last) + "," + within
	case happened:
		return s.ago("last "+k.noun(), last)
	case last == none:
		return "no " + k.noun() + " so far"
	}
	return "no " + k.noun() + within + ", " + s.ago("the last", last)
}

// sayQuantifier tells of any, none, all, one how many there were.
func (s *Session) sayQuantifier(c *Clause, b *ast.BuiltinNode, holds bool) string {
	switch b.Name {
	case "any", "none", "all", "one":
	default:
		return ""
	}
	for _, l := range c.Looks().Lists {
		if !l.Predicate {
			continue
		}
		whole := *l
		whole.matches = nil
		n, of := len(s.Entries(l)), len(s.Entries(&whole))
		if l.Object != "" {
			n, of = len(s.Objects(l)), len(s.Objects(&whole))
		}
		return fmt.Sprintf("%s (%d of %d %s)", c.plainText(holds), n, of, l.Name)
	}
	return ""
}

// ago tells when something was: "last order.paid 180 days ago (2026-01-01)".
func (s *Session) ago(what string, ms int64) string {
	if ms == none {
		return what + " never"
	}
	day := time.UnixMilli(ms).UTC().Format(time.DateOnly)
	switch span := time.Duration(add(s.at, -ms)) * time.Millisecond; {
	case span < -time.Second:
		return what + " in " + about(-span) + " (" + day + ")"
	case span < time.Second:
		return what + " at this moment (" + day + ")"
	default:
		return what + " " + about(span) + " ago (" + day + ")"
	}
}

// noun is how a sentence names a set of kinds.
func (k *kindSet) noun() string {
	switch {
	case k.name == "any":
		return "event of any kind"
	case len(k.kinds) != 1 || k.kinds[0] != k.name:
		return k.name + " event"
	}
	return k.name
}

// calleeOf returns the name of the function that a node calls and its constant arguments.
func calleeOf(n ast.Node) (name string, arg func(int) any) {
	call, ok := n.(*ast.CallNode)
	if !ok {
		return "", func(int) any { return nil }
	}
	if id, ok := call.Callee.(*ast.IdentifierNode); ok {
		name = id.Value
	}
	return name, func(i int) any {
		if i < len(call.Arguments) {
			if c, ok := call.Arguments[i].(*ast.ConstantNode); ok {
				return c.Value
			}
		}
		return nil
	}
}
