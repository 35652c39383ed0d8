package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/bus"
	"github.com/stagewire/stagewire/internal/hub"
)

const advocate = `
model: advocate
stages: [{name: quiet}, {name: champion}]
decide:
  - {stage: champion, when: 'count(customer.referred, .stages.buyer == "somebody") >= 1'}
  - otherwise: quiet
`

const contact = `
model: contact
stages: [{name: cold}, {name: warm}]
decide:
  - {stage: warm, when: 'any(customer.companies, .name == "Acme" and .stages.account == "won")'}
  - otherwise: cold
`

const account = `
model: account
of: company
stages: [{name: open}, {name: won}]
decide:
  - {stage: won, when: 'ever("deal.won")'}
  - otherwise: open
`

// happens makes an event of somebody who is named by an address.
func happens(email, kind string, at time.Time, properties map[string]any) hub.Event {
	return hub.Event{
		ID: hub.EventID("shop", email+at.String(), kind), Version: hub.Version{Activation: 1}, Kind: kind, Connection: "shop",
		OccurredAt: at, ReceivedAt: at, Properties: properties, Identifiers: []hub.Identifier{{Kind: hub.IdentifierEmail, Value: email}},
	}
}

// relay applies the own events in the outbox, as relay and streams do, until there are none, and returns how many there were.
func (h *harness) relay(t *testing.T) int {
	t.Helper()
	n := 0
	for {
		rows, err := h.store.Unpublished(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 0 {
			return n
		}
		var events []hub.Event
		for _, row := range rows {
			if row.Kind != hub.OutboxOwn {
				continue
			}
			ev, err := bus.DecodeEvent(row.Body)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, ev)
		}
		if len(events) > 0 {
			n += len(events)
			h.seq++
			h.applyTo(t.Context(), t, 7, h.seq, events)
		}
		if err := h.store.Published(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
}

// stage returns where whoever has the address stands in a model, "" where there is nobody.
func (h *harness) stage(t *testing.T, email, model string) string {
	t.Helper()
	found, _, err := h.store.Customers(t.Context(), hub.CustomerQuery{Page: hub.Page{Limit: 2}, Identifier: "email:" + email})
	if err != nil {
		t.Fatalf("%s: %v", email, err)
	}
	for _, rec := range found {
		for _, s := range rec.Stages {
			if s.Model == model {
				return s.Stage
			}
		}
	}
	return ""
}

func both(t *testing.T, name string, run func(*testing.T, *harness)) {
	t.Run("sqlite", func(t *testing.T) { run(t, newHarness(t, "")) })
	t.Run("postgres", func(t *testing.T) { run(t, newHarness(t, postgres(t)(name))) })
}

// Who recommended somebody is decided anew when that somebody moves, whichever of the two says so and in whatever order.
func TestTheReferrerIsDecidedWhenTheReferredMoves(t *testing.T) {
	both(t, "referred", func(t *testing.T, h *harness) {
		h.pipeline.Use(h.publish(t, nil, buyer, advocate))
		made := happens("ada@example.com", "referral.made", epoch.Add(time.Hour), map[string]any{"referred": "Bob@example.com"})
		accepted := happens("eve@example.com", "referral.accepted", epoch.Add(2*time.Hour), map[string]any{"referrer": "dan@example.com"})
		h.apply(t.Context(), t, 1, []hub.Event{made, accepted})
		h.relay(t)
		for _, who := range []string{"ada@example.com", "dan@example.com"} {
			if got := h.stage(t, who, "advocate"); got != "quiet" {
				t.Errorf("%s is %q before anybody bought", who, got)
			}
		}
		h.apply(t.Context(), t, 2, []hub.Event{happens("bob@example.com", "order.paid", epoch.Add(3*time.Hour), nil), happens("eve@example.com", "order.paid", epoch.Add(4*time.Hour), nil)})
		if n := h.relay(t); n != 2 {
			t.Errorf("%d own events", n)
		}
		for _, who := range []string{"ada@example.com", "dan@example.com"} {
			if got := h.stage(t, who, "advocate"); got != "champion" {
				t.Errorf("%s is %q", who, got)
			}
		}
		if feed, err := h.store.Feed(t.Context(), 0, 100); err != nil || slices.ContainsFunc(feed, func(f hub.FeedItem) bool { return f.Kind == hub.OutboxOwn }) {
			t.Errorf("own events are in the feed: %v", err)
		}
		// Nothing new is told a second time.
		h.apply(t.Context(), t, 3, []hub.Event{happens("bob@example.com", "page.viewed", epoch.Add(5*time.Hour), nil)})
		if n := h.relay(t); n != 0 {
			t.Errorf("%d own events for nothing", n)
		}
	})
}

// A model that asks about those who were referred is told of all of them when it is published, and those who are merged are one.
func TestPublishTellsOfTheReferredAndMergesAreFollowed(t *testing.T) {
	both(t, "referred_publish", func(t *testing.T, h *harness) {
		h.pipeline.Use(h.publish(t, nil, buyer))
		shop := func(id string, ev hub.Event) hub.Event {
			ev.Identifiers = append(ev.Identifiers, hub.Identifier{Kind: "shop_customer", Connection: "shop", Value: id, Record: true})
			ev.ID += id
			return ev
		}
		h.apply(t.Context(), t, 1, []hub.Event{
			happens("ada@example.com", "referral.made", epoch.Add(time.Hour), map[string]any{"referred": "bob@example.com"}),
			happens("bob@example.com", "order.paid", epoch.Add(2*time.Hour), nil),
		})
		if n := h.relay(t); n != 0 {
			t.Errorf("%d own events though no model asks", n)
		}
		counting := `
model: advocate
stages: [{name: quiet}, {name: champion}]
decide:
  - {stage: champion, when: 'count(customer.referred) == 1 and all(customer.referred, .stages.buyer == "somebody")'}
  - otherwise: quiet
`
		h.horizon(t.Context(), t, epoch.AddDate(0, 0, 1))
		h.pipeline.Use(h.publish(t, nil, buyer, counting))
		h.decideAll(t, h.pipeline)
		h.relay(t)
		if got := h.stage(t, "ada@example.com", "advocate"); got != "champion" {
			t.Errorf("after publish ada is %q", got)
		}
		// Robert is referred too, and turns out to be Bob.
		h.apply(t.Context(), t, 2, []hub.Event{
			shop("7", happens("robert@example.com", "referral.accepted", epoch.AddDate(0, 0, 2), map[string]any{"referrer": "ada@example.com"})),
			shop("7", happens("robert@example.com", "order.paid", epoch.AddDate(0, 0, 3), nil)),
		})
		h.relay(t)
		if got := h.stage(t, "ada@example.com", "advocate"); got != "quiet" {
			t.Errorf("with two referred ada is %q", got)
		}
		h.apply(t.Context(), t, 3, []hub.Event{shop("7", happens("bob@example.com", "page.viewed", epoch.AddDate(0, 0, 4), nil))})
		h.relay(t)
		if got := h.stage(t, "ada@example.com", "advocate"); got != "champion" {
			t.Errorf("after the merge ada is %q", got)
		}
	})
}

// Those who belong to a company are decided when the company moves, until they leave it.
func TestMembersAreDecidedWhenTheirCompanyMoves(t *testing.T) {
	both(t, "companies", func(t *testing.T, h *harness) {
		h.pipeline.Use(h.publish(t, nil, account, contact))
		joined := func(who string, at time.Time, kind string) hub.Event {
			return happens(who, kind, at, map[string]any{"id": "c1", "name": "Acme"})
		}
		company := func(kind string, at time.Time) hub.Event {
			return hub.Event{
				ID: hub.EventID("shop", "c1"+at.String(), kind), Version: hub.Version{Activation: 1}, Kind: kind, Connection: "shop", OccurredAt: at, ReceivedAt: at,
				Properties: map[string]any{"id": "c1"}, Identifiers: []hub.Identifier{{Kind: "company", Connection: "shop", Value: "c1", Record: true}},
			}
		}
		h.apply(t.Context(), t, 1, []hub.Event{
			joined("ada@example.com", epoch.Add(time.Hour), "company.joined"), joined("bob@example.com", epoch.Add(time.Hour), "company.joined"),
			joined("bob@example.com", epoch.Add(2*time.Hour), "company.left"), company("company.created", epoch.Add(3*time.Hour)),
		})
		h.relay(t)
		h.apply(t.Context(), t, 2, []hub.Event{company("deal.won", epoch.Add(4*time.Hour))})
		h.relay(t)
		if ada, bob := h.stage(t, "ada@example.com", "contact"), h.stage(t, "bob@example.com", "contact"); ada != "warm" || bob != "cold" {
			t.Errorf("ada is %q, bob is %q", ada, bob)
		}
	})
}

// Two who recommended each other and decide by each other come to rest.
func TestCirclesOfReferralsEnd(t *testing.T) {
	h := newHarness(t, "")
	contrary := `
model: contrary
stages: [{name: "off"}, {name: "on"}]
decide:
  - {stage: "on", when: 'count(customer.referred) > 0 and none(customer.referred, .stages.contrary == "on")'}
  - otherwise: "off"
`
	h.pipeline.Use(h.publish(t, nil, contrary))
	h.apply(t.Context(), t, 1, []hub.Event{
		happens("ada@example.com", "referral.accepted", epoch, map[string]any{"referrer": "bob@example.com"}),
		happens("bob@example.com", "referral.accepted", epoch, map[string]any{"referrer": "ada@example.com"}),
	})
	if n := h.relay(t); n > 100 {
		t.Errorf("%d own events", n)
	}
}

// The order in which the facts of several customers arrive does not change where those end who decide by others.
func TestOthersInAnyOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 5 {
		var events []hub.Event
		for i := range 24 {
			who, other := fmt.Sprintf("p%d@example.com", r.IntN(4)), fmt.Sprintf("p%d@example.com", r.IntN(4))
			at := epoch.Add(time.Duration(r.IntN(90*24)) * time.Hour)
			ev := happens(who, []string{"order.paid", "page.viewed", "referral.made", "referral.accepted"}[r.IntN(4)], at, map[string]any{"referred": other, "referrer": other})
			ev.ID = fmt.Sprint(ev.ID, i)
			events = append(events, ev)
		}
		var want map[string]string
		for variant := range 3 {
			h := newHarness(t, "")
			h.pipeline.Use(h.publish(t, nil, buyer, advocate))
			frames := [][]hub.Event{slices.Clone(events)}
			if variant > 0 {
				frames = shuffleIntoFrames(r, events)
			}
			for i, frame := range frames {
				h.apply(t.Context(), t, uint64(i+1), frame)
				if variant == 2 {
					h.relay(t)
				}
			}
			h.relay(t)
			got := map[string]string{}
			for i := range 4 {
				who := fmt.Sprintf("p%d@example.com", i)
				got[who] = h.stage(t, who, "buyer") + " " + h.stage(t, who, "advocate")
			}
			if variant == 0 {
				want = got
			} else if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("seed %d variant %d (-first +now):\n%s", seed, variant, d)
			}
		}
	}
}

const abuse = `
model: abuse
stages: [{name: alone}, {name: sharing}]
decide:
  - {stage: sharing, when: 'shared("address") or shared("device")'}
  - otherwise: alone
`

// Who has another's address or browser learns of it, and learns when that ends: by moving away or by being one person.
func TestSharing(t *testing.T) {
	both(t, "sharing", func(t *testing.T, h *harness) {
		h.pipeline.Use(h.publish(t, nil, abuse))
		at := epoch
		seq := uint64(0)
		lives := func(who, address string, more ...hub.Identifier) {
			t.Helper()
			at = at.Add(time.Hour)
			ev := happens(who, "customer.updated", at, nil)
			ev.Traits = []hub.Trait{{Name: "address", Value: address, At: at}}
			ev.Identifiers = append(ev.Identifiers, more...)
			seq++
			h.apply(t.Context(), t, seq, []hub.Event{ev})
			h.relay(t)
		}
		want := func(when string, stages ...string) {
			t.Helper()
			for i, who := range []string{"ada@example.com", "bob@example.com", "eve@example.com"}[:len(stages)] {
				if got := h.stage(t, who, "abuse"); got != stages[i] {
					t.Errorf("%s: %s is %q, want %q", when, who, got, stages[i])
				}
			}
		}
		lives("ada@example.com", "Main Street 1, 10115 Berlin")
		want("one", "alone")
		lives("bob@example.com", "MAIN STREET 1 10115 BERLIN")
		want("two", "sharing", "sharing")
		lives("eve@example.com", "main street 1, 10115 berlin")
		want("three", "sharing", "sharing", "sharing")
		lives("bob@example.com", "Elsewhere 2, 20095 Hamburg")
		want("one moved away", "sharing", "alone", "sharing")
		lives("eve@example.com", "?")
		want("two moved away", "alone", "alone", "alone")
		browser := hub.Identifier{Kind: "client", Connection: "shop", Value: "c-77", Weak: true}
		lives("bob@example.com", "Elsewhere 2, 20095 Hamburg", browser)
		lives("eve@example.com", "?", browser)
		want("one browser", "alone", "sharing", "sharing")
		phone := hub.Identifier{Kind: hub.IdentifierPhone, Value: "+493012345678"}
		lives("bob@example.com", "Elsewhere 2, 20095 Hamburg", phone)
		lives("eve@example.com", "?", phone)
		want("one person", "alone", "alone", "alone")
	})
}

// A set that is the first to ask for what is shared looks at everybody.
func TestPublishLooksForWhatIsShared(t *testing.T) {
	h := newHarness(t, "")
	h.pipeline.Use(h.publish(t, nil, buyer))
	var events []hub.Event
	for _, who := range []string{"ada@example.com", "bob@example.com"} {
		ev := happens(who, "customer.updated", epoch, nil)
		ev.Traits = []hub.Trait{{Name: "address", Value: "Main Street 1", At: epoch}}
		events = append(events, ev)
	}
	h.apply(t.Context(), t, 1, events)
	h.horizon(t.Context(), t, epoch.AddDate(0, 0, 1))
	h.pipeline.Use(h.publish(t, nil, buyer, abuse))
	h.decideAll(t, h.pipeline)
	h.relay(t)
	for _, ev := range events {
		if got := h.stage(t, ev.Identifiers[0].Value, "abuse"); got != "sharing" {
			t.Errorf("%s is %q", ev.Identifiers[0].Value, got)
		}
	}
}

// An address or number that comes without a trait reaches the customer all the same.
func TestIdentifiersReachRules(t *testing.T) {
	h := newHarness(t, "")
	h.pipeline.Use(h.publish(t, nil, `
model: reach
stages: [{name: "no"}, {name: "yes"}]
decide:
  - {stage: "yes", when: 'reachable("email") and reachable("sms")'}
  - otherwise: "no"
`))
	h.apply(t.Context(), t, 1, []hub.Event{happens("ada@example.com", "page.viewed", epoch, nil)})
	if got := h.stage(t, "ada@example.com", "reach"); got != "no" {
		t.Errorf("without a number: %q", got)
	}
	ev := happens("ada@example.com", "page.viewed", epoch.Add(time.Hour), nil)
	ev.Identifiers = append(ev.Identifiers, hub.Identifier{Kind: hub.IdentifierPhone, Value: "+493012345678"})
	h.apply(t.Context(), t, 2, []hub.Event{ev})
	if got := h.stage(t, "ada@example.com", "reach"); got != "yes" {
		t.Errorf("with a number: %q", got)
	}
}

// Whoever is woken by a commit is told of the outbox rows it made, and of none where there are none.
func TestWrittenTellsOfTheOutbox(t *testing.T) {
	h := newHarness(t, "")
	var subjects []string
	calls := 0
	h.pipeline.Written = func(_ []string, outbox []hub.OutboxRecord) {
		calls++
		for _, row := range outbox {
			subjects = append(subjects, row.Subject)
		}
	}
	paid := happens("ada@example.com", "order.paid", epoch.Add(time.Hour), nil)
	h.apply(t.Context(), t, 1, []hub.Event{paid})
	feed, err := h.store.Feed(t.Context(), 0, 10)
	if err != nil || len(feed) == 0 || calls != 1 {
		t.Fatalf("feed %v, %d calls: %v", feed, calls, err)
	}
	var want []string
	for _, row := range feed {
		want = append(want, row.Subject)
	}
	if !slices.Equal(subjects, want) || !strings.HasPrefix(want[0], "stages.clc.") {
		t.Errorf("told of %v, written %v", subjects, want)
	}
	h.apply(t.Context(), t, 2, []hub.Event{paid}) // it is known
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}
