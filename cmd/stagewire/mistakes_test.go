package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateMistakes = flag.Bool("update-mistakes", false, "write what check says of each mistake; review it like code")

// repeated is «300×(» in a file of the catalogue: what would be too large to keep.
var repeated = regexp.MustCompile(`«(\d+)×([^»]+)»`)

// TestMistakes: every file of the catalogue (testdata/mistakes) is refused with exactly the words beside it. A file stands for
// itself, a folder for its configuration and all that it names.
func TestMistakes(t *testing.T) {
	entries, err := os.ReadDir("testdata/mistakes")
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := filepath.Abs("testdata/mistakes")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	t.Chdir(t.TempDir())
	mistakes := 0
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".yaml")
		if !ok && !entry.IsDir() {
			continue
		}
		mistakes++
		args := []string{"check", entry.Name(), "--config", "none.yaml"}
		golden := filepath.Join(catalogue, name+".txt")
		if entry.IsDir() {
			files, err := os.ReadDir(filepath.Join(catalogue, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				layOut(t, filepath.Join(catalogue, name, f.Name()), filepath.Join(name, f.Name()))
			}
			args = []string{"check", "--config", filepath.Join(name, "stagewire.yaml")}
		} else {
			layOut(t, filepath.Join(catalogue, entry.Name()), entry.Name())
		}
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, nil, &out, &errs); code != exitFailed {
			t.Errorf("%s: exit %d, want %d: %s%s", name, code, exitFailed, out.String(), errs.String())
			continue
		}
		if other, ok := seen[errs.String()]; ok {
			t.Errorf("%s and %s are one mistake", name, other)
		}
		seen[errs.String()] = name
		if *updateMistakes {
			if err := os.WriteFile(golden, errs.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), errs.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if mistakes < 120 {
		t.Errorf("the catalogue has %d mistakes, want at least 120", mistakes)
	}
}

// layOut writes a file of the catalogue where it can be checked.
func layOut(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	text = repeated.ReplaceAllFunc(text, func(m []byte) []byte {
		parts := repeated.FindSubmatch(m)
		n, err := strconv.Atoi(string(parts[1]))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Repeat(parts[2], n)
	})
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
