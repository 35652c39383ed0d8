package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/stagewire/stagewire/internal/hub"
)

// ReadWebhook reads one webhook back, byte for byte. It wraps hub.ErrNotFound where the stream is another incarnation or
// the frame was purged, hub.ErrInvalid where the frame cannot be read.
func (b *Bus) ReadWebhook(ctx context.Context, at hub.Position) (hub.Webhook, error) {
	if at.Incarnation != b.incarnations[streamWebhooks] {
		return hub.Webhook{}, fmt.Errorf("webhook at %d.%d: it lay in %q, the stream is now %q: %w",
			at.Seq, at.Index, at.Incarnation, b.incarnations[streamWebhooks], hub.ErrNotFound)
	}
	msg, err := b.message(ctx, streamWebhooks, at.Seq)
	if err != nil {
		return hub.Webhook{}, err
	}
	w, err := decodeWebhookAt(msg.Data, at.Index)
	if err != nil {
		return hub.Webhook{}, fmt.Errorf("webhook at %d.%d: %w", at.Seq, at.Index, err)
	}
	return w, nil
}

func (b *Bus) message(ctx context.Context, stream string, seq uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestsTimeout)
	defer cancel()
	handle, err := b.handle(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w: %w", stream, err, hub.ErrTransient)
	}
	msg, err := handle.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("frame %d of %s: it was purged: %w", seq, stream, hub.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("frame %d of %s: %w: %w", seq, stream, err, hub.ErrTransient)
	}
	return msg, nil
}

// handle returns the stream's handle, which is looked up once: it is no more than its name.
func (b *Bus) handle(ctx context.Context, stream string) (jetstream.Stream, error) {
	if h, ok := b.handles.Load(stream); ok {
		return h.(jetstream.Stream), nil
	}
	h, err := b.links[linkRequest].js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	b.handles.Store(stream, h)
	return h, nil
}

// Queued returns webhooks that are stored but not normalized yet, at most the newest limit of them, newest last. Frames
// that were normalized out of turn may be among them for a moment: where SQL has a row, the row is right.
func (b *Bus) Queued(ctx context.Context, limit int) ([]hub.StoredWebhook, error) {
	consumer, err := b.consumerInfo(ctx, streamWebhooks, consumerNormalize)
	if err != nil {
		return nil, err
	}
	stream, err := b.streamInfo(ctx, streamWebhooks)
	if err != nil {
		return nil, err
	}
	var newestFirst []hub.StoredWebhook
	for seq := stream.State.LastSeq; seq > consumer.AckFloor.Stream && seq >= stream.State.FirstSeq && len(newestFirst) < limit; seq-- {
		msg, err := b.message(ctx, streamWebhooks, seq)
		if errors.Is(err, hub.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		header, webhooks, err := decodeWebhookFrame(msg.Data)
		if err != nil || header.moved {
			continue // a dead letter soon, or elsewhere
		}
		for i, w := range slices.Backward(webhooks) {
			if len(newestFirst) < limit {
				newestFirst = append(newestFirst, hub.StoredWebhook{Webhook: w, Position: hub.Position{Incarnation: b.incarnations[streamWebhooks], Seq: seq, Index: i}})
			}
		}
	}
	slices.Reverse(newestFirst)
	return newestFirst, nil
}

// Purged is what Purge removed, in messages.
type Purged struct{ Webhooks, Events, Stages uint64 }

// Purge removes what is both done and old: webhooks that were normalized and stored before webhooksBefore, events that were
// applied and stored before eventsBefore, and transitions stored before webhooksBefore. What waits is never removed, however old.
func (b *Bus) Purge(ctx context.Context, webhooksBefore, eventsBefore time.Time) (Purged, error) {
	var purged Purged
	consumer, err := b.consumerInfo(ctx, streamWebhooks, consumerNormalize)
	if err != nil {
		return purged, err
	}
	if purged.Webhooks, err = b.purge(ctx, streamWebhooks, "", webhooksBefore, consumer.AckFloor.Stream); err != nil {
		return purged, err
	}
	applied, err := b.cursors(ctx)
	if err != nil {
		return purged, err
	}
	for p, cursor := range applied {
		n, err := b.purge(ctx, streamEvents, partitionSubject(p), eventsBefore, cursor)
		if purged.Events += n; err != nil {
			return purged, err
		}
	}
	stages, err := b.streamInfo(ctx, streamStages)
	if err != nil {
		return purged, err
	}
	purged.Stages, err = b.purge(ctx, streamStages, "", webhooksBefore, stages.State.LastSeq)
	return purged, err
}

// purge removes messages of subject ("" for all) up to and including done that were stored before the given time.
func (b *Bus) purge(ctx context.Context, name, subject string, before time.Time, done uint64) (uint64, error) {
	if done == 0 {
		return 0, nil
	}
	keep, err := b.firstSince(ctx, name, before)
	if err != nil {
		return 0, fmt.Errorf("purge %s: %w", name, err)
	}
	if keep == 0 || keep > done {
		keep = done + 1
	}
	stream, err := b.links[linkRequest].js.Stream(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("purge %s: %w: %w", name, err, hub.ErrTransient)
	}
	had := stream.CachedInfo().State
	if had.Msgs == 0 || keep <= had.FirstSeq {
		return 0, nil
	}
	options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSequence(keep)}
	if subject != "" {
		options = append(options, jetstream.WithPurgeSubject(subject))
	}
	if err := stream.Purge(ctx, options...); err != nil {
		return 0, fmt.Errorf("purge %s: %w: %w", name, err, hub.ErrTransient)
	}
	info, err := b.streamInfo(ctx, name)
	if err != nil {
		return 0, err
	}
	removed := had.Msgs + (info.State.LastSeq - had.LastSeq) - info.State.Msgs
	b.log.Info("purged", "stream", name, "subject", subject, "messages", removed, "up_to", keep-1)
	return removed, nil
}

// firstSince returns the sequence of the first message stored at or after at, 0 where there is none.
func (b *Bus) firstSince(ctx context.Context, name string, at time.Time) (uint64, error) {
	js := b.links[linkRequest].js
	consumer, err := js.CreateConsumer(ctx, name, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &at,
	})
	if err != nil {
		return 0, err
	}
	defer func() { _ = js.DeleteConsumer(ctx, name, consumer.CachedInfo().Name) }()
	batch, err := consumer.FetchNoWait(1)
	if err != nil {
		return 0, err
	}
	msg, ok := <-batch.Messages()
	if !ok {
		return 0, batch.Error()
	}
	meta, err := msg.Metadata()
	if err != nil {
		return 0, err
	}
	return meta.Sequence.Stream, nil
}
