package pipeline_test

import (
	"errors"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
	"github.com/stagewire/stagewire/internal/score"
)

const risk = `
model: risk
stages: [{name: steady}, {name: fading}]
decide:
  - {stage: fading, when: '(score.active ?? 1) < 0.3'}
  - otherwise: steady
`

// Scores come like a publish, and silence moves a customer at the very instant at which her score says so.
func TestScoresDecide(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { scoresDecide(t, newHarness(t, "")) })
	t.Run("postgres", func(t *testing.T) { scoresDecide(t, newHarness(t, postgres(t)("scores"))) })
}

func scoresDecide(t *testing.T, h *harness) {
	ctx := t.Context()
	program := h.publish(t, nil, risk, buyer)
	h.pipeline.Use(program)
	if !program.ReadsScores() {
		t.Error("a model reads scores, the program does not know")
	}
	var events []hub.Event
	for n, day := range []int{0, 6, 14, 21} { // person 0 orders again and again, 1 once
		events = append(events, order(0, n, epoch.AddDate(0, 0, day)))
	}
	last := epoch.AddDate(0, 0, 21)
	h.apply(ctx, t, 1, append(events, order(1, 0, epoch)))
	h.horizon(ctx, t, last)
	h.decideAll(t, h.pipeline)
	wakes := func(person int) (stage string, at time.Time) {
		t.Helper()
		ev := order(person, 0, epoch)
		c, err := h.store.Customer(ctx, hub.DeriveID(hub.PrefixCustomer, ev.ProfileID()))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.Stages {
			if s.Model == "risk" {
				return s.Stage, s.WakesAt
			}
		}
		t.Fatalf("%v", c.Stages)
		return "", time.Time{}
	}
	if stage, at := wakes(0); stage != "steady" || !at.IsZero() {
		t.Errorf("while scores are unknown she is %s until %s", stage, at)
	}
	use := func(m score.BGNBD) {
		t.Helper()
		version, err := h.store.SaveScores(ctx, hub.ScoresRecord{At: h.now, SavedAt: time.Now(), Body: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		// Whoever has older scores hands back what it has begun.
		if err := h.pipeline.Apply(ctx, hub.EventFrame{Incarnation: "test", Seq: 2, First: 2}); !errors.Is(err, hub.ErrTransient) {
			t.Errorf("applied by old scores: %v", err)
		}
		h.pipeline.UseScores(pipeline.Scores{Version: version, Scorer: &score.Snapshot{Purchases: &score.PurchaseModel{BGNBD: m}}})
		h.decideAll(t, h.pipeline)
	}
	m := score.BGNBD{R: 0.243, Alpha: 4.414, A: 0.793, B: 2.426}
	use(m)
	// The odds a/(b+x-1) ((alpha+T)/(alpha+t_x))^(r+x) reach 0.7/0.3 at:
	const x, tx = 3, 3
	weeks := math.Pow(0.7/0.3*(m.B+x-1)/m.A, 1/(m.R+x))*(m.Alpha+tx) - m.Alpha
	flips := epoch.Add(time.Duration(weeks * float64(7*24*time.Hour)))
	stage, at := wakes(0)
	if d := at.Sub(flips); stage != "steady" || d <= -time.Millisecond || d > 2*time.Millisecond {
		t.Fatalf("she is %s until %s, her score falls below 0.3 at %s", stage, at, flips)
	}
	if stage, at := wakes(1); stage != "steady" || !at.IsZero() {
		t.Errorf("who ordered once is %s until %s", stage, at)
	}
	until := func(now time.Time) {
		t.Helper()
		h.horizon(ctx, t, now)
		if err := h.store.SaveHorizons(ctx, []hub.Horizon{{At: now, ComputedAt: time.Now()}}); err != nil { // else only once a second
			t.Fatal(err)
		}
		h.drainWakes(ctx, t)
	}
	until(at.Add(-time.Millisecond))
	if stage, again := wakes(0); stage != "steady" || !again.Equal(at) {
		t.Errorf("a millisecond before she is %s until %s", stage, again)
	}
	until(at)
	if stage, again := wakes(0); stage != "fading" || !again.IsZero() {
		t.Errorf("at that instant she is %s until %s", stage, again)
	}
	// The next snapshot says something else, and the one after it the same.
	use(score.BGNBD{R: 0.243, Alpha: 4.414, A: 0.05, B: 3})
	use(score.BGNBD{R: 0.243, Alpha: 4.414, A: 0.05, B: 3})
	list, _, err := h.store.Transitions(ctx, hub.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tr := range list {
		if tr.Model == "risk" {
			got = append(got, tr.From+"→"+tr.To+" "+tr.Cause.Type+" "+tr.Cause.ID)
			if !tr.At.Equal(at) {
				t.Errorf("%s→%s at %s, want %s", tr.From, tr.To, tr.At, at)
			}
		}
	}
	want := []string{"fading→steady snapshot scores/2", "steady→fading wake wake/risk/" + strconv.FormatInt(at.UnixMilli(), 10)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("transitions (-want +got):\n%s", diff)
	}
	// An order brings her back by itself, and puts the wake-up off.
	h.apply(ctx, t, 3, []hub.Event{order(0, 9, at.Add(time.Hour))})
	if stage, again := wakes(0); stage != "steady" || !again.After(at.AddDate(0, 1, 0)) {
		t.Errorf("after another order she is %s until %s", stage, again)
	}
}
