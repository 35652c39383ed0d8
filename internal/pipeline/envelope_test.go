package pipeline

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/identity"
)

// An envelope is written as its tags say, whatever the texts hold.
func TestEnvelope(t *testing.T) {
	full := cloudEvent{
		SpecVersion: "1.0", ID: "evt_1", Source: "stagewire/acme", Type: "stagewire.order.paid.v1", Subject: "cus_1", Time: "2026-03-01T10:00:00.000Z",
		DataContentType: "application/json", DataSchema: "https://hub/?a=1&b=<2>", Sequence: sequenceText(7), Previous: "stg_1", Mode: "live",
		Data: jsontext.Value(`{"kind":"order.paid","properties":{"note":"größe \"L\""}}`),
	}
	first := full
	first.Previous = ""
	odd := full
	odd.Source, odd.Subject, odd.Previous, odd.Mode = "a\"b\\c", "\x00\n\u2028", "ü 💶", "<&>"
	for name, e := range map[string]cloudEvent{"full": full, "the first": first, "odd": odd} {
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := written(&e)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
	}
	broken := full
	broken.ID = "a\xff"
	if _, err := written(&broken); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("an id that is not UTF-8: %v", err)
	}
	full.Previous = "a\xff"
	if _, err := written(&full); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("the id before it is not UTF-8: %v", err)
	}
}

func written(e *cloudEvent) ([]byte, error) {
	b, at, err := e.append(nil)
	if err != nil {
		return nil, err
	}
	return letter{b, at}.after(e.Previous)
}

// One letter serves several subscriptions.
func TestLetterIsNotChangedByWhoFollows(t *testing.T) {
	g := &goes{p: &Pipeline{}}
	m := &mind{Person: &identity.Person{CustomerRecord: &hub.CustomerRecord{ID: "cus_1"}}}
	l, err := g.letter("evt_1", "order.paid", m, "2026-03-01T10:00:00.000Z", 7, []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	before := string(l.text)
	if _, err := g.letter("evt_2", "order.refunded", m, "2026-03-01T10:00:01.000Z", 8, []byte(`{"a":1}`)); err != nil { // in the same room
		t.Error(err)
	}
	for _, previous := range []string{"evt_0", "", "stg_7"} {
		if _, err := l.after(previous); err != nil {
			t.Error(err)
		}
	}
	if string(l.text) != before {
		t.Errorf("became %s", l.text)
	}
}

// What happened is written as its tags say; money is an object, times are text.
func TestHappened(t *testing.T) {
	at := time.Date(2026, 3, 1, 11, 0, 0, 5e6, time.FixedZone("", 3600))
	for name, h := range map[string]happened{
		"nothing": {},
		"all": {
			Kind: "order.paid", Connection: "shop", OccurredAt: "2026-03-01T10:00:00.000Z", Customer: told{ID: "cus_1"},
			Properties: map[string]any{
				"id": "a\"1", "total": hub.Money{Amount: decimal.MustParse("54.90"), Currency: "EUR"}, "count": int64(-3), "share": 0.25, "test": true, "at": at,
				"tags": []string{"vip", "größe <L>"}, "none": []string{}, "nil": nil,
			},
		},
		"with what is included": {Customer: told{ID: "cus_1", IDs: map[string]string{"shop": "7"}, EmailSHA256: "ab", Email: "ada@example.com"}},
	} {
		plain := h
		plain.Properties = map[string]any{}
		for k, v := range h.Properties {
			switch v := v.(type) {
			case hub.Money:
				plain.Properties[k] = map[string]string{"amount": v.Amount.String(), "currency": v.Currency}
			case time.Time:
				plain.Properties[k] = "2026-03-01T10:00:00.005Z"
			default:
				plain.Properties[k] = v
			}
		}
		want, err := json.Marshal(plain, json.Deterministic(true))
		if err != nil {
			t.Fatal(err)
		}
		text, err := h.append(nil)
		got := jsontext.Value(text)
		if err == nil {
			err = got.Canonicalize()
		}
		wanted := jsontext.Value(want)
		if failed := wanted.Canonicalize(); failed != nil {
			t.Fatal(failed)
		}
		if err != nil || string(got) != string(wanted) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, wanted)
		}
	}
	for name, h := range map[string]happened{"text": {Kind: "a\xff"}, "property": {Properties: map[string]any{"x": "a\xff"}}, "number": {Properties: map[string]any{"x": math.NaN()}}} {
		if _, err := h.append(nil); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("a %s that JSON cannot hold: %v", name, err)
		}
	}
}

// A stage that was entered is written as its tags say.
func TestStageEntered(t *testing.T) {
	plain := stageEntered{
		Model: "clc", Version: 3, From: "new", To: "größe \"L\"", At: "2026-03-01T10:00:00.000Z", DecidedAt: "2026-03-01T10:00:01.000Z", By: hub.CauseEvent,
		Customer: told{ID: "cus_1"},
	}
	deal, included := plain, plain
	deal.Subject = &hub.Subject{Kind: hub.SubjectDeal, ID: "crm/7"}
	included.Customer = told{ID: "cus_1", IDs: map[string]string{"shop": "7"}, EmailSHA256: "ab", Email: "ada@example.com"}
	for name, s := range map[string]stageEntered{"nothing": {}, "plain": plain, "of a deal": deal, "with what is included": included} {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.append(nil)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
	}
	for name, s := range map[string]stageEntered{"model": {Model: "a\xff"}, "customer": {Customer: told{ID: "a\xff"}}, "subject": {Subject: &hub.Subject{ID: "a\xff"}}} {
		if _, err := s.append(nil); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("a %s that JSON cannot hold: %v", name, err)
		}
	}
}

// The counter orders as text.
func TestSequenceText(t *testing.T) {
	for n, want := range map[int64]string{0: "00000000000000000000", 42: "00000000000000000042", math.MaxInt64: "09223372036854775807"} {
		if got := sequenceText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
