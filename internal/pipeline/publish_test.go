package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/pipeline"
)

const spender = `
model: spender
stages: [{name: small}, {name: big}]
decide:
  - {stage: big, when: 'count("order.paid") >= %d'}
  - otherwise: small
`

const buyer = `
model: buyer
stages: [{name: nobody}, {name: somebody}]
decide:
  - {stage: somebody, when: 'ever("order.paid")'}
  - otherwise: nobody
`

// publish makes the models the published set, as the app does, and returns what decides by it.
func (h *harness) publish(t *testing.T, writes []pipeline.Write, texts ...string) *pipeline.Program {
	t.Helper()
	env := lifecycle.Env{Stages: map[string][]string{}}
	for _, text := range texts {
		name, stages := lifecycle.Outline([]byte(text))
		env.Models, env.Stages[name] = append(env.Models, name), stages
	}
	return h.publishIn(t, env, writes, texts...)
}

func (h *harness) publishIn(t *testing.T, env lifecycle.Env, writes []pipeline.Write, texts ...string) *pipeline.Program {
	t.Helper()
	set := hub.ModelSet{Hash: fmt.Sprint(time.Now().UnixNano()), Definition: []byte("{}")}
	var active []pipeline.ActiveModel
	for i, text := range texts {
		m, err := lifecycle.Compile(fmt.Sprintf("%d.yaml", i), []byte(text), env)
		if err != nil {
			t.Fatal(err)
		}
		active = append(active, pipeline.ActiveModel{Model: m})
		set.Models = append(set.Models, hub.ModelVersion{Name: m.Name, Hash: m.Hash, Text: text})
	}
	set, err := h.store.SaveDraft(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.Publish(t.Context(), set.Number, time.Now()); err != nil {
		t.Fatal(err)
	}
	for i := range active {
		active[i].Version = set.Models[i].Version
	}
	return pipeline.NewProgram(set.Number, active, nil, writes, []pipeline.Subscription{{Name: "erp", Kinds: []string{"stage.entered"}}}, nil)
}

func (h *harness) decideAll(t *testing.T, p *pipeline.Pipeline) (pages int) {
	t.Helper()
	for {
		more, err := p.DecidePublished(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if pages++; !more {
			return pages
		}
	}
}

// tell returns how many customers stand where, in which version and by what, and how many transitions were recorded for which cause.
func (h *harness) tell(t *testing.T) (standings, causes map[string]int) {
	t.Helper()
	standings, causes = map[string]int{}, map[string]int{}
	cursor := ""
	for {
		list, next, err := h.store.Customers(t.Context(), hub.CustomerQuery{Page: hub.Page{Limit: 200, Cursor: cursor}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			for _, s := range c.Stages {
				standings[fmt.Sprintf("%s %d %s by %s", s.Model, s.Version, s.Stage, s.By)]++
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	for {
		list, next, err := h.store.Transitions(t.Context(), hub.Page{Limit: 200, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range list {
			causes[fmt.Sprintf("%s %d %s→%s %s %s", tr.Model, tr.Version, tr.From, tr.To, tr.Cause.Type, tr.Cause.ID)]++
			if tr.Cause.Type == hub.CauseEvent {
				delete(causes, fmt.Sprintf("%s %d %s→%s %s %s", tr.Model, tr.Version, tr.From, tr.To, tr.Cause.Type, tr.Cause.ID))
				causes[fmt.Sprintf("%s %d %s→%s event", tr.Model, tr.Version, tr.From, tr.To)]++
			}
		}
		if cursor = next; cursor == "" {
			return standings, causes
		}
	}
}

func order(person, number int, at time.Time) hub.Event {
	return hub.Event{
		ID: hub.EventID("shop", fmt.Sprintf("%d/%d", person, number), "order.paid"), Version: hub.Version{Activation: 1}, Kind: "order.paid", Connection: "shop",
		OccurredAt: at, ReceivedAt: at, Properties: map[string]any{"id": fmt.Sprintf("%d/%d", person, number)},
		Identifiers: []hub.Identifier{{Kind: "shop_person", Value: fmt.Sprint(person), Connection: "shop", Record: true}},
	}
}

// After a publish every customer stands in the new version: those whom it moves with a transition that has effects, those who
// are new to a model without. It goes page by page, from where the last process stopped, one process at a time.
func TestPublishDecidesEverybody(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { publishDecidesEverybody(t, newHarness(t, "")) })
	t.Run("postgres", func(t *testing.T) { publishDecidesEverybody(t, newHarness(t, postgres(t)("publish"))) })
}

func publishDecidesEverybody(t *testing.T, h *harness) {
	ctx := t.Context()
	first := h.publish(t, nil, fmt.Sprintf(spender, 3))
	h.pipeline.Use(first)
	const people = 600
	var events []hub.Event
	for i := range people {
		events = append(events, order(i, 0, epoch))
		if i%3 == 0 {
			events = append(events, order(i, 1, epoch.Add(time.Hour)))
		}
	}
	for i := 0; i < len(events); i += 200 {
		h.apply(ctx, t, uint64(i+1), events[i:i+200])
	}
	h.horizon(ctx, t, epoch.AddDate(0, 1, 0))
	if pages := h.decideAll(t, h.pipeline); pages != 1 {
		t.Errorf("looking at %d customers of whom none is to be decided took %d turns", people, pages)
	}
	standings, causes := h.tell(t)
	if diff := cmp.Diff([]map[string]int{{"spender 1 small by initial": people}, {}}, []map[string]int{standings, causes}); diff != "" {
		t.Fatalf("before the publish (-want +got):\n%s", diff)
	}
	// One customer is pinned: a person's decision stands whatever is published.
	pinned := hub.DeriveID(hub.PrefixCustomer, events[0].ProfileID())
	pin := hub.PinRecord{Subject: hub.Subject{Kind: hub.SubjectCustomer, ID: pinned}, Model: "spender", Stage: "small", Who: "lena", At: epoch.AddDate(0, 0, 2)}
	if err := h.store.Apply(ctx, func(ctx context.Context, tx hub.Tx) error {
		return tx.Save(ctx, &hub.Changes{Pins: []hub.PinRecord{pin}})
	}); err != nil {
		t.Fatal(err)
	}

	second := h.publish(t, nil, fmt.Sprintf(spender, 2), buyer)
	if _, err := h.newHolder("old").DecidePublished(ctx); err != nil {
		t.Errorf("without a program: %v", err)
	}
	if more, err := h.pipeline.DecidePublished(ctx); more || err != nil { // still compiled from the first set, and done with that
		t.Errorf("an old process: %v %v", more, err)
	}
	h.pipeline.Use(second)
	if more, err := h.pipeline.DecidePublished(ctx); !more || err != nil {
		t.Fatalf("the first page: %v %v", more, err)
	}
	other := h.newHolder("two")
	other.Use(second)
	if more, err := other.DecidePublished(ctx); more || err != nil {
		t.Errorf("a second process at the same time: %v %v", more, err)
	}
	// The first process dies: its lease runs out, and another goes on where it stopped.
	if _, err := h.store.Lease(ctx, "publish", "one", -time.Second); err != nil {
		t.Fatal(err)
	}
	other.Use(second)
	if err := other.ComputeHorizon(ctx); err != nil {
		t.Fatal(err)
	}
	// Meanwhile life goes on: an event of somebody who is not decided yet, which is decided under the new version at once.
	h.pipeline = other
	h.apply(ctx, t, 10_000, []hub.Event{order(599, 7, epoch.AddDate(0, 2, 0))})
	if pages := h.decideAll(t, other); pages != 2 {
		t.Errorf("the rest of %d customers took %d pages", people, pages)
	}
	standings, causes = h.tell(t)
	want := []map[string]int{
		{"spender 2 small by initial": 399, "spender 2 small by pin": 1, "spender 2 big by rule": 200, "buyer 1 somebody by initial": people},
		{"spender 2 small→big publish set/3": 199, "spender 2 small→big event": 1},
	}
	if diff := cmp.Diff(want, []map[string]int{standings, causes}); diff != "" {
		t.Errorf("after the publish (-want +got):\n%s", diff)
	}
	pending, err := h.store.Pending(ctx, time.Now().Add(time.Hour))
	if err != nil || pending.DeliveriesOpen != 200 {
		t.Errorf("%d callbacks are owed, want one for each of 200 transitions; %v", pending.DeliveriesOpen, err)
	}
	// Doing it all again does nothing.
	if err := h.store.SaveSetting(ctx, "publish.decided", ""); err != nil {
		t.Fatal(err)
	}
	third := h.newHolder("two")
	third.Use(second)
	h.decideAll(t, third)
	if _, again := h.tell(t); !cmp.Equal(again, causes) {
		t.Errorf("once more: %v, want %v", again, causes)
	}
	// A process that has compiled another set than the published one decides nobody.
	late := h.newHolder("two")
	late.Use(first)
	if _, err := late.DecidePublished(ctx); !errors.Is(err, hub.ErrTransient) {
		t.Errorf("with the first set: %v", err)
	}
}

// What is written of a stage to other systems is brought up to date by a publish, also where no stage changes.
func TestPublishBringsFieldsUpToDate(t *testing.T) {
	h := newHarness(t, "")
	ctx := t.Context()
	text := fmt.Sprintf(spender, 3)
	h.pipeline.Use(h.publish(t, nil, text))
	h.decideAll(t, h.pipeline)
	h.apply(ctx, t, 1, []hub.Event{order(1, 0, epoch), order(2, 0, epoch)})
	value := func(values map[string]string) []pipeline.Write {
		return []pipeline.Write{{Connection: "shop", Model: "spender", Field: "lifecycle.stage", Mode: "always", Values: values}}
	}
	for generation, writes := range [][]pipeline.Write{value(nil), value(map[string]string{"small": "S", "big": "B"}), value(map[string]string{"small": "S", "big": "BB"})} {
		h.pipeline.Use(h.publish(t, writes, text))
		h.decideAll(t, h.pipeline)
		want := []string{"small", "S", "S"}[generation]
		for _, person := range []int{1, 2} {
			ev := order(person, 0, epoch)
			slot := hub.SlotID("shop", hub.DeriveID(hub.PrefixCustomer, ev.ProfileID()), "lifecycle.stage")
			err := h.store.Apply(ctx, func(ctx context.Context, tx hub.Tx) error {
				rows, err := tx.Desired(ctx, []string{slot})
				if got := rows[slot].Value; got != want {
					t.Errorf("publish %d: the field of %d is to hold %q, want %q", generation, person, got, want)
				}
				if got, want := rows[slot].Generation, int64(min(generation+1, 2)); got != want {
					t.Errorf("publish %d: generation %d, want %d: nothing is written twice", generation, got, want)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, causes := h.tell(t); len(causes) != 0 {
		t.Errorf("transitions: %v", causes)
	}
}

func (h *harness) newHolder(name string) *pipeline.Pipeline {
	return pipeline.New(pipeline.Config{
		Store: h.store, Publisher: &memory{}, Backlog: &idle{}, Connections: nobody{}, Clock: pipeline.WallClock{Now: func() time.Time { return h.now }},
		Now: time.Now, Log: quiet(), Holder: name, Source: "stagewire/test",
	})
}
