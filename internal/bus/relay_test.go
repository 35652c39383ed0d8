package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stagewire/stagewire/internal/hub"
)

// memoryOutbox is an outbox table.
type memoryOutbox struct {
	mu     sync.Mutex
	rows   []hub.FeedItem
	failed bool
}

func (o *memoryOutbox) add(rows ...hub.OutboxRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range rows {
		o.rows = append(o.rows, hub.FeedItem{OutboxRecord: r})
	}
}

func (o *memoryOutbox) Unpublished(_ context.Context, limit int) ([]hub.FeedItem, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.failed {
		o.failed = true
		return nil, errors.New("database is away")
	}
	var found []hub.FeedItem
	for _, r := range o.rows {
		if r.Position == 0 && len(found) < limit {
			found = append(found, r)
		}
	}
	return found, nil
}

func (o *memoryOutbox) Published(_ context.Context, rows []hub.FeedItem) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := int64(1)
	for _, r := range o.rows {
		next = max(next, r.Position+1)
	}
	for j := range rows {
		i := slices.IndexFunc(o.rows, func(r hub.FeedItem) bool { return r.ID == rows[j].ID })
		o.rows[i].Position = next
		next++
	}
	return nil
}

func (o *memoryOutbox) RecentlyPublished(_ context.Context, since time.Duration) ([]hub.FeedItem, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if since != 10*time.Minute {
		return nil, fmt.Errorf("asked for %v", since)
	}
	return slices.DeleteFunc(slices.Clone(o.rows), func(r hub.FeedItem) bool { return r.Position == 0 }), nil
}

func (o *memoryOutbox) unpublished() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.rows {
		if r.Position == 0 {
			n++
		}
	}
	return n
}

func TestRelay(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	var mu sync.Mutex
	var internal []hub.Event
	b.HandleEvents(func(_ context.Context, frame hub.EventFrame) error {
		mu.Lock()
		defer mu.Unlock()
		internal = append(internal, frame.Events...)
		b.cursors.set(frame.Incarnation, frame.Partition, frame.Seq)
		return nil
	})
	b.start(t)
	ev := someEvent(t, 1)
	body, err := EncodeEvent(&ev)
	if err != nil {
		t.Fatal(err)
	}
	outbox := &memoryOutbox{}
	stage := func(id, customer string) hub.OutboxRecord {
		return hub.OutboxRecord{ID: id, Kind: hub.OutboxTransition, Subject: "stages.clc.new", CustomerID: customer, Body: []byte(`{"id":"` + id + `"}`)}
	}
	outbox.add(
		stage("stg_old", "cus_1"), // published, but STAGES lost it
		stage("stg_1", "cus_1"), stage("stg_2", "cus_2"),
		hub.OutboxRecord{ID: ev.ID, Kind: hub.OutboxEvent, Subject: "events.0", Body: body},
		hub.OutboxRecord{ID: "evt_broken", Kind: hub.OutboxEvent, Subject: "events.0", Body: []byte("{")},
		hub.OutboxRecord{ID: "evt_feed", Kind: hub.OutboxEvent, Body: body},
		hub.OutboxRecord{ID: "stg_bad", Kind: hub.OutboxTransition, Subject: "stages.clc.*", Body: body},
		stage("stg_3", "cus_1"),
	)
	outbox.rows[0].Position = 41
	ctx, cancel := context.WithCancel(t.Context())
	relay := b.NewRelay(outbox)
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	relay.Wake()
	eventually(t, "all published", func() bool { return outbox.unpublished() == 0 })
	outbox.add(stage("stg_4", "cus_2"))
	relay.Wake()
	eventually(t, "the new one too", func() bool { return outbox.unpublished() == 0 })
	eventually(t, "the internal event applied", func() bool { mu.Lock(); defer mu.Unlock(); return len(internal) == 1 })
	if diff := cmp.Diff([]hub.Event{ev}, internal, compare); diff != "" {
		t.Error(diff)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	consumer, err := b.links[linkRequest].js.OrderedConsumer(t.Context(), streamStages, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	byCustomer := map[string][]string{}
	for range 5 {
		msg, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		id := msg.Headers().Get(jetstream.MsgIDHeader)
		if want := `{"id":"` + id + `"}`; string(msg.Data()) != want || msg.Headers().Get("Content-Type") != "application/cloudevents+json" || msg.Subject() != "stages.clc.new" {
			t.Errorf("message %s: %v %s", id, msg.Headers(), msg.Data())
		}
		for _, r := range outbox.rows {
			if r.ID == id {
				byCustomer[r.CustomerID] = append(byCustomer[r.CustomerID], id)
			}
		}
	}
	if diff := cmp.Diff(map[string][]string{"cus_1": {"stg_old", "stg_1", "stg_3"}, "cus_2": {"stg_2", "stg_4"}}, byCustomer); diff != "" {
		t.Error(diff)
	}
}

// No two of a customer's rows are on their way at once.
func TestWave(t *testing.T) {
	t.Parallel()
	for customers, want := range map[string][]int{"": nil, "a": {1}, "ab": {2}, "aba": {2, 1}, "aab": {1, 2}, "abcacb": {3, 3}, "abcba": {3, 2}} {
		var rows []*hub.FeedItem
		for _, c := range customers {
			rows = append(rows, &hub.FeedItem{OutboxRecord: hub.OutboxRecord{CustomerID: string(c)}})
		}
		var got []int
		for len(rows) > 0 {
			n := wave(rows)
			got, rows = append(got, n), rows[n:]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", customers, diff)
		}
	}
	many := make([]*hub.FeedItem, 3*relayWave)
	for i := range many {
		many[i] = &hub.FeedItem{OutboxRecord: hub.OutboxRecord{CustomerID: fmt.Sprint(i)}}
	}
	if n := wave(many); n != relayWave {
		t.Errorf("%d of many", n)
	}
}

// A wave is stored whole and in order. What one of its messages cannot be keeps the rest from nothing but being reported.
func TestPipelinedPublish(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	msg := func(id, subject string) *nats.Msg {
		return &nats.Msg{Subject: subject, Header: nats.Header{jetstream.MsgIDHeader: {id}}, Data: []byte(id)}
	}
	stored := func() (ids []string) {
		stream, err := b.links[linkRequest].js.Stream(t.Context(), streamStages)
		if err != nil {
			t.Fatal(err)
		}
		for seq := range stream.CachedInfo().State.LastSeq {
			m, err := stream.GetMsg(t.Context(), seq+1)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, string(m.Data))
		}
		return ids
	}
	var wave []*nats.Msg
	var want []string
	for i := range 100 {
		id := fmt.Sprint("stg_", i)
		wave, want = append(wave, msg(id, "stages.clc.new")), append(want, id)
	}
	for range 2 { // the second time they are known
		if err := b.sendAll(t.Context(), b.links[linkRequest], streamStages, wave); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, stored()); diff != "" {
		t.Error(diff)
	}
	broken := []*nats.Msg{msg("stg_a", "stages.clc.new"), msg("stg_b", "stages. clc"), msg("stg_c", "stages.clc.new")}
	if err := b.sendAll(t.Context(), b.links[linkRequest], streamStages, broken); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("a subject that cannot be: %v", err)
	}
	if diff := cmp.Diff(append(want, "stg_a"), stored()); diff != "" {
		t.Error(diff)
	}
	// Nobody listens: the acks fail at once, and each is sent again by itself, in order.
	if err := b.links[linkRequest].js.DeleteStream(t.Context(), streamStages); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.sendAll(ctx, b.links[linkRequest], streamStages, wave[:5]) }()
	eventually(t, "nobody answers", func() bool { b.health.mu.Lock(); defer b.health.mu.Unlock(); return b.health.silence[streamStages] > 0 })
	if err := b.makeStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[:5], stored()); diff != "" {
		t.Error(diff)
	}
}
