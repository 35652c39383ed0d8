package delivery

import (
	"testing"
	"time"
)

func TestNextCallback(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	want := []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
	for i, step := range want {
		for _, random := range []float64{0, 0.999} {
			due, again := Next(now, now, i+1, CallbackPolicy(), 0, func() float64 { return random })
			if delay := due.Sub(now); !again || delay < step || delay > step+step/10 {
				t.Errorf("after attempt %d: %s, %t", i+1, delay, again)
			}
		}
	}
	if _, again := Next(now, now, 10, CallbackPolicy(), time.Hour, func() float64 { return 0 }); again {
		t.Error("an eleventh attempt")
	}
}

func TestNextVendor(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	ceiling := time.Second
	for attempts := 1; attempts <= 2000; attempts++ {
		for _, random := range []float64{0, 0.5, 0.999} {
			due, again := Next(now, now, attempts, VendorPolicy(), 0, func() float64 { return random })
			delay := due.Sub(now)
			if !again || delay < 100*time.Millisecond || delay > ceiling {
				t.Fatalf("after attempt %d: %s, %t", attempts, delay, again)
			}
			if random == 0.5 && delay != ceiling/2 {
				t.Fatalf("after attempt %d: %s is not full jitter below %s", attempts, delay, ceiling)
			}
		}
		ceiling = min(2*ceiling, 15*time.Minute)
	}
	for _, test := range []struct {
		age      time.Duration
		attempts int
		again    bool
	}{
		{71 * time.Hour, 500, true},
		{72 * time.Hour, 8, false},
		{72 * time.Hour, 7, true}, // it waited behind a breaker, or was parked: it gets its tries
		{1000 * time.Hour, 1, true},
	} {
		if _, again := Next(now, now.Add(-test.age), test.attempts, VendorPolicy(), 0, func() float64 { return 0 }); again != test.again {
			t.Errorf("age %s, %d attempts: again is %t", test.age, test.attempts, again)
		}
	}
}

func TestNextHonoursRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for _, policy := range []Policy{VendorPolicy(), CallbackPolicy()} {
		for _, after := range []time.Duration{time.Second, time.Minute, 3 * time.Hour, 24 * time.Hour} {
			for _, random := range []float64{0, 0.999} {
				due, again := Next(now, now, 1, policy, after, func() float64 { return random })
				if delay := due.Sub(now); !again || delay < after || delay > max(after, 6*time.Second)+10*time.Second {
					t.Errorf("asked for %s: %s, %t", after, delay, again)
				}
			}
		}
	}
}

func TestBreaker(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	most := func() float64 { return 0.9999999999 }
	b := breaker{threshold: 3, base: time.Second, cap: 10 * time.Second}
	for i := range 2 {
		if b.failure(now, false, most); b.state(now) != BreakerClosed {
			t.Fatalf("open after %d failures", i+1)
		}
	}
	b.success()
	for range 2 {
		b.failure(now, false, most)
	}
	if b.state(now) != BreakerClosed {
		t.Fatal("a success between does not count")
	}
	if opened := b.failure(now, false, most); !opened || b.state(now) != BreakerOpen {
		t.Fatal("not open after three in a row")
	}
	// Those that were under way when it opened do not make it longer.
	for range 20 {
		if b.failure(now, false, most) {
			t.Fatal("opened again while open")
		}
	}
	if b.state(now.Add(time.Second)) != BreakerHalfOpen {
		t.Fatal("not half open after a second")
	}
	for _, want := range []time.Duration{2, 4, 8, 10, 10} {
		now = now.Add(time.Minute)
		b.failure(now, false, most)
		if length := b.until.Sub(now).Round(time.Millisecond); length != want*time.Second {
			t.Errorf("open for %s, want %s", length, want*time.Second)
		}
	}
	b.success()
	if b.state(now) != BreakerClosed {
		t.Error("a good probe does not close it")
	}
	if !b.failure(now, true, most) || b.state(now) != BreakerOpen {
		t.Error("a refused credential does not open it at once")
	}
}
