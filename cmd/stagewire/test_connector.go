package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/connector/connectortest"
	"github.com/stagewire/stagewire/internal/hub"
)

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
