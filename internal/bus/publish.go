package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/stagewire/stagewire/internal/batch"
	"github.com/stagewire/stagewire/internal/hub"
)

const (
	webhookQueue = 4096 // webhooks that may wait per shard; more is ErrBusy
	eventBytes   = 1200 // of an encoded event, about
	eventQueue   = 256  // chunks of events that may wait per partition; more makes callers wait

	defaultAttempt = 3 * time.Second // for one ack; then the same frame is sent again
	attemptPause   = 100 * time.Millisecond

	pipelinedTimeout = 30 * time.Second // until nobody waits for the ack of a pipelined publish any more
)

func (b *Bus) newPublishers() {
	shards := 1 // a second fsync at a time makes the embedded server no faster
	if !b.Embedded() {
		shards = externalShards
	}
	for shard := range shards {
		b.publishers = append(b.publishers, batch.New(
			batch.Config{Records: maxRecords, Bytes: maxFrameBytes, Queue: webhookQueue, Halves: true, Hold: b.pace.hold},
			func(w hub.Webhook) (int, int) { return 1, len(w.Body) + 512 },
			b.webhookWriter(shard)))
	}
	b.webhooks.frames.limit = handoverWebhooks
	b.ahead = make([]ahead, b.config.Partitions)
	for p := range b.config.Partitions {
		b.ahead[p].handed.limit = max(handoverEvents/b.config.Partitions, maxFrameBytes)
		b.partitions = append(b.partitions, batch.New(
			batch.Config{Records: maxRecords, Bytes: maxFrameBytes, Queue: eventQueue, Hold: b.ahead[p].hold},
			func(c eventChunk) (int, int) { return c.records, len(c.text) + 1 },
			b.eventWriter(p)))
	}
}

// PublishWebhook stores w and returns where, once it is on stable storage (on a cluster: at its quorum). It wraps
// hub.ErrBusy when the queue or the disk is full or NATS does not answer: refuse with 503. When ctx ends first, w may be
// stored all the same. The memory of w must not change until it returns.
func (b *Bus) PublishWebhook(ctx context.Context, w hub.Webhook) (hub.Position, error) {
	if err := b.accepting(); err != nil {
		return hub.Position{}, err
	}
	if n := recordSize(&w); n+1024 > b.maxPayload {
		return hub.Position{}, fmt.Errorf("webhook %s of %d bytes is larger than NATS takes (%d): %w", w.ID, n, b.maxPayload, hub.ErrInvalid)
	}
	shard := b.publishers[0]
	if n := uint64(len(b.publishers)); n > 1 {
		shard = b.publishers[b.nextShard.Add(1)%n]
	}
	at, err := shard.Do(ctx, w)
	if err != nil {
		return hub.Position{}, fmt.Errorf("publish webhook %s: %w", w.ID, publishError(err))
	}
	return at, nil
}

// publishError gives err the kind that callers test for.
func publishError(err error) error {
	switch {
	case errors.Is(err, hub.ErrBusy), errors.Is(err, hub.ErrInvalid):
		return err
	case errors.Is(err, batch.ErrBusy), errors.Is(err, batch.ErrClosed):
		return fmt.Errorf("%w: %w", err, hub.ErrBusy)
	}
	return fmt.Errorf("%w: %w", err, hub.ErrTransient)
}

// webhookWriter returns the write of one shard's group commit: one frame, one message, one fsync.
func (b *Bus) webhookWriter(shard int) func(context.Context, []hub.Webhook) ([]hub.Position, error) {
	subject, buffer := fmt.Sprint(subjectWebhooks, shard), []byte(nil)
	return func(ctx context.Context, webhooks []hub.Webhook) ([]hub.Position, error) {
		header := frameHeader{oldest: webhooks[0].ReceivedAt}
		for i := range webhooks {
			if at := webhooks[i].ReceivedAt; at.Before(header.oldest) {
				header.oldest = at
			}
		}
		buffer = appendWebhookFrame(buffer[:0], header, webhooks)
		msg := newFrame(subject, header, buffer)
		id := msg.Header[jetstream.MsgIDHeader][0]
		if b.handsOver() && b.onWebhooks != nil {
			b.webhooks.put(id, buffer)
		}
		seq, err := b.publishFrame(ctx, b.links[linkWebhooks], streamWebhooks, msg, len(webhooks))
		if cap(buffer) > 2*maxFrameBytes {
			buffer = nil // one huge webhook should not hold its memory for ever
		}
		if err != nil {
			b.webhooks.take(id) // whether it is stored is not known: if it is, it is read
			return nil, err
		}
		b.pace.stored(len(webhooks))
		positions := make([]hub.Position, len(webhooks))
		for i := range positions {
			positions[i] = hub.Position{Incarnation: b.incarnations[streamWebhooks], Seq: seq, Index: i}
		}
		return positions, nil
	}
}

func newFrame(subject string, header frameHeader, data []byte) *nats.Msg {
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{jetstream.MsgIDHeader: []string{nuid.Next()}}}
	header.set(msg.Header)
	return msg
}

// eventChunk is up to a frame of encoded events of one caller and one partition, joined by commas.
type eventChunk struct {
	text    []byte
	records int
	oldest  time.Time
	events  []hub.Event // as they will be read; nil where another process may apply them
}

// PublishEvents stores events, each in its partition, and returns once all are on stable storage. Events of one partition
// keep their order. After an error some may be stored: publish all again, the ledger knows them. It wraps hub.ErrInvalid
// where an event cannot be encoded (none is stored then), hub.ErrBusy while the disk is full, else hub.ErrTransient.
// Events belong to who applies them from then on.
func (b *Bus) PublishEvents(ctx context.Context, events []hub.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := b.accepting(); err != nil {
		return err
	}
	chunks, err := b.chunk(events)
	if err != nil {
		return err
	}
	var waits []*batch.Ticket[eventChunk, struct{}]
	for p := range chunks {
		for _, c := range chunks[p] {
			t, err := b.partitions[p].Put(ctx, c)
			if err != nil {
				return fmt.Errorf("publish events: %w", publishError(err))
			}
			waits = append(waits, t)
		}
	}
	var failed error
	for _, t := range waits {
		if _, err := t.Wait(ctx); err != nil && failed == nil {
			failed = fmt.Errorf("publish events: %w", publishError(err))
		}
	}
	if failed != nil {
		return failed // what is still to be written is read from the chunks
	}
	for _, all := range chunks {
		for _, c := range all {
			b.texts.put(c.text)
		}
	}
	return nil
}

// chunk encodes events into chunks by partition.
func (b *Bus) chunk(events []hub.Event) ([][]eventChunk, error) {
	chunks := make([][]eventChunk, b.config.Partitions)
	for i := range events {
		ev := &events[i]
		p := ev.Partition(b.config.Partitions)
		if n := len(chunks[p]); n == 0 || chunks[p][n-1].records == maxRecords || len(chunks[p][n-1].text) > maxFrameBytes*3/4 {
			expected := min((len(events)-i)*eventBytes/b.config.Partitions, maxFrameBytes)
			c := eventChunk{oldest: ev.ReceivedAt, text: b.texts.get(expected)}
			if b.handsOver() {
				c.events = make([]hub.Event, 0, min((len(events)-i+b.config.Partitions-1)/b.config.Partitions, maxRecords))
			}
			chunks[p] = append(chunks[p], c)
		}
		c := &chunks[p][len(chunks[p])-1]
		if c.records > 0 {
			c.text = append(c.text, ',')
		}
		before := len(c.text)
		var err error
		if c.text, err = appendEvent(c.text, ev); err != nil {
			return nil, err
		}
		if len(c.text)-before+1024 > b.maxPayload-maxFrameBytes {
			return nil, fmt.Errorf("event %s of %d bytes is larger than NATS takes: %w", ev.ID, len(c.text)-before, hub.ErrInvalid)
		}
		if c.records++; b.handsOver() {
			c.events = append(c.events, asRead(ev))
		}
		if ev.ReceivedAt.Before(c.oldest) {
			c.oldest = ev.ReceivedAt
		}
	}
	return chunks, nil
}

// eventWriter returns the write of one partition: the chunks of all who wait, as one frame.
func (b *Bus) eventWriter(p int) func(context.Context, []eventChunk) ([]struct{}, error) {
	subject, buffer := partitionSubject(p), []byte(nil)
	return func(ctx context.Context, chunks []eventChunk) ([]struct{}, error) {
		header, records := frameHeader{oldest: chunks[0].oldest}, 0
		buffer = append(buffer[:0], '[')
		for i, c := range chunks {
			if i > 0 {
				buffer = append(buffer, ',')
			}
			buffer = append(buffer, c.text...)
			records += c.records
			if c.oldest.Before(header.oldest) {
				header.oldest = c.oldest
			}
		}
		buffer = append(buffer, ']')
		msg := newFrame(subject, header, buffer)
		msg.Header["Content-Type"] = []string{"application/cloudevents-batch+json"}
		id := msg.Header[jetstream.MsgIDHeader][0]
		b.ahead[p].publishing(id, eventsOf(chunks, records), len(buffer))
		seq, err := b.publishFrame(ctx, b.links[linkEvents], streamEvents, msg, records)
		if err == nil {
			b.ahead[p].published(id, seq)
		} else {
			b.ahead[p].take(id, math.MaxInt) // whether it is stored is not known: if it is, it is read
		}
		if cap(buffer) > 2*maxFrameBytes {
			buffer = nil
		}
		return make([]struct{}, len(chunks)), err
	}
}

// eventsOf returns what the chunks of one frame hold, nil where they do not have it.
func eventsOf(chunks []eventChunk, records int) []hub.Event {
	if len(chunks) == 1 || chunks[0].events == nil {
		return chunks[0].events
	}
	events := make([]hub.Event, 0, records)
	for i := range chunks {
		events = append(events, chunks[i].events...)
	}
	return events
}

// publishFrame publishes one frame and returns its sequence.
func (b *Bus) publishFrame(ctx context.Context, l *link, stream string, msg *nats.Msg, records int) (uint64, error) {
	if err := b.roomFor(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, defaultFrameTimeout, fmt.Errorf("no ack of %s within %v", stream, defaultFrameTimeout))
	defer cancel()
	began := time.Now()
	ack, err := b.send(ctx, l, stream, msg)
	if err != nil {
		b.metrics.published.WithLabelValues(stream, "failed").Inc()
		return 0, err
	}
	b.metrics.published.WithLabelValues(stream, "stored").Inc()
	b.metrics.records.WithLabelValues(stream).Add(float64(records))
	b.metrics.publishing.WithLabelValues(stream).Observe(time.Since(began).Seconds())
	return ack.Sequence, nil
}

// sendAll publishes msgs without waiting in between, then for all acks. What got none by the first attempt is sent once more by
// itself, in order, as send does.
func (b *Bus) sendAll(ctx context.Context, l *link, stream string, msgs []*nats.Msg) error {
	if len(msgs) == 1 {
		_, err := b.send(ctx, l, stream, msgs[0])
		return err
	}
	timed, cancel := context.WithTimeout(ctx, b.attemptTimeout)
	attempt, leave := l.epoch.within(timed)
	defer func() { leave(); cancel() }()
	acks := make([]jetstream.PubAckFuture, len(msgs))
	for i, msg := range msgs {
		var err error
		if acks[i], err = l.pipelined.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0)); err != nil {
			break // send tells why
		}
	}
	var again []*nats.Msg
	for i, ack := range acks {
		if ack == nil {
			again = append(again, msgs[i:]...)
			break
		}
		select {
		case <-ack.Ok():
			continue
		case failed := <-ack.Err():
			b.log.Debug("pipelined publish", "stream", stream, "error", failed)
		case <-attempt.Done():
		}
		again = append(again, msgs[i])
	}
	for _, msg := range again {
		if _, err := b.send(ctx, l, stream, msg); err != nil {
			return err
		}
	}
	return nil
}

// send publishes msg and waits for JetStream's ack. Without one it sends the same message with the same Nats-Msg-Id again,
// so that it is stored once, until ctx ends. An answer that no retry can change comes back at once.
func (b *Bus) send(ctx context.Context, l *link, stream string, msg *nats.Msg) (*jetstream.PubAck, error) {
	for {
		timed, cancel := context.WithTimeout(ctx, b.attemptTimeout)
		attempt, leave := l.epoch.within(timed)
		ack, err := l.js.PublishMsg(attempt, msg, jetstream.WithRetryAttempts(0))
		renewed := attempt.Err() != nil && timed.Err() == nil
		leave()
		cancel()
		if err == nil {
			b.health.answered(stream)
			return ack, nil
		}
		var refused *jetstream.APIError
		switch {
		case errors.As(err, &refused):
			// Limits of the stream, the account or the server: full, until somebody makes room.
			return nil, fmt.Errorf("%s refused the message: %w: %w", stream, err, hub.ErrBusy)
		case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrInvalidMsg):
			return nil, fmt.Errorf("%w: %w", err, hub.ErrInvalid)
		case errors.Is(err, nats.ErrConnectionClosed):
			return nil, fmt.Errorf("%w: %w", err, hub.ErrBusy)
		case renewed:
			continue // the connection was renewed meanwhile: the answer is lost, ask again at once
		}
		if ctx.Err() == nil {
			b.health.silent(stream, err)
			b.metrics.retries.WithLabelValues(stream).Inc()
			if b.server != nil && b.serverDown() {
				return nil, fmt.Errorf("embedded NATS stores nothing: %w: %w", err, hub.ErrBusy) // the watch restarts it once there is room
			}
		}
		select {
		case <-time.After(attemptPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w: %w", context.Cause(ctx), err, hub.ErrBusy)
		}
	}
}
