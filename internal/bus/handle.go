package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	shutdownGrace = 5 * time.Second // for handlers at work when Run ends
	firstDelay    = 100 * time.Millisecond
	lastDelay     = 5 * time.Second
)

// Outcomes of a handled frame.
const (
	outcomeDone   = "done"
	outcomeFailed = "failed"
	outcomeDead   = "dead"
	outcomeMoved  = "moved"
)

// HandleWebhooks registers what is done with the frames of WEBHOOKS, before Run. fn gets the webhooks of one frame; several
// frames are handled at once, by all processes together. An error, or a panic, is logged and brings the frame again after a delay
// that grows from 100 ms to 5 s, for ever. No frame is pulled while EVENTS holds more than 64 that are not applied.
// A frame may come twice. The bodies of webhooks are fn's until it returns.
func (b *Bus) HandleWebhooks(fn func(context.Context, []hub.StoredWebhook) error) { b.onWebhooks = fn }

// HandleEvents registers what is done with the frames of EVENTS, before Run. Frames of one partition come in order and one at
// a time, over all processes together, as long as none of them is paused for longer than AckWait: the cursor fences that one. Errors as in
// HandleWebhooks; the partition waits for the frame. A frame that the cursor has passed may come again.
func (b *Bus) HandleEvents(fn func(context.Context, hub.EventFrame) error) { b.onEvents = fn }

// retryDelay is how long a refused frame waits.
func retryDelay(delivered uint64) time.Duration {
	if delivered == 0 || delivered > 6 {
		return lastDelay
	}
	return min(firstDelay<<(delivered-1), lastDelay)
}

// runHandlers runs the Router until ctx ends and all handlers have. Without a registered handler it returns at once.
func (b *Bus) runHandlers(ctx context.Context) error {
	if b.onWebhooks == nil && b.onEvents == nil {
		return nil
	}
	if b.onEvents != nil {
		if err := b.checkCursors(ctx); err != nil {
			return err
		}
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 2 * shutdownGrace}, routerLog{b.log})
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	// The first is the outermost. What lies between dead letter and recoverer elsewhere, the retry, is JetStream's here.
	router.AddMiddleware(b.measure, correlate, b.deadLetter, recoverer)
	subscriber := SubscriberConfig{Session: b.links[linkConsume].epoch.within, Heartbeat: heartbeat, Drain: shutdownGrace + time.Second, Delay: retryDelay, Log: b.log}
	var subscribers []*Subscriber
	if b.onWebhooks != nil {
		subscriber := subscriber
		subscriber.Consumer, subscriber.Gate = b.webhooksConsumer, b.waitForRoomInEvents
		subscribers = append(subscribers, NewSubscriber(subscriber))
		router.AddConsumerHandler(consumerNormalize, streamWebhooks, subscribers[0], b.handleWebhooks)
	}
	if b.onEvents != nil {
		subscriber.Consumer = b.eventsConsumer
		for p := range b.config.Partitions {
			s := NewSubscriber(subscriber)
			subscribers = append(subscribers, s)
			router.AddConsumerHandler(consumerApply+strconv.Itoa(p), partitionSubject(p), s, b.handleEvents)
		}
	}
	runErr := router.Run(ctx)
	if err := router.Close(); err != nil && runErr == nil && ctx.Err() == nil {
		runErr = err
	}
	for _, s := range subscribers {
		_ = s.Close() // the Router does not wait for the last acks
	}
	if runErr != nil {
		return fmt.Errorf("router: %w", runErr)
	}
	return nil
}

// streamOf tells which stream m came from, and its place there.
func (b *Bus) streamOf(m *message.Message) (stream string, seq uint64, delivered string) {
	seq, _ = strconv.ParseUint(m.Metadata[metaSequence], 10, 64)
	if stream = message.SubscribeTopicFromCtx(m.Context()); stream != streamWebhooks {
		stream = streamEvents
	}
	return stream, seq, m.Metadata[metaDelivered]
}

// measure counts and times frames, and logs what failed: the one place that does.
func (b *Bus) measure(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		stream, seq, delivered := b.streamOf(m)
		b.first[stream].Do(func() {
			b.log.Info("time to next delivery", "stream", stream, "seq", seq, "delivered", delivered, "took", time.Since(b.opened))
		})
		began := time.Now()
		produced, err := next(m)
		b.metrics.handling.WithLabelValues(stream).Observe(time.Since(began).Seconds())
		switch outcome := m.Metadata[metaOutcome]; {
		case err != nil && m.Context().Err() != nil:
			// We are going down and the handler stopped for it: the frame goes to somebody else.
		case err != nil:
			b.metrics.frames.WithLabelValues(stream, outcomeFailed).Inc()
			b.log.Error("frame failed and will come again", "stream", stream, "seq", seq, "delivered", delivered,
				"correlation_id", m.Metadata[metaCorrelation], "error", err)
		case outcome != "":
			b.metrics.frames.WithLabelValues(stream, outcome).Inc()
		default:
			b.metrics.frames.WithLabelValues(stream, outcomeDone).Inc()
		}
		return produced, err
	}
}

const metaOutcome = "Stagewire-Outcome"

// deadLetter takes frames that cannot be read out of the way. Everything else is the handler's business.
func (b *Bus) deadLetter(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		produced, err := next(m)
		var reason undecodable
		if !errors.As(err, &reason) || m.Metadata[metaRead] != "" {
			return produced, err
		}
		stream, seq, _ := b.streamOf(m)
		b.log.Error("frame cannot be read", "stream", stream, "seq", seq, "error", err)
		if b.config.DeadLetter != nil {
			if err := b.config.DeadLetter(m.Context(), stream, hub.Position{Incarnation: b.incarnations[stream], Seq: seq}, reason); err != nil {
				return nil, fmt.Errorf("dead letter: %w", err)
			}
		}
		m.Metadata[metaOutcome] = outcomeDead
		if p, err := partitionOf(message.SubscribeTopicFromCtx(m.Context())); err == nil {
			b.backlog.applied(p, seq) // the cursor passes it with the next frame
		}
		return nil, nil
	}
}

// metaCorrelation is the key that Watermill's own middleware uses.
const metaCorrelation = "correlation_id"

// correlate gives a frame its Nats-Msg-Id as correlation id, the one name that its publisher and its handlers share, and
// hands it on to what a handler produces.
func correlate(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		if m.Metadata[metaCorrelation] == "" {
			m.Metadata[metaCorrelation] = m.UUID
		}
		produced, err := next(m)
		for _, p := range produced {
			p.Metadata[metaCorrelation] = m.Metadata[metaCorrelation]
		}
		return produced, err
	}
}

// metaRead marks a frame that was read: an error that is then made of the same kind comes from the handler.
const metaRead = "Stagewire-Read"

// recoverer makes a panic an error.
func recoverer(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) (produced []*message.Message, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
			}
		}()
		return next(m)
	}
}

// graceful returns the context a handler works under: it outlives the end of ctx by a grace, so that what is under way is
// finished rather than undone.
func graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	working, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var timer *time.Timer
	armed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(armed)
		timer = time.AfterFunc(shutdownGrace, func() { cancel(context.Cause(ctx)) })
	})
	return working, func() {
		if !stop() {
			<-armed
			timer.Stop()
		}
		cancel(context.Canceled)
	}
}

func (b *Bus) handleWebhooks(m *message.Message) error {
	_, seq, _ := b.streamOf(m)
	frame := b.webhooks.take(m.Metadata[jetstream.MsgIDHeader])
	handed := frame != nil
	if !handed {
		var err error
		if frame, err = b.payload(m, streamWebhooks, seq); err != nil {
			return err
		}
	}
	header, webhooks, err := decodeWebhookFrame(frame)
	if err != nil {
		return err
	}
	m.Metadata[metaRead] = "1"
	if header.moved {
		m.Metadata[metaOutcome] = outcomeMoved
		return nil
	}
	stored := make([]hub.StoredWebhook, len(webhooks))
	for i := range webhooks {
		stored[i] = hub.StoredWebhook{Webhook: webhooks[i], Position: hub.Position{Incarnation: b.incarnations[streamWebhooks], Seq: seq, Index: i}}
	}
	ctx, cancel := graceful(m.Context())
	defer cancel()
	if err := b.onWebhooks(ctx, stored); err != nil {
		return err
	}
	if handed {
		b.webhooks.spare.put(frame)
	}
	b.pace.done(len(stored), time.Now())
	return nil
}

// payload returns what a message holds that was not handed over: its own, or the stream's where headers alone are delivered.
func (b *Bus) payload(m *message.Message, stream string, seq uint64) ([]byte, error) {
	if !b.handsOver() {
		return m.Payload, nil
	}
	msg, err := b.message(m.Context(), stream, seq)
	if err != nil {
		return nil, err
	}
	return msg.Data, nil
}

// handsOver reports whether what this process stores is handled by it alone.
func (b *Bus) handsOver() bool { return b.Embedded() }

func (b *Bus) handleEvents(m *message.Message) error {
	_, seq, _ := b.streamOf(m)
	p, err := partitionOf(message.SubscribeTopicFromCtx(m.Context()))
	if err != nil {
		return err
	}
	if b.ahead[p].wasJoined(seq) { // together with an earlier one
		m.Metadata[metaRead] = "1"
		return nil
	}
	header, err := readFrameHeader(metadataHeader(m))
	if err != nil {
		return err
	}
	if header.moved {
		m.Metadata[metaRead], m.Metadata[metaOutcome] = "1", outcomeMoved
		return nil
	}
	events, _ := b.ahead[p].take(m.Metadata[jetstream.MsgIDHeader], math.MaxInt)
	if events == nil {
		data, err := b.payload(m, streamEvents, seq)
		if err != nil {
			return err
		}
		if events, err = decodeEvents(data); err != nil {
			return err
		}
	}
	m.Metadata[metaRead] = "1"
	ctx, cancel := graceful(m.Context())
	defer cancel()
	frame := hub.EventFrame{Incarnation: b.Incarnation(), Partition: p, Seq: seq, First: seq, Oldest: header.oldest, Events: events}
	if !b.Embedded() { // other processes take their turns
		if err := b.onEvents(ctx, frame); err != nil {
			return err
		}
		b.applied(p, seq)
		return nil
	}
	b.join(ctx, &frame)
	return b.applyInTurn(ctx, seq, frame)
}

const (
	joinRecords    = 512                    // events that are applied together at most: the rows of webhooks wait behind them
	readAheadLimit = 500 * time.Millisecond // of one message's turn; then those that were read ahead get their acks
)

// application is a frame on its way through onEvents.
type application struct {
	frame   hub.EventFrame
	written chan struct{} // gets something once its transaction lacks nothing but the commit
	done    chan error
}

func (b *Bus) beginApply(ctx context.Context, frame hub.EventFrame) *application {
	a := &application{frame: frame, written: make(chan struct{}, 1), done: make(chan error, 1)}
	a.frame.Written = func() {
		select {
		case a.written <- struct{}{}:
		default: // the transaction ran again
		}
	}
	go func() { a.done <- b.applySafely(ctx, a.frame) }()
	return a
}

// applyInTurn applies frame, the one of message seq, and what comes behind it for as long as something does, up to
// readAheadLimit. What is behind is read while the transaction before writes, and with one writer handed over while that commits,
// so that the database is never without work; the cursor refuses a frame whose predecessor failed. The server still hands out
// one frame at a time, so nothing can overtake.
func (b *Bus) applyInTurn(ctx context.Context, seq uint64, frame hub.EventFrame) error {
	p := frame.Partition
	began := time.Now()
	present, following := b.beginApply(ctx, frame), (*application)(nil)
	for {
		next := hub.EventFrame{Incarnation: frame.Incarnation, Partition: p, After: present.frame.Seq, Seq: present.frame.Seq}
		var err error
		for written, done := false, false; !done; {
			grown := b.backlog.grown(streamEvents)
			if following == nil && time.Since(began) < readAheadLimit {
				b.join(ctx, &next)
				if written && b.config.OneWriter && len(next.Events) > 0 {
					following = b.beginApply(ctx, next)
				}
			}
			select {
			case err = <-present.done:
				done = true
			case <-present.written:
				written = true
			case <-grown:
			}
		}
		if err != nil {
			if following != nil {
				refused := <-following.done // by the cursor
				b.log.Debug("the frame behind one that failed", "stream", streamEvents, "seq", following.frame.First, "error", refused)
			}
			if present.frame.First == seq {
				return err
			}
			// The message itself is applied; the frames that failed come by themselves.
			b.log.Warn("frame read ahead was not applied and will come again", "stream", streamEvents, "seq", present.frame.First, "error", err)
			return nil
		}
		b.applied(p, present.frame.Seq)
		switch {
		case following != nil:
			present, following = following, nil
		case len(next.Events) > 0: // applied before it was said to be written: the frame was known already
			present = b.beginApply(ctx, next)
		default:
			return nil
		}
	}
}

// applied notes that everything of partition p through seq is.
func (b *Bus) applied(p int, seq uint64) {
	b.backlog.applied(p, seq)
	b.ahead[p].applied(seq)
	b.ahead[p].together(seq)
}

// applySafely makes a panic an error: it runs outside of the recoverer's goroutine.
func (b *Bus) applySafely(ctx context.Context, frame hub.EventFrame) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return b.onEvents(ctx, frame)
}

// join adds the frames that already wait behind this one: a transaction of many small frames costs hardly more than of one.
// Those joined are known as applied when they come and are acked unread. What cannot be read here is left for its own turn.
func (b *Bus) join(ctx context.Context, frame *hub.EventFrame) {
	for _, waits := range b.backlog.behind(frame.Partition, frame.Seq) {
		room := joinRecords - len(frame.Events)
		if room <= 0 {
			return
		}
		header, events, err := b.waitingEvents(ctx, waits, room)
		if err != nil || len(events) > room { // what does not fit is read once more; only another process's or an earlier life's is
			return
		}
		if header.moved {
			frame.Seq = waits.seq
			continue
		}
		if len(frame.Events) == 0 {
			frame.First, frame.Oldest = waits.seq, header.oldest
		} else if header.oldest.Before(frame.Oldest) {
			frame.Oldest = header.oldest
		}
		if frame.Seq = waits.seq; len(frame.Events) == 0 {
			frame.Events = events
		} else {
			frame.Events = append(frame.Events, events...)
		}
	}
}

var errNoRoom = errors.New("the frame holds more than is applied at once")

// waitingEvents returns a frame that waits: what was handed over, else from the stream. errNoRoom says that it is at hand but too large.
func (b *Bus) waitingEvents(ctx context.Context, waits waitingFrame, room int) (frameHeader, []hub.Event, error) {
	switch events, tooMany := b.ahead[waits.partition].take(waits.id, room); {
	case tooMany:
		return frameHeader{}, nil, errNoRoom
	case events != nil:
		return frameHeader{oldest: waits.oldest}, events, nil
	}
	msg, err := b.message(ctx, streamEvents, waits.seq)
	if err != nil {
		return frameHeader{}, nil, err
	}
	header, err := readFrameHeader(msg.Header)
	if err != nil || header.moved {
		return header, nil, err
	}
	events, err := decodeEvents(msg.Data)
	return header, events, err
}

func metadataHeader(m *message.Message) map[string][]string {
	return map[string][]string{
		headerFormat: {m.Metadata[headerFormat]}, headerOldest: {m.Metadata[headerOldest]}, headerMoved: {m.Metadata[headerMoved]},
	}
}
