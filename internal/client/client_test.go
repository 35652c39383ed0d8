package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// fixed is a vendor at base with a bearer token.
func fixed(base string, limit connector.Limit) vendor {
	return vendor{
		base:        func(string) (string, error) { return base, nil },
		credentials: credentials{header: "Authorization", prefix: "Bearer ", fixed: hub.NewSecret(secretToken)},
		limit:       limit,
	}
}

const secretToken = "tok-4f1d-very-secret"

func local(name string) *hub.Connection { return &hub.Connection{Name: name, AllowPrivate: true} }

func newTest(t testing.TB, config Config) *Client {
	t.Helper()
	if config.Registerer == nil {
		config.Registerer = prometheus.NewRegistry()
	}
	c := New(config)
	t.Cleanup(c.Close)
	return c
}

func TestCheckAddress(t *testing.T) {
	for _, test := range []struct {
		addr            string
		public, allowed bool
	}{
		{"93.184.216.34", true, true},
		{"2606:2800:220:1::1", true, true},
		{"127.0.0.1", false, true},
		{"127.9.9.9", false, true},
		{"::1", false, true},
		{"::", false, true},
		{"0.0.0.0", false, true},
		{"::ffff:127.0.0.1", false, true},
		{"::ffff:93.184.216.34", true, true},
		{"10.1.2.3", false, true},
		{"172.16.0.1", false, true},
		{"172.32.0.1", true, true},
		{"192.168.1.1", false, true},
		{"100.64.0.1", false, true},
		{"169.254.1.1", false, true},
		{"fe80::1", false, true},
		{"fe80::1%eth0", false, true},
		{"fc00::1", false, true},
		{"fd12:3456::1", false, true},
		{"198.18.0.1", false, true},
		{"240.0.0.1", false, true},
		{"64:ff9b::7f00:1", false, true},
		{"64:ff9b::5db8:d822", true, true},
		{"2002:0a00:0001::1", false, true},
		{"2002:5db8:d822::1", true, true},
		// No setting opens these.
		{"169.254.169.254", false, false},
		{"::ffff:169.254.169.254", false, false},
		{"64:ff9b::a9fe:a9fe", false, false},
		{"fd00:ec2::254", false, false},
		{"100.100.100.200", false, false},
		{"224.0.0.1", false, false},
		{"ff02::1", false, false},
		{"255.255.255.255", false, false},
	} {
		addr := netip.MustParseAddr(test.addr)
		if err := CheckAddress(addr, false); (err == nil) != test.public {
			t.Errorf("%s: %v", test.addr, err)
		}
		if err := CheckAddress(addr, true); (err == nil) != test.allowed {
			t.Errorf("%s with private addresses allowed: %v", test.addr, err)
		}
	}
}

// A name is checked when it is dialled, so "localhost" and an address in odd notation are caught as well as 127.0.0.1.
func TestGuardWhenDialled(t *testing.T) {
	var served atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	c := newTest(t, Config{})
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		_, _, err := c.Post(t.Context(), "https://"+host+":"+port+"/secret-path?token=1", http.Header{}, nil, false)
		if err == nil || !errors.Is(err, hub.ErrTransient) || !errors.Is(err, connector.ErrNotSent) {
			t.Errorf("%s: got %v, want a transient error of a request that was not sent", host, err)
		} else if strings.Contains(err.Error(), "secret-path") || strings.Contains(err.Error(), "token") {
			t.Errorf("%s: error tells the path: %v", host, err)
		}
	}
	if served.Load() > 0 {
		t.Errorf("%d requests came through", served.Load())
	}
	if _, _, err := c.Post(t.Context(), "http://93.184.216.34/", http.Header{}, nil, false); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("plain http to a public address: %v", err)
	}
	if _, _, err := c.Post(t.Context(), "file:///etc/passwd", http.Header{}, nil, true); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("file URL: %v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	c := newTest(t, Config{})
	status, _, err := c.Post(t.Context(), server.URL, http.Header{}, []byte("{}"), true)
	if err != nil || status != http.StatusTemporaryRedirect {
		t.Errorf("callback: got %d, %v", status, err)
	}
	resp, err := c.call(local("crm"), fixed(server.URL, connector.Limit{}), Deliver)(t.Context(), connector.Request{Path: "/x"})
	if err != nil || resp.Status != http.StatusTemporaryRedirect {
		t.Errorf("vendor: got %d, %v", resp.Status, err)
	}
	if elsewhere.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

func TestAnswerSize(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := MaxVendorBody
		if r.URL.Path == "/more" {
			n++
		}
		_, _ = io.CopyN(w, zeroes{}, int64(n))
	}))
	defer server.Close()
	c := newTest(t, Config{})
	call := c.call(local("crm"), fixed(server.URL, connector.Limit{}), Deliver)
	if resp, err := call(t.Context(), connector.Request{Path: "/just"}); err != nil || len(resp.Body) != MaxVendorBody {
		t.Errorf("at the limit: %d bytes, %v", len(resp.Body), err)
	}
	if _, err := call(t.Context(), connector.Request{Path: "/more"}); !errors.Is(err, hub.ErrInvalid) || errors.Is(err, connector.ErrNotSent) {
		t.Errorf("above the limit, GET: %v", err)
	}
	if _, err := call(t.Context(), connector.Request{Path: "/more", Method: "POST"}); !errors.Is(err, hub.ErrTransient) {
		t.Errorf("above the limit, POST: %v", err)
	}
	// A callback's answer does not matter beyond its status, however long.
	if status, _, err := c.Post(t.Context(), server.URL, http.Header{}, nil, true); err != nil || status != 200 {
		t.Errorf("callback: %d, %v", status, err)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
		}
		<-release
	}))
	defer server.Close()
	defer close(release)
	c := newTest(t, Config{Timeout: 50 * time.Millisecond})
	call := c.call(local("crm"), fixed(server.URL, connector.Limit{}), Deliver)
	for _, path := range []string{"/header", "/body"} {
		_, err := call(t.Context(), connector.Request{Method: "POST", Path: path})
		if !errors.Is(err, hub.ErrTransient) || errors.Is(err, connector.ErrNotSent) || !strings.Contains(err.Error(), "timed out") {
			t.Errorf("%s: got %v, want a timeout of a request that was sent", path, err)
		}
	}
}

func TestUnsent(t *testing.T) {
	c := newTest(t, Config{Timeout: time.Second})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + closed.Addr().String()
	closed.Close()
	_, err = c.call(local("crm"), fixed(base, connector.Limit{}), Deliver)(t.Context(), connector.Request{Method: "POST", Path: "/"})
	var out *Error
	if !errors.As(err, &out) || !out.Unsent() || !errors.Is(err, hub.ErrTransient) {
		t.Errorf("refused connection: %v", err)
	}
	// A connection that is cut after the request was taken leaves everything open.
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		conn.Close()
	}))
	defer cut.Close()
	_, err = c.call(local("crm2"), fixed(cut.URL, connector.Limit{}), Deliver)(t.Context(), connector.Request{Method: "POST", Path: "/", Body: []byte("{}")})
	if !errors.As(err, &out) || out.Unsent() {
		t.Errorf("cut connection: %v", err)
	}
}

func TestTarget(t *testing.T) {
	v := vendor{base: func(host string) (string, error) {
		switch host {
		case "":
			return "https://api.example.com/v1", nil
		case "bare":
			return "https://api.example.com", nil
		case "user":
			return "https://user:pass@api.example.com", nil
		}
		return "", fmt.Errorf("no host: %w", hub.ErrInvalid)
	}}
	conn := &hub.Connection{Name: "crm"}
	for _, test := range []struct{ host, path, want string }{
		{"", "/contacts?q=a%20b", "https://api.example.com/v1/contacts?q=a%20b"},
		{"", "contacts", "https://api.example.com/v1/contacts"},
		{"bare", "/contacts/a%2Fb@example.com", "https://api.example.com/contacts/a%2Fb@example.com"},
		{"", "https://api.example.com/v2/next?page=2", "https://api.example.com/v2/next?page=2"},
		{"", "//evil.example/x", "https://api.example.com/v1/evil.example/x"},
		{"", "https://evil.example/x", ""},
		{"", "http://api.example.com/x", ""},
		{"", "https://api.example.com@evil.example/x", ""},
		{"", "/../admin", ""},
		{"", "/%2e%2e/admin", ""},
		{"user", "/", ""},
		{"unknown", "/", ""},
	} {
		got, err := v.target(conn, "GET", connector.Request{Host: test.host, Path: test.path})
		if text := str(got); text != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s %s: got %s, %v", test.host, test.path, text, err)
		}
	}
}

func str(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.String()
}

// Whatever goes wrong, no error holds a secret, a path or a query.
func TestErrorsTellNothing(t *testing.T) {
	const path, query = "/contacts/ada@example.com", "?api_key=q-secret-key"
	hidden := []string{secretToken, "ada@example.com", "q-secret-key", "answer-secret", "header-secret", "body-secret"}
	boom := func(err error) http.RoundTripper {
		return roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	}
	loud := fmt.Errorf("malformed HTTP response answer-secret %s%s %s", path, query, secretToken)
	transports := map[string]http.RoundTripper{
		"plain":     boom(loud),
		"url":       boom(&url.Error{Op: "Post", URL: "https://x" + path + query, Err: loud}),
		"op":        boom(&net.OpError{Op: "read", Err: loud}),
		"dns":       boom(&net.DNSError{Err: "answer-secret", Name: "q-secret-key"}),
		"deadline":  boom(fmt.Errorf("%w: %w", context.DeadlineExceeded, loud)),
		"eof":       boom(fmt.Errorf("%w %w", io.ErrUnexpectedEOF, loud)),
		"body":      roundTripper(func(r *http.Request) (*http.Response, error) { return answer(200, failing{loud}), nil }),
		"too large": roundTripper(func(r *http.Request) (*http.Response, error) { return answer(500, zeroes{}), nil }),
	}
	for name, transport := range transports {
		c := newTest(t, Config{Transport: transport})
		v := fixed("https://api.example.com", connector.Limit{})
		_, err := c.call(&hub.Connection{Name: "crm"}, v, Deliver)(t.Context(), connector.Request{
			Method: "POST", Path: path + query, Header: map[string]string{"X-Key": "header-secret"}, Body: []byte("body-secret"),
		})
		_, _, posted := c.Post(t.Context(), "https://sub.example.com"+path+query, http.Header{"X": {"header-secret"}}, []byte("body-secret"), false)
		if name == "too large" {
			posted = errors.New("none")
		}
		for _, err := range []error{err, posted} {
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			for _, h := range hidden {
				if text := fmt.Sprintf("%v %+v %q", err, err, err.Error()); strings.Contains(text, h) {
					t.Errorf("%s: error holds %q: %s", name, h, text)
				}
			}
		}
	}
	c := newTest(t, Config{})
	bad := fixed("https://api.example.com", connector.Limit{})
	bad.credentials.fixed = hub.NewSecret("line\nbreak-" + secretToken)
	for _, req := range []connector.Request{{Path: path + query + "\x00"}, {Path: "https://evil.example" + path + query}, {Method: "BAD METHOD " + secretToken, Path: "/"}, {Path: "/"}} {
		_, err := c.call(&hub.Connection{Name: "crm"}, bad, Deliver)(t.Context(), req)
		if err == nil {
			t.Errorf("%v: no error", req)
			continue
		}
		for _, h := range append(hidden, "evil.example"+path) {
			if req.Method != "" && h == secretToken {
				continue // a method is not a secret of ours
			}
			if strings.Contains(err.Error(), h) {
				t.Errorf("error holds %q: %v", h, err)
			}
		}
	}
}

// Answers of every status are passed on as they are, and none becomes an error that could tell something.
func TestEveryStatusIsAnAnswer(t *testing.T) {
	for status := 200; status < 600; status++ {
		c := newTest(t, Config{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(status, strings.NewReader("hello")), nil
		})})
		resp, err := c.call(&hub.Connection{Name: "crm"}, fixed("https://api.example.com", connector.Limit{}), Deliver)(t.Context(), connector.Request{Path: "/"})
		if err != nil || resp.Status != status || string(resp.Body) != "hello" {
			t.Errorf("%d: got %d, %q, %v", status, resp.Status, resp.Body, err)
		}
		if got, _, err := c.Post(t.Context(), "https://sub.example.com", http.Header{}, nil, false); err != nil || got != status {
			t.Errorf("%d: callback got %d, %v", status, got, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	secrets := map[string][]hub.Secret{"access_token": {hub.NewSecret("new"), hub.NewSecret("old")}, "password": {hub.NewSecret("pw")}}
	conn := &hub.Connection{Name: "crm", Settings: map[string]string{"user": "ada"}, Secrets: secrets}
	base := func(string) (string, error) { return "https://api.example.com", nil }
	for _, test := range []struct {
		auth         connector.Auth
		header, want string
	}{
		{connector.Auth{Header: "Authorization", Prefix: "Bearer ", Options: []connector.AuthOption{{Scheme: connector.AuthBearer, Secret: "access_token"}}}, "Authorization", "Bearer new"},
		{connector.Auth{Header: "X-Token", Options: []connector.AuthOption{{Scheme: connector.AuthHeader, Secret: "access_token"}}}, "X-Token", "new"},
		{connector.Auth{Header: "Authorization", Prefix: "Bearer ", Options: []connector.AuthOption{{Scheme: connector.AuthBasic, User: "user", Secret: "password"}}}, "Authorization", "Basic YWRhOnB3"},
		{connector.Auth{Header: "Authorization", Options: []connector.AuthOption{{Scheme: connector.AuthHeader, Secret: "other"}}}, "Authorization", ""},
		{connector.Auth{}, "Authorization", ""},
	} {
		a := credentialsOf(conn, test.auth, base)
		header := http.Header{}
		a.attach(header, "")
		if got := header.Get(test.header); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.auth, got, test.want)
		}
		if missing := len(test.auth.Options) > 0 && test.want == ""; a.missing != missing {
			t.Errorf("%+v: missing is %t", test.auth, a.missing)
		}
	}
	c := newTest(t, Config{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return answer(200, strings.NewReader("")), nil })})
	v := vendor{base: base, credentials: credentials{none: true, missing: true}}
	if _, err := c.call(conn, v, Deliver)(t.Context(), connector.Request{Path: "/"}); !errors.Is(err, hub.ErrUnauthenticated) || !errors.Is(err, connector.ErrNotSent) {
		t.Errorf("without credentials: %v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	return f(r)
}

func answer(status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(body), ProtoMajor: 1, ProtoMinor: 1}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// memory is a TokenStore of one process.
type memory struct {
	mu     sync.Mutex
	sealed map[string][]byte
	fail   error // of saving
	saves  int
}

func (m *memory) Token(_ context.Context, connection string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sealed[connection] == nil {
		return nil, hub.ErrNotFound
	}
	return m.sealed[connection], nil
}

func (m *memory) RefreshToken(_ context.Context, connection string, fn func([]byte) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	sealed, err := fn(m.sealed[connection])
	if err != nil {
		return err
	}
	if m.fail != nil {
		return m.fail
	}
	if m.sealed == nil {
		m.sealed = map[string][]byte{}
	}
	m.saves++
	m.sealed[connection] = sealed
	return nil
}
