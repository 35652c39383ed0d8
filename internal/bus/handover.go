package bus

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// The process that has stored a frame mostly handles it too, moments later. It keeps what the frame holds until then, so that it need not
// be asked of the server and read again; the embedded server therefore delivers headers alone. The streams stay what counts: what is
// handed over is what reading the stored frame gives, it is given once, and where it is missing (after a restart or a failure, or because
// there is too much of it) the frame is read. With an external NATS other processes may handle what this one stores: nothing is handed over.
//
// Whoever rewrites stored frames must not do so while they wait: what is kept here would be handled as it was.
const (
	handoverWebhooks = 8 << 20 // bytes of webhooks that wait here at most
	handoverEvents   = 4 << 20 // bytes of encoded events, of all partitions; but each may have a frame
)

// handover holds the records of frames, as they are or encoded, by their Nats-Msg-Id, from before they are sent, since a frame may be seen in the stream before its
// ack has come. Not for several goroutines.
type handover[T any] struct {
	limit  int // of bytes
	bytes  int
	frames map[string]handed[T]
	done   uint64 // every frame up to here is handled, as far as that goes by their order
}

type handed[T any] struct {
	records []T
	bytes   int    // about
	seq     uint64 // 0 until it is known
}

func (h *handover[T]) put(id string, records []T, bytes int) {
	if h.bytes+bytes > h.limit {
		return
	}
	if h.frames == nil {
		h.frames = map[string]handed[T]{}
	}
	h.frames[id] = handed[T]{records: records, bytes: bytes}
	h.bytes += bytes
}

// stored notes where a frame lies.
func (h *handover[T]) stored(id string, seq uint64) {
	f, ok := h.frames[id]
	switch {
	case ok && seq > h.done:
		f.seq = seq
		h.frames[id] = f
	case ok:
		h.drop(id)
	}
}

// take gives the records of a frame away, nil where they are not here, or, with true, are more than room.
func (h *handover[T]) take(id string, room int) (records []T, tooMany bool) {
	records = h.frames[id].records
	if len(records) > room {
		return nil, true
	}
	h.drop(id)
	return records, false
}

func (h *handover[T]) drop(id string) {
	h.bytes -= h.frames[id].bytes
	delete(h.frames, id)
}

// handled drops what nobody will ask for any more.
func (h *handover[T]) handled(through uint64) {
	h.done = max(h.done, through)
	for id, f := range h.frames {
		if f.seq != 0 && f.seq <= through {
			h.drop(id)
		}
	}
}

// storedWebhooks hands over the frames of WEBHOOKS as they are stored. They are handled in no order.
type storedWebhooks struct {
	mu     sync.Mutex
	frames handover[byte]
	spare  buffers // of frames that were handled
}

func (s *storedWebhooks) put(id string, frame []byte) {
	own := append(s.spare.get(len(frame)), frame...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames.put(id, own, len(own))
}

func (s *storedWebhooks) take(id string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, _ := s.frames.take(id, math.MaxInt)
	return frame
}

// asRead returns ev as reading what appendEvent writes of it gives it, for an event that can be written. They share what
// need not differ: PublishEvents' caller does not change its events afterwards.
func asRead(ev *hub.Event) hub.Event {
	r := *ev
	r.OccurredAt, r.ClampedFrom, r.ReceivedAt = timeAsRead(ev.OccurredAt), timeAsRead(ev.ClampedFrom), timeAsRead(ev.ReceivedAt)
	copied := false
	for name, v := range ev.Properties {
		read, changed := valueAsRead(v)
		if changed && !copied {
			r.Properties, copied = maps.Clone(ev.Properties), true
		}
		if changed {
			r.Properties[name] = read
		}
	}
	if ev.Traits != nil {
		r.Traits = slices.Clone(ev.Traits)
		for i := range r.Traits {
			t := &r.Traits[i]
			t.At = timeAsRead(t.At)
			t.Value, _ = valueAsRead(t.Value)
		}
	}
	return r
}

// valueAsRead returns a property's value as it is read, and whether that differs.
func valueAsRead(v any) (read any, changed bool) {
	switch v := v.(type) {
	case time.Time:
		if at := timeAsRead(v); at != v {
			return at, true
		}
	case []string:
		if v == nil {
			return []string{}, true
		}
	}
	return v, false
}

// timeAsRead returns t as it is read: in UTC and whole milliseconds, without a monotonic clock.
func timeAsRead(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(hub.Resolution)
}
