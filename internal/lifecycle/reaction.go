package lifecycle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// ReactionEnv is what reactions compile against.
type ReactionEnv struct {
	Kinds  *hub.Kinds        // nil: the built-in catalogue
	Models map[string]*Model // those in use
	// Connections tells, by name, which actions a connection's vendor can do; nil: not checked.
	Connections map[string]func(action string) bool
	Fields      map[string]hub.PropertyType
	// Clock has the zone and the calendars of the configuration.
	Clock expression.Clock
}

// Reaction is what is done when a stage is entered. It is immutable and safe for concurrent use.
type Reaction struct {
	Name string
	Line int

	file         string
	model, stage string
	condition    *expression.Program // nil: always
	steps        []step
	needs        expression.Needs
}

// Needs returns what its condition and its texts read beside the customer's own events.
func (r *Reaction) Needs() expression.Needs { return r.needs }

// step is one action of a reaction: its parameters with the texts still to be filled in.
type step struct {
	action string
	via    string
	key    *expression.Template
	params map[string]any // *expression.Template, map[string]any, float64, bool
}

// Planned is one action that a reaction wants done, with everything filled in.
type Planned struct {
	Step   int    // its place in do:, from 0
	Via    string // the connection
	Action hub.Action
	Key    string // at most one open task per customer and key, "" for no bound
}

// Enters returns the model and the stage whose entering sets the reaction off.
func (r *Reaction) Enters() (model, stage string) { return r.model, r.stage }

// form is what an action takes: its keys, which of them must be there.
type form struct {
	texts  []string // values with ${…}
	needed []string
	later  []string // known, not supported yet
}

// actions are those this release does. Every action also takes via.
var actions = map[string]form{
	"create_task": {texts: []string{"subject", "note", "priority", "type"}, needed: []string{"subject"}, later: []string{"assign", "if_open", "close", "overdue"}},
	"create_note": {texts: []string{"text", "note"}},
	"add_tag":     {texts: []string{"tag"}, needed: []string{"tag"}},
	"remove_tag":  {texts: []string{"tag"}, needed: []string{"tag"}},
	"set_fields":  {needed: []string{"fields"}},
}

// laterActions are in the vocabulary and not done by reactions yet.
var laterActions = []string{
	"set_stage", "add_to_list", "remove_from_list", "upsert_customer", "update_task", "complete_task", "assign_owner",
	"open_ticket", "update_ticket", "comment_ticket", "create_deal", "update_deal", "send_message", "notify",
	"start_campaign", "stop_campaign", "call", "create_coupon", "add_points", "track_event", "identify",
}

// actionNames returns the whole vocabulary, what this release does first.
func actionNames() []string {
	return slices.Concat(slices.Sorted(maps.Keys(actions)), laterActions)
}

// reactionVars are the texts that a reaction's expressions can name beside facts and stages.
var reactionVars = []string{"explanation", "stage"}

// CompileReactions reads a file of reactions. The error joins a *Problem for every mistake in it, in its order.
func CompileReactions(file string, text []byte, env ReactionEnv) ([]*Reaction, error) {
	s, root := open(file, text)
	if root == nil {
		return nil, join(s.problems)
	}
	c := &reactionCompiler{source: s, env: env, expr: &expression.Env{
		Kinds: env.Kinds, Models: map[string]expression.Model{}, Fields: env.Fields, Vars: reactionVars, Clock: env.Clock,
	}}
	for name, m := range env.Models {
		c.expr.Models[name] = expression.Model{Stages: m.StageNames(), Defines: m.defines}
	}
	top := s.fields(root, "", keysOf(FormReactions)...)
	if top["reactions"] == nil {
		s.fail(root, "", "", "reactions is missing")
	}
	var out []*Reaction
	names := map[string]bool{}
	for i, item := range s.items(top["reactions"], "reactions") {
		c.needs = 0
		r := c.reaction(item, fmt.Sprintf("reactions[%d]", i))
		r.needs = c.needs
		if r.Name != "" && names[r.Name] {
			s.fail(item, fmt.Sprintf("reactions[%d].name", i), "", "reaction %q is there twice", r.Name)
		}
		names[r.Name] = true
		out = append(out, r)
	}
	if len(s.problems) > 0 {
		return nil, join(s.problems)
	}
	return out, nil
}

type reactionCompiler struct {
	*source
	env   ReactionEnv
	expr  *expression.Env
	needs expression.Needs // of the reaction at hand
}

func (c *reactionCompiler) reaction(n *yaml.Node, path string) *Reaction {
	f := c.fields(n, path, keysOf(FormReaction)...)
	for _, key := range laterOf(FormReaction) {
		if f[key] != nil {
			c.fail(f[key], path+"."+key, "", "%s is not supported yet", key)
		}
	}
	r := &Reaction{Name: c.text(f["name"], path+".name"), Line: n.Line, file: c.file}
	if f["name"] == nil {
		c.fail(n, path, "write name: and a few words", "a reaction needs a name")
	}
	switch {
	case f["enter"] != nil:
		c.enter(r, f["enter"], path+".enter")
	case f["leave"] == nil && f["event"] == nil && f["becomes"] == nil:
		c.fail(n, path, "write enter: model.stage", "nothing sets the reaction off")
	}
	if w := f["if"]; w != nil {
		if w.Kind != yaml.ScalarNode {
			c.fail(w, path+".if", "", "this must be an expression")
		} else {
			program, problems := expression.Compile(w.Value, c.expr)
			c.expressionProblems(w, path+".if", problems)
			r.condition = program
			if program != nil {
				c.needs |= program.Needs
			}
		}
	}
	steps := c.items(f["do"], path+".do")
	if len(steps) == 0 && (f["do"] == nil || f["do"].Kind == yaml.SequenceNode) {
		c.fail(n, path, "do:, and below it an action: - create_task: {via: crm, subject: …}", "do is missing: a list of actions")
	}
	for i, item := range steps {
		if st, ok := c.step(item, fmt.Sprintf("%s.do[%d]", path, i)); ok {
			r.steps = append(r.steps, st)
		}
	}
	return r
}

func (c *reactionCompiler) enter(r *Reaction, n *yaml.Node, path string) {
	var ok bool
	text := c.text(n, path)
	if r.model, r.stage, ok = strings.Cut(text, "."); !ok {
		c.fail(n, path, "write enter: clc.lost", "%q is not a model and a stage", text)
		return
	}
	m := c.env.Models[r.model]
	if m == nil {
		c.unknown(n, path, "model", r.model, slices.Sorted(maps.Keys(c.env.Models)))
		return
	}
	if m.Stage(r.stage) == nil {
		c.unknown(n, path, "stage of "+r.model, r.stage, m.StageNames())
	}
}

func (s *source) unknown(n *yaml.Node, path, what, name string, known []string) {
	suggestion := ""
	if c := expression.Closest(name, known); c != "" {
		suggestion = "did you mean " + c + "?"
	} else if len(known) > 0 && len(known) <= 12 {
		suggestion = "known: " + strings.Join(known, ", ")
	}
	s.fail(n, path, suggestion, "unknown %s %s", what, name)
}

// step reads one action: a map with the action's name as its only key (and as:, which is not supported yet).
func (c *reactionCompiler) step(n *yaml.Node, path string) (step, bool) {
	if n.Kind != yaml.MappingNode {
		c.fail(n, path, "write - create_task: {via: crm, subject: …}", "this must be an action with its parameters")
		return step{}, false
	}
	known := actionNames()
	var name, params *yaml.Node
	c.pairs(n, path, func(k, v *yaml.Node) {
		switch {
		case k.Value == "as":
			c.fail(k, path, "", "as is not supported yet")
		case !slices.Contains(known, k.Value):
			c.unknown(k, path, "action", k.Value, known)
		case slices.Contains(laterActions, k.Value):
			c.fail(k, path, "", "%s is not supported yet", k.Value)
		case name != nil:
			c.fail(k, path, "write it as a step of its own", "a step is one action")
		default:
			name, params = k, v
		}
	})
	if name == nil {
		return step{}, false
	}
	path += "." + name.Value
	a := actions[name.Value]
	f := c.fields(params, path, keysOf(name.Value)...)
	st := step{action: name.Value, params: map[string]any{}}
	for _, key := range a.later {
		if f[key] != nil {
			c.fail(f[key], path+"."+key, "", "%s is not supported yet", key)
		}
	}
	for _, key := range a.needed {
		if f[key] == nil && params.Kind == yaml.MappingNode {
			c.fail(name, path, needs(st.action, key), "%s is missing", key)
		}
	}
	c.via(&st, name, f["via"], path)
	for _, key := range a.texts {
		if f[key] != nil {
			st.params[key] = c.template(f[key], path+"."+key)
		}
	}
	if f["key"] != nil {
		st.key = c.template(f["key"], path+".key")
	}
	if f["due"] != nil {
		st.params["due"] = c.due(f["due"], path+".due")
	}
	if f["fields"] != nil {
		fields := map[string]any{}
		c.pairs(f["fields"], path+".fields", func(k, v *yaml.Node) {
			if value, ok := scalar(v); ok {
				switch value := value.(type) {
				case string:
					fields[k.Value] = c.template(v, path+".fields."+k.Value)
				case int:
					fields[k.Value] = float64(value)
				default:
					fields[k.Value] = value
				}
				return
			}
			c.fail(v, path+".fields."+k.Value, "", "this must be a text, a number, true or false")
		})
		st.params["fields"] = fields
	}
	if name.Value == "create_note" {
		if (f["text"] == nil) == (f["note"] == nil) && params.Kind == yaml.MappingNode {
			c.fail(name, path, "", "write text: what the note says")
		}
		if st.params["text"] == nil {
			st.params["text"] = st.params["note"]
			delete(st.params, "note")
		}
	}
	return st, true
}

func (c *reactionCompiler) via(st *step, name, n *yaml.Node, path string) {
	if n == nil {
		c.fail(name, path, "name a connection of the configuration", "via is missing")
		return
	}
	if n.Kind == yaml.SequenceNode {
		c.fail(n, path+".via", "write one step for each", "several connections are not supported yet")
		return
	}
	st.via = c.text(n, path+".via")
	if c.env.Connections == nil {
		return
	}
	can := c.env.Connections[st.via]
	if can == nil {
		c.unknown(n, path+".via", "connection", st.via, slices.Sorted(maps.Keys(c.env.Connections)))
	} else if !can(st.action) {
		c.fail(n, path+".via", "`stagewire connectors` shows who can", "%s cannot %s", st.via, st.action)
	}
}

func (c *reactionCompiler) template(n *yaml.Node, path string) *expression.Template {
	if n.Kind != yaml.ScalarNode {
		c.fail(n, path, "", "this must be a text")
		return nil
	}
	t, problems := expression.CompileTemplate(n.Value, c.expr)
	c.expressionProblems(n, path, problems)
	if t != nil {
		c.needs |= t.Needs
	}
	return t
}

// due reads 3d, or {days, business_days, hours, minutes, at, zone}. It stays a span: the connector counts it from the
// business instant at which the task is created.
func (c *reactionCompiler) due(n *yaml.Node, path string) any {
	out := map[string]any{}
	if n.Kind == yaml.ScalarNode {
		d := c.duration(n, path)
		for _, u := range []struct {
			name string
			of   time.Duration
		}{{"days", 24 * time.Hour}, {"hours", time.Hour}, {"minutes", time.Minute}} {
			if whole := d / u.of; whole > 0 {
				out[u.name] = float64(whole)
				d -= whole * u.of
			}
		}
		return out
	}
	f := c.fields(n, path, keysOf(FormDue)...)
	for _, key := range []string{"days", "business_days", "hours", "minutes"} {
		if f[key] == nil {
			continue
		}
		v, _ := scalar(f[key])
		if count, ok := v.(int); ok && count >= 0 && count <= 3650 {
			out[key] = float64(count)
		} else {
			c.fail(f[key], path+"."+key, "", "this must be a whole number of at most 3650")
		}
	}
	if f["calendar"] != nil {
		c.fail(f["calendar"], path+".calendar", "business_days counts Monday to Friday", "calendar is not supported yet")
	}
	if f["at"] != nil {
		text := c.text(f["at"], path+".at")
		if _, err := time.Parse("15:04", text); err != nil {
			c.fail(f["at"], path+".at", `write "17:00"`, "%q is not a time of day", text)
		}
		out["at"] = text
	}
	if f["zone"] != nil {
		out["zone"] = c.text(f["zone"], path+".zone")
	}
	return out
}

// Actions tells what is to be done about the stage just entered at instant at: matched is false where the condition does not hold.
// explanation is the plain sentence that ${explanation} stands for. An error means the condition or a text failed:
// nothing is to be done then, and it is worth counting.
func (r *Reaction) Actions(f *fact.Facts, stages map[string]string, explanation string, at time.Time) (planned []Planned, matched bool, err error) {
	s := expression.Begin(expression.Input{
		Facts: f, At: at, Stages: stages, Stage: r.stage, Since: at,
		Vars: map[string]string{"explanation": explanation, "stage": r.stage},
	})
	defer s.End()
	if r.condition != nil {
		holds, err := s.Bool(r.condition)
		if err != nil {
			return nil, false, fmt.Errorf("reaction %s: if: %w", r.Name, err)
		}
		if !holds {
			return nil, false, nil
		}
	}
	for i, st := range r.steps {
		params, err := fill(s, st.params)
		if err != nil {
			return nil, false, fmt.Errorf("reaction %s: do[%d]: %w", r.Name, i, err)
		}
		p := Planned{Step: i, Via: st.via, Action: hub.Action{Name: st.action, Params: params.(map[string]any)}}
		if st.key != nil {
			if p.Key, err = st.key.Render(s); err != nil {
				return nil, false, fmt.Errorf("reaction %s: do[%d].key: %w", r.Name, i, err)
			}
		}
		planned = append(planned, p)
	}
	return planned, true, nil
}

// fill evaluates the templates in v.
func fill(s *expression.Session, v any) (any, error) {
	switch v := v.(type) {
	case *expression.Template:
		text, err := v.Render(s)
		return text, err
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			x, err := fill(s, v[key])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			out[key] = x
		}
		return out, nil
	}
	return v, nil
}
