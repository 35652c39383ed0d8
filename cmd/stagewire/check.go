package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/server"
)

// checked is what check prints with --json.
type checked struct {
	OK       bool             `json:"ok"`
	Checked  []string         `json:"checked"`
	Errors   []server.Mistake `json:"errors"`
	Warnings []server.Mistake `json:"warnings"`
}

func newCheckCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "check [file or folder]...", Short: "Find every mistake in configuration, manifests, models and reactions", GroupID: groupWrite,
		Long: "Reads the configuration and everything it names, and reports every mistake with its file, line and column. Nothing is run and\n" +
			"no hub is asked. With arguments it checks those instead: a model's file, a connector's folder or manifest, or a configuration.",
		RunE: func(c *cobra.Command, args []string) error {
			var out checked
			var errs []error
			if len(args) == 0 {
				args = []string{g.config}
			}
			for _, arg := range args {
				what, warnings, err := checkPath(arg)
				if errors.As(err, new(usageError)) {
					return err
				}
				out.Checked = append(out.Checked, what)
				errs = append(errs, err)
				for _, w := range warnings {
					out.Warnings = append(out.Warnings, server.Mistake(w))
				}
			}
			return out.report(c, g, findings(errors.Join(errs...)))
		},
	}
}

func (out checked) report(c *cobra.Command, g *globals, found []finding) error {
	out.OK = len(found) == 0
	if g.json {
		for _, f := range found {
			out.Errors = append(out.Errors, f.Mistake)
		}
		if err := printJSON(c.OutOrStdout(), out); err != nil {
			return err
		}
	} else {
		for _, w := range out.Warnings {
			if err := (finding{Mistake: w}).print(c.ErrOrStderr(), "warning"); err != nil {
				return err
			}
		}
		for _, f := range found {
			if err := f.print(c.ErrOrStderr(), "error"); err != nil {
				return err
			}
		}
		if out.OK {
			_, err := fmt.Fprintf(c.OutOrStdout(), "good: %s\n", strings.Join(out.Checked, "; "))
			return err
		}
		if _, err := fmt.Fprintf(c.ErrOrStderr(), "%s\n", plural(len(found), "mistake")); err != nil {
			return err
		}
	}
	if !out.OK {
		return errSaid
	}
	return nil
}

// checkPath checks a configuration, a model, a file of reactions or a connector, told apart by what it holds.
func checkPath(path string) (what string, warnings []config.Problem, err error) {
	switch found, err := os.Stat(path); {
	case err != nil:
		return path, nil, config.Problem{File: path, Message: "cannot be read: " + pathReason(err)}
	case found.IsDir():
		if _, err := os.Stat(filepath.Join(path, "connector.yaml")); err != nil {
			return "", nil, usageError{fmt.Errorf("%s is a folder without connector.yaml: give a connector's folder or a file", path)}
		}
		path = filepath.Join(path, "connector.yaml")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return path, nil, err
	}
	switch {
	case filepath.Base(path) == "connector.yaml":
		_, err := connector.Parse(path, text, hub.Catalogue)
		return path, nil, err
	case hasKey(text, "model"):
		_, err := lifecycle.Compile(path, text, lifecycle.Env{})
		return path, nil, err
	default:
		return checkConfig(path)
	}
}

func pathReason(err error) string {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err.Error()
	}
	return err.Error()
}

// hasKey reports whether a YAML text has key at its top, however broken the rest of it is.
func hasKey(text []byte, key string) bool {
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, key+":") {
			return true
		}
	}
	return false
}

// checkConfig checks a configuration and everything it names. A mistake in it does not hide those in the models.
func checkConfig(path string) (string, []config.Problem, error) {
	cfg, set, warnings, err := loadSetup(path)
	if set == nil {
		return path, warnings, err
	}
	models, reactions, compileErr := app.Compile(cfg, set)
	what := fmt.Sprintf("%s with %s, %s, %s and %s", path, plural(len(cfg.Connections), "connection"), plural(len(models), "model"),
		plural(len(reactions), "reaction"), plural(len(cfg.Subscriptions), "subscription"))
	if err == nil {
		return what, warnings, compileErr
	}
	// What the configuration's own check says of a place is not said again in other words.
	known := findings(err)
	errs := []error{err}
	for _, f := range findings(compileErr) {
		if !slices.ContainsFunc(known, func(k finding) bool { return k.File == f.File && k.Line == f.Line }) && !absolute(f, cfg.File) {
			errs = append(errs, config.Problem(f.Mistake))
		}
	}
	return what, warnings, errors.Join(errs...)
}

// absolute reports whether a finding points into the configuration by its absolute path: app says the same as config there.
func absolute(f finding, file string) bool { return f.File == file }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
