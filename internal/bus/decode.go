package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/hub"
)

// DecodeEvent reads one structured CloudEvent as EncodeEvent writes it. Members it does not know are skipped.
// Errors wrap hub.ErrInvalid and name no value.
func DecodeEvent(data []byte) (hub.Event, error) {
	d := newDecoder(data)
	var ev hub.Event
	err := d.event(&ev)
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return hub.Event{}, undecodablef("decode event: %w", err)
	}
	return ev, nil
}

// decodeEvents reads a CloudEvents JSON batch.
func decodeEvents(data []byte) ([]hub.Event, error) {
	d := newDecoder(data)
	if err := d.expect('['); err != nil {
		return nil, undecodablef("event frame: %w", err)
	}
	events := make([]hub.Event, 0, 16)
	for d.PeekKind() != ']' {
		events = append(events, hub.Event{})
		if err := d.event(&events[len(events)-1]); err != nil {
			return nil, undecodablef("event frame: event %d: %w", len(events)-1, err)
		}
	}
	if err := d.expect(']'); err != nil {
		return nil, undecodablef("event frame: %w", err)
	}
	if err := d.end(); err != nil {
		return nil, undecodablef("event frame: %w", err)
	}
	return events, nil
}

// decoder reads JSON by tokens. Names, kinds and the like repeat in a frame and are kept once.
type decoder struct {
	*jsontext.Decoder
	known   map[string]string
	scratch []byte
}

func newDecoder(data []byte) *decoder {
	// Duplicate names are allowed for speed: we wrote the frame, and the last one wins.
	return &decoder{Decoder: jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true)), known: map[string]string{}}
}

func (d *decoder) expect(kind jsontext.Kind) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() != kind {
		return fmt.Errorf("%s where %s was expected, at byte %d", token.Kind(), kind, d.InputOffset())
	}
	return nil
}

func (d *decoder) end() error {
	if _, err := d.ReadToken(); err == nil {
		return errors.New("data after the end")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// object calls member for every member of the object that comes next.
func (d *decoder) object(member func(name string) error) error {
	if err := d.expect('{'); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := d.name()
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return d.expect('}')
}

// array calls element for every element of the array that comes next.
func (d *decoder) array(element func() error) error {
	if err := d.expect('['); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		if err := element(); err != nil {
			return err
		}
	}
	return d.expect(']')
}

// quoted returns the unescaped bytes of the string that comes next, valid until the next read.
func (d *decoder) quoted() ([]byte, error) {
	v, err := d.ReadValue()
	if err != nil {
		return nil, err
	}
	if v.Kind() != '"' {
		return nil, fmt.Errorf("%s where a string was expected, at byte %d", v.Kind(), d.InputOffset())
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	d.scratch, err = jsontext.AppendUnquote(d.scratch[:0], v)
	if bytes.IndexByte(d.scratch, 0) >= 0 {
		return nil, errors.New("a text holds NUL") // PostgreSQL could not keep it
	}
	return d.scratch, err
}

func (d *decoder) text(into *string) error {
	b, err := d.quoted()
	*into = string(b)
	return err
}

// name reads a string that probably comes again.
func (d *decoder) name() (string, error) {
	b, err := d.quoted()
	if err != nil {
		return "", err
	}
	if s, ok := d.known[string(b)]; ok {
		return s, nil
	}
	s := string(b)
	if len(d.known) < 1024 {
		d.known[s] = s
	}
	return s, nil
}

func (d *decoder) nameInto(into *string) (err error) {
	*into, err = d.name()
	return err
}

func (d *decoder) integer(into *int64) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	*into, err = strconv.ParseInt(string(v), 10, 64)
	return err
}

func (d *decoder) truth(into *bool) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if k := token.Kind(); k != 't' && k != 'f' {
		return fmt.Errorf("%s where a bool was expected", k)
	}
	*into = token.Bool()
	return nil
}

func (d *decoder) time(into *time.Time) error {
	b, err := d.quoted()
	if err != nil {
		return err
	}
	*into, err = parseTime(b)
	return err
}

func parseTime(b []byte) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return time.Time{}, errors.New("not a time as in RFC 3339")
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, errors.New("the year is not one of 0 to 9999")
	}
	return t.Truncate(hub.Resolution), nil
}

func (d *decoder) event(ev *hub.Event) error {
	var version string
	err := d.object(func(name string) (err error) {
		switch name {
		case "specversion":
			err = d.nameInto(&version)
		case "id":
			err = d.text(&ev.ID)
		case "source":
			err = d.source(&ev.Connection)
		case "type":
			if err = d.nameInto(&ev.Kind); err == nil {
				kind, ok := strings.CutPrefix(ev.Kind, typePrefix)
				if kind, ok2 := strings.CutSuffix(kind, typeSuffix); ok && ok2 && kind != "" {
					ev.Kind = kind
				} else {
					err = errors.New("not one of ours")
				}
			}
		case "time":
			err = d.time(&ev.OccurredAt)
		case "data":
			err = d.data(ev)
		default:
			err = d.SkipValue()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case version != "1.0":
		return errors.New("not a CloudEvent of version 1.0")
	case ev.ID == "" || ev.Kind == "":
		return errors.New("it has no id or no type")
	}
	return nil
}

func (d *decoder) source(into *string) error {
	source, err := d.name()
	if err != nil {
		return err
	}
	connection, ok := strings.CutPrefix(source, sourcePrefix)
	if !ok {
		return errors.New("not one of ours")
	}
	if strings.IndexByte(connection, '%') >= 0 {
		if connection, err = url.PathUnescape(connection); err != nil {
			return err
		}
	}
	*into = connection
	return nil
}

func (d *decoder) data(ev *hub.Event) error {
	return d.object(func(name string) error {
		switch name {
		case "version":
			return d.object(func(name string) error {
				switch name {
				case "activation":
					return d.integer(&ev.Version.Activation)
				case "fetch":
					return d.integer(&ev.Version.Fetch)
				}
				return d.SkipValue()
			})
		case "occurred_by":
			return d.nameInto(&ev.OccurredBy)
		case "clamped_from":
			return d.time(&ev.ClampedFrom)
		case "received_at":
			return d.time(&ev.ReceivedAt)
		case "webhook_id":
			return d.nameInto(&ev.WebhookID)
		case "withdrawn":
			return d.truth(&ev.Withdrawn)
		case "echo":
			return d.truth(&ev.Echo)
		case "written":
			ev.Written = &hub.FieldChange{}
			return d.written(ev.Written)
		case "identifiers":
			ev.Identifiers = make([]hub.Identifier, 0, 4)
			return d.array(func() error {
				ev.Identifiers = append(ev.Identifiers, hub.Identifier{})
				return d.identifier(&ev.Identifiers[len(ev.Identifiers)-1])
			})
		case "properties":
			ev.Properties = make(map[string]any, 8)
			return d.object(func(name string) (err error) {
				ev.Properties[name], err = d.value()
				return err
			})
		case "traits":
			ev.Traits = make([]hub.Trait, 0, 4)
			return d.array(func() error {
				ev.Traits = append(ev.Traits, hub.Trait{})
				return d.trait(&ev.Traits[len(ev.Traits)-1])
			})
		}
		return d.SkipValue()
	})
}

func (d *decoder) written(w *hub.FieldChange) error {
	return d.object(func(name string) error {
		switch name {
		case "object":
			return d.nameInto(&w.Object)
		case "id":
			return d.text(&w.ID)
		case "field":
			return d.nameInto(&w.Field)
		case "value":
			return d.text(&w.Value)
		}
		return d.SkipValue()
	})
}

func (d *decoder) identifier(id *hub.Identifier) error {
	return d.object(func(name string) error {
		switch name {
		case "kind":
			return d.nameInto(&id.Kind)
		case "value":
			return d.text(&id.Value)
		case "connection":
			return d.nameInto(&id.Connection)
		case "weak":
			return d.truth(&id.Weak)
		case "record":
			return d.truth(&id.Record)
		}
		return d.SkipValue()
	})
}

func (d *decoder) trait(t *hub.Trait) error {
	return d.object(func(name string) (err error) {
		switch name {
		case "name":
			return d.nameInto(&t.Name)
		case "value":
			if d.PeekKind() == 'n' {
				return d.SkipValue()
			}
			t.Value, err = d.value()
			return err
		case "at":
			return d.time(&t.At)
		}
		return d.SkipValue()
	})
}

// value reads a property's value in its Go type.
func (d *decoder) value() (any, error) {
	switch d.PeekKind() {
	case '"':
		var s string
		err := d.text(&s)
		return s, err
	case '0':
		v, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		return strconv.ParseFloat(string(v), 64)
	case 't', 'f':
		var b bool
		err := d.truth(&b)
		return b, err
	case '[':
		texts := []string{}
		err := d.array(func() error {
			var s string
			err := d.text(&s)
			texts = append(texts, s)
			return err
		})
		return texts, err
	case '{':
		return d.tagged()
	}
	if v, err := d.ReadValue(); err != nil {
		return nil, err
	} else {
		return nil, fmt.Errorf("%s is no property", v.Kind())
	}
}

// tagged reads money or a time.
func (d *decoder) tagged() (any, error) {
	var (
		money   hub.Money
		at      time.Time
		isMoney bool
		isTime  bool
	)
	err := d.object(func(name string) (err error) {
		switch name {
		case "amount":
			isMoney = true
			b, err := d.quoted()
			if err != nil {
				return err
			}
			if money.Amount, err = decimal.Parse(string(b)); err != nil {
				return errors.New("not a decimal")
			}
			return nil
		case "currency":
			isMoney = true
			return d.nameInto(&money.Currency)
		case "time":
			isTime = true
			b, err := d.quoted()
			if err != nil || len(b) == 0 {
				return err
			}
			at, err = parseTime(b)
			return err
		}
		return d.SkipValue()
	})
	switch {
	case err != nil:
		return nil, err
	case isMoney == isTime:
		return nil, errors.New("neither money nor a time")
	case isTime:
		return at, nil
	}
	return money, nil
}
