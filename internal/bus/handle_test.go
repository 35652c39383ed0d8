package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/stagewire/stagewire/internal/hub"
)

func TestRetryDelayGrows(t *testing.T) {
	t.Parallel()
	var got []time.Duration
	for n := range uint64(9) {
		got = append(got, retryDelay(n+1))
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A failing or panicking handler gets the frame again, the partition waits for it, and each failure is logged once.
func TestFailedFramesComeAgainInOrder(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	var mu sync.Mutex
	var order []string
	deliveries := 0
	b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error {
		mu.Lock()
		defer mu.Unlock()
		switch deliveries++; deliveries {
		case 1:
			return fmt.Errorf("database is away: %w", hub.ErrTransient)
		case 2:
			panic("a bug")
		}
		for _, ev := range frame.Events { // frames that wait are applied together
			order = append(order, ev.ID)
		}
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		return nil
	})
	b.start(t)
	var want []string
	for n := range 3 {
		ev := someEvent(t, n)
		want = append(want, ev.ID)
		if err := b.PublishEvents(t.Context(), []hub.Event{ev}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all frames", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 3 })
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
	logs := b.logs.String()
	for _, once := range []string{"database is away", "handler panicked: a bug"} {
		if n := strings.Count(logs, once); n != 1 {
			t.Errorf("%q was logged %d times", once, n)
		}
	}
}

// A frame that is handed over while the one before is not committed yet is refused when that one fails; both come again, in order.
func TestFrameReadAheadOfOneThatFails(t *testing.T) {
	t.Parallel()
	b := openBus(t, func(c *Config) { c.OneWriter = true })
	var mu sync.Mutex
	var order []string
	var cursor uint64
	calls, refused := 0, 0
	following := make(chan struct{})
	b.HandleEvents(func(ctx context.Context, frame hub.EventFrame) error {
		mu.Lock()
		calls++
		call := calls
		mu.Unlock()
		if call == 1 { // everything is written, and then the commit fails: the next frame is on its way by then
			frame.Written()
			select {
			case <-following:
			case <-ctx.Done():
			}
			return fmt.Errorf("commit: %w", hub.ErrTransient)
		}
		mu.Lock()
		defer mu.Unlock()
		if call == 2 {
			defer close(following)
		}
		if frame.After > cursor {
			refused++
			return fmt.Errorf("frame %d waits for %d: %w", frame.Seq, frame.After, hub.ErrTransient)
		}
		if frame.Seq > cursor {
			cursor = frame.Seq
			for _, ev := range frame.Events {
				order = append(order, ev.ID)
			}
		}
		return nil
	})
	b.start(t)
	var want []string
	for n := range 3 {
		ev := someEvent(t, n)
		want = append(want, ev.ID)
		if err := b.PublishEvents(t.Context(), []hub.Event{ev}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all frames", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 3 })
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, order); diff != "" || refused != 1 {
		t.Errorf("refused %d times\n%s", refused, diff)
	}
}

// What cannot be read goes to the dead letters with its place; a moved frame is skipped; both are acked.
func TestUnreadableAndMovedFrames(t *testing.T) {
	t.Parallel()
	type letter struct {
		stream string
		at     hub.Position
	}
	var mu sync.Mutex
	var letters []letter
	refused := 0
	b := openBus(t, func(c *Config) {
		c.DeadLetter = func(_ context.Context, stream string, at hub.Position, reason error) error {
			mu.Lock()
			defer mu.Unlock()
			if !errors.Is(reason, hub.ErrInvalid) {
				t.Errorf("reason %v", reason)
			}
			if refused++; refused == 1 {
				return errors.New("database is away") // brings the frame again
			}
			letters = append(letters, letter{stream, at})
			return nil
		}
	})
	handled := make(chan string, 10)
	b.HandleWebhooks(func(_ context.Context, webhooks []hub.StoredWebhook) error { handled <- webhooks[0].ID; return nil })
	b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error {
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		handled <- frame.Events[0].ID
		return nil
	})
	newer := appendWebhookFrame(nil, frameHeader{oldest: someTime}, []hub.Webhook{someWebhook(1, 4)})
	newer[0] = 2
	ev := someEvent(t, 1)
	text, err := EncodeEvent(&ev)
	if err != nil {
		t.Fatal(err)
	}
	moved := frameHeader{oldest: someTime, moved: true}
	var want []letter
	for _, m := range []struct {
		msg  *nats.Msg
		dead bool
	}{
		{newFrame("webhooks.0", frameHeader{oldest: someTime}, newer), true},
		{newFrame("webhooks.0", moved, appendWebhookFrame(nil, moved, []hub.Webhook{someWebhook(2, 4)})), false},
		{newFrame("events.0", frameHeader{oldest: someTime}, []byte(`[{"specversion":`)), true},
		{&nats.Msg{Subject: "events.0", Data: []byte("hello"), Header: nats.Header{}}, true},
		{newFrame("events.0", moved, append(append([]byte{'['}, text...), ']')), false},
	} {
		ack, err := b.links[linkRequest].js.PublishMsg(t.Context(), m.msg)
		if err != nil {
			t.Fatal(err)
		}
		if m.dead {
			want = append(want, letter{ack.Stream, hub.Position{Incarnation: b.incarnations[ack.Stream], Seq: ack.Sequence}})
		}
	}
	b.start(t)
	if _, err := b.PublishWebhook(t.Context(), someWebhook(3, 4)); err != nil {
		t.Fatal(err)
	}
	if err := b.PublishEvents(t.Context(), []hub.Event{ev}); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{<-handled: true, <-handled: true}
	if !got["whk_3"] || !got[ev.ID] {
		t.Errorf("handled %v", got)
	}
	eventually(t, "three dead letters and nothing waiting", func() bool {
		oldest, err := b.Oldest(t.Context())
		mu.Lock()
		defer mu.Unlock()
		return err == nil && oldest.IsZero() && len(letters) == 3
	})
	for _, w := range want {
		found := false
		for _, l := range letters {
			found = found || l == w
		}
		if !found {
			t.Errorf("no dead letter for %+v: %+v", w, letters)
		}
	}
	if len(handled) != 0 {
		t.Errorf("a moved frame was handled: %v", <-handled)
	}
}

// At start the consumer of a partition begins after the cursor, whatever was acked before: the database may come from a
// backup. Events that were applied are not seen again, events that were only acked are.
func TestConsumersStartFromTheCursor(t *testing.T) {
	t.Parallel()
	dir, cursors := t.TempDir(), &cursorTable{}
	run := func(until int) (got []string) {
		b := openBus(t, func(c *Config) { c.Dir, c.Cursors = dir, cursors.list })
		frames := make(chan hub.EventFrame, 100)
		b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error { frames <- frame; return nil })
		b.start(t)
		if until == 6 {
			for n := range 6 {
				if err := b.PublishEvents(t.Context(), []hub.Event{someEvent(t, n)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for len(got) < until {
			frame := <-frames
			for seq := frame.First; seq <= frame.Seq; seq++ { // frames that wait are applied together
				got = append(got, fmt.Sprint(seq))
				if seq <= 3 { // what later ones wrote was lost with the database
					cursors.set(frame.Incarnation, frame.Partition, seq)
				}
			}
		}
		b.stop(t)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		return got
	}
	if diff := cmp.Diff([]string{"1", "2", "3", "4", "5", "6"}, run(6)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"4", "5", "6"}, run(3)); diff != "" {
		t.Error(diff)
	}
}

// A stream that ends before the cursor of its own incarnation has lost its tail; one of another incarnation starts afresh.
func TestCursorBeyondTheStream(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	b.HandleEvents(func(context.Context, hub.EventFrame) error { return nil })
	b.cursors.set("EVENTS@2020-01-01T00:00:00Z", 0, 99)
	if err := b.checkCursors(t.Context()); err != nil {
		t.Errorf("cursor of another incarnation: %v", err)
	}
	b.cursors.set(b.Incarnation(), 0, 7)
	err := b.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "ends at 0") || !strings.Contains(err.Error(), "up to 7") {
		t.Errorf("Run: %v", err)
	}
}

// Webhooks are not pulled while EVENTS holds more than 64 unapplied frames.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	var handled, applied atomic.Int64
	release := make(chan struct{})
	b.HandleWebhooks(func(context.Context, []hub.StoredWebhook) error { handled.Add(1); return nil })
	b.HandleEvents(func(ctx context.Context, frame hub.EventFrame) error {
		select {
		case <-release:
		case <-ctx.Done():
			return ctx.Err()
		}
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		applied.Add(int64(frame.Seq - frame.First + 1))
		return nil
	})
	b.start(t)
	for n := range maxUnapplied + 1 {
		if err := b.PublishEvents(t.Context(), []hub.Event{someEvent(t, n)}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the backlog is seen", func() bool {
		_, left, err := b.oldestEvent(t.Context(), true)
		return err == nil && left == maxUnapplied+1
	})
	// One pull may have begun before the gate closed; it takes the first webhook.
	for n := range 3 {
		if _, err := b.PublishWebhook(t.Context(), someWebhook(n, 4)); err != nil {
			t.Fatal(err)
		}
	}
	held := time.NewTimer(300 * time.Millisecond)
	<-held.C
	if n := handled.Load(); n > 1 {
		t.Errorf("%d webhooks were handled while %d frames of events wait", n, maxUnapplied+1)
	}
	close(release)
	eventually(t, "all handled", func() bool { return handled.Load() >= 3 && applied.Load() >= maxUnapplied+1 })
}

// Oldest is the least received_at of all that waits, in any order, and zero when nothing does.
func TestOldest(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	b.start(t)
	check := func(what string, want time.Time) {
		t.Helper()
		if got, err := b.Oldest(t.Context()); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", what, got, err, want)
		}
	}
	check("nothing there", time.Time{})
	received := someTime.Truncate(time.Millisecond)
	publish := func(n int, at time.Time) {
		t.Helper()
		ev := someEvent(t, n)
		ev.ReceivedAt = at
		if err := b.PublishEvents(t.Context(), []hub.Event{ev}); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, received)
	check("one event", received)
	publish(2, received.Add(-time.Hour)) // hydrated late
	check("a later frame with an older event", received.Add(-time.Hour))
	w := someWebhook(1, 4)
	w.ReceivedAt = received.Add(-2 * time.Hour)
	if _, err := b.PublishWebhook(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	check("a webhook", received.Add(-2*time.Hour))
	queued, err := b.Queued(t.Context(), 5)
	if err != nil || len(queued) != 1 || queued[0].ID != w.ID {
		t.Errorf("Queued: %+v, %v", queued, err)
	}
	consumer, err := b.webhooksConsumer(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	check("a webhook in hand", received.Add(-2*time.Hour))
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("the webhook is done", received.Add(-time.Hour))
	b.cursors.set(b.Incarnation(), 0, 1)
	check("the first event is applied", received.Add(-time.Hour))
	b.cursors.set(b.Incarnation(), 0, 2)
	check("both events are applied", time.Time{})
	b.cursors.mu.Lock()
	b.cursors.err = errors.New("database is away")
	b.cursors.mu.Unlock()
	if _, err := b.Oldest(t.Context()); err == nil {
		t.Error("Oldest knows without the cursors")
	}
}

// Only what is done and old is purged.
func TestPurge(t *testing.T) {
	t.Parallel()
	b := openBus(t, func(c *Config) { c.Partitions = 2 })
	b.start(t)
	perPartition := []uint64{0, 0}
	last := []uint64{0, 0}
	for n := range 20 {
		ev := someEvent(t, n)
		ev.Identifiers[2].Value = fmt.Sprint(n)
		if err := b.PublishEvents(t.Context(), []hub.Event{ev}); err != nil {
			t.Fatal(err)
		}
		p := ev.Partition(2)
		perPartition[p]++
		last[p] = uint64(n + 1)
		if _, err := b.PublishWebhook(t.Context(), someWebhook(n, 4)); err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(time.Hour)
	if got, err := b.Purge(t.Context(), later, later); err != nil || got != (Purged{}) {
		t.Fatalf("nothing is done yet: %+v, %v", got, err)
	}
	consumer, err := b.webhooksConsumer(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 7 {
		msg, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := msg.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.cursors.set(b.Incarnation(), 1, last[1])
	if got, err := b.Purge(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)); err != nil || got != (Purged{}) {
		t.Fatalf("nothing is old yet: %+v, %v", got, err)
	}
	got, err := b.Purge(t.Context(), later, later)
	if want := (Purged{Webhooks: 7, Events: perPartition[1]}); err != nil || got != want {
		t.Fatalf("purged %+v, %v, want %+v", got, err, want)
	}
	if all, err := b.Purge(t.Context(), later, later); err != nil || all != (Purged{}) {
		t.Errorf("purged twice: %+v, %v", all, err)
	}
	queued, err := b.Queued(t.Context(), 100)
	if err != nil || len(queued) != 13 || queued[0].ID != "whk_7" || queued[12].ID != "whk_19" {
		t.Errorf("%d queued: %v", len(queued), err)
	}
	if newest, err := b.Queued(t.Context(), 2); err != nil || len(newest) != 2 || newest[0].ID != "whk_18" {
		t.Errorf("newest two: %+v, %v", newest, err)
	}
}

// After a purge took the stream's last message, a new process still learns that nothing waits.
func TestOldestAfterPurgeAndRestart(t *testing.T) {
	t.Parallel()
	dir, cursors := t.TempDir(), &cursorTable{}
	for round := range 2 {
		b := openBus(t, func(c *Config) { c.Dir, c.Cursors, c.Partitions = dir, cursors.list, 2 }).start(t)
		if round == 0 {
			ev := someEvent(t, 1)
			if err := b.PublishEvents(t.Context(), []hub.Event{ev}); err != nil {
				t.Fatal(err)
			}
			cursors.set(b.Incarnation(), ev.Partition(2), 1)
			later := time.Now().Add(time.Hour)
			if got, err := b.Purge(t.Context(), later, later); err != nil || got.Events != 1 {
				t.Fatalf("purged %+v, %v", got, err)
			}
		}
		if oldest, err := b.Oldest(t.Context()); err != nil || !oldest.IsZero() {
			t.Errorf("round %d: %v, %v", round, oldest, err)
		}
		b.stop(t)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A bus that ran and closed leaves no goroutine behind. Not parallel: it counts them.
func TestNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	func() {
		cursors := &cursorTable{}
		b, err := Open(t.Context(), Config{Dir: t.TempDir(), MinFreeDisk: 1, Partitions: 3, Cursors: cursors.list})
		if err != nil {
			t.Fatal(err)
		}
		working, told, finished := make(chan struct{}), make(chan struct{}), false
		b.HandleWebhooks(func(ctx context.Context, _ []hub.StoredWebhook) error {
			close(working)
			<-told // what is under way when Run is told to end is finished
			finished = ctx.Err() == nil
			return b.PublishEvents(ctx, []hub.Event{someEvent(t, 1)})
		})
		b.HandleEvents(func(context.Context, hub.EventFrame) error { return nil })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		if _, err := b.PublishWebhook(t.Context(), someWebhook(1, 4)); err != nil {
			t.Error(err)
		}
		<-working
		cancel()
		close(told)
		if err := <-ended; err != nil || !finished {
			t.Errorf("Run: %v, handler finished: %v", err, finished)
		}
		// The ack was sent over another connection than this question: the server may answer the question first.
		eventually(t, "the finished webhook is acked", func() bool {
			info, err := b.consumerInfo(t.Context(), streamWebhooks, consumerNormalize)
			return err == nil && info.AckFloor.Stream == 1 && info.NumAckPending == 0
		})
		if _, err := b.PublishWebhook(t.Context(), someWebhook(1, 4)); !errors.Is(err, hub.ErrBusy) {
			t.Errorf("publishing after the end: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= before })
}
