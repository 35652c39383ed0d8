package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds of what is read and how long it may take.
const (
	// MaxVendorBody is the most that is read of a vendor's answer, in bytes after decompression.
	MaxVendorBody = 4 << 20
	// MaxCallbackBody is the most that is read of a subscriber's answer, in bytes.
	MaxCallbackBody = 64 << 10
	// CallbackTimeout is how long a subscriber may take to answer.
	CallbackTimeout = 15 * time.Second
	// DefaultTimeout is how long one request to a vendor may take, answer included.
	DefaultTimeout = 30 * time.Second
	// DefaultPatience is how long a call waits for its connection's limiter before it gives up with Error.RetryAfter set.
	DefaultPatience = 5 * time.Second
)

// Config is what a Client needs.
type Config struct {
	Tokens     TokenStore // required where a connection uses OAuth
	Sealer     *Sealer    // required where a connection uses OAuth
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are not exported
	Now        func() time.Time      // wire time; nil: time.Now
	UserAgent  string                // "" for "stagewire"
	Timeout    time.Duration         // of one vendor request; 0: DefaultTimeout
	Patience   time.Duration         // 0: DefaultPatience
	// Transport replaces the network, address guard included. For tests alone.
	Transport http.RoundTripper
}

// Client sends requests. It is safe for concurrent use. Close it when nobody calls any more.
type Client struct {
	config    Config
	now       func() time.Time
	log       *slog.Logger
	userAgent string
	metrics   *metrics
	public    http.RoundTripper // refuses private addresses
	private   http.RoundTripper // allows them
	lines     [2]*lines         // for callbacks: the same two
	running   sync.WaitGroup

	mu          sync.Mutex
	connections map[string]*account
}

// account is what all callers of one connection share.
type account struct {
	limiter *limiter
	tokens  *tokens // nil without OAuth
	key     string  // what tokens was made with
}

// New makes a client.
func New(config Config) *Client {
	c := &Client{
		config:      config,
		now:         config.Now,
		log:         config.Log,
		userAgent:   cmp.Or(config.UserAgent, "stagewire"),
		metrics:     newMetrics(config.Registerer),
		public:      config.Transport,
		private:     config.Transport,
		connections: map[string]*account{},
	}
	c.config.Timeout = cmp.Or(config.Timeout, DefaultTimeout)
	c.config.Patience = cmp.Or(config.Patience, DefaultPatience)
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if config.Transport == nil {
		c.public, c.private = newTransport(false), newTransport(true)
		c.lines = [2]*lines{newLines(false), newLines(true)}
	}
	return c
}

// Close waits for token refreshes that outlived their callers and closes idle sockets.
func (c *Client) Close() {
	c.running.Wait()
	for _, t := range []http.RoundTripper{c.public, c.private} {
		if t, ok := t.(*http.Transport); ok {
			t.CloseIdleConnections()
		}
	}
	for _, l := range c.lines {
		if l != nil {
			l.close()
		}
	}
}

func (c *Client) transport(allowPrivate bool) http.RoundTripper {
	if allowPrivate {
		return c.private
	}
	return c.public
}

// Pause keeps every caller of the connection away for d, as a vendor asked for in the body of an answer.
func (c *Client) Pause(connection string, d time.Duration) {
	c.mu.Lock()
	a := c.connections[connection]
	c.mu.Unlock()
	if a != nil && d > 0 {
		a.limiter.pause(c.now().Add(min(d, maxRetryAfter)))
	}
}

// account returns what the callers of conn share, adapted to v.
func (c *Client) account(conn *hub.Connection, v vendor) *account {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.connections[conn.Name]
	if a == nil {
		a = &account{limiter: newLimiter(v.limit, c.now)}
		c.connections[conn.Name] = a
		c.metrics.known(conn.Name)
	} else {
		a.limiter.set(v.limit)
	}
	key := v.credentials.key(conn.AllowPrivate)
	if a.key == key {
		return a
	}
	// Callers that hold the account as it was go on with the old credentials.
	next := &account{limiter: a.limiter, key: key}
	if v.credentials.grant != "" {
		next.tokens = &tokens{
			connection: conn.Name, allowPrivate: conn.AllowPrivate, auth: v.credentials, store: c.config.Tokens, sealer: c.config.Sealer,
			now: c.now, log: c.log, metrics: c.metrics, running: &c.running,
			http: &http.Client{
				Transport:     tokenTransport{client: c, transport: c.transport(conn.AllowPrivate), json: v.credentials.json},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
				Timeout:       c.config.Timeout,
			},
		}
	}
	c.connections[conn.Name] = next
	return next
}

// call is one request of a connector.
type call struct {
	client   *Client
	conn     *hub.Connection
	vendor   vendor
	account  *account
	priority Priority
}

// do sends one request, with a second try after a forced refresh where the token was refused. A 401 says that nothing was done,
// so this is safe for creations too.
func (c *call) do(ctx context.Context, req connector.Request) (connector.Response, error) {
	method := cmp.Or(req.Method, http.MethodGet)
	target, err := c.vendor.target(c.conn, method, req)
	if err != nil {
		return connector.Response{}, err
	}
	if c.vendor.credentials.missing && !req.NoAuth {
		return connector.Response{}, tokenError(method, target.Host, fmt.Errorf("%w: %w", errNoCredentials, hub.ErrUnauthenticated))
	}
	began := c.client.now()
	wait, ok := c.account.limiter.take(ctx, c.priority, c.client.config.Patience)
	c.client.metrics.throttled.WithLabelValues(c.conn.Name).Add(c.client.now().Sub(began).Seconds())
	if !ok {
		if wait > 0 {
			return connector.Response{}, throttled(method, target.Host, wait)
		}
		return connector.Response{}, &Error{Method: method, Host: target.Host, reason: "time was up before its turn came", kind: hub.ErrTransient, unsent: true}
	}
	defer c.account.limiter.give()

	token := ""
	if c.account.tokens != nil && !req.NoAuth {
		if token, err = c.account.tokens.access(ctx, ""); err != nil {
			return connector.Response{}, tokenError(method, target.Host, err)
		}
	}
	resp, err := c.send(ctx, method, target, req, token)
	if err == nil && resp.Status == http.StatusUnauthorized && token != "" {
		if token, err = c.account.tokens.access(ctx, token); err != nil {
			return connector.Response{}, tokenError(method, target.Host, err)
		}
		resp, err = c.send(ctx, method, target, req, token)
	}
	return resp, err
}

// tokenError wraps why there is no token. Nothing was sent.
func tokenError(method, host string, err error) *Error {
	kind := hub.ErrTransient
	if errors.Is(err, hub.ErrUnauthenticated) {
		kind = hub.ErrUnauthenticated
	}
	return &Error{Method: method, Host: host, reason: err.Error(), kind: kind, unsent: true}
}

// send is one round trip.
func (c *call) send(ctx context.Context, method string, target *url.URL, in connector.Request, token string) (connector.Response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.client.config.Timeout, errTotalTimeout)
	defer cancel()
	var body io.Reader
	if in.Body != nil {
		body = bytes.NewReader(in.Body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://unset/", body)
	if err != nil {
		return connector.Response{}, invalidRequest(method, target.Host, "the method is not legal")
	}
	req.URL, req.Host = target, target.Host
	for name, value := range in.Header {
		req.Header.Set(name, value)
	}
	if in.ContentType != "" {
		req.Header.Set("Content-Type", in.ContentType)
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	req.Header.Set("User-Agent", c.client.userAgent)
	if !in.NoAuth {
		c.vendor.credentials.attach(req.Header, token)
	}
	began := c.client.now()
	resp, err := c.client.roundTrip(c.client.transport(c.conn.AllowPrivate), req)
	if err != nil {
		c.client.metrics.answered(c.conn.Name, 0, c.client.now().Sub(began))
		return connector.Response{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, MaxVendorBody+1))
	c.client.metrics.answered(c.conn.Name, resp.StatusCode, c.client.now().Sub(began))
	c.account.limiter.observe(resp.StatusCode, resp.Header)
	if err != nil {
		return connector.Response{}, transportError(method, target.Host, err, true)
	}
	if len(text) > MaxVendorBody {
		kind := hub.ErrTransient // it may have had an effect: whoever created something must look it up
		if method == http.MethodGet {
			kind = hub.ErrInvalid
		}
		return connector.Response{}, &Error{
			Method: method, Host: target.Host, kind: kind,
			reason: fmt.Sprintf("status %d with an answer of more than %d MiB", resp.StatusCode, MaxVendorBody>>20),
		}
	}
	return connector.Response{Status: resp.StatusCode, Header: resp.Header, Body: text}, nil
}

var errTotalTimeout = fmt.Errorf("the request's time is up: %w", context.DeadlineExceeded)

// roundTrip sends req once, following no redirect. Its error is an *Error.
func (c *Client) roundTrip(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	reached := true // a transport of a test does not tell
	var got atomic.Bool
	if c.config.Transport == nil {
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
		}))
		reached = false
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, transportError(req.Method, req.URL.Host, err, reached || got.Load())
	}
	return resp, nil
}

// Post sends one callback within CallbackTimeout. It follows no redirect and reads no more than MaxCallbackBody of the
// answer, whose text does not matter; a longer one closes the socket. The error is an *Error.
func (c *Client) Post(ctx context.Context, to string, header http.Header, body []byte, allowPrivate bool) (status int, retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, CallbackTimeout, errTotalTimeout)
	defer cancel()
	target, err := url.Parse(to)
	if err != nil || target.Host == "" || target.User != nil {
		return 0, 0, invalidRequest(http.MethodPost, "subscriber", "the URL is not an absolute http or https URL without a user")
	}
	if err := checkScheme(http.MethodPost, target, allowPrivate); err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://unset/", nil)
	if err != nil {
		return 0, 0, invalidRequest(http.MethodPost, target.Host, "the request cannot be made")
	}
	req.URL, req.Host = target, target.Host
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", c.userAgent)
	status, answered, reached, err := c.poster(allowPrivate)(req, body)
	if err != nil {
		return 0, 0, transportError(http.MethodPost, target.Host, err, reached)
	}
	return status, RetryAfter(answered, c.now()), nil
}

// poster returns what sends callbacks.
func (c *Client) poster(allowPrivate bool) func(*http.Request, []byte) (status int, header http.Header, reached bool, err error) {
	if c.config.Transport == nil {
		if allowPrivate {
			return c.lines[1].post
		}
		return c.lines[0].post
	}
	return func(req *http.Request, body []byte) (int, http.Header, bool, error) {
		req.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := c.config.Transport.RoundTrip(req)
		if err != nil {
			return 0, nil, true, err
		}
		defer resp.Body.Close()
		if _, err := io.CopyN(io.Discard, resp.Body, MaxCallbackBody); err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, true, err
		}
		return resp.StatusCode, resp.Header, true, nil
	}
}
