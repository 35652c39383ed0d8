package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	streamWebhooks = "WEBHOOKS"
	streamEvents   = "EVENTS"
	streamStages   = "STAGES"
	streamProbe    = "PROBE" // one tiny message, replaced each time: shows that publishing works

	subjectWebhooks = "webhooks."
	subjectEvents   = "events."
	subjectStages   = "stages."
	subjectProbe    = "stagewire.probe"

	consumerNormalize = "normalize"
	consumerApply     = "apply-"

	ackWait         = 5 * time.Second
	heartbeat       = time.Second
	webhooksInHand  = 64 // frames of WEBHOOKS being handled at once: as many as one commit of the database takes, and the next
	maxUnapplied    = 64 // frames of EVENTS above which no more webhooks are pulled
	dedupeWindow    = 2 * time.Minute
	externalShards  = 4 // publishers of WEBHOOKS where an ack takes a round trip
	requestsTimeout = 5 * time.Second
	// unlimited is a limit that is never met. With one the server keeps a stream in blocks of 4 MiB instead of 8; it holds several whole
	// in memory, and reads the last one again after each garbage collection.
	unlimited   = 1 << 40
	lookTimeout = 1500 * time.Millisecond // a cluster without a leader does not answer: ask often
)

func partitionSubject(p int) string { return subjectEvents + strconv.Itoa(p) }

func partitionOf(subject string) (int, error) {
	n, ok := strings.CutPrefix(subject, subjectEvents)
	if !ok {
		return 0, fmt.Errorf("subject %q is not one of EVENTS", subject)
	}
	return strconv.Atoi(n)
}

// awaitStreams makes the streams. A cluster that has no leader yet, or too few servers for the replicas, gets startWithin to
// find itself: a hub that starts beside it, or while one of its servers is away, need not be started again.
func (b *Bus) awaitStreams(ctx context.Context) error {
	deadline := time.Now().Add(startWithin)
	for told := false; ; told = true {
		err := b.makeStreams(ctx)
		if err == nil || b.Embedded() || ctx.Err() != nil || !unsettled(err) || time.Now().After(deadline) {
			return err
		}
		if !told {
			b.log.Warn("the NATS cluster is not ready, waiting for it", "at_most", startWithin, "error", err)
		}
		select {
		case <-time.After(lookUpPause):
		case <-ctx.Done():
			return err
		}
	}
}

// noPeers is the API's code for a cluster with too few servers for a stream's replicas.
const noPeers jetstream.ErrorCode = 10005

// unsettled reports whether an answer, or none, may be another one once a cluster has found itself.
func unsettled(err error) bool {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return refused.Code >= 500 || refused.ErrorCode == noPeers
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionReconnecting)
}

func (b *Bus) makeStreams(ctx context.Context) error {
	stages := jetstream.DefaultPersistMode
	if b.Embedded() {
		stages = jetstream.AsyncPersistMode // derived and published again: it need not cost an fsync
	}
	for _, config := range []jetstream.StreamConfig{
		{Name: streamWebhooks, Subjects: []string{subjectWebhooks + "*"}, Description: "Webhooks as received"},
		{Name: streamEvents, Subjects: []string{subjectEvents + "*"}, Description: "Events, in frames, by partition"},
		{Name: streamStages, Subjects: []string{subjectStages + ">"}, Description: "Stage transitions, one CloudEvent each", PersistMode: stages},
		{Name: streamProbe, Subjects: []string{subjectProbe}, Description: "Shows that publishing works", MaxMsgs: 1},
	} {
		config.Storage, config.Replicas, config.Duplicates, config.AllowDirect = jetstream.FileStorage, b.config.Replicas, dedupeWindow, true
		if config.MaxMsgs == 0 {
			config.Discard = jetstream.DiscardNew // a full stream refuses; it never forgets what was acknowledged
			if b.Embedded() {
				config.MaxMsgsPerSubject = unlimited
			}
		}
		if err := b.makeStream(ctx, config); err != nil {
			return fmt.Errorf("stream %s: %w", config.Name, err)
		}
	}
	_, err := b.links[linkRequest].js.CreateOrUpdateConsumer(ctx, streamWebhooks, jetstream.ConsumerConfig{
		Durable: consumerNormalize, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, MaxAckPending: webhooksInHand,
		HeadersOnly: b.handsOver(),
	})
	if err != nil {
		return fmt.Errorf("consumer %s: %w", consumerNormalize, err)
	}
	return nil
}

// makeStream makes a stream that does not exist. Of one that does it only changes the number of replicas: an operator may
// have set limits of their own.
func (b *Bus) makeStream(ctx context.Context, config jetstream.StreamConfig) error {
	js := b.links[linkRequest].js
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stream, err := js.Stream(look, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, config)
	}
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if info.Config.Replicas != config.Replicas && !b.Embedded() {
		changed := info.Config
		changed.Replicas = config.Replicas
		if stream, err = js.UpdateStream(ctx, changed); err != nil {
			return fmt.Errorf("change replicas from %d to %d: %w", info.Config.Replicas, config.Replicas, err)
		}
		info = stream.CachedInfo()
	}
	b.incarnations[config.Name] = incarnation(info)
	return nil
}

// incarnation tells a stream from one of the same name that was made later.
func incarnation(info *jetstream.StreamInfo) string {
	return info.Config.Name + "@" + info.Created.UTC().Format(time.RFC3339Nano)
}

// Incarnation returns the incarnation of EVENTS, as in its cursors.
func (b *Bus) Incarnation() string { return b.incarnations[streamEvents] }

func (b *Bus) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestsTimeout)
	defer cancel()
	stream, err := b.links[linkRequest].js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w: %w", name, err, hub.ErrTransient)
	}
	return stream.CachedInfo(), nil
}

func (b *Bus) consumerInfo(ctx context.Context, stream, name string) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestsTimeout)
	defer cancel()
	consumer, err := b.links[linkRequest].js.Consumer(ctx, stream, name)
	if err != nil {
		return nil, fmt.Errorf("consumer %s of %s: %w: %w", name, stream, err, hub.ErrTransient)
	}
	return consumer.CachedInfo(), nil
}

// cursors returns the applied sequence of every partition of EVENTS in its present incarnation.
func (b *Bus) cursors(ctx context.Context) ([]uint64, error) {
	applied := make([]uint64, b.config.Partitions)
	if b.config.Cursors == nil {
		for p := range applied {
			info, err := b.consumerInfo(ctx, streamEvents, consumerApply+strconv.Itoa(p))
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			applied[p] = info.AckFloor.Stream
		}
		return applied, nil
	}
	cursors, err := b.config.Cursors(ctx)
	if err != nil {
		return nil, fmt.Errorf("cursors of %s: %w", streamEvents, err)
	}
	for _, c := range cursors {
		if c.Incarnation == b.Incarnation() && c.Partition >= 0 && c.Partition < len(applied) {
			applied[c.Partition] = max(applied[c.Partition], c.Seq)
		}
	}
	return applied, nil
}

// checkCursors refuses a stream that is shorter than what was applied of it: its tail was lost, it would use the same
// sequences again, and new events would be taken for old ones.
func (b *Bus) checkCursors(ctx context.Context) error {
	if b.config.Cursors == nil {
		return nil
	}
	applied, err := b.cursors(ctx)
	if err != nil {
		return err
	}
	info, err := b.streamInfo(ctx, streamEvents)
	if err != nil {
		return err
	}
	for p, seq := range applied {
		if seq > info.State.LastSeq {
			return fmt.Errorf("stream %s ends at %d, but the database has applied partition %d up to %d: the stream lost its tail or the database "+
				"belongs to another one; restore the stream's newer files, or delete the stream so that it gets a new incarnation: %w",
				streamEvents, info.State.LastSeq, p, seq, hub.ErrInvalid)
		}
	}
	return nil
}

// webhooksConsumer is the durable one that all processes share.
func (b *Bus) webhooksConsumer(ctx context.Context, _ string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestsTimeout)
	defer cancel()
	return b.links[linkConsume].js.Consumer(ctx, streamWebhooks, consumerNormalize)
}

// eventsConsumer returns the consumer of a partition, made anew from the cursor where it is missing or has acked more than
// the database knows of. It lives in memory: on the embedded server every start makes it anew.
func (b *Bus) eventsConsumer(ctx context.Context, subject string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestsTimeout)
	defer cancel()
	p, err := partitionOf(subject)
	if err != nil {
		return nil, err
	}
	b.ahead[p].together(0)
	name, js := consumerApply+strconv.Itoa(p), b.links[linkConsume].js
	if b.config.Cursors == nil {
		return js.CreateOrUpdateConsumer(ctx, streamEvents, b.applyConfig(name, subject, 0))
	}
	if err := b.checkCursors(ctx); err != nil {
		return nil, err
	}
	// The consumer first: what it has acked by then, another process has applied before, so the cursors read afterwards know of it.
	consumer, err := js.Consumer(ctx, streamEvents, name)
	applied, failed := b.cursors(ctx)
	if failed != nil {
		return nil, failed
	}
	if err == nil {
		if consumer.CachedInfo().AckFloor.Stream <= applied[p] {
			return consumer, nil
		}
		b.log.Warn("consumer has acked more than the database has applied: starting again from the cursor",
			"partition", p, "ack_floor", consumer.CachedInfo().AckFloor.Stream, "cursor", applied[p])
		if err := js.DeleteConsumer(ctx, streamEvents, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, err
		}
	} else if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err
	}
	consumer, err = js.CreateConsumer(ctx, streamEvents, b.applyConfig(name, subject, applied[p]+1))
	if errors.Is(err, jetstream.ErrConsumerExists) { // another process was faster
		return js.Consumer(ctx, streamEvents, name)
	}
	return consumer, err
}

func (b *Bus) applyConfig(name, subject string, from uint64) jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		Durable: name, FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, MaxAckPending: 1,
		HeadersOnly:   b.handsOver(),
		MemoryStorage: from > 0, // the cursor is the truth; keeping the ack floor on disk would be wasted writes
	}
	if from > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	return config
}
