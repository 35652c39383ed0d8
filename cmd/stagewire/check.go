package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/lint"
	"github.com/stagewire/stagewire/internal/lsp"
	"github.com/stagewire/stagewire/internal/server"
)

// checked is what check prints with --json.
type checked struct {
	OK       bool             `json:"ok"`
	Checked  []string         `json:"checked"`
	Errors   []server.Mistake `json:"errors"`
	Warnings []warning        `json:"warnings"`
}

// warning is advice that keeps nothing from running. Check is the linter's name for it, where it comes from there.
type warning struct {
	server.Mistake
	Check string `json:"check,omitempty"`
}

func newCheckCommand(g *globals) *cobra.Command {
	strict, editor := false, false
	c := &cobra.Command{
		Use: "check [file or folder]...", Short: "Find every mistake in configuration, manifests, models and reactions", GroupID: groupWrite,
		Long: "Reads the configuration and everything it names, and reports every mistake with its file, line and column. Nothing is run. Only\n" +
			"whether scores that models read are known so far is asked of the hub, where one runs. With arguments it checks those instead: a model's file or a folder of them, a file of reactions, a connector's\n" +
			"folder or manifest, or a configuration.\n\n" +
			"Models that are free of mistakes are looked through for what is probably not meant. Such warnings fail the check only with\n" +
			"--strict. A comment on the line, or alone on the line above, silences one: # lint:ignore <check>. The checks:\n\n" + lintChecks(),
		Example: "  stagewire check\n  stagewire check --strict rules/mine.yaml",
		RunE: func(c *cobra.Command, args []string) error {
			if editor {
				if len(args) > 0 {
					return usageError{errors.New("--lsp takes no files: the editor names them")}
				}
				return serveEditor(g, func(s *lsp.Server) error { return s.Run(c.Context(), c.InOrStdin(), c.OutOrStdout()) })
			}
			var out checked
			var errs []error
			if len(args) == 0 {
				args = []string{g.config}
			}
			for _, arg := range args {
				what, warnings, err := g.checkPath(arg)
				if errors.As(err, new(usageError)) {
					return err
				}
				out.Checked = append(out.Checked, what)
				errs = append(errs, err)
				out.Warnings = append(out.Warnings, warnings...)
			}
			if err := out.report(c, g, findings(errors.Join(errs...)), strict); err != nil || g.json {
				return err
			}
			return noteScores(c, g)
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "fail on warnings too")
	c.Flags().BoolVar(&editor, "lsp", false, "be a language server for editors, on standard input and output")
	return c
}

// lintChecks lists the linter's checks for the help.
func lintChecks() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(lint.Checks)) {
		fmt.Fprintf(&b, "  %-12s %s\n", name, lint.Checks[name])
	}
	return strings.TrimRight(b.String(), "\n")
}

func (out checked) report(c *cobra.Command, g *globals, found []finding, strict bool) error {
	out.OK = len(found) == 0 && (!strict || len(out.Warnings) == 0)
	if g.json {
		for _, f := range found {
			out.Errors = append(out.Errors, f.Mistake)
		}
		if err := printJSON(c.OutOrStdout(), out); err != nil {
			return err
		}
	} else {
		for _, w := range out.Warnings {
			if err := (finding{Mistake: w.Mistake, check: w.Check}).print(c.ErrOrStderr(), "warning"); err != nil {
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
		count := plural(len(found), "mistake")
		switch {
		case len(found) == 0:
			count = plural(len(out.Warnings), "warning")
		case len(out.Warnings) > 0 && strict:
			count += " and " + plural(len(out.Warnings), "warning")
		}
		if _, err := fmt.Fprintf(c.ErrOrStderr(), "%s\n", count); err != nil {
			return err
		}
	}
	if !out.OK {
		return errSaid
	}
	return nil
}

// checkPath checks a configuration, a model, a file of reactions or a connector, told apart by what it holds, or all models and
// reactions of a folder.
func (g *globals) checkPath(path string) (what string, warnings []warning, err error) {
	switch found, err := os.Stat(path); {
	case err != nil:
		return path, nil, config.Problem{File: path, Message: "cannot be read: " + pathReason(err)}
	case found.IsDir():
		if _, err := os.Stat(filepath.Join(path, "connector.yaml")); err != nil {
			return g.checkFolder(path)
		}
		path = filepath.Join(path, "connector.yaml")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return path, nil, err
	}
	if holds(path, text) == aConfiguration {
		return g.checkConfig(path, text)
	}
	warnings, err = g.checkText(path, text)
	return path, warnings, err
}

func (g *globals) checkFolder(path string) (what string, warnings []warning, err error) {
	files, err := filepath.Glob(filepath.Join(path, "*.yaml"))
	if err != nil || len(files) == 0 {
		return "", nil, usageError{fmt.Errorf("%s is a folder without connector.yaml and without models: give a connector's folder or a file", path)}
	}
	var errs []error
	for _, file := range files {
		_, more, err := g.checkPath(file)
		warnings = append(warnings, more...)
		errs = append(errs, err)
	}
	return fmt.Sprintf("%s with %s", path, plural(len(files), "file")), warnings, errors.Join(errs...)
}

// contents is what a file is for.
type contents int

const (
	aConfiguration contents = iota
	aManifest
	aModel
	someReactions
)

// reactionsForm finds the beginning of a file of reactions: in a configuration the same key holds paths.
var reactionsForm = regexp.MustCompile(`(?m)^reactions:[ \t]*(#.*)?\r?\n(\s*#.*\n|\s*\n)*\s*-[ \t]*(\{[ \t]*)?[a-z_]+[ \t]*:`)

// holds tells files apart, however broken they are.
func holds(path string, text []byte) contents {
	switch {
	case filepath.Base(path) == "connector.yaml":
		return aManifest
	case reactionsForm.Match(text):
		return someReactions
	case hasKey(text, "model") || hasKey(text, "decide") && hasKey(text, "stages"):
		return aModel
	}
	return aConfiguration
}

// checkText checks a text that is a manifest, a model or reactions as if it stood in the file at path.
func (g *globals) checkText(path string, text []byte) ([]warning, error) {
	switch holds(path, text) {
	case aManifest:
		_, err := connector.Parse(path, text, hub.Catalogue)
		return nil, err
	case aModel:
		s := g.surroundings(path)
		m, err := lifecycle.Compile(path, text, s.env)
		if err != nil {
			return nil, err
		}
		return linted(m, text, s.lint(m)), nil
	case someReactions:
		env := g.surroundings(path).reactions()
		_, err := lifecycle.CompileReactions(path, text, env)
		return nil, err
	}
	return nil, nil
}

// linted are the linter's findings as warnings.
func linted(m *lifecycle.Model, text []byte, opts lint.Options) []warning {
	var out []warning
	for _, f := range lint.Check(m, text, opts) {
		out = append(out, warning{
			server.Mistake{File: f.File, Line: f.Line, Column: f.Column, Path: f.Path, Message: f.Message, Suggestion: f.Suggestion}, f.Check,
		})
	}
	return out
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
func (g *globals) checkConfig(path string, text []byte) (string, []warning, error) {
	cfg, set, told, err := loadSetupText(path, text)
	var warnings []warning
	for _, w := range told {
		warnings = append(warnings, warning{Mistake: server.Mistake(w)})
	}
	if set == nil {
		return path, warnings, err
	}
	models, reactions, compileErr := app.Compile(cfg, set)
	what := fmt.Sprintf("%s with %s, %s, %s and %s", path, plural(len(cfg.Connections), "connection"), plural(len(models), "model"),
		plural(len(reactions), "reaction"), plural(len(cfg.Subscriptions), "subscription"))
	s := around(cfg, set, models)
	for _, m := range models {
		_, text, _ := m.Source()
		warnings = append(warnings, linted(m, text, s.lint(m))...)
	}
	if err == nil {
		var errs []error
		for _, f := range findings(compileErr) {
			if f.File == cfg.File { // name the file as the user did
				f.File = path
			}
			errs = append(errs, f.error())
		}
		return what, warnings, errors.Join(errs...)
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
