package pipeline_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

const deals = `
model: deals
of: deal
stages: [{name: idle}, {name: running}, {name: asleep}, {name: won}]
decide:
  - {stage: won, when: deal.won}
  - {stage: asleep, when: 'deal.open and since("deal.stage_changed") >= days(7)'}
  - {stage: running, when: deal.open}
  - otherwise: idle
`

func deal(id, kind string, at time.Time) hub.Event {
	ev := order(1, 0, at)
	ev.ID, ev.Kind, ev.Properties = hub.EventID("shop", id+at.String(), kind), kind, map[string]any{"id": id, "name": "Deal " + id}
	return ev
}

// Each deal has a stage of its own, moves back, sleeps by itself, and is pinned by itself.
func TestDeals(t *testing.T) { onBoth(t, dealsDecide) }

func dealsDecide(t *testing.T, h *harness) {
	ctx := t.Context()
	h.pipeline.Use(h.publish(t, nil, deals))
	h.apply(ctx, t, 1, []hub.Event{
		deal("a", "deal.stage_changed", epoch), deal("b", "deal.stage_changed", epoch.AddDate(0, 0, 1)), deal("b", "deal.won", epoch.AddDate(0, 0, 2)),
		deal("b", "deal.stage_changed", epoch.AddDate(0, 0, 3)),
	})
	first := deal("a", "deal.stage_changed", epoch)
	id := hub.DeriveID(hub.PrefixCustomer, first.ProfileID())
	stand := func(want map[string]string) {
		t.Helper()
		c, err := h.store.Customer(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, s := range c.Stages {
			got[s.Subject.ID] = s.Stage + " by " + s.By
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
	a, b := hub.DealSubject(first.Connection, "a").ID, hub.DealSubject(first.Connection, "b").ID
	stand(map[string]string{a: "running by rule", b: "running by rule"})
	h.horizon(ctx, t, epoch.AddDate(0, 0, 8))
	h.drainWakes(ctx, t)
	stand(map[string]string{a: "asleep by rule", b: "running by rule"})
	pin := hub.PinRecord{Subject: hub.Subject{Kind: hub.SubjectDeal, ID: b}, Model: "deals", Stage: "won", Who: "lena", Why: "signed"}
	if _, err := h.pipeline.Pin(ctx, id, pin); err != nil {
		t.Fatal(err)
	}
	stand(map[string]string{a: "asleep by rule", b: "won by pin"})
	if _, err := h.pipeline.Unpin(ctx, id, "deals", pin.Subject, "lena", ""); err != nil {
		t.Fatal(err)
	}
	stand(map[string]string{a: "asleep by rule", b: "running by rule"})
	pin.Stage = "lost"
	if _, err := h.pipeline.Pin(ctx, id, pin); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("a stage that is not there: %v", err)
	}
}

const follower = `
model: follower
stages: [{name: calm}, {name: excited}]
decide:
  - {stage: excited, when: stages.spender == "big"}
  - otherwise: calm
`

func TestModelsReadEachOther(t *testing.T) { onBoth(t, modelsReadEachOther) }

func modelsReadEachOther(t *testing.T, h *harness) {
	ctx := t.Context()
	env := lifecycle.Env{Models: []string{"spender", "follower"}, Stages: map[string][]string{"spender": {"small", "big"}, "follower": {"calm", "excited"}}}
	h.pipeline.Use(h.publishIn(t, env, nil, follower, `
model: spender
stages: [{name: small}, {name: big}]
decide:
  - {stage: big, when: 'count("order.paid", days(10)) >= 2'}
  - otherwise: small
`))
	h.apply(ctx, t, 1, []hub.Event{order(1, 0, epoch), order(1, 1, epoch.Add(time.Hour))})
	h.horizon(ctx, t, epoch.AddDate(0, 0, 20))
	h.drainWakes(ctx, t)
	standings, causes := h.tell(t)
	if causes["follower 1 calm→excited event"] != 1 || standings["follower 1 calm by rule"] != 1 || standings["spender 1 small by rule"] != 1 {
		t.Errorf("%v %v", standings, causes)
	}
	_, err := lifecycle.Order([]*lifecycle.Model{mustCompile(t, env, follower), mustCompile(t, env, `
model: spender
stages: [{name: small}, {name: big}]
decide:
  - {stage: big, when: stages.follower == "calm"}
  - otherwise: small
`)})
	if len(lifecycle.Problems(err)) != 1 {
		t.Errorf("a circle: %v", err)
	}
}

func mustCompile(t *testing.T, env lifecycle.Env, text string) *lifecycle.Model {
	t.Helper()
	m, err := lifecycle.Compile("m.yaml", []byte(text), env)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
