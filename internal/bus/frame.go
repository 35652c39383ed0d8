package bus

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds of a frame. A single record that is larger gets a frame of its own.
const (
	maxRecords    = 256
	maxFrameBytes = 512 << 10
)

// Format is the number of the frame format this release writes. It reads this one only: there is none before it.
const Format = 1

// NATS headers of every frame, so that it can be judged without reading its body.
const (
	headerFormat = "Stagewire-Format"
	headerOldest = "Stagewire-Oldest" // Unix milliseconds of the oldest received_at
	headerMoved  = "Stagewire-Moved"  // "1" for a frame rewritten by an erase: consumers skip it
)

const flagMoved = 1

// frameHeader is what one needs to know of a frame before its records.
type frameHeader struct {
	oldest time.Time // the oldest received_at in it, whole milliseconds
	moved  bool
}

// undecodable is an error of a frame that cannot be read at all. It wraps hub.ErrInvalid.
type undecodable struct{ error }

func (u undecodable) Unwrap() []error { return []error{u.error, hub.ErrInvalid} }

func undecodablef(format string, args ...any) error {
	return undecodable{fmt.Errorf(format, args...)}
}

func errFormat(n string) error {
	return undecodablef("frame has format %s, this release reads format %d: a newer release wrote it; run that one", n, Format)
}

func (h frameHeader) set(header nats.Header) {
	header[headerFormat] = []string{strconv.Itoa(Format)}
	header[headerOldest] = []string{strconv.FormatInt(h.oldest.UnixMilli(), 10)}
	if h.moved {
		header[headerMoved] = []string{"1"}
	}
}

// readFrameHeader reads the NATS headers of a frame.
func readFrameHeader(header nats.Header) (frameHeader, error) {
	if n := header.Get(headerFormat); n != strconv.Itoa(Format) {
		if n == "" {
			return frameHeader{}, undecodablef("message has no %s header: it is not a frame", headerFormat)
		}
		return frameHeader{}, errFormat(n)
	}
	oldest, err := strconv.ParseInt(header.Get(headerOldest), 10, 64)
	if err != nil {
		return frameHeader{}, undecodablef("frame header %s: %w", headerOldest, err)
	}
	return frameHeader{oldest: time.UnixMilli(oldest).UTC(), moved: header.Get(headerMoved) == "1"}, nil
}

// A WEBHOOKS frame, all integers as varints:
//
//	format, flags (1 = moved), oldest received_at (Unix ms, signed), number of records
//	per record: length, then
//	  id, connection, received_at (seconds signed, nanoseconds), method, url, activation (signed),
//	  number of headers, name and value each, body
//
// Texts and bytes are their length and themselves.

// appendWebhookFrame appends the frame of webhooks to dst.
func appendWebhookFrame(dst []byte, h frameHeader, webhooks []hub.Webhook) []byte {
	flags := byte(0)
	if h.moved {
		flags |= flagMoved
	}
	dst = append(dst, Format, flags)
	dst = binary.AppendVarint(dst, h.oldest.UnixMilli())
	dst = binary.AppendUvarint(dst, uint64(len(webhooks)))
	for i := range webhooks {
		w := &webhooks[i]
		dst = binary.AppendUvarint(dst, uint64(recordSize(w)))
		dst = appendWebhook(dst, w)
	}
	return dst
}

func appendWebhook(dst []byte, w *hub.Webhook) []byte {
	dst = appendText(dst, w.ID)
	dst = appendText(dst, w.Connection)
	dst = binary.AppendVarint(dst, w.ReceivedAt.Unix())
	dst = binary.AppendUvarint(dst, uint64(w.ReceivedAt.Nanosecond()))
	dst = appendText(dst, w.Method)
	dst = appendText(dst, w.URL)
	dst = binary.AppendVarint(dst, w.Activation)
	dst = binary.AppendUvarint(dst, uint64(len(w.Headers)))
	for _, h := range w.Headers {
		dst = appendText(dst, h.Name)
		dst = appendText(dst, h.Value)
	}
	dst = binary.AppendUvarint(dst, uint64(len(w.Body)))
	return append(dst, w.Body...)
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// recordSize returns the encoded length of w without the length itself.
func recordSize(w *hub.Webhook) int {
	n := textSize(w.ID) + textSize(w.Connection) + varintSize(w.ReceivedAt.Unix()) + uvarintSize(uint64(w.ReceivedAt.Nanosecond())) +
		textSize(w.Method) + textSize(w.URL) + varintSize(w.Activation) + uvarintSize(uint64(len(w.Headers))) +
		uvarintSize(uint64(len(w.Body))) + len(w.Body)
	for i := range w.Headers {
		n += textSize(w.Headers[i].Name) + textSize(w.Headers[i].Value)
	}
	return n
}

func textSize(s string) int { return uvarintSize(uint64(len(s))) + len(s) }

func varintSize(v int64) int {
	u := uint64(v) << 1
	if v < 0 {
		u = ^u
	}
	return uvarintSize(u)
}

func uvarintSize(u uint64) int {
	n := 1
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// decodeWebhookFrame reads a whole frame. The bodies alias data. Errors wrap hub.ErrInvalid.
func decodeWebhookFrame(data []byte) (frameHeader, []hub.Webhook, error) {
	r := reader{data: data}
	h, n, err := r.webhookHeader()
	if err != nil {
		return frameHeader{}, nil, err
	}
	webhooks := make([]hub.Webhook, n)
	for i := range webhooks {
		record := reader{data: r.bytes()}
		if record.webhook(&webhooks[i]); r.failed || record.failed || len(record.data) > 0 {
			return h, nil, undecodablef("webhook frame is damaged at record %d of %d", i, n)
		}
	}
	if len(r.data) > 0 {
		return h, nil, undecodablef("webhook frame has %d bytes after its last record", len(r.data))
	}
	return h, webhooks, nil
}

// decodeWebhookAt reads only the record at index. A record that is not there wraps hub.ErrNotFound.
func decodeWebhookAt(data []byte, index int) (hub.Webhook, error) {
	r := reader{data: data}
	_, n, err := r.webhookHeader()
	if err != nil {
		return hub.Webhook{}, err
	}
	if index < 0 || index >= n {
		return hub.Webhook{}, fmt.Errorf("record %d of a frame of %d: %w", index, n, hub.ErrNotFound)
	}
	for range index {
		r.bytes()
	}
	var w hub.Webhook
	record := reader{data: r.bytes()}
	if record.webhook(&w); r.failed || record.failed || len(record.data) > 0 {
		return hub.Webhook{}, undecodablef("webhook frame is damaged at record %d of %d", index, n)
	}
	return w, nil
}

// reader takes a frame apart. After a failure everything it returns is empty.
type reader struct {
	data   []byte
	failed bool
}

func (r *reader) fail() { r.data, r.failed = nil, true }

func (r *reader) webhookHeader() (frameHeader, int, error) {
	if len(r.data) < 2 {
		return frameHeader{}, 0, undecodablef("webhook frame is cut off: %d bytes", len(r.data))
	}
	if r.data[0] != Format {
		return frameHeader{}, 0, errFormat(strconv.Itoa(int(r.data[0])))
	}
	h := frameHeader{moved: r.data[1]&flagMoved != 0}
	r.data = r.data[2:]
	h.oldest = time.UnixMilli(r.varint()).UTC()
	n := r.count()
	if r.failed {
		return frameHeader{}, 0, undecodablef("webhook frame's header is damaged")
	}
	return h, n, nil
}

func (r *reader) webhook(w *hub.Webhook) {
	w.ID = string(r.bytes())
	w.Connection = string(r.bytes())
	seconds, nanoseconds := r.varint(), r.uvarint()
	if nanoseconds >= uint64(time.Second) {
		r.fail()
	}
	w.ReceivedAt = time.Unix(seconds, int64(nanoseconds)).UTC()
	w.Method = string(r.bytes())
	w.URL = string(r.bytes())
	w.Activation = r.varint()
	if n := r.count(); n > 0 {
		w.Headers = make([]hub.Header, n)
		for i := range w.Headers {
			w.Headers[i] = hub.Header{Name: string(r.bytes()), Value: string(r.bytes())}
		}
	}
	if body := r.bytes(); len(body) > 0 {
		w.Body = body
	}
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

// count reads how many things follow. Each takes at least one byte, which bounds what a damaged frame can make us allocate.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.data)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.data)) {
		r.fail()
		return nil
	}
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}
