package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/app"
)

// The main job, end to end: every effect of the story is found in the sandbox's own state and at the receiver.
func TestQuickstart(t *testing.T) {
	if testing.Short() {
		t.Skip("tells a story of nine months, which takes some seconds")
	}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"quickstart", "--once", "--json"}, nil, &out, &errs)
	var summary app.Summary
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		t.Fatalf("%v: %s%s", err, out.String(), errs.String())
	}
	for _, check := range summary.Checks {
		if !check.OK {
			t.Errorf("%s: want %s, got %s", check.Name, check.Expected, check.Got)
		}
	}
	if code != exitOK || !summary.OK || len(summary.Checks) < 40 {
		t.Errorf("exit %d, ok %v, %d checks: %s", code, summary.OK, len(summary.Checks), errs.String())
	}
}

// What init writes passes check as it is, and init never overwrites an installation.
func TestInitIsGood(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my-hub")
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"init", dir}, nil, &out, &errs); code != exitOK {
		t.Fatalf("init: exit %d: %s", code, errs.String())
	}
	file := filepath.Join(dir, "stagewire.yaml")
	if code := run(t.Context(), []string{"check", "--config", file}, nil, &out, &errs); code != exitOK {
		t.Errorf("check: exit %d: %s%s", code, out.String(), errs.String())
	}
	for _, name := range []string{"shop", "crm-refresh", "erp"} {
		info, err := os.Stat(filepath.Join(dir, "secrets", name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("secrets/%s can be read by others: %v", name, info.Mode())
		}
	}
	if code := run(t.Context(), []string{"init", dir}, nil, &out, &errs); code != exitFailed {
		t.Errorf("a second init: exit %d", code)
	}
}
