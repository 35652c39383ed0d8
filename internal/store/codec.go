package store

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagewire/stagewire/internal/hub"
)

// Values of properties, traits and parameters have Go types that JSON does not know (time.Time, hub.Money, int64,
// time.Duration). They are written so that they come back as they went in: strings, float64, bool and nil as
// themselves, []string as an array, and the rest as an object whose only key starts with "$".
//
//	{"$time":"1772366400000000"}      microseconds
//	{"$money":"54.90","$in":"USD"}
//	{"$int":"42"}  {"$duration":"5000000000"}  {"$list":[…]}
//	{"$map":{…}}                      a map that has a key starting with "$"; other maps are plain objects

// encoder appends JSON to buf; the first error stays.
type encoder struct {
	buf []byte
	err error
}

// encoders are used again: nobody keeps a buffer, what was written is copied out of it.
var encoders = sync.Pool{New: func() any { return new(encoder) }}

// newEncoder returns an encoder to write one text with. Whoever has it ends it with done.
func newEncoder() *encoder {
	e, _ := encoders.Get().(*encoder)
	e.buf, e.err = e.buf[:0], nil
	return e
}

// done returns what was written. The encoder is not used any more after it.
func (e *encoder) done() (string, error) {
	text, err := string(e.buf), e.err
	if cap(e.buf) <= maxEncoder {
		encoders.Put(e)
	}
	return text, err
}

// maxEncoder is the largest buffer that is kept, in bytes.
const maxEncoder = 16 << 10

func (e *encoder) text(s string) {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain {
		e.buf = append(append(append(e.buf, '"'), s...), '"')
		return
	}
	if err := clean("text", s); err != nil && e.err == nil {
		e.err = err
		return
	}
	quoted, err := jsontext.AppendQuote(e.buf, s)
	if err != nil && e.err == nil {
		e.err = fmt.Errorf("text: %w: %w", err, hub.ErrInvalid)
		return
	}
	e.buf = quoted
}

func (e *encoder) raw(s string) { e.buf = append(e.buf, s...) }

// field writes a comma where needed, then the name.
func (e *encoder) field(name string) {
	if last := e.buf[len(e.buf)-1]; last != '{' {
		e.buf = append(e.buf, ',')
	}
	e.buf = append(e.buf, '"')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, '"', ':')
}

func (e *encoder) textField(name, s string) {
	if s != "" {
		e.field(name)
		e.text(s)
	}
}

func (e *encoder) intField(name string, n int64) {
	if n != 0 {
		e.field(name)
		e.buf = strconv.AppendInt(e.buf, n, 10)
	}
}

func (e *encoder) timeField(name string, t time.Time) {
	if !t.IsZero() {
		e.field(name)
		e.buf = strconv.AppendInt(e.buf, t.UnixMicro(), 10)
	}
}

func (e *encoder) boolField(name string, b bool) {
	if b {
		e.field(name)
		e.raw("true")
	}
}

func (e *encoder) values(m map[string]any) {
	escape := false
	for k := range m {
		if strings.HasPrefix(k, "$") {
			escape = true
		}
	}
	if escape {
		e.raw(`{"$map":`)
	}
	e.raw("{")
	first := true
	for k, v := range m {
		if !first {
			e.raw(",")
		}
		first = false
		e.text(k)
		e.raw(":")
		e.value(v)
	}
	e.raw("}")
	if escape {
		e.raw("}")
	}
}

func (e *encoder) value(v any) {
	switch v := v.(type) {
	case nil:
		e.raw("null")
	case string:
		e.text(v)
	case bool:
		e.buf = strconv.AppendBool(e.buf, v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			e.err = fmt.Errorf("number %v: %w", v, hub.ErrInvalid)
			return
		}
		e.buf = strconv.AppendFloat(e.buf, v, 'g', -1, 64)
	case int:
		e.value(int64(v))
	case int64:
		e.raw(`{"$int":"`)
		e.buf = strconv.AppendInt(e.buf, v, 10)
		e.raw(`"}`)
	case time.Duration:
		e.raw(`{"$duration":"`)
		e.buf = strconv.AppendInt(e.buf, int64(v), 10)
		e.raw(`"}`)
	case time.Time:
		e.raw(`{"$time":"`)
		e.buf = strconv.AppendInt(e.buf, v.UnixMicro(), 10)
		e.raw(`"}`)
	case hub.Money:
		e.raw(`{"$money":`)
		e.text(v.Amount.String())
		e.raw(`,"$in":`)
		e.text(v.Currency)
		e.raw(`}`)
	case []string:
		e.texts(v)
	case []any:
		e.raw(`{"$list":[`)
		for i := range v {
			if i > 0 {
				e.raw(",")
			}
			e.value(v[i])
		}
		e.raw("]}")
	case map[string]any:
		e.values(v)
	default:
		if e.err == nil {
			e.err = fmt.Errorf("a value of type %T cannot be stored: %w", v, hub.ErrInvalid)
		}
	}
}

func (e *encoder) texts(v []string) {
	e.raw("[")
	for i := range v {
		if i > 0 {
			e.raw(",")
		}
		e.text(v[i])
	}
	e.raw("]")
}

// identifiers writes [kind, value, connection, flags] rows.
func (e *encoder) identifiers(ids []hub.Identifier) {
	e.raw("[")
	for i := range ids {
		if i > 0 {
			e.raw(",")
		}
		id := &ids[i]
		e.raw("[")
		e.text(id.Kind)
		e.raw(",")
		e.text(id.Value)
		e.raw(",")
		e.text(id.Connection)
		e.raw(",")
		e.buf = strconv.AppendInt(e.buf, identifierFlags(id), 10)
		e.raw("]")
	}
	e.raw("]")
}

const (
	flagWeak = 1 << iota
	flagRecord
)

func identifierFlags(id *hub.Identifier) (n int64) {
	if id.Weak {
		n |= flagWeak
	}
	if id.Record {
		n |= flagRecord
	}
	return n
}

// event writes what the columns of the events table do not hold.
func (e *encoder) event(ev *hub.Event) {
	e.raw("{")
	e.textField("kind", ev.Kind)
	e.textField("connection", ev.Connection)
	e.textField("occurred_by", ev.OccurredBy)
	e.timeField("clamped_from", ev.ClampedFrom)
	e.timeField("received_at", ev.ReceivedAt)
	e.textField("webhook", ev.WebhookID)
	e.boolField("echo", ev.Echo)
	if len(ev.Identifiers) > 0 {
		e.field("identifiers")
		e.identifiers(ev.Identifiers)
	}
	if len(ev.Properties) > 0 {
		e.field("properties")
		e.values(ev.Properties)
	}
	if len(ev.Traits) > 0 {
		e.field("traits")
		e.raw("[")
		for i := range ev.Traits {
			if i > 0 {
				e.raw(",")
			}
			e.raw("[")
			e.text(ev.Traits[i].Name)
			e.raw(",")
			e.value(ev.Traits[i].Value)
			e.raw(`,"`)
			e.buf = strconv.AppendInt(e.buf, ev.Traits[i].At.UnixMicro(), 10)
			e.raw(`"]`)
		}
		e.raw("]")
	}
	if w := ev.Written; w != nil {
		e.field("written")
		e.texts([]string{w.Object, w.ID, w.Field, w.Value})
	}
	e.raw("}")
}

// eventBody is what event wrote.
type eventBody struct {
	Kind        string         `json:"kind"`
	Connection  string         `json:"connection"`
	OccurredBy  string         `json:"occurred_by"`
	ClampedFrom int64          `json:"clamped_from"`
	ReceivedAt  int64          `json:"received_at"`
	Webhook     string         `json:"webhook"`
	Echo        bool           `json:"echo"`
	Identifiers jsontext.Value `json:"identifiers"`
	Properties  jsontext.Value `json:"properties"`
	Traits      [][3]any       `json:"traits"`
	Written     []string       `json:"written"`
}

// decodeEvent fills ev from a body; the columns are filled by the caller.
func decodeEvent(body string, ev *hub.Event) error {
	var b eventBody
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return fmt.Errorf("stored event %s: %w", ev.ID, err)
	}
	ev.Kind, ev.Connection, ev.OccurredBy, ev.WebhookID, ev.Echo = b.Kind, b.Connection, b.OccurredBy, b.Webhook, b.Echo
	if b.ClampedFrom != 0 {
		ev.ClampedFrom = at(b.ClampedFrom)
	}
	if b.ReceivedAt != 0 {
		ev.ReceivedAt = at(b.ReceivedAt)
	}
	var err error
	if ev.Identifiers, err = decodeIdentifiers(string(b.Identifiers)); err != nil {
		return err
	}
	if ev.Properties, err = decodeValues(string(b.Properties)); err != nil {
		return err
	}
	for _, t := range b.Traits {
		name, _ := t[0].(string)
		value, err := revive(t[1])
		if err != nil {
			return err
		}
		text, _ := t[2].(string)
		us, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("stored trait: %w", err)
		}
		ev.Traits = append(ev.Traits, hub.Trait{Name: name, Value: value, At: at(us)})
	}
	if len(b.Written) == 4 {
		ev.Written = &hub.FieldChange{Object: b.Written[0], ID: b.Written[1], Field: b.Written[2], Value: b.Written[3]}
	}
	return nil
}

func decodeIdentifiers(text string) ([]hub.Identifier, error) {
	if text == "" || text == "[]" {
		return nil, nil
	}
	var rows [][4]any
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		return nil, fmt.Errorf("stored identifiers: %w", err)
	}
	ids := make([]hub.Identifier, len(rows))
	for i, r := range rows {
		kind, _ := r[0].(string)
		value, _ := r[1].(string)
		connection, _ := r[2].(string)
		flags, _ := r[3].(float64)
		ids[i] = identifierOf(kind, connection, value, int64(flags))
	}
	return ids, nil
}

func identifierOf(kind, connection, value string, flags int64) hub.Identifier {
	return hub.Identifier{Kind: kind, Value: value, Connection: connection, Weak: flags&flagWeak != 0, Record: flags&flagRecord != 0}
}

func encodeIdentifiers(ids []hub.Identifier) (string, error) {
	if len(ids) == 0 {
		return "", nil
	}
	e := newEncoder()
	e.identifiers(ids)
	return e.done()
}

func encodeValues(m map[string]any) (string, error) {
	if len(m) == 0 {
		return "", nil
	}
	e := newEncoder()
	e.values(m)
	return e.done()
}

func decodeValues(text string) (map[string]any, error) {
	if text == "" {
		return nil, nil
	}
	var raw map[string]any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, fmt.Errorf("stored values: %w", err)
	}
	v, err := revive(raw)
	if err != nil {
		return nil, err
	}
	m, _ := v.(map[string]any)
	return m, nil
}

var errStoredValue = errors.New("stored value has an unknown form")

// revive turns what encoder.value wrote, decoded as plain JSON, back into what it was.
func revive(v any) (any, error) {
	switch v := v.(type) {
	case []any:
		texts := make([]string, len(v))
		for i := range v {
			s, ok := v[i].(string)
			if !ok {
				return nil, errStoredValue
			}
			texts[i] = s
		}
		return texts, nil
	case map[string]any:
		return reviveMap(v)
	default:
		return v, nil
	}
}

func reviveMap(m map[string]any) (any, error) {
	if v, ok := m["$time"].(string); ok {
		us, err := strconv.ParseInt(v, 10, 64)
		return at(us), err
	}
	if v, ok := m["$money"].(string); ok {
		currency, _ := m["$in"].(string)
		return hub.ParseMoney(v, currency)
	}
	if v, ok := m["$int"].(string); ok {
		return strconv.ParseInt(v, 10, 64)
	}
	if v, ok := m["$duration"].(string); ok {
		n, err := strconv.ParseInt(v, 10, 64)
		return time.Duration(n), err
	}
	if v, ok := m["$list"].([]any); ok {
		for i := range v {
			r, err := revive(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = r
		}
		return v, nil
	}
	if v, ok := m["$map"].(map[string]any); ok {
		m = v
	}
	for k := range m {
		r, err := revive(m[k])
		if err != nil {
			return nil, err
		}
		m[k] = r
	}
	return m, nil
}

// encodeTexts writes a list of short texts, "" for none.
func encodeTexts(list []string) (string, error) {
	if len(list) == 0 {
		return "", nil
	}
	e := newEncoder()
	e.texts(list)
	return e.done()
}

func decodeTexts(text string) []string {
	if text == "" {
		return nil
	}
	var list []string
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	return list
}

// encodePrevious writes an object of callbacks' ids by subscription.
func encodePrevious(p hub.Previous) (string, error) {
	if len(p) == 0 {
		return "", nil
	}
	e := newEncoder()
	e.raw("{")
	for i := range p {
		if i > 0 {
			e.raw(",")
		}
		e.text(p[i].Subscription)
		e.raw(":")
		e.text(p[i].ID)
	}
	e.raw("}")
	return e.done()
}

func decodePrevious(text string) (p hub.Previous) {
	if text == "" {
		return nil
	}
	var m map[string]string
	if json.Unmarshal([]byte(text), &m) != nil {
		return nil
	}
	for subscription, id := range m {
		p = p.With(subscription, id)
	}
	return p
}

func encodeCause(c *hub.DeliveryCause) (string, error) {
	if *c == (hub.DeliveryCause{}) {
		return "", nil
	}
	e := newEncoder()
	e.raw("{")
	e.textField("transition_id", c.TransitionID)
	e.textField("event_id", c.EventID)
	e.textField("webhook_id", c.WebhookID)
	e.textField("reaction", c.Reaction)
	e.textField("connection", c.Connection)
	e.raw("}")
	return e.done()
}

func decodeCause(text string) (c hub.DeliveryCause, err error) {
	if text == "" {
		return c, nil
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("stored cause: %w", err)
	}
	return c, nil
}

// storedAttempt is hub.Attempt with all its fields, in the units of the columns.
type storedAttempt struct {
	At       int64       `json:"at"`
	Status   int         `json:"status"`
	Outcome  hub.Outcome `json:"outcome"`
	Error    string      `json:"error,omitempty"`
	Duration int64       `json:"duration"`
}

func encodeAttempt(a *hub.Attempt) (string, error) {
	if a == nil {
		return "", nil
	}
	e := newEncoder()
	e.raw("{")
	e.field("at")
	e.buf = strconv.AppendInt(e.buf, a.At.UnixMicro(), 10)
	e.intField("status", int64(a.Status))
	e.textField("outcome", string(a.Outcome))
	e.textField("error", a.Error)
	e.intField("duration", int64(a.Duration))
	e.raw("}")
	return e.done()
}

func decodeAttempt(text string) (*hub.Attempt, error) {
	if text == "" {
		return nil, nil
	}
	var s storedAttempt
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("stored attempt: %w", err)
	}
	return &hub.Attempt{At: at(s.At), Status: s.Status, Outcome: s.Outcome, Error: s.Error, Duration: time.Duration(s.Duration)}, nil
}

// encodeHeaders writes masked headers.
func encodeHeaders(h []hub.Header) (string, error) {
	if len(h) == 0 {
		return "", nil
	}
	text, err := json.Marshal(h)
	if err != nil {
		return "", fmt.Errorf("headers: %w: %w", err, hub.ErrInvalid)
	}
	return string(text), nil
}

func decodeHeaders(text string) []hub.Header {
	if text == "" {
		return nil
	}
	var h []hub.Header
	if json.Unmarshal([]byte(text), &h) != nil {
		return nil
	}
	return h
}

// micros is how a time is kept. The zero time is kept as Go's year 1, and comes back as the zero time.
func micros(t time.Time) int64 { return t.UnixMicro() }

// at is the other way round.
func at(us int64) time.Time { return time.UnixMicro(us).UTC() }

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
