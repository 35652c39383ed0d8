package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/hub"
)

// FunnelQuery is what the query of a funnel says; what it does not say is zero.
type FunnelQuery struct {
	From, To, At time.Time // To does not belong to the window, At does to what is seen
	Every        funnel.Interval
	Cohort       funnel.Interval
	Stage        string
}

// funnelParameters are the query parameters of a funnel, as the command line's flags too.
var funnelParameters = []parameter{
	{"from", "Begin of the window: a date (its first instant, UTC) or a time such as 2026-03-01T10:00:00Z; the beginning of all where not given."},
	{"to", "End of the window: a date (that whole day belongs to it) or a time (which does not); now where not given."},
	{"at", "The instant up to which everything is seen: a date (the end of that day) or a time; now where not given."},
	{"cohort", "Put those together who came in the same day, week, month, quarter or year (UTC)."},
	{"every", "Interval of the series: day, week, month, quarter or year; what suits the window where not given."},
	{"stage", "Only what concerns this stage."},
}

// ParseFunnel reads the parameters of a funnel. Its errors wrap hub.ErrInvalid.
func ParseFunnel(get func(name string) string) (FunnelQuery, error) {
	q := FunnelQuery{Stage: get("stage")}
	for _, t := range []struct {
		name string
		to   *time.Time
		day  time.Duration // what a date alone stands for, from its first instant
	}{{"from", &q.From, 0}, {"to", &q.To, 24 * time.Hour}, {"at", &q.At, 24*time.Hour - hub.Resolution}} {
		text := get(t.name)
		if text == "" {
			continue
		}
		day, err := time.Parse(time.DateOnly, text)
		if err == nil {
			*t.to = day.Add(t.day)
			continue
		}
		if *t.to, err = time.Parse(time.RFC3339, text); err != nil {
			return q, fmt.Errorf("%s %q is neither a date such as 2026-03-01 nor a time such as 2026-03-01T10:00:00Z: %w", t.name, shorten(text, 40), hub.ErrInvalid)
		}
		*t.to = t.to.UTC()
	}
	for _, i := range []struct {
		name string
		to   *funnel.Interval
	}{{"cohort", &q.Cohort}, {"every", &q.Every}} {
		text := get(i.name)
		if text == "" {
			continue
		}
		var known []string
		for _, interval := range funnel.Intervals {
			known = append(known, string(interval))
			if text == string(interval) {
				*i.to = interval
			}
		}
		if *i.to == "" {
			return q, fmt.Errorf("%s %q is none of %s: %w", i.name, shorten(text, 40), strings.Join(known, ", "), hub.ErrInvalid)
		}
	}
	switch {
	case !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To):
		return q, fmt.Errorf("from %s lies after to %s: %w", get("from"), get("to"), hub.ErrInvalid)
	case !q.From.IsZero() && !q.At.IsZero() && q.From.After(q.At):
		return q, fmt.Errorf("from %s lies after at %s: %w", get("from"), get("at"), hub.ErrInvalid)
	case !q.To.IsZero() && !q.At.IsZero() && q.To.After(q.At.Add(hub.Resolution)):
		return q, fmt.Errorf("to %s lies after at %s, and nothing after that is seen: %w", get("to"), get("at"), hub.ErrInvalid)
	}
	return q, nil
}

func (s *Server) funnel(c *fiber.Ctx) error {
	q, err := ParseFunnel(func(name string) string { return c.Query(name) })
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), slowTimeout)
	defer cancel()
	out, err := s.opts.Views.Funnel(ctx, strings.Clone(c.Params("name")), q)
	if err != nil {
		return err
	}
	return ok(c, out)
}

// Funnel is what a model did to customers within a window.
type Funnel struct {
	Model   string             `json:"model"`
	Of      string             `json:"of"`   // whose stages: customer, company or deal
	From    *time.Time         `json:"from"` // null: the beginning
	To      *time.Time         `json:"to"`   // does not belong to the window
	At      *time.Time         `json:"at"`   // up to here everything is seen
	Stages  []FunnelStage      `json:"stages"`
	Flows   []FunnelFlow       `json:"flows"`
	Reached []FunnelConversion `json:"conversions"`
	Targets []FunnelTarget     `json:"targets"`
	Matrix  []FunnelCell       `json:"matrix"` // empty without a from
	Every   string             `json:"every"`
	Series  []FunnelPoint      `json:"series"`
	Cohorts []FunnelCohort     `json:"cohorts"` // empty unless asked for
}

// FunnelStage is one stage: before + entered + adopted - left = after.
type FunnelStage struct {
	Name       string            `json:"name"`
	Labels     map[string]string `json:"labels,omitempty"`
	Gone       bool              `json:"gone,omitzero"` // the model has it no more
	Customers  int               `json:"customers"`     // stand there at At
	Before     int               `json:"before"`        // stood there when the window began
	After      int               `json:"after"`         // stood there when it ended
	Entered    int               `json:"entered"`       // came in, within the window
	Left       int               `json:"left"`          // went out
	Adopted    int               `json:"adopted"`       // were found there when the model was published
	AtOnce     int               `json:"at_once"`       // of left: those whom their first event moved on; they are in no median
	MedianStay *string           `json:"median_stay"`   // of those who left; ISO 8601
	MedianAge  *string           `json:"median_age"`    // of those who stand there
}

// FunnelFlow is a move between two stages.
type FunnelFlow struct {
	From      string  `json:"from"`
	To        string  `json:"to"`
	Customers int     `json:"customers"` // different ones
	Moves     int     `json:"moves"`
	AtOnce    int     `json:"at_once"` // of moves: by their first event; they are not in the median
	Share     float64 `json:"share"`   // of all moves out of from, 0 to 1
	Median    *string `json:"median"`  // time in from before it
}

// FunnelConversion says how many who came into one stage ever reached a later one.
type FunnelConversion struct {
	From      string  `json:"from"`
	To        string  `json:"to"`
	Customers int     `json:"customers"` // came into from, within the window
	Reached   int     `json:"reached"`   // of them
	Share     float64 `json:"share"`
	Median    *string `json:"median"`
}

// FunnelTarget is a stage's own target and what became of it.
type FunnelTarget struct {
	Stage   string   `json:"stage"`
	To      string   `json:"to"`
	Within  string   `json:"within"`
	Share   float64  `json:"share"`   // wanted
	Entered int      `json:"entered"` // came into stage, each time counts
	Waiting int      `json:"waiting"` // of them: still have time
	Judged  int      `json:"judged"`  // of them: have none left
	Reached int      `json:"reached"` // of judged: were in to in time
	Actual  *float64 `json:"actual"`  // reached of judged; null where nobody can be judged yet
	Met     *bool    `json:"met"`
}

// FunnelCell is how many stood in one stage when the window began and in another when it ended.
type FunnelCell struct {
	From      string `json:"from"` // "": not in the model yet
	To        string `json:"to"`
	Customers int    `json:"customers"`
}

// FunnelPoint is one interval of the series.
type FunnelPoint struct {
	From      *time.Time     `json:"from"`
	To        *time.Time     `json:"to"`
	Customers map[string]int `json:"customers"` // by stage, when the interval ended
	Entered   map[string]int `json:"entered"`
}

// FunnelCohort are those who came into the model in one interval.
type FunnelCohort struct {
	From      *time.Time          `json:"from"`
	To        *time.Time          `json:"to"`
	Customers int                 `json:"customers"`
	Stages    []FunnelCohortStage `json:"stages"`
}

// FunnelCohortStage is what became of a cohort.
type FunnelCohortStage struct {
	Name      string  `json:"name"`
	Reached   int     `json:"reached"` // were ever there
	Share     float64 `json:"share"`
	Customers int     `json:"customers"` // stand there at At
	Median    *string `json:"median"`    // from coming into the model
}

// Count adds what was counted; only, where it is not "", is the one stage of interest.
func (f *Funnel) Count(r *funnel.Result, only string) {
	f.Stages, f.Flows, f.Reached, f.Targets = []FunnelStage{}, []FunnelFlow{}, []FunnelConversion{}, []FunnelTarget{}
	f.Matrix, f.Series, f.Cohorts = []FunnelCell{}, []FunnelPoint{}, []FunnelCohort{}
	about := func(stages ...string) bool {
		for _, s := range stages {
			if only == "" || s == only {
				return true
			}
		}
		return false
	}
	var places []int // in r.Stages
	for i, s := range r.Stages {
		if about(s.Name) {
			places = append(places, i)
			f.Stages = append(f.Stages, FunnelStage{
				Name: s.Name, Gone: s.Gone, Customers: s.Customers, Before: s.Before, After: s.After, Entered: s.Entered, Left: s.Left,
				Adopted: s.Adopted, AtOnce: s.AtOnce, MedianStay: iso(s.MedianStay), MedianAge: iso(s.MedianAge),
			})
		}
	}
	for _, l := range r.Flows {
		if about(l.From, l.To) {
			f.Flows = append(f.Flows, FunnelFlow{l.From, l.To, l.Customers, l.Moves, l.AtOnce, l.Share, iso(l.Median)})
		}
	}
	for _, v := range r.Conversions {
		if about(v.From, v.To) {
			f.Reached = append(f.Reached, FunnelConversion{v.From, v.To, v.Customers, v.Reached, v.Share, iso(v.Median)})
		}
	}
	for _, t := range r.Targets {
		if about(t.Stage) {
			shape := FunnelTarget{
				Stage: t.Stage, To: t.To, Within: funnel.ISO(t.Within), Share: t.Share, Entered: t.Entered, Waiting: t.Waiting,
				Judged: t.Judged, Reached: t.Reached, Met: t.Met,
			}
			if t.Met != nil {
				shape.Actual = &t.Actual
			}
			f.Targets = append(f.Targets, shape)
		}
	}
	for _, m := range r.Matrix {
		if about(m.From, m.To) {
			f.Matrix = append(f.Matrix, FunnelCell(m))
		}
	}
	f.Every = string(r.Every)
	for _, p := range r.Series {
		point := FunnelPoint{From: Time(p.From), To: Time(p.To), Customers: map[string]int{}, Entered: map[string]int{}}
		for _, i := range places {
			point.Customers[r.Stages[i].Name], point.Entered[r.Stages[i].Name] = p.Customers[i], p.Entered[i]
		}
		f.Series = append(f.Series, point)
	}
	for _, h := range r.Cohorts {
		cohort := FunnelCohort{From: Time(h.From), To: Time(h.To), Customers: h.Customers, Stages: []FunnelCohortStage{}}
		for _, i := range places {
			s := h.Stages[i]
			cohort.Stages = append(cohort.Stages, FunnelCohortStage{r.Stages[i].Name, s.Reached, s.Share, s.Customers, iso(s.Median)})
		}
		f.Cohorts = append(f.Cohorts, cohort)
	}
}

func iso(d *time.Duration) *string {
	if d == nil {
		return nil
	}
	text := funnel.ISO(*d)
	return &text
}
