package bus

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagewire/stagewire/internal/hub"
)

// An event travels as one CloudEvent 1.0 in JSON (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md):
//
//	{"specversion":"1.0","id":"evt_…","source":"stagewire/<connection>","type":"stagewire.<kind>.v1",
//	 "time":"<occurred_at>","datacontenttype":"application/json","data":{…the rest of hub.Event…}}
//
// Property and trait values keep their Go types without any catalogue at hand: text, number, bool and list of texts are
// their JSON counterparts, money is {"amount":"54.90","currency":"USD"}, a time is {"time":"…"}. Times have whole
// milliseconds. The codec is written by hand because it runs for every event on both sides of EVENTS.
const (
	sourcePrefix = "stagewire/"
	typePrefix   = "stagewire."
	typeSuffix   = ".v1"
	timeLayout   = "2006-01-02T15:04:05.000Z"
)

// EncodeEvent returns ev as one structured CloudEvent, the form in which events travel on EVENTS and lie in the outbox.
// It wraps hub.ErrInvalid where a text holds NUL or invalid UTF-8, a number is not finite, a time lies outside the years 0 to
// 9999, or a property has a type the catalogue does not know.
func EncodeEvent(ev *hub.Event) ([]byte, error) { return appendEvent(nil, ev) }

func appendEvent(dst []byte, ev *hub.Event) ([]byte, error) {
	e := encoder{dst: dst}
	e.event(ev)
	if e.problem != "" {
		return dst, fmt.Errorf("encode event %q of kind %q: %s: %w", ev.ID, ev.Kind, e.problem, hub.ErrInvalid)
	}
	return e.dst, nil
}

// encoder appends JSON and remembers the first problem.
type encoder struct {
	dst     []byte
	problem string
}

func (e *encoder) fail(format string, args ...any) {
	if e.problem == "" {
		e.problem = fmt.Sprintf(format, args...)
	}
}

func (e *encoder) raw(s string) { e.dst = append(e.dst, s...) }

func (e *encoder) event(ev *hub.Event) {
	if ev.ID == "" || ev.Kind == "" {
		e.fail("it needs an id and a kind")
	}
	e.raw(`{"specversion":"1.0","id":`)
	e.text(ev.ID)
	e.raw(`,"source":`)
	e.text(sourcePrefix + url.PathEscape(ev.Connection))
	e.raw(`,"type":`)
	e.text(typePrefix + ev.Kind + typeSuffix)
	if !ev.OccurredAt.IsZero() {
		e.raw(`,"time":`)
		e.time(ev.OccurredAt)
	}
	e.raw(`,"datacontenttype":"application/json","data":{"version":{"activation":`)
	e.dst = strconv.AppendInt(e.dst, ev.Version.Activation, 10)
	e.raw(`,"fetch":`)
	e.dst = strconv.AppendInt(e.dst, ev.Version.Fetch, 10)
	e.raw(`}`)
	e.optionalText(`,"occurred_by":`, ev.OccurredBy)
	if !ev.ClampedFrom.IsZero() {
		e.raw(`,"clamped_from":`)
		e.time(ev.ClampedFrom)
	}
	if !ev.ReceivedAt.IsZero() {
		e.raw(`,"received_at":`)
		e.time(ev.ReceivedAt)
	}
	e.optionalText(`,"webhook_id":`, ev.WebhookID)
	if ev.Withdrawn {
		e.raw(`,"withdrawn":true`)
	}
	if ev.Echo {
		e.raw(`,"echo":true`)
	}
	if w := ev.Written; w != nil {
		e.raw(`,"written":{"object":`)
		e.text(w.Object)
		e.raw(`,"id":`)
		e.text(w.ID)
		e.raw(`,"field":`)
		e.text(w.Field)
		e.raw(`,"value":`)
		e.text(w.Value)
		e.raw(`}`)
	}
	e.identifiers(ev.Identifiers)
	e.properties(ev.Properties)
	e.traits(ev.Traits)
	e.raw(`}}`)
}

func (e *encoder) identifiers(all []hub.Identifier) {
	if all == nil {
		return
	}
	e.raw(`,"identifiers":[`)
	for i := range all {
		id := &all[i]
		if i > 0 {
			e.raw(`,`)
		}
		e.raw(`{"kind":`)
		e.text(id.Kind)
		e.raw(`,"value":`)
		e.text(id.Value)
		e.optionalText(`,"connection":`, id.Connection)
		if id.Weak {
			e.raw(`,"weak":true`)
		}
		if id.Record {
			e.raw(`,"record":true`)
		}
		e.raw(`}`)
	}
	e.raw(`]`)
}

func (e *encoder) properties(all map[string]any) {
	if all == nil {
		return
	}
	var stack [24]string
	names := stack[:0]
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names) // the same event is always the same bytes
	e.raw(`,"properties":{`)
	for i, name := range names {
		if i > 0 {
			e.raw(`,`)
		}
		e.text(name)
		e.raw(`:`)
		if !e.value(all[name]) {
			e.fail("property %q has type %T", name, all[name])
		}
	}
	e.raw(`}`)
}

func (e *encoder) traits(all []hub.Trait) {
	if all == nil {
		return
	}
	e.raw(`,"traits":[`)
	for i := range all {
		t := &all[i]
		if i > 0 {
			e.raw(`,`)
		}
		e.raw(`{"name":`)
		e.text(t.Name)
		e.raw(`,"value":`)
		if t.Value == nil {
			e.raw(`null`)
		} else if !e.value(t.Value) {
			e.fail("trait %q has type %T", t.Name, t.Value)
		}
		if !t.At.IsZero() {
			e.raw(`,"at":`)
			e.time(t.At)
		}
		e.raw(`}`)
	}
	e.raw(`]`)
}

// value appends v and reports whether its type is one of the catalogue's.
func (e *encoder) value(v any) bool {
	switch v := v.(type) {
	case string:
		e.text(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			e.fail("a number is not finite")
			return true
		}
		e.dst = strconv.AppendFloat(e.dst, v, 'g', -1, 64)
	case bool:
		e.dst = strconv.AppendBool(e.dst, v)
	case time.Time:
		e.raw(`{"time":`)
		if v.IsZero() {
			e.raw(`""`)
		} else {
			e.time(v)
		}
		e.raw(`}`)
	case hub.Money:
		e.raw(`{"amount":"`)
		e.raw(v.Amount.String())
		e.raw(`","currency":`)
		e.text(v.Currency)
		e.raw(`}`)
	case []string:
		e.raw(`[`)
		for i, s := range v {
			if i > 0 {
				e.raw(`,`)
			}
			e.text(s)
		}
		e.raw(`]`)
	default:
		return false
	}
	return true
}

func (e *encoder) optionalText(key, s string) {
	if s != "" {
		e.raw(key)
		e.text(s)
	}
}

// text appends s as a JSON string. Most texts need no escape and are copied as they are.
func (e *encoder) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			e.escapedText(s)
			return
		}
	}
	e.dst = append(e.dst, '"')
	e.dst = append(e.dst, s...)
	e.dst = append(e.dst, '"')
}

func (e *encoder) escapedText(s string) {
	if strings.IndexByte(s, 0) >= 0 {
		e.fail("a text holds NUL")
		return
	}
	dst, err := jsontext.AppendQuote(e.dst, s)
	if err != nil {
		e.fail("a text is not valid UTF-8")
		return
	}
	e.dst = dst
}

func (e *encoder) time(t time.Time) {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		e.fail("a time lies in the year %d", y)
		return
	}
	e.dst = append(e.dst, '"')
	e.dst = appendTime(e.dst, t)
	e.dst = append(e.dst, '"')
}
