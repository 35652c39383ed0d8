package client

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
)

func contextSoon(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), 20*time.Millisecond)
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"120":                            2 * time.Minute,
		" 7 ":                            7 * time.Second,
		"1.5":                            1500 * time.Millisecond,
		"-3":                             0,
		"NaN":                            0,
		"1e300":                          24 * time.Hour,
		"999999999999999999999":          24 * time.Hour,
		"soon":                           0,
		"Sun, 01 Mar 2026 10:00:30 GMT":  30 * time.Second,
		"Sun, 01 Mar 2026 09:00:00 GMT":  0,
		"Sunday, 01-Mar-26 10:01:00 GMT": time.Minute,
		"Sat, 01 Mar 2031 10:00:00 GMT":  24 * time.Hour,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// In no stretch of the window's length more requests start than the vendor allows, and at a steady load nearly as many.
func TestNeverMoreThanAllowed(t *testing.T) {
	for _, limit := range []connector.Limit{{Requests: 80, Per: 2 * time.Second}, {Requests: 5, Per: time.Second}, {Requests: 1, Per: time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(limit, time.Now)
			time.Sleep(limit.Per) // rested, the worst case
			var mu sync.Mutex
			var starts []time.Time
			var wg sync.WaitGroup
			n := 4 * limit.Requests
			for range n {
				wg.Go(func() {
					if _, ok := l.take(t.Context(), Deliver, time.Hour); !ok {
						t.Error("not let through")
					}
					mu.Lock()
					starts = append(starts, time.Now())
					mu.Unlock()
					l.give()
				})
			}
			wg.Wait()
			for i := range starts {
				in := 0
				for j := i; j < len(starts) && starts[j].Sub(starts[i]) < limit.Per; j++ {
					in++
				}
				if in > limit.Requests {
					t.Fatalf("%v: %d requests within %s", limit, in, limit.Per)
				}
			}
			if took, most := starts[n-1].Sub(starts[0]), 6*limit.Per; took > most {
				t.Errorf("%v: %d requests took %s", limit, n, took)
			}
		})
	}
}

func TestUrgentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(connector.Limit{Requests: 1, Per: time.Second}, time.Now)
		l.take(t.Context(), Deliver, time.Hour)
		l.give()
		var mu sync.Mutex
		var order []Priority
		var wg sync.WaitGroup
		for _, p := range []Priority{Reconcile, Reconcile, Hydrate, Deliver, Hydrate, Deliver} {
			wg.Go(func() {
				l.take(t.Context(), p, time.Hour)
				mu.Lock()
				order = append(order, p)
				mu.Unlock()
				l.give()
			})
			synctest.Wait()
		}
		wg.Wait()
		for i := 1; i < len(order); i++ {
			if order[i] < order[i-1] {
				t.Fatalf("order was %v", order)
			}
		}
	})
}

func TestPauseAndPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(connector.Limit{Remaining: "X-Left", Per: 10 * time.Second, Requests: 100}, time.Now)
		began := time.Now()
		l.observe(http.StatusTooManyRequests, http.Header{"Retry-After": {"3"}})
		if wait, ok := l.take(t.Context(), Deliver, time.Second); ok || wait != 3*time.Second || time.Since(began) != 0 {
			t.Errorf("impatient: got %s, %t after %s", wait, ok, time.Since(began))
		}
		if _, ok := l.take(t.Context(), Deliver, 5*time.Second); !ok || time.Since(began) != 3*time.Second {
			t.Errorf("patient: %t after %s", ok, time.Since(began))
		}
		l.give()
		// A waiter learns of a pause that comes while it waits.
		l.pause(time.Now().Add(2 * time.Second))
		got := make(chan time.Duration, 1)
		go func() {
			wait, _ := l.take(t.Context(), Deliver, 5*time.Second)
			got <- wait
		}()
		synctest.Wait()
		l.pause(time.Now().Add(time.Minute))
		if wait := <-got; wait != time.Minute {
			t.Errorf("waiter was told to wait %s", wait)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if wait, ok := l.take(ctx, Deliver, time.Hour); ok || wait != 0 {
			t.Errorf("ended context: %s, %t", wait, ok)
		}
		time.Sleep(time.Minute)
		began = time.Now()
		l.observe(200, http.Header{"X-Left": {"0"}})
		if _, ok := l.take(t.Context(), Deliver, time.Minute); !ok || time.Since(began) != 10*time.Second {
			t.Errorf("none left: %t after %s", ok, time.Since(began))
		}
		l.give()
		began = time.Now()
		l.observe(http.StatusServiceUnavailable, http.Header{})
		l.observe(200, http.Header{"X-Left": {"12"}})
		if _, ok := l.take(t.Context(), Deliver, time.Minute); !ok || time.Since(began) > time.Second {
			t.Errorf("plain 503 paused for %s", time.Since(began))
		}
		l.give()
	})
}

func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(connector.Limit{Concurrent: 3}, time.Now)
		var mu sync.Mutex
		active, most := 0, 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, ok := l.take(t.Context(), Hydrate, time.Second); !ok {
					t.Error("not let through")
					return
				}
				mu.Lock()
				active++
				most = max(most, active)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				active--
				mu.Unlock()
				l.give()
			})
		}
		wg.Wait()
		if most != 3 {
			t.Errorf("%d at once", most)
		}
	})
}

// A vendor that says 429 keeps all callers of its connection away, and no other.
func TestLimiterIsShared(t *testing.T) {
	calls := map[string]int{}
	var mu sync.Mutex
	c := newTest(t, Config{Patience: time.Millisecond, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		calls[r.URL.Host]++
		status := 200
		if r.URL.Host == "busy.example.com" {
			status = 429
		}
		resp := answer(status, http.NoBody)
		resp.Header.Set("Retry-After", strconv.Itoa(60))
		return resp, nil
	})})
	for range 3 {
		for _, p := range []Priority{Deliver, Hydrate, Reconcile} {
			for _, name := range []string{"busy", "fine"} {
				_, _ = c.call(local(name), fixed("https://"+name+".example.com", connector.Limit{}), p)(t.Context(), connector.Request{Path: "/"})
			}
		}
	}
	if calls["busy.example.com"] != 1 || calls["fine.example.com"] != 9 {
		t.Errorf("calls: %v", calls)
	}
}
