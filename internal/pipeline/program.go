package pipeline

import (
	"slices"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// Program is everything that decides, compiled from one published set. It is immutable.
type Program struct {
	Number    int64 // of the model set
	Models    []ActiveModel
	Reactions []*lifecycle.Reaction
	Writes    []Write
	// Subscriptions come from the configuration and are no part of the set: changing them needs no publish.
	Subscriptions []Subscription

	readsScores bool

	places map[string]int  // of the models, by name
	read   map[string]bool // models whose stage another one reads
	needs  expression.Needs
}

// ActiveModel is a model with its published version and the connections whose facts it reads.
type ActiveModel struct {
	*lifecycle.Model
	Version int
	// Sources names the connections whose manifests make a kind the model reads: its wake-ups wait for these alone.
	Sources []string
}

// Write keeps one field of a destination's records true to a model's stage.
type Write struct {
	Connection string
	Model      string
	Field      string // a field, or
	Tag        string // a pattern such as "stage:${stage}"
	Mode       string // always, if_empty, if_ours, never
	Values     map[string]string
}

// Value returns what the field is to hold for a stage; false where the stage has no value.
func (w Write) Value(stage string) (string, bool) {
	if w.Tag != "" {
		return expandStage(w.Tag, stage), true
	}
	if len(w.Values) == 0 {
		return stage, true
	}
	v, ok := w.Values[stage]
	return v, ok
}

// Subscription is a third party's callback, as far as decisions need to know it.
type Subscription struct {
	Name    string
	Kinds   []string
	Models  []string // empty: all
	Include []string // what personal data it asked for
}

func (s Subscription) wants(kind, model string) bool {
	if !slices.Contains(s.Kinds, kind) {
		return false
	}
	return model == "" || len(s.Models) == 0 || slices.Contains(s.Models, model)
}

// NewProgram completes the models with what they read and wait for. produces tells, per connection, the kinds its
// manifest can make. The models are put in the order in which they read each other; those that go round in a circle do not come
// here (lifecycle.Order).
func NewProgram(number int64, models []ActiveModel, reactions []*lifecycle.Reaction, writes []Write, subscriptions []Subscription, produces map[string][]string) *Program {
	p := &Program{
		Number: number, Models: inOrder(models), Reactions: reactions, Writes: writes, Subscriptions: subscriptions,
		places: map[string]int{}, read: map[string]bool{},
	}
	for i := range p.Models {
		m := &p.Models[i]
		p.needs |= m.Needs()
		p.places[m.Name] = i
		p.readsScores = p.readsScores || readsScores(m)
		m.Sources = nil
		reads := m.Reads()
		for connection, kinds := range produces {
			if slices.ContainsFunc(kinds, func(k string) bool { return slices.Contains(reads, k) }) {
				m.Sources = append(m.Sources, connection)
			}
		}
		// Who reads another model's stage waits for what that one waits for.
		for _, name := range m.UsesModels() {
			p.read[name] = true
			if other, there := p.places[name]; there {
				m.Sources = append(m.Sources, p.Models[other].Sources...)
			}
		}
		slices.Sort(m.Sources)
		m.Sources = slices.Compact(m.Sources)
	}
	for _, r := range reactions {
		p.needs |= r.Needs()
	}
	return p
}

// inOrder returns the models so that each stands behind those whose stage it reads.
func inOrder(models []ActiveModel) []ActiveModel {
	plain := make([]*lifecycle.Model, len(models))
	for i := range models {
		plain[i] = models[i].Model
	}
	order, err := lifecycle.Order(plain)
	if err != nil {
		return models
	}
	out := make([]ActiveModel, 0, len(models))
	for _, m := range order {
		i := slices.IndexFunc(models, func(a ActiveModel) bool { return a.Model == m })
		out = append(out, models[i])
	}
	return out
}

func expandStage(pattern, stage string) string {
	const hole = "${stage}"
	out := make([]byte, 0, len(pattern)+len(stage))
	for i := 0; i < len(pattern); {
		if len(pattern)-i >= len(hole) && pattern[i:i+len(hole)] == hole {
			out = append(out, stage...)
			i += len(hole)
			continue
		}
		out = append(out, pattern[i])
		i++
	}
	return string(out)
}
