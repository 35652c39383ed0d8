package bus

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// child returns a command that runs only the named test of this binary, as another process.
func child(t *testing.T, test string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

const crashDir = "STAGEWIRE_TEST_CRASH_DIR"

// TestCrashChild is the process that TestCrash kills: it publishes and says what was acknowledged, and handles webhooks to events.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("runs only as the child of TestCrash")
	}
	b := openBus(t, func(c *Config) { c.Dir = dir })
	b.HandleWebhooks(func(ctx context.Context, webhooks []hub.StoredWebhook) error {
		var events []hub.Event
		for _, w := range webhooks {
			events = append(events, hub.Event{ID: "evt_of_" + w.ID, Kind: "order.paid", ReceivedAt: w.ReceivedAt})
		}
		return b.PublishEvents(ctx, events)
	})
	b.start(t)
	round := os.Getenv("STAGEWIRE_TEST_ROUND")
	var out sync.Mutex
	var wait sync.WaitGroup
	for c := range 16 {
		wait.Go(func() {
			for n := 0; ; n++ {
				w := someWebhook(n, 300)
				w.ID = fmt.Sprintf("%s-%d-%d", round, c, n)
				if _, err := b.PublishWebhook(t.Context(), w); err != nil {
					return
				}
				out.Lock()
				fmt.Println("acked", w.ID)
				out.Unlock()
			}
		})
	}
	wait.Wait()
}

// TestCrash kills a publishing process with SIGKILL, several times on one directory, and counts: every webhook that was
// acknowledged is there and becomes an event, and the next delivery after a crash comes soon.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir, acked := t.TempDir(), map[string]bool{}
	for round := range 3 {
		cmd := child(t, "TestCrashChild", crashDir+"="+dir, fmt.Sprintf("STAGEWIRE_TEST_ROUND=%d", round))
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, n := bufio.NewScanner(pipe), 0
		for lines.Scan() {
			id, ok := strings.CutPrefix(lines.Text(), "acked ")
			if !ok {
				continue
			}
			acked[id] = true
			if n++; n == 300*(round+1) {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		if n < 300*(round+1) {
			t.Fatalf("the child acknowledged only %d webhooks", n)
		}
	}
	b := openBus(t, func(c *Config) { c.Dir = dir })
	events := map[string]bool{}
	var mu sync.Mutex
	started := time.Now()
	var first time.Duration
	b.HandleWebhooks(func(ctx context.Context, webhooks []hub.StoredWebhook) error {
		var events []hub.Event
		for _, w := range webhooks {
			events = append(events, hub.Event{ID: "evt_of_" + w.ID, Kind: "order.paid", ReceivedAt: w.ReceivedAt})
		}
		return b.PublishEvents(ctx, events)
	})
	b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error {
		mu.Lock()
		defer mu.Unlock()
		if first == 0 {
			first = time.Since(started)
		}
		for _, ev := range frame.Events {
			events[strings.TrimPrefix(ev.ID, "evt_of_")] = true
		}
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		return nil
	})
	b.start(t)
	missing := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for id := range acked {
			if !events[id] {
				n++
			}
		}
		return n
	}
	eventually(t, "every acknowledged webhook is an event", func() bool { return missing() == 0 })
	if limit := ackWait + 3*heartbeat; first > limit {
		t.Errorf("time to next delivery %v, limit %v", first, limit)
	}
	t.Logf("%d acknowledged, none lost; time to next delivery %v", len(acked), first.Round(time.Millisecond))
}

func TestLockDir(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" { // the child
		release, err := LockDir(dir)
		if err == nil {
			release()
			fmt.Println("locked")
		} else {
			fmt.Println("refused:", err)
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "data")
	release, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir); err == nil {
		t.Error("locked twice in one process")
	}
	try := func() string {
		out, err := child(t, "TestLockDir", crashDir+"="+dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := try(); !strings.Contains(out, fmt.Sprintf("refused: data directory %s is in use by process %d", dir, os.Getpid())) {
		t.Errorf("second process: %s", out)
	}
	release()
	if out := try(); !strings.Contains(out, "locked") {
		t.Errorf("after release: %s", out)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", info, err)
	}
}
