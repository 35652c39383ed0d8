package expression

import (
	"fmt"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// history folds events that are written as day, kind and properties.
func history(events ...hub.Event) *fact.Facts {
	var p fact.Profile
	for i := range events {
		events[i].ID = fmt.Sprintf("evt_%02d", i)
		if events[i].Connection == "" {
			events[i].Connection = "shop"
		}
		p.Put(&events[i])
	}
	return fact.Union(&p)
}

func on(day int, kind string, properties map[string]any, traits ...hub.Trait) hub.Event {
	at := start.AddDate(0, 0, day)
	for i := range traits {
		traits[i].At = at
	}
	return hub.Event{Kind: kind, OccurredAt: at, Properties: properties, Traits: traits}
}

func own(ev hub.Event) hub.Event { ev.Connection = hub.OwnConnection; return ev }

// check evaluates conditions over facts at day 50.
func check(t *testing.T, f *fact.Facts, env *Env, conditions map[string]bool) {
	t.Helper()
	for text, want := range conditions {
		p, problems := Compile(text, env)
		if problems != nil {
			t.Errorf("%s: %+v", text, problems)
			continue
		}
		s := Begin(Input{Facts: f, At: day50})
		got, err := s.Bool(p)
		s.End()
		if err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestChannels(t *testing.T) {
	f := history(
		on(0, "customer.created", nil, hub.Trait{Name: "email", Value: "ada@example.com"}, hub.Trait{Name: "line_following", Value: true}),
		on(1, "social.followed", map[string]any{"channel": "wechat"}),
		on(2, "social.followed", map[string]any{"channel": "weibo"}),
		on(3, "social.unfollowed", map[string]any{"channel": "weibo"}),
		on(4, "message.received", map[string]any{"channel": "telegram"}),
		on(5, "consent.changed", map[string]any{"channel": "email", "state": "granted"}),
		on(6, "email.delivered", nil),
		on(48, "message.received", map[string]any{"channel": "wechat"}),
	)
	check(t, f, &Env{}, map[string]bool{
		`wechat.following and since(wechat.followed_at) == days(49)`:            true,
		`since(wechat.received_at) <= hours(48)`:                                true,
		`since(wechat.sent_at) >= days(0)`:                                      false,
		`weibo.following or weibo.reachable`:                                    false,
		`weibo.unfollowed_at > weibo.followed_at`:                               true,
		`line.following and reachable("line")`:                                  true,
		`reachable("telegram") and not telegram.following`:                      true,
		`reachable("email") and email.consent == nil`:                           false,
		`reachable("email") and (email.consent ?? "") == "granted"`:             true,
		`reachable("sms") or reachable("whatsapp")`:                             false,
		`reachable("app")`:                                                      false,
		`customer.phone == nil and (customer.email ?? "") == "ada@example.com"`: true,
	})
	known := history(on(0, "page.viewed", nil))
	known.Know(fact.Known{Identifiers: []hub.Identifier{{Kind: hub.IdentifierPhone, Value: "+491701234567"}}})
	check(t, known, &Env{}, map[string]bool{
		`reachable("sms") and reachable("phone") and (customer.phone ?? "") startsWith "+49"`: true,
		`reachable("email")`: false,
	})
	for what, event := range map[string]hub.Event{
		"unsubscribed": on(20, "email.unsubscribed", nil),
		"bounced":      on(20, "email.bounced", nil),
		"denied":       on(20, "consent.changed", map[string]any{"channel": "email", "state": "denied"}),
		"withdrawn":    on(20, "consent.changed", map[string]any{"channel": "email", "state": "withdrawn"}),
	} {
		gone := history(on(0, "customer.created", nil, hub.Trait{Name: "email", Value: "ada@example.com"}), on(6, "email.delivered", nil), event)
		check(t, gone, &Env{}, map[string]bool{`not reachable("email")`: true})
		back := history(on(0, "customer.created", nil, hub.Trait{Name: "email", Value: "ada@example.com"}), event,
			on(30, "consent.changed", map[string]any{"channel": "email", "state": "granted"}), on(31, "email.delivered", nil))
		check(t, back, &Env{}, map[string]bool{`reachable("email")`: true})
		_ = what
	}
	check(t, history(on(0, "customer.created", nil, hub.Trait{Name: "address", Value: "Main St 1"}), on(1, "app.opened", nil)), &Env{}, map[string]bool{
		`reachable("post") and reachable("push") and app.reachable`: true,
	})
}

func TestReferredAndCompanies(t *testing.T) {
	moved := func(day int, id, model, stage string) hub.Event {
		return own(on(day, hub.KindReferredMoved, map[string]any{"id": id, "model": model, "stage": stage, "created": start.AddDate(0, 0, 5)}))
	}
	f := history(
		on(0, "order.paid", map[string]any{"id": "1"}),
		on(1, "referral.made", map[string]any{"referred": "bob@example.com"}),
		moved(10, "bob", "clc", "new"), moved(20, "bob", "clc", "active"), moved(21, "bob", "m6", "warm"),
		moved(30, "eve", "clc", "lost"),
		moved(31, "dan", "clc", "active"), own(on(32, hub.KindReferredMoved, map[string]any{"id": "dan", "into": "eve"})),
		hub.Event{Kind: "company.joined", Connection: "crm", OccurredAt: start, Properties: map[string]any{"id": "c1", "name": "Acme", "domain": "acme.com"}},
		own(on(33, hub.KindCompanyMoved, map[string]any{"id": "c1", "of": "crm", "model": "b2b", "stage": "won"})),
		hub.Event{Kind: "company.joined", Connection: "crm", OccurredAt: start, Properties: map[string]any{"id": "c2", "name": "Old"}},
		hub.Event{Kind: "company.left", Connection: "crm", OccurredAt: start.AddDate(0, 0, 1), Properties: map[string]any{"id": "c2"}},
	)
	env := &Env{
		Name: "clc", Stages: []string{"new", "active", "lost"},
		Models: map[string]Model{"m6": {Stages: []string{"cold", "warm"}}, "b2b": {Stages: []string{"open", "won"}}},
	}
	check(t, f, env, map[string]bool{
		`any(customer.referred, .stages.clc == "active")`:                           true, // of the model itself, too
		`any(customer.referred, .stages.m6 == "warm" and .stages.clc == "active")`:  true,
		`count(customer.referred) == 2`:                                             true, // dan is eve
		`count(customer.referred, .stages.clc in ["active", "new"]) == 1`:           true,
		`all(customer.referred, since(.created) == days(45))`:                       true,
		`any(customer.referred, .age >= days(40))`:                                  true,
		`any(customer.referred, .id == "bob")`:                                      true,
		`count("referral.made") == 1`:                                               true,
		`any(customer.companies, .domain == "acme.com" and .stages.b2b == "won")`:   true,
		`len(customer.companies) == 1 and any(customer.companies, .name == "Acme")`: true,
		`any(customer.companies, .stages.b2b == "open")`:                            false,
		`count("any") == 5`:        true, // what others did is nothing this customer did
		`since("any") == days(49)`: true,
		`(find(customer.referred, .stages.clc == "lost")?.stages.clc ?? "new") == "lost"`: true,
		`(first(customer.companies)?.name ?? "") == "Acme"`:                               true,
	})
	for text, want := range map[string]Needs{
		`any(customer.referred, .age > days(1))`: NeedsReferrals, `len(customer.companies) > 0`: NeedsCompanies,
		`shared("phone")`: NeedsSharing, `reachable("sms")`: NeedsIdentifiers, `customer.email != nil`: NeedsIdentifiers, `ever("any")`: 0,
	} {
		p, problems := Compile(text, env)
		if problems != nil || p.Needs != want {
			t.Errorf("%s: needs %+v, %+v", text, p, problems)
		}
	}
}

func TestShared(t *testing.T) {
	tell := func(day int, what string, others float64) hub.Event {
		return own(on(day, hub.KindIdentityShared, map[string]any{"what": what, "others": others}))
	}
	f := history(on(0, "page.viewed", nil), tell(1, "address", 1), tell(2, "phone", 2), tell(3, "phone", 0))
	check(t, f, &Env{}, map[string]bool{
		`shared("address")`: true, `shared("phone")`: false, `shared("email") or shared("device")`: false,
		`since("any") == days(50)`: true,
	})
}

// TestEveryFunctionRuns runs the example of each function at several instants: it must not fail.
func TestEveryFunctionRuns(t *testing.T) {
	f := customer(t)
	for _, fn := range Functions() {
		p, problems := Compile(fn.Example, &Env{})
		if problems != nil {
			t.Errorf("%s: %s: %+v", fn.Name, fn.Example, problems)
			continue
		}
		if fn.Doc == "" || fn.Signature == "" || fn.Group == "" {
			t.Errorf("%s is not documented", fn.Name)
		}
		for d := range 60 {
			s := Begin(Input{Facts: f, At: start.Add(time.Duration(d) * 25 * time.Hour)})
			if _, err := s.Bool(p); err != nil {
				t.Errorf("%s: %v", fn.Example, err)
			}
			s.End()
		}
	}
}
