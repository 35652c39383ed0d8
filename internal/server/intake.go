package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// intake is the memory that one webhook is copied to. It is used again only after the log has stored the webhook: the log may read what
// it refused, or what was given up, for a while yet. Of a request that is turned away it goes to the collector.
type intake struct {
	webhook hub.Webhook
	body    []byte
	headers []hub.Header
}

var intakes = sync.Pool{New: func() any { return new(intake) }}

// recycle ends the use of in, of its webhook and of the webhook's headers and body.
func (in *intake) recycle() {
	in.body, in.headers = in.webhook.Body[:0], in.webhook.Headers[:0]
	if cap(in.body) > firstRead || cap(in.headers) > maxHeaders {
		return // one large webhook should not hold its memory for long
	}
	clear(in.headers[:cap(in.headers)]) // their text is one string, which would stay
	in.webhook = hub.Webhook{}
	intakes.Put(in)
}

// maxHeaders is how many headers an intake may have room for and be used again.
const maxHeaders = 64

// publishTimeout bounds how long a vendor waits for a log that does not answer. Vendors give up after 5 to 30 seconds. Those who come
// within publishShared of each other wait until the same instant.
const (
	publishTimeout = 10 * time.Second
	publishShared  = time.Second
)

var errPublishTimeout = errors.New("the log did not take it in " + publishTimeout.String())

// patience hands out contexts that end when vendors have waited long enough. A timer for each request would cost more than its headers.
type patience struct{ current atomic.Pointer[patient] }

type patient struct {
	context.Context
	since time.Time
}

// context returns one that ends in publishTimeout, or up to publishShared earlier.
func (p *patience) context() context.Context {
	now := time.Now()
	if c := p.current.Load(); c != nil && now.Sub(c.since) < publishShared {
		return c.Context
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), publishTimeout, errPublishTimeout)
	context.AfterFunc(ctx, cancel) // and not earlier: others wait under it
	p.current.Store(&patient{ctx, now})
	return ctx
}
