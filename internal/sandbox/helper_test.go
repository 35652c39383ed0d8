package sandbox

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// bench is a sandbox whose API is called without a socket, with a fixed token for each vendor and both clocks in hand.
type bench struct {
	*Sandbox
	t        testing.TB
	wire     *clock
	business *clock
	handler  http.Handler
}

var story0 = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)

func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, wire: &clock{t: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}, business: &clock{t: story0}}
	accounts := DefaultAccounts()
	for _, account := range accounts {
		account["access_token"] = "fixed-token"
	}
	cfg := Config{Now: b.wire.now, Business: b.business.now, Seed: 7, Accounts: accounts}
	for _, fn := range change {
		fn(&cfg)
	}
	b.Sandbox = New(cfg)
	b.handler = b.Handler()
	return b
}

// reply is an answer of the API.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

// at walks into the body: "data.0.code".
func (r reply) at(path string) any {
	var v any = r.body
	for key := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			i := int(key[0] - '0')
			if i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// call makes one API call. Headers are "Name: value"; a body that is no string becomes JSON.
func (b *bench) call(method, path string, body any, headers ...string) reply {
	b.t.Helper()
	var reader io.Reader
	kind := "application/json"
	switch v := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(v)
	case url.Values:
		reader, kind = strings.NewReader(v.Encode()), "application/x-www-form-urlencoded"
	default:
		reader = bytes.NewReader(encode(v))
	}
	req := httptest.NewRequest(method, path, reader)
	if reader != nil {
		req.Header.Set("Content-Type", kind)
	}
	switch {
	case strings.HasPrefix(path, "/shopify"):
		req.Header.Set("X-Shopify-Access-Token", "fixed-token")
	case strings.HasPrefix(path, "/zoho"):
		req.Header.Set("Authorization", "Zoho-oauthtoken fixed-token")
	default:
		req.Header.Set("Authorization", "Bearer fixed-token")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, req)
	out := reply{status: w.Code, header: w.Header(), text: w.Body.String()}
	if w.Body.Len() > 0 && w.Body.Bytes()[0] == '{' {
		if err := json.Unmarshal(w.Body.Bytes(), &out.body); err != nil {
			b.t.Fatalf("%s %s: answer is no JSON: %v\n%s", method, path, err, w.Body)
		}
	}
	return out
}

// play plays steps that must work.
func (b *bench) play(steps ...Step) {
	b.t.Helper()
	for _, step := range steps {
		if step.At.IsZero() {
			step.At = b.business.now()
		}
		if err := b.Play(context.Background(), step); err != nil {
			b.t.Fatal(err)
		}
	}
}

// queued takes what waits in a vendor's queue: topics and decoded bodies, in order.
func (b *bench) queued(vendor string) (topics []string, bodies []map[string]any) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[vendor]
	for _, h := range q.hooks {
		topics = append(topics, h.topic)
		if h.events != nil {
			bodies = append(bodies, h.events...)
			continue
		}
		var body map[string]any
		if err := json.Unmarshal(h.body, &body); err != nil {
			b.t.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	q.hooks = nil
	return topics, bodies
}

// receiver is a hub that keeps what it is sent.
type receiver struct {
	mu     sync.Mutex
	got    []received
	answer func(n int) (status int, header map[string]string) // n counts from 1
	keep   bool
	url    string
}

type received struct {
	path   string
	header http.Header
	body   []byte
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{keep: true, answer: func(int) (int, map[string]string) { return 200, nil }}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if !r.keep {
			return
		}
		r.mu.Lock()
		r.got = append(r.got, received{req.URL.Path, req.Header, body})
		status, header := r.answer(len(r.got))
		r.mu.Unlock()
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

// run runs the sandbox until it has nothing to send, at most ten seconds.
func (b *bench) run() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	defer func() { cancel(); <-done }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !b.Idle() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("%d webhooks outstanding", b.Outstanding())
		}
	}
}
