// Package pipeline is the story itself: one webhook becomes events (normalize.go), one frame of events becomes committed
// decisions (apply.go, decide.go, effects.go), silence comes due (wake.go), up to the business time that is safe (horizon.go).
//
// It knows no database, no NATS and no HTTP: those are the small interfaces of ports.go. It reads no clock but the two it is given:
// Now is wire time, Clock is business time.
//
// # Design
//
// Apply is written so that running it twice, or half and then again, changes nothing: the cursor and the ledger decide what
// is new, everything is decided in memory, one Save writes it.
//
// A decision never goes further in silence than the hold of the connections its model reads: while an intake gap is
// open or a record waits to be fetched, facts that arrive count at once but the silence clock stands. This is what
// keeps an outage from looking like silence, even for a customer who has just sent something else.
//
// One go is one event, or one wake-up, of one customer. Of several moves in one go only the last has effects, and none
// has when the go ends where it began. A go is never a frame: what is sent must not depend on how events were packed.
package pipeline

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// Connections finds the configured connections. A reload swaps them while the pipeline runs.
type Connections interface {
	// Lookup returns a connection, its connector and the connector's activation.
	Lookup(name string) (Source, bool)
	// Names returns all connections, sorted.
	Names() []string
}

// Source is a connection with the manifest that reads it.
type Source struct {
	Connection *hub.Connection
	Connector  *connector.Connector
	Activation int64
}

// Clock tells business time. In a running hub that is wire time; a story has its own.
type Clock interface {
	// Business returns business now.
	Business() time.Time
	// At returns what business time it was at the wire time t.
	At(t time.Time) time.Time
}

// WallClock is the clock of a running hub: business time is wire time.
type WallClock struct{ Now func() time.Time }

// Business returns the wall clock.
func (w WallClock) Business() time.Time { return w.Now() }

// At returns t.
func (w WallClock) At(t time.Time) time.Time { return t }

// Config is what a Pipeline is made of. All fields are needed but those that say otherwise.
type Config struct {
	Store       Store
	Publisher   Publisher
	Backlog     Backlog
	Connections Connections
	Clock       Clock
	Now         func() time.Time
	Log         *slog.Logger
	Registerer  prometheus.Registerer
	// Holder names this process in leases.
	Holder string
	// Hold bounds how long something outside may hold wake-ups back; default one hour.
	Hold time.Duration
	// Settle closes an intake gap without a reconcile; default 15 minutes.
	Settle time.Duration
	// Source is the CloudEvents source of everything sent: "stagewire/<name>".
	Source string
	// SchemaBase is what dataschema starts with: the public URL.
	SchemaBase string
	// Encode gives an event the form in which it travels on EVENTS. Without it nobody is told of others.
	Encode func(ev *hub.Event) ([]byte, error)
	// Written is called after each commit that made deliveries or outbox rows, with the destinations of those that are due and with
	// those rows, which it must not keep; it must not block. Optional.
	Written func(destinations []string, outbox []hub.OutboxRecord)
	// Waiting is called after each commit that made something to be fetched; it must not block. Optional.
	Waiting func()
	// Observe is told what each commit decided, after it; it must not block. Optional.
	Observe func(Observation)
}

// Observation is what one go decided, for people who watch.
type Observation struct {
	Event       *hub.Event // nil for a wake-up
	Customer    *hub.CustomerRecord
	Transitions []hub.Transition
	Echo        bool
}

// Pipeline turns webhooks into events and events into decisions.
type Pipeline struct {
	Config
	program atomic.Pointer[Program]
	horizon atomic.Pointer[map[string]hub.Horizon] // as last computed by this process
	saved   atomic.Int64                           // when it was last saved, Unix nanoseconds
	moved   chan struct{}                          // gets something when the horizon was computed
	metrics *metrics
	scores  atomic.Pointer[Scores]
	decided atomic.Pointer[published] // under what everybody is known to be decided

	duty               sync.Mutex
	dutyAsk, dutyUntil time.Time // when to ask for the lease again; how long it is held

	gapsMu sync.Mutex
	gaps   map[string]time.Time // intake gaps that are not stored yet: connection → start, in wire time

	mu       sync.Mutex
	failures map[frameKey]int // how often a frame failed in a row
}

type frameKey struct {
	incarnation string
	partition   int
	seq         uint64
}

// New returns a pipeline that decides nothing until Use gave it a program.
func New(c Config) *Pipeline {
	if c.Hold == 0 {
		c.Hold = time.Hour
	}
	if c.Settle == 0 {
		c.Settle = 15 * time.Minute
	}
	return &Pipeline{Config: c, metrics: newMetrics(c.Registerer), failures: map[frameKey]int{}, gaps: map[string]time.Time{}, moved: make(chan struct{}, 1)}
}

// Use makes program the one that decides from now on.
func (p *Pipeline) Use(program *Program) {
	p.metrics.prepare(program)
	p.program.Store(program)
}

// Program returns what decides now, or nil.
func (p *Pipeline) Program() *Program { return p.program.Load() }

// Counts returns what the pipeline has counted since the start, per connection.
func (p *Pipeline) Counts() Counts { return p.metrics.counts() }

func (p *Pipeline) waiting() {
	if p.Waiting != nil {
		p.Waiting()
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
