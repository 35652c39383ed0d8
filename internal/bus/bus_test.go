package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/hub"
)

// cursorTable stands in for the cursor rows of SQL.
type cursorTable struct {
	mu   sync.Mutex
	rows map[hub.Cursor]uint64 // by cursor without its sequence
	err  error
}

func (c *cursorTable) set(incarnation string, partition int, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil {
		c.rows = map[hub.Cursor]uint64{}
	}
	c.rows[hub.Cursor{Incarnation: incarnation, Partition: partition}] = seq
}

func (c *cursorTable) list(context.Context) ([]hub.Cursor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []hub.Cursor
	for row, seq := range c.rows {
		row.Seq = seq
		all = append(all, row)
	}
	return all, c.err
}

// logBuffer gathers log lines of several goroutines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

type testBus struct {
	*Bus
	cursors *cursorTable
	logs    *logBuffer
	cancel  context.CancelFunc
	ended   chan error
}

// openBus opens a bus on the embedded server that is closed with the test. change may alter its configuration.
func openBus(t testing.TB, change func(*Config)) *testBus {
	t.Helper()
	tb := &testBus{cursors: &cursorTable{}, logs: &logBuffer{}}
	config := Config{
		Dir: t.TempDir(), MinFreeDisk: 1, Registerer: prometheus.NewRegistry(), Cursors: tb.cursors.list,
		Log: slog.New(slog.NewTextHandler(tb.logs, nil)),
	}
	if change != nil {
		change(&config)
	}
	b, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	tb.Bus = b
	t.Cleanup(func() {
		tb.stop(t)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(tb.logs.String())
		}
	})
	return tb
}

func (tb *testBus) start(t testing.TB) *testBus {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tb.cancel, tb.ended = cancel, make(chan error, 1)
	go func() { tb.ended <- tb.Run(ctx) }()
	return tb
}

func (tb *testBus) stop(t testing.TB) {
	t.Helper()
	if tb.cancel == nil {
		return
	}
	tb.cancel()
	tb.cancel = nil
	select {
	case err := <-tb.ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Run did not end")
	}
}

// eventually waits for ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

func TestWebhooksThere(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	var mu sync.Mutex
	got := map[string]hub.StoredWebhook{}
	b.HandleWebhooks(func(_ context.Context, webhooks []hub.StoredWebhook) error {
		mu.Lock()
		defer mu.Unlock()
		for _, w := range webhooks {
			w.Body = bytes.Clone(w.Body) // it is ours until we return
			got[w.ID] = w
		}
		return nil
	})
	b.start(t)
	const callers, each = 32, 20
	positions := make([]hub.Position, callers*each)
	var wait sync.WaitGroup
	for c := range callers {
		wait.Go(func() {
			for i := range each {
				n := c*each + i
				at, err := b.PublishWebhook(t.Context(), someWebhook(n, 400))
				if err != nil {
					t.Error(err)
				}
				positions[n] = at
			}
		})
	}
	wait.Wait()
	eventually(t, "every webhook handled", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == callers*each })
	seen := map[hub.Position]bool{}
	for n, at := range positions {
		if seen[at] {
			t.Fatalf("position %v twice", at)
		}
		seen[at] = true
		want := someWebhook(n, 400)
		read, err := b.ReadWebhook(t.Context(), at)
		if diff := cmp.Diff(want, read); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
		if diff := cmp.Diff(hub.StoredWebhook{Webhook: want, Position: at}, got[want.ID]); diff != "" {
			t.Fatal(diff)
		}
	}
	at := positions[0]
	at.Seq += 1e6
	if _, err := b.ReadWebhook(t.Context(), at); !errors.Is(err, hub.ErrNotFound) {
		t.Errorf("beyond the end: %v", err)
	}
	at = positions[0]
	at.Incarnation = "WEBHOOKS@2000-01-01T00:00:00Z"
	if _, err := b.ReadWebhook(t.Context(), at); !errors.Is(err, hub.ErrNotFound) {
		t.Errorf("another incarnation: %v", err)
	}
	eventually(t, "nothing queued", func() bool {
		queued, err := b.Queued(t.Context(), 10)
		return err == nil && len(queued) == 0
	})
	if !bytes.Contains([]byte(b.logs.String()), []byte("time to next delivery")) {
		t.Error("the first delivery was not logged")
	}
}

func TestEventsInOrderByPartition(t *testing.T) {
	t.Parallel()
	const partitions = 4
	b := openBus(t, func(c *Config) { c.Partitions = partitions })
	var mu sync.Mutex
	got := make([][]string, partitions)
	lastSeq, handled := make([]uint64, partitions), 0
	b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error {
		mu.Lock()
		defer mu.Unlock()
		if frame.Seq <= lastSeq[frame.Partition] {
			t.Errorf("frame %d of partition %d after %d", frame.Seq, frame.Partition, lastSeq[frame.Partition])
		}
		lastSeq[frame.Partition] = frame.Seq
		for i := range frame.Events {
			ev := &frame.Events[i]
			if p := ev.Partition(partitions); p != frame.Partition {
				t.Errorf("event of partition %d in frame of %d", p, frame.Partition)
			}
			if ev.ReceivedAt.Before(frame.Oldest) {
				t.Errorf("frame says oldest %v, has %v", frame.Oldest, ev.ReceivedAt)
			}
			got[frame.Partition] = append(got[frame.Partition], ev.ID)
		}
		handled += len(frame.Events)
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		return nil
	})
	b.start(t)
	want := make([][]string, partitions)
	total := 0
	for round := range 5 {
		var events []hub.Event
		for n := range 700 {
			ev := someEvent(t, round*1000+n)
			ev.Identifiers[2].Value = fmt.Sprint(n % 37)
			events = append(events, ev)
			p := ev.Partition(partitions)
			want[p] = append(want[p], ev.ID)
			total++
		}
		if err := b.PublishEvents(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "every event handled", func() bool { mu.Lock(); defer mu.Unlock(); return handled >= total })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	eventually(t, "nothing waits", func() bool {
		oldest, err := b.Oldest(t.Context())
		return err == nil && oldest.IsZero()
	})
}

// While the database is away nobody knows what has been applied, but the age of what waits must go on growing for whoever watches.
func TestAgeOfTheBacklogWithoutADatabase(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := openBus(t, func(c *Config) { c.Registerer = registry })
	var tried atomic.Int64
	b.HandleWebhooks(func(context.Context, []hub.StoredWebhook) error {
		tried.Add(1)
		return fmt.Errorf("database: %w", hub.ErrTransient)
	})
	b.HandleEvents(func(context.Context, hub.EventFrame) error { return nil })
	b.start(t)
	w := someWebhook(1, 100)
	w.ReceivedAt = time.Now().Add(-time.Hour)
	if _, err := b.PublishWebhook(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a first try", func() bool { return tried.Load() > 0 })
	b.cursors.mu.Lock()
	b.cursors.err = hub.ErrTransient
	b.cursors.mu.Unlock()
	b.metrics.oldest.Set(0)
	eventually(t, "an hour's age", func() bool {
		b.measureBacklog(t.Context())
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "stagewire_log_oldest_seconds" {
				return f.GetMetric()[0].GetGauge().GetValue() >= time.Hour.Seconds()
			}
		}
		return false
	})
}
