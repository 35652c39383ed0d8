package modeltest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// covered is a model of which the tests see some: nobody gets lost, vip is given by hand alone.
const covered = `model: covered
stages: [{name: start}, {name: new}, {name: vip}, {name: lost}, {name: gone, terminal: true}]
define:
  big: spent("EUR") >= eur(100)
decide:
  - stage: gone
    when: ever("customer.deleted")
  - stage: vip
    when: big and not ever("order.refunded")
  - stage: lost
    when: since("order.paid") >= days(30)
  - stage: new
    when: ever("order.paid")
  - otherwise: start
tests:
  - name: somebody buys and is deleted
    events:
      - {at: 2026-01-01, kind: order.paid, amount: 40 EUR, expect: new}
      - {at: +1d, kind: customer.deleted, expect: gone}
  - name: somebody is promoted
    events: [{at: 2026-01-01, kind: order.paid, amount: 40 EUR}]
    pins: [{at: +1d, stage: vip, until: +1d}]
    walk: [start, new, vip, new]
    until: +5d
`

func TestCover(t *testing.T) {
	c := Cover(compile(t, "covered.yaml", []byte(covered)))
	want := []StageCoverage{
		{Name: "start", Line: 2, Initial: true, Entered: []Passage{}, Left: []Passage{{Stage: "new", Rule: 12, Cause: "order.paid", Times: 2}}},
		{
			Name: "new", Line: 2,
			Entered: []Passage{{Stage: "start", Rule: 12, Cause: "order.paid", Times: 2}, {Stage: "vip", Rule: 12, Cause: "silence", Times: 1}},
			Left:    []Passage{{Stage: "gone", Rule: 6, Cause: "customer.deleted", Times: 1}, {Stage: "vip", Cause: "a person", Times: 1}},
		},
		{
			Name: "vip", Line: 2, Entered: []Passage{{Stage: "new", Cause: "a person", Times: 1}},
			Left: []Passage{{Stage: "new", Rule: 12, Cause: "silence", Times: 1}},
		},
		{Name: "lost", Line: 2, Entered: []Passage{}, Left: []Passage{}},
		{Name: "gone", Line: 2, Final: true, Entered: []Passage{{Stage: "new", Rule: 6, Cause: "customer.deleted", Times: 1}}, Left: []Passage{}},
	}
	if d := cmp.Diff(want, c.Stages); d != "" {
		t.Error(d)
	}
	wantRules := []RuleCoverage{
		{Stage: "gone", When: `ever("customer.deleted")`, Line: 6, Won: 1},
		{Stage: "vip", When: `big and not ever("order.refunded")`, Line: 8},
		{Stage: "lost", When: `since("order.paid") >= days(30)`, Line: 10},
		{Stage: "new", When: `ever("order.paid")`, Line: 12, Won: 3},
		{Stage: "start", When: "otherwise", Line: 14},
	}
	if d := cmp.Diff(wantRules, c.Rules); d != "" {
		t.Error(d)
	}
	wantClauses := []ClauseCoverage{
		{Text: `spent("EUR") >= eur(100)`, Line: 4, Column: 8, False: 3},
		{Text: `ever("customer.deleted")`, Line: 7, Column: 11, True: 1, False: 3},
		{Text: `ever("order.refunded")`, Line: 9, Column: 23, False: 3},
		{Text: `since("order.paid") >= days(30)`, Line: 11, Column: 11, False: 3},
		{Text: `ever("order.paid")`, Line: 13, Column: 11, True: 3},
	}
	if d := cmp.Diff(wantClauses, c.Clauses); d != "" {
		t.Error(d)
	}
	stages := []Gap{
		{LevelStages, 2, "no test enters stage vip by a rule, only by hand"},
		{LevelStages, 2, "no test enters stage lost"},
		{LevelStages, 2, "no test leaves stage lost"},
	}
	if d := cmp.Diff(stages, c.Gaps(LevelStages)); d != "" {
		t.Error(d)
	}
	all := append(stages,
		Gap{LevelClauses, 4, `never true: spent("EUR") >= eur(100)`},
		Gap{LevelRules, 8, `no test is decided by the rule for vip: big and not ever("order.refunded")`},
		Gap{LevelClauses, 9, `never true: ever("order.refunded")`},
		Gap{LevelRules, 10, `no test is decided by the rule for lost: since("order.paid") >= days(30)`},
		Gap{LevelClauses, 11, `never true: since("order.paid") >= days(30)`},
		Gap{LevelClauses, 13, `never false: ever("order.paid")`},
		Gap{LevelRules, 14, "no test is decided by the rule for start: otherwise"})
	if d := cmp.Diff(all, c.Gaps(LevelClauses)); d != "" {
		t.Error(d)
	}
	for level, want := range map[string][2]int{LevelStages: {6, 9}, LevelRules: {2, 5}, LevelClauses: {6, 10}} {
		if covered, of := c.Share(level); covered != want[0] || of != want[1] {
			t.Errorf("%s: %d of %d, want %v", level, covered, of, want)
		}
	}
}
