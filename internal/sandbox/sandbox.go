package sandbox

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/hub"
)

// The vendors played, by the name of their connector.
const (
	Shopify = "shopify"
	Zendesk = "zendesk"
	HubSpot = "hubspot"
	Zoho    = "zoho-crm"
)

// Vendors lists the vendors played.
var Vendors = []string{Shopify, Zendesk, HubSpot, Zoho}

// maxBody bounds a request to the API, in bytes.
const maxBody = 4 << 20

// maxRequests bounds the log of requests kept per vendor.
const maxRequests = 2000

// Config is what a sandbox needs. Zero fields take the defaults named.
type Config struct {
	// Hub is the base URL that webhooks go to, without a trailing slash: "http://127.0.0.1:8080". SetHub sets it later.
	Hub string
	// PublicURL is the base URL that HubSpot believes it calls; its signature covers it. Default: Hub.
	PublicURL string
	// Paths is where each vendor's webhooks go below Hub. Default: /hooks/shop, /hooks/desk, /hooks/crm, /hooks/zoho.
	Paths map[string]string
	// Accounts holds each vendor's account under the keys of a connection (API.md): shop, client_id, client_secret,
	// access_token, webhook_secret, subdomain, app_id, refresh_token, token, integration_user. Default: DefaultAccounts.
	Accounts map[string]map[string]string
	// Now is wire time: signatures, token expiry, limits, retries. Default: time.Now.
	Now func() time.Time
	// Business is the story's clock, with which bodies are stamped, echoes too. Default: Now.
	Business func() time.Time
	// Seed decides every random choice. It is logged.
	Seed uint64
	// Compress divides the waits between a vendor's retries: 3600 makes an hour a second. Default 1, the vendor's own schedule.
	Compress float64
	// Knobs are the faults to begin with, by vendor.
	Knobs map[string]Knobs
	// Transport sends the webhooks. Default: a transport of its own.
	Transport http.RoundTripper
	Log       *slog.Logger
}

// DefaultAccounts returns accounts whose secrets are fixed and public: good for a sandbox, never for anything else.
func DefaultAccounts() map[string]map[string]string {
	return map[string]map[string]string{
		Shopify: {"shop": "example-shop.myshopify.com", "client_id": "sandbox-shop", "client_secret": "sandbox-shopify-secret"},
		Zendesk: {
			"subdomain": "example", "webhook_secret": "sandbox-zendesk-secret", "client_id": "sandbox-desk", "client_secret": "sandbox-zendesk-client",
			"integration_user": digits(zendeskIntegration),
		},
		HubSpot: {"app_id": "54321001", "client_id": "sandbox-crm", "client_secret": "sandbox-hubspot-secret", "refresh_token": "sandbox-hubspot-refresh"},
		Zoho: {
			"region": "eu", "client_id": "1000.SANDBOX", "client_secret": "sandbox-zoho-secret", "refresh_token": "1000.sandbox-zoho-refresh",
			"token": "sandbox-zoho-token", "integration_user": zohoApp.id,
		},
	}
}

// secretKeys are the account keys whose values never appear in the request log.
var secretKeys = []string{"client_secret", "access_token", "webhook_secret", "refresh_token", "token"}

// vendor is one outside system. All methods are called under the sandbox's lock.
type vendor interface {
	// serve answers one API call.
	serve(r *request) response
	// reads reports whether the call only reads records, for the hydration knob.
	reads(r *request) bool
	// play applies one step of a story at business time at.
	play(step Step, at time.Time) error
	// state shows what the vendor holds; the requests are added by the sandbox.
	state() VendorState
}

// Sandbox plays the vendors. Its methods may be called from several goroutines.
type Sandbox struct {
	cfg    Config
	log    *slog.Logger
	client *http.Client

	mu       sync.Mutex
	hub      string
	public   string
	vendors  map[string]vendor
	knobs    map[string]Knobs
	counters map[string]int64
	tokens   map[string]map[string]time.Time // vendor → token → expiry, wire time
	windows  map[string][]time.Time          // limit name → times of calls in the window
	requests map[string][]Request
	queues   map[string]*queue
	echo     bool // what is enqueued now is the echo of an API write
	mute     bool // what happens now is told to nobody
	mask     *strings.Replacer
	chance   *rand.Rand // for faults of the API, whose order the hub decides anyway
}

// New makes a sandbox. It sends nothing until Run.
func New(cfg Config) *Sandbox {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Business == nil {
		cfg.Business = cfg.Now
	}
	if cfg.Compress <= 0 {
		cfg.Compress = 1
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second}
	}
	paths := map[string]string{Shopify: "/hooks/shop", Zendesk: "/hooks/desk", HubSpot: "/hooks/crm", Zoho: "/hooks/zoho"}
	maps.Copy(paths, cfg.Paths)
	cfg.Paths = paths
	accounts := DefaultAccounts()
	maps.Copy(accounts, cfg.Accounts)
	cfg.Accounts = accounts
	s := &Sandbox{
		cfg: cfg, log: cfg.Log,
		client: &http.Client{Transport: cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		knobs:  map[string]Knobs{}, counters: map[string]int64{}, tokens: map[string]map[string]time.Time{},
		windows: map[string][]time.Time{}, requests: map[string][]Request{}, queues: map[string]*queue{},
		chance: rand.New(rand.NewPCG(cfg.Seed, 0x5a4db0c5)),
	}
	var pairs []string
	for _, account := range accounts {
		for _, key := range secretKeys {
			if v := account[key]; v != "" {
				pairs = append(pairs, v, "[secret]")
				if esc := url.QueryEscape(v); esc != v {
					pairs = append(pairs, esc, "[secret]")
				}
			}
		}
	}
	s.mask = strings.NewReplacer(pairs...)
	for _, name := range Vendors {
		s.knobs[name] = cfg.Knobs[name]
		s.tokens[name] = map[string]time.Time{}
		s.queues[name] = newQueue()
	}
	s.vendors = map[string]vendor{Shopify: newShopify(s), Zendesk: newZendesk(s), HubSpot: newHubSpot(s), Zoho: newZoho(s)}
	s.SetHub(cfg.Hub, cfg.PublicURL)
	s.log.Info("sandbox", "seed", cfg.Seed)
	return s
}

// Seed returns the seed of all random choices.
func (s *Sandbox) Seed() uint64 { return s.cfg.Seed }

// Account returns a copy of a vendor's account, under the keys of a connection.
func (s *Sandbox) Account(vendor string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, s.cfg.Accounts[vendor])
	return out
}

// SetHub sets where webhooks go, and what HubSpot's signature believes that URL is ("" for the same).
func (s *Sandbox) SetHub(base, public string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hub = strings.TrimRight(base, "/")
	if public == "" {
		public = base
	}
	s.public = strings.TrimRight(public, "/")
	for _, q := range s.queues {
		q.wake() // what waited for an address
	}
}

// Prefix returns the path below which a vendor's API is served: "/shopify", "/zendesk", "/hubspot", "/zoho".
func Prefix(vendor string) string {
	if vendor == Zoho {
		return "/zoho"
	}
	return "/" + vendor
}

// Handler serves the vendors' APIs below their prefixes, GET /state, and GET and POST /control.
func (s *Sandbox) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, name := range Vendors {
		mux.Handle(Prefix(name)+"/", s.api(name, Prefix(name)))
	}
	mux.Handle("/zoho-crm/", s.api(Zoho, "/zoho-crm"))
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.State())
	})
	mux.HandleFunc("GET /control", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.AllKnobs())
	})
	mux.HandleFunc("POST /control", s.control)
	return mux
}

// request is an API call as a vendor sees it.
type request struct {
	method, path string // path below the vendor's prefix
	query        url.Values
	header       http.Header
	body         []byte
	wire         time.Time
	business     time.Time
	base         string // the vendor's own base URL as it was called
}

// bearer returns the token after the given scheme in Authorization, "" where there is none.
func (r *request) bearer(scheme string) string {
	token, ok := strings.CutPrefix(r.header.Get("Authorization"), scheme+" ")
	if !ok {
		return ""
	}
	return token
}

// response is what a vendor answers.
type response struct {
	status int
	header map[string]string
	body   []byte
}

// with returns the response with one more header.
func (r response) with(name, value string) response {
	if r.header == nil {
		r.header = map[string]string{}
	}
	r.header[name] = value
	return r
}

// answer returns v as a JSON response.
func answer(status int, v any) response {
	return response{status: status, body: encode(v), header: map[string]string{"Content-Type": "application/json;charset=UTF-8"}}
}

// encode returns v as JSON with sorted keys. Everything the sandbox encodes is made of maps, slices and scalars of its own,
// or of text that was decoded as JSON, so it cannot fail.
func encode(v any) []byte {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic(fmt.Sprintf("sandbox: encode: %v", err))
	}
	return b
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(v))
}

// api serves one vendor: faults first, then the vendor itself, then the log.
func (s *Sandbox) api(name, prefix string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		body, err := io.ReadAll(io.LimitReader(hr.Body, maxBody+1))
		if err != nil {
			return
		}
		if len(body) > maxBody {
			http.Error(w, "request entity too large", http.StatusRequestEntityTooLarge)
			return
		}
		r := &request{
			method: hr.Method, path: strings.TrimPrefix(hr.URL.Path, prefix), query: hr.URL.Query(),
			header: hr.Header, body: body, wire: s.cfg.Now(), business: s.cfg.Business(),
			base: "http://" + hr.Host + prefix,
		}
		res, wait, lost := s.handle(hr.Context(), name, r)
		if wait > 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-hr.Context().Done():
				return
			}
		}
		if lost {
			panic(http.ErrAbortHandler) // the connection closes without an answer
		}
		for k, v := range res.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(res.status)
		if res.status != http.StatusNoContent && res.status != http.StatusNotModified {
			_, _ = w.Write(res.body)
		}
	})
}

// handle answers one call, and says how long to wait with the answer and whether to lose it.
func (s *Sandbox) handle(_ context.Context, name string, r *request) (res response, wait time.Duration, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.knobs[name]
	v := s.vendors[name]
	switch {
	case k.Refuse:
		lost = true
		res = response{status: 0}
	case k.Outage:
		res = answer(http.StatusServiceUnavailable, map[string]any{"message": "Service Unavailable"})
	case k.Hydration && v.reads(r):
		res = answer(http.StatusServiceUnavailable, map[string]any{"message": "Service Unavailable"})
	default:
		s.echo = true
		defer func() { s.echo = false }()
		res = v.serve(r)
		lost = !v.reads(r) && k.LoseAnswers > 0 && s.chance.Float64() < k.LoseAnswers
	}
	logged := s.requests[name]
	if len(logged) >= maxRequests {
		logged = slices.Delete(logged, 0, maxRequests/4)
	}
	path := r.path
	if len(r.query) > 0 {
		path += "?" + s.mask.Replace(r.query.Encode())
	}
	s.requests[name] = append(logged, Request{At: r.wire.UTC(), Method: r.method, Path: path, Status: res.status, Body: s.mask.Replace(strings.ToValidUTF8(string(r.body), "\uFFFD"))})
	return res, time.Duration(k.Slow), lost
}

// next returns the next number of a counter, from 1.
func (s *Sandbox) next(counter string) int64 {
	s.counters[counter]++
	return s.counters[counter]
}

// issue makes an access token that lives for the vendor's own time, or what the knob says.
func (s *Sandbox) issue(vendor, prefix string, life time.Duration, now time.Time) (token string, expiresIn int) {
	if k := time.Duration(s.knobs[vendor].TokenLife); k > 0 {
		life = k
	}
	n := s.next("token/" + vendor)
	token = prefix + hub.DeriveID("", vendor, fmt.Sprint(s.cfg.Seed), fmt.Sprint(n))
	s.tokens[vendor][token] = now.Add(life)
	return token, int(life / time.Second)
}

// tokenValid reports whether token is the account's fixed one or was issued and has not expired.
func (s *Sandbox) tokenValid(vendor, token string, now time.Time) bool {
	if token == "" {
		return false
	}
	if token == s.cfg.Accounts[vendor]["access_token"] {
		return true
	}
	expiry, ok := s.tokens[vendor][token]
	return ok && now.Before(expiry)
}

// allow counts a call against a rolling window. wait is the time until the next call is allowed.
func (s *Sandbox) allow(name string, limit int, window time.Duration, now time.Time) (left int, wait time.Duration, ok bool) {
	times := s.windows[name]
	cut := 0
	for cut < len(times) && !times[cut].After(now.Add(-window)) {
		cut++
	}
	times = times[cut:]
	if len(times) >= limit {
		s.windows[name] = times
		return 0, times[0].Add(window).Sub(now), false
	}
	s.windows[name] = append(times, now)
	return limit - len(times) - 1, 0, true
}

// limit returns the knob's rate limit, or the vendor's own.
func (s *Sandbox) limit(vendor string, own int) int {
	if n := s.knobs[vendor].Limit; n > 0 {
		return n
	}
	return own
}
