// Package bus is the durable log: webhooks, events and stage transitions in JetStream, on an embedded server or an
// external cluster. It holds the frame codecs, the publishers with group commit, a Watermill publisher and subscriber
// with the Router that runs the handlers, the relay of the outbox, and the care of the disk. It knows nothing of what
// webhooks and events mean, and nothing of SQL: where it needs the database it takes a function or a small interface.
//
//	WEBHOOKS  webhooks.<shard>          frames of webhooks, as received     kept until normalized and past retention
//	EVENTS    events.<partition>        frames of events                    kept until applied and past retention
//	STAGES    stages.<model>.<stage>    one CloudEvent per transition       for third parties
//
// # Design
//
// A frame (up to 256 records or 512 KB in one message) is the unit of fsync, of a Watermill message, of an ack and of a
// SQL transaction. One message per webhook with an fsync each was measured 20 times slower.
//
// The embedded server runs with SyncAlways, so an ack of WEBHOOKS or EVENTS means stable storage. After a full disk
// JetStream shuts itself down and never comes back, though the server looks healthy: the watch restarts it in place as
// soon as there is room again. Connections dial through a door that always leads to the present server, so publishers
// and subscribers live through that.
//
// The SQL cursor, not the consumer's ack floor, is the truth about EVENTS: databases are restored from backups. Consumers
// of EVENTS live in memory and are made anew from the cursor at every start. A stream that was lost and made again has
// another creation time and so another incarnation, and its sequences are not taken for the old ones.
//
// The same Nats-Msg-Id on two subjects of one stream drops the second message. Ids are therefore drawn per frame, and
// serve only the publisher's own retry of that frame.
package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/batch"
	"github.com/stagewire/stagewire/internal/hub"
)

// Config is what a Bus needs. The zero value of each field means what its comment says.
type Config struct {
	URL         string // of an external NATS cluster; "" for the embedded server
	Dir         string // data_dir: the embedded server keeps its streams in Dir/jetstream, and free space is measured here
	Replicas    int    // of the streams on an external cluster; 0 means 1
	Partitions  int    // of EVENTS, fixed at install; 0 means 1
	MinFreeDisk int64  // bytes that must stay free in Dir (embedded only); 0 means the larger of 1 GiB and 5 %
	Log         *slog.Logger
	Registerer  prometheus.Registerer
	Now         func() time.Time // wire time; nil means time.Now
	// Cursors returns how far EVENTS have been applied, from SQL. Without it the consumers' ack floors are taken, which
	// is right only where nothing is ever restored from a backup.
	Cursors func(context.Context) ([]hub.Cursor, error)
	// OneWriter says that the database runs transactions one after the other in the order in which they are handed over, as SQLite's
	// writer does: then the next frame need not wait for the commit of the one before.
	OneWriter bool
	// DeadLetter is told of a frame that cannot be read, before it is acked; an error brings the frame again.
	// Without it such frames are logged and acked.
	DeadLetter func(ctx context.Context, stream string, at hub.Position, reason error) error
}

// Bus is an open log. Its methods may be used concurrently.
type Bus struct {
	config  Config
	log     *slog.Logger
	now     func() time.Time
	opened  time.Time
	metrics *metrics

	server     *embedded // nil with an external cluster
	links      []*link
	maxPayload int
	// attemptTimeout is how long one publish waits for its ack. Tests shorten it.
	attemptTimeout time.Duration

	incarnations map[string]string
	publishers   []*batch.Batch[hub.Webhook, hub.Position] // one per shard of WEBHOOKS
	partitions   []*batch.Batch[eventChunk, struct{}]
	ahead        []ahead // per partition
	texts        buffers // of chunks
	webhooks     storedWebhooks
	pace         pace
	nextShard    atomic.Uint64
	running      atomic.Bool

	onWebhooks func(context.Context, []hub.StoredWebhook) error
	onEvents   func(context.Context, hub.EventFrame) error
	first      map[string]*sync.Once // per stream: the first delivery is logged

	handles sync.Map // of streams, by name

	health  health
	backlog backlog
}

// link is one connection with its JetStream handle.
type link struct {
	conn *nats.Conn
	js   jetstream.JetStream
	// pipelined is the same for publishing without waiting; acks that do not come are forgotten.
	pipelined jetstream.JetStream
	epoch     epoch
}

// epoch is a stretch between two reconnects. What waited for an answer across one waits in vain, and consumers that lived
// in a server's memory may be gone.
type epoch struct {
	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
}

// context returns a context that ends with the present epoch.
func (e *epoch) context() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil {
		e.ctx, e.cancel = context.WithCancel(context.Background())
	}
	return e.ctx
}

func (e *epoch) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cancel != nil {
		e.cancel()
	}
	e.ctx = nil
}

// within returns a context of ctx that also ends with the present epoch.
func (e *epoch) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.context(), cancel)
	return ctx, func() { stop(); cancel() }
}

// What each connection is for. In-process connections are unbuffered pipes: one for all would be a convoy.
const (
	linkWebhooks = iota
	linkEvents
	linkConsume
	linkRequest
	links
)

const defaultFrameTimeout = 20 * time.Second // how long a frame is retried before its callers are told

// Open starts or joins NATS, and makes the streams where they do not exist. It holds no lock: take LockDir first. Webhooks
// and events are written once Run runs.
func Open(ctx context.Context, config Config) (_ *Bus, err error) {
	config.Partitions = cmp.Or(config.Partitions, 1)
	config.Replicas = cmp.Or(config.Replicas, 1)
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Registerer == nil {
		config.Registerer = prometheus.NewRegistry()
	}
	b := &Bus{
		config: config, log: config.Log, now: config.Now, opened: time.Now(), attemptTimeout: defaultAttempt, metrics: newMetrics(config.Registerer),
		incarnations: map[string]string{}, first: map[string]*sync.Once{streamWebhooks: {}, streamEvents: {}},
	}
	b.backlog.init(config.Partitions)
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	options := []nats.Option{
		nats.Name("stagewire"), nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(20*time.Millisecond, 100*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { b.log.Debug("nats", "error", err) }),
	}
	if config.URL == "" {
		dir := filepath.Join(config.Dir, "jetstream")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("embedded NATS: %w", err)
		}
		b.config.MinFreeDisk = minFree(config.MinFreeDisk, config.Dir)
		if b.server, err = startEmbedded(dir, b.config.MinFreeDisk, b.log); err != nil {
			return nil, err
		}
		options = append(options, nats.InProcessServer(b.server))
	}
	for range links {
		l := &link{}
		conn, err := nats.Connect(config.URL, append(options, nats.ReconnectHandler(func(*nats.Conn) { l.epoch.end() }))...)
		if err != nil {
			return nil, fmt.Errorf("connect to NATS: %w: %w", err, hub.ErrTransient)
		}
		l.conn = conn
		b.links = append(b.links, l)
		if l.js, err = jetstream.New(conn); err != nil {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
		if l.pipelined, err = jetstream.New(conn, jetstream.WithPublishAsyncTimeout(pipelinedTimeout)); err != nil {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
	}
	b.maxPayload = int(b.links[0].conn.MaxPayload())
	if err := b.awaitStreams(ctx); err != nil {
		return nil, err
	}
	b.newPublishers()
	b.checkDisk()
	return b, nil
}

// Embedded reports whether the server runs in this process.
func (b *Bus) Embedded() bool { return b.server != nil }

// MaxBody returns the largest webhook body the log takes, in bytes: 2 MiB, or less where the server's messages are smaller.
func (b *Bus) MaxBody() int {
	const headers = 64 << 10 // for the webhook's headers and the frame around it
	return min(2<<20, b.maxPayload-headers)
}

// Run writes what is published, runs the registered handlers and watches the disk until ctx ends. It then stops pulling,
// lets handlers finish for some seconds, writes what was published until then, and returns. It may be called once.
func (b *Bus) Run(ctx context.Context) error {
	if b.running.Swap(true) {
		return errors.New("bus: Run was called twice")
	}
	// Publishers outlive handlers, which publish.
	publishing, stopPublishing := context.WithCancel(context.WithoutCancel(ctx))
	watching, stopWatching := context.WithCancel(ctx)
	var publishers, watchers sync.WaitGroup
	for _, p := range b.publishers {
		publishers.Go(func() { _ = p.Run(publishing) }) // always nil
	}
	for _, p := range b.partitions {
		publishers.Go(func() { _ = p.Run(publishing) }) // always nil
	}
	watchers.Go(func() { b.watch(watching) })
	watchers.Go(func() { b.follow(watching, streamWebhooks) })
	watchers.Go(func() { b.follow(watching, streamEvents) })
	err := b.runHandlers(ctx)
	if err == nil && ctx.Err() == nil {
		<-ctx.Done() // no handlers here: a process that only takes in
	}
	stopWatching()
	watchers.Wait()
	stopPublishing()
	publishers.Wait()
	return err
}

// Close closes the connections and stops the embedded server. Run must have returned.
func (b *Bus) Close() error {
	for _, l := range b.links {
		if l.conn.IsConnected() {
			_ = l.conn.FlushTimeout(time.Second) // the last acks
		}
		l.conn.Close()
		l.epoch.end()
	}
	if b.server != nil {
		b.server.stop()
	}
	return nil
}
