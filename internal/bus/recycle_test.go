package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
)

// Whoever published a webhook may write over its body and its headers once it is stored, as receive does: what is handled later must not
// be read from there.
func TestMemoryOfAStoredWebhookIsItsPublishersAgain(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	var mu sync.Mutex
	handled := map[string]hub.Webhook{}
	hold := make(chan struct{})
	b.HandleWebhooks(func(ctx context.Context, webhooks []hub.StoredWebhook) error {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		for _, w := range webhooks {
			w.Body = bytes.Clone(w.Body)
			handled[w.ID] = w.Webhook
		}
		return nil
	})
	b.start(t)
	var want []hub.Webhook
	for n := range 5 {
		want = append(want, someWebhook(n, 2048))
		w := someWebhook(n, 2048)
		if _, err := b.PublishWebhook(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		clear(w.Body)
		clear(w.Headers)
	}
	close(hold)
	eventually(t, "all webhooks", func() bool { mu.Lock(); defer mu.Unlock(); return len(handled) == len(want) })
	mu.Lock()
	defer mu.Unlock()
	for _, w := range want {
		if diff := cmp.Diff(w, handled[w.ID]); diff != "" {
			t.Errorf("%s was written over: %s", w.ID, diff)
		}
	}
}

// A frame's memory is its handler's until that returns, however many others come and go meanwhile, and fail.
func TestFramesAreTheirHandlersOwn(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	var mu sync.Mutex
	calls, handled := 0, map[string]bool{}
	b.HandleWebhooks(func(_ context.Context, webhooks []hub.StoredWebhook) error {
		mu.Lock()
		calls++
		failing := calls%4 == 0
		mu.Unlock()
		for range 50 {
			for _, w := range webhooks {
				if want := bytes.Repeat([]byte(w.ID), 100); !bytes.Equal(w.Body, want) {
					t.Errorf("%s: %.30q", w.ID, w.Body)
				}
			}
			runtime.Gosched()
		}
		if failing {
			return fmt.Errorf("database is away: %w", hub.ErrTransient)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, w := range webhooks {
			handled[w.ID] = true
		}
		return nil
	})
	b.start(t)
	const callers, each = 8, 15
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for n := range each {
				w := someWebhook(n, 0)
				w.ID = fmt.Sprintf("whk_%d_%d", c, n)
				w.Body = bytes.Repeat([]byte(w.ID), 100)
				if _, err := b.PublishWebhook(t.Context(), w); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	eventually(t, "all webhooks", func() bool { mu.Lock(); defer mu.Unlock(); return len(handled) == callers*each })
}

// What was encoded for a caller who gave up is still to be written: its memory is not used for others.
func TestEventsOfWhoGaveUpAreWrittenWhole(t *testing.T) {
	t.Parallel()
	b := openBus(t, func(c *Config) { c.Partitions = 1 })
	var mu sync.Mutex
	var got []hub.Event
	b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, frame.Events...)
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		return nil
	})
	given, giveUp := context.WithCancel(t.Context())
	giveUp()
	var want []hub.Event
	for n := range 10 { // nothing is written before Run
		want = append(want, someEvent(t, n))
		if err := b.PublishEvents(given, want[n:]); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	for p := range b.partitions { // what is stored is looked at, and not what is handed over
		b.ahead[p].handed.limit = 0
	}
	b.start(t)
	eventually(t, "all events", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == len(want) })
	mu.Lock()
	defer mu.Unlock()
	for i := range want {
		if got[i].ID != want[i].ID {
			t.Errorf("event %d is %s, want %s", i, got[i].ID, want[i].ID)
		}
	}
}
