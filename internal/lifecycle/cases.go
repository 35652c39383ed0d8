package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// Test is one case that a model's file carries: what happens to one customer, and what is expected of the model, with a
// clock of its own. The package comment shows how it is written.
type Test struct {
	Name string
	Line int
	// Params replace the model's own for this test. What a configuration overrides does not count in tests.
	Params map[string]string
	Events []TestEvent
	// Stages are where the customer stands in other models, by time; an entry with a zero At holds from the beginning.
	Stages []TestStage
	Pins   []TestPin
	// Scores are what is calculated of the customer, by time like Stages; Identifiers are hers throughout.
	Scores      []TestScores
	Identifiers []hub.Identifier
	Expect      []Expectation
	// Walk is the stages passed, the first one included, and no others; nil where it is not asked.
	Walk []string
	// Moves are all transitions and no others, where AllMoves is set.
	Moves    []ExpectedMove
	AllMoves bool
	// Start and Until are the first and the last instant looked at.
	Start, Until time.Time

	line int // of walk or transitions
}

// TestEvent is an event of a test. Known is when it became known, its own time unless it came late.
type TestEvent struct {
	hub.Event

	Known time.Time
	Line  int
}

// TestStage is a stage in another model from At on.
type TestStage struct {
	At           time.Time
	Model, Stage string
}

// TestScores are the scores of the customer from At on.
type TestScores struct {
	At time.Time
	fact.Scores
}

// TestPin is a person's decision: Stage from At through Until (zero: until it is released), or the release.
type TestPin struct {
	At, Until time.Time
	Stage     string
	Release   bool
}

// Expectation is what a test expects at an instant. What is zero is not asked.
type Expectation struct {
	At    time.Time
	Stage string
	// From and To are a move at that very instant, where Move is set.
	From, To string
	Move     bool
	// Wakes is the next instant at which the model is asked again, zero for never, where AsksWake is set.
	Wakes    time.Time
	AsksWake bool
	// NextAt and NextTo are the next move by silence alone, where AsksNext is set: both zero for none.
	NextAt   time.Time
	NextTo   string
	AsksNext bool
	// Because are texts that the plain sentence must contain.
	Because []string
	// Nearest are texts of the nearest changes, each as "lost: one more order.refunded"; one of them must contain it.
	Nearest []string
	Clauses []ExpectedClause
	Line    int
}

// ExpectedClause is what a part of a condition must come to.
type ExpectedClause struct {
	Text string // as it stands in the model, or the name of a defined condition
	Is   bool
	Line int
}

// ExpectedMove is one transition of a test. At is zero and From empty where they are not asked.
type ExpectedMove struct {
	At       time.Time
	From, To string
	Because  []string
	Line     int
}

// TestResult is what became of a test. Failures is empty for one that passed; Details has one for each of them.
type TestResult struct {
	Model    string    `json:"model"`
	File     string    `json:"file"`
	Name     string    `json:"name"`
	Line     int       `json:"line"`
	Failures []string  `json:"failures,omitempty"`
	Details  []Failure `json:"details,omitempty"`
}

// Failure is one expectation that was not met.
type Failure struct {
	Line     int       `json:"line"`
	At       time.Time `json:"at"`
	What     string    `json:"what"` // "the stage is", "the transitions are", …
	Expected string    `json:"expected"`
	Got      string    `json:"got"`
	// Because is the plain sentence for what was got; Clauses has the values of the condition that won.
	Because string              `json:"because,omitempty"`
	Rule    int                 `json:"rule_line,omitempty"` // the line of the rule that won
	Clauses []ClauseExplanation `json:"clauses,omitempty"`
	// Instead are the rules that would have given what was expected, and what each of them says.
	Instead []RuleExplanation `json:"instead,omitempty"`
	// explains is set where the sentence, not the decision, is not as expected.
	explains bool
}

// String gives the failure in one line.
func (f Failure) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "line %d: ", f.Line)
	if !f.At.IsZero() {
		fmt.Fprintf(&b, "at %s ", f.At.Format(time.RFC3339Nano))
	}
	fmt.Fprintf(&b, "%s %s, expected %s", f.What, f.Got, f.Expected)
	if f.Because != "" {
		fmt.Fprintf(&b, " (%s)", f.Because)
	}
	return b.String()
}

// broken is the failure of a condition that could not be evaluated.
func broken(line int, err error) Failure {
	return Failure{Line: line, What: err.Error() + ":", Expected: "a condition that can be evaluated", Got: "it counts as not holding"}
}

// RunTests runs the tests that the model's file carries.
func RunTests(m *Model) []TestResult {
	out := make([]TestResult, 0, len(m.Tests))
	for i := range m.Tests {
		out = append(out, m.Tests[i].Run(m))
	}
	return out
}
