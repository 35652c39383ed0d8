package bus

import (
	"context"
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
