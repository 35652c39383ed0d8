package delivery

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/signature"
)

func TestCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.subscribe(Subscription{Name: "erp"})
		b.store.add(callbackTo("erp", "1", "cus_1"), callbackTo("erp", "2", "cus_2"))
		b.Wake()
		synctest.Wait()
		b.states(hub.DeliveryDelivered, "1", "2")
		got := b.receiver.got
		if len(got) != 3 || !strings.HasPrefix(got[0].id, "tst_") {
			t.Fatalf("want a test event and two callbacks, got %+v", got)
		}
		var test struct {
			SpecVersion, ID, Source, Type, Time, DataSchema, Mode string
		}
		if err := json.Unmarshal([]byte(got[0].body), &test, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatal(err)
		}
		if test.ID != got[0].id || test.Type != "stagewire.subscription.test.v1" || test.Mode != "test" || test.Source != "stagewire/acme" ||
			test.DataSchema != "https://hub.example.com/api/v1/events/catalogue/subscription.test.v1" {
			t.Errorf("test event %+v", test)
		}
		for _, r := range got {
			w := &hub.Webhook{Body: []byte(r.body)}
			for name, values := range r.header {
				w.Headers = append(w.Headers, hub.Header{Name: name, Value: values[0]})
			}
			if err := (signature.Standard{}).Verify(w, b.subscriptions["erp"].Secrets, r.at); err != nil {
				t.Errorf("%s: %v", r.id, err)
			}
			if got := w.Header("Content-Type"); got != "application/cloudevents+json" {
				t.Errorf("content type %q", got)
			}
		}
		if live := b.receiver.live(); live[0].id != "stg_1" && live[0].id != "stg_2" {
			t.Errorf("webhook-id %s is not the event's id", live[0].id)
		}
		if n := len(b.store.sends); n != 0 {
			t.Errorf("%d callbacks journalled: a commit per attempt for nothing", n)
		}
		// Another process, or the same after a restart, tests no more; another URL is tested.
		b.store.add(callbackTo("erp", "3", "cus_1"))
		settle(time.Minute)
		if n := len(b.receiver.got); n != 4 {
			t.Errorf("%d requests", n)
		}
		b.subscribe(Subscription{Name: "erp", URL: "https://elsewhere.example.com/"})
		b.store.add(callbackTo("erp", "4", "cus_1"))
		settle(time.Minute)
		if last := b.receiver.got[4:]; len(last) != 2 || !strings.HasPrefix(last[0].id, "tst_") || last[1].id != "stg_4" {
			t.Errorf("after a change of URL: %+v", last)
		}
	})
}

// A URL that does not answer the test gets no live event, however long, and everything once it does.
func TestUnverifiedURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, rarely)
		b.subscribe(Subscription{Name: "erp"})
		b.receiver.answer = func(string, int) (int, time.Duration, error) { return 404, 0, nil }
		b.store.add(callbackTo("erp", "1", "cus_1"))
		settle(time.Hour)
		if live := b.receiver.live(); len(live) != 0 {
			t.Errorf("%d live events to a URL that was not verified", len(live))
		}
		if n := len(b.receiver.got); n < 5 || n > 30 {
			t.Errorf("tested %d times within an hour", n)
		}
		b.receiver.mu.Lock()
		b.receiver.answer = nil
		b.receiver.mu.Unlock()
		settle(6 * time.Minute)
		b.states(hub.DeliveryDelivered, "1")
		if n := b.store.get("1").Attempts; n != 1 {
			t.Errorf("%d attempts counted", n)
		}
	})
}

func verified(b *bench, name string) {
	s, _ := b.config.Subscription(name)
	_ = b.store.SaveSetting(b.t.Context(), settingVerified+name, hashURL(s.URL))
}

// The promised schedule, to the end.
func TestCallbackSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, rarely)
		b.subscribe(Subscription{Name: "erp"})
		verified(b, "erp")
		b.receiver.answer = func(_ string, n int) (int, time.Duration, error) {
			return []int{500, 302, 404, 429, 400, 401, 503, 599, 100, 408}[n-1], 0, nil
		}
		b.store.add(callbackTo("erp", "1", "cus_1"))
		settle(100 * time.Hour)
		b.states(hub.DeliveryDead, "1")
		got := b.receiver.live()
		if len(got) != 10 {
			t.Fatalf("%d attempts", len(got))
		}
		for i, want := range CallbackPolicy().Steps {
			gap := got[i+1].at.Sub(got[i].at)
			if gap < want || gap > want+want/10+time.Minute { // a breaker that opened may hold it for a moment more
				t.Errorf("attempt %d came %s after the one before, want %s", i+2, gap, want)
			}
			if at := got[i].header.Get("Webhook-Timestamp"); at != strconv.FormatInt(got[i].at.Unix(), 10) {
				t.Errorf("attempt %d carries the time %s", i+1, at)
			}
			if got[i].body != got[0].body || got[i].id != got[0].id {
				t.Errorf("attempt %d changed", i+1)
			}
		}
	})
}

func TestCallbackOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.subscribe(Subscription{Name: "erp"})
		verified(b, "erp")
		b.receiver.answer = func(id string, n int) (int, time.Duration, error) {
			switch id {
			case "stg_unprocessable":
				return 422, 0, nil
			case "stg_slow":
				return 429, time.Hour, nil
			case "stg_lost":
				return 0, 0, fmt.Errorf("POST erp.example.com: timed out: %w", hub.ErrTransient)
			}
			return 204, 0, nil
		}
		noid := callbackTo("erp", "noid", "c")
		noid.Body = []byte(`{"data":{"id":"x"}}`)
		b.store.add(callbackTo("erp", "unprocessable", "c"), callbackTo("erp", "lost", "c"), noid, callbackTo("erp", "slow", "c"))
		b.Wake()
		settle(time.Second)
		s, _ := b.Status(SubscriptionPrefix + "erp")
		if s.Until.IsZero() {
			t.Errorf("a receiver that asks for quiet is not left alone: %+v", s)
		}
		settle(16 * time.Minute)
		b.states(hub.DeliveryDead, "unprocessable", "noid")
		b.states(hub.DeliveryRetrying, "lost", "slow")
		if due := time.Until(b.store.get("slow").DueAt); due < 43*time.Minute {
			t.Errorf("asked for an hour, due in %s", due)
		}
		if strings.Contains(b.log.String(), urlSecret) {
			t.Error("the log tells the URL's path")
		}
	})
}

func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.subscribe(Subscription{Name: "erp"})
		b.subscribe(Subscription{Name: "bi"})
		verified(b, "erp")
		b.receiver.answer = func(id string, n int) (int, time.Duration, error) {
			if id == "stg_1" && n == 1 {
				return 410, 0, nil
			}
			return 200, 0, nil
		}
		b.store.add(callbackTo("erp", "1", "cus_1"))
		b.Wake()
		synctest.Wait()
		b.states(hub.DeliveryDead, "1")
		b.store.add(callbackTo("erp", "2", "cus_1"), callbackTo("bi", "3", "cus_1"))
		settle(time.Minute)
		b.states(hub.DeliveryParked, "2")
		b.states(hub.DeliveryDelivered, "3")
		if s, _ := b.Status(SubscriptionPrefix + "erp"); !strings.Contains(s.Disabled, "410") {
			t.Errorf("status %+v", s)
		}
		if err := b.Enable(t.Context(), "erp"); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		b.states(hub.DeliveryDelivered, "2")
		if got := b.receiver.got; !strings.HasPrefix(got[len(got)-2].id, "tst_") {
			t.Errorf("not tested anew: %+v", got)
		}
	})
}

// Five days without one success switch a subscription off, after notices; a success in between starts anew.
func TestDisabledAfterFiveDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, rarely)
		b.subscribe(Subscription{Name: "erp"})
		verified(b, "erp")
		var works atomic.Bool
		b.receiver.answer = func(string, int) (int, time.Duration, error) {
			if works.Load() {
				return 200, 0, nil
			}
			return 500, 0, nil
		}
		n := 0
		hours := func(count int) {
			for range count {
				n++
				b.store.add(callbackTo("erp", fmt.Sprint(n), fmt.Sprint("cus_", n)))
				settle(time.Hour)
			}
		}
		hours(4 * 24)
		works.Store(true)
		hours(2)
		works.Store(false)
		hours(5*24 - 1)
		if s, _ := b.Status(SubscriptionPrefix + "erp"); s.Disabled != "" {
			t.Fatalf("disabled too early: %+v", s)
		}
		notices := strings.Count(b.log.String(), "will be disabled")
		if notices < 5 || notices > 10 {
			t.Errorf("%d notices in eight days of failure", notices)
		}
		hours(4)
		if s, _ := b.Status(SubscriptionPrefix + "erp"); !strings.Contains(s.Disabled, "nothing was delivered since") {
			t.Errorf("not disabled: %+v", s)
		}
	})
}

func TestOrdered(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, nil)
			b.subscribe(Subscription{Name: "erp", Ordered: ordered})
			verified(b, "erp")
			b.receiver.answer = func(id string, n int) (int, time.Duration, error) {
				if id == "stg_a1" && n < 3 {
					return 500, 0, nil
				}
				return 200, 0, nil
			}
			b.store.add(callbackTo("erp", "a1", "a"), callbackTo("erp", "a2", "a"), callbackTo("erp", "a3", "a"), callbackTo("erp", "b1", "b"))
			b.Wake()
			settle(10 * time.Minute)
			b.states(hub.DeliveryDelivered, "a1", "a2", "a3", "b1")
			var order []string
			for _, r := range b.receiver.live() {
				if strings.HasPrefix(r.id, "stg_a") {
					order = append(order, r.id)
				}
			}
			got := strings.Join(order, " ")
			if inOrder := got == "stg_a1 stg_a1 stg_a1 stg_a2 stg_a3"; inOrder != ordered {
				t.Errorf("ordered %t: %s", ordered, got)
			}
		})
	}
}

func TestPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.subscribe(Subscription{Name: "erp", Paused: true})
		b.store.add(callbackTo("erp", "1", "a"))
		settle(time.Minute)
		b.states(hub.DeliveryDue, "1")
		if len(b.receiver.got) != 0 {
			t.Error("something was sent while paused")
		}
		b.subscribe(Subscription{Name: "erp"})
		settle(time.Second)
		b.states(hub.DeliveryDelivered, "1")
	})
}

func TestTestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.subscribe(Subscription{Name: "erp"})
		if status, err := b.Test(t.Context(), "erp"); err != nil || status != 200 {
			t.Errorf("got %d, %v", status, err)
		}
		if b.store.settings[settingVerified+"erp"] == "" {
			t.Error("not remembered")
		}
		if _, err := b.Test(t.Context(), "crm"); err == nil {
			t.Error("an unknown subscription was tested")
		}
	})
}

func FuzzEventID(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","data":{"id":"x"},"id":"stg_1"}`))
	f.Add([]byte(`{"id":1}`))
	f.Add([]byte(`[`))
	f.Add([]byte(`{"id":"a","id":"b"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		id, err := eventID(body)
		if (err == nil) != (id != "") {
			t.Errorf("%q, %v", id, err)
		}
	})
}
