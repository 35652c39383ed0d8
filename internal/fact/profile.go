package fact

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Entry is one event as facts keep it. It is immutable.
type Entry struct {
	ID, Kind, Connection string

	at     int64  // milliseconds since 1970
	props  string // encoded properties, sorted by name
	traits string // encoded traits: name, at, value
}

// At returns when the event occurred.
func (e *Entry) At() time.Time { return time.UnixMilli(e.at).UTC() }

// Millis returns when the event occurred, in milliseconds since 1970.
func (e *Entry) Millis() int64 { return e.at }

func (e *Entry) property(name string) (value, bool) {
	for raw := e.props; raw != ""; {
		n, v, rest, ok := nextProperty(raw)
		if !ok {
			return value{}, false
		}
		if n == name {
			return v, true
		}
		raw = rest
	}
	return value{}, false
}

// Text returns a text property; false where the event has none of that name and type.
func (e *Entry) Text(name string) (string, bool) {
	v, ok := e.property(name)
	if !ok {
		return "", false
	}
	return v.text()
}

// Number returns a number property.
func (e *Entry) Number(name string) (float64, bool) {
	v, ok := e.property(name)
	if !ok {
		return 0, false
	}
	return v.number()
}

// Bool returns a bool property.
func (e *Entry) Bool(name string) (bool, bool) {
	v, ok := e.property(name)
	if !ok {
		return false, false
	}
	return v.bool()
}

// Money returns a money property.
func (e *Entry) Money(name string) (hub.Money, bool) {
	v, ok := e.property(name)
	if !ok {
		return hub.Money{}, false
	}
	return v.money()
}

// Instant returns a time property in milliseconds since 1970.
func (e *Entry) Instant(name string) (int64, bool) {
	v, ok := e.property(name)
	if !ok {
		return 0, false
	}
	return v.millis()
}

// Texts returns a list property.
func (e *Entry) Texts(name string) ([]string, bool) {
	v, ok := e.property(name)
	if !ok {
		return nil, false
	}
	return v.texts()
}

// Properties returns all properties in the Go types of the catalogue.
func (e *Entry) Properties() map[string]any {
	out := map[string]any{}
	for raw := e.props; raw != ""; {
		n, v, rest, ok := nextProperty(raw)
		if !ok {
			break
		}
		if x := v.any(); x != nil {
			out[n] = x
		}
		raw = rest
	}
	return out
}

// newEntry keeps of ev what rules can read.
func newEntry(ev *hub.Event) *Entry {
	var stack [1024]byte
	b := appendProperties(stack[:0], ev.Properties)
	props := len(b)
	b = appendTraits(b, ev)
	text := string(b) // one for both
	return &Entry{ID: ev.ID, Kind: ev.Kind, Connection: ev.Connection, at: ev.OccurredAt.UnixMilli(), props: text[:props], traits: text[props:]}
}

// appendTraits encodes the traits of ev sorted by name.
func appendTraits(b []byte, ev *hub.Event) []byte {
	var few [8]hub.Trait
	traits := append(few[:0], ev.Traits...)
	slices.SortStableFunc(traits, func(a, b hub.Trait) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range traits {
		at := t.At
		if at.IsZero() {
			at = ev.OccurredAt
		}
		before := len(b)
		b = appendString(b, t.Name)
		b = binary.AppendVarint(b, at.UnixMilli())
		var ok bool
		if b, ok = appendValue(b, t.Value); !ok {
			b = b[:before]
		}
	}
	return b
}

// compare orders entries by (at, id).
func compare(a, b *Entry) int {
	if a.at != b.at {
		if a.at < b.at {
			return -1
		}
		return 1
	}
	return strings.Compare(a.ID, b.ID)
}

// Profile is the fold of one profile's events. The zero value is an empty profile. It is not safe for
// concurrent use.
type Profile struct {
	entries []*Entry // in (at, id) order, ids unique
}

// Len returns the number of events folded.
func (p *Profile) Len() int { return len(p.entries) }

// Put inserts ev, or replaces the event of the same id. In whatever order and however often events are put, the
// profile is the same. Facts made before keep what they had.
func (p *Profile) Put(ev *hub.Event) {
	e := newEntry(ev)
	p.Remove(e.ID)
	i, _ := slices.BinarySearchFunc(p.entries, e, compare)
	p.entries = slices.Insert(p.entries, i, e)
}

// Remove takes the event of that id out; an unknown id changes nothing.
func (p *Profile) Remove(eventID string) {
	// From the newest: a replacement is nearly always of a recent event.
	for i, v := range slices.Backward(p.entries) {
		if v.ID == eventID {
			p.entries = slices.Delete(p.entries, i, i+1)
			return
		}
	}
}

// Has reports whether the event of that id is in the profile.
func (p *Profile) Has(eventID string) bool {
	return slices.ContainsFunc(p.entries, func(e *Entry) bool { return e.ID == eventID })
}

// codecVersion is the first byte of an encoded profile. A reader refuses what is newer than it knows.
const codecVersion = 1

// Encode returns the profile as bytes: version, table of kinds and connections, entries. Equal profiles give equal
// bytes.
func (p *Profile) Encode() []byte {
	size := 16
	for _, e := range p.entries {
		size += len(e.ID) + len(e.props) + len(e.traits) + 16
	}
	var few [8]string // an array of this function costs no memory
	names := p.names(few[:0])
	for _, n := range names {
		size += len(n) + 2
	}
	b := make([]byte, 0, size)
	b = append(b, codecVersion)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = appendString(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(p.entries)))
	var last int64
	var kind, connection int
	for _, e := range p.entries {
		b = binary.AppendVarint(b, e.at-last)
		last = e.at
		if names[kind] != e.Kind {
			kind, _ = slices.BinarySearch(names, e.Kind)
		}
		if names[connection] != e.Connection {
			connection, _ = slices.BinarySearch(names, e.Connection)
		}
		b = binary.AppendUvarint(b, uint64(kind))
		b = binary.AppendUvarint(b, uint64(connection))
		b = appendString(b, e.ID)
		b = appendString(b, e.props)
		b = appendString(b, e.traits)
	}
	return b
}

// names appends the kinds and connections of the entries, sorted.
func (p *Profile) names(names []string) []string {
	add := func(s string) {
		if i, ok := slices.BinarySearch(names, s); !ok {
			names = slices.Insert(names, i, s)
		}
	}
	var kind, connection string
	for i, e := range p.entries {
		if i == 0 || e.Kind != kind {
			add(e.Kind)
		}
		if i == 0 || e.Connection != connection {
			add(e.Connection)
		}
		kind, connection = e.Kind, e.Connection
	}
	return names
}

// DecodeProfile reads what Encode wrote; nil or empty bytes give an empty profile. It wraps hub.ErrInvalid for
// anything else, and never takes more memory than a small multiple of len(b).
func DecodeProfile(b []byte) (*Profile, error) {
	p := &Profile{}
	if len(b) == 0 {
		return p, nil
	}
	if b[0] != codecVersion {
		return nil, fmt.Errorf("facts: codec version %d, this release knows %d: %w", b[0], codecVersion, hub.ErrInvalid)
	}
	d := decoder{s: string(b[1:])}
	var few [8]string
	names := few[:0]
	for range d.count(1) {
		names = append(names, d.string())
	}
	n := d.count(6)
	block := make([]Entry, n)
	p.entries = make([]*Entry, n, n+4)
	var at int64
	for i := range block {
		e := &block[i]
		at += d.varint()
		e.at = at
		kind, connection := d.uvarint(), d.uvarint()
		e.ID, e.props, e.traits = d.string(), d.string(), d.string()
		if d.bad || kind >= uint64(len(names)) || connection >= uint64(len(names)) {
			return nil, fmt.Errorf("facts: entry %d of %d is damaged: %w", i, n, hub.ErrInvalid)
		}
		e.Kind, e.Connection = names[kind], names[connection]
		if i > 0 && compare(&block[i-1], e) >= 0 {
			return nil, fmt.Errorf("facts: entry %d of %d is out of order: %w", i, n, hub.ErrInvalid)
		}
		p.entries[i] = e
	}
	if d.bad || d.s != "" {
		return nil, fmt.Errorf("facts: %d bytes too many or too few: %w", len(d.s), hub.ErrInvalid)
	}
	return p, nil
}

// decoder reads varints and strings off the front of s; bad is set at the first that does not fit.
type decoder struct {
	s   string
	bad bool
}

func (d *decoder) uvarint() uint64 {
	u, n := uvarint(d.s)
	if n <= 0 {
		d.bad, d.s = true, ""
		return 0
	}
	d.s = d.s[n:]
	return u
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	x := int64(u >> 1)
	if u&1 != 0 {
		x = ^x
	}
	return x
}

func (d *decoder) string() string {
	head, rest, ok := cutString(d.s)
	if !ok {
		d.bad, d.s = true, ""
		return ""
	}
	d.s = rest
	return head
}

// count reads a number of things that take at least size bytes each, and refuses more than can follow.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.s)/size) {
		d.bad, d.s = true, ""
		return 0
	}
	return int(n)
}
