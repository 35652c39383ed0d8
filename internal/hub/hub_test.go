package hub_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

func TestIdsAreDerivedAndPartsDoNotRunTogether(t *testing.T) {
	a := hub.DeriveID(hub.PrefixEvent, "ab", "c")
	if a != hub.DeriveID(hub.PrefixEvent, "ab", "c") {
		t.Error("the same parts made another id")
	}
	if a == hub.DeriveID(hub.PrefixEvent, "a", "bc") {
		t.Error("ab+c and a+bc are one id")
	}
	if len(a) != 30 || !strings.HasPrefix(a, hub.PrefixEvent) {
		t.Errorf("id %q: want the prefix and 26 characters", a)
	}
}

func TestTheVendorsOwnIDNamesTheProfile(t *testing.T) {
	record := hub.Identifier{Kind: "shopify_customer", Connection: "shop", Value: "7", Record: true}
	mail := hub.Identifier{Kind: hub.IdentifierEmail, Value: "a@example.com"}
	phone := hub.Identifier{Kind: hub.IdentifierPhone, Value: "+491"}
	browser := hub.Identifier{Kind: "client_id", Value: "x", Weak: true}
	for name, test := range map[string]struct {
		ids  []hub.Identifier
		want string
	}{
		"record first":  {[]hub.Identifier{mail, record, phone}, record.Key()},
		"address first": {[]hub.Identifier{browser, phone, mail}, mail.Key()},
		"weak alone":    {[]hub.Identifier{browser}, browser.Key()},
		"nobody":        {nil, ""},
	} {
		ev := hub.Event{Connection: "shop", Identifiers: test.ids}
		if got := ev.ProfileKey(); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if (ev.ProfileID() == "") != (test.want == "") {
			t.Errorf("%s: profile id %q", name, ev.ProfileID())
		}
	}
}

func TestVersionsReplaceOnlyForward(t *testing.T) {
	old, newer, refetched := hub.Version{Activation: 1, Fetch: 9}, hub.Version{Activation: 2}, hub.Version{Activation: 2, Fetch: 1}
	if !newer.After(old) || !refetched.After(newer) || old.After(newer) || newer.After(newer) {
		t.Error("activation counts first, then the fetch; the same replaces nothing")
	}
}

func TestMoneyOfTwoCurrenciesNeverAddsUp(t *testing.T) {
	eur, err := hub.ParseMoney("40.10", "eur")
	if err != nil {
		t.Fatal(err)
	}
	usd, err := hub.ParseMoney("1", "USD")
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := eur.Add(eur); err != nil || sum.String() != "80.20 EUR" {
		t.Errorf("%s, %v", sum, err)
	}
	if _, err := eur.Add(usd); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("EUR and USD: %v", err)
	}
	for _, bad := range [][2]string{{"", "EUR"}, {"ten", "EUR"}, {"1", "EURO"}, {"1", "E1R"}, {"1", ""}, {"12345678901234567890123", "EUR"}} {
		if _, err := hub.ParseMoney(bad[0], bad[1]); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%q %q: %v", bad[0], bad[1], err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := hub.NewSecret("hunter2")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("made", "secret", s, "in", struct{ S hub.Secret }{s})
	text, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), string(text), log.String()} {
		if strings.Contains(shown, "hunter2") {
			t.Errorf("the secret shows: %s", shown)
		}
	}
}

func TestEveryKindIsInAGroupAndOfItsForm(t *testing.T) {
	seen := 0
	for _, group := range hub.Groups {
		seen += len(hub.Catalogue.Of(group))
	}
	all := hub.Catalogue.All()
	ours := 0
	for _, kind := range all {
		if kind.Own {
			ours++
		}
	}
	if any := len(hub.Catalogue.Of("any")); seen != len(all) || any != len(all)-ours || ours == 0 {
		t.Errorf("%d kinds in groups, %d of any, %d the hub's own, %d in all", seen, any, ours, len(all))
	}
	for _, kind := range all {
		if object, verb, ok := strings.Cut(kind.Name, "."); !ok || object == "" || verb == "" {
			t.Errorf("kind %q is not object.past_verb", kind.Name)
		}
		if kind.Object != "" && kind.Properties["id"] != hub.Text {
			t.Errorf("kind %s tells the state of a %s and has no id", kind.Name, kind.Object)
		}
	}
	own := hub.Catalogue.With(hub.Kind{Name: "acme.warranty_registered", Group: hub.GroupSales, Properties: map[string]hub.PropertyType{"until": hub.Time}})
	if _, ok := own.Lookup("acme.warranty_registered"); !ok {
		t.Error("a kind of one's own is not found")
	}
	if _, ok := hub.Catalogue.Lookup("acme.warranty_registered"); ok {
		t.Error("With changed the built-in catalogue")
	}
}

func TestPartitionsFollowTheProfile(t *testing.T) {
	at := time.Unix(0, 0)
	a := hub.Event{Connection: "shop", OccurredAt: at, Identifiers: []hub.Identifier{{Kind: "email", Value: "a@example.com"}}}
	b := hub.Event{Connection: "shop", Kind: "order.paid", Identifiers: a.Identifiers}
	if a.Partition(32) != b.Partition(32) || a.Partition(1) != 0 {
		t.Error("events of one profile go to different partitions")
	}
}

// TestKindsAreDescribed: every built-in kind says what it tells.
func TestKindsAreDescribed(t *testing.T) {
	seen := map[string]string{}
	for _, k := range hub.Catalogue.All() {
		if !strings.HasSuffix(k.Doc, ".") || seen[k.Doc] != "" {
			t.Errorf("%s is not described, or as %s is: %q", k.Name, seen[k.Doc], k.Doc)
		}
		seen[k.Doc] = k.Name
	}
}
