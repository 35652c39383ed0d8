package lifecycle

import (
	"slices"
	"strings"
)

// Key is one key that a mapping of a model's or reactions' file may have. The loader, the JSON Schema and the completion
// of editors all read the same table, so they cannot drift apart.
type Key struct {
	Name, Doc string
	Takes     Takes
	// Of is the form of what is inside, a key of the table: for a list that of its items. "" where it is a plain value.
	Of     string
	Needed bool
	Later  bool     // in the language, not done by this release
	Values []string // the only values there are
}

// Takes is what a key's value is.
type Takes string

// What keys take.
const (
	TakesText       Takes = "text"
	TakesTexts      Takes = "texts"    // one or a list of them
	TakesTemplate   Takes = "template" // a text with ${expressions}
	TakesExpression Takes = "expression"
	TakesCondition  Takes = "condition" // an expression that is true or false
	TakesDuration   Takes = "duration"
	TakesInstant    Takes = "instant"
	TakesMoment     Takes = "moment" // an instant, or a span after the line before: +3d
	TakesFlag       Takes = "flag"
	TakesShare      Takes = "share"
	TakesCount      Takes = "count"
	TakesStage      Takes = "stage"  // the name of one of the model's stages
	TakesStages     Takes = "stages" // one or a list of them
	TakesLabels     Takes = "labels" // texts by language
	TakesMap        Takes = "map"    // a mapping with the keys of Of
	TakesList       Takes = "list"   // a list of such mappings
	TakesNames      Takes = "names"  // a mapping of names of the author's own, to values of the form Of
	TakesAny        Takes = "any"
)

// Forms of the mappings in a model's file, by what they are.
const (
	FormModel     = "model"
	FormStage     = "stage"
	FormTarget    = "target"
	FormRule      = "rule"
	FormTest      = "test"
	FormEvent     = "event"
	FormExpect    = "expect"
	FormPin       = "pin"
	FormScores    = "scores"
	FormNext      = "next"
	FormMove      = "transition"
	FormReactions = "reactions"
	FormReaction  = "reaction"
	FormStep      = "step"
	FormDue       = "due"
	FormCalendar  = "calendar"
)

// formParam and formCondition are the forms of single values under params: and define:.
const (
	formParam     = "param"
	formCondition = "named condition"
)

var forms = map[string][]Key{
	FormModel: {
		{Name: "model", Takes: TakesText, Needed: true, Doc: "The model's name: small letters, digits, _ and -."},
		{Name: "of", Takes: TakesText, Values: []string{"customer", "company", "deal"}, Doc: "Whose stage it is; customer where it is left out."},
		{Name: "labels", Takes: TakesLabels, Doc: "What people call the model, by language: {en: Customer life cycle}."},
		{Name: "zone", Takes: TakesText, Doc: "The time zone of weekday(), hour() and business_hours(): Europe/Berlin, or customer for each customer's own; the configuration's where it is left out."},
		{Name: "calendar", Takes: TakesAny, Doc: "What business_hours() counts by: the name of a calendar of the configuration, or one written out: {days: mon-fri, hours: 09:00-17:00}."},
		{Name: "params", Takes: TakesNames, Of: formParam, Doc: "Values that are overridden where the model is used: numbers, texts, durations such as 180d, amounts such as 40 EUR. Conditions name them params.<name>."},
		{Name: "stages", Takes: TakesList, Of: FormStage, Needed: true, Doc: "The stages in the order of the journey."},
		{Name: "define", Takes: TakesNames, Of: formCondition, Doc: "Named conditions, usable in decide and in reactions."},
		{Name: "decide", Takes: TakesList, Of: FormRule, Needed: true, Doc: "The rules: tried from the top, the first that holds wins. The last line is otherwise."},
		{Name: "tests", Takes: TakesList, Of: FormTest, Doc: "Customers made up for the purpose, and where they must stand."},
	},
	FormCalendar: {
		{Name: "zone", Takes: TakesText, Doc: "The zone of its clocks; the model's where it is left out."},
		{Name: "days", Takes: TakesTexts, Doc: "The days that are open: mon-fri, or a list."},
		{Name: "hours", Takes: TakesTexts, Doc: "The hours that are open: 09:00-17:00, or a list."},
		{Name: "holidays", Takes: TakesTexts, Doc: "Days that are closed all the same: [2026-12-25]."},
	},
	FormStage: {
		{Name: "name", Takes: TakesText, Needed: true, Doc: "The stage's name: small letters, digits, _ and -."},
		{Name: "labels", Takes: TakesLabels, Doc: "What people call the stage, by language: {en: Lost, zh: 流失客户}."},
		{Name: "asks", Takes: TakesText, Doc: "What the stage asks of the business."},
		{Name: "target", Takes: TakesMap, Of: FormTarget, Doc: "The stage's own success check: which share of customers goes on to which stage in time."},
		{Name: "dwell", Takes: TakesDuration, Doc: "Once entered, no rule leads out before that long, but to a stage in yields_to."},
		{Name: "yields_to", Takes: TakesStages, Doc: "Stages that may be entered before dwell is over."},
		{Name: "terminal", Takes: TakesFlag, Doc: "Only a rule with from: naming the stage leads out."},
	},
	FormTarget: {
		{Name: "to", Takes: TakesStage, Needed: true, Doc: "The stage that customers are to reach."},
		{Name: "within", Takes: TakesDuration, Needed: true, Doc: "How long they have."},
		{Name: "share", Takes: TakesShare, Needed: true, Doc: "How many of them: 0.3 for 30 %."},
	},
	FormRule: {
		{Name: "stage", Takes: TakesStage, Doc: "The stage that the rule leads to."},
		{Name: "when", Takes: TakesCondition, Doc: "The condition. Write it on a line of its own, not inside { }."},
		{Name: "from", Takes: TakesStages, Doc: "The rule is skipped unless the present stage is one of these."},
		{Name: "after", Takes: TakesDuration, Doc: "The condition must have held without a break that long."},
		{Name: "cooldown", Takes: TakesDuration, Doc: "Not entered by this rule again within that time of having left the stage."},
		{Name: "otherwise", Takes: TakesStage, Doc: "The last line: the stage where no rule holds, or stay."},
	},
	FormTest: {
		{Name: "name", Takes: TakesText, Needed: true, Doc: "What the test shows, as a sentence."},
		{Name: "start", Takes: TakesInstant, Doc: "Where the clock stands at first; 2026-01-01 where neither it nor the first event has a date."},
		{Name: "until", Takes: TakesMoment, Doc: "How long the test looks on; else to the last instant it names."},
		{Name: "params", Takes: TakesNames, Of: formParam, Doc: "The model's parameters in this test."},
		{Name: "traits", Takes: TakesAny, Doc: "What is known of the customer from her first event on: {plan: pro}."},
		{Name: "stages", Takes: TakesNames, Of: "", Doc: "The stage in other models, throughout: {clc: lost}, or by time: {clc: [{stage: new}, {at: +30d, stage: lost}]}."},
		{Name: "scores", Takes: TakesAny, Of: FormScores, Doc: "What is calculated of the customer, throughout: {active: 0.8, value: 120 EUR}, or by time, as a list with at."},
		{Name: "identifiers", Takes: TakesNames, Of: "", Doc: "What identifies the customer: {email: ada@example.com}."},
		{Name: "pins", Takes: TakesList, Of: FormPin, Doc: "What a person decides."},
		{Name: "events", Takes: TakesList, Of: FormEvent, Doc: "What happens to the customer."},
		{Name: "expect", Takes: TakesList, Of: FormExpect, Doc: "Where the customer must stand, and when. A test has this, transitions or walk."},
		{Name: "transitions", Takes: TakesList, Of: FormMove, Doc: "All moves, in order, and no others; [] for none."},
		{Name: "walk", Takes: TakesStages, Doc: "The stages passed, the first one included, and no others."},
	},
	FormPin: {
		{Name: "at", Takes: TakesMoment, Needed: true, Doc: "When the person decides."},
		{Name: "stage", Takes: TakesStage, Doc: "The stage that the customer is put in."},
		{Name: "until", Takes: TakesMoment, Doc: "How long it holds; else until it is released."},
		{Name: "by", Takes: TakesText, Doc: "Who decides."},
		{Name: "why", Takes: TakesText, Doc: "The reason given."},
		{Name: "release", Takes: TakesFlag, Doc: "The rules decide again."},
	},
	FormScores: {
		{Name: "at", Takes: TakesMoment, Doc: "From when on, in a list; the first may hold from the beginning."},
		{Name: "active", Takes: TakesAny, Doc: "The probability that the customer still buys, 0 to 1."},
		{Name: "expected_orders", Takes: TakesAny, Doc: "How many orders are expected."},
		{Name: "value", Takes: TakesAny, Doc: "What they are expected to be worth: 120 EUR."},
		{Name: "recency", Takes: TakesCount, Doc: "The fifth of all customers she is in, 1 to 5."},
		{Name: "frequency", Takes: TakesCount, Doc: "The fifth of all customers she is in, 1 to 5."},
		{Name: "monetary", Takes: TakesCount, Doc: "The fifth of all customers she is in, 1 to 5."},
	},
	FormEvent: {
		{Name: "at", Takes: TakesMoment, Needed: true, Doc: "When it happens: 2026-01-01T10:00:00Z, or +3d after the event before."},
		{Name: "kind", Takes: TakesText, Needed: true, Doc: "What happens: order.paid, ticket.opened. The other keys are the kind's own."},
		{Name: "connection", Takes: TakesText, Doc: "The system that tells it; test where it is left out."},
		{Name: "traits", Takes: TakesAny, Doc: "What becomes known of the customer: {plan: pro}."},
		{Name: "times", Takes: TakesCount, Doc: "How often it happens, with every."},
		{Name: "every", Takes: TakesDuration, Doc: "How far apart, with times."},
		{Name: "late", Takes: TakesDuration, Doc: "How long after it happened it becomes known."},
		{Name: "expect", Takes: TakesAny, Doc: "The stage right after it, or a map as in expect: without at."},
	},
	FormExpect: {
		{Name: "at", Takes: TakesMoment, Needed: true, Doc: "The instant that is looked at: a time, or +3d after the line before; the first counts from the last event."},
		{Name: "stage", Takes: TakesStage, Doc: "The stage the customer must be in then."},
		{Name: "from", Takes: TakesStage, Doc: "She leaves this stage at that very instant."},
		{Name: "to", Takes: TakesStage, Doc: "She enters this stage at that very instant."},
		{Name: "wakes_at", Takes: TakesMoment, Doc: "When the model is asked again by silence alone, or never."},
		{Name: "next", Takes: TakesAny, Of: FormNext, Doc: "The next move by silence alone: {at: +10d, to: lost}, lost, or never."},
		{Name: "because", Takes: TakesTexts, Doc: "Texts that the sentence must have which says why."},
		{Name: "nearest", Takes: TakesTexts, Doc: "Texts that the nearest changes must have, told as explain tells them: \"active: one more order.paid\"."},
		{Name: "clauses", Takes: TakesAny, Doc: "What conditions, or parts of them as they are written, come to: {regular: true}."},
	},
	FormNext: {
		{Name: "at", Takes: TakesMoment, Doc: "When she moves."},
		{Name: "to", Takes: TakesStage, Doc: "The stage she moves to."},
	},
	FormMove: {
		{Name: "at", Takes: TakesMoment, Doc: "When: a time, or +3d after the move before; the first counts from the first event."},
		{Name: "from", Takes: TakesStage, Doc: "The stage that is left."},
		{Name: "to", Takes: TakesStage, Needed: true, Doc: "The stage that is entered."},
		{Name: "because", Takes: TakesTexts, Doc: "Texts that the sentence must have which says why."},
	},
	FormReactions: {
		{Name: "reactions", Takes: TakesList, Of: FormReaction, Needed: true, Doc: "The reactions."},
	},
	FormReaction: {
		{Name: "name", Takes: TakesText, Needed: true, Doc: "Its name, once in the file."},
		{Name: "enter", Takes: TakesText, Doc: "The stage whose entering sets it off: clc.lost."},
		{Name: "if", Takes: TakesCondition, Doc: "A condition that must hold at that moment."},
		{Name: "do", Takes: TakesList, Of: FormStep, Needed: true, Doc: "What is done: actions, in order."},
		{Name: "leave", Takes: TakesText, Later: true, Doc: "The stage whose leaving sets it off."},
		{Name: "event", Takes: TakesText, Later: true, Doc: "The event kind that sets it off."},
		{Name: "becomes", Takes: TakesCondition, Later: true, Doc: "The condition whose turning true sets it off."},
		{Name: "existing", Takes: TakesText, Later: true, Values: []string{"skip", "apply"}, Doc: "What is done about customers who match already when this is first published."},
		{Name: "limit", Takes: TakesAny, Later: true, Doc: "How often: {per_customer: 1/90d, total: 200/1h, over: hold}."},
		{Name: "holdout", Takes: TakesText, Later: true, Doc: "The share left alone on purpose, to know whether it works."},
		{Name: "goal", Takes: TakesAny, Later: true, Doc: "What it is to bring about: {event: order.paid, within: 30d}."},
		{Name: "wait", Takes: TakesAny, Later: true, Doc: "How long to wait before asking again and doing it."},
		{Name: "unless", Takes: TakesCondition, Later: true, Doc: "A condition that keeps it from being done."},
	},
	FormDue: {
		{Name: "days", Takes: TakesCount, Doc: "Days from now."},
		{Name: "business_days", Takes: TakesCount, Doc: "Days from Monday to Friday."},
		{Name: "hours", Takes: TakesCount, Doc: "Hours from now."},
		{Name: "minutes", Takes: TakesCount, Doc: "Minutes from now."},
		{Name: "at", Takes: TakesText, Doc: `The time of that day: "17:00".`},
		{Name: "zone", Takes: TakesText, Doc: "The zone of at: Europe/Berlin."},
		{Name: "calendar", Takes: TakesText, Later: true, Doc: "The calendar that business days are counted by."},
	},
}

// Keys returns the keys of a form, in the order of the documentation; nil for a form there is not. The form of an action's
// parameters has the action's name.
func Keys(form string) []Key {
	if keys, ok := forms[form]; ok {
		return keys
	}
	if form == FormStep {
		return stepKeys()
	}
	return actionKeys(form)
}

// keysOf returns the names of a form's keys.
func keysOf(form string) []string {
	keys := Keys(form)
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	return names
}

// needs tells what a key that is missing is for.
func needs(form, key string) string {
	for _, k := range Keys(form) {
		if k.Name == key {
			first, _, _ := strings.Cut(k.Doc, ". ")
			return key + ": " + strings.ToLower(first[:1]) + strings.TrimSuffix(first[1:], ".")
		}
	}
	return ""
}

// laterOf returns the names of the keys that the form has and this release does not do.
func laterOf(form string) []string {
	var names []string
	for _, k := range Keys(form) {
		if k.Later {
			names = append(names, k.Name)
		}
	}
	return names
}

// stepKeys are the actions.
func stepKeys() []Key {
	var out []Key
	for _, name := range actionNames() {
		k := Key{Name: name, Takes: TakesMap, Of: name, Doc: actionDocs[name]}
		if k.Later = slices.Contains(laterActions, name); k.Later {
			k.Takes, k.Of = TakesAny, ""
		}
		out = append(out, k)
	}
	return append(out, Key{Name: "as", Takes: TakesText, Later: true, Doc: "The name that later steps call this step's result by."})
}

// actionKeys are the parameters of an action; nil for an action there is not.
func actionKeys(action string) []Key {
	a, ok := actions[action]
	if !ok {
		return nil
	}
	out := []Key{{Name: "via", Takes: TakesText, Needed: true, Doc: "The connection of the configuration that does it."}}
	for _, name := range a.texts {
		out = append(out, Key{Name: name, Takes: TakesTemplate, Needed: slices.Contains(a.needed, name), Doc: parameterDocs[name]})
	}
	switch action {
	case "create_task":
		out = append(out,
			Key{Name: "key", Takes: TakesTemplate, Doc: "At most one open task per customer and key."},
			Key{Name: "due", Takes: TakesAny, Of: FormDue, Doc: "When it is due: 3d, or {business_days: 2, at: \"17:00\"}."})
	case "set_fields":
		out = append(out, Key{Name: "fields", Takes: TakesNames, Needed: true, Doc: "The fields and their values, by the vendor's names."})
	}
	for _, name := range a.later {
		out = append(out, Key{Name: name, Takes: TakesAny, Later: true, Doc: parameterDocs[name]})
	}
	return out
}

var actionDocs = map[string]string{
	"create_task": "Opens a task for a person.",
	"create_note": "Writes a note to the customer's record.",
	"add_tag":     "Adds a tag to the customer's record.",
	"remove_tag":  "Takes a tag off the customer's record.",
	"set_fields":  "Keeps fields of the customer's record at these values.",
}

var parameterDocs = map[string]string{
	"subject": "The task's title.", "note": "What there is to know, such as ${explanation}.", "priority": "The vendor's word for it.",
	"type": "The vendor's word for it.", "text": "What the note says.", "tag": "The tag.",
	"assign": "Whose task it is.", "if_open": "What to do where one is open already.", "close": "When it closes by itself.", "overdue": "What happens once it is late.",
}
