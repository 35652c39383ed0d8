package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// authority is a vendor's API and token endpoint, as strict as the real ones: refresh tokens rotate and only the newest access token is good.
type authority struct {
	mu       sync.Mutex
	asked    int
	access   string
	refresh  string
	secret   string
	lifetime int
	form     bool
	answer   func(w http.ResponseWriter) bool // before anything else; true: done
	calls    int
	seen     []string // bodies of token requests
	slow     chan struct{}
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path != "/oauth/token" {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.calls++
		if a.access == "" || r.Header.Get("Authorization") != "Zoho-oauthtoken "+a.access {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"ok":true}`)
		return
	}
	if a.slow != nil {
		<-a.slow
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	a.seen = append(a.seen, r.Header.Get("Content-Type")+" "+string(body))
	if a.answer != nil && a.answer(w) {
		return
	}
	var got map[string]string
	if a.form {
		_ = r.ParseForm()
		form, _ := parseForm(string(body))
		got = form
	} else if json.Unmarshal(body, &got) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if got["client_id"] != "app" || got["client_secret"] != a.secret || (got["grant_type"] == "refresh_token" && got["refresh_token"] != a.refresh) {
		fmt.Fprint(w, `{"error":"invalid_code"}`) // HTTP 200, as Zoho does
		return
	}
	a.access = fmt.Sprintf("access-%d-secret", a.asked)
	out := map[string]any{"access_token": a.access, "expires_in": a.lifetime, "token_type": "Bearer"}
	if got["grant_type"] == "refresh_token" {
		a.refresh = fmt.Sprintf("refresh-%d-secret", a.asked)
		out["refresh_token"] = a.refresh
	}
	_ = json.MarshalWrite(w, out)
}

func (a *authority) tokens() int { a.mu.Lock(); defer a.mu.Unlock(); return a.asked }
func (a *authority) api() int    { a.mu.Lock(); defer a.mu.Unlock(); return a.calls }

func parseForm(body string) (map[string]string, error) {
	out := map[string]string{}
	r, err := http.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	for name := range r.PostForm {
		out[name] = r.PostForm.Get(name)
	}
	return out, nil
}

type oauthTest struct {
	*authority
	server *httptest.Server
	store  *memory
	sealer *Sealer
	now    time.Time
	mu     sync.Mutex
}

func newOAuth(t *testing.T) *oauthTest {
	sealer, err := NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	o := &oauthTest{
		authority: &authority{refresh: "refresh-seed-secret", secret: "client-secret", lifetime: 3600, form: true},
		store:     &memory{}, sealer: sealer, now: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC),
	}
	o.server = httptest.NewServer(o.authority)
	t.Cleanup(o.server.Close)
	return o
}

func (o *oauthTest) clock() time.Time { o.mu.Lock(); defer o.mu.Unlock(); return o.now }
func (o *oauthTest) advance(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = o.now.Add(d)
}

// process is another process with the same store: own memory, same database.
func (o *oauthTest) process(t *testing.T, change func(*credentials)) connector.Call {
	c := newTest(t, Config{Tokens: o.store, Sealer: o.sealer, Now: o.clock})
	v := vendor{
		base: func(string) (string, error) { return o.server.URL, nil },
		credentials: credentials{
			header: "Authorization", prefix: "Zoho-oauthtoken ", grant: connector.AuthRefresh, tokenURL: o.server.URL + "/oauth/token", clientID: "app",
			secrets: []hub.Secret{hub.NewSecret("client-secret")}, refresh: hub.NewSecret("refresh-seed-secret"),
		},
	}
	if change != nil {
		change(&v.credentials)
	}
	return c.call(local("crm"), v, Deliver)
}

func must(t *testing.T, call connector.Call) {
	t.Helper()
	resp, err := call(t.Context(), connector.Request{Path: "/things"})
	if err != nil || resp.Status != 200 {
		t.Fatalf("got %d, %v", resp.Status, err)
	}
}

func TestOneRefreshForAll(t *testing.T) {
	o := newOAuth(t)
	one, two := o.process(t, nil), o.process(t, nil)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			call := one
			if i%2 == 1 {
				call = two
			}
			if resp, err := call(t.Context(), connector.Request{Path: "/things"}); err != nil || resp.Status != 200 {
				t.Errorf("got %d, %v", resp.Status, err)
			}
		})
	}
	wg.Wait()
	if o.tokens() != 1 {
		t.Errorf("%d token requests for two processes and 40 callers", o.tokens())
	}
	for connection, sealed := range o.store.sealed {
		if bytes.Contains(sealed, []byte("secret")) {
			t.Errorf("token of %s is stored in the clear", connection)
		}
	}
	// It ends: one more, a minute before.
	o.advance(59*time.Minute + time.Second)
	must(t, one)
	must(t, two)
	if o.tokens() != 2 {
		t.Errorf("%d token requests after the end", o.tokens())
	}
	// A new process takes what is stored.
	must(t, o.process(t, nil))
	if o.tokens() != 2 {
		t.Error("a restart asked for a token although a good one is stored")
	}
}

// A 401 makes one refresh, however many callers got it, and each request is sent once more.
func TestRevokedToken(t *testing.T) {
	o := newOAuth(t)
	call := o.process(t, nil)
	must(t, call)
	o.authority.mu.Lock()
	o.access = "somebody revoked it"
	o.calls = 0
	o.authority.mu.Unlock()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if resp, err := call(t.Context(), connector.Request{Method: "POST", Path: "/things"}); err != nil || resp.Status != 200 {
				t.Errorf("got %d, %v", resp.Status, err)
			}
		})
	}
	wg.Wait()
	if o.tokens() != 2 || o.api() > 20 {
		t.Errorf("%d token requests, %d calls", o.tokens(), o.api())
	}
	// A token endpoint that gives tokens the API refuses is not asked for ever.
	o.authority.mu.Lock()
	o.calls = 0
	o.answer = func(w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"useless","expires_in":3600}`)
		return true
	}
	o.access = "other"
	o.authority.mu.Unlock()
	resp, err := call(t.Context(), connector.Request{Path: "/things"})
	if err != nil || resp.Status != http.StatusUnauthorized || o.api() != 2 {
		t.Errorf("got %d, %v after %d calls", resp.Status, err, o.api())
	}
}

// The token is stored before it is used; where it cannot be stored, nothing is sent.
func TestStoredBeforeUsed(t *testing.T) {
	o := newOAuth(t)
	o.store.fail = fmt.Errorf("disk full: %w", hub.ErrTransient)
	call := o.process(t, nil)
	if _, err := call(t.Context(), connector.Request{Path: "/things"}); !errors.Is(err, hub.ErrTransient) || !errors.Is(err, connector.ErrNotSent) {
		t.Errorf("got %v", err)
	}
	if o.api() != 0 {
		t.Error("the API was called with a token that is not stored")
	}
}

// A failed refresh is remembered for a moment, tells no secret, and is tried again after.
func TestRefreshRefused(t *testing.T) {
	for name, reply := range map[string]struct {
		answer func(w http.ResponseWriter) bool
		kind   error
	}{
		"200 with an error": {func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"error":"invalid_code","error_description":"refresh-seed-secret"}`)
			return true
		}, hub.ErrUnauthenticated},
		"400": {func(w http.ResponseWriter) bool {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"error":"client-secret is wrong"}`)
			return true
		}, hub.ErrUnauthenticated},
		"500": {func(w http.ResponseWriter) bool {
			w.WriteHeader(500)
			fmt.Fprint(w, "refresh-seed-secret client-secret")
			return true
		}, hub.ErrTransient},
		"not JSON": {func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<refresh-seed-secret>")
			return true
		}, hub.ErrTransient},
		"redirect": {func(w http.ResponseWriter) bool {
			w.Header().Set("Location", "https://evil.example/?refresh-seed-secret")
			w.WriteHeader(307)
			return true
		}, hub.ErrUnauthenticated},
		"cut": {func(w http.ResponseWriter) bool {
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.Close()
			return true
		}, hub.ErrTransient},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOAuth(t)
			o.answer = reply.answer
			call := o.process(t, nil)
			for range 20 {
				_, err := call(t.Context(), connector.Request{Path: "/things"})
				if !errors.Is(err, reply.kind) || !errors.Is(err, connector.ErrNotSent) {
					t.Fatalf("got %v, want %v", err, reply.kind)
				}
				if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err.Error()), "-secret") {
					t.Fatalf("error tells a secret: %v", err)
				}
			}
			if o.tokens() != 1 {
				t.Errorf("%d token requests at once", o.tokens())
			}
			o.authority.mu.Lock()
			o.answer = nil
			o.authority.mu.Unlock()
			o.advance(failureMemory)
			must(t, call)
		})
	}
}

// A database restored from a backup holds a refresh token that was rotated away; the configured one still works.
func TestSeedAfterRestore(t *testing.T) {
	o := newOAuth(t)
	must(t, o.process(t, nil))
	o.authority.mu.Lock()
	o.refresh = "refresh-seed-secret"
	o.authority.mu.Unlock()
	o.advance(2 * time.Hour)
	must(t, o.process(t, nil))
	if o.tokens() != 3 {
		t.Errorf("%d token requests, want the stored one refused and the seed taken", o.tokens())
	}
}

// Changed credentials in the configuration make the stored token void.
func TestChangedCredentials(t *testing.T) {
	o := newOAuth(t)
	must(t, o.process(t, nil))
	o.authority.mu.Lock()
	o.refresh = "refresh-other-secret"
	o.authority.mu.Unlock()
	must(t, o.process(t, func(a *credentials) { a.refresh = hub.NewSecret("refresh-other-secret") }))
	if o.tokens() != 2 {
		t.Errorf("%d token requests", o.tokens())
	}
}

func TestClientCredentialsAsJSON(t *testing.T) {
	o := newOAuth(t)
	o.form = false
	call := o.process(t, func(a *credentials) {
		a.grant, a.json, a.scope, a.refresh = connector.AuthClientCredentials, true, "users:write tickets:write", hub.Secret{}
		a.secrets = []hub.Secret{hub.NewSecret("next-secret"), hub.NewSecret("client-secret")} // the newest is not active there yet
	})
	must(t, call)
	if o.tokens() != 2 {
		t.Errorf("%d token requests, want the newest secret refused and the older one taken", o.tokens())
	}
	want := `application/json {"client_id":"app","client_secret":"client-secret","grant_type":"client_credentials","scope":"users:write tickets:write"}`
	if o.seen[1] != want {
		t.Errorf("got  %s\nwant %s", o.seen[1], want)
	}
}

// A caller that gives up does not take the refresh with it: the rotated token is stored.
func TestRefreshOutlivesItsCaller(t *testing.T) {
	o := newOAuth(t)
	o.slow = make(chan struct{})
	c := newTest(t, Config{Tokens: o.store, Sealer: o.sealer, Now: o.clock})
	v := vendor{base: func(string) (string, error) { return o.server.URL, nil }, credentials: credentials{
		prefix: "Zoho-oauthtoken ", grant: connector.AuthRefresh, tokenURL: o.server.URL + "/oauth/token", clientID: "app",
		secrets: []hub.Secret{hub.NewSecret("client-secret")}, refresh: hub.NewSecret("refresh-seed-secret"),
	}}
	ctx, cancel := contextSoon(t)
	_, err := c.call(local("crm"), v, Deliver)(ctx, connector.Request{Path: "/things"})
	cancel()
	if !errors.Is(err, hub.ErrTransient) {
		t.Fatalf("got %v", err)
	}
	close(o.slow)
	c.Close()
	if o.store.saves != 1 {
		t.Errorf("%d tokens stored", o.store.saves)
	}
}

func TestSealer(t *testing.T) {
	s, err := NewSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := NewSealer(bytes.Repeat([]byte{2}, 32))
	sealed := s.Seal("crm", []byte("token"))
	if bytes.Equal(sealed, s.Seal("crm", []byte("token"))) {
		t.Error("the same twice: no nonce")
	}
	if plain, err := s.Open("crm", sealed); err != nil || string(plain) != "token" {
		t.Errorf("got %q, %v", plain, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"another place": func() ([]byte, error) { return s.Open("shop", sealed) },
		"another key":   func() ([]byte, error) { return other.Open("crm", sealed) },
		"short":         func() ([]byte, error) { return s.Open("crm", sealed[:5]) },
		"empty":         func() ([]byte, error) { return s.Open("crm", nil) },
		"changed": func() ([]byte, error) {
			changed := bytes.Clone(sealed)
			changed[len(changed)-1] ^= 1
			return s.Open("crm", changed)
		},
	} {
		if _, err := open(); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewSealer(make([]byte, 16)); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("short key: %v", err)
	}
}
