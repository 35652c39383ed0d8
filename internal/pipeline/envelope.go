package pipeline

import (
	"errors"
	"fmt"
	"strconv"
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

// letter is a CloudEvent as JSON, without the id of the one before it, which differs by subscription.
type letter struct {
	text []byte
	at   int // where that id belongs
}

// write writes what json.Marshal would, without Previous. It is done while others wait for the database, and there the data, which its
// maker has written, would be read and written once more.
func (e *cloudEvent) write() (l letter, err error) {
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
		{`,"mode":`, e.Mode},
	} {
		l.at = len(b) // of the last, in the end
		if b, err = jsontext.AppendQuote(append(b, f.name...), f.value); err != nil {
			return letter{}, fmt.Errorf("CloudEvent: %w: %w", err, hub.ErrInvalid)
		}
	}
	b = append(append(b, `,"data":`...), e.Data...)
	l.text = append(b, '}')
	return l, nil
}

// after returns the letter that follows the one of that id, "" for none. The result may share the letter's memory.
func (l letter) after(previous string) ([]byte, error) {
	if previous == "" {
		return l.text, nil
	}
	b := make([]byte, 0, len(l.text)+len(previous)+16)
	b, err := jsontext.AppendQuote(append(append(b, l.text[:l.at]...), `,"previous":`...), previous)
	if err != nil {
		return nil, fmt.Errorf("CloudEvent: %w: %w", err, hub.ErrInvalid)
	}
	return append(b, l.text[l.at:]...), nil
}

// happened is the data of a callback that tells an event.
type happened struct {
	Kind       string         `json:"kind"`
	Connection string         `json:"connection"`
	OccurredAt string         `json:"occurred_at"`
	Properties map[string]any `json:"properties"` // as the catalogue types them
	Customer   told           `json:"customer"`
}

// write writes h with money as an object and times as text: one is written for each event that a subscription wants.
func (h *happened) write() (jsontext.Value, error) {
	b := make([]byte, 0, 512)
	text := func(name, value string) (err error) {
		b, err = jsontext.AppendQuote(append(b, name...), value)
		return err
	}
	err := errors.Join(text(`{"kind":`, h.Kind), text(`,"connection":`, h.Connection), text(`,"occurred_at":`, h.OccurredAt))
	b = append(b, `,"properties":{`...)
	first := true
	for name, value := range h.Properties {
		if !first {
			b = append(b, ',')
		}
		first = false
		err = errors.Join(err, text("", name))
		b = append(b, ':')
		switch v := value.(type) {
		case string:
			err = errors.Join(err, text("", v))
		case bool:
			b = strconv.AppendBool(b, v)
		case int64:
			b = strconv.AppendInt(b, v, 10)
		case hub.Money:
			err = errors.Join(err, text(`{"amount":`, v.Amount.String()), text(`,"currency":`, v.Currency))
			b = append(b, '}')
		case time.Time:
			err = errors.Join(err, text("", v.UTC().Format(stamp)))
		default:
			raw, failed := json.Marshal(v)
			b, err = append(b, raw...), errors.Join(err, failed)
		}
	}
	b = append(b, `},"customer":`...)
	if c := &h.Customer; c.IDs == nil && c.EmailSHA256 == "" && c.Email == "" {
		err = errors.Join(err, text(`{"id":`, c.ID))
		b = append(b, '}')
	} else {
		raw, failed := json.Marshal(c)
		b, err = append(b, raw...), errors.Join(err, failed)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, hub.ErrInvalid)
	}
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

// letter writes data as the CloudEvent of that id.
func (g *goes) letter(id, kind string, m *mind, at time.Time, sequence int64, data any) (letter, error) {
	raw, err := facts(id, data)
	if err != nil {
		return letter{}, err
	}
	l, err := g.envelope(id, kind, m, at, sequence, raw).write()
	if err != nil {
		return letter{}, fmt.Errorf("%s %s: %w", kind, id, err)
	}
	return l, nil
}
