package pipeline

import (
	"errors"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagewire/stagewire/internal/hub"
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
		if got, err := e.encode(); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
	}
	full.ID = "a\xff"
	if _, err := full.encode(); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("text that is not UTF-8: %v", err)
	}
}
