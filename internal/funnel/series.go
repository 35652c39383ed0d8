package funnel

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// seriesCount keeps how many came into each stage and left it on each day: fine enough for every interval.
type seriesCount struct {
	subjects int // counted so far
	days     map[dayStage]*dayCount
	earliest time.Time
}

type dayStage struct {
	day   int64 // since 1970, in UTC
	stage int
}

type dayCount struct {
	change  int // of how many stand there, by what happened before the window's end
	entered int // in the window
}

const secondsOfDay = 24 * 60 * 60

func dayOf(t time.Time) int64 {
	s := t.Unix()
	if s < 0 {
		s -= secondsOfDay - 1
	}
	return s / secondsOfDay
}

func (s *seriesCount) on(t time.Time, stage int) *dayCount {
	key := dayStage{dayOf(t), stage}
	d := s.days[key]
	if d == nil {
		if s.days == nil {
			s.days = map[dayStage]*dayCount{}
		}
		d = &dayCount{}
		s.days[key] = d
	}
	return d
}

func (s *seriesCount) add(stays []span, q *Query) {
	for i := range stays {
		stay := &stays[i]
		if !stay.since.Before(q.To) {
			return
		}
		d := s.on(stay.since, stay.stage)
		d.change++
		if !stay.adopted && !stay.since.Before(q.From) {
			d.entered++
		}
		if !stay.end.IsZero() && stay.end.Before(q.To) {
			s.on(stay.end, stay.stage).change--
		}
		if s.earliest.IsZero() || stay.since.Before(s.earliest) {
			s.earliest = stay.since
		}
	}
}

// preferredPoints is how many points a series has at most where nobody asked for an interval.
const preferredPoints = 100

// points returns the intervals between from and to, cut to them; nil where they are more than most.
func points(every Interval, from, to time.Time, most int) []Point {
	list := []Point{}
	for start := every.Start(from); start.Before(to); {
		if len(list) == most {
			return nil
		}
		next := every.Next(start)
		p := Point{From: start, To: next}
		if p.From.Before(from) {
			p.From = from
		}
		if p.To.After(to) {
			p.To = to
		}
		list, start = append(list, p), next
	}
	return list
}

func (s *seriesCount) result(q *Query, order []int) ([]Point, Interval, error) {
	from := q.From
	if s.earliest.IsZero() { // nobody was there
		return []Point{}, cmp.Or(q.Every, Day), nil
	}
	if begin := Day.Start(s.earliest); from.Before(begin) {
		from = begin
	}
	every, list := q.Every, []Point(nil)
	if every != "" {
		if list = points(every, from, q.To, MaxPoints); list == nil {
			return nil, every, tooMany("a series", every, from, q.To)
		}
	}
	for i := 0; list == nil; i++ {
		if i == len(Intervals) { // centuries: the last ones
			from = q.To.AddDate(-preferredPoints+1, 0, 0)
			list = points(Year, from, q.To, MaxPoints)
			break
		}
		every = Intervals[i]
		list = points(every, from, q.To, preferredPoints)
	}
	s.fill(list, order)
	return list, every, nil
}

func (s *seriesCount) fill(list []Point, order []int) {
	days := make([]dayStage, 0, len(s.days))
	for key := range s.days {
		days = append(days, key)
	}
	slices.SortFunc(days, func(a, b dayStage) int { return int(a.day - b.day) })
	standing, entered := make([]int, len(order)), make([]int, len(order))
	for i := range list {
		p := &list[i]
		clear(entered)
		last := dayOf(p.To.Add(-hub.Resolution)) // a point cut within a day is the last one, and nothing after it was added
		for len(days) > 0 && days[0].day <= last {
			d := s.days[days[0]]
			standing[days[0].stage] += d.change
			entered[days[0].stage] += d.entered
			days = days[1:]
		}
		p.Customers, p.Entered = make([]int, len(order)), make([]int, len(order))
		for place, n := range order {
			p.Customers[place], p.Entered[place] = standing[n], entered[n]
		}
	}
}

func tooMany(what string, every Interval, from, to time.Time) error {
	return fmt.Errorf("%s by %s from %s to %s has more than %d entries: take a longer interval or a later from: %w",
		what, every, from.Format(time.DateOnly), to.Format(time.DateOnly), MaxPoints, hub.ErrInvalid)
}
