package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Metadata of a received message, beside the NATS headers it came with.
const (
	metaUUID      = "Watermill-Uuid" // also a NATS header
	metaSequence  = "Stagewire-Sequence"
	metaDelivered = "Stagewire-Delivered"
)

const (
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 2 * time.Second // after two missed ones the consumer is looked up again
	lookUpPause   = 100 * time.Millisecond
	lookUpLimit   = 2 * time.Second
)

var errSubscriberClosed = errors.New("subscriber is closed")

// Publisher is Watermill's publisher over JetStream: a topic is a subject, a message is stored when Publish returns. It
// shares its connection and leaves it open.
type Publisher struct {
	send  func(context.Context, []*nats.Msg) error      // stores all of one topic
	msgID func(topic string, m *message.Message) string // the Nats-Msg-Id of the publisher's own retries

	mu     sync.Mutex
	closed bool
}

// Publish stores messages. Whether those after one that failed are stored is up to send.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return errors.New("publisher is closed")
	}
	if len(messages) == 0 {
		return nil
	}
	msgs := make([]*nats.Msg, len(messages))
	for i, m := range messages {
		header := make(nats.Header, len(m.Metadata)+2)
		for k, v := range m.Metadata {
			header[k] = []string{v}
		}
		header[metaUUID] = []string{m.UUID}
		header[jetstream.MsgIDHeader] = []string{p.msgID(topic, m)}
		msgs[i] = &nats.Msg{Subject: topic, Header: header, Data: m.Payload}
	}
	if err := p.send(messages[0].Context(), msgs); err != nil {
		return fmt.Errorf("publish %d messages from %s on to %s: %w", len(messages), messages[0].UUID, topic, err)
	}
	return nil
}

// Close refuses further messages. It may be called twice.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

// Subscriber is Watermill's subscriber over a JetStream pull consumer. One message is pulled at a time, and none before
// the last was handed over; how many may be in hand at once is the consumer's MaxAckPending. A message in hand is kept alive by
// heartbeats. It shares its connection and leaves it open.
type Subscriber struct {
	config SubscriberConfig

	mu      sync.Mutex
	closed  bool
	cancels map[int]context.CancelFunc
	next    int
	running sync.WaitGroup
}

// SubscriberConfig is what a Subscriber needs.
type SubscriberConfig struct {
	// Consumer returns the durable consumer of topic. It is asked again whenever pulling fails: the consumer may be gone.
	Consumer func(ctx context.Context, topic string) (jetstream.Consumer, error)
	// Gate, if set, is called before each pull and holds it back until it returns.
	Gate func(ctx context.Context) error
	// Session, if set, returns a context of ctx that also ends when consumers must be looked up again.
	Session func(ctx context.Context) (context.Context, context.CancelFunc)
	// Heartbeat is how often the server is told that a message is still in hand: a fraction of the consumer's AckWait.
	Heartbeat time.Duration
	// Drain is how long Close waits for the ack of messages in hand before it hands them back.
	Drain time.Duration
	// Delay is how long a message that was refused waits, by the number of its deliveries.
	Delay func(delivered uint64) time.Duration
	Log   *slog.Logger
}

// NewSubscriber returns a Subscriber.
func NewSubscriber(config SubscriberConfig) *Subscriber {
	if config.Session == nil {
		config.Session = context.WithCancel
	}
	return &Subscriber{config: config, cancels: map[int]context.CancelFunc{}}
}

// Subscribe delivers the messages of topic until ctx ends or the Subscriber is closed; then their channel closes, the
// contexts of messages in hand end, and what is not acked within Drain is handed back.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errSubscriberClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	id := s.next
	s.next++
	s.cancels[id] = cancel
	out := make(chan *message.Message)
	s.running.Go(func() {
		var inHand sync.WaitGroup
		s.pull(ctx, topic, out, &inHand)
		close(out)
		inHand.Wait()
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.cancels, id)
	})
	return out, nil
}

// Close ends all subscriptions and waits for them. It may be called twice.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, cancel := range s.cancels {
		cancel()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// pull looks the consumer up and pulls from it, again and again until ctx ends.
func (s *Subscriber) pull(ctx context.Context, topic string, out chan<- *message.Message, inHand *sync.WaitGroup) {
	pause, logged := lookUpPause, ""
	for ctx.Err() == nil {
		session, cancel := s.config.Session(ctx)
		worked, err := s.pullFrom(session, ctx, topic, out, inHand)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if worked {
			pause, logged = lookUpPause, ""
		}
		if err == nil {
			continue
		}
		if text := err.Error(); text != logged { // the same trouble is told once
			s.config.Log.Warn("cannot pull", "topic", topic, "error", err)
			logged = text
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, lookUpLimit)
		case <-ctx.Done():
		}
	}
}

// pullFrom pulls until session ends (nil) or the consumer fails. worked says whether a message came.
func (s *Subscriber) pullFrom(session, ctx context.Context, topic string, out chan<- *message.Message, inHand *sync.WaitGroup) (worked bool, err error) {
	consumer, err := s.config.Consumer(session, topic)
	if err != nil {
		return false, err
	}
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return false, err
	}
	defer handBack(iterator)
	for {
		if s.config.Gate != nil {
			if err := s.config.Gate(session); err != nil {
				return worked, ignoreEnd(session, err)
			}
		}
		msg, err := iterator.Next(jetstream.NextContext(session))
		if err != nil {
			return worked, ignoreEnd(session, err)
		}
		worked = true
		m, delivered, err := receive(msg)
		if err != nil {
			return worked, err // not of JetStream: cannot be acked either
		}
		handling, done := context.WithCancel(ctx)
		m.SetContext(handling)
		inHand.Go(func() {
			defer done()
			s.attend(ctx, msg, m, delivered)
		})
		select {
		case out <- m:
		case <-ctx.Done():
			m.Nack()
			return worked, nil
		}
	}
}

// handBack ends iterator and returns what it had already pulled: left alone, that would wait for AckWait.
func handBack(iterator jetstream.MessagesContext) {
	iterator.Drain()
	for {
		msg, err := iterator.Next(jetstream.NextMaxWait(time.Second))
		if err != nil {
			iterator.Stop()
			return
		}
		_ = msg.Nak()
	}
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// receive turns a message of JetStream into Watermill's.
func receive(msg jetstream.Msg) (*message.Message, uint64, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, 0, err
	}
	header := msg.Headers()
	uuid := header.Get(metaUUID)
	if uuid == "" {
		uuid = header.Get(jetstream.MsgIDHeader)
	}
	m := message.NewMessage(uuid, msg.Data())
	for k, v := range header {
		if len(v) > 0 && k != metaUUID {
			m.Metadata[k] = v[0]
		}
	}
	m.Metadata[metaSequence] = strconv.FormatUint(meta.Sequence.Stream, 10)
	m.Metadata[metaDelivered] = strconv.FormatUint(meta.NumDelivered, 10)
	return m, meta.NumDelivered, nil
}

// attend keeps a message alive while it is in hand and passes its ack or nack on. An ack that gets lost brings the message
// again; handlers are ready for that.
func (s *Subscriber) attend(ctx context.Context, msg jetstream.Msg, m *message.Message, delivered uint64) {
	beat := time.NewTicker(s.config.Heartbeat)
	defer beat.Stop()
	closing := ctx.Done()
	var drained <-chan time.Time
	var err error
	for {
		select {
		case <-m.Acked():
			err = msg.Ack()
		case <-m.Nacked():
			if ctx.Err() != nil {
				err = msg.Nak() // nobody here will see it again: let another process have it at once
			} else {
				err = msg.NakWithDelay(s.config.Delay(delivered))
			}
		case <-drained:
			err = msg.Nak()
		case <-beat.C:
			if err := msg.InProgress(); err != nil {
				s.config.Log.Debug("heartbeat", "error", err)
			}
			continue
		case <-closing:
			closing = nil
			timer := time.NewTimer(s.config.Drain)
			defer timer.Stop()
			drained = timer.C
			continue
		}
		if err != nil {
			s.config.Log.Debug("ack", "error", err)
		}
		return
	}
}

// routerLog passes the Router's errors on. Its chatter is debug, and a handler's error is logged by the handler itself.
type routerLog struct{ log *slog.Logger }

func (l routerLog) Error(text string, err error, fields watermill.LogFields) {
	if text != "Handler returned error" {
		l.with(fields).Error("router", "text", text, "error", err)
	}
}

func (l routerLog) Info(text string, fields watermill.LogFields) {
	l.with(fields).Debug("router", "text", text)
}
func (l routerLog) Debug(text string, fields watermill.LogFields) {}
func (l routerLog) Trace(text string, fields watermill.LogFields) {}
func (l routerLog) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return routerLog{l.with(fields)}
}

func (l routerLog) with(fields watermill.LogFields) *slog.Logger {
	log := l.log
	for k, v := range fields {
		log = log.With(k, v)
	}
	return log
}
