package funnel

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
)

func at(text string) time.Time {
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return when
}

func TestISO(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "PT0S", time.Millisecond: "PT0S", 59 * time.Second: "PT59S", time.Hour: "PT1H", 90 * time.Minute: "PT1H30M", 24 * time.Hour: "P1D",
		9 * 24 * time.Hour: "P9D", 26*time.Hour + time.Second: "P1DT2H1S", -time.Hour: "-PT1H", 400 * 24 * time.Hour: "P400D",
	} {
		if got := ISO(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

func TestIntervals(t *testing.T) {
	for _, c := range []struct {
		interval          Interval
		in, start, follow string
	}{
		{Day, "2026-02-28T23:59:59+02:00", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"},
		{Week, "2026-03-01T10:00:00Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"}, // a Sunday
		{Week, "2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"},
		{Month, "2028-02-29T10:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{Quarter, "2026-12-31T10:00:00Z", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{Year, "2026-12-31T23:00:00-02:00", "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"},
	} {
		start := c.interval.Start(at(c.in))
		if !start.Equal(at(c.start)) || !c.interval.Next(start).Equal(at(c.follow)) {
			t.Errorf("%s of %s: from %s to %s", c.interval, c.in, start, c.interval.Next(start))
		}
	}
}

var clc = Model{Name: "clc", Stages: []ModelStage{{Name: "new"}, {Name: "active"}}}

func TestQueriesThatMakeNoSense(t *testing.T) {
	now := at("2026-03-01T00:00:00Z")
	for name, q := range map[string]Query{
		"the end of its window":        {At: now},
		"the instant it is seen at":    {To: now},
		"lies after to":                {From: now, To: now, At: now},
		"before the end of the window": {To: now.Add(time.Hour), At: now},
	} {
		if _, err := New(clc, q); !errors.Is(err, hub.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A series has as many points as can be read: asked for more it refuses, not asked it takes longer intervals, over centuries too.
func TestSeriesStaysReadable(t *testing.T) {
	now := at("2026-03-01T12:00:00Z")
	series := func(q Query, first time.Time) (*Result, error) {
		q.At, q.To = now, now.Add(hub.Resolution)
		c, err := New(clc, q)
		if err != nil {
			t.Fatal(err)
		}
		if !first.IsZero() {
			c.Add(&hub.History{Stays: []hub.Stay{{Stage: "new", Since: first}}})
		}
		return c.Result()
	}
	for first, want := range map[string]Interval{
		"2026-02-27T10:00:00Z": Day, "2025-06-01T00:00:00Z": Week, "2019-01-01T00:00:00Z": Month, "2005-01-01T00:00:00Z": Quarter, "1970-01-01T00:00:00Z": Year, "0001-01-01T00:00:01Z": Year,
	} {
		r, err := series(Query{}, at(first))
		if err != nil {
			t.Fatal(err)
		}
		last := r.Series[len(r.Series)-1]
		if r.Every != want || len(r.Series) > preferredPoints || !last.To.Equal(now.Add(hub.Resolution)) || last.Customers[0] != 1 {
			t.Errorf("since %s: %d points by %s, the last %+v", first, len(r.Series), r.Every, last)
		}
	}
	for _, q := range []Query{{Every: Day}, {From: at("0001-01-01T00:00:00Z"), Every: Day}} {
		if _, err := series(q, at("2020-01-01T00:00:00Z")); !errors.Is(err, hub.ErrInvalid) || !strings.Contains(err.Error(), "take a longer interval") {
			t.Errorf("six years by day: %v", err)
		}
	}
	if r, err := series(Query{From: at("0001-01-01T00:00:00Z"), Cohort: Month}, time.Time{}); err != nil || len(r.Series) != 0 || len(r.Cohorts) != 0 || r.Stages[0].MedianStay != nil {
		t.Errorf("nobody at all: %+v, %v", r, err)
	}
}

func TestTooManyCohorts(t *testing.T) {
	now := at("2026-03-01T12:00:00Z")
	c, err := New(clc, Query{To: now, At: now, Cohort: Day})
	if err != nil {
		t.Fatal(err)
	}
	for _, since := range []string{"2020-01-01T00:00:00Z", "2026-02-01T00:00:00Z"} {
		c.Add(&hub.History{Stays: []hub.Stay{{Stage: "new", Since: at(since)}}})
	}
	if _, err := c.Result(); !errors.Is(err, hub.ErrInvalid) || !strings.Contains(err.Error(), "cohorts") {
		t.Errorf("six years by day: %v", err)
	}
}

// A target is judged once its time has passed, at that very instant; who comes in twice is judged twice.
func TestTargets(t *testing.T) {
	began := at("2026-01-01T00:00:00Z")
	day := 24 * time.Hour
	model := Model{Name: "clc", Stages: []ModelStage{{Name: "new", Target: &Target{To: "active", Within: 10 * day, Share: 0.5}}, {Name: "active"}, {Name: "lost"}}}
	for _, c := range []struct {
		name                     string
		seen                     time.Duration
		stays                    []hub.Stay
		judged, waiting, reached int
	}{
		{"in time to the instant", 10 * day, []hub.Stay{{Stage: "new", Since: began}, {Stage: "active", Since: began.Add(10 * day)}}, 1, 0, 1},
		{"an instant late", 11 * day, []hub.Stay{{Stage: "new", Since: began}, {Stage: "active", Since: began.Add(10*day + 1)}}, 1, 0, 0},
		{"there is time left", 10*day - 1, []hub.Stay{{Stage: "new", Since: began}, {Stage: "active", Since: began.Add(day)}}, 0, 1, 0},
		{"by another way", 20 * day, []hub.Stay{{Stage: "new", Since: began}, {Stage: "lost", Since: began.Add(day)}, {Stage: "active", Since: began.Add(2 * day)}}, 1, 0, 1},
		{"twice", 30 * day, []hub.Stay{{Stage: "new", Since: began}, {Stage: "lost", Since: began.Add(day)}, {Stage: "new", Since: began.Add(9 * day)}, {Stage: "active", Since: began.Add(12 * day)}}, 2, 0, 1},
		{"nobody came in", 0, []hub.Stay{{Stage: "lost", Since: began}}, 0, 0, 0},
	} {
		q := Query{At: began.Add(c.seen), To: began.Add(c.seen + hub.Resolution)}
		count, err := New(model, q)
		if err != nil {
			t.Fatal(err)
		}
		count.Add(&hub.History{Stays: c.stays})
		r, err := count.Result()
		if err != nil {
			t.Fatal(err)
		}
		met := r.Targets[0]
		if diff := cmp.Diff([]int{c.judged, c.waiting, c.reached}, []int{met.Judged, met.Waiting, met.Reached}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if (met.Met != nil) != (c.judged > 0) || met.Met != nil && *met.Met != (met.Actual >= 0.5) {
			t.Errorf("%s: %+v", c.name, met)
		}
	}
}
