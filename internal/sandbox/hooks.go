package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// hook is one webhook waiting to be sent, or sent again. HubSpot's are lists of events; everybody else's is one body.
type hook struct {
	vendor   string
	id       string            // the vendor's delivery id, the same on retries
	topic    string            // for the account of what was sent
	header   map[string]string // all but the signature's
	body     []byte            // the original bytes; HubSpot's are rendered at each attempt
	events   []map[string]any  // HubSpot only, at most 100
	echo     bool              // of an API write
	copy     bool              // a duplicate on purpose
	due      time.Time         // wire time
	attempts int               // failed so far
}

// queue is what one vendor has to send.
type queue struct {
	hooks    []*hook
	inflight int
	signal   chan struct{} // holds one token when something changed
	stats    Stats
	// Zendesk's circuit breaker: results of the last five minutes, and until when nothing is sent.
	results []result
	paused  time.Time
}

type result struct {
	at time.Time
	ok bool
}

func newQueue() *queue { return &queue{signal: make(chan struct{}, 1)} }

func (q *queue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// Stats counts one vendor's webhooks.
type Stats struct {
	Sent       int `json:"sent"`       // requests made for the first time, duplicates left out
	Duplicates int `json:"duplicates"` // requests made a second time on purpose
	Echoes     int `json:"echoes"`     // of Sent, those that tell of the hub's own writes
	Retries    int `json:"retries"`    // requests made again because the one before failed
	Accepted   int `json:"accepted"`   // requests answered 2xx
	Lost       int `json:"lost"`       // given up after the vendor's last retry, or dropped by a knob
	Events     int `json:"events"`     // facts in Sent: HubSpot puts many into one request
}

// Stats returns what a vendor has sent so far.
func (s *Sandbox) Stats(vendor string) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queues[vendor].stats
}

// Outstanding returns how many webhooks wait to be sent or retried or are on their way, echoes included.
func (s *Sandbox) Outstanding() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, q := range s.queues {
		n += len(q.hooks) + q.inflight
	}
	return n
}

// Idle reports whether no webhook is outstanding.
func (s *Sandbox) Idle() bool { return s.Outstanding() == 0 }

// enqueue puts a webhook into its vendor's queue, with the faults its knobs and the seed give it. The lock is held.
func (s *Sandbox) enqueue(h *hook) {
	if s.mute {
		return
	}
	h.echo = s.echo
	k, q, now := s.knobs[h.vendor], s.queues[h.vendor], s.cfg.Now()
	// Drawn from the webhook's own id: the same for a seed, whatever else happened in between.
	draw := rand.New(rand.NewPCG(s.cfg.Seed, hub.HashKey(h.vendor, h.id)))
	drop, hold, again := draw.Float64(), draw.Float64(), draw.Float64()
	if drop < k.Drop {
		q.stats.Lost++
		return
	}
	overtake := time.Duration(k.Overtake)
	if overtake <= 0 {
		overtake = 300 * time.Millisecond
	}
	h.due = now
	if k.Delay > 0 {
		h.due = h.due.Add(time.Duration(draw.Int64N(int64(k.Delay) + 1)))
	}
	if hold < k.Disorder {
		h.due = h.due.Add(overtake)
	}
	q.hooks = append(q.hooks, h)
	if again < k.Duplicates {
		twin := *h
		twin.copy = true
		twin.due = h.due.Add(time.Duration(draw.Int64N(int64(overtake) + 1)))
		q.hooks = append(q.hooks, &twin)
	}
	q.wake()
}

// senders is how many requests a vendor makes at once. HubSpot's is its documented default; the others promise no order either.
const senders = 10

// Run sends the queued webhooks and retries them as their vendors do, until ctx ends. What is on its way then goes back to the
// queue, so that a later Run sends it again. It returns nil when all it started has ended.
func (s *Sandbox) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, name := range Vendors {
		wg.Go(func() { s.dispatch(ctx, name) })
	}
	wg.Wait()
	return nil
}

func (s *Sandbox) dispatch(ctx context.Context, vendor string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, senders)
	q := s.queues[vendor]
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		h, wait := s.take(vendor)
		if h != nil {
			wg.Go(func() {
				defer func() { <-slots }()
				s.send(ctx, h)
			})
			continue
		}
		<-slots
		timer := time.NewTimer(wait)
		select {
		case <-q.signal:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// take removes the webhook that is due first from the queue, or says how long to wait. Of HubSpot it makes one batch of all fresh
// events that are due.
func (s *Sandbox) take(vendor string) (*hook, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, now := s.queues[vendor], s.cfg.Now()
	const long = time.Minute
	if len(q.hooks) == 0 || s.knobs[vendor].Hold || s.hub == "" {
		return nil, long
	}
	best := 0
	for i, h := range q.hooks {
		if h.due.Before(q.hooks[best].due) {
			best = i
		}
	}
	first := q.hooks[best]
	if wait := first.due.Sub(now); wait > 0 {
		return nil, min(wait, long)
	}
	q.hooks = slices.Delete(q.hooks, best, best+1)
	if vendor == HubSpot && first.attempts == 0 {
		batch := *first
		batch.events = slices.Clone(first.events)
		var rest []*hook
		for _, h := range q.hooks {
			// A twin never shares a batch with its original: two deliveries of one event are what it is for.
			if h.attempts == 0 && !h.due.After(now) && len(batch.events)+len(h.events) <= 100 && h.copy == first.copy && h.echo == first.echo {
				batch.events = append(batch.events, h.events...)
				continue
			}
			rest = append(rest, h)
		}
		q.hooks = rest
		if s.knobs[vendor].Disorder > 0 {
			draw := rand.New(rand.NewPCG(s.cfg.Seed, hub.HashKey("batch", batch.id)))
			draw.Shuffle(len(batch.events), func(i, j int) { batch.events[i], batch.events[j] = batch.events[j], batch.events[i] })
		}
		first = &batch
	}
	q.inflight++
	return first, 0
}

// timeouts are how long a vendor waits for an answer.
var timeouts = map[string]time.Duration{Shopify: 5 * time.Second, Zendesk: 12 * time.Second, HubSpot: 5 * time.Second, Zoho: 10 * time.Second}

// send makes one attempt and decides what becomes of the webhook.
func (s *Sandbox) send(ctx context.Context, h *hook) {
	s.mu.Lock()
	q := s.queues[h.vendor]
	now := s.cfg.Now()
	if now.Before(q.paused) { // Zendesk drops what comes while its circuit is open
		q.stats.Lost++
		q.inflight--
		s.mu.Unlock()
		return
	}
	target, signedAs := s.hub+s.cfg.Paths[h.vendor], s.public+s.cfg.Paths[h.vendor]
	s.mu.Unlock()

	status, header, err := s.post(ctx, h, target, signedAs, now)

	s.mu.Lock()
	defer s.mu.Unlock()
	q.inflight--
	if ctx.Err() != nil && err != nil {
		q.hooks = append(q.hooks, h)
		return
	}
	switch {
	case h.attempts > 0:
		q.stats.Retries++
	case h.copy:
		q.stats.Duplicates++
	default:
		q.stats.Sent++
		q.stats.Events += max(1, len(h.events))
		if h.echo {
			q.stats.Echoes += max(1, len(h.events))
		}
	}
	ok := err == nil && status >= 200 && status < 300
	if h.vendor == Zendesk {
		q.judge(s.cfg.Now(), ok)
	}
	if ok {
		q.stats.Accepted++
		return
	}
	draw := rand.New(rand.NewPCG(s.cfg.Seed, hub.HashKey("retry", h.id, strconv.Itoa(h.attempts))))
	wait, again := retryWait(h.vendor, h.attempts, status, header, err, draw, s.cfg.Compress)
	log := s.log.With("vendor", h.vendor, "topic", h.topic, "id", h.id, "status", status, "attempts", h.attempts+1)
	if !again {
		q.stats.Lost++
		log.Warn("webhook lost", "error", err)
		return
	}
	log.Info("webhook failed", "retry_in", wait, "error", err)
	h.attempts++
	h.due = s.cfg.Now().Add(wait)
	q.hooks = append(q.hooks, h)
	q.wake()
}

// judge keeps Zendesk's circuit breaker: over 70 % errors, of at least ten, or over 1,000 errors in five minutes pause it for 5 s.
func (q *queue) judge(now time.Time, ok bool) {
	q.results = append(q.results, result{now, ok})
	cut := 0
	for cut < len(q.results) && now.Sub(q.results[cut].at) > 5*time.Minute {
		cut++
	}
	q.results = q.results[cut:]
	failed := 0
	for _, r := range q.results {
		if !r.ok {
			failed++
		}
	}
	if failed > 1000 || (len(q.results) >= 10 && failed*10 > len(q.results)*7) {
		q.paused = now.Add(5 * time.Second)
		q.results = nil
	}
}

// post sends the webhook once, signed at the wire instant now.
func (s *Sandbox) post(ctx context.Context, h *hook, target, signedAs string, now time.Time) (int, http.Header, error) {
	body := h.body
	if h.events != nil {
		list := make([]map[string]any, len(h.events))
		for i, ev := range h.events {
			list[i] = map[string]any{"attemptNumber": h.attempts}
			maps.Copy(list[i], ev)
		}
		body = encode(list)
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts[h.vendor])
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for k, v := range h.header {
		req.Header[k] = []string{v} // as the vendor spells it
	}
	for k, v := range s.signature(h.vendor, signedAs, body, now) {
		req.Header[k] = []string{v}
	}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, res.Header, nil
}

// signature returns the headers that authenticate a webhook of a vendor. Zoho's are none: its token is in the body.
func (s *Sandbox) signature(vendor, url string, body []byte, now time.Time) map[string]string {
	account := s.cfg.Accounts[vendor]
	switch vendor {
	case Shopify:
		key := account["webhook_secret"]
		if key == "" {
			key = account["client_secret"]
		}
		return map[string]string{"X-Shopify-Hmac-Sha256": signShopify(key, body)}
	case Zendesk:
		at := now.UTC().Format("2006-01-02T15:04:05Z")
		return map[string]string{"X-Zendesk-Webhook-Signature-Timestamp": at, "X-Zendesk-Webhook-Signature": signZendesk(account["webhook_secret"], at, body)}
	case HubSpot:
		at := strconv.FormatInt(now.UnixMilli(), 10)
		return map[string]string{
			"X-HubSpot-Signature-Version": "v1", "X-HubSpot-Signature": signHubSpotV1(account["client_secret"], body),
			"X-HubSpot-Signature-v3": signHubSpotV3(account["client_secret"], http.MethodPost, url, body, at), "X-HubSpot-Request-Timestamp": at,
		}
	}
	return nil
}

// retryWait says whether and when a vendor sends a failed webhook again. attempts is how many failed before this one;
// compress shortens the vendor's own schedule, never a Retry-After, which is the receiver's.
func retryWait(vendor string, attempts, status int, header http.Header, err error, draw *rand.Rand, compress float64) (time.Duration, bool) {
	short := func(d time.Duration) time.Duration { return time.Duration(float64(d) / compress) }
	after, hasAfter := retryAfter(header)
	switch vendor {
	case Shopify: // 8 retries over 4 h, doubling from about a minute; Retry-After means nothing to it
		if attempts >= 8 {
			return 0, false
		}
		return short(4 * time.Hour / 255 << attempts), true
	case HubSpot: // up to 10, spread at random over 24 h; 429 with Retry-After is honoured
		if attempts >= 10 {
			return 0, false
		}
		if status == http.StatusTooManyRequests && hasAfter {
			return after, true
		}
		return short(time.Duration(draw.Int64N(int64(24*time.Hour/10))) + time.Minute), true
	case Zendesk:
		var timeout interface{ Timeout() bool }
		switch {
		case status == http.StatusConflict && attempts < 3:
			return short(10 * time.Second), true
		case (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) && hasAfter && after < time.Minute && attempts < 5:
			return after, true
		case err != nil && errors.As(err, &timeout) && timeout.Timeout() && attempts < 5:
			return short(10 * time.Second << attempts), true
		}
	}
	return 0, false // Zoho documents no retry: at most once
}

func retryAfter(header http.Header) (time.Duration, bool) {
	v := strings.TrimSpace(header.Get("Retry-After"))
	if v == "" {
		return 0, false
	}
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(n) * time.Second, n >= 0
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at)), true
	}
	return 0, false
}
