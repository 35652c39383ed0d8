package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/lifecycle/modeltest"
	"github.com/stagewire/stagewire/rules"
)

// testFlags are what test is asked to do beside running tests.
type testFlags struct {
	update, runner, coverage, mutate, noSurvivors, examples bool
	require, junit                                          string
}

func newTestCommand(g *globals) *cobra.Command {
	var f testFlags
	c := &cobra.Command{
		Use: "test [model, file or folder]...", Short: "Run the tests of models and the cases of connectors", GroupID: groupWrite,
		Long: "Runs the tests that model files carry, and the case folders of connectors. Give names of shipped models, models' files, folders\n" +
			"of them, connectors' folders or a configuration. Without arguments: the models that the configuration uses, or the shipped\n" +
			"ones where there is no configuration. A test runs with the parameters that the model's file has, whatever a configuration\n" +
			"overrides.\n\n" +
			"--coverage tells which stages were entered and left, which rules decided, and which parts of conditions were seen both true\n" +
			"and false; --require-coverage fails where something is missing. --mutate changes the model in many small ways and runs the\n" +
			"tests on each: it names changes that no test notices, and fails where a test notices none, for such a test cannot fail.",
		Example: "  stagewire test clc\n  stagewire test rules/ --coverage --require-coverage\n  stagewire test rules/mine.yaml --mutate\n" +
			"  stagewire test connectors/pipely --junit report.xml",
		RunE: func(c *cobra.Command, args []string) error {
			if f.runner && len(args) == 1 {
				return reportProblems(c, runCases(args[0], f.update))
			}
			if f.require != "" && !slices.Contains(modeltest.Levels, f.require) {
				return usageError{fmt.Errorf("--require-coverage is %s, not %q", strings.Join(modeltest.Levels, ", "), f.require)}
			}
			f.mutate = f.mutate || f.noSurvivors || f.examples
			models, folders, err := testTargets(g, args)
			if err != nil {
				return reportProblems(c, err)
			}
			return runTests(c, g, models, folders, f)
		},
	}
	flags := c.Flags()
	flags.BoolVar(&f.coverage, "coverage", false, "tell what the tests cover")
	flags.StringVar(&f.require, "require-coverage", "", "fail unless tests cover every stage, or `level` rules or clauses as well")
	flags.Lookup("require-coverage").NoOptDefVal = modeltest.LevelStages
	flags.BoolVar(&f.mutate, "mutate", false, "tell what the tests would not notice, and fail where a test cannot fail")
	flags.BoolVar(&f.noSurvivors, "no-survivors", false, "with --mutate, fail where a change goes unnoticed too")
	flags.BoolVar(&f.examples, "examples", false, "with --mutate, show a test for each unnoticed change that would notice it")
	flags.StringVar(&f.junit, "junit", "", "write the results to `file` as JUnit XML")
	flags.BoolVar(&f.update, "update", false, "write the expected files of connector cases from what comes out")
	flags.BoolVar(&f.runner, "runner", false, "")
	_ = flags.MarkHidden("runner") // fails only for an unknown flag
	return c
}

// reportProblems prints mistakes in files with their places, and passes every other error on.
func reportProblems(c *cobra.Command, err error) error {
	for _, f := range findings(err) {
		if f.File == "" {
			return err
		}
		if err := f.print(c.ErrOrStderr(), "error"); err != nil {
			return err
		}
	}
	return errSaid
}

// modelFile is a model that has yet to be compiled.
type modelFile struct {
	file string
	text []byte
}

// testTargets compiles the models and names the connector folders that are meant.
func testTargets(g *globals, args []string) (models []*lifecycle.Model, folders []string, err error) {
	if len(args) == 0 {
		if _, err := os.Stat(g.config); errors.Is(err, fs.ErrNotExist) {
			args = rules.Names()
		} else {
			return configured(g.config)
		}
	}
	var files []modelFile
	var errs []error
	for _, arg := range args {
		info, err := os.Stat(arg)
		text, shipped := rules.Text(arg)
		switch {
		case err == nil && info.IsDir():
			found, connectors, err := inFolder(arg)
			files, folders, errs = append(files, found...), append(folders, connectors...), append(errs, err)
		case err == nil:
			text, err := os.ReadFile(arg)
			if err != nil {
				return nil, nil, err
			}
			switch holds(arg, text) {
			case aModel:
				files = append(files, modelFile{arg, text})
			case aManifest:
				folders = append(folders, filepath.Dir(arg))
			case someReactions:
				errs = append(errs, usageError{fmt.Errorf("%s holds reactions, which carry no tests", arg)})
			default:
				found, _, err := configured(arg)
				models, errs = append(models, found...), append(errs, err)
			}
		case shipped:
			files = append(files, modelFile{"rules/" + arg + ".yaml", text})
		default:
			hint := config.Nearest(arg, rules.Names())
			if hint != "" {
				hint = " (" + hint + ")"
			}
			errs = append(errs, usageError{fmt.Errorf("%s is neither a shipped model nor a file or folder: %s%s", arg, pathReason(err), hint)})
		}
	}
	around := map[string]lifecycle.Env{}
	for _, f := range files {
		dir := filepath.Dir(f.file)
		env, ok := around[dir]
		if !ok {
			env = g.surroundings(f.file).env
			around[dir] = env
		}
		m, err := lifecycle.Compile(f.file, f.text, env)
		errs = append(errs, err)
		if err == nil {
			models = append(models, m)
		}
	}
	return models, folders, errors.Join(errs...)
}

// configured compiles the models that a configuration uses.
func configured(file string) ([]*lifecycle.Model, []string, error) {
	cfg, set, _, err := loadSetup(file)
	if err != nil {
		return nil, nil, err
	}
	models, _, err := app.Compile(cfg, set)
	return models, nil, err
}

// inFolder finds what a folder holds: it is a connector's, or has models, or connectors' folders.
func inFolder(dir string) (files []modelFile, folders []string, err error) {
	if _, err := os.Stat(filepath.Join(dir, "connector.yaml")); err == nil {
		return nil, []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			if _, err := os.Stat(filepath.Join(path, "connector.yaml")); err == nil {
				folders = append(folders, path)
			}
			continue
		}
		if ext := filepath.Ext(path); ext != ".yaml" && ext != ".yml" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		if holds(path, text) == aModel {
			files = append(files, modelFile{path, text})
		}
	}
	if len(files)+len(folders) == 0 {
		return nil, nil, usageError{fmt.Errorf("%s is a folder without connector.yaml and without models: give a model, a file or a connector's folder", dir)}
	}
	return files, folders, nil
}

// tested is what test prints with --json.
type tested struct {
	OK         bool                   `json:"ok"`
	Models     []lifecycle.TestResult `json:"models"`
	Connectors []connectorResult      `json:"connectors"`
	Coverage   []modelCoverage        `json:"coverage,omitempty"`
	Mutation   []*modeltest.Report    `json:"mutation,omitempty"`
}

type modelCoverage struct {
	*modeltest.Coverage

	Gaps []modeltest.Gap `json:"gaps"` // of all levels
}

type connectorResult struct {
	Folder string `json:"folder"`
	OK     bool   `json:"ok"`
}

func runTests(c *cobra.Command, g *globals, models []*lifecycle.Model, folders []string, f testFlags) error {
	result := tested{OK: true}
	out := testReport{out: c.OutOrStdout(), errs: c.ErrOrStderr(), silent: g.json}
	var suites []modeltest.Suite
	failing := map[string]bool{}
	for _, m := range models {
		if len(m.Tests) == 0 {
			out.note("%s has no tests\n", m.Name)
		}
		suite := modeltest.Suite{Name: m.Name, File: m.File()}
		for i := range m.Tests {
			begin := time.Now()
			r := m.Tests[i].Run(m)
			suite.Cases = append(suite.Cases, modeltest.Case{Name: r.Name, Line: r.Line, Failures: r.Failures, Took: time.Since(begin)})
			result.Models = append(result.Models, r)
			failing[m.Name] = failing[m.Name] || len(r.Failures) > 0
			out.test(r)
		}
		result.OK = result.OK && !failing[m.Name]
		suites = append(suites, suite)
	}
	for _, folder := range folders {
		begin := time.Now()
		var said strings.Builder
		ok, err := testConnector(c.Context(), &said, folder, f.update)
		if err != nil {
			return reportProblems(c, err)
		}
		result.Connectors = append(result.Connectors, connectorResult{folder, ok})
		result.OK = result.OK && ok
		one := modeltest.Case{Name: "cases", Took: time.Since(begin)}
		if !ok {
			one.Failures = []string{said.String()}
		}
		suites = append(suites, modeltest.Suite{Name: folder, Cases: []modeltest.Case{one}})
		out.connector(folder, ok, said.String())
	}
	out.summary(result)
	if f.coverage || f.require != "" {
		result.OK = out.coverage(models, &result, f) && result.OK
	}
	if f.mutate {
		ok, err := out.mutation(c.Context(), models, failing, &result, f)
		if err != nil {
			return err
		}
		result.OK = ok && result.OK
	}
	if out.err != nil {
		return out.err
	}
	if f.junit != "" {
		if err := writeJUnit(f.junit, append(suites, result.judged(f)...)); err != nil {
			return err
		}
	}
	if g.json {
		if err := printJSON(c.OutOrStdout(), result); err != nil {
			return err
		}
	}
	if !result.OK {
		return errSaid
	}
	return nil
}

// judged gives what was demanded of the tests themselves as suites of their own.
func (t tested) judged(f testFlags) []modeltest.Suite {
	var out []modeltest.Suite
	add := func(model, what, file, good string, cases []modeltest.Case) {
		if len(cases) == 0 {
			cases = []modeltest.Case{{Name: good}}
		}
		out = append(out, modeltest.Suite{Name: model + " " + what, File: file, Cases: cases})
	}
	for _, c := range t.Coverage {
		if f.require == "" {
			break
		}
		var cases []modeltest.Case
		for _, gap := range c.Gaps {
			if levelOf(gap.Level) <= levelOf(f.require) {
				cases = append(cases, modeltest.Case{Name: gap.What, Line: gap.Line, Failures: []string{gap.What}})
			}
		}
		add(c.Model, "coverage", c.File, "nothing is missing", cases)
	}
	for _, r := range t.Mutation {
		var cases []modeltest.Case
		for _, test := range r.CannotFail {
			cases = append(cases, modeltest.Case{Name: test.Name, Line: test.Line, Failures: []string{"no change of the model makes the test fail"}})
		}
		for _, s := range r.Survivors {
			if f.noSurvivors {
				cases = append(cases, modeltest.Case{Name: s.Path + ": " + s.What, Line: s.Line, Failures: []string{"no test notices the change\n" + s.Example}})
			}
		}
		add(r.Model, "changes", r.File, "every test can fail", cases)
	}
	return out
}

func writeJUnit(path string, suites []modeltest.Suite) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := modeltest.WriteJUnit(file, suites); err != nil {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}
