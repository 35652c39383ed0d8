package funnel

import (
	"cmp"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Count is a funnel that is being counted.
type Count struct {
	query   Query
	known   int // stages of the model; those after them are gone
	targets []*Target
	names   []string
	number  map[string]int

	stages      []stageCount
	flows       map[pair]*flowCount
	conversions map[pair]*conversionCount
	entrants    map[int]int // subjects that came into a stage
	met         []Met
	matrix      map[pair]int
	series      seriesCount
	cohorts     map[time.Time]*cohortCount

	judges bool   // some stage has a target
	stays  []span // of the present history
	next   map[int]time.Time
}

type pair struct{ from, to int }

// span is a stay with its end.
type span struct {
	stage      int
	since, end time.Time // end is zero while it lasts
	adopted    bool      // found there
	atOnce     bool      // left by her first event
}

type stageCount struct {
	Stage
	stays, ages []time.Duration
}

type flowCount struct {
	Flow
	last  int // the number of the history counted last, for Customers
	times []time.Duration
}

type conversionCount struct {
	reached int
	times   []time.Duration
}

// nowhere stands for not being in the model yet.
const nowhere = -1

// New begins to count. It wraps hub.ErrInvalid where the query makes no sense.
func New(m Model, q Query) (*Count, error) {
	if err := q.Check(); err != nil {
		return nil, err
	}
	c := &Count{
		query: q, number: map[string]int{}, flows: map[pair]*flowCount{}, conversions: map[pair]*conversionCount{}, entrants: map[int]int{},
		matrix: map[pair]int{}, cohorts: map[time.Time]*cohortCount{}, next: map[int]time.Time{},
	}
	for _, s := range m.Stages {
		c.stage(s.Name)
		c.targets = append(c.targets, s.Target)
		c.judges = c.judges || s.Target != nil
	}
	c.known = len(m.Stages)
	c.met = make([]Met, c.known)
	return c, nil
}

// stage returns a stage's number.
func (c *Count) stage(name string) int {
	n, ok := c.number[name]
	if !ok {
		n = len(c.names)
		c.number[name] = n
		c.names = append(c.names, name)
		c.stages = append(c.stages, stageCount{Stage: Stage{Name: name}})
	}
	return n
}

// within reports whether t lies in the window.
func (c *Count) within(t time.Time) bool { return !t.Before(c.query.From) && t.Before(c.query.To) }

// Add counts one history. It does not keep it.
func (c *Count) Add(h *hub.History) {
	c.stays = c.stays[:0]
	for i := range h.Stays {
		s := &h.Stays[i]
		if s.Since.After(c.query.At) {
			break // not seen yet
		}
		if n := len(c.stays); n > 0 {
			c.stays[n-1].end = s.Since
			c.stays[n-1].atOnce = n == 1 && !h.Adopted && s.Since.Sub(c.stays[0].since) <= hub.Resolution
		}
		c.stays = append(c.stays, span{stage: c.stage(s.Stage), since: s.Since, adopted: i == 0 && h.Adopted})
	}
	if len(c.stays) == 0 {
		return
	}
	c.addStages()
	c.addFlows()
	c.addConversions()
	c.addTargets()
	c.addMatrix()
	c.series.add(c.stays, &c.query)
	if c.query.Cohort != "" {
		c.addCohort()
	}
	c.series.subjects++
}

func (c *Count) addStages() {
	for i := range c.stays {
		s := &c.stays[i]
		count := &c.stages[s.stage]
		if c.within(s.since) {
			if s.adopted {
				count.Adopted++
			} else {
				count.Entered++
			}
		}
		if s.end.IsZero() {
			count.Customers++
			if !s.adopted {
				count.ages = append(count.ages, c.query.At.Sub(s.since))
			}
		} else if c.within(s.end) {
			count.Left++
			switch {
			case s.atOnce:
				count.AtOnce++
			case !s.adopted:
				count.stays = append(count.stays, s.end.Sub(s.since))
			}
		}
	}
}

func (c *Count) addFlows() {
	for i := 1; i < len(c.stays); i++ {
		before, s := &c.stays[i-1], &c.stays[i]
		if !c.within(s.since) {
			continue
		}
		key := pair{before.stage, s.stage}
		f := c.flows[key]
		if f == nil {
			f = &flowCount{last: -1}
			c.flows[key] = f
		}
		f.Moves++
		if f.last != c.series.subjects {
			f.last = c.series.subjects
			f.Customers++
		}
		switch {
		case before.atOnce:
			f.AtOnce++
		case !before.adopted:
			f.times = append(f.times, s.since.Sub(before.since))
		}
	}
}

// addConversions looks, from the first coming into each stage in the window, at what was reached after it.
func (c *Count) addConversions() {
	var began visits
	for i := range c.stays {
		s := &c.stays[i]
		if s.stage >= c.known || s.adopted || s.atOnce || !c.within(s.since) || !began.first(s.stage) {
			continue
		}
		c.entrants[s.stage]++
		var after visits
		for j := i + 1; j < len(c.stays); j++ {
			to := &c.stays[j]
			if to.stage <= s.stage || to.stage >= c.known || !after.first(to.stage) {
				continue // conversions go forward; the first time counts
			}
			key := pair{s.stage, to.stage}
			count := c.conversions[key]
			if count == nil {
				count = &conversionCount{}
				c.conversions[key] = count
			}
			count.reached++
			count.times = append(count.times, to.since.Sub(s.since))
		}
	}
}

// visits tells whether a stage is seen for the first time.
type visits struct {
	seen  map[int]struct{}
	small uint64 // the first 64 stages
}

func (v *visits) first(stage int) bool {
	if stage < 64 {
		before := v.small
		v.small |= 1 << stage
		return v.small != before
	}
	if v.seen == nil {
		v.seen = map[int]struct{}{}
	}
	before := len(v.seen)
	v.seen[stage] = struct{}{}
	return len(v.seen) != before
}

// addTargets goes backwards, so that the next coming into a target's stage is at hand.
func (c *Count) addTargets() {
	if !c.judges {
		return
	}
	clear(c.next)
	for i := len(c.stays) - 1; i >= 0; i-- {
		s := &c.stays[i]
		if s.stage < c.known && c.targets[s.stage] != nil && !s.adopted && !s.atOnce && c.within(s.since) {
			c.judge(s, c.targets[s.stage], &c.met[s.stage])
		}
		c.next[s.stage] = s.since
	}
}

func (c *Count) judge(s *span, target *Target, met *Met) {
	met.Entered++
	deadline := s.since.Add(target.Within)
	if deadline.After(c.query.At) {
		met.Waiting++
		return
	}
	met.Judged++
	if to, ok := c.number[target.To]; ok {
		if reached, ok := c.next[to]; ok && !reached.After(deadline) {
			met.Reached++
		}
	}
}

func (c *Count) addMatrix() {
	before, after := nowhere, nowhere
	for i := range c.stays {
		if c.stays[i].since.Before(c.query.From) {
			before = c.stays[i].stage
		}
		if c.stays[i].since.Before(c.query.To) {
			after = c.stays[i].stage
		}
	}
	if before != nowhere {
		c.stages[before].Before++
	}
	if after != nowhere {
		c.stages[after].After++
		c.matrix[pair{before, after}]++
	}
}

// Result ends the count. It wraps hub.ErrInvalid where the series or the cohorts are too many.
func (c *Count) Result() (*Result, error) {
	r := &Result{Stages: []Stage{}, Flows: []Flow{}, Conversions: []Conversion{}, Targets: []Met{}}
	// Stages that are gone come in the order of their names, whatever order the histories came in.
	order := make([]int, len(c.names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order[c.known:], func(a, b int) int { return cmp.Compare(c.names[a], c.names[b]) })
	place := make([]int, len(order))
	for i, n := range order {
		place[n] = i
	}
	for _, n := range order {
		s := &c.stages[n]
		s.Gone = n >= c.known
		s.MedianStay, s.MedianAge = median(s.stays), median(s.ages)
		r.Stages = append(r.Stages, s.Stage)
	}
	r.Flows = c.resultFlows(place)
	for from := range c.known {
		for to := from + 1; to < c.known; to++ {
			conversion := Conversion{From: c.names[from], To: c.names[to], Customers: c.entrants[from]}
			if count := c.conversions[pair{from, to}]; count != nil {
				conversion.Reached, conversion.Median = count.reached, median(count.times)
				conversion.Share = share(count.reached, conversion.Customers)
			}
			r.Conversions = append(r.Conversions, conversion)
		}
	}
	for n, target := range c.targets {
		if target == nil {
			continue
		}
		met := c.met[n]
		met.Stage, met.Target = c.names[n], *target
		if met.Judged > 0 {
			met.Actual = share(met.Reached, met.Judged)
			enough := met.Actual >= target.Share
			met.Met = &enough
		}
		r.Targets = append(r.Targets, met)
	}
	if !c.query.From.IsZero() {
		r.Matrix = c.resultMatrix(place)
	}
	var err error
	if r.Series, r.Every, err = c.series.result(&c.query, order); err != nil {
		return nil, err
	}
	if c.query.Cohort != "" {
		if r.Cohorts, err = c.resultCohorts(order); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (c *Count) resultFlows(place []int) []Flow {
	flows := make([]Flow, 0, len(c.flows))
	for key, f := range c.flows {
		f.From, f.To = c.names[key.from], c.names[key.to]
		f.Share, f.Median = share(f.Moves, c.stages[key.from].Left), median(f.times)
		flows = append(flows, f.Flow)
	}
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(place[c.number[a.From]], place[c.number[b.From]]), cmp.Compare(place[c.number[a.To]], place[c.number[b.To]]))
	})
	return flows
}

func (c *Count) resultMatrix(place []int) []Cell {
	at := func(n int) int {
		if n == nowhere {
			return nowhere
		}
		return place[n]
	}
	keys := make([]pair, 0, len(c.matrix))
	for key := range c.matrix {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b pair) int {
		return cmp.Or(cmp.Compare(at(a.from), at(b.from)), cmp.Compare(at(a.to), at(b.to)))
	})
	cells := make([]Cell, 0, len(keys))
	for _, key := range keys {
		cell := Cell{To: c.names[key.to], Customers: c.matrix[key]}
		if key.from != nowhere {
			cell.From = c.names[key.from]
		}
		cells = append(cells, cell)
	}
	return cells
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// median sorts the times. Of an even number it is the middle between the two in the middle.
func median(times []time.Duration) *time.Duration {
	n := len(times)
	if n == 0 {
		return nil
	}
	slices.Sort(times)
	m := times[n/2]
	if n%2 == 0 {
		m = times[n/2-1] + (m-times[n/2-1])/2
	}
	return &m
}
