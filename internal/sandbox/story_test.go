package sandbox

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// playAll plays the quickstart's story and returns every webhook in the order it was queued, as text.
func playAll(t *testing.T, seed uint64, knobs map[string]Knobs) ([]string, *bench) {
	t.Helper()
	b := newBench(t, func(c *Config) { c.Seed, c.Knobs = seed, knobs })
	var out []string
	for _, step := range QuickstartStory() {
		b.business.set(step.At)
		b.play(step)
		b.mu.Lock()
		for _, name := range Vendors {
			q := b.queues[name]
			for _, h := range q.hooks {
				out = append(out, h.vendor+" "+h.id+" "+h.due.Sub(b.wire.now()).String()+" "+string(h.body)+string(encode(h.events)))
			}
			q.hooks = nil
		}
		b.mu.Unlock()
	}
	return out, b
}

func TestQuickstartStoryIsDeterministic(t *testing.T) {
	knobs := map[string]Knobs{Shopify: {Duplicates: 0.2, Disorder: 0.2, Delay: Span(time.Second)}, HubSpot: {Duplicates: 0.2}}
	a, _ := playAll(t, 1, knobs)
	b, _ := playAll(t, 1, knobs)
	if !slices.Equal(a, b) {
		t.Error("two plays with one seed differ")
	}
	if c, _ := playAll(t, 2, knobs); slices.Equal(a, c) {
		t.Error("another seed changes nothing")
	}
	calm, _ := playAll(t, 1, nil)
	if len(a) <= len(calm) {
		t.Errorf("no duplicates among %d", len(a))
	}
}

// clc is the model's rule written down a second time, for the expected path.
func clc(orders []time.Time, at time.Time) string {
	var past []time.Time
	for _, o := range orders {
		if !o.After(at) {
			past = append(past, o)
		}
	}
	year := 0
	for _, o := range past {
		if at.Sub(o) <= 365*24*time.Hour {
			year++
		}
	}
	switch {
	case len(past) == 0:
		return "prospect"
	case at.Sub(past[len(past)-1]) >= 180*24*time.Hour:
		return "lost"
	case year >= 5:
		return "loyal"
	case len(past) >= 2:
		return "active"
	}
	return "new"
}

// The story leads where QuickstartExpected says, by an evaluation of its own.
func TestQuickstartStoryLeadsWhereItSays(t *testing.T) {
	steps := QuickstartStory()
	owner, orders, vendors := map[string]string{}, map[string][]time.Time{}, map[string]map[string]bool{}
	verbs := map[string]bool{}
	for i, step := range steps {
		verbs[step.Do] = true
		if i > 0 && step.At.Before(steps[i-1].At) {
			t.Fatalf("step %d goes back in time", i)
		}
		if step.Do == "order.placed" {
			owner[step.Object] = step.Customer
		}
		if step.Do == "order.paid" {
			at := step.At
			if !step.Occurred.IsZero() {
				at = step.Occurred
			}
			orders[owner[step.Object]] = append(orders[owner[step.Object]], at)
		}
		if step.Do == "customer.created" || step.Do == "lead.created" {
			if vendors[step.Customer] == nil {
				vendors[step.Customer] = map[string]bool{}
			}
			vendors[step.Customer][step.Vendor] = true
		}
	}
	end := steps[len(steps)-1].At
	for _, want := range QuickstartExpected() {
		moments := append([]time.Time{}, orders[want.Email]...)
		for _, o := range orders[want.Email] {
			moments = append(moments, o.Add(180*24*time.Hour))
		}
		slices.SortFunc(moments, time.Time.Compare)
		var path []string
		stage := "prospect"
		for _, at := range moments {
			if next := clc(orders[want.Email], at); !at.After(end) && next != stage {
				stage = next
				path = append(path, next)
			}
		}
		if !slices.Equal(path, want.Path) || stage != want.Stage || clc(orders[want.Email], end) != want.Stage {
			t.Errorf("%s: path %v, stage %s; said %v, %s", want.Name, path, stage, want.Path, want.Stage)
		}
		if want.Silence != slices.Contains(path, "lost") {
			t.Errorf("%s: silence", want.Name)
		}
		known, said := slices.Sorted(maps.Keys(vendors[want.Email])), slices.Sorted(slices.Values(want.Vendors))
		if !slices.Equal(known, said) {
			t.Errorf("%s is known to %v, said %v", want.Name, known, said)
		}
	}
	for _, verb := range []string{"ticket.opened", "order.refunded", "cart.updated", "consent.changed", "deal.won", "customer.updated", TimePassed} {
		if !verbs[verb] {
			t.Errorf("no %s in the story", verb)
		}
	}
	if span := end.Sub(steps[0].At); span < 250*24*time.Hour || span > 290*24*time.Hour {
		t.Errorf("the story takes %s", span)
	}
}

func TestStepsThatMakeNoSense(t *testing.T) {
	b := newBench(t)
	b.play(Step{Vendor: Shopify, Do: "customer.created", Customer: "a@example.com"}, Step{Vendor: HubSpot, Do: "customer.created", Customer: "a@example.com"})
	for _, step := range []Step{
		{Vendor: "sap", Do: "customer.created"},
		{Vendor: Shopify, Do: "customer.created", Customer: "a@example.com"},
		{Vendor: Shopify, Do: "order.placed", Customer: "b@example.com", Object: "o", Amount: "1"},
		{Vendor: Shopify, Do: "order.placed", Customer: "a@example.com", Object: "o", Amount: "much"},
		{Vendor: Shopify, Do: "order.paid", Object: "o9"},
		{Vendor: Shopify, Do: "dance", Customer: "a@example.com"},
		{Vendor: HubSpot, Do: "task.completed", Customer: "a@example.com"},
		{Vendor: HubSpot, Do: "customer.updated", Customer: "a@example.com", Field: "lifecyclestage", Value: "vip"},
		{Vendor: HubSpot, Do: "deal.won", Object: "d9", Customer: "a@example.com"},
		{Vendor: Zoho, Do: "deal.created", Customer: "a@example.com"},
		{Vendor: Zendesk, Do: "ticket.solved", Object: "t9"},
	} {
		if err := b.Play(context.Background(), step); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s %s: %v", step.Vendor, step.Do, err)
		}
	}
}

func TestReadStory(t *testing.T) {
	good := `
- {at: 2026-01-01T10:00:00Z, vendor: shopify, do: customer.created, customer: ada@example.com, name: Ada}
- {at: 2026-01-02T10:00:00Z, do: time.passed}
`
	steps, err := ReadStory([]byte(good))
	if err != nil || len(steps) != 2 || steps[0].Customer != "ada@example.com" {
		t.Fatalf("%v %+v", err, steps)
	}
	for name, text := range map[string]string{
		"unknown key": strings.Replace(good, "name:", "nome:", 1), "backwards": strings.Replace(good, "01-02", "12-02", 1) + "- {at: 2026-01-01T00:00:00Z, do: time.passed}",
		"vendor": strings.Replace(good, "shopify", "spotify", 1), "no time": "- {do: time.passed}",
	} {
		if _, err := ReadStory([]byte(text)); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The last steps of the hub's loop: a person completes the task that the hub made.
func TestAPersonCompletesOurTask(t *testing.T) {
	b, id := crmBench(t)
	body := props("hs_timestamp", "2026-11-25T09:00:00Z", "hs_task_subject", "Win back")
	body["associations"] = link(id, 204)
	b.call("POST", hubAPI+"/objects/tasks", body)
	b.queued(HubSpot)
	b.play(Step{Vendor: HubSpot, Do: "task.completed", Customer: "ada@example.com"})
	_, events := b.queued(HubSpot)
	if len(events) != 1 || events[0]["objectTypeId"] != "0-27" || events[0]["propertyValue"] != "COMPLETED" || events[0]["changeSource"] != "CRM_UI" {
		t.Errorf("%v", events)
	}
}
