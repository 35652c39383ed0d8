package signature

import (
	"crypto/sha1" //nolint:gosec // some vendors sign with nothing better
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// HMAC is the signature most vendors use. Build it with [NewHMAC], which checks the knobs.
type HMAC struct {
	Hash     string   // sha256 (default), sha1, sha512
	Encoding string   // of the signature: base64 (default), base64url, hex
	Headers  []string // the first one present holds the signature
	Prefix   string   // in front of the signature, e.g. "sha256="; a header without it is refused
	Key      string   // how the secret's text becomes the key: text (default), base64, hex
	// Signs says which text is signed: a sum of bytes, timestamp, method, url, header("Name") and "literals", e.g.
	// `timestamp + "." + bytes`. Default: bytes, the raw body.
	Signs string
	// Timestamp names the header with the signed time, in TimestampFormat (unix, unix_ms, rfc3339). Empty: the scheme has
	// none, and replays are caught by the webhook's id alone.
	Timestamp       []string
	TimestampFormat string
	Tolerance       time.Duration // default DefaultTolerance

	parts []part
	keyed *keyrings
}

type part struct {
	kind string // bytes, timestamp, method, url, header, text
	text string
}

// NewHMAC checks h and fills in its defaults. It wraps hub.ErrInvalid.
func NewHMAC(h HMAC) (*HMAC, error) {
	invalid := func(format string, args ...any) (*HMAC, error) {
		return nil, fmt.Errorf(format+": %w", append(args, hub.ErrInvalid)...)
	}
	h.keyed = &keyrings{hash: sha256.New}
	switch h.Hash {
	case "", "sha256":
	case "sha1":
		h.keyed.hash = sha1.New
	case "sha512":
		h.keyed.hash = sha512.New
	default:
		return invalid("hash %q is none of sha256, sha1, sha512", h.Hash)
	}
	switch h.Encoding {
	case "":
		h.Encoding = "base64"
	case "base64", "base64url", "hex":
	default:
		return invalid("encoding %q is none of base64, base64url, hex", h.Encoding)
	}
	switch h.Key {
	case "":
		h.Key = "text"
	case "text", "base64", "hex":
	default:
		return invalid("key %q is none of text, base64, hex", h.Key)
	}
	switch h.TimestampFormat {
	case "", Unix, UnixMilli, RFC3339:
	default:
		return invalid("timestamp format %q is none of unix, unix_ms, rfc3339", h.TimestampFormat)
	}
	if len(h.Headers) == 0 {
		return invalid("no header holds the signature")
	}
	if h.Signs == "" {
		h.Signs = "bytes"
	}
	var err error
	if h.parts, err = parseSigns(h.Signs); err != nil {
		return nil, err
	}
	signsTime := false
	for _, p := range h.parts {
		signsTime = signsTime || p.kind == "timestamp"
	}
	if signsTime != (len(h.Timestamp) > 0) {
		return invalid("a timestamp must be both named and signed, else it proves nothing")
	}
	if h.Tolerance == 0 {
		h.Tolerance = DefaultTolerance
	}
	h.keyed.key = h.key
	return &h, nil
}

// parseSigns reads a sum of parts. Literals are in double quotes and hold no quote.
func parseSigns(text string) ([]part, error) {
	var parts []part
	rest := strings.TrimSpace(text)
	for {
		var p part
		switch {
		case strings.HasPrefix(rest, `"`):
			end := strings.IndexByte(rest[1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("signs %q: a quote is not closed: %w", text, hub.ErrInvalid)
			}
			p, rest = part{"text", rest[1 : 1+end]}, rest[end+2:]
		case strings.HasPrefix(rest, `header("`):
			end := strings.Index(rest, `")`)
			if end < 0 {
				return nil, fmt.Errorf("signs %q: header(…) is not closed: %w", text, hub.ErrInvalid)
			}
			p, rest = part{"header", rest[len(`header("`):end]}, rest[end+2:]
		default:
			name := rest
			if i := strings.IndexAny(rest, " +"); i >= 0 {
				name = rest[:i]
			}
			switch name {
			case "bytes", "timestamp", "method", "url":
			default:
				return nil, fmt.Errorf("signs %q: %q is none of bytes, timestamp, method, url, header(\"…\"), \"text\": %w", text, name, hub.ErrInvalid)
			}
			p, rest = part{kind: name}, rest[len(name):]
		}
		parts = append(parts, p)
		rest = strings.TrimSpace(rest)
		if rest == "" {
			return parts, nil
		}
		if rest[0] != '+' {
			return nil, fmt.Errorf("signs %q: a + is missing before %q: %w", text, rest, hub.ErrInvalid)
		}
		rest = strings.TrimSpace(rest[1:])
	}
}

// Verify implements [Verifier].
func (h *HMAC) Verify(w *hub.Webhook, secrets []hub.Secret, now time.Time) error {
	secrets, err := usable(secrets)
	if err != nil {
		return err
	}
	got := first(w, h.Headers)
	if got == "" {
		return unauthenticated("header %s is missing", h.Headers[0])
	}
	if h.Prefix != "" {
		var ok bool
		if got, ok = strings.CutPrefix(got, h.Prefix); !ok {
			return unauthenticated("header %s does not start with %q", h.Headers[0], h.Prefix)
		}
	}
	mac, err := h.decode(got)
	if err != nil {
		return unauthenticated("header %s is not %s", h.Headers[0], h.Encoding)
	}
	timestamp := first(w, h.Timestamp)
	if len(h.Timestamp) > 0 && timestamp == "" {
		return unauthenticated("header %s is missing", h.Timestamp[0])
	}
	genuine := false
	for _, s := range secrets {
		sum, err := h.sum(w, s, timestamp)
		if err != nil {
			continue // an unusable secret beside a usable one
		}
		genuine = same(sum, mac) || genuine
	}
	if !genuine {
		return unauthenticated("the signature does not match")
	}
	if len(h.Timestamp) == 0 {
		return nil
	}
	at, err := parseTime(timestamp, h.TimestampFormat)
	if err != nil {
		return unauthenticated("header %s is not a time", h.Timestamp[0])
	}
	if !near(at, now, h.Tolerance) {
		return stale(at, now, h.Tolerance)
	}
	return nil
}

// Sign returns the header value a vendor would send for w: the sandbox and the tests sign with it. Headers that are signed
// (the timestamp) must be set on w already.
func (h *HMAC) Sign(w *hub.Webhook, secret hub.Secret) (string, error) {
	if secret.IsZero() {
		return "", fmt.Errorf("no secret is set: %w", hub.ErrInvalid)
	}
	sum, err := h.sum(w, secret, first(w, h.Timestamp))
	if err != nil {
		return "", err
	}
	return h.Prefix + h.encode(sum), nil
}

func (h *HMAC) sum(w *hub.Webhook, secret hub.Secret, timestamp string) ([]byte, error) {
	return h.keyed.sum(secret, func(mac hash.Hash) {
		for _, p := range h.parts {
			switch p.kind {
			case "bytes":
				mac.Write(w.Body)
			case "timestamp":
				mac.Write([]byte(timestamp))
			case "method":
				mac.Write([]byte(w.Method))
			case "url":
				mac.Write([]byte(w.URL))
			case "header":
				mac.Write([]byte(w.Header(p.text)))
			case "text":
				mac.Write([]byte(p.text))
			}
		}
	})
}

func (h *HMAC) key(secret hub.Secret) ([]byte, error) {
	var key []byte
	var err error
	switch h.Key {
	case "base64":
		key, err = base64.StdEncoding.DecodeString(secret.Reveal())
	case "hex":
		key, err = hex.DecodeString(secret.Reveal())
	default:
		key = []byte(secret.Reveal())
	}
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("the secret is not %s: %w", h.Key, hub.ErrInvalid) // the cause would quote it
	}
	return key, nil
}

func (h *HMAC) decode(text string) ([]byte, error) {
	switch h.Encoding {
	case "hex":
		return hex.DecodeString(text)
	case "base64url":
		return base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	default:
		return base64.StdEncoding.Strict().DecodeString(text)
	}
}

func (h *HMAC) encode(sum []byte) string {
	switch h.Encoding {
	case "hex":
		return hex.EncodeToString(sum)
	case "base64url":
		return base64.RawURLEncoding.EncodeToString(sum)
	default:
		return base64.StdEncoding.EncodeToString(sum)
	}
}
