package client

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Callbacks to one receiver share a socket. One that the receiver has closed meanwhile costs nothing but a new one.
func TestLinesAreKept(t *testing.T) {
	var opened, served atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "{}" {
			t.Errorf("received %q, %v", body, err)
		}
		served.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := newTest(t, Config{})
	post := func() {
		t.Helper()
		if status, _, err := c.Post(t.Context(), server.URL+"/hook", http.Header{}, []byte("{}"), true); err != nil || status != http.StatusNoContent {
			t.Fatalf("%d, %v", status, err)
		}
	}
	for range 20 {
		post()
	}
	if opened.Load() != 1 {
		t.Errorf("%d sockets for one after the other", opened.Load())
	}
	server.CloseClientConnections()
	post()
	if opened.Load() != 2 || served.Load() != 21 {
		t.Errorf("%d sockets, %d callbacks", opened.Load(), served.Load())
	}
	l := c.lines[1]
	l.expire(time.Now().Add(-time.Hour))
	if l.idle != 1 || len(l.hosts) != 1 {
		t.Errorf("used just now, but %d idle of %d hosts", l.idle, len(l.hosts))
	}
	l.expire(time.Now())
	if l.idle != 0 || len(l.hosts) != 0 {
		t.Errorf("%d idle of %d hosts are left", l.idle, len(l.hosts))
	}
	post()
	if opened.Load() != 3 {
		t.Errorf("%d sockets after the old one expired", opened.Load())
	}
}

// rawReceiver answers the n-th request of all with what answer gives, and closes the socket after an answer that ends in "CLOSE".
func rawReceiver(t *testing.T, answer func(n int, request string) string) string {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	t.Cleanup(func() { _ = socket.Close(); wait.Wait() })
	var n atomic.Int32
	wait.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					body, _ := io.ReadAll(req.Body)
					text, last := strings.CutSuffix(answer(int(n.Add(1)), req.Method+" "+req.RequestURI+" "+req.Host+" "+req.UserAgent()+" "+string(body)), "CLOSE")
					if _, err := io.WriteString(conn, text); err != nil || last {
						return
					}
				}
			})
		}
	})
	return "http://" + socket.Addr().String()
}

func TestAnswersOfReceivers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, test := range map[string]struct {
		answer string
		status int
		reason string // of the error
		kept   bool   // the socket takes another request
	}{
		"length":              {answer: ok, status: 200, kept: true},
		"no content":          {answer: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, kept: true},
		"chunks":              {answer: "HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", status: 500, kept: true},
		"early hints":         {answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok, status: 200, kept: true},
		"asks to close":       {answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", status: 200},
		"until it closes":     {answer: "HTTP/1.1 200 OK\r\n\r\nokCLOSE", status: 200},
		"old":                 {answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nokCLOSE", status: 200},
		"long":                {answer: "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat("x", MaxCallbackBody+1), status: 200},
		"more than announced": {answer: ok + "HTTP/1.1 200 OK\r\n\r\n", status: 200},
		"another protocol":    {answer: "HTTP/1.1 101 Switching Protocols\r\n\r\n", reason: "status 101 is no answer"},
		"hints without end":   {answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9), reason: "status 103 is no answer"},
		"not HTTP":            {answer: "secret\r\n\r\n", reason: "request failed"},
		"cut in its header":   {answer: "HTTP/1.1 200 OK\r\nContent-LeCLOSE", reason: "request failed"},
		"cut in its body":     {answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nokCLOSE", reason: "connection closed before the answer was complete"},
		"nothing":             {answer: "CLOSE", reason: "connection closed before the answer was complete"},
		"a header of 70 KB":   {answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", reason: "connection closed before the answer was complete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			url := rawReceiver(t, func(_ int, request string) string {
				requests.Add(1)
				if want := "POST /a%20b?c=d " + request[strings.Index(request, "127."):strings.Index(request, " stagewire")] + " stagewire {}"; request != want {
					t.Errorf("received %q, want %q", request, want)
				}
				return test.answer
			})
			c := newTest(t, Config{})
			status, _, err := c.Post(t.Context(), url+"/a b?c=d", http.Header{"Webhook-Id": {"evt_1"}}, []byte("{}"), true)
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if failed := (*Error)(nil); test.reason == "" && err != nil || test.reason != "" && (!errors.As(err, &failed) || failed.reason != test.reason || failed.Unsent() || !errors.Is(err, hub.ErrTransient)) {
				t.Errorf("got %v, want %q of a request that was sent", err, test.reason)
			}
			if kept := c.lines[1].idle == 1; kept != test.kept {
				t.Errorf("kept: %v", kept)
			}
			if requests.Load() != 1 {
				t.Errorf("sent %d times", requests.Load())
			}
		})
	}
}

// Who closes a kept socket instead of answering gets the callback once more over a new one, and not again.
func TestKeptLineFails(t *testing.T) {
	for name, test := range map[string]struct {
		second string
		want   string
		sent   int32
	}{
		"closed":           {"CLOSE", "", 3},
		"closed half-way":  {"HTTP/1.1 2CLOSE", "request failed", 2},
		"closed each time": {"CLOSE again", "connection closed before the answer was complete", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int32
			url := rawReceiver(t, func(n int, _ string) string {
				sent.Add(1)
				switch {
				case n == 2, n > 2 && test.second == "CLOSE again":
					return strings.TrimSuffix(test.second, " again")
				}
				return "HTTP/1.1 204 No Content\r\n\r\n"
			})
			c := newTest(t, Config{})
			if _, _, err := c.Post(t.Context(), url, http.Header{}, nil, true); err != nil {
				t.Fatal(err)
			}
			_, _, err := c.Post(t.Context(), url, http.Header{}, nil, true)
			if got := reasonOf(err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if sent.Load() != test.sent {
				t.Errorf("sent %d times, want %d", sent.Load(), test.sent)
			}
		})
	}
}

func reasonOf(err error) string {
	failed := (*Error)(nil)
	if errors.As(err, &failed) {
		return failed.reason
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestCallbackEndsWithItsContext(t *testing.T) {
	reached := make(chan struct{}, 1)
	hold := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{}; <-hold }))
	defer server.Close()
	defer close(hold)
	c := newTest(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if _, _, err := c.Post(ctx, server.URL, http.Header{}, nil, true); reasonOf(err) != "cancelled" {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, _, err := c.Post(ctx, server.URL, http.Header{}, nil, true); reasonOf(err) != "timed out" {
		t.Errorf("late: %v", err)
	}
	if _, _, err := c.Post(ctx, server.URL, http.Header{}, nil, true); reasonOf(err) != "timed out" || !errors.Is(err, errNotSent) {
		t.Errorf("too late: %v", err)
	}
	if c.lines[1].idle != 0 {
		t.Error("a socket was kept whose answer is outstanding")
	}
}

// Nothing of a request with a line break in a header is sent, and the socket is good for the next.
func TestHeaderOfCallbackCannotBreakOut(t *testing.T) {
	var served atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	defer server.Close()
	c := newTest(t, Config{})
	for _, value := range []string{"a\r\nX: y", "a\nb", "a\x00"} {
		if _, _, err := c.Post(t.Context(), server.URL, http.Header{"Webhook-Id": {value}}, nil, true); !strings.HasPrefix(reasonOf(err), "a header value is not legal") {
			t.Errorf("%q: %v", value, err)
		}
	}
	if _, _, err := c.Post(t.Context(), server.URL, http.Header{"Webhook-Id": {"a"}}, nil, true); err != nil || served.Load() != 1 {
		t.Errorf("%d served, %v", served.Load(), err)
	}
}

func TestCallbackOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.TLS == nil {
			t.Errorf("%s, %v", r.Proto, r.TLS)
		}
	}))
	server.Config.ErrorLog = nil
	defer server.Close()
	c := newTest(t, Config{})
	if _, _, err := c.Post(t.Context(), server.URL, http.Header{}, nil, true); reasonOf(err) != "certificate of an unknown authority" || !errors.Is(err, errNotSent) {
		t.Errorf("unknown: %v", err)
	}
	c.lines[1].tls.RootCAs = x509.NewCertPool()
	c.lines[1].tls.RootCAs.AddCert(server.Certificate())
	for range 2 {
		if status, _, err := c.Post(t.Context(), server.URL, http.Header{}, []byte("{}"), true); err != nil || status != 200 {
			t.Errorf("known: %d, %v", status, err)
		}
	}
	name := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	if _, _, err := c.Post(t.Context(), name, http.Header{}, nil, true); reasonOf(err) != "certificate is for another host name" {
		t.Errorf("another name: %v", err)
	}
}

// A receiver never has more sockets than connectionsPerHost, however many callbacks wait for it, and closing them at any time loses none.
func TestManyCallbacks(t *testing.T) {
	var open, most, served atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if served.Add(1)%7 == 0 {
			w.Header().Set("Connection", "close")
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	defer server.Close()
	c := newTest(t, Config{})
	var wait sync.WaitGroup
	for range 4 * connectionsPerHost {
		wait.Go(func() {
			for range 5 {
				if status, _, err := c.Post(t.Context(), server.URL, http.Header{}, []byte("{}"), true); err != nil || status != 200 {
					t.Errorf("%d, %v", status, err)
				}
			}
		})
	}
	wait.Wait()
	if n := served.Load(); n != 20*connectionsPerHost {
		t.Errorf("%d served", n)
	}
	// The receiver may learn of a closed socket after it has seen the next one.
	if n := most.Load(); n > 2*connectionsPerHost {
		t.Errorf("%d sockets at once", n)
	}
}

func TestAddress(t *testing.T) {
	for text, want := range map[string][2]string{
		"https://example.com/x": {"example.com", "example.com:443"}, "http://example.com": {"example.com", "example.com:80"},
		"https://example.com:8443": {"example.com:8443", "example.com:8443"}, "http://[::1]:8080/": {"[::1]:8080", "[::1]:8080"}, "http://[::1]/": {"[::1]", "[::1]:80"},
		"https://bücher.example": {"xn--bcher-kva.example", "xn--bcher-kva.example:443"}, "http://例え.jp:81": {"xn--r8jz45g.jp:81", "xn--r8jz45g.jp:81"},
	} {
		target, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		name, err := asciiHost(target)
		if got := [2]string{name, dialled(target.Scheme, name)}; err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if _, err := asciiHost(&url.URL{Scheme: "https", Host: "\u200dü.example"}); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("no name: %v", err)
	}
}

// A receiver is named to itself as it is resolved.
func TestHostOfCallback(t *testing.T) {
	var got atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Host) }))
	defer server.Close()
	c := newTest(t, Config{})
	c.lines[1].dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "xn--bcher-kva.example:8080" {
			t.Errorf("dialled %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	if _, _, err := c.Post(t.Context(), "http://bücher.example:8080/", http.Header{}, nil, true); err != nil || got.Load() != "xn--bcher-kva.example:8080" {
		t.Errorf("said to be %v, %v", got.Load(), err)
	}
}

func BenchmarkPost(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	c := newTest(b, Config{})
	body := []byte(strings.Repeat("x", 1000))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.Post(b.Context(), server.URL, http.Header{"Webhook-Id": {"evt_1"}}, body, true); err != nil {
			b.Fatal(err)
		}
	}
}

// Whatever a receiver answers ends in a status or an error, after a bounded read, and a line is only kept when nothing is left on it.
func FuzzAnswerOfAReceiver(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nRetry-After: 5\r\nConnection: close\r\n\r\nrest", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/0.9", "", "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		var wait sync.WaitGroup
		wait.Go(func() {
			defer theirs.Close()
			if req, err := http.ReadRequest(bufio.NewReader(theirs)); err != nil || req.Header.Get("Webhook-Id") != "evt_1" {
				t.Errorf("request: %v", err)
				return
			}
			_, _ = theirs.Write(answer) // it need not be read to its end
		})
		defer wait.Wait()
		defer ours.Close()
		read := &counting{Reader: ours}
		n := &line{conn: ours, left: io.LimitedReader{R: read}}
		n.in = bufio.NewReader(&n.left)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/hook", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Webhook-Id", "evt_1")
		status, _, again, err := n.exchange(ctx, req, []byte("{}"))
		if ctx.Err() != nil {
			t.Errorf("waited for an answer that had ended: %v", err)
		}
		if (err == nil) != (status >= 200) || (again && (err != nil || n.in.Buffered() > 0)) {
			t.Errorf("status %d, again %v, %v", status, again, err)
		}
		if read.n > MaxCallbackBody+2*maxAnswerHeader {
			t.Errorf("read %d bytes", read.n)
		}
		if reason := reasonOf(transportError(http.MethodPost, "127.0.0.1", err, true)); err != nil && len(reason) > 100 {
			t.Errorf("reason %q", reason)
		}
	})
}

type counting struct {
	io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}
