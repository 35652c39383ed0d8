package pipeline

import (
	"slices"

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
// manifest can make.
func NewProgram(number int64, models []ActiveModel, reactions []*lifecycle.Reaction, writes []Write, subscriptions []Subscription, produces map[string][]string) *Program {
	scores := false
	for i := range models {
		m := &models[i]
		scores = scores || readsScores(m)
		m.Sources = nil
		reads := m.Reads()
		for connection, kinds := range produces {
			if slices.ContainsFunc(kinds, func(k string) bool { return slices.Contains(reads, k) }) {
				m.Sources = append(m.Sources, connection)
			}
		}
		slices.Sort(m.Sources)
	}
	return &Program{Number: number, Models: models, Reactions: reactions, Writes: writes, Subscriptions: subscriptions, readsScores: scores}
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
