package client

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/stagewire/stagewire/internal/hub"
)

// lines posts callbacks over HTTP/1.1 sockets that are kept open. A hub sends one callback for each event and more, to a few receivers, so that
// the three goroutines of net/http's transport, and what they hand each other, cost as much as the events' decisions; here the
// caller's own goroutine writes and reads. net/http still reads the answer. Vendors are called through its transport.
type lines struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	tls  *tls.Config

	mu    sync.Mutex
	hosts map[string]*host // by scheme and address
	idle  int              // lines that nobody uses
	sweep *time.Timer      // nil while there is none
}

// host is one receiver's address.
type host struct {
	slots chan struct{} // one token for each line in use
	idle  []*line       // the one used last at the end
}

// line is one socket, used by one caller at a time.
type line struct {
	conn  net.Conn
	left  io.LimitedReader // of conn: what may still be read
	in    *bufio.Reader
	out   []byte    // the last request
	since time.Time // when it was used last
}

const (
	maxIdleLines     = 4 * connectionsPerHost
	maxAnswerHeader  = 64 << 10
	maxKeptRequest   = 16 << 10 // bytes of memory that a line keeps for its next request
	maxInformational = 5        // answers of 1xx before the real one
)

func newLines(allowPrivate bool) *lines {
	return &lines{
		dial: newDialer(allowPrivate).DialContext, tls: &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		hosts: map[string]*host{},
	}
}

// post sends req with body and returns the answer's status and header. It reads no more than MaxCallbackBody of what follows, which
// does not matter; a line with more of it is closed. reached says whether the host was connected to.
//
// A line that was kept may turn out to be closed by the other side, before or as the request arrives. Then it is sent once more over
// a new one: receivers of callbacks know repetitions by their id.
func (l *lines) post(req *http.Request, body []byte) (status int, header http.Header, reached bool, err error) {
	ctx := req.Context()
	name, err := asciiHost(req.URL)
	if err != nil {
		return 0, nil, false, err
	}
	req.Host = name
	address := dialled(req.URL.Scheme, name)
	h := l.host(req.URL.Scheme + " " + address)
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, nil, false, context.Cause(ctx)
	}
	defer func() { <-h.slots }()
	for kept := l.take(h); ; kept = nil {
		used := kept
		if used == nil {
			if used, err = l.open(ctx, req.URL, address); err != nil {
				return 0, nil, reached, within(ctx, err)
			}
		}
		reached = true
		status, header, again, err := used.exchange(ctx, req, body)
		switch {
		case err == nil && again:
			l.put(h, used)
			return status, header, true, nil
		case err == nil:
			used.close()
			return status, header, true, nil
		}
		silent := used.left.N == maxAnswerHeader
		used.close()
		if timeout := net.Error(nil); kept == nil || !silent || ctx.Err() != nil || (errors.As(err, &timeout) && timeout.Timeout()) {
			return 0, nil, true, within(ctx, err)
		}
	}
}

// within prefers the reason why ctx ended to what came of it.
func within(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// asciiHost returns the host, and the port if there is one, as they are sent: names in their ASCII form.
func asciiHost(target *url.URL) (string, error) {
	if strings.IndexFunc(target.Host, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return target.Host, nil
	}
	name, err := idna.Lookup.ToASCII(target.Hostname())
	if err != nil {
		return "", invalidRequest(http.MethodPost, target.Host, "the host name is not legal")
	}
	if port := target.Port(); port != "" {
		name = net.JoinHostPort(name, port)
	}
	return name, nil
}

// dialled returns host with a port.
func dialled(scheme, host string) string {
	u := url.URL{Host: host}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
}

func (l *lines) host(key string) *host {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hosts[key]
	if h == nil {
		h = &host{slots: make(chan struct{}, connectionsPerHost)}
		if l.hosts != nil { // else it is closed
			l.hosts[key] = h
		}
	}
	return h
}

// open connects.
func (l *lines) open(ctx context.Context, target *url.URL, address string) (*line, error) {
	conn, err := l.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if target.Scheme == "https" {
		config := l.tls.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address)
		secure := tls.Client(conn, config)
		ctx, cancel := context.WithTimeoutCause(ctx, tlsTimeout, errTotalTimeout)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // nothing was sent
			return nil, within(ctx, err)
		}
		conn = secure
	}
	n := &line{conn: conn, left: io.LimitedReader{R: conn}}
	n.in = bufio.NewReader(&n.left)
	return n, nil
}

// take returns the line that was used last, nil where none is kept.
func (l *lines) take(h *host) *line {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(h.idle)
	if n == 0 {
		return nil
	}
	last := h.idle[n-1]
	h.idle = h.idle[:n-1]
	l.idle--
	return last
}

// put keeps a line for the next callback, for idleTimeout.
func (l *lines) put(h *host, n *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle >= maxIdleLines || l.hosts == nil { // nil: closed
		n.close()
		return
	}
	n.since = time.Now()
	h.idle = append(h.idle, n)
	l.idle++
	if l.sweep == nil {
		l.sweep = time.AfterFunc(idleTimeout, func() { l.expire(time.Now().Add(-idleTimeout)) })
	}
}

// expire closes what was used last before then, and forgets hosts that have no line.
func (l *lines) expire(then time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, h := range l.hosts {
		before := len(h.idle)
		h.idle = slices.DeleteFunc(h.idle, func(n *line) bool {
			if n.since.After(then) {
				return false
			}
			n.close()
			return true
		})
		l.idle -= before - len(h.idle)
		if len(h.idle) == 0 && len(h.slots) == 0 {
			delete(l.hosts, key)
		}
	}
	if l.sweep = nil; l.idle > 0 {
		l.sweep = time.AfterFunc(idleTimeout, func() { l.expire(time.Now().Add(-idleTimeout)) })
	}
}

// close closes what is kept; lines in use are closed as their callbacks end.
func (l *lines) close() {
	l.expire(time.Now())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = nil
	if l.sweep != nil {
		l.sweep.Stop()
	}
}

func (n *line) close() { _ = n.conn.Close() } // nothing is sent by it

// exchange sends one request and reads the answer. again says whether the line may be used for another.
func (n *line) exchange(ctx context.Context, req *http.Request, body []byte) (status int, header http.Header, again bool, err error) {
	deadline, _ := ctx.Deadline()
	if err := n.conn.SetDeadline(deadline); err != nil {
		return 0, nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = n.conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		again = stop() && again
	}()
	n.left.N = maxAnswerHeader
	if err := n.write(req, body); err != nil {
		return 0, nil, false, err
	}
	var answer *http.Response
	for range maxInformational {
		answer, err = http.ReadResponse(n.in, req) //nolint:bodyclose // a body holds nothing but the line, and to close it would be to read it to its end
		if err != nil || answer.StatusCode >= 200 || answer.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) && n.left.N == maxAnswerHeader {
			err = io.EOF
		}
		return 0, nil, false, err
	}
	if answer.StatusCode < 200 {
		return 0, nil, false, &Error{Method: req.Method, Host: req.Host, kind: hub.ErrTransient, reason: "status " + strconv.Itoa(answer.StatusCode) + " is no answer"}
	}
	n.left.N = MaxCallbackBody + maxAnswerHeader // with the frames of a chunked one
	_, err = io.CopyN(io.Discard, answer.Body, MaxCallbackBody)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, false, err
	}
	whole := err != nil
	return answer.StatusCode, answer.Header, whole && !answer.Close && n.in.Buffered() == 0, nil
}

// write sends a POST (RFC 9112, 3 and 6.2).
func (n *line) write(req *http.Request, body []byte) error {
	b := append(append(append(append(n.out[:0], "POST "...), req.URL.RequestURI()...), " HTTP/1.1\r\nHost: "...), req.Host...)
	for name, values := range req.Header {
		for _, value := range values {
			if strings.ContainsAny(value, "\r\n\x00") {
				return errHeader
			}
			b = append(append(append(append(b, "\r\n"...), name...), ": "...), value...)
		}
	}
	b = append(strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(body)), 10), "\r\n\r\n"...)
	b = append(b, body...)
	_, err := n.conn.Write(b)
	if n.out = b; cap(b) > maxKeptRequest {
		n.out = nil
	}
	return err
}

var errHeader = errors.New("a header value is not legal")
