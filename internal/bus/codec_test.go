package bus

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/hub"
)

var (
	someTime = time.Date(2026, 3, 1, 10, 0, 0, 123e6, time.UTC)
	compare  = cmp.Options{cmp.Comparer(func(a, b decimal.Decimal) bool { return a == b })}
)

func someMoney(t testing.TB, amount string) hub.Money {
	t.Helper()
	m, err := hub.ParseMoney(amount, "EUR")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func someEvent(t testing.TB, n int) hub.Event {
	return hub.Event{
		ID: fmt.Sprintf("evt_0123456789abcdefghjkmn%04d", n), Version: hub.Version{Activation: 3, Fetch: 1}, Kind: "order.paid", Connection: "shop",
		OccurredAt: someTime, OccurredBy: hub.OccurredFact, ReceivedAt: someTime.Add(time.Duration(n) * time.Second),
		Identifiers: []hub.Identifier{
			{Kind: "email", Value: "lena@example.com"},
			{Kind: "phone", Value: "+4915112345678"},
			{Kind: "shopify_customer", Value: "207119551", Connection: "shop", Record: true},
			{Kind: "client", Value: "ga.1", Connection: "shop", Weak: true},
		},
		Properties: map[string]any{
			"id": "4500000001", "number": "#1001", "amount": someMoney(t, "54.90"), "items": 3.0, "status": "paid",
			"products": []string{"SKU-1", "SKU-2"}, "coupons": []string{}, "completed": true, "ends_at": someTime.Add(time.Hour),
		},
		Traits: []hub.Trait{
			{Name: "name", Value: "Lena Müller 莉娜", At: someTime},
			{Name: "plan", At: someTime},
			{Name: "score", Value: -0.1, At: someTime},
			{Name: "vip", Value: false, At: someTime},
			{Name: "tags", Value: []string{"a", "b\"\n"}, At: someTime},
		},
		WebhookID: "whk_0123456789abcdefghjkmnpqrs",
	}
}

func someWebhook(n, size int) hub.Webhook {
	return hub.Webhook{
		ID: fmt.Sprintf("whk_%d", n), Connection: "shop", ReceivedAt: someTime.Add(time.Duration(n) + 456), Method: "POST",
		URL:     "https://hub.example.com/hooks/shop?x=%20",
		Headers: []hub.Header{{Name: "X-Shopify-Topic", Value: "orders/paid"}, {Name: "X-Shopify-Hmac-Sha256", Value: "abc="}, {Name: "Empty"}},
		Body:    bytes.Repeat([]byte{byte(n), 0xff, 0, '{'}, size/4), Activation: 7,
	}
}

func TestWebhookFrameRoundTrip(t *testing.T) {
	want := []hub.Webhook{someWebhook(1, 2048), {}, someWebhook(300, 4), {ReceivedAt: time.Unix(-5, 7).UTC(), Activation: -1}}
	want[1].ReceivedAt = time.Time{}
	header := frameHeader{oldest: someTime, moved: true}
	frame := appendWebhookFrame(nil, header, want)
	gotHeader, got, err := decodeWebhookFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	if gotHeader != header {
		t.Errorf("header %+v, want %+v", gotHeader, header)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for i := range want {
		one, err := decodeWebhookAt(frame, i)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[i], one); diff != "" {
			t.Error(diff)
		}
		if n := recordSize(&want[i]); n != len(appendWebhook(nil, &want[i])) {
			t.Errorf("recordSize %d, encoded %d", n, len(appendWebhook(nil, &want[i])))
		}
	}
	for _, index := range []int{-1, 4} {
		if _, err := decodeWebhookAt(frame, index); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("record %d: %v, want ErrNotFound", index, err)
		}
	}
	for n := range frame {
		if _, _, err := decodeWebhookFrame(frame[:n]); !errors.Is(err, hub.ErrInvalid) {
			t.Fatalf("frame cut at %d: %v, want ErrInvalid", n, err)
		}
	}
	if _, _, err := decodeWebhookFrame(append(frame, 0)); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("a byte too many: %v", err)
	}
	frame[0] = 9
	if _, _, err := decodeWebhookFrame(frame); err == nil || !strings.Contains(err.Error(), "format 9") {
		t.Errorf("a newer format: %v", err)
	}
}

func TestEventRoundTrip(t *testing.T) {
	withdrawn := hub.Event{ID: "evt_w", Kind: "deal.won", Connection: "a b/ü%", Withdrawn: true, ReceivedAt: someTime, Version: hub.Version{Activation: math.MaxInt64}}
	stage := hub.Event{
		ID: "evt_s", Kind: "stage.set", Connection: "crm", OccurredAt: someTime, ClampedFrom: someTime.AddDate(50, 0, 0), Echo: true,
		Written: &hub.FieldChange{Object: "contact", ID: "51", Field: "lifecyclestage", Value: ""}, Properties: map[string]any{}, Traits: []hub.Trait{}, Identifiers: []hub.Identifier{},
	}
	numbers := hub.Event{ID: "evt_n", Kind: "acme.measured", Properties: map[string]any{
		"a": math.MaxFloat64, "b": math.SmallestNonzeroFloat64, "c": 1e21, "d": float64(1<<53 + 2), "e": 0.1 + 0.2, "f": math.Copysign(0, -1),
		"m0": hub.Money{}, "m1": someMoney(t, "-0.0100"), "m2": someMoney(t, "1234567890123456.789"), "t": time.Time{}, "s": "<&>\u2028\U0001f600\t\\", "": "no name",
	}}
	want := []hub.Event{someEvent(t, 1), withdrawn, stage, numbers}
	frame := []byte{'['}
	for i := range want {
		var err error
		if i > 0 {
			frame = append(frame, ',')
		}
		if frame, err = appendEvent(frame, &want[i]); err != nil {
			t.Fatal(err)
		}
	}
	frame = append(frame, ']')
	got, err := decodeEvents(frame)
	if err != nil {
		t.Fatalf("%v\n%s", err, frame)
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
	var batch []map[string]any
	if err := json.Unmarshal(frame, &batch); err != nil {
		t.Fatalf("a strict JSON decoder: %v", err)
	}
	for _, ce := range batch {
		for _, must := range []string{"id", "source", "type", "specversion"} {
			if s, _ := ce[must].(string); s == "" {
				t.Errorf("CloudEvent without %s: %v", must, ce)
			}
		}
	}
}

// Times keep whole milliseconds and nothing else.
func TestEventTimesAreMilliseconds(t *testing.T) {
	ev := hub.Event{ID: "e", Kind: "k.v", OccurredAt: someTime.Add(999_999), ReceivedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))}
	b, err := EncodeEvent(&ev)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	if !got.OccurredAt.Equal(someTime) || got.ReceivedAt != time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC) {
		t.Errorf("got %v and %v", got.OccurredAt, got.ReceivedAt)
	}
}

func TestEventsThatCannotTravel(t *testing.T) {
	for name, change := range map[string]func(*hub.Event){
		"no id":           func(e *hub.Event) { e.ID = "" },
		"no kind":         func(e *hub.Event) { e.Kind = "" },
		"integer":         func(e *hub.Event) { e.Properties["n"] = 1 },
		"NaN":             func(e *hub.Event) { e.Properties["n"] = math.NaN() },
		"infinite trait":  func(e *hub.Event) { e.Traits[0].Value = math.Inf(1) },
		"nil property":    func(e *hub.Event) { e.Properties["n"] = nil },
		"map trait":       func(e *hub.Event) { e.Traits[0].Value = map[string]any{} },
		"NUL":             func(e *hub.Event) { e.Identifiers[0].Value = "a\x00b" },
		"bad UTF-8":       func(e *hub.Event) { e.Properties["n"] = "\xff" },
		"bad UTF-8 name":  func(e *hub.Event) { e.Properties["\xff"] = "" },
		"year 10000":      func(e *hub.Event) { e.OccurredAt = someTime.AddDate(9000, 0, 0) },
		"before the year": func(e *hub.Event) { e.Traits[0].At = someTime.AddDate(-3000, 0, 0) },
	} {
		ev := someEvent(t, 1)
		change(&ev)
		if _, err := EncodeEvent(&ev); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty":         ``,
		"not JSON":      `{`,
		"two":           `{"specversion":"1.0","id":"a","source":"stagewire/","type":"stagewire.a.b.v1"}{}`,
		"other version": `{"specversion":"0.3","id":"a","source":"stagewire/","type":"stagewire.a.b.v1"}`,
		"foreign":       `{"specversion":"1.0","id":"a","source":"https://example.com","type":"stagewire.a.b.v1"}`,
		"foreign type":  `{"specversion":"1.0","id":"a","source":"stagewire/","type":"com.example"}`,
		"NUL":           `{"specversion":"1.0","id":"a","source":"stagewire/","type":"stagewire.a.b.v1","data":{"properties":{"x":"\u0000"}}}`,
		"odd object":    `{"specversion":"1.0","id":"a","source":"stagewire/","type":"stagewire.a.b.v1","data":{"properties":{"x":{}}}}`,
		"bad amount":    `{"specversion":"1.0","id":"a","source":"stagewire/","type":"stagewire.a.b.v1","data":{"properties":{"x":{"amount":"1e9999","currency":"EUR"}}}}`,
	} {
		if _, err := DecodeEvent([]byte(text)); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	unknown := `{"specversion":"1.0","id":"a","new":[1],"source":"stagewire/","type":"stagewire.a.b.v1","data":{"newer":{"x":null},"version":{"activation":2}}}`
	if ev, err := DecodeEvent([]byte(unknown)); err != nil || ev.Version.Activation != 2 {
		t.Errorf("members of a later release must be skipped: %+v, %v", ev, err)
	}
}

// The hand-written times are those of package time.
func TestTimesAgreeWithPackageTime(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{
		{},
		someTime, time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC),
		time.Date(2024, 2, 29, 1, 2, 3, 7e6, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 90e6, time.UTC),
	} {
		text := appendTime(nil, at)
		if want := at.Format(timeLayout); string(text) != want {
			t.Errorf("wrote %s, want %s", text, want)
		}
		if got, ok := parseOurTime(text); !ok || !got.Equal(at) {
			t.Errorf("read %v of %s", got, text)
		}
	}
	for _, text := range []string{"2026-02-30T00:00:00.000Z", "2026-13-01T00:00:00.000Z", "2026-01-01T24:00:00.000Z", "2026-01-01T00:00:00.00aZ", "2026-01-00T00:00:00.000Z", ""} {
		if got, err := parseTime([]byte(text)); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if got, err := parseTime([]byte("2026-01-01T01:00:00+01:00")); err != nil || !got.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("another writer's time: %v, %v", got, err)
	}
}

func FuzzWebhookFrame(f *testing.F) {
	f.Add(appendWebhookFrame(nil, frameHeader{oldest: someTime}, []hub.Webhook{someWebhook(1, 64), {}}))
	f.Add([]byte{1, 0, 0, 200, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		header, webhooks, err := decodeWebhookFrame(data)
		if err != nil {
			if !errors.Is(err, hub.ErrInvalid) {
				t.Errorf("error of the wrong kind: %v", err)
			}
			return
		}
		again, same, err := decodeWebhookFrame(appendWebhookFrame(nil, header, webhooks))
		if diff := cmp.Diff(webhooks, same); err != nil || again != header || diff != "" {
			t.Errorf("second time: %v, %+v %+v\n%s", err, header, again, diff)
		}
	})
}

func FuzzEvents(f *testing.F) {
	first, second := someEvent(f, 1), hub.Event{ID: "a", Kind: "b", Withdrawn: true, Written: &hub.FieldChange{}}
	a, _ := EncodeEvent(&first)
	b, _ := EncodeEvent(&second)
	f.Add([]byte("[" + string(a) + "," + string(b) + "]"))
	f.Add([]byte(`[{"specversion":"1.0","id":"a","source":"stagewire/%41","type":"stagewire.a.v1","time":"0000-01-01T00:00:00-23:59"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := decodeEvents(data)
		if err != nil {
			if !errors.Is(err, hub.ErrInvalid) {
				t.Errorf("error of the wrong kind: %v", err)
			}
			return
		}
		for i := range events {
			text, err := EncodeEvent(&events[i])
			if err != nil {
				t.Fatalf("what was read cannot be written: %v\n%s", err, data)
			}
			again, err := DecodeEvent(text)
			if diff := cmp.Diff(events[i], again, compare); err != nil || diff != "" {
				t.Fatalf("second time: %v\n%s\n%s", err, text, diff)
			}
			sameAsRead(t, "handed over", &events[i])
		}
	})
}

func BenchmarkEncodeEvent(b *testing.B) {
	ev := someEvent(b, 1)
	var buffer []byte
	b.ReportAllocs()
	for b.Loop() {
		buffer, _ = appendEvent(buffer[:0], &ev)
	}
	b.SetBytes(int64(len(buffer)))
}

func BenchmarkDecodeEvents(b *testing.B) {
	frame := []byte{'['}
	for i := range maxRecords {
		ev := someEvent(b, i)
		if i > 0 {
			frame = append(frame, ',')
		}
		frame, _ = appendEvent(frame, &ev)
	}
	frame = append(frame, ']')
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeEvents(frame); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/maxRecords, "ns/event")
}
