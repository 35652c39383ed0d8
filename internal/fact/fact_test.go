package fact

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stagewire/stagewire/internal/hub"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func eur(t testing.TB, amount string) hub.Money {
	t.Helper()
	m, err := hub.ParseMoney(amount, "EUR")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// drawEvent draws an event; equal ids always mean equal events, as the ledger guarantees.
func drawEvent(t *rapid.T, i int) hub.Event {
	kinds := []string{"order.paid", "order.refunded", "ticket.opened", "ticket.solved", "page.viewed", "customer.updated", "tag.added", "tag.removed"}
	ev := hub.Event{
		ID:         fmt.Sprintf("evt_%04d", i),
		Kind:       rapid.SampledFrom(kinds).Draw(t, "kind"),
		Connection: rapid.SampledFrom([]string{"shop", "crm"}).Draw(t, "connection"),
		OccurredAt: start.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "hour")) * time.Hour),
		Properties: map[string]any{
			"id":       rapid.SampledFrom([]string{"1", "2"}).Draw(t, "id"),
			"amount":   eur(nil2(t), rapid.SampledFrom([]string{"10", "20.50", "-3.10"}).Draw(t, "amount")),
			"status":   rapid.StringN(0, 5, 20).Draw(t, "status"),
			"tags":     rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3).Draw(t, "tags"),
			"items":    rapid.Float64().Draw(t, "items"),
			"public":   rapid.Bool().Draw(t, "public"),
			"ends_at":  start.Add(time.Duration(rapid.Int64Range(-1e9, 1e9).Draw(t, "ends")) * time.Second),
			"whatever": struct{}{}, // not a type facts hold: left out
		},
	}
	for range rapid.IntRange(0, 2).Draw(t, "traits") {
		ev.Traits = append(ev.Traits, hub.Trait{
			Name:  rapid.SampledFrom(traitNames).Draw(t, "trait"),
			Value: rapid.SampledFrom([]any{"x", "y", 3.0, true, nil}).Draw(t, "value"),
			At:    start.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "trait hour")) * time.Hour),
		})
	}
	return ev
}

var traitNames = []string{"name", "plan"}

// nil2 lets a helper that wants testing.TB run under rapid, which is fatal in its own way.
func nil2(t *rapid.T) testing.TB { return tb{T: t} }

type tb struct {
	testing.TB
	T *rapid.T
}

func (t tb) Helper()           {}
func (t tb) Fatal(args ...any) { t.T.Fatal(args...) }

// TestOrderDoesNotMatter: any permutation, duplication and detour over removed events and codec round trips gives the
// same bytes, traits, objects and tags.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "n")
		events := make([]hub.Event, n)
		for i := range events {
			events[i] = drawEvent(t, i)
		}
		var straight Profile
		for i := range events {
			straight.Put(&events[i])
		}
		want := straight.Encode()

		order := rapid.Permutation(append(append([]hub.Event{}, events...), events...)).Draw(t, "order")
		crooked := &Profile{}
		for i := range order {
			if rapid.IntRange(0, 9).Draw(t, "detour") == 0 {
				stray := drawEvent(t, 9000)
				crooked.Put(&stray)
				other := order[i]
				other.OccurredAt = other.OccurredAt.Add(time.Hour)
				other.Traits = []hub.Trait{{Name: "name", Value: "wrong", At: start.AddDate(1, 0, 0)}}
				crooked.Put(&other) // an older version of the event, replaced next
				crooked.Remove(stray.ID)
			}
			crooked.Put(&order[i])
			if rapid.Bool().Draw(t, "store") {
				var err error
				if crooked, err = DecodeProfile(crooked.Encode()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := crooked.Encode(); !bytes.Equal(got, want) {
			t.Fatalf("bytes differ:\n%q\n%q", got, want)
		}
		// Splitting over profiles changes nothing about the facts either.
		var a, b Profile
		for i := range events {
			if i%2 == 0 {
				a.Put(&events[i])
			} else {
				b.Put(&events[i])
			}
		}
		one, two := Union(&straight), Union(&b, &a)
		texts := map[string]string{}
		for _, name := range traitNames {
			texts[name] = two.Text(name) // before there are all traits
		}
		for name, text := range texts {
			if want, _ := one.Traits()[name].Value.(string); text != want {
				t.Fatalf("the trait %s is %q, alone %q", name, want, text)
			}
		}
		if d := cmp.Diff(one.Traits(), two.Traits(), cmp.AllowUnexported(Trait{})); d != "" {
			t.Fatalf("traits differ: %s", d)
		}
		if d := cmp.Diff(one.Tags(), two.Tags()); d != "" {
			t.Fatalf("tags differ: %s", d)
		}
		for _, k := range Objects {
			if !reflect.DeepEqual(one.Objects(k), two.Objects(k)) {
				t.Fatalf("objects %s differ", k)
			}
		}
	})
}

func TestPropertiesSurviveTheCodec(t *testing.T) {
	big, err := hub.ParseMoney("9999999999999999999", "JPY")
	if err != nil {
		t.Fatal(err)
	}
	fine, _ := hub.ParseMoney("9.999999999999999999", "BTC")
	ev := hub.Event{ID: "e", Kind: "order.paid", Connection: "shop", OccurredAt: start, Properties: map[string]any{
		"a": "text", "b": 1.5, "c": true, "d": start, "e": big, "f": []string{"x", "", "z"}, "g": eur(t, "-0.05"), "h": "", "i": fine,
	}}
	var p Profile
	p.Put(&ev)
	q, err := DecodeProfile(p.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ev.Properties, Union(q).Entries()[0].Properties(), cmp.Comparer(func(a, b hub.Money) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestLongTextsAreCutAtACharacter(t *testing.T) {
	long := string(bytes.Repeat([]byte("a"), maxText-1)) + "é"
	ev := hub.Event{ID: "e", Kind: "message.received", OccurredAt: start, Properties: map[string]any{"text": long}}
	var p Profile
	p.Put(&ev)
	if got, _ := Union(&p).Entries()[0].Text("text"); got != long[:maxText-1] {
		t.Errorf("%d bytes ending in %q", len(got), got[len(got)-3:])
	}
}

func put(p *Profile, id, kind string, at time.Duration, properties map[string]any, traits ...hub.Trait) {
	p.Put(&hub.Event{ID: id, Kind: kind, Connection: "shop", OccurredAt: start.Add(at), Properties: properties, Traits: traits})
}

func TestOrders(t *testing.T) {
	var p Profile
	put(&p, "1", "order.placed", 0, map[string]any{"id": "A", "amount": eur(t, "100")})
	put(&p, "2", "order.paid", time.Hour, map[string]any{"id": "A", "amount": eur(t, "100")})
	put(&p, "3", "order.refunded", 2*time.Hour, map[string]any{"id": "A", "amount": eur(t, "30")})
	put(&p, "4", "order.paid", 3*time.Hour, map[string]any{"id": "B", "amount": eur(t, "10")})
	put(&p, "5", "order.cancelled", 4*time.Hour, map[string]any{"id": "B"})
	f := Union(&p)
	o := f.Objects("order")
	if len(o) != 2 || !o[0].PartlyRefunded || o[0].Refunded || !o[0].Open || o[0].RefundedAmount != eur(t, "30") || !o[1].Cancelled {
		t.Fatalf("orders: %+v", o)
	}
	if n := len(f.Standing()); n != 1 {
		t.Errorf("%d orders stand, want 1", n)
	}
	put(&p, "6", "order.refunded", 5*time.Hour, map[string]any{"id": "A", "amount": eur(t, "70")})
	f = Union(&p)
	o = f.Objects("order")
	if !o[0].Refunded || o[0].PartlyRefunded || o[0].RefundedAfter() != (4*time.Hour).Milliseconds() {
		t.Errorf("refunded order: %+v", o[0])
	}
	if m, _ := o[0].Money("amount"); m != eur(t, "100") {
		t.Errorf("a refund's amount became the order's: %s", m)
	}
	if n := len(f.Standing()); n != 0 {
		t.Errorf("%d orders stand, want 0", n)
	}
	if n := len(f.AsOf(start.Add(150 * time.Minute)).Standing()); n != 1 {
		t.Errorf("as of half past two %d orders stand, want 1", n)
	}
}

func TestTicketsDealsAndTasks(t *testing.T) {
	var p Profile
	put(&p, "1", "ticket.opened", 0, map[string]any{"id": "T", "type": "complaint"})
	put(&p, "2", "ticket.solved", time.Hour, map[string]any{"id": "T"})
	put(&p, "3", "ticket.reopened", 2*time.Hour, map[string]any{"id": "T"})
	put(&p, "4", "deal.created", 0, map[string]any{"id": "D", "stage": "proposal"})
	put(&p, "5", "deal.won", time.Hour, map[string]any{"id": "D"})
	put(&p, "6", "deal.stage_changed", time.Hour, map[string]any{"id": "D", "stage": "closed"})
	put(&p, "7", "task.created", 0, map[string]any{"id": "K"})
	put(&p, "8", "task.overdue", time.Hour, map[string]any{"id": "K"})
	put(&p, "9", "deal.deleted", time.Hour, map[string]any{"id": "E"})
	f := Union(&p)
	ticket := f.Objects("ticket")[0]
	if kind, _ := ticket.Text("type"); !ticket.Open || ticket.OpenSince != start.Add(2*time.Hour).UnixMilli() || kind != "complaint" {
		t.Errorf("ticket: %+v", ticket)
	}
	deals := f.Objects("deal")
	if len(deals) != 1 {
		t.Fatalf("%d deals, the deleted one is gone", len(deals))
	}
	if stage, _ := deals[0].Text("stage"); !deals[0].Won || deals[0].Open || stage != "closed" {
		t.Errorf("deal: %+v", deals[0])
	}
	if task := f.Objects("task")[0]; !task.Overdue || !task.Open {
		t.Errorf("task: %+v", task)
	}
}

func TestTraits(t *testing.T) {
	var p Profile
	at := func(h int) time.Time { return start.Add(time.Duration(h) * time.Hour) }
	put(&p, "b", "customer.updated", time.Hour, nil, hub.Trait{Name: "first_name", Value: "Ada", At: at(5)})
	put(&p, "a", "customer.updated", 2*time.Hour, nil, hub.Trait{Name: "first_name", Value: "Eve", At: at(5)}, hub.Trait{Name: "last_name", Value: "L", At: at(1)})
	put(&p, "c", "customer.updated", 3*time.Hour, nil, hub.Trait{Name: "tags", Value: []string{"vip", "old"}, At: at(3)})
	put(&p, "d", "tag.removed", 4*time.Hour, map[string]any{"tags": []string{"old"}})
	put(&p, "e", "tag.added", 5*time.Hour, map[string]any{"tags": []string{"new"}})
	put(&p, "f", "tag.added", time.Hour, map[string]any{"tags": []string{"before the list"}})
	f := Union(&p)
	if got := f.Name(); got != "Ada L" {
		t.Errorf("name %q: ties go to the greater event id", got)
	}
	if d := cmp.Diff([]string{"new", "vip"}, f.Tags()); d != "" {
		t.Error(d)
	}
	p.Remove("b")
	if got := Union(&p).Name(); got != "Eve L" {
		t.Errorf("name %q after the winner was withdrawn", got)
	}
	if f.Name() != "Ada L" {
		t.Error("facts changed with their profile")
	}
	put(&p, "g", "customer.updated", 0, nil, hub.Trait{Name: "last_name", Value: nil, At: at(9)})
	if got := Union(&p).Name(); got != "Eve" {
		t.Errorf("name %q after last_name was cleared", got)
	}
}

func TestSummary(t *testing.T) {
	var p Profile
	usd, _ := hub.ParseMoney("5", "USD")
	put(&p, "1", "order.paid", 0, map[string]any{"amount": eur(t, "40")})
	put(&p, "2", "order.paid", time.Hour, map[string]any{"amount": usd})
	put(&p, "3", "order.paid", 2*time.Hour, map[string]any{"amount": eur(t, "2.50")})
	want := map[string]Summary{"order.paid": {Count: 3, FirstAt: start, LastAt: start.Add(2 * time.Hour), Sum: []hub.Money{eur(t, "42.50"), usd}}}
	if d := cmp.Diff(want, Union(&p).Summary(), cmp.Comparer(func(a, b hub.Money) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func FuzzDecodeProfile(f *testing.F) {
	var p Profile
	f.Add(p.Encode())
	put(&p, "1", "order.paid", 0, map[string]any{"id": "A", "status": "x", "items": 2.0, "tags": []string{"a"}}, hub.Trait{Name: "name", Value: "Ada", At: start})
	put(&p, "2", "ticket.opened", time.Hour, map[string]any{"id": "B"})
	f.Add(p.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeProfile(b)
		if err != nil {
			return
		}
		facts := Union(p)
		for _, e := range facts.Entries() {
			e.Properties()
		}
		facts.Traits()
		facts.Tags()
		facts.Summary()
		for _, k := range Objects {
			facts.Objects(k)
		}
		again, err := DecodeProfile(p.Encode())
		if err != nil || again.Len() != p.Len() {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
	})
}

// BenchmarkFold is what apply does per event: decode, put, encode, and the customer's view, with 20 events there.
func BenchmarkFold(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var p Profile
	for i := range 20 {
		put(&p, hub.DeriveID(hub.PrefixEvent, fmt.Sprint(i)), []string{"order.paid", "page.viewed", "ticket.opened"}[i%3], time.Duration(rng.IntN(1e6))*time.Second,
			map[string]any{"id": fmt.Sprint(i), "amount": eur(b, "40.00"), "status": "paid", "items": 2.0, "products": []string{"shoe", "sock"}, "source": "web"})
	}
	stored := p.Encode()
	ev := hub.Event{
		ID: hub.DeriveID(hub.PrefixEvent, "new"), Kind: "order.paid", Connection: "shop", OccurredAt: start.AddDate(1, 0, 0),
		Properties: map[string]any{"id": "x", "amount": eur(b, "40.00"), "status": "paid", "items": 2.0, "products": []string{"shoe"}, "source": "web"},
	}
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			q, err := DecodeProfile(stored)
			if err != nil {
				b.Fatal(err)
			}
			q.Put(&ev)
			q.Encode()
		}
	})
	b.Run("union", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Union(&p)
		}
	})
}
