package lifecycle

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/hub"
)

// What a test says of the customer beside her events.

// traits puts what is known of the customer from the beginning on the first event, where that does not say otherwise.
func (r *testReader) traits(n *yaml.Node) {
	if n == nil {
		return
	}
	list := r.traitList(n, r.path+".traits", r.first)
	if len(r.t.Events) == 0 {
		ev := hub.Event{
			ID: r.t.Name + "-0000", Kind: "customer.created", Connection: defaultConnection, OccurredAt: r.first, ReceivedAt: r.first,
			Properties: map[string]any{},
		}
		r.t.Events = append(r.t.Events, TestEvent{Event: ev, Known: r.first, Line: n.Line})
	}
	first := &r.t.Events[0]
	for i := range r.t.Events {
		if r.t.Events[i].Known.Before(first.Known) {
			first = &r.t.Events[i]
		}
	}
	for _, trait := range list {
		if !slices.ContainsFunc(first.Traits, func(t hub.Trait) bool { return t.Name == trait.Name }) {
			trait.At = first.OccurredAt
			first.Traits = append(first.Traits, trait)
		}
	}
}

// traitList reads {plan: pro, tags: [vip]}. What the configuration declares as a field has its type.
func (r *testReader) traitList(n *yaml.Node, path string, at time.Time) []hub.Trait {
	var out []hub.Trait
	r.pairs(n, path, func(k, v *yaml.Node) {
		t := hub.Trait{Name: k.Value, At: at}
		if declared, ok := r.env.Fields[k.Value]; ok {
			if t.Value, ok = r.property(v, path+"."+k.Value, declared); !ok {
				return
			}
		} else if v.Kind == yaml.SequenceNode {
			t.Value = r.texts(v, path+"."+k.Value)
		} else if x, ok := scalar(v); ok {
			if i, isInt := x.(int); isInt {
				x = float64(i)
			}
			t.Value = x
		} else if v.Kind != yaml.ScalarNode {
			r.fail(v, path+"."+k.Value, "", "a trait is a text, a number, true or false, or a list of texts")
		}
		out = append(out, t)
	})
	return out
}

// otherStages reads {clc: lost} or {clc: [{stage: new}, {at: +30d, stage: lost}]}.
func (r *testReader) otherStages(n *yaml.Node) {
	r.pairs(n, r.path+".stages", func(k, v *yaml.Node) {
		path := r.path + ".stages." + k.Value
		if known, ok := r.m.env.Models[k.Value]; !ok {
			r.fail(k, path, r.meant(k.Value, slices.Sorted(maps.Keys(r.m.env.Models))), "unknown model %s", k.Value)
			return
		} else if v.Kind == yaml.ScalarNode {
			stage := r.text(v, path)
			r.stageOf(v, path, k.Value, stage, known.Stages)
			r.t.Stages = append(r.t.Stages, TestStage{Model: k.Value, Stage: stage})
			return
		}
		r.at = r.first
		for i, item := range r.items(v, path) {
			where := fmt.Sprintf("%s[%d]", path, i)
			f := r.fields(item, where, "at", "stage")
			st := TestStage{Model: k.Value, Stage: r.text(f["stage"], where+".stage")}
			switch {
			case f["stage"] == nil:
				r.fail(item, where, "", "stage is missing")
			case f["at"] == nil && i > 0:
				r.fail(item, where, "", "at is missing: only the first stage holds from the beginning")
			}
			if f["stage"] != nil {
				r.stageOf(f["stage"], where+".stage", k.Value, st.Stage, r.m.env.Models[k.Value].Stages)
			}
			if f["at"] != nil {
				if at, ok := r.when(f["at"], where+".at"); ok {
					st.At = at
					r.end = later(r.end, at)
				}
			}
			r.t.Stages = append(r.t.Stages, st)
		}
	})
}

// stageOf checks a stage of another model; nil stages mean that it is not at hand.
func (r *testReader) stageOf(n *yaml.Node, path, model, stage string, stages []string) {
	if stages != nil && !slices.Contains(stages, stage) {
		r.fail(n, path, r.meant(stage, stages), "model %s has no stage %s", model, stage)
	}
}

// scores reads {active: 0.8} or [{active: 0.8}, {at: +30d, active: 0.2}].
func (r *testReader) scores(n *yaml.Node) {
	switch {
	case n == nil:
	case n.Kind == yaml.MappingNode:
		if sc, dated := r.scoresOf(n, r.path+".scores"); !dated {
			r.t.Scores = append(r.t.Scores, sc)
		} else {
			r.fail(n, r.path+".scores", "write a list: [{active: 0.8}, {at: +30d, active: 0.2}]", "scores by time stand in a list")
		}
	default:
		r.at = r.first
		for i, item := range r.items(n, r.path+".scores") {
			path := fmt.Sprintf("%s.scores[%d]", r.path, i)
			sc, dated := r.scoresOf(item, path)
			if i > 0 && !dated {
				r.fail(item, path, "", "at is missing: only the first scores hold from the beginning")
			}
			r.end = later(r.end, sc.At)
			r.t.Scores = append(r.t.Scores, sc)
		}
	}
}

func (r *testReader) scoresOf(n *yaml.Node, path string) (sc TestScores, dated bool) {
	f := r.fields(n, path, keysOf(FormScores)...)
	number := func(key string, least, most float64) *float64 {
		if f[key] == nil {
			return nil
		}
		v, ok := r.property(f[key], path+"."+key, hub.Number)
		if !ok {
			return nil
		}
		x, _ := v.(float64)
		if x < least || x > most {
			r.fail(f[key], path+"."+key, "", "%s is %v to %v, not %s", key, least, most, f[key].Value)
		}
		return &x
	}
	fifth := func(key string) *int {
		x := number(key, 1, 5)
		if x == nil {
			return nil
		}
		i := int(*x)
		if float64(i) != *x {
			r.fail(f[key], path+"."+key, "", "%s is a whole number", key)
		}
		return &i
	}
	sc.Active, sc.ExpectedOrders = number("active", 0, 1), number("expected_orders", 0, 1e6)
	sc.Recency, sc.Frequency, sc.Monetary = fifth("recency"), fifth("frequency"), fifth("monetary")
	if f["value"] != nil {
		if v, ok := r.property(f["value"], path+".value", hub.Amount); ok {
			m, _ := v.(hub.Money)
			sc.Value = &m
		}
	}
	if f["at"] != nil {
		sc.At, _ = r.when(f["at"], path+".at")
	}
	sc.Scores.At = sc.At
	if sc.At.IsZero() {
		sc.Scores.At = r.first
	}
	return sc, f["at"] != nil
}

// identifiers reads {email: ada@example.com}; a list gives several of a kind.
func (r *testReader) identifiers(n *yaml.Node) {
	r.pairs(n, r.path+".identifiers", func(k, v *yaml.Node) {
		for _, value := range r.texts(v, r.path+".identifiers."+k.Value) {
			r.t.Identifiers = append(r.t.Identifiers, hub.Identifier{Kind: k.Value, Value: value, Connection: defaultConnection})
		}
	})
}
