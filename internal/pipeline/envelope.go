package pipeline

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagewire/stagewire/internal/hub"
)

// cloudEvent is the envelope of everything that is told to third parties (API.md, the callback contract).
type cloudEvent struct {
	SpecVersion     string         `json:"specversion"`
	ID              string         `json:"id"`
	Source          string         `json:"source"`
	Type            string         `json:"type"`
	Subject         string         `json:"subject"`
	Time            string         `json:"time"`
	DataContentType string         `json:"datacontenttype"`
	DataSchema      string         `json:"dataschema"`
	Sequence        string         `json:"sequence"`
	Previous        string         `json:"previous,omitempty"`
	Mode            string         `json:"mode"`
	Data            jsontext.Value `json:"data"`
}

const previousName = `,"previous":` // left out for the first

// encode writes what json.Marshal would. It is done while others wait for the database, and there the data, which facts has made, would be
// read and written once more.
func (e *cloudEvent) encode() ([]byte, error) {
	b := make([]byte, 0, 512+len(e.Data))
	for _, f := range [...]struct{ name, value string }{
		{`{"specversion":`, e.SpecVersion},
		{`,"id":`, e.ID},
		{`,"source":`, e.Source},
		{`,"type":`, e.Type},
		{`,"subject":`, e.Subject},
		{`,"time":`, e.Time},
		{`,"datacontenttype":`, e.DataContentType},
		{`,"dataschema":`, e.DataSchema},
		{`,"sequence":`, e.Sequence},
		{previousName, e.Previous},
		{`,"mode":`, e.Mode},
	} {
		if f.value == "" && f.name == previousName {
			continue
		}
		var err error
		if b, err = jsontext.AppendQuote(append(b, f.name...), f.value); err != nil {
			return nil, fmt.Errorf("CloudEvent: %w: %w", err, hub.ErrInvalid)
		}
	}
	b = append(append(b, `,"data":`...), e.Data...)
	return append(b, '}'), nil
}

// facts writes the data of the CloudEvent of that id.
func facts(id string, data any) (jsontext.Value, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("callback data of %s: %w: %w", id, err, hub.ErrInvalid)
	}
	return raw, nil
}

// sequenceText is the counter with leading zeros, so that it orders as text.
func sequenceText(n int64) string { return fmt.Sprintf("%020d", n) }

func (g *goes) envelope(id, kind string, m *mind, at time.Time, sequence int64, data jsontext.Value) *cloudEvent {
	return &cloudEvent{
		SpecVersion: "1.0", ID: id, Source: g.p.Source, Type: "stagewire." + kind + ".v1", Subject: m.ID,
		Time: at.UTC().Format(stamp), DataContentType: "application/json",
		DataSchema: g.p.SchemaBase + "/api/v1/events/catalogue/" + kind + ".v1",
		Sequence:   sequenceText(sequence), Mode: "live", Data: data,
	}
}
