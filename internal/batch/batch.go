// Package batch is group commit: many callers, one write. It knows nothing of what is written.
//
// # Design
//
// Flush when free: one goroutine takes the first item, drains what else is queued up to a number of records or bytes,
// writes that, and answers all waiters. The write itself is the gather window, so there is no timer: a lone caller pays
// one write, and the busier it gets the fuller the writes are. A timer of 1 ms was measured and was slower at every
// load up to 64 callers.
//
// Callers who come back as soon as they are answered fall into a bad step: the first of them gets a write of its own, and
// all others wait for it. Config.Halves lets a write wait until half as many records are there as the last one had, so
// that two halves take turns: one is written while the other comes. The wait is at most half of what the last write took,
// and a lone caller never waits.
package batch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// ErrBusy means the queue is full.
var ErrBusy = errors.New("batch: queue is full")

// ErrClosed means Run has ended: nothing is written any more.
var ErrClosed = errors.New("batch: closed")

// Config bounds a Batch. All bounds must be positive.
type Config struct {
	Records int // at most so many records in one write; a single larger item is written alone
	Bytes   int // at most so many bytes in one write; a single larger item is written alone
	Queue   int // at most so many items wait
	// Hold, if set, is called before each write and may wait a little for more items to come, for as long as nothing is
	// gained by writing at once. It must return when full closes, which says that a whole write is queued, and when ctx ends.
	Hold func(ctx context.Context, full <-chan struct{})
	// Halves lets a write wait for half as many records as the last one had, for at most half of the time that one took.
	Halves bool
}

// Batch gathers items of type T into writes that give each item a result of type R.
type Batch[T, R any] struct {
	config Config
	size   func(T) (records, bytes int)
	write  func(context.Context, []T) ([]R, error)

	mu     sync.Mutex
	queue  []*Ticket[T, R]
	queued int           // records in queue
	want   int           // records that full waits for
	full   chan struct{} // closed when queued reaches want; nil while nobody asks
	closed bool
	space  chan struct{} // closed when room was made; nil while nobody waits for room
	wake   chan struct{} // holds one token while the queue may be non-empty

	tickets sync.Pool // of *Ticket[T, R] whose results were fetched by Do

	// What follows is Run's own.
	last  int           // records of the last write
	took  time.Duration // by the last write
	group []*Ticket[T, R]
	items []T
}

// Ticket stands for one item in the queue.
type Ticket[T, R any] struct {
	item   T
	done   chan struct{} // holds a token once there is a result
	result R
	err    error
}

// New returns a Batch that does nothing until Run. size says how many records and bytes an item is; write writes items
// in the order they came and returns one result for each, or an error for all. It must not keep the list of items.
func New[T, R any](config Config, size func(T) (records, bytes int), write func(context.Context, []T) ([]R, error)) *Batch[T, R] {
	if config.Records <= 0 || config.Bytes <= 0 || config.Queue <= 0 {
		panic(fmt.Sprintf("batch: bounds must be positive: %+v", config))
	}
	return &Batch[T, R]{config: config, size: size, write: write, wake: make(chan struct{}, 1)}
}

// Do queues item and waits for its result. It returns ErrBusy at once when the queue is full, ErrClosed after Run has
// ended, and the context's cause when that ends first: the item may be written all the same.
func (b *Batch[T, R]) Do(ctx context.Context, item T) (R, error) {
	var none R
	t, _ := b.tickets.Get().(*Ticket[T, R])
	if t == nil {
		t = newTicket[T, R]()
	}
	t.item = item
	if _, err := b.add(t, false); err != nil {
		return none, err
	}
	select {
	case <-t.done:
		result, err := t.result, t.err
		*t = Ticket[T, R]{done: t.done} // nobody else has it any more
		b.tickets.Put(t)
		return result, err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

func newTicket[T, R any]() *Ticket[T, R] { return &Ticket[T, R]{done: make(chan struct{}, 1)} }

// Offer queues item without waiting. It returns ErrBusy when the queue is full and ErrClosed after Run has ended.
func (b *Batch[T, R]) Offer(item T) (*Ticket[T, R], error) {
	t := newTicket[T, R]()
	t.item = item
	if _, err := b.add(t, false); err != nil {
		return nil, err
	}
	return t, nil
}

// Put queues item and waits for room. It returns ErrClosed after Run has ended and the context's cause when that ends first.
func (b *Batch[T, R]) Put(ctx context.Context, item T) (*Ticket[T, R], error) {
	t := newTicket[T, R]()
	t.item = item
	for {
		space, err := b.add(t, true)
		if err != nil {
			return nil, err
		}
		if space == nil {
			return t, nil
		}
		select {
		case <-space:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// add queues t. Where there is no room it returns ErrBusy, or with wait a channel that closes when there may be.
func (b *Batch[T, R]) add(t *Ticket[T, R], wait bool) (<-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if len(b.queue) >= b.config.Queue {
		if !wait {
			return nil, ErrBusy
		}
		if b.space == nil {
			b.space = make(chan struct{})
		}
		return b.space, nil
	}
	b.queue = append(b.queue, t)
	r, _ := b.size(t.item)
	if b.queued += r; b.full != nil && b.queued >= b.want {
		close(b.full)
		b.full = nil
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil, nil
}

// Wait returns the result of the item once it is written.
func (t *Ticket[T, R]) Wait(ctx context.Context) (R, error) {
	select {
	case <-t.done:
		t.done <- struct{}{} // for whoever asks again
		return t.result, t.err
	case <-ctx.Done():
		var none R
		return none, context.Cause(ctx)
	}
}

// Len returns how many items wait.
func (b *Batch[T, R]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// Run writes until ctx ends, then writes what is still queued, refuses the rest with ErrClosed and returns nil. Writes
// run under a context that outlives ctx: who was let into the queue gets an answer. It may be called once.
func (b *Batch[T, R]) Run(ctx context.Context) error {
	writing := context.WithoutCancel(ctx)
	for {
		if b.config.Hold != nil && ctx.Err() == nil && b.Len() > 0 {
			b.config.Hold(ctx, b.reached(b.config.Records))
		}
		if b.config.Halves && b.Len() > 0 {
			b.gather(ctx)
		}
		if group := b.take(); len(group) > 0 {
			b.flush(writing, group)
			continue
		}
		select {
		case <-b.wake:
		case <-ctx.Done():
			b.close()
			for group := b.take(); len(group) > 0; group = b.take() {
				b.flush(writing, group)
			}
			return nil
		}
	}
}

// reached returns a channel that is closed once so many records are queued.
func (b *Batch[T, R]) reached(records int) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.want, b.full = records, make(chan struct{})
	full := b.full
	if b.queued >= records {
		close(full)
		b.full = nil
	}
	return full
}

// gather waits for half as many records as the last write had.
func (b *Batch[T, R]) gather(ctx context.Context) {
	half := (min(b.last, b.config.Records) + 1) / 2
	if half <= 1 {
		return
	}
	limit := time.NewTimer(b.took / 2)
	defer limit.Stop()
	select {
	case <-b.reached(half):
	case <-limit.C:
	case <-ctx.Done():
	}
}

func (b *Batch[T, R]) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.signalSpace()
}

func (b *Batch[T, R]) signalSpace() {
	if b.space != nil {
		close(b.space)
		b.space = nil
	}
}

// take removes the next group from the queue: at least one item if there is any. It is valid until it is flushed.
func (b *Batch[T, R]) take() []*Ticket[T, R] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, records, bytes := 0, 0, 0
	for ; n < len(b.queue); n++ {
		r, s := b.size(b.queue[n].item)
		if n > 0 && (records+r > b.config.Records || bytes+s > b.config.Bytes) {
			break
		}
		records, bytes = records+r, bytes+s
	}
	if n == 0 {
		return nil
	}
	b.queued -= records
	b.group = append(b.group[:0], b.queue[:n]...)
	rest := copy(b.queue, b.queue[n:])
	clear(b.queue[rest:])
	b.queue = b.queue[:rest]
	b.signalSpace()
	return b.group
}

// flush writes one group and answers everybody in it, whatever the write does.
func (b *Batch[T, R]) flush(ctx context.Context, group []*Ticket[T, R]) {
	b.last, b.items = 0, b.items[:0]
	for _, t := range group {
		b.items = append(b.items, t.item)
		records, _ := b.size(t.item)
		b.last += records
	}
	began := time.Now()
	results, err := b.guarded(ctx, b.items)
	b.took = time.Since(began)
	if err == nil && len(results) != len(group) {
		err = fmt.Errorf("batch: %d results for %d items", len(results), len(group))
	}
	for i, t := range group {
		if t.err = err; err == nil {
			t.result = results[i]
		}
		t.done <- struct{}{} // from here on t is its waiter's
	}
	clear(group)
	clear(b.items)
}

// guarded turns a panic of write into an error: it must not leave the waiters without an answer.
func (b *Batch[T, R]) guarded(ctx context.Context, items []T) (results []R, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("batch: write panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return b.write(ctx, items)
}
