package main

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/lsp"
	"github.com/stagewire/stagewire/rules"
)

// project answers the language server by what check does.
type project struct {
	g       *globals
	schemas map[contents]*lsp.Schema
}

func newProject(g *globals) (*project, error) {
	p := &project{g, map[contents]*lsp.Schema{}}
	for what, make := range map[contents]func() ([]byte, error){
		aConfiguration: config.Schema,
		aModel:         func() ([]byte, error) { return lifecycle.ModelSchema(hub.Catalogue) },
		someReactions:  func() ([]byte, error) { return lifecycle.ReactionSchema(hub.Catalogue) },
	} {
		text, err := make()
		if err != nil {
			return nil, err
		}
		if p.schemas[what], err = lsp.ParseSchema(text); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ours reports whether a file is one that check reads: editors show a language server every YAML file there is.
func (p *project) ours(path string, text []byte) bool {
	base := filepath.Base(path)
	return holds(path, text) != aConfiguration || base == filepath.Base(p.g.config) || base == "stagewire.yaml" || base == "stagewire.yml"
}

// Check implements lsp.Project.
func (p *project) Check(path string, text []byte) []lsp.Diagnostic {
	if !p.ours(path, text) {
		return nil
	}
	var warnings []warning
	var err error
	if holds(path, text) == aConfiguration {
		_, warnings, err = p.g.checkConfig(path, text)
	} else {
		warnings, err = p.g.checkText(path, text)
	}
	var out []lsp.Diagnostic
	add := func(f finding, advice bool) {
		message := f.Message
		if f.Suggestion != "" {
			message += " (" + f.Suggestion + ")"
		}
		out = append(out, lsp.Diagnostic{File: f.File, Line: f.Line, Column: f.Column, Message: message, Code: f.check, Warning: advice})
	}
	for _, f := range findings(err) {
		add(f, false)
	}
	for _, w := range warnings {
		add(finding{Mistake: w.Mistake, check: w.Check}, true)
	}
	return out
}

var (
	stageLines = regexp.MustCompile(`(?m)^\s*- *\{? *name: *([a-z][a-z0-9_-]*)`)
	blockOf    = regexp.MustCompile(`(?m)^(stages|params|define):[ \t]*(.*)\n((?:[ \t]+.*\n|\n|#.*\n|- .*\n)*)`)
	namesIn    = regexp.MustCompile(`(?:^|\n|[{,]) *([a-z][a-z0-9_]*):`)
)

// Describe implements lsp.Project. The names are read off the text by its look: while one types it is seldom good YAML.
func (p *project) Describe(path string, text []byte) lsp.Vocabulary {
	what := holds(path, text)
	if !p.ours(path, text) {
		return lsp.Vocabulary{Kinds: hub.Catalogue}
	}
	s := p.g.surroundings(path)
	v := lsp.Vocabulary{
		Schema: p.schemas[what], Kinds: s.env.Kinds, Models: s.env.Stages, Shipped: rules.Names(),
		Fields: slices.Sorted(maps.Keys(s.env.Fields)), Connections: slices.Sorted(maps.Keys(s.connections)),
	}
	if what != aModel {
		return v
	}
	for _, m := range blockOf.FindAllSubmatch(append(text, '\n'), -1) {
		block := append(slices.Clone(m[2]), append([]byte("\n"), m[3]...)...)
		switch string(m[1]) {
		case "stages":
			for _, name := range stageLines.FindAllSubmatch(block, -1) {
				v.Stages = append(v.Stages, string(name[1]))
			}
		case "params":
			for _, name := range namesIn.FindAllSubmatch(block, -1) {
				v.Params = append(v.Params, string(name[1]))
			}
		case "define":
			for _, name := range namesIn.FindAllSubmatch(block, -1) {
				v.Defines = append(v.Defines, string(name[1]))
			}
		}
	}
	return v
}

// serveEditor runs the language server on the streams of the command.
func serveEditor(g *globals, run func(*lsp.Server) error) error {
	p, err := newProject(g)
	if err != nil {
		return err
	}
	return run(&lsp.Server{Project: p, Version: buildVersion()})
}
