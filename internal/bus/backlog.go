package bus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/stagewire/stagewire/internal/hub"
)

// followerPatience is how long a frame that is in the stream may take to reach the follower before we look whether it still exists.
const followerPatience = 100 * time.Millisecond

// backlog knows the header of every frame that waits in WEBHOOKS and EVENTS: its sequence, partition and oldest
// received_at. A follower per stream reads headers as frames come, so that asking for the oldest reads no frame at all.
// Frames are not in order of received_at (hydration and redelivery bring old webhooks late), so all of them count.
type backlog struct {
	mu       sync.Mutex
	streams  map[string]*waiting
	floors   []uint64 // per partition of EVENTS: applied up to here, as far as known
	floorsAt time.Time
}

// waiting is what waits in one stream.
type waiting struct {
	frames  []waitingFrame // by ascending sequence
	last    uint64         // the newest sequence seen
	changed chan struct{}  // closed and replaced when last grows
	reader  jetstream.Consumer
	read    uint64 // messages that came from reader
}

type waitingFrame struct {
	seq       uint64
	partition int
	oldest    time.Time
	id        string // its Nats-Msg-Id, of EVENTS only
}

func (k *backlog) init(partitions int) {
	k.streams = map[string]*waiting{streamWebhooks: {changed: make(chan struct{})}, streamEvents: {changed: make(chan struct{})}}
	k.floors = make([]uint64, partitions)
}

// saw records a frame.
func (k *backlog) saw(stream string, f waitingFrame, counts bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.streams[stream]
	if f.seq <= w.last {
		return
	}
	w.last = f.seq
	if counts {
		w.frames = append(w.frames, f)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// applied records that a frame of EVENTS was applied by this process.
func (k *backlog) applied(p int, seq uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.floors[p] = max(k.floors[p], seq)
}

// behind returns the frames of a partition that are known to wait after seq, in order.
func (k *backlog) behind(p int, seq uint64) []waitingFrame {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []waitingFrame
	for _, f := range k.streams[streamEvents].frames {
		if f.partition == p && f.seq > seq {
			out = append(out, f)
		}
	}
	return out
}

// grown returns a channel that closes when the follower of stream sees another frame.
func (k *backlog) grown(stream string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.streams[stream].changed
}

// reached waits until the follower of stream has seen all that exists up to seq.
func (k *backlog) reached(ctx context.Context, stream string, seq uint64) error {
	patience := time.NewTimer(followerPatience)
	defer patience.Stop()
	for {
		k.mu.Lock()
		w := k.streams[stream]
		last, changed, reader, read := w.last, w.changed, w.reader, w.read
		k.mu.Unlock()
		if last >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-patience.C:
			// The message at seq may be purged or erased: then nothing more comes.
			if reader != nil {
				info, err := reader.Info(ctx)
				if err == nil && info.NumPending == 0 && info.Delivered.Consumer <= read {
					k.saw(stream, waitingFrame{seq: seq}, false)
				}
			}
			patience.Reset(followerPatience)
		case <-ctx.Done():
			return fmt.Errorf("backlog of %s: known up to %d of %d: %w: %w", stream, last, seq, context.Cause(ctx), hub.ErrTransient)
		}
	}
}

// prune forgets what is done and returns the oldest received_at that is left, zero where nothing is.
func (k *backlog) prune(stream string, done func(waitingFrame) bool) (oldest time.Time, left int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.streams[stream]
	w.frames = slices.DeleteFunc(w.frames, done)
	for _, f := range w.frames {
		if oldest.IsZero() || f.oldest.Before(oldest) {
			oldest = f.oldest
		}
	}
	return oldest, len(w.frames)
}

// known returns the oldest received_at that waits as far as is known, where nobody can be asked.
func (k *backlog) known() time.Time {
	webhooks, _ := k.prune(streamWebhooks, func(waitingFrame) bool { return false })
	events, _ := k.prune(streamEvents, func(waitingFrame) bool { return false })
	if webhooks.IsZero() || !events.IsZero() && events.Before(webhooks) {
		return events
	}
	return webhooks
}

// follow reads the headers of stream's frames until ctx ends, starting with the oldest that may wait.
func (b *Bus) follow(ctx context.Context, stream string) {
	for ctx.Err() == nil {
		err := b.followFrom(ctx, stream)
		if ctx.Err() != nil {
			return
		}
		b.log.Debug("backlog: following again", "stream", stream, "error", err)
		select {
		case <-time.After(lookUpPause):
		case <-ctx.Done():
		}
	}
}

func (b *Bus) followFrom(ctx context.Context, stream string) error {
	b.backlog.mu.Lock()
	from := b.backlog.streams[stream].last
	b.backlog.mu.Unlock()
	if from == 0 {
		floor, err := b.floor(ctx, stream)
		if err != nil {
			return err
		}
		from = floor
	}
	session, cancel := b.links[linkRequest].epoch.within(ctx)
	defer cancel()
	config := jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, InactiveThreshold: 5 * time.Minute,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from + 1, Replicas: 1,
	}
	js := b.links[linkRequest].js
	consumer, err := js.CreateConsumer(session, stream, config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = js.DeleteConsumer(ctx, stream, consumer.CachedInfo().Name) // else it goes by itself, some minutes later
	}()
	if from > 0 {
		b.backlog.saw(stream, waitingFrame{seq: from}, false)
	}
	b.backlog.mu.Lock()
	w := b.backlog.streams[stream]
	w.reader, w.read = consumer, 0
	b.backlog.mu.Unlock()
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(256), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return err
	}
	defer iterator.Stop()
	for {
		msg, err := iterator.Next(jetstream.NextContext(session))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		f := waitingFrame{seq: meta.Sequence.Stream}
		header, err := readFrameHeader(msg.Headers())
		counts := err == nil && !header.moved // what cannot be read becomes a dead letter and holds nobody up
		if stream == streamEvents && counts {
			if f.partition, err = partitionOf(msg.Subject()); err != nil || f.partition >= b.config.Partitions {
				counts = false
			}
			f.id = msg.Headers().Get(jetstream.MsgIDHeader)
		}
		f.oldest = header.oldest
		b.backlog.saw(stream, f, counts)
		b.backlog.mu.Lock()
		w.read = meta.Sequence.Consumer
		b.backlog.mu.Unlock()
	}
}

// floor returns a sequence up to which all of stream is done.
func (b *Bus) floor(ctx context.Context, stream string) (uint64, error) {
	if stream == streamWebhooks {
		info, err := b.consumerInfo(ctx, streamWebhooks, consumerNormalize)
		if err != nil {
			return 0, err
		}
		return info.AckFloor.Stream, nil
	}
	applied, err := b.cursors(ctx)
	if err != nil {
		return 0, err
	}
	return slices.Min(applied), nil
}

// Oldest returns the received_at of the oldest webhook or event that waits, zero when none does: WEBHOOKS above the ack
// floor, then EVENTS above the cursors. WEBHOOKS is read first, so that what is on its way from one to the other is seen
// in one of them. The result may be too old for a moment, never too young. It needs Run, and costs three requests to
// NATS and one to the database, whatever waits. It wraps hub.ErrTransient while that cannot be known.
func (b *Bus) Oldest(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, requestsTimeout)
	defer cancel()
	webhooks, err := b.oldestWebhook(ctx)
	if err != nil {
		return time.Time{}, err
	}
	events, _, err := b.oldestEvent(ctx, true)
	if err != nil {
		return time.Time{}, err
	}
	if webhooks.IsZero() || !events.IsZero() && events.Before(webhooks) {
		return events, nil
	}
	return webhooks, nil
}

func (b *Bus) oldestWebhook(ctx context.Context) (time.Time, error) {
	info, err := b.consumerInfo(ctx, streamWebhooks, consumerNormalize)
	if err != nil {
		return time.Time{}, err
	}
	// What the consumer says is pending lags behind the stream by a moment; the stream's end does not.
	floor := info.AckFloor.Stream
	stream, err := b.streamInfo(ctx, streamWebhooks)
	if err != nil {
		return time.Time{}, err
	}
	if err := b.backlog.reached(ctx, streamWebhooks, stream.State.LastSeq); err != nil {
		return time.Time{}, err
	}
	oldest, _ := b.backlog.prune(streamWebhooks, func(f waitingFrame) bool { return f.seq <= floor })
	return oldest, nil
}

// oldestEvent returns the oldest received_at and the number of frames above the cursors. With exact it has seen all
// that EVENTS held when it was called.
func (b *Bus) oldestEvent(ctx context.Context, exact bool) (time.Time, int, error) {
	if exact {
		info, err := b.streamInfo(ctx, streamEvents)
		if err != nil {
			return time.Time{}, 0, err
		}
		if err := b.backlog.reached(ctx, streamEvents, info.State.LastSeq); err != nil {
			return time.Time{}, 0, err
		}
	}
	b.backlog.mu.Lock()
	floors := slices.Clone(b.backlog.floors)
	fresh := !exact && time.Since(b.backlog.floorsAt) < watchEvery
	b.backlog.mu.Unlock()
	if !fresh {
		applied, err := b.cursors(ctx)
		if err != nil {
			return time.Time{}, 0, err
		}
		b.backlog.mu.Lock()
		for p, seq := range applied {
			b.backlog.floors[p] = max(b.backlog.floors[p], seq)
		}
		floors, b.backlog.floorsAt = slices.Clone(b.backlog.floors), time.Now()
		b.backlog.mu.Unlock()
	}
	oldest, left := b.backlog.prune(streamEvents, func(f waitingFrame) bool { return f.seq <= floors[f.partition] })
	return oldest, left, nil
}

// waitForRoomInEvents holds webhooks back while too much waits to be applied, so that a backlog waits in WEBHOOKS, where it
// costs nothing, and never as many small frames of EVENTS.
func (b *Bus) waitForRoomInEvents(ctx context.Context) error {
	for {
		_, left, err := b.oldestEvent(ctx, false)
		if err == nil && left <= maxUnapplied {
			return nil
		}
		pause := 20 * time.Millisecond
		if err != nil {
			pause = watchEvery // the database is away: what cannot be applied should not be normalized either
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// measureBacklog keeps the gauge, and the memory of the followers small where nobody calls Oldest.
func (b *Bus) measureBacklog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	oldest, err := b.Oldest(ctx)
	if err != nil { // the database is away, say: the age of what is known to wait goes on growing
		b.log.Debug("backlog", "error", err)
		oldest = b.backlog.known()
	}
	switch {
	case oldest.IsZero():
		b.metrics.oldest.Set(0)
	default:
		b.metrics.oldest.Set(b.now().Sub(oldest).Seconds())
	}
}
