package funnel

import (
	"fmt"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Model is what a funnel must know of a model.
type Model struct {
	Name   string
	Stages []ModelStage // in the order of the journey
}

// ModelStage is one stage of a model.
type ModelStage struct {
	Name   string
	Target *Target // nil for none
}

// Target is a stage's own success check: Share of those who come into it go on to To within that time.
type Target struct {
	To     string
	Within time.Duration
	Share  float64
}

// Interval is a stretch of the calendar, in UTC. A week begins on Monday.
type Interval string

// Intervals.
const (
	Day     Interval = "day"
	Week    Interval = "week"
	Month   Interval = "month"
	Quarter Interval = "quarter"
	Year    Interval = "year"
)

// Intervals are all of them, the shortest first.
var Intervals = []Interval{Day, Week, Month, Quarter, Year}

// Start returns the beginning of the interval that holds t.
func (i Interval) Start(t time.Time) time.Time {
	t = t.UTC()
	year, month, day := t.Date()
	switch i {
	case Week:
		day -= (int(t.Weekday()) + 6) % 7
	case Month:
		day = 1
	case Quarter:
		month, day = month-(month-1)%3, 1
	case Year:
		month, day = time.January, 1
	}
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// Next returns the beginning of the interval after the one that begins at start.
func (i Interval) Next(start time.Time) time.Time {
	switch i {
	case Week:
		return start.AddDate(0, 0, 7)
	case Month:
		return start.AddDate(0, 1, 0)
	case Quarter:
		return start.AddDate(0, 3, 0)
	case Year:
		return start.AddDate(1, 0, 0)
	default:
		return start.AddDate(0, 0, 1)
	}
}

// MaxPoints is how many intervals a series and a table of cohorts may have.
const MaxPoints = 400

// Query says what is counted.
type Query struct {
	// From and To are the window: moves at From count, moves at To do not. The zero From is the beginning.
	From, To time.Time
	// At is the instant up to which everything is seen, itself included. It is not before the end of the window.
	At time.Time
	// Every is the interval of the series; "" takes the shortest of which the window holds at most 100.
	Every Interval
	// Cohort puts those together who came into the model in the same interval; "" makes no cohorts.
	Cohort Interval
}

// Check wraps hub.ErrInvalid where the query makes no sense.
func (q Query) Check() error {
	switch {
	case q.At.IsZero() || q.To.IsZero():
		return fmt.Errorf("a funnel needs the end of its window and the instant it is seen at: %w", hub.ErrInvalid)
	case !q.From.Before(q.To):
		return fmt.Errorf("from (%s) lies after to (%s): %w", form(q.From), form(q.To), hub.ErrInvalid)
	case q.To.After(q.At.Add(hub.Resolution)):
		return fmt.Errorf("at (%s) lies before the end of the window (%s): what comes after it is not seen: %w", form(q.At), form(q.To), hub.ErrInvalid)
	}
	return nil
}

func form(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Result is what was counted. Shares are from 0 to 1; medians are nil where there is nothing to take one of.
type Result struct {
	Stages      []Stage // the model's, then those its earlier versions had
	Flows       []Flow  // those that were taken, in the order of the stages
	Conversions []Conversion
	Targets     []Met
	Matrix      []Cell // nil without a From
	Series      []Point
	Every       Interval
	Cohorts     []Cohort // nil unless asked for
}

// Stage is one stage in the window. Before + Entered + Adopted - Left = After.
type Stage struct {
	Name      string
	Gone      bool // the model has no such stage any more
	Customers int  // stand there at Query.At
	Before    int  // stood there when the window began
	After     int  // stood there when it ended
	Entered   int  // came in; who came twice counts twice
	Left      int  // went out
	Adopted   int  // were found there when the model was published
	AtOnce    int  // of Left: those whom their first event moved on
	// MedianStay is the median time that those stayed who left. MedianAge is for how long those have been there who stand there at
	// Query.At, without those who were found there.
	MedianStay, MedianAge *time.Duration
}

// Flow is a move from one stage to another in the window.
type Flow struct {
	From, To  string
	Customers int     // different ones
	Moves     int     // who went twice counts twice
	AtOnce    int     // of Moves: by their first event
	Share     float64 // of all moves out of From
	Median    *time.Duration
}

// Conversion says how many of those who came into From in the window reached To later, on whatever way, by Query.At.
type Conversion struct {
	From, To  string
	Customers int
	Reached   int
	Share     float64
	Median    *time.Duration // from first coming into From to first coming into To after that
}

// Met is a stage's target held against those who came into it in the window, each time they did.
type Met struct {
	Stage string
	Target
	Entered int // came in
	Waiting int // of Entered: still have time at Query.At
	Judged  int // of Entered: have none left
	Reached int // of Judged: were in To in time
	Actual  float64
	Met     *bool // nil where nobody can be judged yet
}

// Cell is how many stood in From when the window began and in To when it ended; "" is not in the model yet.
type Cell struct {
	From, To  string
	Customers int
}

// Point is one interval of the series, cut to the window.
type Point struct {
	From, To  time.Time
	Customers []int // in each of Result.Stages when the interval ended
	Entered   []int // into each of Result.Stages in the interval
}

// Cohort are those who came into the model in one interval. Who was found there by it is in none.
type Cohort struct {
	From, To  time.Time
	Customers int
	Stages    []CohortStage // as Result.Stages
}

// CohortStage is what became of a cohort in one stage.
type CohortStage struct {
	Reached   int // were ever there by Query.At, for more than no time
	Share     float64
	Customers int            // stand there at Query.At
	Median    *time.Duration // from coming into the model to first coming here
}
