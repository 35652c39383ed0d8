package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/connector/connectortest"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/rules"
)

func newTestCommand(g *globals) *cobra.Command {
	update, runner := false, false
	c := &cobra.Command{
		Use: "test [model, file or connector folder]...", Short: "Run the tests of models and the cases of connectors", GroupID: groupWrite,
		Long: "Runs the tests that model files carry, and the case folders of connectors. Without arguments: those of all models that the\n" +
			"configuration uses, or of the shipped ones where there is no configuration.",
		Example: "  stagewire test clc\n  stagewire test rules/mine.yaml connectors/pipely",
		RunE: func(c *cobra.Command, args []string) error {
			if runner && len(args) == 1 {
				return reportProblems(c, runCases(args[0], update))
			}
			models, folders, err := testTargets(g, args)
			if err != nil {
				return reportProblems(c, err)
			}
			return runTests(c, g, models, folders, update)
		},
	}
	c.Flags().BoolVar(&update, "update", false, "write the expected files of connector cases from what comes out")
	c.Flags().BoolVar(&runner, "runner", false, "")
	_ = c.Flags().MarkHidden("runner") // fails only for an unknown flag
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

// testTargets compiles the models and names the connector folders that are meant.
func testTargets(g *globals, args []string) (models []*lifecycle.Model, folders []string, err error) {
	if len(args) == 0 {
		if _, err := os.Stat(g.config); errors.Is(err, fs.ErrNotExist) {
			args = rules.Names()
		} else {
			cfg, set, _, err := loadSetup(g.config)
			if err != nil {
				return nil, nil, err
			}
			models, _, err = app.Compile(cfg, set)
			return models, nil, err
		}
	}
	var errs []error
	for _, arg := range args {
		file := arg
		text, shipped := rules.Text(arg)
		if info, err := os.Stat(arg); err == nil && info.IsDir() {
			folders = append(folders, arg)
			continue
		} else if !shipped || err == nil {
			if text, err = os.ReadFile(arg); err != nil {
				errs = append(errs, usageError{fmt.Errorf("%s is neither a shipped model nor a file or folder: %s", arg, pathReason(err))})
				continue
			}
		} else {
			file = "rules/" + arg + ".yaml"
		}
		m, err := lifecycle.Compile(file, text, lifecycle.Env{})
		errs = append(errs, err)
		if err == nil {
			models = append(models, m)
		}
	}
	return models, folders, errors.Join(errs...)
}

// tested is what test prints with --json.
type tested struct {
	OK         bool                   `json:"ok"`
	Models     []lifecycle.TestResult `json:"models"`
	Connectors []connectorResult      `json:"connectors"`
}

type connectorResult struct {
	Folder string `json:"folder"`
	OK     bool   `json:"ok"`
}

func runTests(c *cobra.Command, g *globals, models []*lifecycle.Model, folders []string, update bool) error {
	result := tested{OK: true}
	for _, m := range models {
		results := lifecycle.RunTests(m)
		if len(results) == 0 && !g.json {
			if _, err := fmt.Fprintf(c.ErrOrStderr(), "%s has no tests\n", m.Name); err != nil {
				return err
			}
		}
		for _, r := range results {
			result.Models = append(result.Models, r)
			result.OK = result.OK && len(r.Failures) == 0
			if !g.json {
				if err := printResult(c, r); err != nil {
					return err
				}
			}
		}
	}
	for _, folder := range folders {
		failures := c.OutOrStdout()
		if g.json {
			failures = c.ErrOrStderr()
		}
		ok, err := testConnector(c.Context(), failures, folder, update)
		if err != nil {
			return reportProblems(c, err)
		}
		result.Connectors = append(result.Connectors, connectorResult{folder, ok})
		result.OK = result.OK && ok
		if !g.json {
			state := "ok    "
			if !ok {
				state = "FAILED"
			}
			if _, err := fmt.Fprintf(c.OutOrStdout(), "%s  %s\n", state, folder); err != nil {
				return err
			}
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

func printResult(c *cobra.Command, r lifecycle.TestResult) error {
	state := "ok    "
	if len(r.Failures) > 0 {
		state = "FAILED"
	}
	if _, err := fmt.Fprintf(c.OutOrStdout(), "%s  %s: %s\n", state, r.Model, r.Name); err != nil {
		return err
	}
	for _, failure := range r.Failures {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "        %s\n", failure); err != nil {
			return err
		}
	}
	return nil
}

// testConnector runs a folder's cases by the suite that the shipped connectors pass. It is written for Go's test runner, which
// ends the process it runs in, so that is another one: this binary again. What fails is printed to w.
func testConnector(ctx context.Context, w io.Writer, folder string, update bool) (bool, error) {
	if _, err := os.Stat(filepath.Join(folder, "connector.yaml")); err != nil {
		return false, usageError{fmt.Errorf("%s is no connector's folder: %s", folder, pathReason(err))}
	}
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	args := []string{"test", "--runner", folder}
	if update {
		args = append(args, "--update")
	}
	var output bytes.Buffer
	runner := exec.CommandContext(ctx, self, args...)
	runner.Stdout, runner.Stderr = &output, &output
	err = runner.Run()
	if err == nil {
		return true, nil
	}
	if !errors.As(err, new(*exec.ExitError)) {
		return false, err
	}
	_, err = w.Write(output.Bytes())
	return false, err
}

// runCases is the other process. It returns only what keeps it from running them.
func runCases(folder string, update bool) error {
	file := filepath.Join(folder, "connector.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	con, err := connector.Parse(file, text, hub.Catalogue)
	if err != nil {
		return err
	}
	testing.Init()
	// The runner reads its flags from here and not from the arguments of the process, which are ours.
	if err := flag.CommandLine.Parse([]string{"-update=" + strconv.FormatBool(update)}); err != nil {
		return err
	}
	everything := func(string, string) (bool, error) { return true, nil }
	testing.Main(everything, []testing.InternalTest{{Name: con.Name(), F: func(t *testing.T) {
		connectortest.Run(t, con, folder)
	}}}, nil, nil)
	return errors.New("the test runner did not end the process")
}
