package connector

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/signature"
)

// Kinds of refusal of Accepts; both come with hub.ErrInvalid.
var (
	ErrMethod      = errors.New("method not allowed")
	ErrContentType = errors.New("content type not accepted")
)

// Answer is an HTTP answer to a vendor. Status 0 means the hub's default.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
	RetryAfter  time.Duration // of Busy
}

// Accepts reports whether a request of that method and content type can be a webhook. The error wraps ErrMethod or
// ErrContentType, and hub.ErrInvalid.
func (c *Connector) Accepts(method, contentType string) error {
	hand := c.receive.handshake != nil && slices.Contains(c.receive.handshake.methods, method)
	if !hand && !slices.Contains(c.receive.methods, method) {
		return fmt.Errorf("%s takes %s: %w: %w", c.name, strings.Join(c.receive.methods, ", "), ErrMethod, hub.ErrInvalid)
	}
	if hand || method == "GET" || method == "HEAD" || method == "OPTIONS" {
		return nil
	}
	if c.codec(contentType) == "" {
		return fmt.Errorf("%s takes %s: %w: %w", c.name, strings.Join(c.receive.codecs, ", "), ErrContentType, hub.ErrInvalid)
	}
	return nil
}

// codec chooses how to read a body; "" where the connector takes no such type. A request that names no type is taken
// for the connector's first.
func (c *Connector) codec(contentType string) string {
	if len(c.receive.codecs) == 0 {
		return ""
	}
	if contentType == "" {
		return c.receive.codecs[0]
	}
	codec := ""
	switch contentType { // what vendors really send, without the cost of parsing
	case "application/json", "application/json; charset=utf-8":
		codec = "json"
	default:
		media, _, err := mime.ParseMediaType(contentType)
		switch {
		case err != nil:
		case media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"):
			codec = "json"
		case media == "application/x-www-form-urlencoded":
			codec = "form"
		}
	}
	if !slices.Contains(c.receive.codecs, codec) {
		return ""
	}
	return codec
}

// body decodes what expressions may read of w's body, into maps of lender where there is one.
func (c *Connector) body(w *hub.Webhook, lender *objects) (any, error) {
	if len(w.Body) == 0 {
		return nil, nil
	}
	switch c.codec(w.Header("Content-Type")) {
	case "json":
		return decodeJSON(w.Body, c.keep, lender)
	case "form":
		return decodeForm(string(w.Body))
	}
	return nil, fmt.Errorf("%s: %w: %w", c.name, ErrContentType, hub.ErrInvalid)
}

// decodeForm reads a form; of a name given twice the last value wins, as in JSON.
func decodeForm(body string) (any, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, fmt.Errorf("body is not a form we take: %w", hub.ErrInvalid)
	}
	if len(values) > 1000 {
		return nil, fmt.Errorf("body is not a form we take: more than 1000 fields: %w", hub.ErrInvalid)
	}
	out := make(map[string]any, len(values))
	for k, v := range values {
		out[cleanText(k)] = cleanText(v[len(v)-1])
	}
	return out, nil
}

func (c *Connector) requestEnv(w *hub.Webhook, conn *hub.Connection, body any) webhookEnv {
	var settings map[string]string
	if c.receive.usesSettings {
		settings = c.settingsOf(conn)
	}
	return webhookEnv{
		Settings: settings, Body: body, Method: w.Method, URL: cleanText(w.URL),
		Header: func(names ...string) string {
			for _, name := range names {
				if v := w.Header(name); v != "" {
					return cleanText(v)
				}
			}
			return ""
		},
		Query:      func(name string) string { return query(w.URL, name) },
		ReceivedAt: w.ReceivedAt.UTC().Truncate(hub.Resolution), Webhook: w.ID,
	}
}

func query(raw, name string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return cleanText(u.Query().Get(name))
}

// Handshake answers a vendor's check of the address, which is never stored. It returns nil, nil for what is no handshake.
func (c *Connector) Handshake(w *hub.Webhook, conn *hub.Connection, now time.Time) (*Answer, error) {
	h := c.receive.handshake
	if h == nil || len(h.methods) > 0 && !slices.Contains(h.methods, w.Method) {
		return nil, nil
	}
	body, err := c.body(w, nil)
	if err != nil {
		return nil, nil // no handshake; Verify and Normalize will say what it is
	}
	env := c.requestEnv(w, conn, body)
	env.Item = body
	ok, err := h.when.holds(&env)
	if err != nil || !ok {
		return nil, nil // a condition that cannot be asked of this body is one that does not hold
	}
	if h.verify {
		if err := c.Verify(w, conn, now); err != nil {
			return nil, err
		}
	}
	text, err := h.body.text(&env)
	if err != nil {
		return nil, err
	}
	return &Answer{Status: h.status, ContentType: h.content, Body: []byte(text)}, nil
}

// Verify reports whether w is genuine: nil, or an error that wraps hub.ErrUnauthenticated (and hub.ErrStale). The first scheme
// of the manifest that applies to w decides alone, so a weaker one further down cannot be used to get around it.
func (c *Connector) Verify(w *hub.Webhook, conn *hub.Connection, now time.Time) error {
	var env *webhookEnv
	full := false
	prepare := func(withBody bool) (*webhookEnv, error) {
		if env == nil {
			env = new(c.requestEnv(w, conn, nil))
		}
		if withBody && !full {
			body, err := c.body(w, nil)
			if err != nil {
				return nil, err
			}
			env.Body, env.Item, full = body, body, true
		}
		return env, nil
	}
	for i := range c.receive.verify {
		v := &c.receive.verify[i]
		if v.when != nil {
			e, _ := prepare(false) // conditions see headers and settings, never an unverified body
			ok, err := v.when.holds(e)
			if err != nil {
				return fmt.Errorf("%w: %w", err, hub.ErrUnauthenticated)
			}
			if !ok {
				continue
			}
		}
		scheme := v.Verifier
		if v.token != nil {
			scheme = signature.Token{From: func(*hub.Webhook) (string, error) {
				e, err := prepare(true)
				if err != nil {
					return "", err
				}
				return v.token.string(e)
			}}
		}
		return scheme.Verify(w, v.usable(conn), now)
	}
	return fmt.Errorf("%s: no signature that this connection accepts: %w", c.name, hub.ErrUnauthenticated)
}

// TokenHeaders names the headers in which the vendor sends a shared secret instead of a signature: they are not kept or shown.
func (c *Connector) TokenHeaders() []string {
	var out []string
	for i := range c.receive.verify {
		out = append(out, c.receive.verify[i].headers...)
	}
	return out
}

// usable returns the connection's secrets for v, without those the whole world knows.
func (v *verifier) usable(conn *hub.Connection) []hub.Secret {
	var out []hub.Secret
	for _, name := range v.secrets {
		for _, s := range conn.Secrets[name] {
			if !slices.Contains(v.never, s.Reveal()) {
				out = append(out, s)
			}
		}
	}
	return out
}

// WebhookID derives w's id: from the vendor's delivery id, which a retry repeats, else from the bytes.
func (c *Connector) WebhookID(w *hub.Webhook) string {
	for _, name := range c.receive.ids {
		if v := w.Header(name); v != "" {
			return hub.DeriveID(hub.PrefixWebhook, w.Connection, "id", v)
		}
	}
	sum := sha256.Sum256(w.Body)
	where := ""
	if len(w.Body) == 0 {
		where = w.Method + " " + w.URL // what there is to tell such requests apart
	}
	return hub.DeriveID(hub.PrefixWebhook, w.Connection, "body", hex.EncodeToString(sum[:]), where)
}

// Answer returns what the vendor wants to hear once w is stored.
func (c *Connector) Answer(*hub.Webhook) Answer { return c.receive.answer }

// Busy returns what makes the vendor try again later without harm.
func (c *Connector) Busy() Answer {
	if c.receive.busy.Status == 0 {
		return Answer{Status: 503, RetryAfter: 30 * time.Second}
	}
	return c.receive.busy
}
