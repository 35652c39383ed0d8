package fact

import (
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Trait is the value of one attribute that won, and where it came from.
type Trait struct {
	Value      any // string, float64, bool or []string
	Connection string
	At         time.Time

	eventID string
}

// Traits returns the current traits by name: of each the latest At wins, ties go to the greater event id. A trait
// whose latest value is nil is absent. Do not change the map.
func (f *Facts) Traits() map[string]Trait {
	if f.of != nil {
		return f.of.full.Traits()
	}
	if f.traits != nil {
		return f.traits
	}
	won := map[string]Trait{}
	for _, e := range f.entries {
		for raw := e.traits; raw != ""; {
			name, at, v, rest, ok := nextTrait(raw)
			if !ok {
				break
			}
			raw = rest
			before, seen := won[name]
			if ms := before.At.UnixMilli(); seen && (ms > at || ms == at && before.eventID >= e.ID) {
				continue
			}
			won[name] = Trait{Value: v.any(), Connection: e.Connection, At: time.UnixMilli(at).UTC(), eventID: e.ID}
		}
	}
	for name, t := range won {
		if t.Value == nil {
			delete(won, name)
		}
	}
	f.traits = won
	return won
}

// nextTrait reads one trait off the front of raw: its name, when it was so in milliseconds, and its value.
func nextTrait(raw string) (name string, at int64, v value, rest string, ok bool) {
	if name, rest, ok = cutString(raw); !ok {
		return name, 0, v, "", false
	}
	d := decoder{s: rest}
	if at = d.varint(); d.bad || d.s == "" {
		return name, 0, v, "", false
	}
	v.tag = d.s[0]
	v.raw, rest, ok = cutString(d.s[1:])
	return name, at, v, rest, ok
}

// trait returns what Traits has of that name, without making it for all the others.
func (f *Facts) trait(name string) (v value, at int64, eventID string) {
	if f.of != nil {
		f = f.of.full
	}
	for _, e := range f.entries {
		for raw := e.traits; raw != ""; {
			n, ms, found, rest, ok := nextTrait(raw)
			if !ok {
				break
			}
			if raw = rest; n == name && (eventID == "" || ms > at || ms == at && e.ID > eventID) {
				v, at, eventID = found, ms, e.ID
			}
		}
	}
	return v, at, eventID
}

// Text returns a trait that is a text, "" without one.
func (f *Facts) Text(trait string) string {
	if whole := f.Whole(); whole.traits != nil {
		s, _ := whole.traits[trait].Value.(string)
		return s
	}
	v, _, _ := f.trait(trait)
	s, ok := v.text()
	if !ok {
		return ""
	}
	return s
}

// Name returns the customer's name: the trait name, else first_name and last_name, else "".
func (f *Facts) Name() string {
	if name := f.Text("name"); name != "" {
		return name
	}
	first, last := f.Text("first_name"), f.Text("last_name")
	if first == "" || last == "" {
		return first + last
	}
	return first + " " + last
}

// Email returns the trait email, else an address that identifies the customer (where those are known), else "".
func (f *Facts) Email() string { return f.address("email", hub.IdentifierEmail) }

// Tags returns the customer's tags, sorted: the newest list that a system gave as trait "tags", changed by the
// tag.added and tag.removed events after it.
func (f *Facts) Tags() []string {
	var tags []string
	var since int64
	var sinceID string
	v, at, eventID := f.trait("tags")
	list, ok := v.texts()
	if ok {
		tags, since, sinceID = list, at, eventID
	}
	added, removed := f.Kind("tag.added"), f.Kind("tag.removed")
	for len(added)+len(removed) > 0 {
		var e *Entry
		isAdded := len(removed) == 0 || len(added) > 0 && compare(added[0], removed[0]) < 0
		if isAdded {
			e, added = added[0], added[1:]
		} else {
			e, removed = removed[0], removed[1:]
		}
		if ok && (e.at < since || e.at == since && e.ID <= sinceID) {
			continue
		}
		list, _ := e.Texts("tags")
		for _, tag := range list {
			if isAdded {
				tags = append(tags, tag)
			} else {
				tags = slices.DeleteFunc(tags, func(s string) bool { return s == tag })
			}
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// Consent returns the state of each channel as consent.changed last told it ("granted", "withdrawn", …).
func (f *Facts) Consent() map[string]string {
	out := map[string]string{}
	for _, e := range f.Kind("consent.changed") {
		channel, ok := e.Text("channel")
		if !ok {
			continue
		}
		if state, ok := e.Text("state"); ok {
			out[channel] = state
		}
	}
	return out
}
