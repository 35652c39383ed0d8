package pipeline_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
)

const pipely = `
name: pipely
settings: {client_secret: {secret: true, about: from the developer console}}
identifiers: {pipely_person: record}
receive:
  verify: {scheme: hmac, secrets: [client_secret], hash: sha256, encoding: base64, header: X-Pipely-Hmac}
  items: body.people
  topic: '"person"'
  events:
    - on: person
      kind: customer.updated
      id: string(item.id)
      at: [{fact: item.at}]
      identifiers: {pipely_person: item.id}
`

// one is a configuration of one connection.
type one struct{ source pipeline.Source }

func newOne(t *testing.T, manifest string, activation int64) *one {
	t.Helper()
	con, err := connector.Parse("pipely/connector.yaml", []byte(manifest), hub.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	return &one{pipeline.Source{Connection: &hub.Connection{Name: "crm", Connector: "pipely"}, Connector: con, Activation: activation}}
}

func (o *one) Lookup(name string) (pipeline.Source, bool) { return o.source, name == "crm" }
func (o *one) Names() []string                            { return []string{"crm"} }

// choosy is a publisher that cannot write the events of some webhooks.
type choosy struct{ memory }

func (c *choosy) PublishEvents(ctx context.Context, events []hub.Event) error {
	for i := range events {
		if strings.HasPrefix(events[i].WebhookID, "bad") {
			return fmt.Errorf("event %s: a number is not finite: %w", events[i].ID, hub.ErrInvalid)
		}
	}
	return c.memory.PublishEvents(ctx, events)
}

func stored(id, people string) hub.StoredWebhook {
	return hub.StoredWebhook{Webhook: hub.Webhook{ID: id, Connection: "crm", Method: "POST", ReceivedAt: epoch, Body: []byte(`{"people":[` + people + `]}`)}}
}

func (h *harness) normalizer(t *testing.T, connections pipeline.Connections, publisher pipeline.Publisher) *pipeline.Pipeline {
	t.Helper()
	return pipeline.New(pipeline.Config{
		Store: h.store, Publisher: publisher, Backlog: &idle{}, Connections: connections, Clock: pipeline.WallClock{Now: time.Now}, Now: time.Now, Log: quiet(), Holder: "one",
	})
}

// An event that got past its mapping and cannot be written costs its own webhook and never the frame, which would come again for ever.
func TestEventThatCannotBeWrittenCostsItsOwnWebhookAlone(t *testing.T) {
	h := newHarness(t, "")
	publisher := &choosy{}
	p := h.normalizer(t, newOne(t, pipely, 1), publisher)
	const person = `{"id":1,"at":"2026-01-01T00:00:00Z"}`
	if err := p.Normalize(t.Context(), []hub.StoredWebhook{stored("good1", person), stored("bad", person), stored("good2", person)}); err != nil {
		t.Fatal(err)
	}
	if len(publisher.events) != 2 {
		t.Errorf("%d events were written, want those of two webhooks", len(publisher.events))
	}
	for id, state := range map[string]string{"good1": hub.WebhookDone, "bad": hub.WebhookDead, "good2": hub.WebhookDone} {
		row, err := h.store.Webhook(t.Context(), id)
		if err != nil || row.State != state {
			t.Errorf("%s: %+v, %v; want %s", id, row, err, state)
		}
		if state == hub.WebhookDead && (len(row.EventIDs) > 0 || !strings.Contains(row.Reason, "not finite")) {
			t.Errorf("%s: %+v", id, row)
		}
	}
	letters, _, err := h.store.DeadLetters(t.Context(), hub.Page{Limit: 10})
	if err != nil || len(letters) != 1 || letters[0].Ref != "bad" {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
}

// A replay that cannot map takes nothing back; the next one that can knows what is to be taken back.
func TestReplayThatFailsTakesNothingBack(t *testing.T) {
	h := newHarness(t, "")
	publisher := &memory{}
	w := stored("w", `{"id":1,"at":"2026-01-01T00:00:00Z"},{"id":2,"at":"2026-01-01T00:00:00Z"}`)
	replay := func(manifest string, activation int64) (made, withdrawn []string, err error) {
		return h.normalizer(t, newOne(t, manifest, activation), publisher).Replay(t.Context(), w, nil, false)
	}
	if err := h.normalizer(t, newOne(t, pipely, 1), publisher).Normalize(t.Context(), []hub.StoredWebhook{w}); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(pipely, "fact: item.at", `fact: 'item.id == 2 ? "never" : item.at'`, 1)
	if made, withdrawn, err := replay(broken, 2); err != nil || len(made) != 1 || len(withdrawn) != 0 {
		t.Errorf("one of two cannot be mapped: made %v, withdrawn %v, %v", made, withdrawn, err)
	}
	row, err := h.store.Webhook(t.Context(), "w")
	if err != nil || row.State != hub.WebhookDead || len(row.EventIDs) != 2 {
		t.Errorf("%+v, %v", row, err)
	}
	if letters, _, err := h.store.DeadLetters(t.Context(), hub.Page{Limit: 10}); err != nil || len(letters) != 1 {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
	if _, _, err := replay(strings.Replace(pipely, "fact: item.at", `fact: '"never"'`, 1), 3); err == nil {
		t.Error("nothing can be mapped and the replay says so to nobody")
	}
	moved := strings.Replace(pipely, "id: string(item.id)", `id: '"new/" + string(item.id)'`, 1)
	made, withdrawn, err := replay(moved, 4)
	if err != nil || len(made) != 2 || len(withdrawn) != 2 {
		t.Errorf("two other events: made %v, withdrawn %v, %v", made, withdrawn, err)
	}
	if letters, _, err := h.store.DeadLetters(t.Context(), hub.Page{Limit: 10}); err != nil || len(letters) != 0 {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
}
