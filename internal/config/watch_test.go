package config

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func sortStrings(less func(a, b string) bool) cmp.Option { return cmpopts.SortSlices(less) }

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "stagewire.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("stagewire.yaml", "log: {level: info}\n")
	own := make(chan os.Signal, 8) // so that a hang-up before Watch listens does not end the test
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	calls, ended := make(chan string, 16), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- Watch(ctx, path, slog.New(slog.DiscardHandler), func() {
			text, err := os.ReadFile(path)
			if err != nil {
				text = []byte(err.Error())
			}
			calls <- string(text)
		})
	}()
	expect := func(what, text string, do func()) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			do()
			select {
			case got := <-calls:
				if got != text {
					t.Errorf("%s: called with %q, want %q", what, got, text)
				}
				return
			case <-time.After(time.Second): // the watch may not have begun yet
			case <-deadline:
				t.Fatalf("%s: not called", what)
			}
		}
	}
	expect("hang-up", "log: {level: info}\n", func() { _ = syscall.Kill(os.Getpid(), syscall.SIGHUP) })
	expect("written", "log: {level: warn}\n", func() { write("stagewire.yaml", "log: {level: warn}\n") })
	expect("replaced", "log: {level: error}\n", func() {
		write("new", "log: {level: error}\n")
		if err := os.Rename(filepath.Join(dir, "new"), path); err != nil {
			t.Error(err)
		}
	})
	write("another.yaml", "x")
	write("stagewire.yaml", "log: {level: error}\n") // the same bytes
	select {
	case got := <-calls:
		t.Errorf("called though nothing changed: %q", got)
	case <-time.After(3 * quiet):
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
