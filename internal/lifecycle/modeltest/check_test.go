package modeltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

func compile(t testing.TB, file string, text []byte) *lifecycle.Model {
	t.Helper()
	m, err := lifecycle.Compile(file, text, lifecycle.Env{Models: []string{"other"}, Stages: map[string][]string{"other": {"low", "top"}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// trial is a model whose tests have the faults that a check is to find.
const trial = `model: trial
params: {lost_after: 30d}
stages: [{name: start}, {name: new, dwell: 2d}, {name: regular}, {name: lost}]
decide:
  - stage: lost
    when: since("order.paid") >= params.lost_after
    after: 1d
  - stage: regular
    when: count("order.paid") >= 3 and count("order.paid") >= 2
  - stage: new
    from: [start, lost]
    when: ever("order.paid") or stages.other == "top"
  - otherwise: stay
tests:
  - name: a life
    events:
      - {at: 2026-01-01, kind: order.paid, expect: new}
      - {at: +1d, kind: order.paid, times: 2, every: 1h, expect: new}
    transitions: [{at: +0d, to: new}, {at: +2d, to: regular}, {at: +30d 1h, to: lost}]
    until: +400d
  - name: a promise holds
    events: [{at: 2026-01-01, kind: order.paid}]
    pins: [{at: +1d, stage: lost}]
    expect: [{at: +30d, stage: lost}]
  - name: a sentence has a colon
    events: [{at: 2026-01-01, kind: page.viewed}]
    expect: [{at: +0d, because: ":"}]
  - name: it looks at a condition alone
    events: [{at: 2026-01-01, kind: page.viewed}]
    expect:
      - at: +0d
        clauses:
          ever("order.paid"): false
`

func TestCheck(t *testing.T) {
	m := compile(t, "trial.yaml", []byte(trial))
	got, err := Check(t.Context(), m, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Check(t.Context(), m, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, again, cmpopts.IgnoreUnexported(Mutant{})); d != "" {
		t.Error("two checks of one model differ:\n", d)
	}
	wantIdle := []TestRef{{"a promise holds", 21}, {"a sentence has a colon", 25}}
	if d := cmp.Diff(wantIdle, got.CannotFail); d != "" {
		t.Error(d)
	}
	var survivors []string
	for _, s := range got.Survivors {
		survivors = append(survivors, fmt.Sprintf("%d:%d %s: %s", s.Line, s.Column, s.Path, s.What))
		if s.Example == "" {
			t.Errorf("no example for %s", survivors[len(survivors)-1])
		}
	}
	want := []string{
		"8:5 decide[1]: the rule for regular changed places with the one for new",
		"9:34 decide[1].when: 3 became 2",
		"9:34 decide[1].when: 3 became 1",
		"9:36 decide[1].when: and became or",
		"9:11 decide[1].when: count(\"order.paid\") >= 3 was dropped",
		"11:11 decide[2].from: from was dropped",
		"11:19 decide[2].from[1]: lost was dropped",
		"12:29 decide[2].when: stages.other == \"top\" was dropped",
		"13:16 decide[3].otherwise: stay became start",
	}
	if d := cmp.Diff(want, survivors); d != "" {
		t.Error(d)
	}
	// count(…) >= 2 beside count(…) >= 3 decides nothing, whatever becomes of it: that is what Equal is for.
	if got.Equal < 3 || got.Noticed+got.Equal+len(got.Survivors) != got.Mutants || got.Mutants < 45 {
		t.Errorf("%+v", got)
	}
}

// around reads what stands around a customer, clocks, objects and money: histories must reach all of it.
const around = `model: around
zone: Europe/Berlin
stages: [{name: start}, {name: referrer}, {name: suspect}, {name: likely}, {name: callable}, {name: waiting}, {name: rich}, {name: followed}]
decide:
  - stage: suspect
    when: shared("address")
  - stage: referrer
    when: any(customer.referred, .stages.other == "top")
  - stage: likely
    when: (score.active ?? 0) >= 0.5 and (rfm.monetary ?? 0) >= 4
  - stage: waiting
    when: any(tickets, .open and .type == "complaint" and .open_for >= business_hours(4))
  - stage: rich
    when: spent("EUR", days(30)) >= eur(500) and (nps() ?? 0) > 6
  - stage: followed
    when: wechat.following
  - stage: callable
    when: reachable("sms") and hour() >= 9
  - otherwise: start
tests:
`

// TestExamplesNotice takes what a check offers at its word: put into the model's file, the test passes, and fails on the very
// change that it was written for.
func TestExamplesNotice(t *testing.T) {
	files, err := filepath.Glob("../../../rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no models", err)
	}
	models := [][2]string{{"trial.yaml", trial[:strings.Index(trial, "tests:")] + "tests:\n"}}
	for _, file := range files[:min(2, len(files))] {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, _, ok := strings.Cut(string(text), "\ntests:\n")
		if !ok {
			t.Fatalf("%s has no tests", file)
		}
		models = append(models, [2]string{file, head + "\ntests:\n"})
	}
	models = append(models, [2]string{"around.yaml", around})
	for _, model := range models {
		// Without tests nothing is noticed, so that every change is either equal or has an example.
		m := compile(t, model[0], []byte(strings.TrimSuffix(model[1], "tests:\n")))
		report, err := Check(t.Context(), m, Limits{Mutants: 50, Histories: 200})
		if err != nil {
			t.Fatal(err)
		}
		// Few of these changes make no difference: what the histories do not reach would be among them.
		if report.Equal > report.Mutants/4 {
			t.Errorf("%s: %d of %d changes seem to make no difference", m.Name, report.Equal, report.Mutants)
		}
		if len(report.Survivors) < 10 || report.Noticed != 0 {
			t.Errorf("%s: %d of %d changes survive, %d are noticed", m.Name, len(report.Survivors), report.Mutants, report.Noticed)
		}
		for _, s := range report.Survivors {
			text := model[1] + "  " + strings.ReplaceAll(s.Example, "\n", "\n  ") + "\n"
			tested, err := lifecycle.Compile("example.yaml", []byte(text), lifecycle.Env{Models: []string{"other"}, Stages: map[string][]string{"other": {"low", "top"}}})
			if err != nil {
				t.Fatalf("%v\n%s", err, s.Example)
			}
			if r := lifecycle.RunTests(tested)[0]; len(r.Failures) > 0 {
				t.Errorf("%s fails on the model itself: %v\n%s", m.Name, r.Failures, s.Example)
			}
			if notices, _ := tested.Tests[0].Fails(s.model, s.textual); !notices {
				t.Errorf("%s:%d %s is not noticed by\n%s", m.Name, s.Line, s.What, s.Example)
			}
		}
	}
}

// TestCheckTriesEvenlyChosenChanges: of more changes than are to be tried, those tried come from all over the model.
func TestCheckTriesEvenlyChosenChanges(t *testing.T) {
	m := compile(t, "trial.yaml", []byte(trial))
	some, possible, err := mutants(t.Context(), m, 12)
	if err != nil || len(some) > 12 || len(some) < 8 || possible < 45 {
		t.Fatal(len(some), possible, err)
	}
	if some[0].Line > 6 || some[len(some)-1].Line < 12 {
		t.Errorf("lines %d to %d", some[0].Line, some[len(some)-1].Line)
	}
	report, err := Check(t.Context(), m, Limits{Mutants: 12})
	if err != nil || report.Mutants != len(some) || report.Possible != possible {
		t.Errorf("%+v %v", report, err)
	}
}

func TestAffordable(t *testing.T) {
	m := compile(t, "trial.yaml", []byte(trial))
	if n := affordable(m, 600); n != 600 {
		t.Error(n)
	}
	crowd := strings.Replace(trial, "- {at: +1d, kind: order.paid, times: 2, every: 1h, expect: new}", "- {at: +1d, kind: page.viewed, times: 1000, every: 1s}", 1)
	m = compile(t, "trial.yaml", []byte(crowd))
	if n := affordable(m, 600); n >= 600 || n < 20 {
		t.Error(n)
	}
}

func TestCheckWantsPassingTests(t *testing.T) {
	m := compile(t, "trial.yaml", []byte(strings.Replace(trial, "kind: order.paid, expect: new}", "kind: order.paid, expect: lost}", 1)))
	if _, err := Check(t.Context(), m, DefaultLimits); !errors.Is(err, hub.ErrInvalid) || !strings.Contains(err.Error(), `"a life"`) {
		t.Error(err)
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := compile(t, "trial.yaml", []byte(trial))
	if _, err := Check(ctx, m, DefaultLimits); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
