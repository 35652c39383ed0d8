package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Publishers and subscribers live through a restart of the embedded server: nothing acknowledged is lost, and no caller
// sees more than a delay.
func TestRestartInPlace(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	var mu sync.Mutex
	handled, applied := map[string]bool{}, map[string]bool{}
	b.HandleWebhooks(func(ctx context.Context, webhooks []hub.StoredWebhook) error {
		var events []hub.Event
		for _, w := range webhooks {
			events = append(events, hub.Event{ID: w.ID, Kind: "order.paid", ReceivedAt: w.ReceivedAt})
		}
		if err := b.PublishEvents(ctx, events); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, w := range webhooks {
			handled[w.ID] = true
		}
		return nil
	})
	b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error {
		mu.Lock()
		defer mu.Unlock()
		for _, ev := range frame.Events {
			applied[ev.ID] = true
		}
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		return nil
	})
	b.start(t)
	var acked atomic.Int64
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for c := range 8 {
		wait.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				w := someWebhook(n, 100)
				w.ID = fmt.Sprintf("%d-%d", c, n)
				if _, err := b.PublishWebhook(t.Context(), w); err != nil {
					if !errors.Is(err, hub.ErrBusy) { // the vendor would be told to come again
						t.Error(err)
					}
					continue
				}
				acked.Add(1)
			}
		})
	}
	for range 2 {
		goal := acked.Load() + 200
		eventually(t, "publishing goes on", func() bool { return acked.Load() > goal })
		b.restart()
	}
	goal := acked.Load() + 200
	eventually(t, "publishing goes on after restarts", func() bool { return acked.Load() > goal })
	close(stop)
	wait.Wait()
	eventually(t, "all handled and applied", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return int64(len(handled)) >= acked.Load() && int64(len(applied)) >= acked.Load()
	})
	eventually(t, "healthy and nothing waits", func() bool {
		oldest, err := b.Oldest(t.Context())
		return err == nil && oldest.IsZero() && b.Healthy(t.Context()) == nil
	})
}

// A JetStream that shut itself down, as it does when the disk is full, is found and restarted by the watch.
func TestJetStreamThatGaveUpIsRestarted(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil).start(t)
	if _, err := b.PublishWebhook(t.Context(), someWebhook(1, 4)); err != nil {
		t.Fatal(err)
	}
	if err := b.server.server.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	if b.Healthy(t.Context()) == nil {
		t.Error("healthy without JetStream")
	}
	eventually(t, "publishing again", func() bool {
		_, err := b.PublishWebhook(t.Context(), someWebhook(2, 4))
		if err != nil && !errors.Is(err, hub.ErrBusy) {
			t.Errorf("error of the wrong kind: %v", err)
		}
		return err == nil
	})
	eventually(t, "healthy", func() bool { return b.Healthy(t.Context()) == nil })
}

// Below min_free_disk webhooks and events are refused at once, and readyz says so.
func TestMinFreeDisk(t *testing.T) {
	t.Parallel()
	b := openBus(t, func(c *Config) { c.MinFreeDisk = 1 << 60 }).start(t)
	if _, err := b.PublishWebhook(t.Context(), someWebhook(1, 4)); !errors.Is(err, hub.ErrBusy) {
		t.Errorf("webhook: %v", err)
	}
	if err := b.PublishEvents(t.Context(), []hub.Event{someEvent(t, 1)}); !errors.Is(err, hub.ErrBusy) {
		t.Errorf("event: %v", err)
	}
	if err := b.Healthy(t.Context()); err == nil {
		t.Error("healthy on a full disk")
	}
}

func TestDefaultMinFreeDisk(t *testing.T) {
	t.Parallel()
	d, err := statDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := minFree(0, t.TempDir()), max(1<<30, d.size/20); got != want {
		t.Errorf("%d, want %d", got, want)
	}
	if got := minFree(5, "/"); got != 5 {
		t.Errorf("%d, want 5", got)
	}
}

const fullDiskDir = "STAGEWIRE_TEST_FULL_DISK"

// TestFullDisk fills a small disk of its own, in a user namespace, under a running bus: refused while it is full, and
// well again without a new process once there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(fullDiskDir); dir != "" {
		fullDisk(t, dir)
		return
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("no unshare here: a small disk cannot be made")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), unshare, "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no user namespaces here: a small disk cannot be made: %v %s", err, out)
	}
	for _, minFree := range []string{"1", "4194304"} {
		t.Run("min_free_disk="+minFree, func(t *testing.T) {
			script := `mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@"`
			cmd := exec.CommandContext(t.Context(), unshare, "-rm", "sh", "-c", script, dir, os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
			cmd.Env = append(os.Environ(), fullDiskDir+"="+dir, "STAGEWIRE_TEST_MIN_FREE="+minFree)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func fullDisk(t *testing.T, dir string) {
	var free int64
	if _, err := fmt.Sscan(os.Getenv("STAGEWIRE_TEST_MIN_FREE"), &free); err != nil {
		t.Fatal(err)
	}
	b := openBus(t, func(c *Config) { c.Dir, c.MinFreeDisk = dir, free })
	b.attemptTimeout = 500 * time.Millisecond
	var handled atomic.Int64
	b.HandleWebhooks(func(_ context.Context, webhooks []hub.StoredWebhook) error {
		handled.Add(int64(len(webhooks)))
		return nil
	})
	b.start(t)
	acked := []hub.Position{}
	publish := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		at, err := b.PublishWebhook(ctx, someWebhook(1, 1<<20))
		if err == nil {
			acked = append(acked, at)
		}
		return err
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	var leave int64
	if free == 1 { // less than one webhook needs, so that it is JetStream that runs into the wall and not our guard
		leave = 300 << 10
	}
	fill(t, ballast, leave)
	eventually(t, "busy", func() bool { return errors.Is(publish(), hub.ErrBusy) })
	if b.Healthy(t.Context()) == nil {
		t.Error("healthy on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "accepting again", func() bool { return publish() == nil })
	eventually(t, "healthy again", func() bool { return b.Healthy(t.Context()) == nil })
	for _, at := range acked {
		if _, err := b.ReadWebhook(t.Context(), at); err != nil {
			t.Errorf("acknowledged and gone: %v", err)
		}
	}
	eventually(t, "all handled", func() bool { return handled.Load() >= int64(len(acked)) })
	if restarted := strings.Contains(b.logs.String(), "embedded NATS is back"); free == 1 && !restarted {
		t.Errorf("JetStream never ran into the full disk: %s", b.logs)
	}
}

// fill writes to path until no more than leave bytes (about) are free. At no time are fewer.
func fill(t *testing.T, path string, leave int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		var disk syscall.Statfs_t
		if err := syscall.Statfs(filepath.Dir(path), &disk); err != nil {
			t.Fatal(err)
		}
		room := int64(disk.Bavail)*disk.Bsize - leave //nolint:gosec // of a small tmpfs
		if room < disk.Bsize {
			return
		}
		if _, err := f.Write(make([]byte, min(room, 1<<20))); err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
	}
}

// The embedded server keeps the streams in blocks of 4 MiB: a frame more than that begins another one.
func TestBlocksAreOfMediumSize(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil).start(t)
	w := someWebhook(1, 400<<10)
	for range 12 {
		if _, err := b.PublishWebhook(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	blocks, err := filepath.Glob(filepath.Join(b.config.Dir, "jetstream", "jetstream", "*", "streams", streamWebhooks, "msgs", "*.blk"))
	if err != nil || len(blocks) != 2 {
		t.Errorf("%d blocks: %v", len(blocks), err)
	}
}
