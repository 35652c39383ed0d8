package hub

import (
	"strings"
	"time"
)

// Header is one header line of a webhook, as received. Names compare without case.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Webhook is one inbound HTTP request that was verified: its exact bytes, kept in WEBHOOKS for ever reading again.
type Webhook struct {
	ID         string // derived: connection and the vendor's delivery id, or the hash of the body
	Connection string
	ReceivedAt time.Time // wire time
	Method     string
	URL        string // absolute, built from public_url and the request's path and query, never from Host
	Headers    []Header
	Body       []byte // exactly as received; never decoded, never changed
	Activation int64  // the manifest activation it was received under; 0 until stored
}

// Header returns the first value of the named header, or "".
func (w *Webhook) Header(name string) string {
	for i := range w.Headers {
		if strings.EqualFold(w.Headers[i].Name, name) {
			return w.Headers[i].Value
		}
	}
	return ""
}

// Position says where a record lies in a stream. Seq and Index can move when a stream is rewritten.
type Position struct {
	Incarnation string // the stream's creation time, so that a recreated stream is another one
	Seq         uint64
	Index       int // of the record in its frame
}

// StoredWebhook is a webhook read back from WEBHOOKS.
type StoredWebhook struct {
	Webhook
	Position
}

// States of a webhook's row.
const (
	WebhookQueued    = "queued"    // stored, not normalized yet (read from the stream, never written)
	WebhookHydrating = "hydrating" // waits for records to be fetched
	WebhookDone      = "done"
	WebhookIgnored   = "ignored" // of a kind nobody asked for
	WebhookDead      = "dead"    // cannot be mapped; replay it after mending the manifest
)

// WebhookRecord is what SQL keeps of a webhook: everything but its bytes, and where those lie.
type WebhookRecord struct {
	ID         string
	Connection string
	ReceivedAt time.Time
	State      string
	Reason     string
	Kinds      []string
	EventIDs   []string // of the newest normalization; compared with at a replay to find withdrawals
	Position   Position
	Activation int64
}

// Reasons of a Rejected webhook.
const (
	RejectedSignature   = "signature"
	RejectedStale       = "stale"
	RejectedTooLarge    = "too_large"
	RejectedMethod      = "method"
	RejectedContentType = "content_type"
	RejectedUnparsable  = "unparsable"
)

// Rejected is a request that was refused before anything was stored. It holds no body and no secret.
type Rejected struct {
	ID         string    `json:"id"`
	Connection string    `json:"connection"`
	At         time.Time `json:"at"`
	Reason     string    `json:"reason"`
	Detail     string    `json:"detail"`
	Headers    []Header  `json:"-"` // masked
	Size       int       `json:"size"`
}
