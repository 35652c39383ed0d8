package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// Env is what a model compiles against beside its own file.
type Env struct {
	Kinds  *hub.Kinds        // nil: the built-in catalogue
	Params map[string]string // override the model's own params
	Of     hub.SubjectKind   // whose stage it is where the model is used so; "": as the file says
	// Models are the names known for stages.<model>; Stages has the stages of those that are known, for checking names.
	Models []string
	Stages map[string][]string
	// Fields are the fields of your own that the configuration declares.
	Fields map[string]hub.PropertyType
	// Clock has the zone and the calendars of the configuration. A model's own zone and calendar win.
	Clock expression.Clock
}

// Stage is one place of a model.
type Stage struct {
	Name     string            `json:"name"`
	Labels   map[string]string `json:"labels,omitempty"`
	Asks     string            `json:"asks,omitempty"` // what the stage asks of the business
	Dwell    time.Duration     `json:"-"`              // no rule leads out before that long, 0 for none
	YieldsTo []string          `json:"yields_to,omitempty"`
	Terminal bool              `json:"terminal,omitempty"`
	Target   *Target           `json:"target,omitempty"`
}

// Target is a stage's own success check: the share of customers who go on to another stage in time.
type Target struct {
	To     string        `json:"to"`
	Within time.Duration `json:"-"`
	Share  float64       `json:"share"`
}

// Label returns the stage's label in the first of the languages it has one in, else its name.
func (s Stage) Label(languages ...string) string {
	for _, l := range languages {
		if label := s.Labels[l]; label != "" {
			return label
		}
	}
	return s.Name
}

// Model is a compiled model. It is immutable and safe for concurrent use.
type Model struct {
	Name   string
	Of     hub.SubjectKind
	Labels map[string]string
	Stages []Stage // in the order of the journey
	Tests  []Test
	Hash   string // of the file and all it compiles against

	file        string
	unsure      bool     // while compiling: not all stages could be read
	broken      []string // while compiling: "name x" of conditions, "parameter x" with mistakes of their own
	named       place    // where its name stands
	rules       []rule
	otherwise   string // "" for stay
	line        int    // of otherwise
	env         *expression.Env
	defines     map[string]*expression.Program
	places      map[*expression.Program]place // where each condition stands, for explanations
	stage       map[string]*Stage
	reads       []string
	readsTraits bool
	readsDeals  bool
	uses        []string
	needs       expression.Needs
	reasons     []string
	// What State.Path holds: the stages whose leaving is remembered for cooldown; whether the stages are logged for conditions that
	// read them and have after, those of which other models, and for how long.
	cools    map[string]bool
	logs     bool
	watches  []string
	longest  time.Duration
	text     []byte // what the model was compiled from, with source
	source   Env
	variants *sync.Map // by parameters, see With
}

type rule struct {
	stage           string
	when            *expression.Program
	from            []string
	after, cooldown time.Duration // 0 for none
	logs            bool          // after, of a condition that reads stages
	line            int
}

// place is where a condition stands in the file: the position of each character of its text.
type place struct {
	line, column int
	at           func(offset int) (line, column int)
	source       *source
}

// Reads returns the event kinds a decision can depend on, sorted.
func (m *Model) Reads() []string { return m.reads }

// ReadsTraits reports whether a decision can depend on traits, which any event can bring.
func (m *Model) ReadsTraits() bool { return m.readsTraits }

// Touches reports whether an event can change a decision. For one that was replaced or withdrawn ask about both versions.
func (m *Model) Touches(ev *hub.Event) bool {
	if m.readsTraits && len(ev.Traits) > 0 || m.readsName(ev) {
		return true
	}
	_, found := slices.BinarySearch(m.reads, ev.Kind)
	return found
}

// TouchesDeal reports whether an event can change the decision about one deal (hub.Subject.ID): what happens to another deal does not,
// unless a condition looks at all of them.
func (m *Model) TouchesDeal(ev *hub.Event, deal string) bool {
	if !m.Touches(ev) {
		return false
	}
	id, about := fact.DealOf(ev.Kind, ev.Connection, ev.Properties)
	return !about || m.readsDeals || hub.DealSubject(ev.Connection, id).ID == deal || (m.readsTraits && len(ev.Traits) > 0) || m.readsName(ev)
}

// readsName reports whether a decision can depend on the addresses that an event brings.
func (m *Model) readsName(ev *hub.Event) bool {
	return m.needs.Has(expression.NeedsIdentifiers) && slices.ContainsFunc(ev.Identifiers, func(id hub.Identifier) bool {
		return id.Kind == hub.IdentifierEmail || id.Kind == hub.IdentifierPhone
	})
}

// UsesModels returns the models whose stage this one reads.
func (m *Model) UsesModels() []string { return m.uses }

// Needs returns what decisions read beside the subject's own events.
func (m *Model) Needs() expression.Needs { return m.needs }

// PathDependent reports whether decisions depend on the order in which facts became known, and by what.
func (m *Model) PathDependent() (bool, []string) { return len(m.reasons) > 0, m.reasons }

// Stage returns the stage of that name, nil for none.
func (m *Model) Stage(name string) *Stage { return m.stage[name] }

// StageNames returns the stages' names in the order of the journey.
func (m *Model) StageNames() []string {
	names := make([]string, len(m.Stages))
	for i := range m.Stages {
		names[i] = m.Stages[i].Name
	}
	return names
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// identifierForm is the form of names that expressions use.
var identifierForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Outline returns a model's name and stages without compiling it: what other models need to check against.
// It is empty for a file that cannot be read.
func Outline(text []byte) (name string, stages []string) {
	s, root := open("", text)
	if root == nil || root.Kind != yaml.MappingNode {
		return "", nil
	}
	s.pairs(root, "", func(k, v *yaml.Node) {
		switch k.Value {
		case "model":
			name = v.Value
		case "stages":
			for _, n := range v.Content {
				for i := 0; i+1 < len(n.Content); i += 2 {
					if n.Content[i].Value == "name" {
						stages = append(stages, n.Content[i+1].Value)
					}
				}
			}
		}
	})
	return name, stages
}

// Compile reads a model. The error joins a *Problem for every mistake in the file, in its order.
func Compile(file string, text []byte, env Env) (*Model, error) {
	return compileModel(file, text, env, true)
}

func compileModel(file string, text []byte, env Env, tests bool) (*Model, error) {
	s, root := open(file, text)
	if root == nil {
		return nil, join(s.problems)
	}
	if env.Kinds == nil {
		env.Kinds = hub.Catalogue
	}
	top := s.fields(root, "", keysOf(FormModel)...)
	m := &Model{
		Labels: s.labels(top["labels"], "labels"), file: file, Of: hub.SubjectCustomer,
		stage: map[string]*Stage{}, defines: map[string]*expression.Program{}, places: map[*expression.Program]place{},
		text: text, source: env, variants: new(sync.Map),
	}
	for _, key := range []string{"model", "stages", "decide"} {
		if top[key] == nil && root.Kind == yaml.MappingNode {
			s.fail(root, "", needs(FormModel, key), "%s is missing", key)
		}
	}
	m.header(s, top, env)
	m.readStages(s, top["stages"])
	env.Clock = s.clock(env.Clock, top["zone"], top["calendar"])
	m.environment(s, top["params"], env)
	m.readDefines(s, top["define"])
	m.readRules(s, top["decide"])
	if tests {
		m.Tests = m.readTests(s, top["tests"], env)
	}
	if len(s.problems) > 0 {
		return nil, join(s.problems)
	}
	m.finish(text, env)
	return m, nil
}

func (m *Model) header(s *source, top map[string]*yaml.Node, env Env) {
	if n := top["model"]; n != nil {
		m.Name = s.text(n, "model")
		m.named = place{line: n.Line, column: n.Column, source: s}
		if !nameForm.MatchString(m.Name) {
			suggestion := ""
			if lower := strings.ReplaceAll(strings.ToLower(m.Name), " ", "_"); nameForm.MatchString(lower) {
				suggestion = "write " + lower
			}
			s.fail(n, "model", suggestion, "a model's name has small letters, digits, _ and -, not %q", m.Name)
		}
	}
	if n := top["of"]; n != nil {
		switch of := hub.SubjectKind(s.text(n, "of")); of {
		case hub.SubjectCustomer, hub.SubjectCompany, hub.SubjectDeal:
			m.Of = of
		default:
			suggestion := ""
			if c := expression.Closest(string(of), []string{"customer", "company", "deal"}); c != "" {
				suggestion = "did you mean " + c + "?"
			}
			s.fail(n, "of", suggestion, "a model is of a customer, a company or a deal, not of %q", of)
		}
	}
	if env.Of != "" {
		m.Of = env.Of
	}
}

func (m *Model) readStages(s *source, n *yaml.Node) {
	items := s.items(n, "stages")
	m.unsure = len(items) == 0
	if n != nil && len(items) == 0 && n.Kind == yaml.SequenceNode {
		s.fail(n, "stages", "", "a model has at least one stage")
	}
	type late struct {
		node *yaml.Node
		path string
		name string
	}
	var refs []late
	for i, item := range items {
		path := fmt.Sprintf("stages[%d]", i)
		before := len(s.problems)
		f := s.fields(item, path, keysOf(FormStage)...)
		st := Stage{
			Name: s.text(f["name"], path+".name"), Labels: s.labels(f["labels"], path+".labels"), Asks: s.text(f["asks"], path+".asks"),
			Dwell: s.duration(f["dwell"], path+".dwell"), YieldsTo: s.texts(f["yields_to"], path+".yields_to"), Terminal: s.flag(f["terminal"], path+".terminal"),
		}
		switch {
		case f["name"] == nil:
			m.unsure = true
			if item.Kind == yaml.MappingNode && len(s.problems) == before {
				s.fail(item, path, "write name: and a word of small letters", "a stage needs a name")
			}
			continue
		case st.Name == "stay":
			s.fail(f["name"], path+".name", "choose another name", "stay is taken: otherwise: stay leaves the stage as it is")
		case !nameForm.MatchString(st.Name):
			suggestion := "labels hold what people read"
			if lower := strings.ReplaceAll(strings.ToLower(st.Name), " ", "_"); nameForm.MatchString(lower) {
				suggestion = "write " + lower + "; labels hold what people read"
			}
			s.fail(f["name"], path+".name", suggestion, "a stage's name has small letters, digits, _ and -, not %q", st.Name)
		case m.stage[st.Name] != nil:
			s.fail(f["name"], path+".name", "take one of them out, or give it another name", "stage %s is there twice", st.Name)
			continue
		}
		if f["yields_to"] != nil && f["dwell"] == nil {
			s.fail(f["yields_to"], path+".yields_to", "", "yields_to means something only beside dwell")
		}
		for j, to := range st.YieldsTo {
			refs = append(refs, late{f["yields_to"], fmt.Sprintf("%s.yields_to[%d]", path, j), to})
		}
		if t := f["target"]; t != nil {
			tf := s.fields(t, path+".target", keysOf(FormTarget)...)
			st.Target = &Target{To: s.text(tf["to"], path+".target.to"), Within: s.duration(tf["within"], path+".target.within")}
			for _, key := range []string{"to", "within", "share"} {
				if tf[key] == nil {
					s.fail(t, path+".target", needs(FormTarget, key), "%s is missing", key)
				}
			}
			if tf["to"] != nil {
				refs = append(refs, late{tf["to"], path + ".target.to", st.Target.To})
			}
			if sh := tf["share"]; sh != nil {
				v, _ := scalar(sh)
				switch v := v.(type) {
				case float64:
					st.Target.Share = v
				case int:
					st.Target.Share = float64(v)
				}
				if !(st.Target.Share > 0 && st.Target.Share <= 1) {
					s.fail(sh, path+".target.share", "write 0.3 for 30 %", "a share is above 0 and at most 1")
				}
			}
		}
		m.Stages = append(m.Stages, st)
		m.stage[st.Name] = &st // completed below, once Stages stops moving
	}
	for i := range m.Stages {
		m.stage[m.Stages[i].Name] = &m.Stages[i]
	}
	for _, r := range refs {
		m.checkStage(s, r.node, r.path, r.name)
	}
}

func (m *Model) checkStage(s *source, n *yaml.Node, path, name string) bool {
	if m.stage[name] != nil {
		return true
	}
	if m.unsure { // the stages have mistakes of their own: it may well be one of them
		return false
	}
	suggestion := ""
	if c := expression.Closest(name, m.StageNames()); c != "" {
		suggestion = "did you mean " + c + "?"
	}
	s.fail(n, path, suggestion, "unknown stage %s", name)
	return false
}

// environment makes what the conditions are checked against.
func (m *Model) environment(s *source, n *yaml.Node, env Env) {
	m.env = &expression.Env{
		Kinds: env.Kinds, Params: map[string]expression.Param{}, Models: map[string]expression.Model{}, Defines: m.defines,
		Fields: env.Fields, Name: m.Name, Stages: m.StageNames(), Clock: env.Clock, Of: m.Of,
	}
	for _, name := range env.Models {
		if name != m.Name {
			m.env.Models[name] = expression.Model{Stages: env.Stages[name]}
		}
	}
	s.pairs(n, "params", func(k, v *yaml.Node) {
		path := "params." + k.Value
		if !identifierForm.MatchString(k.Value) {
			s.fail(k, path, "", "a parameter's name has small letters, digits and _")
		}
		var value any
		if v.Kind == yaml.SequenceNode {
			value = s.texts(v, path)
		} else {
			value, _ = scalar(v)
		}
		p, err := expression.NewParam(value)
		if err != nil {
			m.broken = append(m.broken, "parameter "+k.Value)
			s.fail(v, path, "", "%s", strings.TrimSuffix(err.Error(), ": "+hub.ErrInvalid.Error()))
			return
		}
		if text, ok := env.Params[k.Value]; ok {
			over, err := expression.NewParam(yamlScalar(text))
			if err != nil || !p.Same(over) {
				s.fail(v, path, "", "it is overridden by %q where the model is used, which is not %s", text, p.Type())
				s.problems[len(s.problems)-1].Param = k.Value
			} else {
				p = over
			}
		}
		m.env.Params[k.Value] = p
	})
	for _, name := range slices.Sorted(maps.Keys(env.Params)) {
		if _, ok := m.env.Params[name]; ok {
			continue
		}
		if n != nil && slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return c.Value == name }) {
			continue // reported above
		}
		suggestion := ""
		if c := expression.Closest(name, slices.Sorted(maps.Keys(m.env.Params))); c != "" {
			suggestion = "did you mean " + c + "?"
		}
		s.fail(n, "params", suggestion, "the model has no parameter %s, which is set where it is used", name)
		s.problems[len(s.problems)-1].Param = name
	}
}

// yamlScalar reads text as YAML would.
func yamlScalar(text string) any {
	var n yaml.Node
	if decodeYAML([]byte(text), &n) != nil || len(n.Content) != 1 {
		return text
	}
	if v, ok := scalar(n.Content[0]); ok {
		return v
	}
	return text
}

// readDefines compiles the named conditions; each may use any other, in whatever order they stand, but not itself.
func (m *Model) readDefines(s *source, n *yaml.Node) {
	type pending struct {
		name     string
		node     *yaml.Node
		problems []expression.Problem
	}
	var open []*pending
	s.pairs(n, "define", func(k, v *yaml.Node) {
		path := "define." + k.Value
		switch {
		case !identifierForm.MatchString(k.Value):
			s.fail(k, path, "", "a condition's name has small letters, digits and _")
		case v.Kind != yaml.ScalarNode:
			s.fail(v, path, "", "this must be an expression")
		default:
			open = append(open, &pending{name: k.Value, node: v})
		}
	})
	for progress := true; progress; {
		progress = false
		for _, p := range slices.Clone(open) {
			program, problems := expression.CompileValue(p.node.Value, m.env)
			if p.problems = m.first(problems); program == nil {
				continue
			}
			m.defines[p.name] = program
			m.places[program] = s.place(p.node)
			open = slices.DeleteFunc(open, func(o *pending) bool { return o == p })
			progress = true
		}
	}
	refs := map[string][]string{}
	for _, p := range open {
		m.broken = append(m.broken, "name "+p.name)
		for _, problem := range p.problems {
			if name, ok := strings.CutPrefix(problem.Message, "unknown name "); ok && slices.ContainsFunc(open, func(o *pending) bool { return o.name == name }) {
				refs[p.name] = append(refs[p.name], name)
			}
		}
	}
	told := map[string]bool{}
	for _, p := range open {
		circle := circleFrom(refs, p.name)
		var problems []expression.Problem
		for _, problem := range p.problems {
			name, _ := strings.CutPrefix(problem.Message, "unknown name ")
			switch {
			case !slices.Contains(refs[p.name], name):
				problems = append(problems, problem)
			case len(circle) > 1 && circle[1] == name && !told[p.name]:
				problem.Message, problem.Suggestion = "conditions go round in a circle: "+strings.Join(circle, " → "), "a condition can use others, but in the end not itself"
				problems = append(problems, problem)
				for _, member := range circle {
					told[member] = true
				}
			}
		}
		s.expressionProblems(p.node, "define."+p.name, problems)
	}
}

// circleFrom returns the names on the shortest way from start back to it, both ends included; nil where there is none.
func circleFrom(refs map[string][]string, start string) []string {
	ways := [][]string{{start}}
	seen := map[string]bool{}
	for len(ways) > 0 {
		way := ways[0]
		ways = ways[1:]
		for _, next := range refs[way[len(way)-1]] {
			if next == start {
				return append(slices.Clone(way), start)
			}
			if !seen[next] {
				seen[next] = true
				ways = append(ways, append(slices.Clone(way), next))
			}
		}
	}
	return nil
}

// first leaves out the problems that only follow from one that has been told: names of conditions and parameters with mistakes of
// their own.
func (m *Model) first(problems []expression.Problem) []expression.Problem {
	return slices.DeleteFunc(problems, func(p expression.Problem) bool {
		name, ok := strings.CutPrefix(p.Message, "unknown ")
		return ok && slices.Contains(m.broken, name)
	})
}

func (s *source) place(n *yaml.Node) place {
	line, column := s.locate(n, 0)
	return place{line, column, func(offset int) (int, int) { return s.locate(n, offset) }, s}
}

func (m *Model) readRules(s *source, n *yaml.Node) {
	items := s.items(n, "decide")
	if n != nil && n.Kind == yaml.SequenceNode && len(items) == 0 {
		s.fail(n, "decide", "end with otherwise: a stage, or stay", "decide is empty")
	}
	done := false
	for i, item := range items {
		path := fmt.Sprintf("decide[%d]", i)
		if cutAtComma(item) {
			s.fail(item, path, "write when: on a line of its own, not inside { }", "YAML cuts the condition at its first comma")
			continue
		}
		f := s.fields(item, path, keysOf(FormRule)...)
		if done {
			s.fail(item, path, "", "nothing can follow otherwise")
			continue
		}
		if o := f["otherwise"]; o != nil {
			done = true
			m.line = item.Line
			for _, key := range []string{"stage", "when", "from", "after", "cooldown"} {
				if f[key] != nil {
					s.fail(f[key], path, "", "%s does not go with otherwise", key)
				}
			}
			if name := s.text(o, path+".otherwise"); name != "stay" && m.checkStage(s, o, path+".otherwise", name) {
				m.otherwise = name
			}
			continue
		}
		r := rule{stage: s.text(f["stage"], path+".stage"), from: s.texts(f["from"], path+".from"), line: item.Line}
		r.after, r.cooldown = s.duration(f["after"], path+".after"), s.duration(f["cooldown"], path+".cooldown")
		for _, key := range []string{"stage", "when"} {
			if f[key] == nil {
				s.fail(item, path, needs(FormRule, key), "%s is missing", key)
			}
		}
		if f["stage"] != nil {
			m.checkStage(s, f["stage"], path+".stage", r.stage)
		}
		for j, from := range r.from {
			at := f["from"]
			if at.Kind == yaml.SequenceNode {
				at = at.Content[j]
			}
			m.checkStage(s, at, fmt.Sprintf("%s.from[%d]", path, j), from)
		}
		if w := f["when"]; w != nil {
			if w.Kind != yaml.ScalarNode {
				s.fail(w, path+".when", "write conditions in block style, on lines of their own", "this must be an expression")
				continue
			}
			program, problems := expression.Compile(w.Value, m.env)
			s.expressionProblems(w, path+".when", m.first(problems))
			if program != nil {
				r.when = program
				r.logs = r.after > 0 && (program.UsesStage() || len(program.UsesModels) > 0)
				m.places[program] = s.place(w)
			}
		}
		m.rules = append(m.rules, r)
	}
	if len(items) > 0 && !done {
		s.fail(items[len(items)-1], "decide", "end with otherwise: a stage, or stay", "the last line of decide is missing: otherwise")
	}
}

// cutAtComma reports whether a map written as { } holds an unclosed call: count("a", days(90)) falls apart there.
func cutAtComma(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode || n.Style&yaml.FlowStyle == 0 {
		return false
	}
	return slices.ContainsFunc(n.Content, func(c *yaml.Node) bool {
		return c.Kind == yaml.ScalarNode && c.Style == 0 && strings.Count(c.Value, "(") > strings.Count(c.Value, ")")
	})
}

// finish derives what the model depends on, and its hash.
func (m *Model) finish(text []byte, env Env) {
	reads, uses := map[string]struct{}{}, map[string]struct{}{}
	because := func(reason string) {
		if !slices.Contains(m.reasons, reason) {
			m.reasons = append(m.reasons, reason)
		}
	}
	m.cools = map[string]bool{}
	for _, r := range m.rules {
		if r.after > 0 {
			because("after")
			m.longest = max(m.longest, r.after)
		}
		if r.cooldown > 0 {
			because("cooldown")
			m.cools[r.stage] = true
		}
		if r.logs {
			m.logs = true
			for _, u := range r.when.UsesModels {
				if !slices.Contains(m.watches, u) {
					m.watches = append(m.watches, u)
				}
			}
		}
		for _, k := range r.when.Reads {
			reads[k] = struct{}{}
		}
		for _, u := range r.when.UsesModels {
			uses[u] = struct{}{}
		}
		m.readsTraits = m.readsTraits || r.when.ReadsTraits
		m.readsDeals = m.readsDeals || r.when.ReadsDeals
		m.needs |= r.when.Needs
		if r.when.UsesStage() {
			because("stage")
		}
		if len(r.from) > 0 {
			because("from")
		}
	}
	for _, st := range m.Stages {
		if st.Dwell > 0 {
			because("dwell")
		}
		if len(st.YieldsTo) > 0 {
			because("yields_to")
		}
		if st.Terminal {
			because("terminal")
		}
	}
	if m.otherwise == "" {
		because("stay")
	}
	slices.Sort(m.watches)
	m.reads, m.uses = slices.Sorted(maps.Keys(reads)), slices.Sorted(maps.Keys(uses))

	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n", len(text), text)
	if env.Of != "" {
		fmt.Fprintf(h, "of %q\n", env.Of)
	}
	for _, name := range slices.Sorted(maps.Keys(env.Params)) {
		fmt.Fprintf(h, "param %q %q\n", name, env.Params[name])
	}
	for _, name := range m.reads {
		kind, _ := env.Kinds.Lookup(name)
		fmt.Fprintf(h, "kind %q %q %q", name, kind.Group, kind.Object)
		for _, p := range slices.Sorted(maps.Keys(kind.Properties)) {
			fmt.Fprintf(h, " %q %q", p, kind.Properties[p])
		}
		fmt.Fprintln(h)
	}
	for _, name := range slices.Sorted(maps.Keys(env.Fields)) {
		fmt.Fprintf(h, "field %q %q\n", name, env.Fields[name])
	}
	for _, name := range m.uses {
		fmt.Fprintf(h, "model %q %q\n", name, env.Stages[name])
	}
	if clock, err := json.Marshal(env.Clock, json.Deterministic(true)); err == nil && string(clock) != "{}" {
		fmt.Fprintf(h, "clock %s\n", clock)
	}
	m.Hash = hex.EncodeToString(h.Sum(nil)[:16])
}
