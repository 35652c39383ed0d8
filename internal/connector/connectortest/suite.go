package connectortest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// forged checks that a genuine webhook stops being one when anything that proves it is changed.
func (k *Case) forged(t *testing.T, w *hub.Webhook) {
	if k.Connector.Verify(w, k.Connection, w.ReceivedAt) != nil {
		return // the case is about a refusal
	}
	refuse := func(what string, w *hub.Webhook, conn *hub.Connection, now time.Time) {
		t.Helper()
		err := k.Connector.Verify(w, conn, now)
		if !errors.Is(err, hub.ErrUnauthenticated) {
			t.Errorf("%s: got %v, want an error that wraps ErrUnauthenticated", what, err)
			return
		}
		k.leaks(t, what, err.Error())
	}
	proof := proofs(k.Connector, w)
	if len(proof.headers) == 0 {
		// A token in the body: change the token.
		for _, s := range secrets(k.Connection) {
			refuse("another token", with(w, func(c *hub.Webhook) { c.Body = []byte(strings.ReplaceAll(string(w.Body), s, s[:len(s)-1]+"~")) }), k.Connection, w.ReceivedAt)
			refuse("no token", with(w, func(c *hub.Webhook) { c.Body = []byte(strings.ReplaceAll(string(w.Body), s, "")) }), k.Connection, w.ReceivedAt)
		}
	} else if proof.body && len(w.Body) > 0 {
		for _, i := range []int{0, len(w.Body) / 2, len(w.Body) - 1} {
			refuse(fmt.Sprintf("byte %d changed", i), with(w, func(c *hub.Webhook) { c.Body[i] ^= 1 }), k.Connection, w.ReceivedAt)
		}
	}
	for _, name := range proof.headers {
		refuse("without "+name, with(w, func(c *hub.Webhook) {
			c.Headers = slices.DeleteFunc(c.Headers, func(h hub.Header) bool { return strings.EqualFold(h.Name, name) })
		}), k.Connection, w.ReceivedAt)
		refuse("changed "+name, with(w, func(c *hub.Webhook) {
			for i := range c.Headers {
				if strings.EqualFold(c.Headers[i].Name, name) {
					c.Headers[i].Value = flip(c.Headers[i].Value)
				}
			}
		}), k.Connection, w.ReceivedAt)
	}
	other := *k.Connection
	other.Secrets = map[string][]hub.Secret{}
	refuse("no secret set", w, &other, w.ReceivedAt)
	for name := range k.Connection.Secrets {
		other.Secrets[name] = []hub.Secret{hub.NewSecret("c29tZS1vdGhlci1zZWNyZXQtZW50aXJlbHk=")}
	}
	refuse("another secret", w, &other, w.ReceivedAt)
	rotating := *k.Connection
	rotating.Secrets = map[string][]hub.Secret{}
	for name, all := range k.Connection.Secrets {
		rotating.Secrets[name] = append([]hub.Secret{hub.NewSecret("the-new-one-not-used-yet")}, all...)
	}
	if err := k.Connector.Verify(w, &rotating, w.ReceivedAt); err != nil {
		t.Errorf("while rotating: %v", err)
	}
	if proof.timed {
		for _, d := range []time.Duration{6 * time.Minute, -6 * time.Minute, 100000 * time.Hour} {
			err := k.Connector.Verify(w, k.Connection, w.ReceivedAt.Add(d))
			if !errors.Is(err, hub.ErrStale) || !errors.Is(err, hub.ErrUnauthenticated) {
				t.Errorf("%s later: got %v, want stale", d, err)
			}
		}
	}
}

// proof is what makes a webhook genuine: headers, whether the body is signed, whether a time is.
type proof struct {
	headers     []string
	body, timed bool
}

// proofs finds out by trying: a header is proof where the webhook is refused without it.
func proofs(c *connector.Connector, w *hub.Webhook) proof {
	var p proof
	for _, h := range w.Headers {
		name := strings.ToLower(h.Name)
		for _, part := range []string{"signature", "hmac", "hub-key", "token", "timestamp"} {
			if strings.Contains(name, part) && !strings.HasSuffix(name, "-version") {
				p.headers = append(p.headers, h.Name)
				break
			}
		}
	}
	if len(p.headers) > 1 && w.Header("X-HubSpot-Signature-v3") != "" {
		p.headers = []string{"X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp"}
	}
	for _, name := range p.headers {
		p.timed = p.timed || strings.Contains(strings.ToLower(name), "timestamp")
		p.body = p.body || !strings.Contains(strings.ToLower(name), "key")
	}
	return p
}

func with(w *hub.Webhook, change func(*hub.Webhook)) *hub.Webhook {
	c := *w
	c.Body = slices.Clone(w.Body)
	c.Headers = slices.Clone(w.Headers)
	change(&c)
	return &c
}

// flip changes the first letter or digit of a header's value to another of its kind.
func flip(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case c == '0':
			b[i] = '1'
		case c >= '1' && c <= '9':
			b[i] = c - 1
		case c == 'a' || c == 'A':
			b[i] = c + 1
		case c > 'a' && c <= 'z' || c > 'A' && c <= 'Z':
			b[i] = c - 1
		default:
			continue
		}
		return string(b)
	}
	return s + "x"
}

func secrets(conn *hub.Connection) []string {
	var out []string
	for _, all := range conn.Secrets {
		for _, s := range all {
			out = append(out, s.Reveal())
		}
	}
	return out
}

// leaks fails where text holds a secret of the connection.
func (k *Case) leaks(t testing.TB, what, text string) {
	t.Helper()
	for _, s := range secrets(k.Connection) {
		if strings.Contains(text, s) {
			t.Errorf("%s: the error holds a secret", what)
		}
	}
}

// Suite runs what every connector must get right, over the vendor's own cases.
func Suite(t *testing.T, c *connector.Connector, dir string) {
	entries, err := os.ReadDir(filepath.Join(dir, "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		folder := filepath.Join(dir, "testdata", e.Name())
		switch {
		case exists(folder, "webhook.http"):
			k := Open(t, c, dir, folder)
			t.Run("doubled/"+e.Name(), k.doubled)
		case exists(folder, "action.json"):
			k := Open(t, c, dir, folder)
			t.Run("statuses/"+e.Name(), k.statuses)
		}
	}
}

// doubled checks that a webhook received twice makes the same ids, whenever it is received.
func (k *Case) doubled(t *testing.T) {
	w := k.Webhook(t)
	first, err := k.Connector.Normalize(w, k.Connection)
	if err != nil {
		return
	}
	again := with(w, func(c *hub.Webhook) { c.ReceivedAt = w.ReceivedAt.Add(time.Hour) })
	second, err := k.Connector.Normalize(again, k.Connection)
	if err != nil {
		t.Fatal(err)
	}
	if k.Connector.WebhookID(w) != k.Connector.WebhookID(again) {
		t.Error("the webhook's id changed")
	}
	if len(first.Events) != len(second.Events) {
		t.Fatalf("%d events, then %d", len(first.Events), len(second.Events))
	}
	seen := map[string]bool{}
	for i := range first.Events {
		if first.Events[i].ID != second.Events[i].ID {
			t.Errorf("event %d changed its id", i)
		}
		if seen[first.Events[i].ID] {
			t.Errorf("two events have the id %s", first.Events[i].ID)
		}
		seen[first.Events[i].ID] = true
	}
}

// statuses performs the case's action against every status code: the outcome must be one of the five, 2xx apart never delivered, and
// what a later attempt can mend never refused.
func (k *Case) statuses(t *testing.T) {
	var f actionFile
	k.read(t, "action.json", &f)
	task := connector.Task{
		Action: hub.Action{Name: f.Action, Params: f.Params}, Reference: f.Reference, Previous: f.Previous, Business: f.Business,
		Recipient: hub.Recipient{CustomerID: f.Customer, Identifiers: f.Identifiers, Traits: f.Traits},
	}
	secret := "none"
	if all := secrets(k.Connection); len(all) > 0 {
		secret = all[0]
	}
	for status := 300; status < 600; status++ {
		call := func(context.Context, connector.Request) (connector.Response, error) {
			return connector.Response{Status: status, Header: http.Header{"Retry-After": {"7"}}, Body: []byte(`{"error":"` + secret + ` is wrong, ada@example.com"}`)}, nil
		}
		r := k.Connector.Perform(context.Background(), call, k.Connection, task)
		k.leaks(t, fmt.Sprint(status), r.Error)
		if strings.Contains(r.Error, "ada@example.com") {
			t.Errorf("%d: the error holds a person's address", status)
		}
		switch r.Outcome {
		case hub.Retry, hub.Refused, hub.Uncertain, hub.Skipped:
		default:
			t.Errorf("%d: outcome %q", status, r.Outcome)
		}
		if (status == 429 || status == 503 || status == 401) && r.Outcome != hub.Retry && r.Outcome != hub.Skipped {
			t.Errorf("%d: outcome %s, want retry", status, r.Outcome)
		}
		if r.Outcome == hub.Retry && (status == 429 || status == 503) && r.RetryAfter <= 0 {
			t.Errorf("%d: Retry-After is not kept", status)
		}
		if status >= 500 && r.Outcome == hub.Refused {
			t.Errorf("%d: refused for good", status)
		}
	}
	call := func(context.Context, connector.Request) (connector.Response, error) {
		return connector.Response{}, fmt.Errorf("read tcp with %s: %w", secret, context.DeadlineExceeded)
	}
	r := k.Connector.Perform(context.Background(), call, k.Connection, task)
	k.leaks(t, "no answer", r.Error)
	if r.Outcome != hub.Retry && r.Outcome != hub.Uncertain && r.Outcome != hub.Skipped {
		t.Errorf("no answer: outcome %s", r.Outcome)
	}
}
