package identity

import (
	"fmt"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

var now = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

func event(connection, record, email string, at time.Time) *hub.Event {
	ev := &hub.Event{ID: connection + record + email, Connection: connection, OccurredAt: at}
	if record != "" {
		ev.Identifiers = append(ev.Identifiers, hub.Identifier{Kind: connection + "_person", Connection: connection, Value: record, Record: true})
	}
	if email != "" {
		ev.Identifiers = append(ev.Identifiers, hub.Identifier{Kind: hub.IdentifierEmail, Value: email})
	}
	return ev
}

func nobody() *People {
	return &People{byProfile: map[string]*Person{}}
}

func TestAnAddressJoinsTwoSystems(t *testing.T) {
	people := nobody()
	shop := people.Of(event("shop", "1", "ada@example.com", now), now)
	crm := people.Of(event("crm", "9", "ada@example.com", now.Add(time.Hour)), now)
	if shop.Person != crm.Person || len(crm.Person.Profiles) != 2 {
		t.Fatalf("two persons for one address: %v, %v", shop.Person, crm.Person)
	}
	if !crm.NewRecord || !crm.Person.HasRecord("crm") || crm.Person.HasRecord("desk") {
		t.Error("the record at the CRM is not known as new")
	}
	if len(people.Merges()) != 0 {
		t.Error("somebody was merged though nobody had to be")
	}
}

// Two customers that turn out to be one: the earlier one survives, her counter goes on above both, the later pin wins.
func TestMergeKeepsTheEarlierAndGoesOnAboveBoth(t *testing.T) {
	people := Adopt(map[string]*hub.CustomerRecord{
		"cus_b": {
			ID: "cus_b", Sequence: 40, FirstEventAt: now, CreatedAt: now, Previous: hub.Previous{{Subscription: "bi", ID: "stg_x"}, {Subscription: "erp", ID: "stg_b"}},
			Pins:     []hub.PinRecord{{Model: "clc", Stage: "loyal", At: now.Add(time.Hour)}},
			Profiles: []hub.ProfileRecord{{ID: hub.DeriveID(hub.PrefixProfile, "shop", event("shop", "1", "", now).ProfileKey()), Connection: "shop"}},
		},
		"cus_a": {
			ID: "cus_a", Sequence: 7, FirstEventAt: now.Add(-time.Hour), CreatedAt: now, Previous: hub.Previous{{Subscription: "erp", ID: "stg_a"}},
			Pins:     []hub.PinRecord{{Model: "clc", Stage: "new", At: now}},
			Profiles: []hub.ProfileRecord{{ID: hub.DeriveID(hub.PrefixProfile, "crm", event("crm", "9", "", now).ProfileKey()), CustomerID: "cus_a", Connection: "crm"}},
		},
	})
	for _, person := range people.All() {
		if person.ID == "cus_a" {
			people.holders.give(hub.Identifier{Kind: hub.IdentifierEmail, Value: "ada@example.com"}.Name(), person)
		}
	}
	got := people.Of(event("shop", "1", "ada@example.com", now.Add(2*time.Hour)), now)
	if got.Person.ID != "cus_a" || len(got.Absorbed) != 1 || got.Absorbed[0].MergedInto != "cus_a" {
		t.Fatalf("survivor %s, absorbed %v", got.Person.ID, got.Absorbed)
	}
	if got.Person.Sequence != 41 {
		t.Errorf("sequence %d, want 41: above both", got.Person.Sequence)
	}
	if len(got.Person.Pins) != 1 || got.Person.Pins[0].Stage != "loyal" {
		t.Errorf("pins %v, want the later one", got.Person.Pins)
	}
	if got.Person.Previous.Of("erp") != "stg_a" || got.Person.Previous.Of("bi") != "stg_x" {
		t.Errorf("previous %v", got.Person.Previous)
	}
	if m := people.Merges(); len(m) != 1 || m[0].From != "cus_b" || m[0].Into != "cus_a" || m[0].Reason != hub.IdentifierEmail {
		t.Errorf("merges %v", m)
	}
	for _, profile := range got.Person.Profiles {
		if profile.CustomerID != "cus_a" {
			t.Errorf("profile %s stayed with %s", profile.ID, profile.CustomerID)
		}
	}
}

func TestAnAddressOfHundredsMergesNobodyFurther(t *testing.T) {
	people := nobody()
	for i := range MaxProfiles {
		people.Of(event(fmt.Sprintf("shop%d", i), "1", "info@example.com", now), now)
	}
	alone := people.Of(event("crm", "5", "", now), now)
	both := people.Of(event("crm", "5", "info@example.com", now), now)
	if both.Refused == "" || both.Person != alone.Person || len(both.Person.Profiles) != 1 {
		t.Errorf("refused %q, %d profiles: an event beyond the bound stays with its own profile", both.Refused, len(both.Person.Profiles))
	}
}

func TestWeakIdentifiersBelongAndNeverMerge(t *testing.T) {
	people := nobody()
	browser := hub.Identifier{Kind: "client_id", Connection: "site", Value: "x", Weak: true}
	first := event("shop", "1", "", now)
	first.Identifiers = append(first.Identifiers, browser)
	second := event("shop", "2", "", now)
	second.Identifiers = append(second.Identifiers, browser)
	if people.Of(first, now).Person == people.Of(second, now).Person {
		t.Error("a browser's id made two people one")
	}
}

func TestAProfileKnownByAddressIsJoinedByTheVendorsID(t *testing.T) {
	people := nobody()
	guest := people.Of(event("shop", "", "ada@example.com", now), now)
	known := people.Of(event("shop", "1", "ada@example.com", now), now)
	if guest.Person != known.Person {
		t.Fatal("the guest and the customer are two")
	}
	if p := known.Person.Profile(guest.Profile); p == nil || p.JoinedInto != known.Profile {
		t.Errorf("the guest's profile is not joined: %+v", p)
	}
	if people.Of(&hub.Event{Connection: "shop"}, now) != nil {
		t.Error("an event that names nobody has a person")
	}
}

// The address is the one that comes first among all identifiers.
func TestAddressIsTheFirstOfItsKind(t *testing.T) {
	weak := hub.Identifier{Kind: hub.IdentifierEmail, Value: "weak@example.com", Weak: true}
	strong := hub.Identifier{Kind: hub.IdentifierEmail, Value: "ada@example.com"}
	person := &Person{CustomerRecord: &hub.CustomerRecord{Profiles: []hub.ProfileRecord{
		{ID: "a", Identifiers: []hub.Identifier{{Kind: hub.IdentifierPhone, Value: "+49301234567"}, weak}}, {ID: "b", Identifiers: []hub.Identifier{strong}},
	}}}
	for _, kind := range []string{hub.IdentifierEmail, hub.IdentifierPhone, "client_id"} {
		want := ""
		for _, id := range person.Identifiers() {
			if id.Kind == kind {
				want = id.Value
				break
			}
		}
		if got := person.Address(kind); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}
