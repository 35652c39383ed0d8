package expression

import (
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// Base is what a value is.
type Base uint8

// The bases. Unknown is the type of what could not be checked, so that one mistake is reported once.
const (
	Unknown Base = iota
	Bool
	Number
	Text
	Duration // a length of time
	Elapsed  // the span since an instant up to the instant of evaluation: can only be compared
	Fading   // a score, which falls as time passes: can only be compared
	Instant  // a point in time
	Money
	Business // a length of business time, by a calendar: only the time since something compares with it
	List
	Entry  // an event in the customer's history
	Object // an order, ticket, deal, cart, subscription, task, company, referred customer
	Any    // a trait whose type nobody declared
	Nil
	namespace // customer, params, stages, …: only its members are values
)

var baseNames = [...]string{
	Unknown: "unknown", Bool: "true or false", Number: "a number", Text: "a text", Duration: "a duration",
	Elapsed: "the time since something", Fading: "a score", Instant: "a point in time", Money: "an amount of money", Business: "a length of business time", List: "a list",
	Entry: "an event", Object: "an object", Any: "a trait of unknown type", Nil: "nil", namespace: "a group of names",
}

// Type is the static type of an expression.
type Type struct {
	Base     Base
	Optional bool // may be nil
	Elem     *Type
	Kinds    *kindSet // of an Entry
	Object   string   // of an Object
	Enum     []string // of a Text: the only values it can have
	enum     string   // what one of Enum is called: "stage" where nothing is said
	Currency string   // of Money, where it is known
	clamped  bool     // of an Elapsed: never below zero
	fades    Base     // of a Fading: Number or Money
	name     string   // of a namespace
}

func (t Type) String() string {
	name := baseNames[t.Base]
	switch {
	case t.Base == List && t.Elem != nil:
		name = "a list of " + plural(t.Elem.Base)
	case t.Base == Entry && t.Kinds != nil && len(t.Kinds.kinds) == 1:
		name = "an event " + t.Kinds.kinds[0]
	case t.Base == Object && t.Object == "referred":
		name = "a referred customer"
	case t.Base == Object:
		name = "a" + map[bool]string{true: "n", false: ""}[t.Object == "order"] + " " + t.Object
	case t.Base == Money && t.Currency != "":
		name = "an amount in " + t.Currency
	}
	if t.Optional {
		name += " that may be missing"
	}
	return name
}

func plural(b Base) string {
	switch b {
	case Number:
		return "numbers"
	case Text:
		return "texts"
	case Money:
		return "amounts"
	case Entry:
		return "events"
	case Object:
		return "objects"
	case Bool:
		return "true or false"
	case Duration:
		return "durations"
	case Instant:
		return "points in time"
	}
	return "values"
}

func (t Type) sure() Type { t.Optional = false; return t }

func optional(t Type) Type { t.Optional = true; return t }

func listOf(t Type) Type { return Type{Base: List, Elem: &t} }

// same reports whether a value of one can stand where the other is wanted.
func same(a, b Type) bool {
	if a.Base == Unknown || b.Base == Unknown {
		return true
	}
	if a.Base != b.Base {
		return false
	}
	if a.Base == List && a.Elem != nil && b.Elem != nil {
		return same(*a.Elem, *b.Elem)
	}
	return true
}

// ofProperty returns the type of a property of the catalogue.
func ofProperty(p hub.PropertyType) Type {
	switch p {
	case hub.Number:
		return Type{Base: Number}
	case hub.Bool:
		return Type{Base: Bool}
	case hub.Time:
		return Type{Base: Instant}
	case hub.Amount:
		return Type{Base: Money}
	case hub.Texts:
		return listOf(Type{Base: Text})
	}
	return Type{Base: Text}
}

// kindSet is the kinds that a name in a rule stands for.
type kindSet struct {
	name     string
	kinds    []string // sorted
	standing bool     // order.paid without what was cancelled or fully refunded
	fields   map[string]hub.PropertyType
	clash    map[string]bool // fields that are of one type here, of another there
}

// set returns what name stands for: a kind, a group or "any"; nil where it is none of them.
func set(kinds *hub.Kinds, name string) *kindSet {
	s := &kindSet{name: name}
	if k, ok := kinds.Lookup(name); ok {
		s.kinds, s.fields = []string{name}, k.Properties
		return s
	}
	if name != "any" && !slices.Contains(hub.Groups, name) {
		return nil
	}
	if s.kinds = kinds.Of(name); len(s.kinds) == 0 {
		return nil
	}
	s.fields, s.clash = map[string]hub.PropertyType{}, map[string]bool{}
	for _, k := range s.kinds {
		kind, _ := kinds.Lookup(k)
		for f, t := range kind.Properties {
			if before, ok := s.fields[f]; ok && before != t {
				s.clash[f] = true
			}
			s.fields[f] = t
		}
	}
	return s
}

// kindNames returns every name that set understands.
func kindNames(kinds *hub.Kinds) []string {
	names := append([]string{"any"}, hub.Groups...)
	return append(names, kinds.Of("any")...)
}

// closest returns the candidate that name was probably meant to be, or "".
func closest(name string, candidates []string) string {
	best, limit := "", max(1, min(3, len(name)/3))+1
	lower := strings.ToLower(name)
	for _, c := range candidates {
		if c == name {
			continue
		}
		if d := distance(lower, strings.ToLower(c), limit); d < limit {
			best, limit = c, d
		}
	}
	return best
}

// Closest returns the candidate that name was probably meant to be, or "".
func Closest(name string, candidates []string) string { return closest(name, candidates) }

// distance is the number of letters to add, drop, change or swap, at most limit.
func distance(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if d := len(x) - len(y); d >= limit || -d >= limit {
		return limit
	}
	var before, last []int // the rows of x[:i-2] and x[:i-1]
	last = make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row := make([]int, len(y)+1)
		row[0] = i
		least := i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
		before, last = last, row
	}
	return min(last[len(y)], limit)
}
