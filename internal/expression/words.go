package expression

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// Word is something that can stand in an expression, with what there is to know of it: for editors.
type Word struct {
	Name, Doc string
}

// Names are the words that stand for a value by themselves or begin one, beside functions, parameters and named conditions.
func Names() []Word {
	words := []Word{
		{"customer", "The customer: customer.country, customer.tags, customer.traits.plan."},
		{"params", "The model's parameters: params.lost_after."},
		{"stages", "The stage in another model: stages.clc."},
		{"fields", "Fields of your own, declared in the configuration: fields.plan."},
		{"stage", "The present stage. It makes the model path dependent."},
		{"stage_age", "How long the present stage has lasted. It makes the model path dependent."},
	}
	for _, object := range []string{"orders", "tickets", "deals", "carts", "subscriptions", "tasks"} {
		words = append(words, Word{object, "The customer's " + object + " as they are now: any(" + object + ", .open)."})
	}
	return append(words, Word{"and", "Both hold."}, Word{"or", "At least one holds."}, Word{"not", "It does not hold."},
		Word{"in", `One of a list: customer.country in ["DE", "AT"].`})
}

// KindWords are the event kinds and groups.
func KindWords(kinds *hub.Kinds) []Word {
	words := []Word{{"any", "Every event."}}
	for _, group := range hub.Groups {
		words = append(words, Word{group, "Every event of: " + strings.Join(kinds.Of(group), ", ") + "."})
	}
	for _, kind := range kinds.All() {
		var has []string
		for name, t := range kind.Properties {
			has = append(has, fmt.Sprintf(".%s (%s)", name, t))
		}
		slices.Sort(has)
		words = append(words, Word{kind.Name, strings.TrimSpace("An event of group " + kind.Group + ". " + strings.Join(has, ", "))})
	}
	return words
}

// FieldWords are what can follow a dot: of the customer ("customer"), of a kind or group inside a predicate, of a list of objects
// ("tickets"). Nil for anything else.
func FieldWords(of string, kinds *hub.Kinds) []Word {
	var fields []*field
	switch {
	case of == "customer":
		fields = customerFields
	case set(kinds, of) != nil:
		for _, f := range fieldsOf(Type{Base: Entry, Kinds: set(kinds, of)}, kinds) {
			fields = append(fields, f)
		}
	case slices.Contains([]string{"orders", "tickets", "deals", "carts", "subscriptions", "tasks"}, of):
		for _, f := range fieldsOf(Type{Base: Object, Object: strings.TrimSuffix(of, "s")}, kinds) {
			fields = append(fields, f)
		}
	}
	var words []Word
	for _, f := range fields {
		words = append(words, Word{f.name, strings.TrimSuffix(cmp.Or(f.doc, "as the events tell it"), ".") + ": " + f.typ.String() + "."})
	}
	slices.SortFunc(words, func(a, b Word) int { return strings.Compare(a.Name, b.Name) })
	return words
}
