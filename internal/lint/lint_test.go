package lint

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/rules"
)

// TestShippedModels: what ships gives no finding.
func TestShippedModels(t *testing.T) {
	var names []string
	stages := map[string][]string{}
	for _, file := range rules.Names() {
		text, _ := rules.Text(file)
		name, list := lifecycle.Outline(text)
		names = append(names, name)
		stages[name] = list
	}
	if len(names) == 0 {
		t.Fatal("no models")
	}
	for _, name := range rules.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, _ := rules.Text(name)
			m, err := lifecycle.Compile(name+".yaml", text, lifecycle.Env{Models: names, Stages: stages})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range Check(m, text, Options{Retention: config.Default().Retention.Kinds, Stages: stages}) {
				t.Errorf("%s:%d:%d: %s: %s: %s (%s)", f.File, f.Line, f.Column, f.Check, f.Path, f.Message, f.Suggestion)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the expected findings from what comes out; review them like code")

// TestFaults: each faulty model gives exactly the findings beside it.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("%d faulty models, want at least 20", len(files))
	}
	found := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := lifecycle.Compile(filepath.Base(file), text, lifecycle.Env{})
		if err != nil {
			t.Errorf("%s does not compile: %v", file, err)
			continue
		}
		var b strings.Builder
		for _, f := range Check(m, text, Options{Retention: config.Default().Retention.Kinds}) {
			found[f.Check] = true
			fmt.Fprintf(&b, "%d:%d: %s: %s (%s) [%s]\n", f.Line, f.Column, f.Path, f.Message, f.Suggestion, f.Check)
		}
		golden := strings.TrimSuffix(file, ".yaml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() == "" {
			t.Errorf("%s: no finding", file)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	for check := range Checks {
		if !found[check] {
			t.Errorf("no faulty model shows check %s", check)
		}
	}
}
