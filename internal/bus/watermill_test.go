package bus

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// TestWatermill runs Watermill's own suite over our publisher and subscriber, as EVENTS uses them (one message in hand)
// and as WEBHOOKS does (several). What is turned off, and why:
//
//   - ExactlyOnceDelivery: an ack can get lost; the cursor and the ledger make effects happen once.
//   - NewSubscriberReceivesOldMessages: subscribers of one group share one durable consumer, by design.
//   - RestartServiceCommand: it runs a command and then publishes 10,000 messages one by one;
//     TestRestartInPlace restarts the server under load instead.
//   - ContextPreserved: contexts do not cross a network.
//   - ForceShort: the long form pushes 5,000 single messages through one fsync each.
func TestWatermill(t *testing.T) {
	t.Parallel()
	b := openBus(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := b.links[linkRequest].js.CreateStream(ctx, jetstream.StreamConfig{Name: "SUITE", Subjects: []string{"suite.>"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, inHand := range map[string]int{"one in hand": 1, "many in hand": webhooksInHand} {
		t.Run(name, func(t *testing.T) {
			group := func(_ *testing.T, group string) (message.Publisher, message.Subscriber) {
				js := b.links[linkConsume].js
				publisher := &Publisher{
					msgID: func(string, *message.Message) string { return nuid.Next() },
					send: func(ctx context.Context, msgs []*nats.Msg) error {
						for _, m := range msgs {
							if _, err := js.PublishMsg(ctx, m); err != nil {
								return err
							}
						}
						return nil
					},
				}
				return publisher, NewSubscriber(SubscriberConfig{
					Consumer: func(ctx context.Context, topic string) (jetstream.Consumer, error) {
						return js.CreateOrUpdateConsumer(ctx, "SUITE", jetstream.ConsumerConfig{
							Durable: group + strings.ReplaceAll(topic, ".", "_"), FilterSubject: topic, AckPolicy: jetstream.AckExplicitPolicy,
							AckWait: time.Second, MaxDeliver: -1, MaxAckPending: inHand,
						})
					},
					Heartbeat: 200 * time.Millisecond, Drain: 50 * time.Millisecond,
					Delay: func(uint64) time.Duration { return time.Millisecond }, Log: slog.New(slog.DiscardHandler),
				})
			}
			tests.TestPubSub(t, tests.Features{
				ConsumerGroups: true, GuaranteedOrder: inHand == 1, Persistent: true, ForceShort: true,
				GenerateTopicFunc: func(tc tests.TestContext) string { return "suite." + string(tc.TestID) },
			}, func(t *testing.T) (message.Publisher, message.Subscriber) { return group(t, "") }, group)
		})
	}
}

func TestClosedPublisherAndSubscriber(t *testing.T) {
	t.Parallel()
	p := &Publisher{}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := p.Publish("x", message.NewMessage("1", nil)); err == nil {
		t.Error("a closed publisher published")
	}
	s := NewSubscriber(SubscriberConfig{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Subscribe(t.Context(), "x"); !errors.Is(err, errSubscriberClosed) {
		t.Errorf("a closed subscriber subscribed: %v", err)
	}
}
