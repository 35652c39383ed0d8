package funnel

import (
	"time"
)

// cohortCount gathers those who came into the model in one interval.
type cohortCount struct {
	customers int
	stages    map[int]*cohortStage
}

type cohortStage struct {
	reached   int
	customers int
	times     []time.Duration
}

func (c *cohortCount) stage(n int) *cohortStage {
	s := c.stages[n]
	if s == nil {
		s = &cohortStage{}
		c.stages[n] = s
	}
	return s
}

// addCohort puts who came into the model within the window into her cohort.
func (c *Count) addCohort() {
	since := c.stays[0].since
	if c.stays[0].adopted || !c.within(since) {
		return
	}
	start := c.query.Cohort.Start(since)
	cohort := c.cohorts[start]
	if cohort == nil {
		cohort = &cohortCount{stages: map[int]*cohortStage{}}
		c.cohorts[start] = cohort
	}
	cohort.customers++
	var came visits
	for i := range c.stays {
		s := &c.stays[i]
		stage := cohort.stage(s.stage)
		if s.end.IsZero() {
			stage.customers++
		}
		if s.atOnce || !came.first(s.stage) {
			continue
		}
		stage.reached++
		stage.times = append(stage.times, s.since.Sub(since))
	}
}

func (c *Count) resultCohorts(order []int) ([]Cohort, error) {
	cohorts := []Cohort{}
	if len(c.cohorts) == 0 {
		return cohorts, nil
	}
	var from, to time.Time
	for start := range c.cohorts {
		if from.IsZero() || start.Before(from) {
			from = start
		}
		if end := c.query.Cohort.Next(start); end.After(to) {
			to = end
		}
	}
	list := points(c.query.Cohort, from, to, MaxPoints)
	if list == nil {
		return nil, tooMany("a table of cohorts", c.query.Cohort, from, to)
	}
	for _, p := range list {
		cohort := Cohort{From: p.From, To: p.To}
		count := c.cohorts[p.From]
		if count == nil { // an interval in which nobody came
			count = &cohortCount{}
		}
		cohort.Customers = count.customers
		for _, n := range order {
			stage := CohortStage{}
			if s := count.stages[n]; s != nil {
				stage = CohortStage{Reached: s.reached, Share: share(s.reached, count.customers), Customers: s.customers, Median: median(s.times)}
			}
			cohort.Stages = append(cohort.Stages, stage)
		}
		cohorts = append(cohorts, cohort)
	}
	return cohorts, nil
}
