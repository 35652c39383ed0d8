package server

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds of the log of refusals. A flood of forged requests costs the database one small transaction per pause and no more.
const (
	rejectedQueue = 512
	rejectedBatch = 100
	rejectedPause = 250 * time.Millisecond
)

// rejections writes refused requests to SQL without ever making receive wait: what finds the queue full is only counted.
type rejections struct {
	save    func(ctx context.Context, rows []hub.Rejected) error
	dropped interface{ Add(float64) }
	log     *slog.Logger
	queue   chan hub.Rejected
	serial  atomic.Uint64
}

func newRejections(save func(context.Context, []hub.Rejected) error, dropped interface{ Add(float64) }, log *slog.Logger) *rejections {
	return &rejections{save: save, dropped: dropped, log: log, queue: make(chan hub.Rejected, rejectedQueue)}
}

// add takes r, whose headers are masked already, or counts it as dropped.
func (r *rejections) add(row hub.Rejected) {
	row.Detail = clean(row.Detail)
	for i := range row.Headers {
		row.Headers[i] = hub.Header{Name: clean(row.Headers[i].Name), Value: clean(row.Headers[i].Value)}
	}
	row.ID = hub.DeriveID(hub.PrefixRejected, row.Connection, row.At.Format(time.RFC3339Nano), strconv.FormatUint(r.serial.Add(1), 10))
	select {
	case r.queue <- row:
	default:
		r.dropped.Add(1)
	}
}

// clean makes text storable: PostgreSQL takes neither NUL nor invalid UTF-8.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// Run writes until ctx ends, then what is left.
func (r *rejections) Run(ctx context.Context) error {
	pause := time.NewTicker(rejectedPause)
	defer pause.Stop()
	for {
		select {
		case row := <-r.queue:
			r.write(context.WithoutCancel(ctx), row)
		case <-ctx.Done():
			for {
				select {
				case row := <-r.queue:
					r.write(context.WithoutCancel(ctx), row)
				default:
					return nil
				}
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// write saves first and whatever waits behind it, in one transaction.
func (r *rejections) write(ctx context.Context, first hub.Rejected) {
	rows := []hub.Rejected{first}
	for len(rows) < rejectedBatch {
		select {
		case row := <-r.queue:
			rows = append(rows, row)
			continue
		default:
		}
		break
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := r.save(ctx, rows); err != nil {
		r.dropped.Add(float64(len(rows)))
		r.log.Warn("refused requests are not in the log of refusals", "rows", len(rows), "error", err)
	}
}

// masked stands for a value that must not be shown.
const masked = "[masked]"

// Parts of names of headers that hold what lets their bearer in, and of those that hold a signature.
var (
	credentialParts = [][]byte{
		[]byte("authorization"), []byte("cookie"), []byte("token"), []byte("secret"), []byte("password"), []byte("api-key"), []byte("apikey"),
		[]byte("access-key"), []byte("hub-key"),
	}
	signatureParts = [][]byte{[]byte("signature"), []byte("hmac")}
)

// credential reports whether a header holds what lets its bearer in. Such headers are not even stored: nothing after
// verification needs them.
func credential(name string) bool { return holds(name, credentialParts) }

// sensitive reports whether a header's value is masked when shown: credentials, and signatures, with which a
// stored body could be sent again.
func sensitive(name string) bool { return credential(name) || holds(name, signatureParts) }

// holds reports whether name holds one of parts, in small letters. It is asked for every header of every webhook, so it
// does not allocate.
func holds(name string, parts [][]byte) bool {
	var small [128]byte
	lower := append(small[:0], name...)
	for i, b := range lower {
		if 'A' <= b && b <= 'Z' {
			lower[i] = b + 'a' - 'A'
		}
	}
	for _, part := range parts {
		if bytes.Contains(lower, part) {
			return true
		}
	}
	return false
}

// named reports whether name is one of names.
func named(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// mask returns headers that can be shown. secrets names headers that hold a token, beside those whose name says so.
func mask(headers []hub.Header, secrets []string) []hub.Header {
	out := make([]hub.Header, len(headers))
	for i, h := range headers {
		if sensitive(h.Name) || named(secrets, h.Name) {
			h.Value = masked
		}
		out[i] = h
	}
	return out
}

// shown returns masked headers as one object; lines of one name are joined as HTTP has it.
func shown(headers []hub.Header) map[string]string {
	out := make(map[string]string, len(headers))
	for _, h := range mask(headers, nil) {
		if before, twice := out[h.Name]; twice {
			h.Value = before + ", " + h.Value
		}
		out[h.Name] = h.Value
	}
	return out
}
