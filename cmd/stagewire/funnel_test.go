package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

var updateGolden = flag.Bool("update-golden", false, "write the tables that come out into testdata")

// The table as people read it, of a small past with everything in it.
func TestFunnelTable(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	q := funnel.Query{From: at("2026-01-01"), To: at("2026-04-01"), At: at("2026-05-01"), Every: funnel.Month, Cohort: funnel.Month}
	count, err := funnel.New(funnel.Model{Name: "clc", Stages: []funnel.ModelStage{
		{Name: "prospect"}, {Name: "new", Target: &funnel.Target{To: "active", Within: 60 * 24 * time.Hour, Share: 0.3}}, {Name: "active"}, {Name: "lost"},
	}}, q)
	if err != nil {
		t.Fatal(err)
	}
	began := at("2026-01-10")
	for _, h := range []hub.History{
		{Stays: []hub.Stay{{Stage: "prospect", Since: began.Add(-hub.Resolution)}, {Stage: "new", Since: began}, {Stage: "active", Since: began.AddDate(0, 0, 9)}}},
		{Stays: []hub.Stay{{Stage: "prospect", Since: began}, {Stage: "new", Since: at("2026-02-14")}, {Stage: "lost", Since: at("2026-04-20")}}},
		{Stays: []hub.Stay{{Stage: "prospect", Since: at("2026-03-31").Add(90 * time.Minute)}}},
		{Stays: []hub.Stay{{Stage: "gold", Since: at("2025-11-01")}, {Stage: "active", Since: at("2026-02-01")}}, Adopted: true},
	} {
		count.Add(&h)
	}
	result, err := count.Result()
	if err != nil {
		t.Fatal(err)
	}
	f := server.Funnel{Model: "clc", Of: "customer", From: server.Time(q.From), To: server.Time(q.To), At: server.Time(q.At)}
	f.Count(result, "")
	f.Stages[0].Labels = map[string]string{"en": "Prospect", "zh": "潜在客户"}
	f.Stages[1].Labels = map[string]string{"en": "New customer"}
	var out bytes.Buffer
	c := &cobra.Command{}
	c.SetOut(&out)
	if err := showFunnel(c, &f, true); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "funnel.golden")
	if *updateGolden {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("-want +got, rewrite with -update-golden:\n%s", diff)
	}
}
