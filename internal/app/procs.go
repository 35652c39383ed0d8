package app

import (
	"os"
	"runtime"
	"sync"
)

// A thread that waits for fsync keeps its place among those that run Go code until the scheduler notices, which may take longer
// than the fsync. The hub has three that do: for the streams of webhooks and of events, and for the database's log. While two of
// them wait, two processors would have nothing to do: a tenth to a fifth of what a machine of two can decide.
const waitingThreads = 2

// wider counts the hubs of this process that run, and knows what was before the first.
var wider struct {
	sync.Mutex
	hubs, before int
}

// runWider lets more threads run Go code than there are processors; restore puts back what was once no hub runs. Who has set
// GOMAXPROCS knows better.
func runWider() (restore func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	wider.Lock()
	defer wider.Unlock()
	if wider.hubs++; wider.hubs == 1 {
		wider.before = runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(wider.before + waitingThreads)
	}
	return func() {
		wider.Lock()
		defer wider.Unlock()
		if wider.hubs--; wider.hubs == 0 {
			runtime.GOMAXPROCS(wider.before)
		}
	}
}
