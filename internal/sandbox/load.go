package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/govalues/decimal"
	"golang.org/x/time/rate"

	"github.com/stagewire/stagewire/internal/hub"
)

// LoadConfig describes a stream of paid orders, for crash, outage and speed tests.
type LoadConfig struct {
	Vendor    string  // Shopify
	Rate      float64 // webhooks a second; 0: as fast as Workers can
	Workers   int     // requests at the same time; default 16
	Customers int     // how many people the orders are spread over; default 100
	Orders    int     // stop after so many; 0: when ctx ends
	Seed      uint64  // decides customers and amounts; default the sandbox's
	// Start and Step are the business times of the first order and between two; default the story's clock for each.
	Start time.Time
	Step  time.Duration
	// Retry repeats a webhook that was not acknowledged, after this wait, until it is or ctx ends; 0: never.
	Retry time.Duration
	// Also names vendors that know the same people by e-mail address without telling anybody, so that the hub finds
	// records there to write to.
	Also []string
	// Duplicates is the probability that an acknowledged webhook is sent again.
	Duplicates float64
	// Acknowledged, if set, is called for each webhook as it is acknowledged, from several goroutines.
	Acknowledged func(LoadedOrder)
}

// LoadedOrder is one order that was sent.
type LoadedOrder struct {
	WebhookID  string    `json:"webhook_id"` // X-Shopify-Webhook-Id
	EventID    string    `json:"event_id"`   // X-Shopify-Event-Id
	OrderID    string    `json:"order_id"`
	CustomerID string    `json:"customer_id"`
	Email      string    `json:"email"`
	Amount     string    `json:"amount"`
	Currency   string    `json:"currency"`
	OccurredAt time.Time `json:"occurred_at"` // business time, whole seconds
	Attempts   int       `json:"attempts"`
	Status     int       `json:"status"` // of the last answer; 0: none
}

// LoadReport is what became of a load.
type LoadReport struct {
	Acknowledged []LoadedOrder `json:"acknowledged"` // answered 2xx: the hub owes an event for each
	Refused      []LoadedOrder `json:"refused"`      // answered, but not 2xx, last time
	Unknown      []LoadedOrder `json:"unknown"`      // no answer: stored or not
	Duration     time.Duration `json:"-"`
}

// Load sends signed orders/paid webhooks straight to the hub, past the queue and its faults, until ctx ends or Orders are
// sent. It returns when every request it made has ended. Ids depend on the seed and the number of the order alone, so a second
// Load with the same seed repeats the first.
func (s *Sandbox) Load(ctx context.Context, cfg LoadConfig) (*LoadReport, error) {
	if cfg.Vendor != "" && cfg.Vendor != Shopify {
		return nil, fmt.Errorf("load: %s sends no orders: %w", cfg.Vendor, hub.ErrInvalid)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 16
	}
	if cfg.Customers <= 0 {
		cfg.Customers = 100
	}
	if cfg.Seed == 0 {
		cfg.Seed = s.cfg.Seed
	}
	limiter := rate.NewLimiter(rate.Inf, 1)
	if cfg.Rate > 0 {
		limiter = rate.NewLimiter(rate.Limit(cfg.Rate), max(1, int(cfg.Rate/100)))
	}
	people, err := s.loadPeople(cfg)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	var (
		mu     sync.Mutex
		report LoadReport
		next   int
		wg     sync.WaitGroup
	)
	for range cfg.Workers {
		wg.Go(func() {
			for limiter.Wait(ctx) == nil {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if cfg.Orders > 0 && n >= cfg.Orders {
					return
				}
				o := s.loadOne(ctx, cfg, people, n)
				if o == nil {
					return
				}
				mu.Lock()
				switch {
				case o.Status >= 200 && o.Status < 300:
					report.Acknowledged = append(report.Acknowledged, *o)
				case o.Status == 0:
					report.Unknown = append(report.Unknown, *o)
				default:
					report.Refused = append(report.Refused, *o)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	report.Duration = time.Since(begin)
	if err := ctx.Err(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return &report, err
	}
	return &report, nil
}

// loadPeople makes the customers of a load, known to the shop so that the hub can write to them.
func (s *Sandbox) loadPeople(cfg LoadConfig) ([]*shopCustomer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = true
	defer func() { s.mute = false }()
	v := s.vendors[Shopify].(*shopify)
	people := make([]*shopCustomer, cfg.Customers)
	at := s.cfg.Business()
	if !cfg.Start.IsZero() {
		at = cfg.Start
	}
	for i := range people {
		id := 7_100_000_000_000 + int64(cfg.Seed%1000)*1_000_000 + int64(i)
		c := v.customers[id]
		if c == nil {
			c = &shopCustomer{
				id: id, email: fmt.Sprintf("load-%d-%d@example.com", cfg.Seed, i), first: "Load", last: strconv.Itoa(i), metafields: map[string]metafield{},
				created: at, updated: at, consent: "not_subscribed", currency: "EUR",
			}
			v.customers[id] = c
			v.index(c)
			for _, name := range cfg.Also {
				other := s.vendors[name]
				if other == nil || name == Shopify {
					return nil, fmt.Errorf("load: no other vendor %q: %w", name, hub.ErrInvalid)
				}
				if err := other.play(Step{At: at, Vendor: name, Do: "customer.created", Customer: c.email, Name: "Load " + c.last}, at); err != nil {
					return nil, err
				}
			}
		}
		copied := *c // bodies are rendered without the lock, from a copy that the API never changes
		people[i] = &copied
	}
	return people, nil
}

// loadOne sends the n-th order. It returns nil where ctx ended before the first attempt.
func (s *Sandbox) loadOne(ctx context.Context, cfg LoadConfig, people []*shopCustomer, n int) *LoadedOrder {
	draw := rand.New(rand.NewPCG(cfg.Seed, uint64(n)))
	c := people[draw.IntN(len(people))]
	amount := decimal.MustNew(500+draw.Int64N(20000), 2)
	at := s.cfg.Business()
	if !cfg.Start.IsZero() {
		at = cfg.Start.Add(time.Duration(n) * cfg.Step)
	}
	at = at.UTC().Truncate(time.Second)
	o := &shopOrder{
		id: 5_800_000_000_000 + int64(cfg.Seed%1000)*100_000_000 + int64(n), number: 100_000 + n, customer: c, amount: amount, currency: "EUR", product: "Blue Mug",
		financial: "paid", created: at, updated: at,
	}
	h := s.vendors[Shopify].(*shopify).hook("orders/paid", encode(o.body(s.cfg.Accounts[Shopify]["shop"])), at, "load/"+strconv.FormatUint(cfg.Seed, 10)+"/"+strconv.Itoa(n))
	out := &LoadedOrder{
		WebhookID: h.id, EventID: h.header["X-Shopify-Event-Id"], OrderID: strconv.FormatInt(o.id, 10), CustomerID: strconv.FormatInt(c.id, 10), Email: c.email,
		Amount: cents(amount), Currency: "EUR", OccurredAt: at,
	}
	for ctx.Err() == nil {
		s.mu.Lock()
		target := s.hub + s.cfg.Paths[Shopify]
		s.mu.Unlock()
		out.Attempts++
		status, _, err := s.post(ctx, h, target, target, s.cfg.Now())
		out.Status = status
		if err == nil && status >= 200 && status < 300 {
			if cfg.Acknowledged != nil {
				cfg.Acknowledged(*out)
			}
			if draw.Float64() < cfg.Duplicates {
				_, _, _ = s.post(ctx, h, target, target, s.cfg.Now())
			}
			return out
		}
		if cfg.Retry <= 0 || status == http.StatusUnauthorized {
			return out
		}
		timer := time.NewTimer(cfg.Retry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	if out.Attempts == 0 {
		return nil
	}
	return out
}
