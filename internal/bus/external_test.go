package bus

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/stagewire/stagewire/internal/hub"
)

// externalServer is a NATS server that listens, as an operator would run it.
func externalServer(t testing.TB) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true, MaxPayload: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.ClientURL()
}

// Two processes on one external server share the work: each frame of webhooks goes to one of them, and the frames of each
// partition come in order and one at a time over both.
func TestTwoProcessesShareTheStreams(t *testing.T) {
	t.Parallel()
	const partitions, webhooks = 4, 400
	url, cursors := externalServer(t), &cursorTable{}
	var mu sync.Mutex
	handled := map[string]int{}
	busy, last, applied, shares := make([]bool, partitions), make([]uint64, partitions), map[string]bool{}, []int{0, 0}
	var both []*testBus
	for i := range 2 {
		b := openBus(t, func(c *Config) { c.URL, c.Dir, c.Partitions, c.Cursors = url, "", partitions, cursors.list })
		if b.Embedded() || b.MaxBody() != 1<<20-64<<10 {
			t.Errorf("embedded %v, largest body %d", b.Embedded(), b.MaxBody())
		}
		b.HandleWebhooks(func(ctx context.Context, webhooks []hub.StoredWebhook) error {
			var events []hub.Event
			for _, w := range webhooks {
				events = append(events, hub.Event{ID: w.ID, Kind: "order.paid", ReceivedAt: w.ReceivedAt, Identifiers: []hub.Identifier{{Kind: "email", Value: w.ID}}})
			}
			mu.Lock()
			for _, w := range webhooks {
				handled[w.ID]++
			}
			shares[i]++
			mu.Unlock()
			return b.PublishEvents(ctx, events)
		})
		b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error {
			mu.Lock()
			if busy[frame.Partition] {
				t.Errorf("partition %d is in two hands", frame.Partition)
			}
			if frame.Seq <= last[frame.Partition] {
				t.Errorf("partition %d: %d after %d", frame.Partition, frame.Seq, last[frame.Partition])
			}
			busy[frame.Partition], last[frame.Partition] = true, frame.Seq
			mu.Unlock()
			cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
			mu.Lock()
			defer mu.Unlock()
			busy[frame.Partition] = false
			for _, ev := range frame.Events {
				applied[ev.ID] = true
			}
			return nil
		})
		both = append(both, b)
	}
	for _, b := range both {
		b.start(t)
	}
	var wait sync.WaitGroup
	for c := range 8 {
		wait.Go(func() {
			for n := range webhooks / 8 {
				w := someWebhook(n, 100)
				w.ID = fmt.Sprintf("%d-%d", c, n)
				if _, err := both[c%2].PublishWebhook(t.Context(), w); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	eventually(t, "all applied", func() bool { mu.Lock(); defer mu.Unlock(); return len(applied) == webhooks })
	for _, b := range both {
		eventually(t, "nothing waits", func() bool {
			oldest, err := b.Oldest(t.Context())
			return err == nil && oldest.IsZero() && b.Healthy(t.Context()) == nil
		})
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range handled {
		if n != 1 {
			t.Errorf("webhook %s was handled %d times", id, n)
		}
	}
	if shares[0] == 0 || shares[1] == 0 {
		t.Errorf("one process did everything: %v", shares)
	}
}

func TestNoServerThere(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Config{URL: "nats://user:hunter2@127.0.0.1:1"})
	if err == nil {
		t.Fatal("connected to nothing")
	}
	if got := err.Error(); strings.Contains(got, "hunter2") {
		t.Errorf("the error shows the credentials: %s", got)
	}
}

// BenchmarkPublishWebhook is the durable accept: 64 callers, 2 KB each, fsync before the answer.
func BenchmarkPublishWebhook(b *testing.B) {
	tb := openBus(b, func(c *Config) {
		if dir := os.Getenv("STAGEWIRE_BENCH_DIR"); dir != "" {
			c.Dir = dir
		}
	}).start(b)
	body := someWebhook(1, 2048)
	before := cpuTime(b)
	b.SetParallelism(32) // of 2 processors: 64 callers
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := tb.PublishWebhook(context.Background(), body); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/webhook")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "webhooks/s")
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
