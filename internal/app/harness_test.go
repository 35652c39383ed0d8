package app

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/stagewire/stagewire/connectors"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/rules"
)

// Secrets of the tests' connections. None of them may ever be shown.
const (
	shopSecret = "hush-shop-4711"
	crmSecret  = "hush-crm-4711"
	crmKey     = "hush-workflow-4711"
	deskSecret = "hush-desk-4711"
	zohoToken  = "hush-zoho-4711"
	publicURL  = "https://hub.example.com"
)

const siteConfig = `listen: 127.0.0.1:0
public_url: https://hub.example.com
min_free_disk: 1MiB
models: [clc]
connections:
  shop: {connector: shopify, shop: example-shop.myshopify.com, client_id: abc, client_secret: "${file:secrets/shop}"}
  crm: {connector: hubspot, app_id: 7, client_secret: "${file:secrets/crm}", workflow_key: "${file:secrets/crm-key}", access_token: "${file:secrets/crm-key}"}
  desk: {connector: zendesk, subdomain: acme, webhook_secret: "${file:secrets/desk}", client_id: abc, client_secret: "${file:secrets/desk}"}
  zoho: {connector: zoho-crm, region: eu, client_id: abc, client_secret: "${file:secrets/zoho}", refresh_token: "${file:secrets/zoho}", token: "${file:secrets/zoho}"}
`

// site is one installation's files and database: what outlives a process.
type site struct {
	dir      string
	file     string // its configuration
	database string // URL of a PostgreSQL schema of its own, or ""
}

// newSite writes an installation on SQLite.
func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	s.file = filepath.Join(s.dir, "stagewire.yaml")
	s.write(t, "stagewire.yaml", siteConfig)
	for name, secret := range map[string]string{"shop": shopSecret, "crm": crmSecret, "crm-key": crmKey, "desk": deskSecret, "zoho": zohoToken} {
		s.write(t, "secrets/"+name, secret)
	}
	return s
}

func (s *site) write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// configure appends to the configuration.
func (s *site) configure(t testing.TB, text string) {
	t.Helper()
	before, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "stagewire.yaml", string(before)+text)
}

// ownConnectors makes connectors_dir a copy of the shipped connectors, for tests that change one.
func (s *site) ownConnectors(t testing.TB) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(s.dir, "connectors"), connectors.FS); err != nil {
		t.Fatal(err)
	}
	s.configure(t, "connectors_dir: connectors\n")
}

// edit replaces old, which must be there, by text in a file of the site.
func (s *site) edit(t testing.TB, name, old, text string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(before), old) {
		t.Fatalf("%s does not hold %q", name, old)
	}
	s.write(t, name, strings.Replace(string(before), old, text, 1))
}

// on runs a test on SQLite, and on PostgreSQL where STAGEWIRE_TEST_POSTGRES names a server, in a schema of its own.
func on(t *testing.T, test func(t *testing.T, s *site)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, newSite(t)) })
	t.Run("postgres", func(t *testing.T) {
		database := os.Getenv("STAGEWIRE_TEST_POSTGRES")
		if database == "" {
			t.Skip("STAGEWIRE_TEST_POSTGRES is not set: no PostgreSQL to test on")
		}
		s := newSite(t)
		s.database = schemaOf(t, database)
		s.write(t, "secrets/database", s.database)
		s.configure(t, "database: {url: \"${file:secrets/database}\"}\n")
		test(t, s)
	})
}

// schemaOf makes a schema and returns the URL that leads into it.
func schemaOf(t testing.TB, database string) string {
	t.Helper()
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("app_%x", time.Now().UnixNano())
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatalf("schema: %v", err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "DROP SCHEMA "+name+" CASCADE"); err != nil {
			t.Errorf("drop schema: %v", err)
		}
		_ = db.Close()
	})
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// load reads a configuration as the command does, except that connectors_dir replaces the shipped connectors.
func load(file string) (*config.Config, *connector.Set, error) {
	var set *connector.Set
	cfg, _, err := config.Load(file, config.Lookups{
		Models: rules.Names(),
		Connectors: func(cfg *config.Config) (config.Connectors, []config.Problem) {
			fsys := os.DirFS(cfg.ConnectorsDir)
			if cfg.ConnectorsDir == "" {
				fsys = connectors.FS
			}
			var err error
			if set, err = connector.Load(fsys, cfg.Catalogue()); err != nil {
				return nil, []config.Problem{{File: cfg.ConnectorsDir, Message: err.Error()}}
			}
			return known{set}, nil
		},
	})
	return cfg, set, err
}

// known is what config asks of a set of connectors.
type known struct{ *connector.Set }

func (k known) Names() (names []string) {
	for _, c := range k.All() {
		names = append(names, c.Name())
	}
	return names
}

func (k known) Secret(name, key string) (secret, there bool) {
	if c, ok := k.Get(name); ok {
		s, there := c.Settings()[key]
		return s.Secret, there
	}
	return false, false
}

func (k known) Check(conn *hub.Connection) (problems []config.Problem) {
	if c, ok := k.Get(conn.Connector); ok {
		for _, p := range c.CheckConnection(conn) {
			problems = append(problems, config.Problem(p))
		}
	}
	return problems
}

// running is a hub at work.
type running struct {
	*App
	url  string
	log  *lockedBuffer
	stop func() // waits until it has stopped
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs a hub until the test ends. change may alter what was read from the file.
func (s *site) start(t testing.TB, change func(*Options)) *running {
	t.Helper()
	cfg, set, err := load(s.file)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{log: &lockedBuffer{}}
	o := Options{Config: cfg, Connectors: set, Load: load, Version: "test", Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if r.App, err = Open(ctx, o); err != nil {
		cancel()
		t.Fatal(err)
	}
	r.url = "http://" + r.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the hub ended with: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the hub:\n%s", tail(r.log.String(), 8000))
		}
	})
	t.Cleanup(r.stop)
	return r
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// request is a webhook as a test sends it.
type request struct {
	method  string // POST where empty
	path    string
	headers []string // name, value, …
	body    []byte
	chunked bool
}

// shopify is a webhook of the shop, signed.
func shopify(topic, delivery, body string) request {
	return request{path: "/hooks/shop", body: []byte(body), headers: []string{
		"Content-Type", "application/json", "X-Shopify-Topic", topic, "X-Shopify-Event-Id", delivery, "X-Shopify-Hmac-Sha256", sign(shopSecret, body),
	}}
}

// hubspot is a webhook of the CRM, signed at the instant now.
func hubspot(body string, now time.Time) request {
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	return request{path: "/hooks/crm", body: []byte(body), headers: []string{
		"Content-Type", "application/json", "X-HubSpot-Request-Timestamp", stamp,
		"X-HubSpot-Signature-v3", sign(crmSecret, "POST"+publicURL+"/hooks/crm"+body+stamp),
	}}
}

// zendesk is a webhook of the helpdesk, signed at the instant now.
func zendesk(body string, now time.Time) request {
	stamp := now.UTC().Format(time.RFC3339)
	return request{path: "/hooks/desk", body: []byte(body), headers: []string{
		"Content-Type", "application/json", "X-Zendesk-Webhook-Signature-Timestamp", stamp, "X-Zendesk-Webhook-Signature", sign(deskSecret, stamp+body),
	}}
}

func sign(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// with replaces or adds headers; a value of "" removes the header.
func (q request) with(pairs ...string) request {
	headers := append([]string(nil), q.headers...)
	for i := 0; i+1 < len(pairs); i += 2 {
		for j := 0; j+1 < len(headers); j += 2 {
			if strings.EqualFold(headers[j], pairs[i]) {
				headers = append(headers[:j], headers[j+2:]...)
				break
			}
		}
		if pairs[i+1] != "" {
			headers = append(headers, pairs[i], pairs[i+1])
		}
	}
	q.headers = headers
	return q
}

// send sends a webhook and returns status, headers and the answer's text.
func (r *running) send(t testing.TB, q request) (int, http.Header, string) {
	t.Helper()
	status, header, text, err := r.try(q)
	if err != nil {
		t.Fatal(err)
	}
	return status, header, text
}

func (r *running) try(q request) (int, http.Header, string, error) {
	method := q.method
	if method == "" {
		method = http.MethodPost
	}
	var body io.Reader = bytes.NewReader(q.body)
	if q.chunked {
		body = struct{ io.Reader }{body} // of unknown length
	}
	req, err := http.NewRequestWithContext(context.Background(), method, r.url+q.path, body)
	if err != nil {
		return 0, nil, "", err
	}
	for i := 0; i+1 < len(q.headers); i += 2 {
		req.Header[http.CanonicalHeaderKey(q.headers[i])] = []string{q.headers[i+1]}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(text), err
}

// accept sends a webhook that must be taken and returns its id, where the answer tells it.
func (r *running) accept(t testing.TB, q request) string {
	t.Helper()
	status, _, text := r.send(t, q)
	if status != http.StatusOK {
		t.Fatalf("answered %d %s", status, text)
	}
	var answer struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.ID == "" {
		t.Fatalf("answered %q, which names no webhook: %v", text, err)
	}
	return answer.ID
}

// api asks below /api/v1 with the hub's own token.
func (r *running) api(t testing.TB, method, path string, body any) (int, []byte) {
	t.Helper()
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, r.url+"/api/v1"+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.Token.Reveal())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, raw
}

// get asks and decodes; anything but 200 fails the test.
func get[T any](t testing.TB, r *running, method, path string, body any) T {
	t.Helper()
	status, raw := r.api(t, method, path, body)
	var to T
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, status, raw)
	}
	if err := json.Unmarshal(raw, &to); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, raw)
	}
	return to
}

// settled waits until the webhook is normalized and nothing waits in the streams, and returns its row.
func (r *running) settled(t testing.TB, id string) hub.WebhookRecord {
	t.Helper()
	var row hub.WebhookRecord
	eventually(t, "webhook "+id+" is worked on", func() bool {
		var err error
		row, err = r.store.Webhook(context.Background(), id)
		return err == nil
	})
	eventually(t, "nothing waits in the streams", func() bool {
		oldest, err := r.bus.Oldest(context.Background())
		return err == nil && oldest.IsZero()
	})
	return row
}

// eventually waits for ok, a minute at most: the machine may be busy.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// heapGrowth runs f and returns by how many bytes the live and not yet collected heap grew at most while it ran.
func heapGrowth(f func()) uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	base := read()
	highest, done, stopped := base, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				highest = max(highest, read())
			case <-done:
				return
			}
		}
	}()
	f()
	close(done)
	<-stopped
	return highest - base
}

// raw sends bytes that net/http would not, and returns the first line of the answer and whether the hub closed the connection.
func (r *running) raw(t testing.TB, text string) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	line, _, _ := strings.Cut(string(answer[:n]), "\r\n")
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return line, err
}

func decoded[T any](t testing.TB, text string) T {
	t.Helper()
	var to T
	if err := json.Unmarshal([]byte(text), &to); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return to
}
