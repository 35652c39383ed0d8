package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 16 << 20: 400, 34 << 20: 200, 68 << 20: 100, 1 << 30: 60} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MiB alive: %d, want %d", live>>20, got, want)
		}
	}
}

// A large live heap takes the percentage down, and the end puts back what was.
func TestCollectLess(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	stop := collectLess()
	alive := make([]byte, 200<<20)
	for limit := time.Now().Add(10 * time.Second); ; runtime.GC() {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		now := sample[0].Value.Uint64()
		if now == leastGCPercent {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("with 200 MiB alive GOGC is %d", now)
		}
	}
	runtime.KeepAlive(alive)
	stop()
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("afterwards GOGC is %d", got)
	}
}
