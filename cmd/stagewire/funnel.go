package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/server"
)

func newFunnelCommand(g *globals) *cobra.Command {
	f := filters{}
	c := &cobra.Command{
		Use: "funnel <model>", Short: "How many customers stand in each stage, and how they go from stage to stage", GroupID: groupAsk,
		Args: arguments(cobra.ExactArgs(1)),
		Long: "Counts what a model did to customers: who stands where, who came and went between --from and --to, how long that took, how\n" +
			"many of those who came into a stage ever reached a later one, and whether each stage meets its own target. All in business\n" +
			"time, UTC. Whom her first event moves on at once, and whom the model found when it was published, are in no median.",
		Example: "  stagewire funnel clc\n  stagewire funnel clc --from 2026-01-01 --to 2026-01-31\n  stagewire funnel clc --cohort month --json",
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := server.ParseFunnel(func(name string) string { return *f[name] }); err != nil {
				return usageError{err}
			}
			a, err := g.api()
			if err != nil {
				return err
			}
			counted, raw, err := ask[server.Funnel](c.Context(), a, "GET", "/models/"+url.PathEscape(args[0])+"/funnel", f.query(), nil)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			return showFunnel(c, &counted, *f["every"] != "")
		},
	}
	f.add(c, "from", "begin of the window: a date, or a time such as 2026-03-01T10:00:00Z; all the past where not given")
	f.add(c, "to", "end of the window: a date (that day belongs to it) or a time (which does not); now where not given")
	f.add(c, "at", "up to when everything is seen: a date (the end of that day) or a time; now where not given")
	var intervals []string
	for _, i := range funnel.Intervals {
		intervals = append(intervals, string(i))
	}
	f.add(c, "cohort", "those who came in the same "+strings.Join(intervals, ", ")+" side by side", intervals...)
	f.add(c, "every", "the numbers over time, for each "+strings.Join(intervals, ", "), intervals...)
	f.add(c, "stage", "only what concerns this stage")
	return c
}

func showFunnel(c *cobra.Command, f *server.Funnel, series bool) error {
	out := c.OutOrStdout()
	from := "the beginning"
	if f.From != nil {
		from = when(f.From)
	}
	if _, err := fmt.Fprintf(out, "%s, from %s to %s, seen at %s\n\n", f.Model, from, when(f.To), when(f.At)); err != nil {
		return err
	}
	rows := [][]string{}
	for _, s := range f.Stages {
		name := s.Name
		if s.Gone {
			name += " (gone)"
		}
		rows = append(rows, []string{
			name, strconv.Itoa(s.Customers), strconv.Itoa(s.Entered), strconv.Itoa(s.Adopted), strconv.Itoa(s.Left), strconv.Itoa(s.AtOnce),
			days(s.MedianStay), days(s.MedianAge), stageLabel(s.Labels),
		})
	}
	if err := table(out, "stage customers entered adopted left at_once stay age label", rows); err != nil {
		return err
	}
	for _, part := range []func(*cobra.Command, *server.Funnel) error{showFlows, showConversions, showTargets, showMatrix} {
		if err := part(c, f); err != nil {
			return err
		}
	}
	if series {
		if err := showSeries(c, f); err != nil {
			return err
		}
	}
	return showCohorts(c, f)
}

func showFlows(c *cobra.Command, f *server.Funnel) error {
	var rows [][]string
	for _, l := range f.Flows {
		rows = append(rows, []string{l.From, l.To, strconv.Itoa(l.Customers), strconv.Itoa(l.Moves), strconv.Itoa(l.AtOnce), percent(l.Share), days(l.Median)})
	}
	return section(c, "from to customers moves at_once share after", rows)
}

// showConversions shows the way along the journey: each stage and the next.
func showConversions(c *cobra.Command, f *server.Funnel) error {
	var rows [][]string
	before := ""
	for _, v := range f.Reached {
		if v.From == before || v.Customers == 0 {
			continue
		}
		before = v.From
		rows = append(rows, []string{v.From, v.To, strconv.Itoa(v.Customers), strconv.Itoa(v.Reached), percent(v.Share), days(v.Median)})
	}
	return section(c, "came_into reached_later customers reached share after", rows)
}

func showTargets(c *cobra.Command, f *server.Funnel) error {
	var rows [][]string
	for _, t := range f.Targets {
		met, actual := "not yet known", ""
		if t.Met != nil {
			met, actual = map[bool]string{true: "met", false: "missed"}[*t.Met], percent(*t.Actual)
		}
		rows = append(rows, []string{
			t.Stage, t.To, days(&t.Within), percent(t.Share), actual, fmt.Sprintf("%d of %d", t.Reached, t.Judged), strconv.Itoa(t.Waiting), met,
		})
	}
	return section(c, "target to within wanted reached customers waiting result", rows)
}

func showMatrix(c *cobra.Command, f *server.Funnel) error {
	var rows [][]string
	for _, m := range f.Matrix {
		from := m.From
		if from == "" {
			from = "(new here)"
		}
		rows = append(rows, []string{from, m.To, strconv.Itoa(m.Customers)})
	}
	return section(c, "stood_in stands_in customers", rows)
}

func showSeries(c *cobra.Command, f *server.Funnel) error {
	var rows [][]string
	head := strings.Join(append([]string{f.Every}, stageNames(f)...), " ")
	for _, p := range f.Series {
		row := []string{p.From.UTC().Format(time.DateOnly)}
		for _, s := range f.Stages {
			row = append(row, strconv.Itoa(p.Customers[s.Name]))
		}
		rows = append(rows, row)
	}
	return section(c, head, rows)
}

func showCohorts(c *cobra.Command, f *server.Funnel) error {
	var rows [][]string
	head := strings.Join(append([]string{"came_in", "customers"}, stageNames(f)...), " ")
	for _, h := range f.Cohorts {
		row := []string{h.From.UTC().Format(time.DateOnly), strconv.Itoa(h.Customers)}
		for _, s := range h.Stages {
			row = append(row, fmt.Sprintf("%d (%s)", s.Reached, percent(s.Share)))
		}
		rows = append(rows, row)
	}
	return section(c, head, rows)
}

// stageLabel is what a stage is called, in the model's own language and in English.
func stageLabel(labels map[string]string) string {
	for _, language := range slices.Sorted(maps.Keys(labels)) {
		if language != "en" && labels["en"] != "" {
			return labels[language] + " · " + labels["en"]
		}
	}
	for _, label := range labels {
		return label
	}
	return ""
}

func stageNames(f *server.Funnel) (names []string) {
	for _, s := range f.Stages {
		names = append(names, s.Name)
	}
	return names
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + " %" }

// days makes an ISO 8601 duration of the API short: P9DT4H30M is 9d4h.
func days(iso *string) string {
	if iso == nil {
		return ""
	}
	date, clock, _ := strings.Cut(strings.TrimPrefix(*iso, "P"), "T")
	text := strings.ToLower(date)
	for i, r := range clock {
		if r < '0' || r > '9' {
			return text + strings.ToLower(clock[:i+1])
		}
	}
	return text
}
