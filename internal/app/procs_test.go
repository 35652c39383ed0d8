package app

import (
	"runtime"
	"testing"
)

func TestRunWider(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Setenv("GOMAXPROCS", "")
	first, second := runWider(), runWider()
	for range 2 {
		if got := runtime.GOMAXPROCS(0); got != before+waitingThreads {
			t.Errorf("%d threads, want %d", got, before+waitingThreads)
		}
		first()
		first = func() {}
	}
	second()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("%d threads in the end, want %d", got, before)
	}
	t.Setenv("GOMAXPROCS", "1")
	runWider()()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("%d threads though GOMAXPROCS is set, want %d", got, before)
	}
}
