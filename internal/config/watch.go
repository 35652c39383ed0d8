package config

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long the file must have been left alone before it is read: editors write in several steps.
const quiet = 200 * time.Millisecond

// Watch calls changed after the file at path got other bytes, and after each SIGHUP. It watches the folder and not the file,
// because editors and Kubernetes replace files instead of writing them. Calls never overlap. It blocks until ctx ends and then returns nil;
// an error means that the folder cannot be watched. SIGHUP then no longer reloads either, so treat it as fatal or call again.
func Watch(ctx context.Context, path string, log *slog.Logger, changed func()) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer func() { _ = watcher.Close() }() // only frees descriptors
	if err := watcher.Add(filepath.Dir(abs)); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}

	last := digest(abs)
	settled := time.NewTimer(quiet)
	settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			last = digest(abs)
			changed()
		case event, ok := <-watcher.Events:
			if !ok {
				return fmt.Errorf("watch %s: the watcher ended", path)
			}
			// A new name in the folder may be what the file links to. Writes to other files are not ours: a database in
			// the same folder would keep the timer from ever running out.
			if event.Name == abs || event.Op.Has(fsnotify.Create) {
				settled.Reset(quiet)
			}
		case err := <-watcher.Errors:
			log.Warn("watching the configuration", "file", path, "error", err)
			settled.Reset(quiet) // an overflow may have hidden our event
		case <-settled.C:
			if now := digest(abs); now != nil && !bytes.Equal(now, last) {
				last = now
				changed()
			}
		}
	}
}

// digest is nil while the file is away, as it is for an instant when an editor replaces it.
func digest(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(text)
	return sum[:]
}
