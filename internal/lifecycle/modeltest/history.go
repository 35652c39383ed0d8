package modeltest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// vocabulary is what a model names: histories made of it come near the places where it decides.
type vocabulary struct {
	kinds     []hub.Kind
	focus     [][]hub.Kind    // those that one rule reads, by rule
	models    []string        // of which others tell the stage
	durations []time.Duration // ascending
	numbers   []float64
	counts    []int // those of numbers that an author counts to
	texts     []string
	amounts   []hub.Money
	dates     []time.Time
	words     map[string]bool // of the conditions: names of properties and functions
	traits    []string
	metrics   []string
	others    map[string][]string // models and their stages
	scores    bool
	// identifiers is set where conditions read how a customer can be reached.
	identifiers bool
	longest     time.Duration
}

// units are the functions that make lengths of time.
var units = map[string]time.Duration{
	"minutes": time.Minute, "hours": time.Hour, "business_hours": 3 * time.Hour, "days": 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
	"months": 365 * 2 * time.Hour,
}

// telling are the kinds that matter most to what a word reads.
var telling = map[string][]string{
	"spent": {"order.paid", "order.refunded"}, "orders": {"order.placed", "order.paid"}, "tickets": {"ticket.opened", "ticket.solved"},
	"deals": {"deal.created", "deal.stage_changed", "deal.won", "deal.lost"}, "carts": {"cart.updated", "cart.abandoned"},
	"subscriptions": {"subscription.started", "subscription.cancelled"}, "tasks": {"task.created", "task.completed"},
	"nps": {"survey.answered"}, "csat": {"survey.answered"}, "ces": {"survey.answered"},
}

func newVocabulary(m *lifecycle.Model) *vocabulary {
	_, text, env := m.Source()
	v := &vocabulary{words: map[string]bool{}, others: map[string][]string{}}
	kinds := cmp.Or(env.Kinds, hub.Catalogue)
	named := map[string]bool{}
	texts := map[string]bool{}
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) == nil && len(doc.Content) == 1 {
		v.read(doc.Content[0], texts)
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if _, ok := kinds.Lookup(name); ok {
			named[name] = true
		} else if at, err := time.Parse(time.DateOnly, name); err == nil {
			v.dates = append(v.dates, at)
		} else if amount, currency, ok := strings.Cut(name, " "); ok && v.amount(amount, currency) {
			continue
		} else {
			v.texts = append(v.texts, name)
		}
	}
	for word, list := range telling {
		if v.words[word] {
			for _, name := range list {
				named[name] = true
			}
		}
	}
	for _, channel := range hub.Channels {
		if v.words[channel] {
			named["social.followed"], named["message.received"] = true, true
		}
	}
	known := func(names []string) (list []hub.Kind) {
		for _, name := range names {
			kind, ok := kinds.Lookup(name)
			if !ok {
				continue
			}
			list = append(list, kind)
			if named[name] { // what is named itself matters more than what only belongs to a group
				list = append(list, kind, kind, kind)
			}
		}
		return list
	}
	v.kinds = known(m.Reads())
	for _, rule := range m.Rules() {
		if list := known(rule.When.Reads); len(list) > 0 {
			v.focus = append(v.focus, list)
		}
	}
	if len(v.kinds) == 0 || m.ReadsTraits() {
		if kind, ok := kinds.Lookup("customer.updated"); ok {
			v.kinds = append(v.kinds, kind)
		}
	}
	for _, metric := range []string{"nps", "csat", "ces"} {
		if v.words[metric] || texts[metric] {
			v.metrics = append(v.metrics, metric)
		}
	}
	if len(v.metrics) == 0 {
		v.metrics = []string{"nps", "csat", "ces"}
	}
	for _, model := range m.UsesModels() {
		v.others[model] = env.Stages[model]
	}
	v.identifiers = m.Needs().Has(expression.NeedsIdentifiers)
	v.scores = m.Needs().Has(expression.NeedsScores)
	slices.Sort(v.texts)
	slices.Sort(v.durations)
	v.durations = slices.Compact(v.durations)
	if len(v.durations) == 0 {
		v.durations = []time.Duration{24 * time.Hour, 30 * 24 * time.Hour}
	}
	v.longest = v.durations[len(v.durations)-1]
	slices.Sort(v.numbers)
	v.numbers = slices.Compact(v.numbers)
	for _, n := range v.numbers {
		if n == float64(int(n)) && n >= 1 && n <= 40 {
			v.counts = append(v.counts, int(n))
		}
	}
	slices.Sort(v.traits)
	v.traits = slices.Compact(v.traits)
	return v
}

func (v *vocabulary) amount(amount, currency string) bool {
	m, err := hub.ParseMoney(amount, currency)
	if err != nil {
		return false
	}
	v.amounts = append(v.amounts, m)
	return true
}

// read collects what stands in params, stages, define and decide.
func (v *vocabulary) read(root *yaml.Node, texts map[string]bool) {
	var literals func(n *yaml.Node)
	literals = func(n *yaml.Node) {
		if n == nil {
			return
		}
		if n.Kind != yaml.ScalarNode {
			for _, c := range n.Content {
				literals(c)
			}
			return
		}
		if d, ok := expression.ParseDuration(n.Value); ok {
			v.durations = append(v.durations, d)
		} else if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
			v.numbers = append(v.numbers, f)
		} else {
			texts[n.Value] = true
		}
	}
	if params := child(root, "params"); params != nil {
		for i := 1; i < len(params.Content); i += 2 {
			literals(params.Content[i])
		}
	}
	for _, list := range []string{"stages", "decide"} {
		n := child(root, list)
		for i := 0; n != nil && i < len(n.Content); i++ {
			for _, key := range []string{"dwell", "after", "cooldown"} {
				literals(child(n.Content[i], key))
			}
			if when := child(n.Content[i], "when"); when != nil {
				v.expression(when.Value, texts)
			}
		}
	}
	if defines := child(root, "define"); defines != nil {
		for i := 1; i < len(defines.Content); i += 2 {
			v.expression(defines.Content[i].Value, texts)
		}
	}
}

func (v *vocabulary) expression(text string, texts map[string]bool) {
	list := tokens(text)
	before := func(i, n int) string {
		if i < n {
			return ""
		}
		return list[i-n].text
	}
	for i, t := range list {
		switch t.kind {
		case word:
			v.words[t.text] = true
			if before(i, 1) == "." && before(i, 2) == "stages" || slices.Contains(hub.Channels, t.text) {
				texts[t.text] = true
			}
			if before(i, 1) == "." && before(i, 2) == "stages" {
				v.models = append(v.models, t.text)
			}
			if of := before(i, 2); before(i, 1) == "." && (of == "traits" || of == "fields" || of == "customer") {
				if !slices.Contains([]string{"traits", "consent", "created", "referred", "companies"}, t.text) {
					v.traits = append(v.traits, t.text)
				}
			}
		case quoted:
			texts[strings.Trim(t.text, t.text[:1])] = true
		case number:
			f, err := strconv.ParseFloat(strings.ReplaceAll(t.text, "_", ""), 64)
			if err != nil {
				continue
			}
			of := before(i, 2)
			if unit, ok := units[of]; ok && before(i, 1) == "(" {
				v.durations = append(v.durations, time.Duration(f*float64(unit)))
			} else if len(of) == 3 && before(i, 1) == "(" && v.amount(t.text, strings.ToUpper(of)) {
				continue
			} else {
				v.numbers = append(v.numbers, f)
			}
		}
	}
}

// history makes the i-th customer: always the same one.
func (v *vocabulary) history(i int) *lifecycle.Test {
	r := rand.New(rand.NewPCG(uint64(i), 20260101))
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if len(v.dates) > 0 {
		at = pick(r, v.dates).Add(-v.gap(r))
	}
	t := &lifecycle.Test{Name: fmt.Sprintf("history %d", i), Start: at}
	for model, stages := range v.sortedOthers() {
		for n := range r.IntN(4) {
			if len(stages) == 0 {
				break
			}
			st := lifecycle.TestStage{Model: model, Stage: pick(r, stages)}
			if n > 0 {
				st.At = at.Add(time.Duration(n) * v.gap(r)).Truncate(hub.Resolution)
			}
			t.Stages = append(t.Stages, st)
		}
	}
	for _, id := range []hub.Identifier{{Kind: hub.IdentifierEmail, Value: "ada@example.com"}, {Kind: hub.IdentifierPhone, Value: "+491701234567"}} {
		if v.identifiers && r.IntN(2) == 0 {
			id.Connection = "test"
			t.Identifiers = append(t.Identifiers, id)
		}
	}
	if v.scores {
		t.Scores = append(t.Scores, v.score(r, at, false), v.score(r, at.Add(v.gap(r)).Truncate(hub.Resolution), true))
	}
	gone := map[string]bool{}
	add := func(kind hub.Kind) {
		ev := v.event(r, kind, at)
		if id, ok := ev.Properties["id"].(string); ok && kind.Object != "" {
			if gone[kind.Object+id] { // what was deleted is not told of again
				return
			}
			gone[kind.Object+id] = strings.HasSuffix(kind.Name, ".deleted")
		}
		ev.ID = fmt.Sprintf("h%04d", len(t.Events))
		t.Events = append(t.Events, lifecycle.TestEvent{Event: ev, Known: at})
	}
	// Of every three histories two are about what one rule reads, in turn; the third is about anything.
	kinds := v.kinds
	if len(v.focus) > 0 && i%3 > 0 {
		kinds = v.focus[(i/3)%len(v.focus)]
	}
	for range 1 + r.IntN(6) {
		kind := pick(r, kinds)
		if r.IntN(6) == 0 {
			kind = pick(r, v.kinds)
		}
		times := 1
		if len(v.counts) > 0 && r.IntN(2) == 0 { // up to a threshold, or one beside it
			times = max(1, pick(r, v.counts)-1+r.IntN(3))
		}
		step := v.gap(r) / time.Duration(times+r.IntN(2))
		if r.IntN(4) == 0 {
			step = time.Hour
		}
		for range times {
			if len(t.Events) < 60 {
				add(kind)
			}
			at = at.Add(step).Truncate(hub.Resolution)
		}
		if r.IntN(3) > 0 {
			at = at.Add(v.gap(r)).Truncate(hub.Resolution)
		}
	}
	t.Until = at.Add(3*v.longest + 24*time.Hour)
	slices.SortStableFunc(t.Stages, func(a, b lifecycle.TestStage) int { return a.At.Compare(b.At) })
	return t
}

// sortedOthers goes through the other models in the order of their names.
func (v *vocabulary) sortedOthers() func(yield func(string, []string) bool) {
	return func(yield func(string, []string) bool) {
		for _, name := range slices.Sorted(maps.Keys(v.others)) {
			if !yield(name, v.others[name]) {
				return
			}
		}
	}
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// gap is a length of time on or near one that the model names.
func (v *vocabulary) gap(r *rand.Rand) time.Duration {
	d := pick(r, v.durations)
	switch r.IntN(8) {
	case 0:
		return d - hub.Resolution
	case 1:
		return d + hub.Resolution
	case 2:
		return d / 2
	case 3:
		return d - d/10
	case 4:
		return d + d/10
	case 5:
		return time.Duration(1+r.IntN(72)) * time.Hour
	}
	return d
}

func (v *vocabulary) event(r *rand.Rand, kind hub.Kind, at time.Time) hub.Event {
	ev := hub.Event{Kind: kind.Name, Connection: "test", OccurredAt: at, ReceivedAt: at, Properties: map[string]any{}}
	if kind.Own {
		ev.Connection = hub.OwnConnection
	}
	for _, name := range slices.Sorted(maps.Keys(kind.Properties)) {
		wanted := kind.Own || v.words[name] || name == "metric" || name == "score" || name == "amount"
		switch {
		case name == "id" && (kind.Own || r.IntN(3) > 0):
			ev.Properties[name] = strconv.Itoa(1 + r.IntN(3))
		case name == "model" && len(v.models) > 0:
			ev.Properties[name] = pick(r, v.models)
		case name == "metric":
			ev.Properties[name] = pick(r, v.metrics)
		case name != "id" && name != "into" && (wanted && r.IntN(6) > 0 || r.IntN(12) == 0):
			ev.Properties[name] = v.property(r, kind.Properties[name], at)
		}
	}
	for _, name := range v.traits {
		if r.IntN(2) == 0 {
			continue
		}
		value := v.property(r, []hub.PropertyType{hub.Text, hub.Text, hub.Number, hub.Bool}[r.IntN(4)], at)
		if name == "tags" {
			value = v.property(r, hub.Texts, at)
		}
		ev.Traits = append(ev.Traits, hub.Trait{Name: name, Value: value, At: at})
	}
	return ev
}

func (v *vocabulary) property(r *rand.Rand, t hub.PropertyType, at time.Time) any {
	switch t {
	case hub.Number:
		return v.number(r)
	case hub.Bool:
		return r.IntN(2) == 0
	case hub.Time:
		return at.Add(v.gap(r) * time.Duration(1-2*r.IntN(2))).Truncate(hub.Resolution)
	case hub.Amount:
		return v.money(r)
	case hub.Texts:
		var list []string
		for range r.IntN(3) {
			list = append(list, v.text(r))
		}
		return list
	}
	return v.text(r)
}

func (v *vocabulary) text(r *rand.Rand) string {
	if len(v.texts) == 0 || r.IntN(6) == 0 {
		return "something"
	}
	return pick(r, v.texts)
}

func (v *vocabulary) number(r *rand.Rand) float64 {
	if len(v.numbers) == 0 || r.IntN(4) == 0 {
		return float64(r.IntN(12))
	}
	return pick(r, v.numbers) + float64(r.IntN(3)-1)
}

// money is an amount on or near one that the model names, or part of one.
func (v *vocabulary) money(r *rand.Rand) hub.Money {
	amount, currency := "40", "EUR"
	for _, text := range v.texts {
		if len(text) == 3 && text == strings.ToUpper(text) {
			currency = text
		}
	}
	if len(v.amounts) > 0 {
		m := pick(r, v.amounts)
		f, _ := strconv.ParseFloat(m.Amount.String(), 64) // what was parsed prints as a number
		f = []float64{f, f, f + 1, f - 1, f + 0.01, f - 0.01, f / 2, f / 3}[r.IntN(8)]
		amount, currency = strconv.FormatFloat(max(0, f), 'f', 2, 64), m.Currency
	}
	m, err := hub.ParseMoney(amount, currency)
	if err != nil {
		m, _ = hub.ParseMoney("40", "EUR") // a currency of the model's own making
	}
	return m
}

func (v *vocabulary) score(r *rand.Rand, at time.Time, dated bool) lifecycle.TestScores {
	var sc lifecycle.TestScores
	if dated {
		sc.At = at
	}
	sc.Scores = fact.Scores{At: at}
	some := func(x float64) *float64 {
		if r.IntN(5) == 0 {
			return nil
		}
		return &x
	}
	share := r.Float64()
	if len(v.numbers) > 0 && r.IntN(2) == 0 {
		share = min(1, max(0, pick(r, v.numbers)))
	}
	sc.Active, sc.ExpectedOrders = some(share), some(max(0, v.number(r)))
	if m := v.money(r); r.IntN(5) > 0 {
		sc.Value = &m
	}
	fifth := func() *int { n := 1 + r.IntN(5); return &n }
	sc.Recency, sc.Frequency, sc.Monetary = fifth(), fifth(), fifth()
	return sc
}
