package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/pipeline"
	"github.com/stagewire/stagewire/rules"
)

// definition is everything that models and reactions compile against, as it is kept with a model set. A set is always
// compiled from its definition, so that the active version stays what it was when files change.
type definition struct {
	Models    []definedModel `json:"models"`
	Reactions []definedFile  `json:"reactions"`
	Write     []definedWrite `json:"write"`
	Kinds     []hub.Kind     `json:"kinds"`
	Fields    []config.Field `json:"fields"`
	// Zone and Calendars are what conditions go by where a model says nothing of its own.
	Zone      string                  `json:"zone,omitempty"`
	Calendars map[string]hub.Calendar `json:"calendars,omitempty"`
}

type definedModel struct {
	Name   string            `json:"name"`
	File   string            `json:"file"` // as people call it
	Text   string            `json:"text"`
	Params map[string]string `json:"params,omitempty"`
	Of     hub.SubjectKind   `json:"of,omitempty"` // where it is used for others than its file says
}

type definedWrite struct {
	Connection string            `json:"connection"`
	Model      string            `json:"model"`
	Field      string            `json:"field,omitempty"`
	Tag        string            `json:"tag,omitempty"`
	Mode       string            `json:"mode"`
	Values     map[string]string `json:"values,omitempty"`
	Missing    string            `json:"missing,omitempty"`
	PinByHand  string            `json:"pin_by_hand,omitempty"` // a Go duration
}

type definedFile struct {
	File string `json:"file"`
	Text string `json:"text"`
}

// compiled is a model set ready to decide.
type compiled struct {
	set        hub.ModelSet
	definition definition
	models     []*lifecycle.Model
	reactions  []*lifecycle.Reaction
}

// define reads what the configuration names: shipped models, files and folders.
func define(cfg *config.Config) (definition, error) {
	def := definition{Kinds: cfg.Kinds, Fields: cfg.Fields, Zone: cfg.Zone, Calendars: cfg.Calendars}
	for _, w := range cfg.Write {
		def.Write = append(def.Write, definedWrite{
			Connection: w.Connection, Model: w.Model, Field: w.Field, Tag: w.Tag, Mode: w.Mode, Values: w.Values, Missing: w.Missing, PinByHand: w.PinByHand.String(),
		})
	}
	var problems []error
	for i, use := range cfg.Models {
		path := fmt.Sprintf("models[%d]", i)
		if !use.Path {
			text, err := fs.ReadFile(rules.FS, use.Use+".yaml")
			if err != nil {
				problems = append(problems, cfg.Problem(path, fmt.Sprintf("there is no shipped model %q", use.Use), config.Nearest(use.Use, rules.Names())))
				continue
			}
			def.Models = append(def.Models, definedModel{Name: use.Use, File: "rules/" + use.Use + ".yaml", Text: string(text), Params: use.Params, Of: use.Of})
			continue
		}
		files, err := yamlFiles(use.Use)
		if err != nil {
			problems = append(problems, cfg.Problem(path, err.Error(), ""))
		}
		for _, file := range files {
			def.Models = append(def.Models, definedModel{File: file.File, Text: file.Text, Params: use.Params, Of: use.Of})
		}
	}
	for i, path := range cfg.Reactions {
		files, err := yamlFiles(path)
		if err != nil {
			problems = append(problems, cfg.Problem(fmt.Sprintf("reactions[%d]", i), err.Error(), ""))
		}
		def.Reactions = append(def.Reactions, files...)
	}
	return def, errors.Join(problems...)
}

// yamlFiles reads one file, or all of a folder in order of name.
func yamlFiles(path string) ([]definedFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	paths := []string{path}
	if info.IsDir() {
		paths = nil
		for _, pattern := range [...]string{"*.yaml", "*.yml"} {
			found, err := filepath.Glob(filepath.Join(path, pattern))
			if err != nil {
				return nil, err
			}
			paths = append(paths, found...)
		}
		slices.Sort(paths)
	}
	var out []definedFile
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		out = append(out, definedFile{File: relative(path), Text: string(text)})
	}
	return out, nil
}

// relative names a file the way somebody in the working directory would.
func relative(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return path
}

// Compile compiles what cfg defines, for `check` and before a draft is saved. The error joins every problem found.
func Compile(cfg *config.Config, connectors *connector.Set) ([]*lifecycle.Model, []*lifecycle.Reaction, error) {
	def, err := define(cfg)
	if err != nil {
		return nil, nil, err
	}
	models, reactions, err := def.compile(connectorNames(cfg, connectors))
	return models, reactions, errors.Join(whereUsed(cfg, err), def.checkNames(cfg, models))
}

// whereUsed points the problems of parameters that the configuration sets wrongly to the line that does.
func whereUsed(cfg *config.Config, err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // a walk through what was joined
		var errs []error
		for _, e := range many.Unwrap() {
			errs = append(errs, whereUsed(cfg, e))
		}
		return errors.Join(errs...)
	}
	p, ok := errors.AsType[*lifecycle.Problem](err)
	if !ok || p.Param == "" {
		return err
	}
	for i, use := range cfg.Models {
		same := p.File == "rules/"+use.Use+".yaml" && !use.Path || use.Path && strings.HasPrefix(p.File, relative(use.Use))
		if text, set := use.Params[p.Param]; same && set {
			at := cfg.Problem(fmt.Sprintf("models[%d].params.%s", i, p.Param), p.Message, p.Suggestion)
			if strings.HasPrefix(p.Message, "the model has no") {
				at.Message = "the model has no parameter " + p.Param
			} else if _, want, ok := strings.Cut(p.Message, ", which is not "); ok {
				at.Message = fmt.Sprintf("%q is not %s, which the parameter is in the model (%s:%d)", text, want, p.File, p.Line)
			}
			return at
		}
	}
	return err
}

// connectors returns the manifests in force.
func (a *App) connectors() *connector.Set {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.set
}

// connectorNames tells what each configured connection can do.
func connectorNames(cfg *config.Config, set *connector.Set) map[string]func(action string) bool {
	out := map[string]func(string) bool{}
	for name, conn := range cfg.Connections {
		if con, ok := set.Get(conn.Connector); ok {
			out[name] = con.Can
		}
	}
	return out
}

func (d definition) compile(can map[string]func(action string) bool) ([]*lifecycle.Model, []*lifecycle.Reaction, error) {
	kinds := hub.Catalogue.With(d.Kinds...)
	var problems []error
	var models []*lifecycle.Model
	byName := map[string]*lifecycle.Model{}
	var names []string
	stages := map[string][]string{}
	for _, m := range d.Models {
		if name, list := lifecycle.Outline([]byte(m.Text)); name != "" {
			names = append(names, name)
			stages[name] = list
		}
	}
	for _, m := range d.Models {
		model, err := lifecycle.Compile(m.File, []byte(m.Text), lifecycle.Env{
			Kinds: kinds, Params: m.Params, Models: names, Stages: stages, Fields: d.fields(), Clock: d.clock(), Of: m.Of,
		})
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if first := byName[model.Name]; first != nil {
			problems = append(problems, lifecycle.Twice(model, first))
			continue
		}
		byName[model.Name] = model
		models = append(models, model)
	}
	if _, err := lifecycle.Order(models); err != nil {
		problems = append(problems, err)
	}
	var reactions []*lifecycle.Reaction
	if len(problems) == 0 {
		for _, file := range d.Reactions {
			list, err := lifecycle.CompileReactions(file.File, []byte(file.Text), lifecycle.ReactionEnv{Kinds: kinds, Models: byName, Connections: can, Fields: d.fields(), Clock: d.clock()})
			if err != nil {
				problems = append(problems, err)
			}
			reactions = append(reactions, list...)
		}
	}
	return models, reactions, errors.Join(problems...)
}

func (d definition) clock() expression.Clock {
	return expression.Clock{Zone: d.Zone, Calendars: d.Calendars}
}

func (d definition) fields() map[string]hub.PropertyType {
	out := make(map[string]hub.PropertyType, len(d.Fields))
	for _, f := range d.Fields {
		out[f.Name] = f.Type
	}
	return out
}

// hash identifies everything the set compiles against.
func (d definition) hash() (string, []byte, error) {
	text, err := json.Marshal(d, json.Deterministic(true))
	if err != nil {
		return "", nil, fmt.Errorf("model set: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), text, nil
}

// loadModels makes the published model set the one that decides. What the configuration says differently becomes a draft;
// the first sight on an empty database is published.
func (a *App) loadModels(ctx context.Context) error {
	draft, err := a.draft(ctx)
	if err != nil {
		return err
	}
	active, err := a.store.ActiveSet(ctx)
	switch {
	case errors.Is(err, hub.ErrNotFound):
		if err := a.store.Publish(ctx, draft.Number, time.Now()); err != nil {
			return fmt.Errorf("publish the first model set: %w", err)
		}
		if active, err = a.store.ActiveSet(ctx); err != nil {
			return err
		}
	case err != nil:
		return err
	case active.Hash != draft.Hash:
		a.Log.Warn("models, reactions or what they compile against have changed: a draft is saved, the published version still decides",
			"active", active.Number, "draft", draft.Number, "mend", "stagewire publish")
	}
	return a.activate(active)
}

// draft saves what the configuration defines, unless it is the newest set already. It must compile.
func (a *App) draft(ctx context.Context) (hub.ModelSet, error) {
	cfg := a.current()
	def, err := define(cfg)
	if err != nil {
		return hub.ModelSet{}, err
	}
	models, _, err := def.compile(connectorNames(cfg, a.connectors()))
	if err = errors.Join(err, def.checkNames(cfg, models)); err != nil {
		return hub.ModelSet{}, err
	}
	hash, text, err := def.hash()
	if err != nil {
		return hub.ModelSet{}, err
	}
	set := hub.ModelSet{State: hub.ModelDraft, Hash: hash, Definition: text, CreatedAt: time.Now()}
	for i, m := range models {
		set.Models = append(set.Models, hub.ModelVersion{Name: m.Name, State: hub.ModelDraft, Text: def.Models[i].Text, Hash: m.Hash})
	}
	return a.store.SaveDraft(ctx, set)
}

// activate compiles a published set and lets it decide.
func (a *App) activate(set hub.ModelSet) error {
	var def definition
	if err := json.Unmarshal(set.Definition, &def); err != nil {
		return fmt.Errorf("model set %d: %w", set.Number, err)
	}
	models, reactions, err := def.compile(connectorNames(a.current(), a.connectors()))
	if err != nil {
		return fmt.Errorf("the published model set %d does not compile here: %w", set.Number, err)
	}
	a.mu.Lock()
	a.compiled = &compiled{set: set, definition: def, models: models, reactions: reactions}
	a.mu.Unlock()
	a.useProgram()
	return nil
}

// useProgram gives the pipeline what decides now, with the subscriptions of the configuration.
func (a *App) useProgram() {
	a.mu.RLock()
	c, cfg := a.compiled, a.config
	a.mu.RUnlock()
	var active []pipeline.ActiveModel
	for _, m := range c.models {
		version := 1
		for _, v := range c.set.Models {
			if v.Name == m.Name {
				version = v.Version
			}
		}
		active = append(active, pipeline.ActiveModel{Model: m, Version: version})
	}
	var writes []pipeline.Write
	for _, w := range c.definition.Write {
		writes = append(writes, pipeline.Write{Connection: w.Connection, Model: w.Model, Field: w.Field, Tag: w.Tag, Mode: w.Mode, Values: w.Values})
	}
	kinds := hub.Catalogue.With(c.definition.Kinds...)
	var subscriptions []pipeline.Subscription
	for _, s := range cfg.Subscriptions {
		subscriptions = append(subscriptions, pipeline.Subscription{Name: s.Name, Kinds: expand(kinds, s.Kinds), Models: s.Models, Include: s.Include})
	}
	a.pipeline.Use(pipeline.NewProgram(c.set.Number, active, c.reactions, writes, subscriptions, a.registry.produces()))
}

// expand replaces groups by their kinds; nothing means every stage that is entered.
func expand(kinds *hub.Kinds, names []string) []string {
	if len(names) == 0 {
		return []string{"stage.entered"}
	}
	var out []string
	for _, name := range names {
		if slices.Contains(hub.Groups, name) || name == "any" {
			out = append(out, kinds.Of(name)...)
		} else {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// followActiveSet compiles the set another process published, where it is not the one in use.
func (a *App) followActiveSet(ctx context.Context) (bool, error) {
	set, err := a.store.ActiveSet(ctx)
	if err != nil {
		return false, err
	}
	if p := a.pipeline.Program(); p != nil && p.Number == set.Number {
		return false, nil
	}
	return true, a.activate(set)
}

// names returns the models' names, of those that do not compile too: their mistakes are told already.
func (d definition) names() []string {
	var names []string
	for _, m := range d.Models {
		if name, _ := lifecycle.Outline([]byte(m.Text)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// checkNames finds what the configuration says of models, their stages and connections that does not exist.
func (d definition) checkNames(cfg *config.Config, models []*lifecycle.Model) error {
	names := d.names()
	problems := []error{checkWrites(cfg, models, names)}
	for i, s := range cfg.Subscriptions {
		for j, name := range s.Models {
			if !slices.Contains(names, name) {
				problems = append(problems, cfg.Problem(fmt.Sprintf("subscriptions[%d].models[%d]", i, j), fmt.Sprintf("no model %q is in use", name), config.Nearest(name, names)))
			}
		}
	}
	return errors.Join(problems...)
}

// checkWrites finds stages without a value, fields written by two models, and names that do not exist.
func checkWrites(cfg *config.Config, models []*lifecycle.Model, names []string) error {
	var problems []error
	byName := map[string]*lifecycle.Model{}
	for _, m := range models {
		byName[m.Name] = m
	}
	taken := map[string]string{}
	for _, w := range cfg.Write {
		if _, ok := cfg.Connections[w.Connection]; !ok {
			known := make([]string, 0, len(cfg.Connections))
			for name := range cfg.Connections {
				known = append(known, name)
			}
			problems = append(problems, cfg.Problem(w.Path, fmt.Sprintf("there is no connection %q", w.Connection), config.Nearest(w.Connection, known)))
			continue
		}
		model := byName[w.Model]
		if model == nil {
			if slices.Contains(names, w.Model) {
				continue
			}
			problems = append(problems, cfg.Problem(w.Path+".model", fmt.Sprintf("no model %q is in use", w.Model), config.Nearest(w.Model, names)))
			continue
		}
		if model.Of == hub.SubjectDeal {
			problems = append(problems, cfg.Problem(w.Path+".model", fmt.Sprintf("model %s is of deals, whose stage is no customer's: it cannot be kept in a field of hers", model.Name), "let a reaction do what is to be done"))
			continue
		}
		field := w.Connection + " " + w.Field + w.Tag
		if other, ok := taken[field]; ok {
			problems = append(problems, cfg.Problem(w.Path, fmt.Sprintf("the field is written by %s already: two models cannot own one field", other), ""))
		}
		taken[field] = w.Model
		stages := make([]string, 0, len(model.Stages))
		for _, s := range model.Stages {
			stages = append(stages, s.Name)
			if _, ok := w.Values[s.Name]; !ok && len(w.Values) > 0 {
				problems = append(problems, cfg.Problem(w.Path+".values", fmt.Sprintf("stage %s has no value", s.Name), "add a line for it"))
			}
		}
		for stage := range w.Values {
			if !slices.Contains(stages, stage) {
				problems = append(problems, cfg.Problem(w.Path+".values."+stage, fmt.Sprintf("model %s has no stage %q", w.Model, stage), config.Nearest(stage, stages)))
			}
		}
	}
	return errors.Join(problems...)
}
