package lifecycle

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// ladder is the model of the tests in this file; what a test adds stands below tests:.
const ladder = `model: ladder
params: {lost_after: 30d, often: 3}
stages: [{name: start}, {name: new}, {name: regular}, {name: vip}, {name: lost}]
define:
  frequent: count("order.paid") >= params.often
decide:
  - stage: vip
    when: (customer.traits.plan ?? "") == "gold" or stages.other == "top"
  - stage: lost
    when: since("order.paid") >= params.lost_after
  - stage: regular
    when: frequent
  - stage: new
    when: ever("order.paid")
  - otherwise: start
tests:
`

var ladderEnv = Env{Models: []string{"ladder", "other"}, Stages: map[string][]string{"other": {"low", "top"}}}

// runLadder runs one test of the ladder and returns what failed.
func runLadder(t *testing.T, test string) []string {
	t.Helper()
	m, err := Compile("ladder.yaml", []byte(ladder+test), ladderEnv)
	if err != nil {
		t.Fatal(err)
	}
	var failures []string
	for _, r := range RunTests(m) {
		failures = append(failures, r.Failures...)
	}
	return failures
}

func TestTestForms(t *testing.T) {
	for name, test := range map[string]string{
		"everything at once": `
  - name: a life
    events:
      - {at: 2026-01-01T10:00:00Z, kind: order.paid, amount: 40 EUR, expect: new}
      - {at: +5d, kind: order.paid, times: 2, every: 12h, expect: {stage: regular, because: 3 order.paid}}
      - {at: +1d, kind: page.viewed}
    expect:
      - {at: +0d, stage: regular, next: {at: +29d, to: lost}, wakes_at: +29d}
      - {at: +29d -1ms, stage: regular}
      - {at: +1ms, from: regular, to: lost, because: [last order.paid, "30 days"]}
      - at: 2026-03-01
        stage: lost
        next: never
        wakes_at: never
        clauses:
          frequent: true
          count("order.paid")   >= params.often: true
          since("order.paid") >= params.lost_after: true
    walk: [start, new, regular, lost]
    transitions:
      - {at: +0d, from: start, to: new}
      - {at: +5d 12h, to: regular, because: 3 order.paid}
      - {at: 2026-02-05T22:00:00Z, from: regular, to: lost}
    until: +400d
`,
		"times count from the default start": `
  - name: no date anywhere
    events: [{at: +1d, kind: order.paid}]
    expect: [{at: 2026-01-02, from: start, to: new}, {at: +30d, next: never, stage: lost}, {at: +0d, next: never}]
`,
		"parameters": `
  - name: sooner
    params: {lost_after: 10d, often: 1}
    events: [{at: 2026-01-01, kind: order.paid, expect: regular}]
    transitions: [{to: regular}, {at: +10d, to: lost}]
    until: +60d
`,
		"traits from the beginning, and from an event on": `
  - name: gold
    traits: {plan: gold}
    events: [{at: 2026-01-01, kind: page.viewed, expect: vip}, {at: +1d, kind: customer.updated, traits: {plan: tin}, expect: start}]
    walk: [start, vip, start]
  - name: gold without events
    traits: {plan: gold}
    expect: [{at: +1d, stage: vip}]
`,
		"stages of other models": `
  - name: throughout
    stages: {other: top}
    events: [{at: 2026-01-01, kind: order.paid, expect: vip}]
    walk: [start, vip]
  - name: by time
    stages: {other: [{stage: low}, {at: +3d, stage: top}, {at: +3d, stage: low}]}
    events: [{at: 2026-01-01, kind: order.paid, expect: new}]
    transitions: [{at: +0d, to: new}, {at: +3d, from: new, to: vip, because: other is top}, {at: +3d, to: new}]
`,
		"pins": `
  - name: until its date
    events: [{at: 2026-01-01, kind: order.paid, expect: new}, {at: +2d, kind: order.paid, expect: vip}]
    pins: [{at: +1d, stage: vip, until: +100d, by: lena, why: promised}]
    expect: [{at: +1d, stage: vip, wakes_at: +98d, next: {to: lost}}]
    transitions: [{at: +0d, to: new}, {at: +1d, to: vip, because: hand}, {at: +100d, to: lost}]
    until: +200d
  - name: until it is released
    events: [{at: 2026-01-01, kind: order.paid, expect: new}]
    pins: [{at: +1d, stage: regular}, {at: +50d, release: true}]
    transitions: [{at: +0d, to: new}, {at: +1d, to: regular}, {at: +50d, to: lost}]
`,
		"late events": `
  - name: the order came to light after two days
    events: [{at: 2026-01-01, kind: page.viewed}, {at: +1d, kind: order.paid, late: 2d, expect: new}]
    transitions: [{at: +3d, to: new}, {at: +28d, to: lost}]
    until: +60d
`,
		"nearest changes": `
  - name: one more order
    events: [{at: 2026-01-01, kind: order.paid, times: 2, every: 1d}]
    expect: [{at: +1d, nearest: "regular: one more order.paid", because: [new, order.paid]}]
`,
		"why, under a pin": `
  - name: a promise
    events: [{at: 2026-01-01, kind: order.paid}]
    pins: [{at: +1d, stage: vip, until: 2026-03-01}]
    expect: [{at: +2d, stage: vip, because: until 2026-03-01}]
`,
		"nothing moves": `
  - name: a page is no order
    events: [{at: 2026-01-01, kind: page.viewed}]
    transitions: []
    until: +400d
`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range runLadder(t, test) {
				t.Error(f)
			}
		})
	}
}

// around is a model that reads what stands around a customer.
const around = `model: around
zone: Europe/Berlin
calendar: office
stages: [{name: start}, {name: referrer}, {name: partner}, {name: suspect}, {name: likely}, {name: callable}, {name: waiting}]
decide:
  - stage: suspect
    when: shared("address")
  - stage: partner
    when: any(customer.companies, .stages.other == "top")
  - stage: referrer
    when: any(customer.referred, .stages.other == "top")
  - stage: likely
    when: (score.active ?? 0) >= 0.5 and (rfm.monetary ?? 0) >= 4
  - stage: waiting
    when: any(tickets, .open and .open_for >= business_hours(4))
  - stage: callable
    when: reachable("sms") and hour() >= 9 and hour() < 17
  - otherwise: start
tests:
`

func TestTestsOfWhatStandsAround(t *testing.T) {
	env := ladderEnv
	env.Clock.Calendars = map[string]hub.Calendar{"office": hub.OfficeHours("Europe/Berlin")}
	for _, test := range []string{
		`
  - name: she brought somebody
    events:
      - {at: 2026-01-01, kind: referral.made, referred: ben@example.com, expect: start}
      - {at: +3d, kind: referred.moved, id: ben, model: other, stage: top, expect: referrer}
      - {at: +3d, kind: referred.moved, id: ben, model: other, stage: low, expect: start}`, `
  - name: her company is a partner
    events:
      - {at: 2026-01-01, kind: company.joined, connection: crm, id: c1, name: Acme, expect: start}
      - {at: +3d, kind: company.moved, id: c1, of: crm, model: other, stage: top, expect: partner}`, `
  - name: somebody has her address
    events: [{at: 2026-01-01, kind: identity.shared, what: address, others: 1, expect: suspect}]`, `
  - name: scores by time
    scores: [{active: 0.4, monetary: 5}, {at: +2d, active: 0.5, monetary: 5}, {at: +2d, active: 0.9, monetary: 3}, {at: +1d}]
    events: [{at: 2026-01-01, kind: page.viewed}]
    transitions: [{at: +2d, to: likely, because: "0.5"}, {at: +2d, to: start}]`, `
  - name: by phone, in the daytime of Berlin
    identifiers: {phone: "+491701234567"}
    events: [{at: 2026-01-01, kind: page.viewed, expect: start}]
    transitions: [{at: 2026-01-01T08:00:00Z, to: callable}, {at: +8h, to: start}, {at: +16h, to: callable}]
    until: +36h`, `
  - name: four hours of business
    events: [{at: 2026-01-02T14:00:00Z, kind: ticket.opened, id: "7"}]
    transitions: [{at: 2026-01-05T10:00:00Z, from: start, to: waiting}]
    until: +10d`,
	} {
		m, err := Compile("around.yaml", []byte(around+test+"\n"), env)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range RunTests(m) {
			for _, f := range r.Failures {
				t.Errorf("%s: %s", r.Name, f)
			}
		}
	}
}

// TestTestFormsFail: each expectation can fail, and says what came instead.
func TestTestFormsFail(t *testing.T) {
	const paid = "\n    events: [{at: 2026-01-01, kind: order.paid}]\n"
	for test, want := range map[string]string{
		paid + "    expect: [{at: +0d, from: start, to: vip}]":      "the move is start > new, expected start > vip (new: last order.paid ",
		paid + "    expect: [{at: +1d, to: new}]":                   "the move is no move, she is in new since 2026-01-01T00:00:00Z, expected any stage > new",
		paid + "    expect: [{at: +1d, wakes_at: never}]":           "the next wake-up is 2026-01-31T00:00:00Z, expected never",
		paid + "    expect: [{at: +1d, wakes_at: +1d}]":             "the next wake-up is 2026-01-31T00:00:00Z, expected 2026-01-03T00:00:00Z",
		paid + "    expect: [{at: +1d, next: never}]":               "the next move by silence is to lost at 2026-01-31T00:00:00Z, expected none",
		paid + "    expect: [{at: +1d, next: vip}]":                 "the next move by silence is to lost at 2026-01-31T00:00:00Z, expected to vip",
		paid + "    expect: [{at: +40d, next: {at: +1d}}]":          "the next move by silence is none, expected at 2026-02-11T00:00:00Z",
		paid + "    expect: [{at: +0d, because: frequent}]":         `(2026-01-01).", expected one with "frequent"`,
		paid + "    expect: [{at: +0d, to: new, because: often}]":   `(2026-01-01).", expected one with "often"`,
		paid + "    expect: [{at: +0d, clauses: {frequent: true}}]": "frequent is false, expected true",
		paid + "    expect: [{at: +1d, nearest: gold medal}]":       "lost: ",
		paid + "    walk: [start, new, lost]":                       "the walk is start > new, expected start > new > lost (the test ends at 2026-01-01T00:00:00Z; until: +90d looks further)",
		paid + "    walk: [start]":                                  "the walk is start > new, expected start (at 2026-01-01T00:00:00Z: new: last order.paid",
		paid + "    transitions: []":                                "transition 1 is start > new, expected none",
		paid + "    transitions: [{to: new}, {to: lost}]":           "transition 2 is missing: she stays in new, expected any stage > lost",
		paid + "    transitions: [{at: +1d, to: new}]":              "transition 1 is start > new, expected any stage > new at 2026-01-02T00:00:00Z",
		paid + "    transitions: [{from: vip, to: new}]":            "transition 1 is start > new, expected vip > new",
		paid + "    transitions: [{to: new, because: xyz}]":         `expected one with "xyz"`,
	} {
		failures := runLadder(t, "  - name: n"+test+"\n")
		if len(failures) != 1 || !strings.Contains(failures[0], want) {
			t.Errorf("%s\ngot  %q\nwant %s", test, failures, want)
		}
	}
}

func TestFailureTellsWhy(t *testing.T) {
	m, err := Compile("ladder.yaml", []byte(ladder+`
  - name: n
    events: [{at: 2026-01-01, kind: order.paid, expect: regular}]
`), ladderEnv)
	if err != nil {
		t.Fatal(err)
	}
	r := RunTests(m)[0]
	if len(r.Details) != 1 {
		t.Fatal(r)
	}
	f := r.Details[0]
	if f.Expected != "regular" || f.Got != "new" || f.Rule != 13 || len(f.Clauses) != 1 || !strings.HasPrefix(f.Because, "new: last order.paid") {
		t.Errorf("%+v", f)
	}
	if len(f.Instead) != 1 || f.Instead[0].Stage != "regular" || *f.Instead[0].Result || f.Instead[0].Clauses[0].Clauses[0].Value != "1" {
		t.Errorf("%+v", f.Instead)
	}
}

// TestTestsIgnoreOverrides: a test is about the model as it is written, whatever a configuration overrides.
func TestTestsIgnoreOverrides(t *testing.T) {
	text, err := os.ReadFile("../../rules/clc.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Compile("clc.yaml", text, Env{Params: map[string]string{"lost_after": "7d"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range RunTests(m) {
		if len(r.Failures) > 0 {
			t.Errorf("%s: %v", r.Name, r.Failures)
		}
	}
}

// TestMistakesInTests lists what is said of tests that make no sense; each stands on line 17 and after.
func TestMistakesInTests(t *testing.T) {
	for test, want := range map[string]string{
		`{name: n, events: [{at: 2026-01-01, kind: order.paid}]}`:                                                                  "18:5: tests[0]: a test that expects nothing cannot fail (add expect, transitions or walk)",
		`{name: n, expect: []}`:                                                                                                    "18:23: tests[0]: a test that expects nothing cannot fail (add expect, transitions or walk)",
		`{expect: [{at: +1d, stage: new}]}`:                                                                                        "18:5: tests[0]: name is missing",
		`{name: n, expcet: [], walk: [start]}`:                                                                                     "18:15: tests[0]: unknown key expcet (did you mean expect?)",
		`{name: n, expect: [{at: +1d, stage: nwe}]}`:                                                                               "18:41: tests[0].expect[0].stage: unknown stage nwe (did you mean new?)",
		`{name: n, expect: [{at: +1d}]}`:                                                                                           "18:24: tests[0].expect[0]: nothing is expected here (add stage, or from and to, wakes_at, next, because, nearest, clauses)",
		`{name: n, expect: [{stage: new}]}`:                                                                                        "18:24: tests[0].expect[0]: at is missing",
		`{name: n, expect: [{at: soon, stage: new}]}`:                                                                              "18:29: tests[0].expect[0].at: \"soon\" is not a time (write 2026-01-01T10:00:00Z)",
		`{name: n, expect: [{at: +3x, stage: new}]}`:                                                                               "18:29: tests[0].expect[0].at: \"+3x\" is not a time after the one before (write +3d, +12h or +89d 23h)",
		`{name: n, expect: [{at: +1d -2d, stage: new}]}`:                                                                           "18:29: tests[0].expect[0].at: \"+1d -2d\" is before the time it counts from, or more than a hundred years after it",
		`{name: n, expect: [{at: +1d, stage: new, to: lost}]}`:                                                                     "18:41: tests[0].expect[0]: stage does not go with from and to (from and to say it already)",
		`{name: n, expect: [{at: +1d, from: lost, to: lost}]}`:                                                                     "18:50: tests[0].expect[0].to: a move leads to another stage",
		`{name: n, expect: [{at: +1d, next: soon}]}`:                                                                               "18:40: tests[0].expect[0].next: unknown stage soon",
		`{name: n, expect: [{at: +1d, wakes_at: 2026-01-01}]}`:                                                                     "18:44: tests[0].expect[0].wakes_at: this is not after the instant it is expected at",
		`{name: n, expect: [{at: +1d, clauses: {frequnt: true}}]}`:                                                                 "18:44: tests[0].expect[0].clauses: no condition of the model has the part frequnt (did you mean frequent?)",
		`{name: n, expect: [{at: +1d, stage: new, because: ""}]}`:                                                                  "18:55: tests[0].expect[0].because: an empty text is part of everything",
		`{name: n, params: {lost_afer: 3d}, walk: [start]}`:                                                                        "18:24: tests[0].params.lost_afer: the model has no parameter lost_afer (did you mean lost_after?)",
		`{name: n, params: {lost_after: 3}, walk: [start]}`:                                                                        "18:36: tests[0].params.lost_after: \"3\" is not a duration",
		`{name: n, stages: {othr: top}, walk: [start]}`:                                                                            "18:24: tests[0].stages.othr: unknown model othr (did you mean other?)",
		`{name: n, stages: {other: tpo}, walk: [start]}`:                                                                           "18:31: tests[0].stages.other: model other has no stage tpo (did you mean top?)",
		`{name: n, stages: {other: [{stage: low}, {stage: top}]}, walk: [start]}`:                                                  "18:46: tests[0].stages.other[1]: at is missing: only the first stage holds from the beginning",
		`{name: n, pins: [{at: +1d, stage: vip, until: 2025-01-01}], walk: [start]}`:                                               "18:51: tests[0].pins[0].until: a pin ends after it begins",
		`{name: n, pins: [{at: +1d}], walk: [start]}`:                                                                              "18:22: tests[0].pins[0]: stage is missing",
		`{name: n, pins: [{at: +1d, stage: vpi}], walk: [start]}`:                                                                  "18:39: tests[0].pins[0].stage: unknown stage vpi (did you mean vip?)",
		`{name: n, pins: [{at: +1d, stage: vip, release: true}], walk: [start]}`:                                                   "18:53: tests[0].pins[0]: a release has neither stage nor until",
		`{name: n, scores: {active: 1.5}, walk: [start]}`:                                                                          "18:32: tests[0].scores.active: active is 0 to 1, not 1.5",
		`{name: n, scores: {actve: 0.5}, walk: [start]}`:                                                                           "18:24: tests[0].scores: unknown key actve (did you mean active?)",
		`{name: n, scores: {recency: 2.5}, walk: [start]}`:                                                                         "18:33: tests[0].scores.recency: recency is a whole number",
		`{name: n, scores: {value: 12}, walk: [start]}`:                                                                            "18:31: tests[0].scores.value: \"12\" is not an amount of money (write 40 EUR)",
		`{name: n, scores: {at: +1d, active: 1}, walk: [start]}`:                                                                   "18:23: tests[0].scores: scores by time stand in a list (write a list: [{active: 0.8}, {at: +30d, active: 0.2}])",
		`{name: n, scores: [{active: 1}, {active: 0}], walk: [start]}`:                                                             "18:37: tests[0].scores[1]: at is missing: only the first scores hold from the beginning",
		`{name: n, identifiers: [a], walk: [start]}`:                                                                               "18:28: tests[0].identifiers: this must be keys with values (such as {name: value})",
		`{name: n, walk: [start, start]}`:                                                                                          "18:29: tests[0].walk[1]: start is there twice in a row: a walk names a stage once for each time it is entered",
		`{name: n, walk: []}`:                                                                                                      "18:21: tests[0].walk: a walk has at least the stage it starts in",
		`{name: n, transitions: [{from: new}]}`:                                                                                    "18:29: tests[0].transitions[0]: to is missing",
		`{name: n, transitions: [{to: new}, {from: vip, to: lost}]}`:                                                               "18:47: tests[0].transitions[1].from: the move before leads to new, so this one cannot start in vip",
		`{name: n, transitions: [{at: +9d, to: new}, {at: 2026-01-02, to: lost}]}`:                                                 "18:54: tests[0].transitions[1].at: the move before comes later: transitions stand in their order",
		`{name: n, until: +1d, walk: [start], expect: [{at: +2d, stage: new}]}`:                                                    "18:22: tests[0].until: the test says something of a later time, 2026-01-03T00:00:00Z",
		`{name: n, start: 2026-02-01, events: [{at: 2026-01-01, kind: order.paid, expect: new}]}`:                                  "18:22: tests[0].start: the first event is before that",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid}], expect: [{at: 2026-01-01, stage: start}]}`:                        "18:75: tests[0].expect[0].at: this is before the first event: there is no customer yet",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid}], transitions: [{at: 2026-01-01, to: new}]}`:                        "18:80: tests[0].transitions[0].at: this is before the first event: there is no customer yet",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid, times: 3, expect: new}]}`:                                           "18:24: tests[0].events[0]: times and every belong together (write times: 5, every: 7d)",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid, times: 0, every: 1d, expect: new}]}`:                                "18:66: tests[0].events[0].times: an event is repeated 1 to 1000 times, not \"0\"",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid, id: "1", times: 2, every: 1d, expect: new}]}`:                       "18:75: tests[0].events[0].times: events of one id tell of one and the same order (leave out id)",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid, times: 500, every: 300d, expect: new}]}`:                            "18:78: tests[0].events[0].every: the last of them would be more than a hundred years after the first",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid, expect: nwe}]}`:                                                     "18:67: tests[0].events[0].expect: unknown stage nwe (did you mean new?)",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid, expekt: new}]}`:                                                     "18:59: tests[0].events[0]: order.paid has no property expekt (did you mean expect?)",
		`{name: n, events: [{at: 2026-01-02, kind: order.paid, amount: 40, expect: new}]}`:                                         "18:67: tests[0].events[0].amount: \"40\" is not an amount of money (write 40 EUR)",
		`{name: n, events: [{kind: order.paid, expect: new}]}`:                                                                     "18:24: tests[0].events[0]: at is missing",
		"{name: n, walk: [start]}\n  - {name: n, walk: [start]}":                                                                   "19:5: tests[1].name: the test on line 18 has that name already",
		`{name: n, events: [{at: 2026-01-02, kind: deal.created, closes_at: +30d, expect: start}, {at: +1x, kind: deal.created}]}`: "18:99: tests[0].events[1].at: \"+1x\" is not a time after the one before (write +3d, +12h or +89d 23h)",
	} {
		_, err := Compile("f", []byte(ladder+"\n  - "+test+"\n"), ladderEnv)
		var got []string
		for _, p := range Problems(err) {
			got = append(got, p.Error())
		}
		if len(got) != 1 || got[0] != "f:"+want {
			t.Errorf("%s\ngot  %s\nwant f:%s", test, strings.Join(got, "\n     "), want)
		}
	}
}

func TestEventsOfTests(t *testing.T) {
	m, err := Compile("ladder.yaml", []byte(ladder+`
  - name: n
    scores: [{active: 0.75, value: 120 EUR, recency: 5}, {at: +2d, expected_orders: 3}]
    identifiers: {email: ada@example.com, phone: ["1", "2"]}
    events:
      - {at: 2026-01-01, kind: deal.created, id: "7", closes_at: +30d, traits: {plan: tin, age: 40}}
      - {at: +1d, kind: page.viewed, times: 2, every: 1h, late: 30m}
      - {at: +1d, kind: page.viewed, expect: start}
`), ladderEnv)
	if err != nil {
		t.Fatal(err)
	}
	day := func(n int) time.Time { return time.Date(2026, 1, 1+n, 0, 0, 0, 0, time.UTC) }
	var at, known []time.Time
	for _, ev := range m.Tests[0].Events {
		at, known = append(at, ev.OccurredAt), append(known, ev.Known)
	}
	if d := cmp.Diff([]time.Time{day(0), day(1), day(1).Add(time.Hour), day(2).Add(time.Hour)}, at); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]time.Time{day(0), day(1).Add(30 * time.Minute), day(1).Add(90 * time.Minute), day(2).Add(time.Hour)}, known); d != "" {
		t.Error(d)
	}
	number := func(v float64) *float64 { return &v }
	five := 5
	money, err := hub.ParseMoney("120", "EUR")
	if err != nil {
		t.Fatal(err)
	}
	wantScores := []TestScores{
		{Scores: fact.Scores{At: day(0), Active: number(0.75), Value: &money, Recency: &five}},
		{At: day(2), Scores: fact.Scores{At: day(2), ExpectedOrders: number(3)}},
	}
	if d := cmp.Diff(wantScores, m.Tests[0].Scores); d != "" {
		t.Error(d)
	}
	wantIdentifiers := []hub.Identifier{
		{Kind: "email", Value: "ada@example.com", Connection: "test"}, {Kind: "phone", Value: "1", Connection: "test"}, {Kind: "phone", Value: "2", Connection: "test"},
	}
	if d := cmp.Diff(wantIdentifiers, m.Tests[0].Identifiers); d != "" {
		t.Error(d)
	}
	first := m.Tests[0].Events[0]
	if !first.Properties["closes_at"].(time.Time).Equal(day(30)) {
		t.Error(first.Properties)
	}
	if d := cmp.Diff([]hub.Trait{{Name: "plan", Value: "tin", At: day(0)}, {Name: "age", Value: 40.0, At: day(0)}}, first.Traits); d != "" {
		t.Error(d)
	}
}
