package app

import (
	"io"
	"maps"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/stagewire/stagewire/internal/hub"
)

// Receiver is a third party that takes callbacks, as one would be written: it verifies with the public library of Standard
// Webhooks, not with our own code, and dedupes on the id.
type Receiver struct {
	verify *standardwebhooks.Webhook
	told   func(Callback)

	mu         sync.Mutex
	byID       map[string]Callback
	order      []string
	verified   int
	duplicates int
	forged     int
	tests      int
}

// Callback is what a receiver reads of one.
type Callback struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Subject  string `json:"subject"`
	Sequence string `json:"sequence"`
	Previous string `json:"previous"`
	Data     struct {
		Model string `json:"model"`
		From  string `json:"from"`
		To    string `json:"to"`
	} `json:"data"`

	Model, From, To string `json:"-"`
}

// NewReceiver makes a receiver that knows the subscription's secret. told, if set, hears of each callback once.
func NewReceiver(secret hub.Secret, told func(Callback)) *Receiver {
	verify, err := standardwebhooks.NewWebhook(secret.Reveal())
	if err != nil {
		verify = nil // every callback then counts as forged
	}
	return &Receiver{verify: verify, told: told, byID: map[string]Callback{}}
}

// ServeHTTP takes one callback.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 64<<10))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	if r.verify == nil || r.verify.Verify(body, req.Header) != nil {
		r.mu.Lock()
		r.forged++
		r.mu.Unlock()
		http.Error(w, "signature", http.StatusUnauthorized)
		return
	}
	var c Callback
	if err := json.Unmarshal(body, &c); err != nil {
		http.Error(w, "not a callback", http.StatusBadRequest)
		return
	}
	c.Model, c.From, c.To = c.Data.Model, c.Data.From, c.Data.To
	r.mu.Lock()
	fresh := false
	switch _, seen := r.byID[c.ID]; {
	case c.Type == "stagewire.subscription.test.v1":
		r.tests++
	case seen:
		r.duplicates++
	default:
		fresh = true
		r.verified++
		r.byID[c.ID] = c
		r.order = append(r.order, c.ID)
	}
	r.mu.Unlock()
	if fresh && r.told != nil {
		r.told(c)
	}
	w.WriteHeader(http.StatusOK)
}

// Received returns the callbacks by id.
func (r *Receiver) Received() map[string]Callback {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]Callback, len(r.byID))
	maps.Copy(out, r.byID)
	return out
}

// Counts returns how many callbacks were verified, came again, and were refused.
func (r *Receiver) Counts() (verified, duplicates, forged int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.verified, r.duplicates, r.forged
}
