package delivery

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// SubscriptionPrefix begins the destination of a subscription's callbacks; its name follows.
const SubscriptionPrefix = hub.SubscriptionPrefix

// Subscription is a third party that wants callbacks.
type Subscription struct {
	Name string
	// URL is kept out of logs and errors: it may hold a token.
	URL          string
	Secrets      []hub.Secret // every one signs, so that receivers can rotate
	Ordered      bool         // a customer's later callbacks wait for the earlier ones
	Paused       bool         // nothing is sent; deliveries stay due
	AllowPrivate bool
}

// Config is what a Dispatcher needs. Fields without a remark are required.
type Config struct {
	Store     Store
	Publisher Publisher
	Poster    Poster
	// Connection returns a connection and its connector, false where there is none of that name now.
	Connection func(name string) (*hub.Connection, Connector, bool)
	// Call returns the way out to a connection: for deliveries, and with less priority for fetches.
	Call        func(conn *hub.Connection, con Connector) connector.Call
	HydrateCall func(conn *hub.Connection, con Connector) connector.Call
	// Pause tells every caller of the connection to keep quiet for a while; optional.
	Pause func(connection string, d time.Duration)
	// Activation returns the number of the connector's active manifest, for the events made of fetched records.
	Activation func(connection string) int64
	// Subscription returns a subscription, false where there is none of that name now.
	Subscription func(name string) (Subscription, bool)
	// Source is the CloudEvents source of our own test events, e.g. "stagewire/acme".
	Source string
	// PublicURL is the hub's own address, for dataschema; "" leaves that out.
	PublicURL string

	Now        func() time.Time // wire time; nil: time.Now
	Business   func() time.Time // business now; nil: Now
	Random     func() float64   // in [0,1); nil: math/rand
	Log        *slog.Logger     // nil: no logs
	Registerer prometheus.Registerer

	// The rest has defaults.
	Poll              time.Duration // how often the store is asked without being woken; 200 ms
	VendorConcurrency int           // attempts at once per connection; 4
	Concurrency       int           // attempts at once per subscription; 32
	Batch             int           // callbacks claimed at once; 256
	Grace             time.Duration // how long attempts may go on after the context ends; 10 s
	Vendor            Policy        // VendorPolicy
	Callback          Policy        // CallbackPolicy
}

// Time limits of one attempt, and leases that outlast them.
const (
	vendorAttempt   = 90 * time.Second // one action may take several requests
	vendorLease     = 3 * time.Minute
	callbackAttempt = 16 * time.Second // the poster's own limit is 15 s
	callbackLease   = time.Minute
	hydrateAttempt  = 90 * time.Second
	hydrateLease    = 3 * time.Minute
)

const (
	// maxBatch bounds what one Finish carries.
	maxBatch = 512
	// sweepEvery is how often parked destinations are looked at and the backlog is measured.
	sweepEvery = 10 * time.Second
	// storeRest is how long a destination rests after the store failed.
	storeRest = time.Second
	// finishWithin is how long outcomes are kept trying to be recorded once the dispatcher ends.
	finishWithin = 5 * time.Second
)

// Dispatcher runs one worker per destination that has something due.
type Dispatcher struct {
	config  Config
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{}
	owing   chan struct{} // owed is not empty
	sweep   chan struct{}

	mu           sync.Mutex
	destinations map[string]*destination
	running      map[string]bool // by destination; "hydrate:" and the connection for fetches
	owed         map[string]bool // destinations without a worker that something became due at
}

// New makes a dispatcher; Run starts it.
func New(config Config) *Dispatcher {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Business == nil {
		config.Business = config.Now
	}
	if config.Random == nil {
		config.Random = defaultRandom
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	config.Poll = cmp.Or(config.Poll, 200*time.Millisecond)
	config.VendorConcurrency = cmp.Or(config.VendorConcurrency, 4)
	config.Concurrency = cmp.Or(config.Concurrency, 32)
	config.Batch = cmp.Or(config.Batch, 256)
	config.Grace = cmp.Or(config.Grace, 10*time.Second)
	if config.Vendor.Cap == 0 {
		config.Vendor = VendorPolicy()
	}
	if len(config.Callback.Steps) == 0 {
		config.Callback = CallbackPolicy()
	}
	return &Dispatcher{
		config: config, now: config.Now, log: config.Log, metrics: newMetrics(config.Registerer),
		wake: make(chan struct{}, 1), owing: make(chan struct{}, 1), sweep: make(chan struct{}, 1),
		destinations: map[string]*destination{}, running: map[string]bool{}, owed: map[string]bool{},
	}
}

// Owed says that something became due at those destinations, which need not be asked for then. It never blocks.
func (d *Dispatcher) Owed(destinations []string) {
	d.mu.Lock()
	for _, name := range destinations {
		if dest := d.destinations[name]; dest != nil && d.running[name] {
			dest.nudge()
		} else {
			d.owed[name] = true
		}
	}
	idle := len(d.owed) > 0
	d.mu.Unlock()
	if idle {
		select {
		case d.owing <- struct{}{}:
		default:
		}
	}
}

// Wake says that something may have become due. It never blocks.
func (d *Dispatcher) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Reloaded says that connections or subscriptions changed: parked work of those that returned becomes due. It never blocks.
func (d *Dispatcher) Reloaded() {
	select {
	case d.sweep <- struct{}{}:
	default:
	}
}

// Known makes the metrics of destinations visible at zero; call it with those of the configuration, at start and after a reload.
func (d *Dispatcher) Known(destinations ...string) {
	for _, name := range destinations {
		d.destination(name)
	}
}

// Status returns how a destination does; false where nothing was sent there since the start.
func (d *Dispatcher) Status(destination string) (Status, bool) {
	d.mu.Lock()
	dest := d.destinations[destination]
	d.mu.Unlock()
	if dest == nil {
		return Status{Breaker: BreakerClosed}, false
	}
	return dest.status(), true
}

// destination returns the memory of a destination, making it at first sight.
func (d *Dispatcher) destination(name string) *destination {
	d.mu.Lock()
	defer d.mu.Unlock()
	dest := d.destinations[name]
	if dest == nil {
		b := breaker{threshold: 5, base: time.Second, cap: 5 * time.Minute}
		if strings.HasPrefix(name, SubscriptionPrefix) {
			b = breaker{threshold: 10, base: 5 * time.Second, cap: 5 * time.Minute}
		}
		dest = d.metrics.newDestination(name, d.now, d.config.Random, b)
		d.destinations[name] = dest
	}
	return dest
}

// Run sends what is due until ctx ends. Then attempts under way get Config.Grace to end, the rest is handed back, and Run returns
// when everything it started has returned. Its error is always nil: the store's and the vendors' troubles are waited out.
func (d *Dispatcher) Run(ctx context.Context) error {
	attempts, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var workers sync.WaitGroup
	poll := time.NewTicker(d.config.Poll)
	defer poll.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	d.Reloaded()
	for {
		select {
		case <-ctx.Done():
			done := make(chan struct{})
			go func() { workers.Wait(); close(done) }()
			grace := time.NewTimer(d.config.Grace)
			defer grace.Stop()
			select {
			case <-done:
			case <-grace.C:
				abort()
				<-done
			}
			return nil
		case <-sweep.C:
			d.unpark(ctx)
			d.measure(ctx)
		case <-d.sweep:
			d.unpark(ctx)
			d.measure(ctx)
			d.dispatch(ctx, attempts, &workers)
		case <-poll.C:
			d.dispatch(ctx, attempts, &workers)
		case <-d.wake:
			d.dispatch(ctx, attempts, &workers)
		case <-d.owing:
			d.mu.Lock()
			names := slices.Collect(maps.Keys(d.owed))
			clear(d.owed)
			d.mu.Unlock()
			for _, name := range names {
				d.serve(ctx, attempts, name, &workers)
			}
		}
	}
}

// dispatch sees to it that every destination with something due has a worker.
func (d *Dispatcher) dispatch(ctx, attempts context.Context, workers *sync.WaitGroup) {
	now := d.now()
	names, err := d.config.Store.Destinations(ctx, now)
	if err != nil && ctx.Err() == nil {
		d.log.Error("destinations cannot be read", "error", err.Error())
	}
	for _, name := range names {
		d.serve(ctx, attempts, name, workers)
	}
	connections, err := d.config.Store.HydrationConnections(ctx, now)
	if err != nil && ctx.Err() == nil {
		d.log.Error("waiting fetches cannot be read", "error", err.Error())
	}
	for _, name := range connections {
		dest := d.destination(hydratePrefix + name)
		if wait, _ := dest.hold(); wait > 0 {
			continue
		}
		d.start(dest.name, dest, workers, func() { d.hydrate(ctx, attempts, dest, name) })
	}
}

// serve sees to it that a destination has a worker, unless it must be left alone.
func (d *Dispatcher) serve(ctx, attempts context.Context, name string, workers *sync.WaitGroup) {
	dest := d.destination(name)
	if wait, _ := dest.hold(); wait > 0 {
		return
	}
	if subscription, ok := strings.CutPrefix(name, SubscriptionPrefix); ok {
		if s, known := d.config.Subscription(subscription); known && s.Paused {
			return
		}
	}
	d.start(name, dest, workers, func() { d.work(ctx, attempts, dest) })
}

// start runs work for dest unless it runs already, and runs it again where a nudge came while it was ending.
func (d *Dispatcher) start(name string, dest *destination, workers *sync.WaitGroup, work func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running[name] {
		dest.nudge()
		return
	}
	d.running[name] = true
	workers.Go(func() {
		for {
			work()
			d.mu.Lock()
			select {
			case <-dest.poke:
				if wait, _ := dest.hold(); wait <= 0 {
					d.mu.Unlock()
					continue
				}
			default:
			}
			d.running[name] = false
			d.mu.Unlock()
			return
		}
	})
}

// unpark makes parked work of destinations that are usable again due.
func (d *Dispatcher) unpark(ctx context.Context) {
	names, err := d.config.Store.Parked(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.log.Error("parked deliveries cannot be read", "error", err.Error())
		}
		return
	}
	for _, name := range names {
		if d.unusable(ctx, d.destination(name)) != "" {
			continue
		}
		if err := d.config.Store.Unpark(ctx, name, d.now()); err != nil && ctx.Err() == nil {
			d.log.Error("parked deliveries cannot be resumed", "destination", name, "error", err.Error())
			continue
		}
		d.log.Info("destination is back: parked deliveries are due", "destination", name)
	}
}

// unusable returns why nothing can be sent to dest at all, "" where it can.
func (d *Dispatcher) unusable(ctx context.Context, dest *destination) string {
	name, ok := strings.CutPrefix(dest.name, SubscriptionPrefix)
	if !ok {
		if _, _, ok := d.config.Connection(dest.name); !ok {
			return "connection gone"
		}
		return ""
	}
	s, ok := d.config.Subscription(name)
	if !ok {
		return "subscription gone"
	}
	if reason := d.disabled(ctx, dest, s); reason != "" {
		return "subscription disabled: " + reason
	}
	return ""
}

func (d *Dispatcher) measure(ctx context.Context) {
	now := d.now()
	due, oldest, err := d.config.Store.Backlog(ctx, now)
	if err != nil {
		if ctx.Err() == nil {
			d.log.Error("backlog cannot be read", "error", err.Error())
		}
		return
	}
	d.metrics.due.Set(float64(due))
	age := 0.0
	if !oldest.IsZero() {
		age = max(0, now.Sub(oldest).Seconds())
	}
	d.metrics.oldest.Set(age)
	d.mu.Lock()
	all := make([]*destination, 0, len(d.destinations))
	for _, dest := range d.destinations {
		all = append(all, dest)
	}
	d.mu.Unlock()
	for _, dest := range all {
		dest.status() // moves the gauge from open to half open
	}
}

// hashURL identifies a URL without telling it.
func hashURL(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:16])
}
