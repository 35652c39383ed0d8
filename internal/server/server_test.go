package server

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

const manifest = `
name: pipely
title: Pipely
category: crm
settings: {client_secret: {secret: true, required: true}}
receive:
  handshake: {methods: [GET], when: 'query("challenge") != ""', answer: {content_type: text/plain, body: '${query("challenge")}'}}
  verify: {scheme: hmac, secrets: [client_secret], hash: sha256, encoding: base64, header: X-Pipely-Hmac}
  webhook_id: [X-Pipely-Delivery]
  busy: {status: 429, retry_after: 7s}
`

// memory is the log and the database of a server under test.
type memory struct {
	Reader // nil: whatever is not overridden panics, so a test that needs it says so

	mu       sync.Mutex
	webhooks []hub.StoredWebhook
	refusals []hub.Rejected
	rows     map[string]hub.WebhookRecord
	full     bool          // the log takes nothing
	gate     chan struct{} // if set, publishing waits for it
	entered  chan struct{} // told when publishing waits for gate
	down     bool          // the database answers nothing
	redriven []string

	customers  []*hub.CustomerRecord
	deliveries []hub.Delivery
	query      any // the newest one
}

func (m *memory) PublishWebhook(ctx context.Context, w hub.Webhook) (hub.Position, error) {
	m.mu.Lock()
	gate, full := m.gate, m.full
	m.mu.Unlock()
	if gate != nil {
		m.entered <- struct{}{}
		select {
		case <-gate:
		case <-ctx.Done():
			return hub.Position{}, context.Cause(ctx)
		}
	}
	if full {
		return hub.Position{}, fmt.Errorf("disk: %w", hub.ErrBusy)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := hub.Position{Incarnation: "1", Seq: uint64(len(m.webhooks) + 1)}
	w.Headers, w.Body = slices.Clone(w.Headers), bytes.Clone(w.Body) // theirs again
	m.webhooks = append(m.webhooks, hub.StoredWebhook{Webhook: w, Position: at})
	return at, nil
}

func (m *memory) ReadWebhook(_ context.Context, at hub.Position) (hub.Webhook, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at.Seq == 0 || int(at.Seq) > len(m.webhooks) {
		return hub.Webhook{}, hub.ErrNotFound
	}
	return m.webhooks[at.Seq-1].Webhook, nil
}

func (m *memory) Queued(_ context.Context, limit int) ([]hub.StoredWebhook, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []hub.StoredWebhook
	for _, w := range m.webhooks {
		if _, done := m.rows[w.ID]; !done && len(out) < limit {
			out = append(out, w)
		}
	}
	return out, nil
}

func (m *memory) SaveRejected(_ context.Context, rows []hub.Rejected) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return hub.ErrTransient
	}
	m.refusals = append(m.refusals, rows...)
	return nil
}

func (m *memory) ListRejected(context.Context, hub.Page) ([]hub.Rejected, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]hub.Rejected(nil), m.refusals...), "", nil
}

func (m *memory) Webhook(_ context.Context, id string) (hub.WebhookRecord, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, ok := m.rows[id]
	if !ok {
		return row, fmt.Errorf("webhook %s: %w", id, hub.ErrNotFound)
	}
	return row, nil
}

func (m *memory) ListWebhooks(_ context.Context, q hub.WebhookQuery) ([]hub.WebhookRecord, string, error) {
	m.query = q
	var out []hub.WebhookRecord
	for _, row := range m.rows {
		out = append(out, row)
	}
	return out, "more", nil
}

func (m *memory) Redrive(_ context.Context, destination string, ids []string, _ time.Time) (int, error) {
	m.redriven = append(m.redriven, append(ids, destination)...)
	return 2, nil
}

func (m *memory) ConnectionStats(context.Context) (map[string]hub.ConnectionStat, error) {
	return map[string]hub.ConnectionStat{"crm": {LastWebhookAt: wire.Add(-time.Hour), Webhooks: 3}, "old": {LastWebhookAt: wire.Add(-48 * time.Hour), Dead: 2}}, nil
}

var wire = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

type gate map[string]string // token: role

func (g gate) Authorize(token, need string) (known, allowed bool) {
	role, known := g[token]
	return known, role == "operator" || role == need
}

type running struct {
	*Server
	*memory
	url   string
	admin string
	stop  func() error
}

// start runs a server with one connection, crm, of the connector pipely.
func start(t *testing.T, change func(*Options)) *running {
	t.Helper()
	vendor, err := connector.Parse("pipely/connector.yaml", []byte(manifest), hub.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{rows: map[string]hub.WebhookRecord{}, entered: make(chan struct{}, 64)}
	registry := prometheus.NewRegistry()
	opts := Options{
		Listen: "127.0.0.1:0", Version: "test", Log: m, Reader: m, Gate: gate{"op": "operator", "view": "viewer"}, Views: views{},
		Logger: slog.New(slog.DiscardHandler), Registerer: registry, Gatherer: registry,
	}
	if change != nil {
		change(&opts)
	}
	s := New(opts)
	connected := Connected{
		Connection: &hub.Connection{Name: "crm", Connector: "pipely", Secrets: map[string][]hub.Secret{"client_secret": {hub.NewSecret("hush")}}},
		Receiver:   vendor, Activation: 7,
	}
	s.Use(Setup{PublicURL: "https://hub.example.com/in", Connections: []Connected{connected}, Connectors: []ConnectorInfo{Describe(vendor)}})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &running{s, m, "http://" + s.Addr().String(), "http://" + s.AdminAddr().String(), sync.OnceValue(func() error { cancel(); return <-ended })}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func signed(body string) string {
	mac := hmac.New(sha256.New, []byte("hush"))
	mac.Write([]byte(body))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// do sends one request; headers are name, value, …
func do(t *testing.T, method, url string, body []byte, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func (r *running) post(t *testing.T, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return do(t, "POST", r.url+"/hooks/crm?x=%20y", []byte(body),
		append([]string{"Content-Type", "application/json", "X-Pipely-Hmac", signed(body)}, headers...)...)
}

func (r *running) get(t *testing.T, path string, into any) int {
	t.Helper()
	resp, body := do(t, "GET", r.admin+path, nil, "Authorization", "Bearer op")
	if into != nil {
		if err := json.Unmarshal([]byte(body), into); err != nil {
			t.Fatalf("%s: %v: %s", path, err, body)
		}
	}
	return resp.StatusCode
}

// eventually waits until ok, at most five seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}

func TestWebhookIsStoredByteForByte(t *testing.T) {
	r := start(t, nil)
	body := "{\"id\": 9007199254740993, \"a\":\"\xff\x00\"}"
	resp, text := r.post(t, body, "X-Pipely-Delivery", "d1", "Authorization", "Bearer of-theirs", "Cookie", "a=b")
	if resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	w := r.webhooks[0].Webhook
	if w.ID == "" || text != `{"id":"`+w.ID+`"}` {
		t.Errorf("answer %s for webhook %s", text, w.ID)
	}
	if string(w.Body) != body || w.URL != "https://hub.example.com/in/hooks/crm?x=%20y" || w.Method != "POST" || w.Connection != "crm" || w.Activation != 7 {
		t.Errorf("stored %+v", w)
	}
	if w.Header("x-pipely-hmac") != signed(body) || w.Header("Authorization") != "" || w.Header("Cookie") != "" {
		t.Errorf("stored headers %v", w.Headers)
	}
	r.post(t, body, "X-Pipely-Delivery", "d1")
	if again := r.webhooks[1].ID; again != w.ID {
		t.Errorf("a redelivery is %s, was %s", again, w.ID)
	}
}

func TestRefusals(t *testing.T) {
	r := start(t, func(o *Options) { o.BodyLimit = 1 << 16 })
	big := strings.Repeat("x", 1<<16+1)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		reason                   string // "" for requests that are not kept
	}{
		{"unsigned", "POST", "/hooks/crm", "{}", []string{"Content-Type", "application/json"}, 401, hub.RejectedSignature},
		{"forged", "POST", "/hooks/crm", "{ }", []string{"Content-Type", "application/json", "X-Pipely-Hmac", signed("{}")}, 401, hub.RejectedSignature},
		{"method", "PUT", "/hooks/crm", "{}", nil, 405, hub.RejectedMethod},
		{"content type", "POST", "/hooks/crm", "{}", []string{"Content-Type", "image/png"}, 415, hub.RejectedContentType},
		{"gzip", "POST", "/hooks/crm", "{}", []string{"Content-Type", "application/json", "Content-Encoding", "gzip", "X-Pipely-Hmac", signed("{}")}, 415, hub.RejectedContentType},
		{"too large", "POST", "/hooks/crm", big, []string{"Content-Type", "application/json", "X-Pipely-Hmac", signed(big)}, 413, hub.RejectedTooLarge},
		{"unknown connection", "POST", "/hooks/nobody", "{}", []string{"Content-Type", "application/json"}, 404, ""},
		{"long headers", "POST", "/hooks/crm", "{}", []string{"X-Long", strings.Repeat("x", 9<<10)}, 431, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.mu.Lock()
			r.refusals = nil
			r.mu.Unlock()
			resp, text := do(t, c.method, r.url+c.path, []byte(c.body), append([]string{"X-Api-Key", "very-secret"}, c.headers...)...)
			if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s %s", resp.StatusCode, resp.Header.Get("Content-Type"), text)
			}
			if len(r.webhooks) > 0 {
				t.Fatal("it was stored")
			}
			if c.reason == "" {
				return
			}
			eventually(t, "a row in the log of refusals", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.refusals) > 0 })
			r.mu.Lock()
			defer r.mu.Unlock()
			row := r.refusals[0]
			if row.Reason != c.reason || row.Connection != "crm" || row.ID == "" || row.Detail == "" || row.Size != len(c.body) {
				t.Errorf("row %+v", row)
			}
			if shown := fmt.Sprint(row.Headers); strings.Contains(shown, "very-secret") || strings.Contains(shown, signed(c.body)) || !strings.Contains(shown, masked) {
				t.Errorf("headers %s", shown)
			}
		})
	}
}

func TestHandshakeIsAnsweredAndNotStored(t *testing.T) {
	r := start(t, nil)
	resp, text := do(t, "GET", r.url+"/hooks/crm?challenge=abc", nil)
	if resp.StatusCode != 200 || text != "abc" || resp.Header.Get("Content-Type") != "text/plain" || len(r.webhooks) != 0 {
		t.Errorf("%d %q %v", resp.StatusCode, text, resp.Header)
	}
}

func TestFullLogTurnsAwayAsTheVendorTakesItBest(t *testing.T) {
	r := start(t, nil)
	r.memory.mu.Lock()
	r.full = true
	r.memory.mu.Unlock()
	resp, _ := r.post(t, "{}")
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("%d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

func TestDatabaseDownNeverBlocksReceiving(t *testing.T) {
	r := start(t, nil)
	r.memory.mu.Lock()
	r.down = true
	r.memory.mu.Unlock()
	for range 3 * rejectedQueue {
		r.Server.rejected.add(hub.Rejected{Connection: "crm"})
	}
	if resp, _ := do(t, "POST", r.url+"/hooks/crm", []byte("{}"), "Content-Type", "application/json"); resp.StatusCode != 401 {
		t.Errorf("refusing answers %d", resp.StatusCode)
	}
	if resp, _ := r.post(t, "{}"); resp.StatusCode != 200 {
		t.Errorf("receiving answers %d", resp.StatusCode)
	}
}

func TestReloadKeepsRequestsUnderWay(t *testing.T) {
	r := start(t, nil)
	r.memory.mu.Lock()
	r.gate = make(chan struct{})
	r.memory.mu.Unlock()
	answer := make(chan int, 1)
	go func() { resp, _ := r.post(t, "{}"); answer <- resp.StatusCode }()
	<-r.entered
	r.Use(Setup{})
	if resp, _ := r.post(t, "{}"); resp.StatusCode != 404 { // new ones find the new setup
		t.Errorf("a removed connection answers %d", resp.StatusCode)
	}
	close(r.gate)
	if status := <-answer; status != 200 {
		t.Errorf("the request under way got %d", status)
	}
}

func TestShutdownFinishesRequestsUnderWay(t *testing.T) {
	r := start(t, nil)
	r.memory.mu.Lock()
	r.gate = make(chan struct{})
	r.memory.mu.Unlock()
	answer := make(chan int, 1)
	go func() { resp, _ := r.post(t, "{}"); answer <- resp.StatusCode }()
	<-r.entered
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	eventually(t, "draining", r.draining.Load)
	close(r.gate)
	if status := <-answer; status != 200 {
		t.Errorf("answered %d", status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", r.Addr().String(), time.Second); err == nil {
		t.Error("still listening")
	}
}

func TestAPIIsClosedByDefault(t *testing.T) {
	r := start(t, nil)
	for _, route := range routes {
		url := r.url + base + strings.NewReplacer(":id", "x", ":name", "x", ":kind", "order.paid").Replace(route.path)
		for authorization, want := range map[string]int{"": 401, "Bearer": 401, "Bearer wrong": 401, "Basic op": 401} {
			resp, text := do(t, route.method, url, []byte("{}"), "Authorization", authorization)
			if resp.StatusCode != want || resp.Header.Get("WWW-Authenticate") == "" || !strings.Contains(text, `"status":401`) {
				t.Errorf("%s %s with %q: %d %s", route.method, route.path, authorization, resp.StatusCode, text)
			}
		}
	}
	if resp, _ := do(t, "POST", r.url+base+"/deliveries/redrive", []byte(`{"destination":"crm"}`), "Authorization", "Bearer view"); resp.StatusCode != 403 {
		t.Errorf("a viewer redrives: %d", resp.StatusCode)
	}
}

func TestAdminListenKeepsAPIAwayFromHooks(t *testing.T) {
	r := start(t, func(o *Options) { o.AdminListen = "127.0.0.1:0" })
	for path, want := range map[string][2]int{ // on listen, on admin_listen
		"/api/v1/connections": {404, 200}, "/metrics": {404, 200}, "/healthz": {200, 200}, "/readyz": {200, 200}, "/hooks/crm?challenge=1": {200, 404},
		"/api/openapi.json": {404, 200},
	} {
		for i, base := range []string{r.url, r.admin} {
			if resp, _ := do(t, "GET", base+path, nil, "Authorization", "Bearer op"); resp.StatusCode != want[i] {
				t.Errorf("%s on %s: %d, want %d", path, []string{"listen", "admin_listen"}[i], resp.StatusCode, want[i])
			}
		}
	}
}

func TestReadyNamesWhatIsBroken(t *testing.T) {
	broken := errors.New("disk: 3 % free")
	r := start(t, func(o *Options) {
		o.Checks = []Check{
			{"nats", func(context.Context) error { return nil }},
			{"disk", func(context.Context) error { return broken }},
			{"database", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }},
		}
	})
	var got Readiness
	if status := r.get(t, "/readyz", &got); status != 503 || got.OK || got.Checks["nats"] != "ok" || got.Checks["disk"] != broken.Error() || !strings.Contains(got.Checks["database"], "no answer in") {
		t.Errorf("%d %+v", status, got)
	}
	if status := r.get(t, "/healthz", nil); status != 200 {
		t.Errorf("healthz %d", status)
	}
}

func TestMetricsCountEveryOutcome(t *testing.T) {
	r := start(t, nil)
	r.post(t, "{}")
	do(t, "POST", r.url+"/hooks/crm", []byte("{}"), "Content-Type", "application/json")
	do(t, "POST", r.url+"/hooks/nobody", nil)
	_, text := do(t, "GET", r.admin+"/metrics", nil)
	for _, want := range []string{
		`stagewire_webhooks_total{connection="crm",outcome="accepted"} 1`, `stagewire_webhooks_total{connection="crm",outcome="signature"} 1`,
		`stagewire_webhooks_total{connection="crm",outcome="stale"} 0`, `stagewire_webhooks_total{connection="",outcome="unknown"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing: %s", want)
		}
	}
}

func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	r := start(t, nil)
	var doc struct {
		Paths      map[string]map[string]jsontext.Value `json:"paths"`
		Components struct {
			Schemas map[string]jsontext.Value `json:"schemas"`
		} `json:"components"`
	}
	resp, text := do(t, "GET", r.url+"/api/openapi.json", nil)
	if err := json.Unmarshal([]byte(text), &doc); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode, err)
	}
	n := 0
	for _, methods := range doc.Paths {
		n += len(methods)
	}
	if n != len(routes) {
		t.Errorf("%d operations for %d routes", n, len(routes))
	}
	for part := range strings.SplitSeq(text, `"$ref":"#/components/schemas/`) {
		if name, _, ok := strings.Cut(part, `"`); ok && part != text && !strings.HasPrefix(part, "{") && doc.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
}
