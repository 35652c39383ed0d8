package lifecycle

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// atom is one thing that a clause suggests to change: a fixed part, one that comes in sizes, or a score.
type atom struct {
	part   part
	scale  func(n int) part
	limit  int
	scores []part // from the lowest score to the highest
	metric string
}

// usual are the kinds that stand for a group where one of it has to happen.
var usual = map[string]string{
	hub.GroupPerson: "customer.updated", hub.GroupSales: "order.placed", hub.GroupService: "message.received", hub.GroupVoice: "review.posted",
	hub.GroupAttention: "email.opened", hub.GroupReward: "points.changed", hub.GroupStage: "stage.set", hub.GroupSystem: "app.uninstalled",
	"any": "page.viewed",
}

// verbs are what can happen to an object, its making first.
var verbs = map[string][]string{
	"order":        {"placed", "paid", "fulfilled", "cancelled", "refunded", "updated"},
	"ticket":       {"opened", "solved", "reopened", "updated", "deleted"},
	"deal":         {"created", "stage_changed", "won", "lost", "updated", "deleted"},
	"cart":         {"updated", "abandoned"},
	"subscription": {"started", "renewed", "paused", "cancelled"},
	"task":         {"created", "completed", "overdue"},
}

// surveyScales are the least and the greatest score of a metric.
var surveyScales = map[string][2]int{"nps": {0, 10}, "csat": {1, 5}, "ces": {1, 7}}

// Bounds on what one clause suggests.
const (
	maxVariants = 12
	maxObjects  = 4
	maxCents    = 1 << 31
)

// atoms returns what a leaf suggests to change.
func (s *search) atoms(c *expression.Clause) []atom {
	looks := c.Looks()
	var out []atom
	for _, l := range looks.Lists {
		if l.Object == "" {
			out = append(out, s.happenings(l, looks)...)
		} else {
			out = append(out, s.objects(l.Object, looks)...)
		}
	}
	for _, survey := range looks.Surveys {
		out = append(out, scores(survey.Name))
	}
	for _, spent := range looks.Spent {
		out = append(out, spending(spent.Name))
	}
	if len(looks.Spent) > 0 || slices.ContainsFunc(looks.Lists, func(l *expression.Looked) bool { return l.Standing }) {
		out = append(out, s.refunds()...)
	}
	for _, name := range looks.Traits {
		out = append(out, s.trait(name, looks)...)
	}
	for _, channel := range looks.Consents {
		for _, state := range append(values(looks, expression.OfConsent, channel), "granted", "withdrawn") {
			if text, ok := state.(string); ok && text != "" {
				out = append(out, fixed(event("consent.changed", map[string]any{"channel": channel, "state": text}), "consent for "+channel+" "+text))
			}
		}
	}
	for _, channel := range looks.Channels {
		on := map[string]any{"channel": channel}
		out = append(
			out, fixed(event("social.followed", on), "follows on "+channel), fixed(event("social.unfollowed", on), "no longer follows on "+channel),
			fixed(event("message.received", on), "a message by "+channel), fixed(event("message.sent", on), "a message sent by "+channel),
			fixed(event("consent.changed", map[string]any{"channel": channel, "state": "granted"}), "consent for "+channel+" granted"),
			fixed(event("consent.changed", map[string]any{"channel": channel, "state": "withdrawn"}), "consent for "+channel+" withdrawn"),
		)
	}
	if looks.Tags {
		for _, tag := range append(values(looks, expression.OfTags, ""), "new") {
			if text, ok := tag.(string); ok && text != "" {
				tags := map[string]any{"tags": []string{text}}
				out = append(out, fixed(event("tag.added", tags), "tag "+text+" added"), fixed(event("tag.removed", tags), "tag "+text+" removed"))
			}
		}
	}
	for _, model := range looks.Models {
		for _, stage := range s.m.env.Models[model].Stages {
			if stage != s.stages[model] {
				out = append(out, atom{part: part{model: model, stage: stage, words: "stage " + stage + " in " + model, shape: "stage in " + model, cost: 2}})
			}
		}
	}
	return out
}

// NowhereYet is the connection of an event of a change that would be news from whatever system.
const NowhereYet = "anywhere"

func event(kind string, properties map[string]any) hub.Event {
	return hub.Event{Kind: kind, Connection: NowhereYet, Properties: properties}
}

func fixed(ev hub.Event, words string) atom {
	return atom{part: part{events: []hub.Event{ev}, words: words, shape: words, cost: 1.2}}
}

// happenings are events of a kind, once or more often, with the values that the clause asks for.
func (s *search) happenings(l *expression.Looked, looks *expression.Looks) []atom {
	name := l.Name
	more := len(s.f.Kind(name)) > 0
	such := ""
	if len(l.Kinds) != 1 || l.Kinds[0] != name {
		kind := usual[name]
		if list := s.f.Set(name, l.Kinds); len(list) > 0 {
			kind, more = list[len(list)-1].Kind, true
		}
		such, name = name+" event (such as "+kind+")", kind
		if l.Name == "any" {
			such = "event (such as " + kind + ")"
		}
	}
	kind, ok := s.m.env.Kinds.Lookup(name)
	if !ok {
		return nil
	}
	var out []atom
	tried := variants(kind, looks, l.Predicate)
	if kind.Name == "survey.answered" {
		metrics := values(looks, expression.OfField, "metric")
		for _, metric := range metrics { // an answer has a score
			if text, ok := metric.(string); ok && text != "" {
				out = append(out, scores(text))
			}
		}
		if len(metrics) > 0 {
			return out
		}
	}
	for i, properties := range tried {
		named := name
		if such != "" {
			named = such
		}
		plain := ""
		if len(properties) == 0 {
			plain = named
		} else {
			named += " with " + listed(properties)
		}
		connection, _ := properties["connection"].(string)
		delete(properties, "connection")
		make := func(n int) part {
			p := part{plain: plain, more: more, shape: kind.Name, words: howMany(n, more) + " " + named, cost: float64(n) + 0.1*float64(len(properties)) + 0.01*float64(i)}
			for j := range n {
				ev := event(kind.Name, map[string]any{})
				maps.Copy(ev.Properties, properties)
				if connection != "" {
					ev.Connection = connection
				}
				if deal := s.f.Subject(); deal != nil && kind.Object == deal.Kind {
					ev.Properties["id"], ev.Connection = deal.ID, deal.Connection
				} else if kind.Object != "" {
					ev.Properties["id"] = fmt.Sprintf("new-%d", j+1)
				}
				p.events = append(p.events, ev)
			}
			return p
		}
		out = append(out, atom{scale: make, limit: maxCount}, atom{part: make(1)})
		// A number that is added up, or an amount.
		for _, field := range looks.Fields {
			t := kind.Properties[field]
			if t != hub.Number && t != hub.Amount || len(properties) > 0 && properties[field] == nil {
				continue
			}
			currency := ""
			for _, v := range looks.Compared {
				if m, ok := v.Value.(hub.Money); ok {
					currency = m.Currency
				}
			}
			if t == hub.Amount && currency == "" {
				continue
			}
			out = append(out, atom{limit: maxCents, scale: func(n int) part {
				var value any = float64(n)
				if t == hub.Amount {
					value = cents(n, currency)
				}
				p := make(1)
				p.plain = ""
				p.events[0].Properties[field] = value
				p.words = fmt.Sprintf("%s %s with %s", howMany(1, more), kind.Name, listed(map[string]any{field: value}))
				return p
			}})
		}
	}
	if kind.Object == "order" && (slices.Contains(looks.Fields, "refunded") || slices.Contains(looks.Fields, "cancelled")) {
		for _, verb := range [...]string{"refunded", "cancelled"} {
			id := map[string]any{"id": "new-1"}
			out = append(out, atom{part: part{
				events: []hub.Event{event(kind.Name, id), event("order."+verb, id)}, words: "one more " + kind.Name + ", then order." + verb, shape: kind.Name, cost: 2.2,
			}})
		}
	}
	return out
}

// variants are the properties to try on an event: none, all that the clause asks for, and each of them the other way.
// The connection is among them where a clause asks for one.
func variants(kind hub.Kind, looks *expression.Looks, predicate bool) []map[string]any {
	out := []map[string]any{{}}
	if !predicate && len(looks.Fields) == 0 {
		return out
	}
	right := map[string]any{}
	var others []map[string]any
	for _, v := range looks.Compared {
		if v.Of != expression.OfField || v.Name == "id" {
			continue
		}
		if _, known := kind.Properties[v.Name]; !known && v.Name != "connection" {
			continue
		}
		yes, no := fitting(v, true), fitting(v, false)
		if kind.Properties[v.Name] == hub.Texts {
			yes, no = texts(yes), texts(no)
		}
		if have, ok := right[v.Name]; ok && have != nil {
			others = append(others, map[string]any{v.Name: yes}, map[string]any{v.Name: no})
			continue
		}
		if yes != nil {
			right[v.Name] = yes
		}
		others = append(others, map[string]any{v.Name: no})
	}
	for _, name := range slices.Sorted(maps.Keys(right)) {
		if len(right) > 1 && len(out) < maxVariants/2 {
			out = append(out, map[string]any{name: right[name]})
		}
	}
	if len(right) > 0 {
		out = append(out, right)
	}
	for _, other := range others {
		changed := map[string]any{}
		maps.Copy(changed, right)
		for key, v := range other {
			if v == nil {
				delete(changed, key)
			} else {
				changed[key] = v
			}
		}
		if len(changed) > 0 && len(out) < maxVariants {
			out = append(out, changed)
		}
	}
	return out
}

func texts(v any) any {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	return v
}

// fitting returns a value for which the comparison holds, or does not; nil where there is none to be had.
func fitting(v expression.Compared, holds bool) any {
	up := v.Op == ">" && holds || v.Op == "<=" && !holds || v.Op == "!=" && holds || v.Op == "==" && !holds
	down := v.Op == "<" && holds || v.Op == ">=" && !holds
	switch x := v.Value.(type) {
	case float64:
		switch {
		case up:
			return x + 1
		case down:
			return x - 1
		}
		return x
	case hub.Money:
		step := 0
		if up {
			step = 1
		} else if down {
			step = -1
		}
		if step == 0 {
			return x
		}
		d, err := x.Amount.Add(cents(step, x.Currency).Amount)
		if err != nil {
			return nil
		}
		return hub.Money{Amount: d, Currency: x.Currency}
	case time.Time:
		switch {
		case up:
			return x.Add(time.Second)
		case down:
			return x.Add(-time.Second)
		}
		return x
	case bool:
		if v.Op == "!=" {
			return x != holds
		}
		return x == holds
	case string:
		if (v.Op == "!=") == holds {
			return "other"
		}
		return x
	}
	return nil
}

// cents is n of the smallest unit of a currency.
func cents(n int, currency string) hub.Money {
	scale := 2
	if slices.Contains([]string{"JPY", "KRW", "VND", "CLP", "ISK", "UGX", "XAF", "XOF", "XPF", "PYG", "RWF", "KMF", "GNF", "DJF", "BIF", "VUV"}, currency) {
		scale = 0
	}
	d, err := decimal.New(int64(n), scale)
	if err != nil {
		return hub.Money{}
	}
	if n%100 == 0 {
		d = d.Trim(0) // 50 EUR, but 49.90 EUR
	}
	return hub.Money{Amount: d, Currency: currency}
}

// listed says properties: "amount 50 EUR, type complaint".
func listed(properties map[string]any) string {
	var out []string
	for name, v := range properties {
		text := ""
		switch v := v.(type) {
		case time.Time:
			text = v.Format(time.RFC3339)
		default:
			text = expression.Format(v)
		}
		out = append(out, name+" "+text)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// objects are changes of the objects there are, and new ones.
func (s *search) objects(object string, looks *expression.Looks) []atom {
	var out []atom
	all := verbs[object]
	if len(all) == 0 {
		return nil
	}
	live := s.f.Objects(object)
	for _, o := range live[max(0, len(live)-maxObjects):] {
		for _, verb := range all[1:] {
			kind, ok := s.m.env.Kinds.Lookup(object + "." + verb)
			if !ok {
				continue
			}
			list := []map[string]any{{}}
			if verb == "updated" || verb == "stage_changed" {
				if list = variants(kind, looks, true); len(list) > 1 {
					list = list[1:]
				}
			}
			for _, properties := range list {
				out = append(out, changed(o, kind.Name, verb, properties))
			}
		}
		if object == "cart" {
			out = append(out, changed(o, "cart.updated", "completed", map[string]any{"completed": true}))
		}
	}
	first, ok := s.m.env.Kinds.Lookup(object + "." + all[0])
	if !ok {
		return out
	}
	for i, properties := range variants(first, looks, true) {
		delete(properties, "connection")
		id := "new"
		properties["id"] = id
		named := "a new " + first.Name
		if len(properties) > 1 {
			shown := map[string]any{}
			for key, v := range properties {
				if key != "id" {
					shown[key] = v
				}
			}
			named += " with " + listed(shown)
		}
		made := event(first.Name, properties)
		cost := 1 + 0.1*float64(i)
		out = append(out, atom{part: part{events: []hub.Event{made}, words: named, shape: first.Name, cost: cost}})
		for _, verb := range all[1:] {
			kind := object + "." + verb
			if _, ok := s.m.env.Kinds.Lookup(kind); ok && verb != "updated" && verb != "deleted" {
				then := map[string]any{}
				maps.Copy(then, properties)
				out = append(out, atom{part: part{events: []hub.Event{made, event(kind, then)}, words: named + ", then " + kind, shape: kind, cost: cost + 1}})
			}
		}
	}
	// Several new ones at a time, as they are made or after something that the clause asks about.
	for _, verb := range append([]string{""}, all[1:]...) {
		if verb != "" && !slices.Contains(looks.Fields, verb) {
			continue
		}
		kind, words := "", ""
		if verb != "" {
			kind = object + "." + verb
			words = ", then " + kind
		}
		out = append(out, atom{limit: maxCount, scale: func(n int) part {
			p := part{words: fmt.Sprintf("%d new %s", n, first.Name) + words, shape: first.Name + kind, cost: float64(n) + 0.3}
			if n == 1 {
				p.words = "a new " + first.Name + words
			}
			for i := range n {
				id := map[string]any{"id": fmt.Sprintf("new-%d", i+1)}
				if p.events = append(p.events, event(first.Name, id)); kind != "" {
					p.events = append(p.events, event(kind, id))
				}
			}
			return p
		}})
	}
	return out
}

// changed is something that happens to an object.
func changed(o *fact.Object, kind, verb string, properties map[string]any) atom {
	ev := event(kind, map[string]any{"id": o.ID})
	ev.Connection = o.Connection
	words := o.Kind + " " + o.ID + " " + strings.ReplaceAll(verb, "_", " ")
	shown := map[string]any{}
	for key, v := range properties {
		if key != "connection" {
			ev.Properties[key], shown[key] = v, v
		}
	}
	if len(shown) > 0 && verb != "completed" {
		words += " with " + listed(shown)
	}
	a := fixed(ev, words)
	a.part.shape = o.Kind + " " + o.ID
	return a
}

// refunds are the newest orders that still count, given back.
func (s *search) refunds() []atom {
	var out []atom
	for _, e := range slices.Backward(s.f.Standing()) {
		id, ok := e.Text("id")
		if !ok || len(out) >= maxObjects {
			continue
		}
		ev := event("order.refunded", map[string]any{"id": id})
		ev.Connection = e.Connection
		a := fixed(ev, "order "+id+" refunded in full")
		a.part.shape = "refund"
		out = append(out, a)
	}
	return out
}

// spending is one more order of just enough.
func spending(currency string) atom {
	return atom{limit: maxCents, scale: func(n int) part {
		m := cents(n, currency)
		return part{
			events: []hub.Event{event("order.paid", map[string]any{"id": "new-1", "amount": m})}, words: "spend " + m.String() + " more", shape: "order.paid", cost: 1.1,
		}
	}}
}

// scores are the answers to a survey.
func scores(metric string) atom {
	scale, ok := surveyScales[metric]
	if !ok {
		scale = [2]int{0, 10}
	}
	a := atom{metric: metric}
	for n := scale[0]; n <= scale[1]; n++ {
		a.scores = append(a.scores, part{
			events: []hub.Event{event("survey.answered", map[string]any{"metric": metric, "score": float64(n), "scale": float64(scale[1])})},
			words:  answer(metric) + " of " + strconv.Itoa(n), shape: metric, cost: 1,
		})
	}
	return a
}

func answer(metric string) string {
	if strings.ContainsRune("aeiouhlmnrsx", rune(metric[0])) && metric == strings.ToLower(metric) && len(metric) <= 3 {
		return "an " + strings.ToUpper(metric) // spelt out: an N-P-S
	}
	return "a " + strings.ToUpper(metric)
}

// choose returns the runs of scores that work, each by the score nearest to those that do not.
func (a atom) choose(base *change, works func(*change) bool) []*change {
	var out []*change
	good := make([]bool, len(a.scores))
	for i := range a.scores {
		good[i] = works(base.with(a.scores[i]))
	}
	for from := 0; from < len(good); {
		if !good[from] {
			from++
			continue
		}
		to := from
		for to+1 < len(good) && good[to+1] {
			to++
		}
		p := a.scores[from]
		switch {
		case from == 0 && to == len(good)-1:
			p.words, p.exact, p.others = answer(a.metric)+" of whatever score", p.words, a.scores[1:]
		case to == len(good)-1 && to > from:
			p.words, p.exact, p.others = p.words+" or more", p.words, a.scores[from+1:]
		case from == 0 && to > from:
			p = a.scores[to]
			p.words, p.exact, p.others = p.words+" or less", p.words, a.scores[:to]
		}
		out = append(out, base.with(p))
		from = to + 1
	}
	return out
}

// values returns what something is compared with.
func values(looks *expression.Looks, of, name string) []any {
	var out []any
	for _, v := range looks.Compared {
		if v.Of == of && v.Name == name {
			out = append(out, v.Value)
		}
	}
	return out
}

// trait is the values of a trait that the clause asks for, and that it does not.
func (s *search) trait(name string, looks *expression.Looks) []atom {
	var list []any
	for _, v := range looks.Compared {
		if v.Of != expression.OfTrait || v.Name != name {
			continue
		}
		for _, holds := range [...]bool{true, false} {
			if value := fitting(v, holds); value != nil {
				list = append(list, value)
			}
		}
		switch x := v.Value.(type) {
		case string:
			list = append(list, []string{x})
		case float64:
			list = append(list, x+1, x-1)
		}
	}
	list = append(list, "some", 1.0, true, nil)
	var out []atom
	for i, value := range list {
		words := name + " becomes " + expression.Format(value)
		switch value {
		case nil:
			words = name + " is removed"
		case "":
			continue
		}
		ev := event("customer.updated", nil)
		ev.Traits = []hub.Trait{{Name: name, Value: value}}
		a := fixed(ev, words)
		a.part.cost += 0.01 * float64(i)
		a.part.shape = name
		out = append(out, a)
	}
	return out
}
