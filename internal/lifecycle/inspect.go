package lifecycle

import (
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
)

// Rule is one line of decide as the file has it, for tools that judge models.
type Rule struct {
	Stage string
	From  []string // the present stages in which it is asked; none means all that are not terminal
	When  Condition
	// After is how long the condition must have held, Cooldown how long the stage must have been left; 0 for none.
	After, Cooldown time.Duration
	Line            int
}

// Condition is a compiled expression with its place in the file.
type Condition struct {
	*expression.Program
	at place
}

// Place returns where the character at offset of the expression's text stands.
func (c Condition) Place(offset int) (line, column int) {
	if c.at.at == nil {
		return c.at.line, c.at.column
	}
	return c.at.at(offset)
}

// File returns the name of the file that the model was compiled from.
func (m *Model) File() string { return m.file }

// Rules returns the lines of decide but for otherwise, in order.
func (m *Model) Rules() []Rule {
	out := make([]Rule, len(m.rules))
	for i, r := range m.rules {
		out[i] = Rule{Stage: r.stage, From: slices.Clone(r.from), When: Condition{r.when, m.places[r.when]}, After: r.after, Cooldown: r.cooldown, Line: r.line}
	}
	return out
}

// Otherwise returns the stage where no rule holds, "" for stay, and the line that says so.
func (m *Model) Otherwise() (stage string, line int) { return m.otherwise, m.line }

// Defines returns the named conditions.
func (m *Model) Defines() map[string]Condition {
	out := make(map[string]Condition, len(m.defines))
	for name, p := range m.defines {
		out[name] = Condition{p, m.places[p]}
	}
	return out
}

// Params returns the parameters, with the values they have where the model is used.
func (m *Model) Params() map[string]expression.Param { return m.env.Params }
