package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/lint"
	"github.com/stagewire/stagewire/rules"
)

// surroundings are what a model's or reactions' file is checked against when it is checked by itself: the configuration where
// there is one, and the shipped models and the files beside it.
type surroundings struct {
	env         lifecycle.Env
	models      map[string]*lifecycle.Model
	connections map[string]func(action string) bool // nil without a configuration
	keep        config.Retention
	reacting    string // the texts of all reactions
}

// surroundings reads what stands around the file at path.
func (g *globals) surroundings(path string) surroundings {
	if _, err := os.Stat(g.config); err == nil {
		// A secret that is not there on this machine, or another model's mistake, is no reason to know nothing of the rest.
		if cfg, set, _, _ := loadSetup(g.config); set != nil {
			models, _, _ := app.Compile(cfg, set)
			s := around(cfg, set, models)
			s.beside(path)
			return s
		}
	}
	s := around(config.Default(), nil, nil)
	s.beside(path)
	return s
}

// around makes the surroundings that a configuration gives.
func around(cfg *config.Config, set *connector.Set, models []*lifecycle.Model) surroundings {
	s := surroundings{
		env: lifecycle.Env{
			Kinds: cfg.Catalogue(), Stages: map[string][]string{}, Fields: map[string]hub.PropertyType{},
			Clock: expression.Clock{Zone: cfg.Zone, Calendars: cfg.Calendars},
		},
		models: map[string]*lifecycle.Model{}, keep: cfg.Retention,
	}
	for _, m := range models {
		s.models[m.Name] = m
		s.know(m.Name, m.StageNames())
	}
	for _, f := range cfg.Fields {
		s.env.Fields[f.Name] = f.Type
	}
	if set != nil {
		s.connections = map[string]func(string) bool{}
		for name, conn := range cfg.Connections {
			if con, ok := set.Get(conn.Connector); ok {
				s.connections[name] = con.Can
			}
		}
	}
	for _, path := range cfg.Reactions {
		files := []string{path}
		if found, err := filepath.Glob(filepath.Join(path, "*.y*ml")); err == nil {
			files = append(files, found...)
		}
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				s.reacting += string(text)
			}
		}
	}
	return s
}

func (s *surroundings) know(name string, stages []string) {
	if name == "" || slices.Contains(s.env.Models, name) {
		return
	}
	s.env.Models = append(s.env.Models, name)
	s.env.Stages[name] = stages
}

// shipped are the models that ship, compiled once.
var shipped = sync.OnceValue(func() []*lifecycle.Model {
	var all surroundings
	all.env.Stages = map[string][]string{}
	for _, name := range rules.Names() {
		text, _ := rules.Text(name)
		all.know(lifecycle.Outline(text))
	}
	var out []*lifecycle.Model
	for _, name := range rules.Names() {
		text, _ := rules.Text(name)
		if m, err := lifecycle.Compile("rules/"+name+".yaml", text, lifecycle.Env{Models: all.env.Models, Stages: all.env.Stages}); err == nil {
			out = append(out, m)
		}
	}
	return out
})

// beside adds the models that ship, and those in the files beside path.
func (s *surroundings) beside(path string) {
	for _, m := range shipped() {
		s.know(m.Name, m.StageNames())
		if s.models[m.Name] == nil {
			s.models[m.Name] = m
		}
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.yaml"))
	if err != nil {
		return
	}
	for _, file := range files[:min(len(files), 200)] {
		if text, err := os.ReadFile(file); err == nil && hasKey(text, "model") {
			s.know(lifecycle.Outline(text))
		}
	}
}

// reactions is what a file of reactions compiles against.
func (s surroundings) reactions() lifecycle.ReactionEnv {
	return lifecycle.ReactionEnv{Kinds: s.env.Kinds, Models: s.models, Connections: s.connections, Fields: s.env.Fields, Clock: s.env.Clock}
}

// lint is what a model is judged against.
func (s surroundings) lint(m *lifecycle.Model) lint.Options {
	opts := lint.Options{Kinds: s.env.Kinds, Retention: s.keep.Kinds, Stages: s.env.Stages}
	for name := range m.Defines() {
		if strings.Contains(s.reacting, m.Name+"."+name) {
			opts.Used = append(opts.Used, name)
		}
	}
	return opts
}
