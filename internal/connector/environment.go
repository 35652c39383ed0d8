package connector

import (
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// The variables an expression can see depend on where it stands. Each environment below is one such place; its `expr` tags are
// the names (connectors/README.md lists them). Environments are made per webhook, row or task and used by one goroutine.

// webhookEnv is seen by everything under receive.
type webhookEnv struct {
	Settings   map[string]string      `expr:"settings"`
	Body       any                    `expr:"body"`
	Item       any                    `expr:"item"`
	Index      int                    `expr:"index"`
	Each       any                    `expr:"each"`
	Topic      string                 `expr:"topic"`
	Method     string                 `expr:"method"`
	URL        string                 `expr:"url"`
	Header     func(...string) string `expr:"header"` // the first that is there
	Query      func(string) string    `expr:"query"`
	ReceivedAt time.Time              `expr:"received_at"`
	Webhook    string                 `expr:"webhook"` // the webhook's own id, the same for a redelivery: for facts that have none
}

func (e *webhookEnv) root(name string) any {
	switch name {
	case "item":
		return e.Item
	case "body":
		return e.Body
	case "each":
		return e.Each
	}
	return nil
}

// recordEnv is seen by the events of a fetched record.
type recordEnv struct {
	Settings   map[string]string `expr:"settings"`
	Item       any               `expr:"item"`    // the record
	Context    any               `expr:"context"` // what the webhook said beside the id
	ID         string            `expr:"id"`      // the id that was fetched
	Gone       bool              `expr:"gone"`
	Each       any               `expr:"each"`
	Topic      string            `expr:"topic"` // of the webhook
	ReceivedAt time.Time         `expr:"received_at"`
}

func (e *recordEnv) root(name string) any {
	switch name {
	case "item":
		return e.Item
	case "context":
		return e.Context
	case "each":
		return e.Each
	}
	return nil
}

// fetchEnv is seen by the requests of a hydration.
type fetchEnv struct {
	Settings map[string]string `expr:"settings"`
	IDs      []string          `expr:"ids"`
	ID       string            `expr:"id"` // the first of ids
	Answers  []any             `expr:"answers"`
	Item     any               `expr:"item"` // one record, for key
	Status   int               `expr:"status"`
	Body     any               `expr:"body"`
}

// actionEnv is seen by actions and provision.
type actionEnv struct {
	Settings  map[string]string      `expr:"settings"`
	Action    string                 `expr:"action"`
	Params    map[string]any         `expr:"params"`
	Customer  customerEnv            `expr:"customer"`
	Record    string                 `expr:"record"`      // the vendor's id of the customer's record
	Kind      string                 `expr:"record_kind"` // which of the identifiers that may name the record it is
	Field     string                 `expr:"field"`       // params.field
	Value     string                 `expr:"value"`       // params.value
	Tag       string                 `expr:"tag"`         // params.tag, or value
	Previous  string                 `expr:"previous"`    // the value last written
	Present   string                 `expr:"present"`     // what read found
	Fields    map[string]any         `expr:"fields"`      // params.fields, or field and value
	Due       time.Time              `expr:"due"`         // params.due, resolved; zero for none
	Business  time.Time              `expr:"business"`    // business now
	Reference string                 `expr:"reference"`
	Saved     map[string]any         `expr:"saved"`
	Status    int                    `expr:"status"`
	Body      any                    `expr:"body"`
	Header    func(...string) string `expr:"header"` // of the answer
}

type customerEnv struct {
	ID          string            `expr:"id"`
	Email       string            `expr:"email"`
	Phone       string            `expr:"phone"`
	Name        string            `expr:"name"`
	Identifiers map[string]string `expr:"identifiers"`
	Traits      map[string]any    `expr:"traits"`
}

func newCustomerEnv(r hub.Recipient, connection string) customerEnv {
	c := customerEnv{ID: r.CustomerID, Identifiers: map[string]string{}, Traits: r.Traits}
	for _, id := range r.Identifiers {
		if id.Connection != "" && id.Connection != connection {
			continue
		}
		if _, taken := c.Identifiers[id.Kind]; !taken {
			c.Identifiers[id.Kind] = id.Value
		}
	}
	c.Email, c.Phone = c.Identifiers[hub.IdentifierEmail], c.Identifiers[hub.IdentifierPhone]
	if c.Traits == nil {
		c.Traits = map[string]any{}
	}
	c.Name, _ = c.Traits["name"].(string)
	return c
}
