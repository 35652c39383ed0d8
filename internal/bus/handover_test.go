package bus

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/connectors"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/connector/connectortest"
	"github.com/stagewire/stagewire/internal/hub"
)

// What is handed over is what reading gives, whatever clock, zone or precision the times came with.
func TestAsReadIsWhatReadingGives(t *testing.T) {
	early := time.Date(2026, 3, 1, 23, 59, 59, 123456789, time.FixedZone("", -8*3600))
	full := someEvent(t, 1)
	full.OccurredAt, full.ReceivedAt, full.ClampedFrom = early, time.Now(), early.Add(time.Hour)
	full.Properties["starts_at"], full.Properties["ends_at"], full.Properties["no_time"] = early, time.Now(), time.Time{}
	full.Properties["none"], full.Properties["minus"] = []string(nil), someMoney(t, "-0.00")
	full.Traits = append(full.Traits, hub.Trait{Name: "since", Value: early, At: early}, hub.Trait{Name: "list", Value: []string(nil)})
	full.Written = &hub.FieldChange{Object: "contact", ID: "1", Field: "stage", Value: "ä"}
	for i, ev := range []hub.Event{
		full,
		{ID: "a", Kind: "b"},
		{ID: "a", Kind: "b", Connection: "a/b %", Withdrawn: true, Echo: true, Identifiers: []hub.Identifier{}, Properties: map[string]any{}, Traits: []hub.Trait{}},
		{ID: "a", Kind: "b", ReceivedAt: time.Date(1, 1, 1, 0, 0, 0, 5, time.UTC), OccurredAt: time.Unix(0, 0)},
	} {
		sameAsRead(t, fmt.Sprint(i), &ev)
	}
}

// TestVendorsEventsAreAsRead does the same with what the shipped connectors make of their cases.
func TestVendorsEventsAreAsRead(t *testing.T) {
	set, err := connector.Load(connectors.FS, hub.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	events := 0
	for _, c := range set.All() {
		dir := "../../connectors/" + c.Name()
		webhooks, err := filepath.Glob(dir + "/testdata/*/webhook.http")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range webhooks {
			k := connectortest.Open(t, c, dir, filepath.Dir(file))
			made, err := c.Normalize(k.Webhook(t), k.Connection)
			if err != nil {
				continue // a case of bad input
			}
			for i := range made.Events {
				events++
				sameAsRead(t, file, &made.Events[i])
			}
		}
	}
	if events < 30 {
		t.Errorf("only %d events were compared", events)
	}
}

// identicalTimes compares the zones too, and that there is no monotonic clock.
var identicalTimes = cmp.Comparer(func(a, b time.Time) bool { return a == b }) //nolint:staticcheck // not Equal

func sameAsRead(t *testing.T, name string, ev *hub.Event) {
	t.Helper()
	before := fmt.Sprintf("%v", *ev)
	handed := asRead(ev)
	text, err := EncodeEvent(ev)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	read, err := DecodeEvent(text)
	if diff := cmp.Diff(read, handed, compare, identicalTimes); err != nil || diff != "" {
		t.Errorf("%s: %v\n%s\n%s", name, err, text, diff)
	}
	if after := fmt.Sprintf("%v", *ev); after != before {
		t.Errorf("%s: the event was changed\n%s\n%s", name, before, after)
	}
}

func TestHandoverGivesOnceAndForgets(t *testing.T) {
	const limit = 100
	events := func(n int) []hub.Event { return make([]hub.Event, n) }
	h := handover[hub.Event]{limit: limit}
	h.put("1", events(3), 30)
	h.put("2", events(7), limit-30)
	h.put("3", events(1), 1) // full
	if got, tooMany := h.take("3", 0); got != nil || tooMany {
		t.Error("more was kept than may be")
	}
	if got, tooMany := h.take("1", 2); got != nil || !tooMany {
		t.Error("a frame was given that has no room")
	}
	if got, tooMany := h.take("1", 3); len(got) != 3 || tooMany {
		t.Errorf("frame 1 has %d events", len(got))
	}
	if got, tooMany := h.take("1", 3); got != nil || tooMany {
		t.Error("frame 1 was given twice")
	}
	h.stored("1", 1)
	h.handled(1)
	if h.bytes != limit-30 {
		t.Error("a frame that may still wait was dropped")
	}
	h.stored("2", 2)
	h.handled(2)
	if got, _ := h.take("2", 9); got != nil || h.bytes != 0 || len(h.frames) != 0 {
		t.Errorf("a handled frame is kept, or %d bytes are counted", h.bytes)
	}
	h.put("4", events(1), 1)
	h.stored("4", 2) // its ack came after it was handled
	if h.bytes != 0 || len(h.frames) != 0 {
		t.Error("a handled frame was kept")
	}
}

// While a frame is applied, those behind it are handed over; one that then fails is read from the stream, and nothing differs.
func TestFramesBehindAreHandedOver(t *testing.T) {
	t.Parallel()
	b := openBus(t, func(c *Config) { c.OneWriter = true })
	var mu sync.Mutex
	var got []hub.Event
	var handed map[string]any
	entered, release, failed := make(chan struct{}), make(chan struct{}), false
	b.HandleEvents(func(ctx context.Context, frame hub.EventFrame) error {
		if frame.Seq == 1 {
			close(entered)
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if frame.Seq > 1 && !failed {
			failed, handed = true, frame.Events[0].Properties
			return fmt.Errorf("database is away: %w", hub.ErrTransient)
		}
		got = append(got, frame.Events...)
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		return nil
	})
	b.start(t)
	events := make([]hub.Event, 3)
	var want []hub.Event
	for n := range events {
		events[n] = someEvent(t, n)
		events[n].ReceivedAt = someTime.Add(time.Duration(n)*time.Second + 345*time.Microsecond)
		want = append(want, asRead(&events[n]))
		if err := b.PublishEvents(t.Context(), events[n:n+1]); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			<-entered
		}
	}
	close(release)
	eventually(t, "all events", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 3 })
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
	if reflect.ValueOf(handed).Pointer() != reflect.ValueOf(events[1].Properties).Pointer() {
		t.Error("the frame behind was read from the stream")
	}
}

// Webhooks are handed over too; a frame that failed is read from the stream, as it was stored.
func TestWebhooksAreHandedOver(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	var mu sync.Mutex
	var bodies [][]byte
	b.HandleWebhooks(func(_ context.Context, webhooks []hub.StoredWebhook) error {
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, bytes.Clone(webhooks[0].Body))
		clear(webhooks[0].Body) // it is ours
		if len(bodies) == 1 {
			return fmt.Errorf("database is away: %w", hub.ErrTransient)
		}
		return nil
	})
	b.start(t)
	w := someWebhook(1, 64)
	if _, err := b.PublishWebhook(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it comes again", func() bool { mu.Lock(); defer mu.Unlock(); return len(bodies) == 2 })
	mu.Lock()
	defer mu.Unlock()
	for _, body := range bodies {
		if !bytes.Equal(body, w.Body) {
			t.Errorf("got %q", body)
		}
	}
	b.webhooks.mu.Lock()
	defer b.webhooks.mu.Unlock()
	if n := b.webhooks.frames.bytes; n != 0 {
		t.Errorf("%d bytes are kept of frames that were handled", n)
	}
}
