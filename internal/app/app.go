// Package app builds everything, runs it, and takes it down: the only place where the parts meet. It also holds what
// is made of the whole: quickstart and bench.
//
// # Design
//
// Open is one long straight function, because dependency order is the reading order. Run stops in the opposite order of the
// flow: first no webhook is taken any more, then what is in flight ends or is handed back, then the log and the database close.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/stagewire/stagewire/internal/access"
	"github.com/stagewire/stagewire/internal/bus"
	"github.com/stagewire/stagewire/internal/client"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/delivery"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
	"github.com/stagewire/stagewire/internal/server"
	"github.com/stagewire/stagewire/internal/store"
)

// cleanRestart is how long the hub may be away without that counting as an intake gap, if it had stopped cleanly.
const cleanRestart = 10 * time.Second

// Settings kept in SQL.
const (
	settingPartitions = "events.partitions"
	settingAlive      = "alive"   // wire time, every two seconds
	settingStopped    = "stopped" // wire time of a clean stop, "" while running
)

// Options is what an App is made of.
type Options struct {
	Config *config.Config
	// Connectors is the set of compiled manifests, with the configuration's own overlaid.
	Connectors *connector.Set
	// Load reads a configuration file again, for reloads.
	Load    Loader
	Log     *slog.Logger
	Version string
	// Clock is business time; nil: the wall clock.
	Clock pipeline.Clock
	// Observe is told every decision that was committed. Optional.
	Observe func(pipeline.Observation)
	// IntakeOnly receives and stores webhooks and does nothing else with them, for measuring.
	IntakeOnly bool
}

// Loader reads a configuration and compiles the connectors it can use. The error joins every problem.
type Loader func(path string) (*config.Config, *connector.Set, error)

// App is a running hub.
type App struct {
	Options
	Token    hub.Secret
	registry registry
	registr  *prometheus.Registry
	unlock   func()
	store    *store.Store
	bus      *bus.Bus
	relay    *bus.Relay
	pipeline *pipeline.Pipeline
	client   *client.Client
	delivery *delivery.Dispatcher
	server   *server.Server
	tokens   *access.Tokens

	mu       sync.RWMutex
	config   *config.Config // as last loaded
	set      *connector.Set
	compiled *compiled // the active model set
	gapAt    sync.Map  // connection → wire time of the last gap opened by a refusal
	reload   sync.Mutex
	// publishedNow wakes whoever decides customers after a publish.
	publishedNow chan struct{}
	refitAsked   chan chan<- refitted // who waits for a refit now
}

// Open takes the data directory, opens log and database, compiles what decides, and listens. Nothing runs yet.
func Open(ctx context.Context, o Options) (_ *App, err error) {
	cfg := o.Config
	a := &App{Options: o, config: cfg, set: o.Connectors, registr: prometheus.NewRegistry(), publishedNow: make(chan struct{}, 1), refitAsked: make(chan chan<- refitted)}
	if a.Clock == nil {
		a.Clock = pipeline.WallClock{Now: time.Now}
	}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	a.registr.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if a.unlock, err = bus.LockDir(cfg.DataDir); err != nil {
		return nil, err
	}
	a.Token = cfg.API.Token
	if a.Token.IsZero() {
		if a.Token, _, err = access.LoadToken(cfg.DataDir); err != nil {
			return nil, err
		}
	}
	a.tokens = access.NewTokens(a.Token)
	key, err := access.LoadKey(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	sealer, err := client.NewSealer(key)
	if err != nil {
		return nil, err
	}

	a.store, err = store.Open(ctx, store.Options{URL: cfg.Database.URL.Reveal(), Dir: cfg.DataDir, Log: o.Log})
	if err != nil {
		return nil, err
	}
	partitions := "32"
	if cfg.Database.URL.IsZero() {
		partitions = "1"
		// The lock says that whoever had something in hand is gone: nobody waits for leases to run out.
		if err := a.store.Release(ctx, time.Now()); err != nil {
			return nil, err
		}
	}
	if partitions, err = a.store.FixSetting(ctx, settingPartitions, partitions); err != nil {
		return nil, err
	}
	count, err := strconv.Atoi(partitions)
	if err != nil {
		return nil, fmt.Errorf("setting %s is %q: %w", settingPartitions, partitions, hub.ErrInvalid)
	}

	a.bus, err = bus.Open(ctx, bus.Config{
		URL: cfg.NATS.URL.Reveal(), Dir: cfg.DataDir, Replicas: cfg.NATS.Replicas, Partitions: count, MinFreeDisk: freeDisk(cfg),
		Log: o.Log, Registerer: a.registr, Cursors: a.store.Cursors, OneWriter: cfg.Database.URL.IsZero(), DeadLetter: a.frameDied,
	})
	if err != nil {
		return nil, err
	}
	a.relay = a.bus.NewRelay(a.store)

	if err := a.registry.use(ctx, cfg.Connections, a.set, a.store); err != nil {
		return nil, err
	}
	holder := fmt.Sprintf("%s/%d", hostname(), os.Getpid())
	a.pipeline = pipeline.New(pipeline.Config{
		Store: a.store, Publisher: a.bus, Backlog: a.bus, Connections: &a.registry, Clock: a.Clock, Now: time.Now, Log: o.Log,
		Registerer: a.registr, Holder: holder, Hold: cfg.Hold, Settle: cfg.Settle, Source: a.source(), SchemaBase: cfg.PublicURL,
		Encode: bus.EncodeEvent, Written: a.wrote, Waiting: a.due, Observe: o.Observe,
	})
	if err := a.loadModels(ctx); err != nil {
		return nil, err
	}
	if _, err := a.followScores(ctx); err != nil {
		return nil, err
	}

	a.client = client.New(client.Config{Tokens: a.store, Sealer: sealer, Log: o.Log, Registerer: a.registr})
	a.delivery = delivery.New(delivery.Config{
		Store: a.store, Publisher: a.bus, Poster: a.client, Connection: a.connection, Call: a.call(client.Deliver), HydrateCall: a.call(client.Hydrate),
		Pause: a.client.Pause, Activation: a.activation, Subscription: a.subscription, Source: a.source(), PublicURL: cfg.PublicURL,
		Business: a.Clock.Business, Log: o.Log, Registerer: a.registr,
	})

	a.server = server.New(server.Options{
		Listen: cfg.Listen, AdminListen: cfg.AdminListen, BodyLimit: min(int(cfg.Limits.Body), a.bus.MaxBody()), Connections: cfg.Limits.Connections,
		Version: o.Version, Log: gapLog{a.bus, a}, Reader: a.store, Views: views{a}, Replayer: replayer{a}, Publisher: a, Pinner: a.pipeline, Refitter: a, Provisioner: a, Gate: a.tokens,
		Checks:   []server.Check{{Name: "nats", Run: a.bus.Healthy}, {Name: "database", Run: a.store.Ping}},
		Redriven: a.delivery.Wake, Logger: o.Log, Registerer: a.registr, Gatherer: a.registr,
	})
	a.server.Use(a.setup())
	if !a.IntakeOnly {
		a.bus.HandleWebhooks(a.pipeline.Normalize)
		a.bus.HandleEvents(a.applyFrame)
	}
	if err := a.server.Listen(); err != nil {
		return nil, err
	}
	return a, nil
}

// Addr returns where webhooks are taken.
func (a *App) Addr() net.Addr { return a.server.Addr() }

// Run works until ctx ends, then finishes or hands back what is in flight. It returns the first failure of a part, or nil.
func (a *App) Run(ctx context.Context) error {
	defer a.close()
	defer collectLess()()
	defer runWider()()
	if !a.IntakeOnly {
		if err := a.noticeAbsence(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // told to stop before it began
			}
			return err
		}
	}
	// Parts outlive ctx by as much as it takes to stop in order.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	group, work := errgroup.WithContext(work)
	part := func(name string, run func(context.Context) error) {
		group.Go(func() error {
			if err := run(work); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	part("bus", a.bus.Run)
	if !a.IntakeOnly {
		part("horizon", a.pipeline.Horizon)
		part("wake", a.pipeline.Wake)
		part("gaps", a.pipeline.SettleGaps)
		part("delivery", a.delivery.Run)
		part("relay", a.relay.Run)
		part("publish", a.published)
		part("scores", a.keepScores)
		part("alive", a.alive)
		part("janitor", a.janitor)
	}
	serving, stopServing := context.WithCancel(work)
	defer stopServing()
	served := make(chan error, 1)
	go func() { served <- a.server.Run(serving) }()
	a.Log.Info("listening", "address", a.server.Addr().String(), "connections", len(a.registry.Names()))

	var err error
	select {
	case <-ctx.Done():
		a.Log.Info("stopping: no more webhooks are taken; what is in flight ends or is handed back")
		stopServing()
		err = <-served
	case err = <-served:
	case <-work.Done():
		stopServing()
		err = <-served
	}
	stop(nil)
	err = errors.Join(err, group.Wait())
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err == nil && !a.IntakeOnly {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = a.store.SaveSetting(end, settingStopped, time.Now().UTC().Format(time.RFC3339Nano))
	}
	return err
}

func (a *App) close() {
	if a.server != nil {
		a.server.Close()
	}
	if a.client != nil {
		a.client.Close()
	}
	if a.bus != nil {
		if err := a.bus.Close(); err != nil {
			a.Log.Warn("log not closed", "error", err)
		}
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.Log.Warn("database not closed", "error", err)
		}
	}
	if a.unlock != nil {
		a.unlock()
	}
	a.client, a.bus, a.store, a.unlock = nil, nil, nil, nil
}

// wrote wakes whoever has new work after a commit that made deliveries to those destinations due, and those outbox rows.
func (a *App) wrote(destinations []string, outbox []hub.OutboxRecord) {
	if a.delivery != nil {
		a.delivery.Owed(destinations)
	}
	if a.store.Relayed(outbox) {
		a.relay.Wake()
	}
}

// due wakes delivery for anything that it may find.
func (a *App) due() {
	if a.delivery != nil {
		a.delivery.Wake()
	}
}

// applyFrame applies a frame; where another process has published a model set, it is compiled first.
func (a *App) applyFrame(ctx context.Context, frame hub.EventFrame) error {
	err := a.pipeline.Apply(ctx, frame)
	if errors.Is(err, hub.ErrTransient) {
		reloaded, e := a.followActiveSet(ctx)
		rescored, e2 := a.followScores(ctx)
		if e := errors.Join(e, e2); e != nil {
			return errors.Join(err, e)
		} else if reloaded || rescored {
			return a.pipeline.Apply(ctx, frame)
		}
	}
	return err
}

// frameDied records a frame that cannot even be decoded.
func (a *App) frameDied(ctx context.Context, stream string, at hub.Position, reason error) error {
	place := fmt.Sprintf("%s %d", stream, at.Seq)
	return a.store.Apply(ctx, func(ctx context.Context, tx hub.Tx) error {
		return tx.Save(ctx, &hub.Changes{DeadLetters: []hub.DeadLetter{{
			ID: hub.DeriveID(hub.PrefixDeadLetter, stream, at.Incarnation, strconv.FormatUint(at.Seq, 10)), Of: "frame", Ref: place,
			At: time.Now(), Reason: reason.Error(), Place: place,
		}}})
	})
}

// noticeAbsence opens an intake gap where the hub was away: vendors may have sent what it has not seen.
func (a *App) noticeAbsence(ctx context.Context) error {
	stopped, err := a.store.Setting(ctx, settingStopped)
	if err != nil {
		return err
	}
	since, clean := stopped, stopped != ""
	if !clean {
		if since, err = a.store.Setting(ctx, settingAlive); err != nil {
			return err
		}
	}
	if err := a.store.SaveSetting(ctx, settingStopped, ""); err != nil {
		return err
	}
	if since == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, since)
	if err != nil {
		return fmt.Errorf("setting %s: %w", settingAlive, err)
	}
	if clean && time.Since(at) < cleanRestart {
		return nil
	}
	return a.pipeline.OpenGaps(ctx, at)
}

// alive notes that the hub is there, so that the next start knows since when it was not.
func (a *App) alive(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := a.store.SaveSetting(ctx, settingAlive, time.Now().UTC().Format(time.RFC3339Nano)); err != nil && ctx.Err() == nil {
			a.Log.Warn("sign of life not saved", "error", err)
		}
		rest(ctx, 2*time.Second)
	}
	return nil
}

// keepRejected bounds the log of refused requests.
const keepRejected = 100_000

// janitor removes what is both done with and past its retention.
func (a *App) janitor(ctx context.Context) error {
	for rest(ctx, time.Minute); ctx.Err() == nil; rest(ctx, 10*time.Minute) {
		keep, now := a.current().Retention, time.Now()
		_, err := a.bus.Purge(ctx, now.Add(-keep.Webhooks), now.Add(-keep.Events))
		_, e1 := a.store.PruneAttempts(ctx, now.Add(-keep.Attempts))
		_, e2 := a.store.PruneRejected(ctx, keepRejected, now.Add(-keep.Rejected))
		_, e3 := a.store.PruneFeed(ctx, now.Add(-keep.Feed))
		if err := errors.Join(err, e1, e2, e3); err != nil && ctx.Err() == nil {
			a.Log.Warn("retention", "error", err)
		}
	}
	return nil
}

// gapLog is the log as receive sees it. A webhook that could not be stored opens an intake gap: the vendor may not send it again soon.
type gapLog struct {
	*bus.Bus
	app *App
}

// PublishWebhook stores w; where that fails, it notes that the connection may have missed something.
func (g gapLog) PublishWebhook(ctx context.Context, w hub.Webhook) (hub.Position, error) {
	at, err := g.Bus.PublishWebhook(ctx, w)
	if err != nil && !g.app.IntakeOnly {
		g.app.missed(w.Connection)
	}
	return at, err
}

// missed opens a gap for the connection, at most every ten seconds, without making the vendor wait for the database.
func (a *App) missed(connection string) {
	now := time.Now()
	slot, _ := a.gapAt.LoadOrStore(connection, new(atomic.Int64))
	last := slot.(*atomic.Int64)
	if before := last.Load(); now.UnixNano()-before < int64(10*time.Second) || !last.CompareAndSwap(before, now.UnixNano()) {
		return
	}
	go func() { // bounded: one per connection and ten seconds, and the write has its own time limit
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := a.pipeline.OpenGaps(ctx, now, connection); err != nil {
			a.Log.Warn("gap not recorded", "connection", connection, "error", err)
		}
	}()
}

func (a *App) current() *config.Config {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.config
}

// source is the CloudEvents source of everything sent.
func (a *App) source() string {
	if u, err := url.Parse(a.Config.PublicURL); err == nil && u.Hostname() != "" {
		return "stagewire/" + u.Hostname()
	}
	return "stagewire/local"
}

func (a *App) connection(name string) (*hub.Connection, delivery.Connector, bool) {
	s, ok := a.registry.Lookup(name)
	if !ok {
		return nil, nil, false
	}
	return s.Connection, s.Connector, true
}

func (a *App) call(priority client.Priority) func(*hub.Connection, delivery.Connector) connector.Call {
	return func(conn *hub.Connection, con delivery.Connector) connector.Call {
		return a.client.With(conn, con.(*connector.Connector), priority)
	}
}

func (a *App) activation(connection string) int64 {
	s, _ := a.registry.Lookup(connection)
	return s.Activation
}

func (a *App) subscription(name string) (delivery.Subscription, bool) {
	for _, s := range a.current().Subscriptions {
		if s.Name == name {
			return delivery.Subscription{Name: s.Name, URL: s.URL, Secrets: s.Secrets, Ordered: s.Ordered, AllowPrivate: s.AllowPrivate}, true
		}
	}
	return delivery.Subscription{}, false
}

// freeDisk returns the bytes that must stay free; 0 lets the bus choose.
func freeDisk(cfg *config.Config) int64 {
	if cfg.MinFreeDisk == config.Default().MinFreeDisk {
		return 0
	}
	return cfg.MinFreeDisk.Of(diskSize(cfg.DataDir))
}

// Provision shows, and with apply makes, what the hub needs at the connection's vendor.
func (a *App) Provision(ctx context.Context, connection string, apply bool) ([]connector.Planned, error) {
	s, ok := a.registry.Lookup(connection)
	if !ok {
		return nil, fmt.Errorf("connection %s: %w", connection, hub.ErrNotFound)
	}
	return s.Connector.Provision(ctx, a.client.With(s.Connection, s.Connector, client.Deliver), s.Connection, apply)
}

// Reload reads the configuration file again and takes over its connections and subscriptions. What models and reactions compile
// against becomes a draft. A bad file changes nothing.
func (a *App) Reload(ctx context.Context) error {
	a.reload.Lock()
	defer a.reload.Unlock()
	old := a.current()
	cfg, set, err := a.Load(old.File)
	if err != nil {
		return err
	}
	if _, _, err := Compile(cfg, set); err != nil {
		return err
	}
	if err := a.registry.use(ctx, cfg.Connections, set, a.store); err != nil {
		return err
	}
	a.mu.Lock()
	a.config, a.set = cfg, set
	a.mu.Unlock()
	token := cfg.API.Token
	if token.IsZero() {
		token = a.Token
	}
	a.tokens.Set(token)
	a.server.Use(a.setup())
	draft, err := a.draft(ctx)
	if err != nil {
		return err
	}
	if active := a.pipeline.Program().Number; draft.Number != active {
		a.Log.Warn("models, reactions or what they compile against have changed: a draft is saved, the published version still decides",
			"active", active, "draft", draft.Number, "mend", "stagewire publish")
	}
	a.useProgram()
	a.due()
	a.relay.Wake()
	a.Log.Info("configuration reloaded", "connections", len(cfg.Connections), "subscriptions", len(cfg.Subscriptions))
	return nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// rest waits for d or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
