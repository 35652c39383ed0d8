package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/stagewire/stagewire/connectors"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/rules"
)

// loadSetup reads the configuration together with the connectors it can use: the shipped ones, overlaid with connectors_dir.
// The warnings keep nothing from running; err joins every problem of the configuration and the manifests. The Config is there in any
// case, the Set only where the manifests are good.
func loadSetup(file string) (*config.Config, *connector.Set, []config.Problem, error) {
	return loadSetupText(file, nil)
}

// loadSetupText is loadSetup for a text that stands for the file's own; nil reads the file.
func loadSetupText(file string, text []byte) (*config.Config, *connector.Set, []config.Problem, error) {
	var set *connector.Set
	lookups := config.Lookups{
		Models: rules.Names(),
		Connectors: func(cfg *config.Config) (config.Connectors, []config.Problem) {
			var err error
			if set, err = loadConnectors(cfg.ConnectorsDir, cfg.Catalogue()); err != nil {
				var problems []config.Problem
				for _, f := range findings(err) {
					problems = append(problems, config.Problem(f.Mistake))
				}
				return nil, problems
			}
			return vendors{set}, nil
		},
	}
	if text == nil {
		cfg, warnings, err := config.Load(file, lookups)
		return cfg, set, warnings, err
	}
	cfg, warnings, err := config.Parse(file, text, lookups)
	return cfg, set, warnings, err
}

// loadConnectors compiles the shipped manifests, each replaced by the folder of the same name in dir, and dir's own.
func loadConnectors(dir string, kinds *hub.Kinds) (*connector.Set, error) {
	if dir == "" {
		return connector.Load(connectors.FS, kinds)
	}
	set, err := connector.Load(overlay{os.DirFS(dir), connectors.FS}, kinds)
	return set, located(err, dir)
}

// located makes problems name their files as the reader finds them: those of dir by its path.
func located(err error, dir string) error {
	var errs []error
	for _, f := range findings(err) {
		if _, there := os.Stat(filepath.Join(dir, f.File)); there == nil {
			f.File = filepath.Join(dir, f.File)
		}
		errs = append(errs, config.Problem(f.Mistake))
	}
	return errors.Join(errs...)
}

// overlay is two file systems of folders. A folder that the first has hides the second's of the same name.
type overlay struct{ over, under fs.FS }

// Open opens name where it is visible.
func (o overlay) Open(name string) (fs.File, error) {
	top, _, _ := cut(name)
	if _, err := fs.Stat(o.over, top); err == nil && top != "." {
		return o.over.Open(name)
	}
	return o.under.Open(name)
}

// Glob lists what matches in either. It makes fs.Glob work, which would need directories to be read.
func (o overlay) Glob(pattern string) ([]string, error) {
	seen := map[string]bool{}
	for _, f := range []fs.FS{o.over, o.under} {
		names, err := fs.Glob(f, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if _, err := fs.Stat(o, name); err == nil { // not hidden
				seen[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

func cut(name string) (top, rest string, nested bool) {
	top = name
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		top, nested = dir, true
	}
	return top, name[len(top):], nested
}

// vendors is what config asks of a set of connectors.
type vendors struct{ set *connector.Set }

// Names returns the connectors' names.
func (v vendors) Names() []string {
	var names []string
	for _, c := range v.set.All() {
		names = append(names, c.Name())
	}
	return names
}

// Secret reports whether a connector's key holds a secret, and whether there is such a key.
func (v vendors) Secret(name, key string) (secret, known bool) {
	c, ok := v.set.Get(name)
	if !ok {
		return false, false
	}
	s, known := c.Settings()[key]
	return s.Secret, known
}

// Check returns what is wrong with a connection's keys.
func (v vendors) Check(conn *hub.Connection) []config.Problem {
	c, ok := v.set.Get(conn.Connector)
	if !ok {
		return nil
	}
	var out []config.Problem
	for _, p := range c.CheckConnection(conn) {
		out = append(out, config.Problem(p))
	}
	return out
}
