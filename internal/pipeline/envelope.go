package pipeline

import (
	"bytes"
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

// append writes what json.Marshal would, without Previous, which belongs where at says. It is done while others wait for the database, and
// there the data, which its maker has written, would be read and written once more.
func (e *cloudEvent) append(b []byte) (_ []byte, at int, err error) {
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
		at = len(b) // of the last, in the end
		if b, err = jsontext.AppendQuote(append(b, f.name...), f.value); err != nil {
			return nil, 0, fmt.Errorf("CloudEvent: %w: %w", err, hub.ErrInvalid)
		}
	}
	b = append(append(b, `,"data":`...), e.Data...)
	return append(b, '}'), at, nil
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

// append writes h with money as an object and times as text: one is written for each event that a subscription wants.
func (h *happened) append(b []byte) ([]byte, error) {
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
	b, failed := h.Customer.append(b)
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("%w: %w", err, hub.ErrInvalid)
	}
	return append(b, '}'), nil
}

// append writes what json.Marshal would: most are told the id alone.
func (c *told) append(b []byte) ([]byte, error) {
	if c.IDs == nil && c.EmailSHA256 == "" && c.Email == "" {
		b, err := jsontext.AppendQuote(append(b, `{"id":`...), c.ID)
		return append(b, '}'), err
	}
	raw, err := json.Marshal(*c) // its address would put whatever holds it on the heap, also where this is not reached
	return append(b, raw...), err
}

// append writes what json.Marshal would.
func (s *stageEntered) append(b []byte) ([]byte, error) {
	text := func(name, value string) (err error) {
		b, err = jsontext.AppendQuote(append(b, name...), value)
		return err
	}
	err := text(`{"model":`, s.Model)
	b = strconv.AppendInt(append(b, `,"version":`...), int64(s.Version), 10)
	err = errors.Join(err, text(`,"from":`, s.From), text(`,"to":`, s.To), text(`,"at":`, s.At), text(`,"decided_at":`, s.DecidedAt), text(`,"by":`, s.By))
	b, failed := s.Customer.append(append(b, `,"customer":`...))
	if s.Subject != nil {
		raw, odd := json.Marshal(s.Subject)
		b, failed = append(append(b, `,"subject":`...), raw...), errors.Join(failed, odd)
	}
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("%w: %w", err, hub.ErrInvalid)
	}
	return append(b, '}'), nil
}

// sequenceText is the counter with leading zeros, so that it orders as text.
func sequenceText(n int64) string {
	const zeros = "00000000000000000000"
	digits := strconv.FormatInt(n, 10)
	return zeros[len(digits):] + digits
}

// letter writes the CloudEvent of that id, which tells data at a time, both as text. data may be in g.data.
func (g *goes) letter(id, kind string, m *mind, at string, sequence int64, data []byte) (letter, error) {
	e := cloudEvent{
		SpecVersion: "1.0", ID: id, Source: g.p.Source, Type: "stagewire." + kind + ".v1", Subject: m.ID,
		Time: at, DataContentType: "application/json",
		DataSchema: g.p.SchemaBase + "/api/v1/events/catalogue/" + kind + ".v1",
		Sequence:   sequenceText(sequence), Mode: "live", Data: data,
	}
	b, place, err := e.append(g.envelope[:0])
	if err != nil {
		return letter{}, fmt.Errorf("%s %s: %w", kind, id, err)
	}
	g.envelope = b
	return letter{bytes.Clone(b), place}, nil
}

// marshalled is letter for data that is seldom told, at the customer's present sequence.
func (g *goes) marshalled(id, kind string, m *mind, at time.Time, data any) (letter, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return letter{}, fmt.Errorf("callback data of %s: %w: %w", id, err, hub.ErrInvalid)
	}
	return g.letter(id, kind, m, at.UTC().Format(stamp), m.Sequence, raw)
}
