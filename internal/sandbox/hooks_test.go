package sandbox

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// send plays a step of each vendor and runs the sandbox against a receiver.
func sendAll(t *testing.T, r *receiver, change ...func(*Config)) *bench {
	t.Helper()
	b := newBench(t, append([]func(*Config){func(c *Config) { c.Hub, c.PublicURL, c.Now = r.url, "https://hub.example.com", time.Now }}, change...)...)
	for _, v := range Vendors {
		b.play(Step{Vendor: v, Do: "customer.created", Customer: "ada@example.com", Name: "Ada Example"})
	}
	b.run()
	return b
}

// What arrives is signed over exactly the bytes that arrive, at wire time, with the vendor's headers.
func TestWebhooksArriveSigned(t *testing.T) {
	r := newReceiver(t)
	b := sendAll(t, r)
	seen := map[string]bool{}
	for _, got := range r.all() {
		seen[got.path] = true
		h := got.header
		switch got.path {
		case "/hooks/shop":
			if !hmac.Equal([]byte(h.Get("X-Shopify-Hmac-Sha256")), []byte(signShopify("sandbox-shopify-secret", got.body))) || h.Get("X-Shopify-Topic") != "customers/create" ||
				h.Get("X-Shopify-Triggered-At") != "2026-03-02T09:30:00.000000000Z" || h.Get("X-Shopify-Event-Id") == "" || h.Get("X-Shopify-Webhook-Id") == h.Get("X-Shopify-Event-Id") {
				t.Errorf("shopify: %v", h)
			}
		case "/hooks/desk":
			at := h.Get("X-Zendesk-Webhook-Signature-Timestamp")
			signed, err := time.Parse(time.RFC3339, at)
			if err != nil || time.Since(signed).Abs() > time.Minute || h.Get("X-Zendesk-Webhook-Signature") != signZendesk("sandbox-zendesk-secret", at, got.body) {
				t.Errorf("zendesk: %v", h)
			}
			if !strings.Contains(string(got.body), `"time":"2026-03-02T09:30:00.000Z"`) {
				t.Errorf("zendesk is not stamped with the story's clock: %s", got.body)
			}
		case "/hooks/crm":
			at := h.Get("X-HubSpot-Request-Timestamp")
			want := signHubSpotV3("sandbox-hubspot-secret", "POST", "https://hub.example.com/hooks/crm", got.body, at)
			if h.Get("X-HubSpot-Signature-v3") != want || h.Get("X-HubSpot-Signature") != signHubSpotV1("sandbox-hubspot-secret", got.body) {
				t.Errorf("hubspot: %v", h)
			}
			if !strings.HasPrefix(string(got.body), `[{`) || !strings.Contains(string(got.body), fmt.Sprint(`"occurredAt":`, story0.UnixMilli())) {
				t.Errorf("hubspot: %s", got.body)
			}
		case "/hooks/zoho":
			if !strings.Contains(string(got.body), `"token":"sandbox-zoho-token"`) {
				t.Errorf("zoho: %s", got.body)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("only %v arrived", seen)
	}
	if s := b.Stats(Shopify); s != (Stats{Sent: 1, Accepted: 1, Events: 1}) {
		t.Errorf("%+v", s)
	}
}

func TestRetrySchedules(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	after := func(s string) http.Header { return http.Header{"Retry-After": {s}} }
	timeout := &timeoutError{}
	for name, tc := range map[string]struct {
		vendor   string
		attempts int
		status   int
		header   http.Header
		err      error
		want     bool
		min, max time.Duration
	}{
		"shopify's first":            {Shopify, 0, 500, nil, nil, true, 50 * time.Second, time.Minute},
		"shopify's eighth":           {Shopify, 7, 401, nil, nil, true, 2 * time.Hour, 2*time.Hour + 5*time.Minute},
		"shopify gives up":           {Shopify, 8, 500, nil, nil, false, 0, 0},
		"shopify ignores the header": {Shopify, 0, 503, after("3600"), nil, true, 50 * time.Second, time.Minute},
		"hubspot retries a 404":      {HubSpot, 0, 404, nil, nil, true, time.Minute, 3 * time.Hour},
		"hubspot honours 429":        {HubSpot, 0, 429, after("7"), nil, true, 7 * time.Second, 7 * time.Second},
		"hubspot gives up":           {HubSpot, 10, 500, nil, nil, false, 0, 0},
		"zendesk drops a 500":        {Zendesk, 0, 500, nil, nil, false, 0, 0},
		"zendesk drops a bare 503":   {Zendesk, 0, 503, nil, nil, false, 0, 0},
		"zendesk honours 503":        {Zendesk, 0, 503, after("30"), nil, true, 30 * time.Second, 30 * time.Second},
		"zendesk waits no minute":    {Zendesk, 0, 503, after("60"), nil, false, 0, 0},
		"zendesk repeats 409":        {Zendesk, 2, 409, nil, nil, true, time.Second, time.Minute},
		"zendesk repeats 409 thrice": {Zendesk, 3, 409, nil, nil, false, 0, 0},
		"zendesk repeats a time-out": {Zendesk, 4, 0, nil, timeout, true, time.Second, 5 * time.Minute},
		"zendesk drops refused":      {Zendesk, 0, 0, nil, errors.New("connection refused"), false, 0, 0},
		"zoho never":                 {Zoho, 0, 503, after("1"), nil, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			wait, again := retryWait(tc.vendor, tc.attempts, tc.status, tc.header, tc.err, draw, 1)
			if again != tc.want || wait < tc.min || wait > tc.max {
				t.Errorf("got %s %v", wait, again)
			}
		})
	}
	total := time.Duration(0)
	for i := range 8 {
		wait, _ := retryWait(Shopify, i, 500, nil, nil, draw, 1)
		total += wait
	}
	if total < 4*time.Hour-time.Minute || total > 4*time.Hour {
		t.Errorf("Shopify's retries take %s, not 4 h", total)
	}
	if wait, _ := retryWait(Shopify, 0, 500, nil, nil, draw, 1000); wait > 100*time.Millisecond {
		t.Errorf("compressed: %s", wait)
	}
}

type timeoutError struct{}

func (*timeoutError) Error() string { return "timeout" }
func (*timeoutError) Timeout() bool { return true }

// A retry has the same ids and body; HubSpot's has a higher attemptNumber.
func TestRetriesRepeatTheOriginal(t *testing.T) {
	r := newReceiver(t)
	failed := map[string]bool{}
	r.answer = func(n int) (int, map[string]string) {
		path := r.got[n-1].path
		if failed[path] {
			return 200, nil
		}
		failed[path] = true
		return 503, map[string]string{"Retry-After": "0"}
	}
	b := sendAll(t, r, func(c *Config) { c.Compress = 1e6 })
	byPath := map[string][]received{}
	for _, got := range r.all() {
		byPath[got.path] = append(byPath[got.path], got)
	}
	shop := byPath["/hooks/shop"]
	if len(shop) != 2 || string(shop[0].body) != string(shop[1].body) || shop[0].header.Get("X-Shopify-Webhook-Id") != shop[1].header.Get("X-Shopify-Webhook-Id") {
		t.Errorf("shopify: %d", len(shop))
	}
	desk := byPath["/hooks/desk"]
	if len(desk) != 2 || desk[0].header.Get("X-Zendesk-Webhook-Invocation-Id") != desk[1].header.Get("X-Zendesk-Webhook-Invocation-Id") {
		t.Errorf("zendesk: %d", len(desk))
	}
	if crm := byPath["/hooks/crm"]; len(crm) != 2 || !strings.Contains(string(crm[0].body), `"attemptNumber":0`) || !strings.Contains(string(crm[1].body), `"attemptNumber":1`) {
		t.Errorf("hubspot: %d", len(crm))
	}
	if len(byPath["/hooks/zoho"]) != 1 || b.Stats(Zoho).Lost != 1 {
		t.Errorf("zoho is told once and lost: %d", len(byPath["/hooks/zoho"]))
	}
	if s := b.Stats(Shopify); s.Sent != 1 || s.Retries != 1 || s.Accepted != 1 {
		t.Errorf("%+v", s)
	}
}

func TestKnobsOfWebhooks(t *testing.T) {
	t.Run("duplicates", func(t *testing.T) {
		r := newReceiver(t)
		b := sendAll(t, r, func(c *Config) {
			c.Knobs = map[string]Knobs{Shopify: {Duplicates: 1, Overtake: Span(time.Millisecond)}, HubSpot: {Duplicates: 1, Overtake: Span(time.Millisecond)}}
		})
		if s, h := b.Stats(Shopify), b.Stats(HubSpot); s.Sent != 1 || s.Duplicates != 1 || s.Accepted != 2 || h.Duplicates != 1 {
			t.Errorf("%+v %+v", s, h)
		}
	})
	t.Run("disorder", func(t *testing.T) {
		r := newReceiver(t)
		b := newBench(t, func(c *Config) { c.Hub, c.Now = r.url, time.Now })
		b.Set(Shopify, func(k *Knobs) { k.Disorder, k.Overtake = 1, Span(50*time.Millisecond) })
		b.play(Step{Vendor: Shopify, Do: "customer.created", Customer: "a@example.com"})
		b.Set(Shopify, func(k *Knobs) { k.Disorder = 0 })
		b.play(Step{Vendor: Shopify, Do: "customer.created", Customer: "b@example.com"})
		b.run()
		if got := r.all(); len(got) != 2 || !strings.Contains(string(got[0].body), "b@example.com") {
			t.Errorf("not overtaken")
		}
	})
	t.Run("drop", func(t *testing.T) {
		r := newReceiver(t)
		b := sendAll(t, r, func(c *Config) { c.Knobs = map[string]Knobs{Shopify: {Drop: 1}} })
		if len(r.all()) != 3 || b.Stats(Shopify).Lost != 1 {
			t.Errorf("%d arrived", len(r.all()))
		}
	})
	t.Run("hold", func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.Hub = "http://127.0.0.1:1" })
		b.Set("", func(k *Knobs) { k.Hold = true })
		b.play(Step{Vendor: Shopify, Do: "customer.created", Customer: "a@example.com"})
		if h, _ := b.take(Shopify); h != nil || b.Idle() {
			t.Error("sent while held, or not counted")
		}
		b.Set("", func(k *Knobs) { k.Hold = false })
		if h, _ := b.take(Shopify); h == nil || b.Outstanding() != 1 {
			t.Error("not sent when let go, or not counted on its way")
		}
	})
}

// Without a hub nothing is sent; what waits goes out once there is one.
func TestHubThatComesLater(t *testing.T) {
	r := newReceiver(t)
	b := newBench(t, func(c *Config) { c.Now = time.Now })
	b.play(Step{Vendor: Shopify, Do: "customer.created", Customer: "a@example.com"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.SetHub(r.url+"/", "")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for !b.Idle() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never sent")
		}
	}
	cancel()
	if err := <-done; err != nil || len(r.all()) != 1 {
		t.Errorf("%v, %d arrived", err, len(r.all()))
	}
}

// HubSpot puts up to 100 fresh events into one request, and no event meets its own duplicate there.
func TestHubSpotSendsBatches(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Hub = "http://127.0.0.1:1" })
	for i := range 150 {
		b.play(Step{Vendor: HubSpot, Do: "customer.created", Customer: fmt.Sprintf("c%d@example.com", i)})
	}
	var sizes []int
	for {
		h, _ := b.take(HubSpot)
		if h == nil {
			break
		}
		sizes = append(sizes, len(h.events))
	}
	if !slices.Equal(sizes, []int{100, 50}) {
		t.Errorf("batches of %v", sizes)
	}
}

// Zendesk stops sending for a while when most calls fail, and loses what comes meanwhile.
func TestZendeskCircuitBreaker(t *testing.T) {
	q, now := newQueue(), story0
	for range 9 {
		q.judge(now, false)
	}
	if !q.paused.IsZero() {
		t.Fatal("paused too early")
	}
	q.judge(now, true)
	if q.paused.Sub(now) != 5*time.Second {
		t.Errorf("not paused: %s", q.paused)
	}
}

func TestKnobsOfTheAPI(t *testing.T) {
	b, id := crmBench(t)
	get := func() reply { return b.call("GET", hubAPI+"/objects/contacts/"+id, nil) }
	patch := func(value string) (res reply, lost bool) {
		defer func() {
			if err, ok := recover().(error); ok && errors.Is(err, http.ErrAbortHandler) {
				lost = true
			}
		}()
		return b.call("PATCH", hubAPI+"/objects/contacts/"+id, props("firstname", value)), false
	}
	b.Set(HubSpot, func(k *Knobs) { k.Hydration = true })
	if got := get(); got.status != 503 {
		t.Errorf("hydration: %d", got.status)
	}
	if got, _ := patch("x"); got.status != 200 {
		t.Errorf("a write during a hydration outage: %d", got.status)
	}
	b.Set(HubSpot, func(k *Knobs) { k.Hydration, k.LoseAnswers = false, 1 })
	if _, lost := patch("applied"); !lost {
		t.Error("the answer was not lost")
	}
	if b.State()[HubSpot].Customers[0].Fields["firstname"] != "applied" {
		t.Error("the lost write was not applied")
	}
	b.Set(HubSpot, func(k *Knobs) { k.LoseAnswers, k.Refuse = 0, true })
	if _, lost := patch("not applied"); !lost || b.State()[HubSpot].Customers[0].Fields["firstname"] != "applied" {
		t.Error("refused is answered, or applied")
	}
	b.Set(HubSpot, func(k *Knobs) { k.Refuse, k.Outage = false, true })
	if got := get(); got.status != 503 {
		t.Errorf("outage: %d", got.status)
	}
	if got := b.call("GET", "/zendesk/api/v2/users/me", nil); got.status != 200 {
		t.Errorf("another vendor suffers: %d", got.status)
	}
}

func TestControlAndState(t *testing.T) {
	b, _ := crmBench(t)
	got := b.call("POST", "/control", map[string]any{"vendor": "zoho", "outage": true, "token_life": "2s"})
	if got.status != 200 || got.at("zoho-crm.outage") != true || got.at("zoho-crm.token_life") != "2s" || got.at("hubspot.outage") != false {
		t.Errorf("%d %s", got.status, got.text)
	}
	got = b.call("POST", "/control", map[string]any{"vendor": "zoho-crm", "duplicates": 0.5})
	if got.at("zoho-crm.outage") != true || got.at("zoho-crm.duplicates") != 0.5 {
		t.Errorf("what is not named does not stay: %s", got.text)
	}
	for body, want := range map[string]int{`{"vendor":"sap"}`: 404, `{"outrage":true}`: 400, `{`: 400} {
		if got := b.call("POST", "/control", body); got.status != want {
			t.Errorf("%s: %d", body, got.status)
		}
	}
	b.call("POST", "/hubspot/oauth/v1/token", "grant_type=refresh_token&client_secret=sandbox-hubspot-secret&refresh_token=sandbox-hubspot-refresh")
	state := b.call("GET", "/state", nil)
	for _, secret := range []string{"sandbox-hubspot-secret", "sandbox-hubspot-refresh", "fixed-token"} {
		if strings.Contains(state.text, secret) {
			t.Errorf("the state shows %s", secret)
		}
	}
	for _, path := range []string{"hubspot.customers.0.fields.lifecyclestage", "hubspot.requests.0.method", "shopify.tasks", "zendesk.tickets", "zoho-crm.notes"} {
		if state.at(path) == nil {
			t.Errorf("no %s in the state: %s", path, state.text)
		}
	}
}

// The real thing over a socket: a lost answer closes the connection.
func TestLostAnswerOverASocket(t *testing.T) {
	b, id := crmBench(t)
	srv := httptest.NewServer(b.handler)
	defer srv.Close()
	b.Set(HubSpot, func(k *Knobs) { k.LoseAnswers = 1 })
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPatch, srv.URL+hubAPI+"/objects/contacts/"+id, strings.NewReader(`{"properties":{"firstname":"applied"}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer fixed-token")
	req.Header.Set("Content-Type", "application/json")
	if res, err := http.DefaultClient.Do(req); err == nil {
		_ = res.Body.Close()
		t.Errorf("answered %d", res.StatusCode)
	}
	if b.State()[HubSpot].Customers[0].Fields["firstname"] != "applied" {
		t.Error("not applied")
	}
}

func TestKnobsReadAndWriteAsJSON(t *testing.T) {
	in := Knobs{Duplicates: 0.25, Delay: Span(1500 * time.Millisecond), SourceID: "1"}
	var out Knobs
	if err := json.Unmarshal(encode(in), &out); err != nil || out != in {
		t.Errorf("%v %+v", err, out)
	}
}
