package bus

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

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
	events := make([]hub.Event, 0, 16)
	err := d.array(func() error {
		events = append(events, hub.Event{})
		if err := d.event(&events[len(events)-1]); err != nil {
			return fmt.Errorf("event %d: %w", len(events)-1, err)
		}
		return nil
	})
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return nil, undecodablef("event frame: %w", err)
	}
	return events, nil
}

// decoder reads events. Names, kinds and the like repeat in a frame and are kept once.
type decoder struct {
	scanner
	known map[string]string
}

func newDecoder(data []byte) *decoder {
	return &decoder{scanner: scanner{data: data}, known: map[string]string{}}
}

// object calls member for every member of the object that comes next.
func (d *decoder) object(member func(name string) error) error {
	if err := d.expect('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := d.more(first, '}')
		if !more || err != nil {
			return err
		}
		name, err := d.name()
		if err != nil {
			return err
		}
		if err := d.expect(':'); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// array calls element for every element of the array that comes next.
func (d *decoder) array(element func() error) error {
	if err := d.expect('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := d.more(first, ']')
		if !more || err != nil {
			return err
		}
		if err := element(); err != nil {
			return err
		}
	}
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
	b, err := d.number()
	if err != nil {
		return err
	}
	if *into, err = strconv.ParseInt(string(b), 10, 64); err != nil {
		return errors.New("not an integer")
	}
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
	if t, ok := parseOurTime(b); ok {
		return t, nil
	}
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
			err = d.skip(0)
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
				return d.skip(0)
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
		return d.skip(0)
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
		return d.skip(0)
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
		return d.skip(0)
	})
}

func (d *decoder) trait(t *hub.Trait) error {
	return d.object(func(name string) (err error) {
		switch name {
		case "name":
			return d.nameInto(&t.Name)
		case "value":
			if d.peek() == 'n' {
				return d.skip(0)
			}
			t.Value, err = d.value()
			return err
		case "at":
			return d.time(&t.At)
		}
		return d.skip(0)
	})
}

// value reads a property's value in its Go type.
func (d *decoder) value() (any, error) {
	switch d.peek() {
	case '"':
		var s string
		err := d.text(&s)
		return s, err
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
	b, err := d.number()
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return nil, errors.New("not a number that fits")
	}
	return n, nil
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
		return d.skip(0)
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
