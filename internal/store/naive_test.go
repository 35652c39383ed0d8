package store_test

import (
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/hub"
)

// naive is a subject as the naive count sees it: everything up to the instant of the query.
type naive struct {
	stays   []hub.Stay
	adopted bool
}

// at returns where she stood just before an instant, "" for nowhere.
func (n *naive) before(at time.Time) string {
	stage := ""
	for _, s := range n.stays {
		if s.Since.Before(at) {
			stage = s.Stage
		}
	}
	return stage
}

// real reports whether the i-th stay was one that she came into and that took time.
func (n *naive) real(i int) bool {
	if i > 0 {
		return true
	}
	return !n.adopted && (len(n.stays) == 1 || n.stays[1].Since.Sub(n.stays[0].Since) > hub.Resolution)
}

func (n *naive) atOnce(i int) bool { return i == 0 && !n.adopted && len(n.stays) > 1 && !n.real(0) }

func naiveMedian(list []time.Duration) *time.Duration {
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	m := (list[(len(list)-1)/2] + list[len(list)/2]) / 2
	return &m
}

func naiveShare(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// count counts each number by itself, from the definitions.
func (s *story) count(q funnel.Query) *funnel.Result {
	var all []*naive
	for _, p := range s.people {
		if p.gone {
			continue
		}
		n := &naive{adopted: p.stage.Adopted}
		for _, stay := range p.past() {
			if !stay.Since.After(q.At) {
				n.stays = append(n.stays, stay)
			}
		}
		if len(n.stays) > 0 {
			all = append(all, n)
		}
	}
	inside := func(t time.Time) bool { return !t.Before(q.From) && t.Before(q.To) }
	names := []string{"prospect", "new", "active", "loyal", "lost"}
	for _, n := range all {
		for _, stay := range n.stays {
			if !slices.Contains(names, stay.Stage) {
				names = append(names, stay.Stage)
			}
		}
	}
	want := &funnel.Result{Every: q.Every, Flows: []funnel.Flow{}}
	for i, name := range names {
		want.Stages = append(want.Stages, naiveStage(all, name, i >= 5, q, inside))
	}
	for _, from := range names {
		for _, to := range names {
			if f := naiveFlow(all, from, to, inside); f.Moves > 0 {
				want.Flows = append(want.Flows, f)
			}
		}
	}
	for i := range 5 {
		for j := i + 1; j < 5; j++ {
			want.Conversions = append(want.Conversions, naiveConversion(all, names[i], names[j], inside))
		}
		if t := funnelModel.Stages[i].Target; t != nil {
			want.Targets = append(want.Targets, naiveTarget(all, names[i], *t, q, inside))
		}
	}
	if !q.From.IsZero() {
		want.Matrix = []funnel.Cell{}
		for _, from := range append([]string{""}, names...) {
			for _, to := range names {
				cell := funnel.Cell{From: from, To: to}
				for _, n := range all {
					if n.before(q.From) == from && n.before(q.To) == to {
						cell.Customers++
					}
				}
				if cell.Customers > 0 {
					want.Matrix = append(want.Matrix, cell)
				}
			}
		}
	}
	want.Series = naiveSeries(all, names, q)
	want.Cohorts = naiveCohorts(all, names, q, inside)
	return want
}

func naiveStage(all []*naive, name string, gone bool, q funnel.Query, inside func(time.Time) bool) funnel.Stage {
	st := funnel.Stage{Name: name, Gone: gone}
	var stays, ages []time.Duration
	for _, n := range all {
		if n.before(q.At.Add(1)) == name {
			st.Customers++
		}
		if n.before(q.From) == name {
			st.Before++
		}
		if n.before(q.To) == name {
			st.After++
		}
		for i, stay := range n.stays {
			if stay.Stage != name {
				continue
			}
			found := i == 0 && n.adopted
			if inside(stay.Since) && found {
				st.Adopted++
			} else if inside(stay.Since) {
				st.Entered++
			}
			if i+1 == len(n.stays) {
				if !found {
					ages = append(ages, q.At.Sub(stay.Since))
				}
				continue
			}
			if end := n.stays[i+1].Since; inside(end) {
				st.Left++
				if n.atOnce(i) {
					st.AtOnce++
				} else if !found {
					stays = append(stays, end.Sub(stay.Since))
				}
			}
		}
	}
	st.MedianStay, st.MedianAge = naiveMedian(stays), naiveMedian(ages)
	return st
}

func naiveFlow(all []*naive, from, to string, inside func(time.Time) bool) funnel.Flow {
	f := funnel.Flow{From: from, To: to}
	left := 0
	var times []time.Duration
	for _, n := range all {
		mine := 0
		for i := 1; i < len(n.stays); i++ {
			if n.stays[i-1].Stage != from || !inside(n.stays[i].Since) {
				continue
			}
			left++
			if n.stays[i].Stage != to {
				continue
			}
			mine++
			if n.atOnce(i - 1) {
				f.AtOnce++
			} else if i > 1 || !n.adopted {
				times = append(times, n.stays[i].Since.Sub(n.stays[i-1].Since))
			}
		}
		f.Moves += mine
		if mine > 0 {
			f.Customers++
		}
	}
	f.Share, f.Median = naiveShare(f.Moves, left), naiveMedian(times)
	return f
}

func naiveConversion(all []*naive, from, to string, inside func(time.Time) bool) funnel.Conversion {
	c := funnel.Conversion{From: from, To: to}
	var times []time.Duration
	for _, n := range all {
		first := slices.IndexFunc(n.stays, func(s hub.Stay) bool { return s.Stage == from && inside(s.Since) && n.real(slices.Index(n.stays, s)) })
		if first < 0 {
			continue
		}
		c.Customers++
		for _, later := range n.stays[first+1:] {
			if later.Stage == to {
				c.Reached++
				times = append(times, later.Since.Sub(n.stays[first].Since))
				break
			}
		}
	}
	c.Share, c.Median = naiveShare(c.Reached, c.Customers), naiveMedian(times)
	return c
}

func naiveTarget(all []*naive, name string, t funnel.Target, q funnel.Query, inside func(time.Time) bool) funnel.Met {
	m := funnel.Met{Stage: name, Target: t}
	for _, n := range all {
		for i, stay := range n.stays {
			if stay.Stage != name || !inside(stay.Since) || !n.real(i) {
				continue
			}
			m.Entered++
			if stay.Since.Add(t.Within).After(q.At) {
				m.Waiting++
				continue
			}
			m.Judged++
			if slices.ContainsFunc(n.stays[i+1:], func(s hub.Stay) bool { return s.Stage == t.To && s.Since.Sub(stay.Since) <= t.Within }) {
				m.Reached++
			}
		}
	}
	if m.Judged > 0 {
		m.Actual = naiveShare(m.Reached, m.Judged)
		met := m.Actual >= t.Share
		m.Met = &met
	}
	return m
}

// naiveSeries fills intervals that follow each other from the first of what there is to the end of the window.
func naiveSeries(all []*naive, names []string, q funnel.Query) []funnel.Point {
	var earliest time.Time
	for _, n := range all {
		if first := n.stays[0].Since; first.Before(q.To) && (earliest.IsZero() || first.Before(earliest)) {
			earliest = first
		}
	}
	list := []funnel.Point{}
	if earliest.IsZero() {
		return list
	}
	from := earliest.Truncate(day)
	if from.Before(q.From) {
		from = q.From
	}
	for at := from; at.Before(q.To); {
		p := funnel.Point{From: at, To: q.To}
		for end := at.Truncate(day).Add(day); end.Before(q.To); end = end.Add(day) { // day by day to the next begin of an interval
			if (q.Every == funnel.Week && end.Weekday() == time.Monday) || (q.Every == funnel.Month && end.Day() == 1) {
				p.To = end
				break
			}
		}
		for _, name := range names {
			standing, came := 0, 0
			for _, n := range all {
				if n.before(p.To) == name {
					standing++
				}
				for i, stay := range n.stays {
					if stay.Stage == name && (i > 0 || !n.adopted) && !stay.Since.Before(p.From) && stay.Since.Before(p.To) {
						came++
					}
				}
			}
			p.Customers, p.Entered = append(p.Customers, standing), append(p.Entered, came)
		}
		list, at = append(list, p), p.To
	}
	return list
}

func naiveCohorts(all []*naive, names []string, q funnel.Query, inside func(time.Time) bool) []funnel.Cohort {
	list := []funnel.Cohort{}
	months := time.Month(1)
	if q.Cohort == funnel.Quarter {
		months = 3
	}
	for year := 2026; year < 2029; year++ {
		for month := time.January; month <= time.December; month += months {
			h := funnel.Cohort{From: time.Date(year, month, 1, 0, 0, 0, 0, time.UTC), To: time.Date(year, month+months, 1, 0, 0, 0, 0, time.UTC)}
			var mine []*naive
			for _, n := range all {
				if came := n.stays[0].Since; !n.adopted && inside(came) && !came.Before(h.From) && came.Before(h.To) {
					mine = append(mine, n)
				}
			}
			h.Customers = len(mine)
			for _, name := range names {
				var st funnel.CohortStage
				var times []time.Duration
				for _, n := range mine {
					if n.before(q.At.Add(1)) == name {
						st.Customers++
					}
					for i, stay := range n.stays {
						if stay.Stage == name && n.real(i) {
							st.Reached++
							times = append(times, stay.Since.Sub(n.stays[0].Since))
							break
						}
					}
				}
				st.Share, st.Median = naiveShare(st.Reached, h.Customers), naiveMedian(times)
				h.Stages = append(h.Stages, st)
			}
			list = append(list, h)
		}
	}
	for len(list) > 0 && list[0].Customers == 0 {
		list = list[1:]
	}
	for len(list) > 0 && list[len(list)-1].Customers == 0 {
		list = list[:len(list)-1]
	}
	return list
}
