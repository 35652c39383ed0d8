package modeltest

import (
	"context"
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/lifecycle"
)

// Mutant is one small change of a model.
type Mutant struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Path   string `json:"path"` // decide[2].when
	What   string `json:"what"` // what was changed: ">= became >"

	textual bool // the text of a condition is another
	model   *lifecycle.Model
}

// maker makes the mutants of one model by changing its file in place and putting it back.
type maker struct {
	m     *lifecycle.Model
	file  string
	env   lifecycle.Env
	root  *yaml.Node  // the file without tests
	ended func() bool // nobody waits any more
	// There are two rounds: the first counts what could be changed, the second makes what is chosen of it.
	wanted   func(i int) bool
	possible int
	out      []*Mutant
}

// mutants returns the changes of m that compile, of at most most that are tried: of more, evenly chosen ones. possible is how
// many there would be to try.
func mutants(ctx context.Context, m *lifecycle.Model, most int) (list []*Mutant, possible int, err error) {
	file, text, env := m.Source()
	env.Params = nil // what a configuration overrides does not count in tests
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) != 1 {
		return nil, 0, fmt.Errorf("%s: %w", file, err)
	}
	k := &maker{m: m, ended: func() bool { return ctx.Err() != nil }, file: file, env: env, root: doc.Content[0], wanted: func(int) bool { return false }}
	for i := 0; i+1 < len(k.root.Content); i += 2 {
		if k.root.Content[i].Value == "tests" {
			k.root.Content = slices.Delete(k.root.Content, i, i+2)
			break
		}
	}
	k.round()
	if possible = k.possible; possible <= most {
		k.wanted = func(int) bool { return true }
	} else {
		k.wanted = func(i int) bool { return i*most/possible != (i+1)*most/possible }
	}
	k.possible = 0
	k.round()
	return k.out, possible, ctx.Err()
}

func (k *maker) round() {
	k.params()
	k.stages()
	k.defines()
	k.rules()
}

// child returns the value of a key, nil where it is not there.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// try compiles the file as it is now, where it is one of those chosen, and keeps the mutant if that works.
func (k *maker) try(mutant Mutant) {
	i := k.possible
	k.possible++
	if !k.wanted(i) || k.ended() {
		return
	}
	text, err := yaml.Marshal(k.root)
	if err != nil {
		return
	}
	if mutant.model, err = lifecycle.Compile(k.file, text, k.env); err == nil {
		k.out = append(k.out, &mutant)
	}
}

// value tries other values of a scalar.
func (k *maker) value(n *yaml.Node, path string, others []string) {
	was := *n
	for _, now := range others {
		n.Value = now
		k.try(Mutant{Line: n.Line, Column: n.Column, Path: path, What: was.Value + " became " + now})
	}
	*n = was
}

// without tries a mapping without some of its keys.
func (k *maker) without(n *yaml.Node, path string, keys ...string) {
	at := child(n, keys[0])
	was := n.Content
	n.Content = nil
	for i := 0; i+1 < len(was); i += 2 {
		if !slices.Contains(keys, was[i].Value) {
			n.Content = append(n.Content, was[i], was[i+1])
		}
	}
	k.try(Mutant{Line: at.Line, Column: at.Column, Path: path + "." + keys[0], What: keys[0] + " was dropped"})
	n.Content = was
}

// shorter tries a list without each of its items, where there are several.
func (k *maker) shorter(n *yaml.Node, path string) {
	if n == nil || n.Kind != yaml.SequenceNode || len(n.Content) < 2 {
		return
	}
	was := n.Content
	for i, item := range was {
		n.Content = slices.Delete(slices.Clone(was), i, i+1)
		k.try(Mutant{Line: item.Line, Column: item.Column, Path: fmt.Sprintf("%s[%d]", path, i), What: item.Value + " was dropped"})
	}
	n.Content = was
}

func (k *maker) params() {
	n := child(k.root, "params")
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		path := "params." + n.Content[i].Value
		if v := n.Content[i+1]; v.Kind == yaml.ScalarNode {
			k.value(v, path, values(v.Value))
		} else {
			k.shorter(v, path)
		}
	}
}

// stages tries the path options; labels, asks and targets decide nothing.
func (k *maker) stages() {
	n := child(k.root, "stages")
	for i := 0; n != nil && i < len(n.Content); i++ {
		st, path := n.Content[i], fmt.Sprintf("stages[%d]", i)
		if d := child(st, "dwell"); d != nil {
			k.without(st, path, "dwell", "yields_to")
			k.value(d, path+".dwell", values(d.Value))
		}
		if child(st, "yields_to") != nil {
			k.without(st, path, "yields_to")
			k.shorter(child(st, "yields_to"), path+".yields_to")
		}
		if child(st, "terminal") != nil {
			k.without(st, path, "terminal")
		}
	}
}

func (k *maker) defines() {
	n := child(k.root, "define")
	places := k.m.Defines()
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		name, v := n.Content[i].Value, n.Content[i+1]
		k.condition(v, "define."+name, places[name].Place)
	}
}

// condition tries the edits of an expression.
func (k *maker) condition(n *yaml.Node, path string, place func(offset int) (line, column int)) {
	if n == nil || n.Kind != yaml.ScalarNode {
		return
	}
	was := *n
	n.Style = yaml.DoubleQuotedStyle
	list := append(edits(was.Value), edit{now: "not (" + was.Value + ")", was: was.Value, what: "the condition was turned round"})
	for _, e := range list {
		n.Value = e.apply(was.Value)
		line, column := place(e.offset)
		k.try(Mutant{Line: line, Column: column, Path: path, What: e.what, textual: true})
	}
	*n = was
}

func (k *maker) rules() {
	n := child(k.root, "decide")
	if n == nil {
		return
	}
	rules, stages := k.m.Rules(), k.m.StageNames()
	for i, r := range n.Content {
		path := fmt.Sprintf("decide[%d]", i)
		if o := child(r, "otherwise"); o != nil {
			others := append(neighbours(stages, o.Value), "stay")
			k.value(o, path+".otherwise", slices.DeleteFunc(others, func(s string) bool { return s == o.Value }))
			continue
		}
		if i >= len(rules) {
			break
		}
		k.condition(child(r, "when"), path+".when", rules[i].When.Place)
		if st := child(r, "stage"); st != nil {
			k.value(st, path+".stage", neighbours(stages, st.Value))
		}
		for _, key := range []string{"after", "cooldown", "from"} {
			if v := child(r, key); v != nil {
				k.without(r, path, key)
				if key == "from" {
					k.shorter(v, path+".from")
				} else {
					k.value(v, path+"."+key, values(v.Value))
				}
			}
		}
		was := n.Content
		n.Content = slices.Delete(slices.Clone(was), i, i+1)
		k.try(Mutant{Line: r.Line, Column: r.Column, Path: path, What: "the rule for " + rules[i].Stage + " was dropped"})
		if i+1 < len(rules) {
			n.Content = slices.Clone(was)
			n.Content[i], n.Content[i+1] = was[i+1], was[i]
			k.try(Mutant{Line: r.Line, Column: r.Column, Path: path, What: "the rule for " + rules[i].Stage + " changed places with the one for " + rules[i+1].Stage})
		}
		n.Content = was
	}
}

// neighbours returns the stage before and the one after, round the ends.
func neighbours(stages []string, name string) []string {
	at, n := slices.Index(stages, name), len(stages)
	if at < 0 {
		return stages[:min(1, n)]
	}
	return distinct(name, stages[(at+1)%n], stages[(at+n-1)%n])
}
