package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// forgetful stores webhooks and refuses those that say so. Of both it keeps the very memory it was given.
type forgetful struct {
	*memory
	mu      sync.Mutex
	refused []hub.Webhook
	stored  []hub.Webhook
}

func (f *forgetful) PublishWebhook(ctx context.Context, w hub.Webhook) (hub.Position, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.Contains(string(w.Body), "refuse") {
		f.refused = append(f.refused, w)
		return hub.Position{}, hub.ErrBusy
	}
	f.stored = append(f.stored, w)
	return f.memory.PublishWebhook(ctx, w)
}

// Memory is used again, and only that of webhooks which were stored: what the log refused it may read for a while yet.
func TestIntakesAreRecycledOnceStored(t *testing.T) {
	log := &forgetful{}
	r := start(t, func(o *Options) { log.memory = o.Log.(*memory); o.Log = log })
	var senders sync.WaitGroup
	const each = 60
	for sender := range 4 {
		senders.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", sender, i)
				body := fmt.Sprintf(`{"id":%q,"do":%q,"fill":%q}`, id, []string{"store", "refuse"}[i%2], strings.Repeat(id, i))
				if resp, _ := r.post(t, body, "X-Pipely-Delivery", id); (resp.StatusCode == 200) != (i%2 == 0) {
					t.Errorf("%s: %d", id, resp.StatusCode)
				}
			}
		})
	}
	senders.Wait()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	whole := func(w *hub.Webhook) bool {
		id := w.Header("X-Pipely-Delivery")
		return id != "" && strings.HasPrefix(string(w.Body), fmt.Sprintf(`{"id":%q,`, id)) && w.Header("X-Pipely-Hmac") == signed(string(w.Body))
	}
	if n := len(log.refused); n != 4*each/2 {
		t.Errorf("%d refused", n)
	}
	for i := range log.refused {
		if !whole(&log.refused[i]) {
			t.Errorf("the memory of a refused webhook was written over: %q %s", log.refused[i].Headers, log.refused[i].Body)
		}
	}
	for _, w := range log.memory.webhooks {
		if !whole(&w.Webhook) {
			t.Errorf("stored: %q %s", w.Headers, w.Body)
		}
	}
	bodies := map[*byte]bool{}
	for _, w := range log.stored {
		bodies[&w.Body[0]] = true
	}
	if len(bodies) == len(log.stored) {
		t.Error("no memory was used again")
	}
}

// Requests of one second share their limit, which is never longer than publishTimeout and never much shorter.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p patience
		first := p.context()
		time.Sleep(publishShared - 1)
		if p.context() != first {
			t.Error("two requests of one second have a limit each")
		}
		time.Sleep(time.Nanosecond)
		second := p.context()
		if second == first {
			t.Fatal("a request of the next second has no limit of its own")
		}
		time.Sleep(publishTimeout - publishShared)
		synctest.Wait()
		if !errors.Is(context.Cause(first), errPublishTimeout) || second.Err() != nil {
			t.Errorf("after %v: %v, %v", publishTimeout, context.Cause(first), second.Err())
		}
		time.Sleep(publishShared)
		synctest.Wait()
		if !errors.Is(context.Cause(second), errPublishTimeout) {
			t.Errorf("the second: %v", context.Cause(second))
		}
		if third := p.context(); third.Err() != nil {
			t.Errorf("after a pause: %v", third.Err())
		}
		time.Sleep(publishTimeout)
	})
}
