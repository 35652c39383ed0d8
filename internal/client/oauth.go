package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// TokenStore keeps one sealed token per connection.
type TokenStore interface {
	// Token returns the sealed OAuth token of connection; ErrNotFound when there is none.
	Token(ctx context.Context, connection string) ([]byte, error)
	// RefreshToken runs fn under the connection's row lock with the newest sealed token (nil for none) and saves what it returns
	// before anybody uses it: one refresh for all processes. fn asks the vendor and may take half a minute, so the lock must hold up nobody
	// but other refreshes of the same connection. Where saving fails the token is not used.
	RefreshToken(ctx context.Context, connection string, fn func(sealed []byte) ([]byte, error)) error
}

// refreshTimeout bounds one request for a token, lock included. It does not end with its caller: an answer that holds
// a rotated refresh token must be stored even if whoever asked has gone.
const refreshTimeout = 45 * time.Second

// early is how long before its end a token counts as ended, at most a tenth of its life.
const early = time.Minute

// storedToken is what is sealed. For says which credentials it was made with: changed ones in the configuration make it void.
type storedToken struct {
	Access  string    `json:"access"`
	Refresh string    `json:"refresh,omitempty"`
	Until   time.Time `json:"until,omitzero"` // zero: no end told
	Made    time.Time `json:"made"`
	For     string    `json:"for"`
}

func (t *storedToken) valid(now time.Time) bool {
	if t == nil || t.Access == "" {
		return false
	}
	return t.Until.IsZero() || now.Before(t.Until.Add(-min(early, t.Until.Sub(t.Made)/10)))
}

// tokens gives one connection's access token to all its callers.
type tokens struct {
	connection   string
	allowPrivate bool
	auth         credentials
	store        TokenStore
	sealer       *Sealer
	http         *http.Client
	now          func() time.Time
	log          *slog.Logger
	metrics      *metrics
	running      *sync.WaitGroup // of the client: refreshes that outlive their caller

	mu      sync.Mutex
	current *storedToken
	refresh *refresh // under way, nil for none
	failed  error    // of the newest refresh, kept for a moment
	retryAt time.Time
}

type refresh struct {
	done  chan struct{}
	token *storedToken
	err   error
}

// failureMemory is how long a failed refresh is not repeated: a revoked grant must not turn every delivery into a token request
// (Zoho locks an account after about ten in ten minutes).
const failureMemory = 5 * time.Second

// access returns a token that is not rejected and has not ended. The error wraps hub.ErrUnauthenticated where the vendor
// refused the grant, else hub.ErrTransient; it holds no secret.
func (t *tokens) access(ctx context.Context, rejected string) (string, error) {
	t.mu.Lock()
	if t.current.valid(t.now()) && t.current.Access != rejected {
		token := t.current.Access
		t.mu.Unlock()
		return token, nil
	}
	if t.failed != nil && t.now().Before(t.retryAt) {
		err := t.failed
		t.mu.Unlock()
		return "", err
	}
	r := t.refresh
	if r == nil {
		r = &refresh{done: make(chan struct{})}
		t.refresh = r
		t.running.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
			defer cancel()
			t.run(ctx, r, rejected)
		})
	}
	t.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for a token of %s: %w", t.connection, hub.ErrTransient)
	}
	if r.err != nil {
		return "", r.err
	}
	return r.token.Access, nil
}

func (t *tokens) run(ctx context.Context, r *refresh, rejected string) {
	r.token, r.err = t.renew(ctx, rejected)
	outcome := "ok"
	if r.err != nil {
		outcome = "error"
	}
	t.metrics.refreshes.WithLabelValues(t.connection, outcome).Inc()
	t.mu.Lock()
	t.refresh = nil
	t.failed = r.err
	if r.err == nil {
		t.current = r.token
	} else {
		t.retryAt = t.now().Add(failureMemory)
	}
	t.mu.Unlock()
	close(r.done)
}

// renew returns the stored token if it will do, else asks for a new one and stores it.
func (t *tokens) renew(ctx context.Context, rejected string) (*storedToken, error) {
	if sealed, err := t.store.Token(ctx, t.connection); err == nil {
		if stored := t.open(sealed); stored.valid(t.now()) && stored.Access != rejected {
			return stored, nil
		}
	}
	var got *storedToken
	err := t.store.RefreshToken(ctx, t.connection, func(sealed []byte) ([]byte, error) {
		got = nil
		stored := t.open(sealed)
		if stored.valid(t.now()) && stored.Access != rejected { // another process was faster
			got = stored
			return sealed, nil
		}
		fresh, err := t.ask(ctx, stored)
		if err != nil {
			return nil, err
		}
		plain, err := json.Marshal(fresh)
		if err != nil {
			return nil, fmt.Errorf("token of %s cannot be encoded: %w", t.connection, hub.ErrInvalid)
		}
		got = fresh
		return t.sealer.Seal(t.connection, plain), nil
	})
	if err != nil {
		return nil, fmt.Errorf("token of %s: %w", t.connection, err)
	}
	if got == nil {
		return nil, fmt.Errorf("token of %s: the store did not ask for one: %w", t.connection, hub.ErrTransient)
	}
	return got, nil
}

// open returns the token in sealed, nil where there is none, it cannot be read, or it was made with other credentials.
func (t *tokens) open(sealed []byte) *storedToken {
	if len(sealed) == 0 {
		return nil
	}
	plain, err := t.sealer.Open(t.connection, sealed)
	if err != nil {
		t.log.Warn("stored token is not readable and will be replaced", "connection", t.connection, "error", err.Error())
		return nil
	}
	var stored storedToken
	if json.Unmarshal(plain, &stored) != nil || stored.For != t.fingerprint() {
		return nil
	}
	return &stored
}

// fingerprint identifies the credentials of the configuration without telling them.
func (t *tokens) fingerprint() string {
	return hub.DeriveID("", t.auth.grant, t.auth.tokenURL, t.auth.clientID, t.auth.refresh.Reveal(), t.auth.scope)
}

// ask requests a new token from the vendor. Of several client secrets the newest comes first; an older one is tried only where
// the vendor refused the newer.
func (t *tokens) ask(ctx context.Context, stored *storedToken) (fresh *storedToken, err error) {
	if t.auth.tokenURL == "" {
		return nil, fmt.Errorf("token request: the token endpoint cannot be made of the connection's settings: %w", hub.ErrTransient)
	}
	if target, bad := url.Parse(t.auth.tokenURL); bad != nil || target.Host == "" || target.User != nil {
		return nil, fmt.Errorf("token request: the token endpoint is not an absolute URL without a user: %w", hub.ErrTransient)
	} else if err := checkScheme(http.MethodPost, target, t.allowPrivate); err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, t.http)
	var refreshTokens []string
	if stored != nil && stored.Refresh != "" {
		refreshTokens = append(refreshTokens, stored.Refresh)
	}
	if seed := t.auth.refresh.Reveal(); !slices.Contains(refreshTokens, seed) {
		refreshTokens = append(refreshTokens, seed) // the rotated one may be refused (a restored database): the configured one may still do
	}
	for _, secret := range t.auth.secrets {
		if t.auth.grant == connector.AuthClientCredentials {
			conf := clientcredentials.Config{
				ClientID: t.auth.clientID, ClientSecret: secret.Reveal(), TokenURL: t.auth.tokenURL,
				Scopes: strings.Fields(t.auth.scope), AuthStyle: oauth2.AuthStyleInParams,
			}
			if fresh, err = t.made(conf.Token(ctx)); err == nil || !errors.Is(err, hub.ErrUnauthenticated) {
				return fresh, err
			}
			continue
		}
		conf := oauth2.Config{
			ClientID: t.auth.clientID, ClientSecret: secret.Reveal(),
			Endpoint: oauth2.Endpoint{TokenURL: t.auth.tokenURL, AuthStyle: oauth2.AuthStyleInParams},
		}
		for _, refreshToken := range refreshTokens {
			fresh, err = t.made(conf.TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token())
			if err == nil || !errors.Is(err, hub.ErrUnauthenticated) {
				return fresh, err
			}
		}
	}
	return nil, err
}

// made turns the library's answer into ours. Its errors hold the vendor's whole answer, so only the OAuth error code is
// passed on, and that only where it is one.
func (t *tokens) made(token *oauth2.Token, err error) (*storedToken, error) {
	if err != nil {
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) {
			if ours, ok := errors.AsType[*Error](err); ok {
				return nil, ours
			}
			return nil, fmt.Errorf("token request: the answer is not a token: %w", hub.ErrTransient)
		}
		status := 0
		if refused.Response != nil {
			status = refused.Response.StatusCode
		}
		kind := hub.ErrUnauthenticated
		if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout ||
			refused.ErrorCode == "temporarily_unavailable" || refused.ErrorCode == "server_error" {
			kind = hub.ErrTransient
		}
		return nil, fmt.Errorf("token request: status %d%s: %w", status, errorCode(refused.ErrorCode), kind)
	}
	now := t.now()
	made := &storedToken{Access: token.AccessToken, Refresh: token.RefreshToken, Made: now, For: t.fingerprint()}
	if token.ExpiresIn > 0 {
		made.Until = now.Add(time.Duration(token.ExpiresIn) * time.Second)
	}
	return made, nil
}

// errorCode returns code for an error text if it looks like one of RFC 6749, 5.2.
func errorCode(code string) string {
	if code == "" || len(code) > 40 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return " " + code
}

// tokenTransport sends token requests: through the guard, with errors that hold no URL, and as JSON where the vendor's
// token endpoint takes no form (Zendesk).
type tokenTransport struct {
	client    *Client
	transport http.RoundTripper
	json      bool
}

func (t tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.json {
		form, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, invalidRequest(req.Method, req.URL.Host, "token request cannot be read")
		}
		values, err := url.ParseQuery(string(form))
		if err != nil {
			return nil, invalidRequest(req.Method, req.URL.Host, "token request cannot be read")
		}
		object := make(map[string]string, len(values))
		for name := range values {
			object[name] = values.Get(name)
		}
		body, err := json.Marshal(object, json.Deterministic(true))
		if err != nil {
			return nil, invalidRequest(req.Method, req.URL.Host, "token request cannot be encoded")
		}
		req = req.Clone(req.Context())
		req.Header.Set("Content-Type", "application/json")
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		req.GetBody = nil
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", t.client.userAgent)
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		return nil, transportError(req.Method, req.URL.Host, err, true)
	}
	return resp, nil
}
