package bus

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	relayPoll    = time.Second
	relayLimit   = 1000
	relayWave    = 256 // publishes at once, no two of one customer: her rows stay in order
	relayRewind  = 10 * time.Minute
	relayTimeout = 10 * time.Second // of one wave
)

// Outbox is what the relay needs of SQL.
type Outbox interface {
	// Unpublished returns rows that wait for the relay, in commit order, at most limit: all with a subject that were never
	// published, and those without one that have no place in the feed yet.
	Unpublished(ctx context.Context, limit int) ([]hub.FeedItem, error)
	// Published takes note that rows are published: those that Unpublished returned, all of them or the first. Those that have no
	// place in the feed yet get one, in commit order.
	Published(ctx context.Context, rows []hub.FeedItem) error
	// RecentlyPublished returns at least the rows with a subject that were published no earlier than since before the newest
	// published row, in the order of their places.
	RecentlyPublished(ctx context.Context, since time.Duration) ([]hub.FeedItem, error)
}

// Relay publishes what apply decided: transitions to STAGES, internal events to EVENTS. Rows with neither subject come to it only
// where their place in the feed is not known when they are written: they only get it. One relay runs at a time over all processes;
// two do no harm but double messages.
type Relay struct {
	bus       *Bus
	outbox    Outbox
	publisher message.Publisher
	woken     chan struct{}
}

// NewRelay returns a relay of outbox onto b.
func (b *Bus) NewRelay(outbox Outbox) *Relay {
	r := &Relay{bus: b, outbox: outbox, woken: make(chan struct{}, 1)}
	r.publisher = &Publisher{
		// A transition's id serves as Nats-Msg-Id: each has one subject of STAGES only.
		msgID: func(_ string, m *message.Message) string { return m.UUID },
		send: func(ctx context.Context, msgs []*nats.Msg) error {
			ctx, cancel := context.WithTimeout(ctx, relayTimeout)
			defer cancel()
			return b.sendAll(ctx, b.links[linkRequest], streamStages, msgs)
		},
	}
	return r
}

// Wake tells the relay that there are new rows. It never blocks.
func (r *Relay) Wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends. It begins with the transitions of the last ten minutes before the newest published row: on
// the embedded server STAGES is written lazily, and a power loss may have taken its tail.
func (r *Relay) Run(ctx context.Context) error {
	poll := time.NewTicker(relayPoll)
	defer poll.Stop()
	rewound, logged := false, ""
	for ctx.Err() == nil {
		more, err := r.once(ctx, &rewound)
		switch {
		case err == nil:
			logged = ""
		case ctx.Err() == nil && err.Error() != logged: // the same trouble is told once
			r.bus.log.Error("relay", "error", err)
			logged = err.Error()
		}
		if more && err == nil {
			continue
		}
		select {
		case <-r.woken:
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// once publishes what is there and reports whether there may be more.
func (r *Relay) once(ctx context.Context, rewound *bool) (more bool, err error) {
	if !*rewound {
		rows, err := r.outbox.RecentlyPublished(ctx, relayRewind)
		if err != nil {
			return false, fmt.Errorf("recently published rows: %w", err)
		}
		if err := r.publish(ctx, rows, true); err != nil {
			return false, err
		}
		*rewound = true
	}
	rows, err := r.outbox.Unpublished(ctx, relayLimit)
	if err != nil {
		return false, fmt.Errorf("unpublished rows: %w", err)
	}
	if len(rows) == 0 {
		return false, nil
	}
	if err := r.publish(ctx, rows, false); err != nil {
		return false, err
	}
	if err := r.outbox.Published(ctx, rows); err != nil {
		return false, fmt.Errorf("note that %d rows are published: %w", len(rows), err)
	}
	return len(rows) == relayLimit, nil
}

// publish puts rows onto their streams. With again only those of STAGES: EVENTS is durable.
func (r *Relay) publish(ctx context.Context, rows []hub.FeedItem, again bool) error {
	var events []hub.Event
	var stages []*hub.FeedItem
	for i := range rows {
		row := &rows[i]
		switch {
		case strings.HasPrefix(row.Subject, subjectStages) && validSubject(row.Subject):
			stages = append(stages, row)
		case strings.HasPrefix(row.Subject, subjectEvents):
			if again {
				continue
			}
			ev, err := DecodeEvent(row.Body)
			if err != nil {
				// It can never be published; the feed keeps it, and waiting would stop everything behind it.
				r.bus.log.Error("outbox row is not an event", "id", row.ID, "error", err)
				continue
			}
			events = append(events, ev)
		case row.Subject != "":
			r.bus.log.Error("outbox row has a subject that cannot be", "id", row.ID, "subject", row.Subject)
		}
	}
	for len(stages) > 0 {
		n := wave(stages)
		if err := r.publishStages(ctx, stages[:n]); err != nil {
			return err
		}
		stages = stages[n:]
	}
	if len(events) > 0 {
		if err := r.bus.PublishEvents(ctx, events); err != nil {
			return err
		}
		r.bus.metrics.relayed.WithLabelValues(streamEvents).Add(float64(len(events)))
	}
	return nil
}

// wave returns how many of rows may be published at once.
func wave(rows []*hub.FeedItem) int {
	customers := make(map[string]bool, min(len(rows), relayWave))
	for i, row := range rows {
		if i == relayWave || customers[row.CustomerID] {
			return i
		}
		customers[row.CustomerID] = true
	}
	return len(rows)
}

// publishStages publishes one wave, subject by subject.
func (r *Relay) publishStages(ctx context.Context, rows []*hub.FeedItem) error {
	bySubject := map[string][]*message.Message{}
	for _, row := range rows {
		m := message.NewMessageWithContext(ctx, row.ID, row.Body)
		m.Metadata["Content-Type"] = "application/cloudevents+json"
		bySubject[row.Subject] = append(bySubject[row.Subject], m)
	}
	for subject, messages := range bySubject {
		if err := r.publisher.Publish(subject, messages...); err != nil {
			return err
		}
		r.bus.metrics.relayed.WithLabelValues(streamStages).Add(float64(len(messages)))
	}
	return nil
}

// validSubject reports whether subject can be published to.
func validSubject(subject string) bool {
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsAny(token, " \t\r\n*>\x00") {
			return false
		}
	}
	return true
}
