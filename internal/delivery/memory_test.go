package delivery

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// memory is a Store that keeps everything in maps, with the rules of the real one: leases, fencing claims, hand-backs, order.
type memory struct {
	now func() time.Time

	mu         sync.Mutex
	order      []string
	deliveries map[string]*kept
	settings   map[string]string
	sends      []hub.Send
	attempts   map[string][]hub.Attempt
	finishes   int
	fail       error // of everything
	failFinish error
	hydration  []*hydrating
	fetched    map[string]string
	ended      []hub.Hydrated
	// ready keeps due deliveries by destination, so that a benchmark does not measure scans. Only where fast is set.
	fast  bool
	ready map[string][]*kept
}

type kept struct {
	hub.Claimed
	until time.Time // of the lease
}

type hydrating struct {
	hub.HydrationRecord
	until time.Time
}

func newMemory(now func() time.Time) *memory {
	return &memory{now: now, deliveries: map[string]*kept{}, settings: map[string]string{}, attempts: map[string][]hub.Attempt{}, fetched: map[string]string{}, ready: map[string][]*kept{}}
}

func (m *memory) add(claims ...hub.Claimed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range claims {
		if c.State == "" {
			c.State = hub.DeliveryDue
		}
		if c.CreatedAt.IsZero() {
			c.CreatedAt = m.now()
		}
		if c.DueAt.IsZero() {
			c.DueAt = c.CreatedAt
		}
		k := &kept{Claimed: c}
		m.deliveries[c.ID] = k
		m.order = append(m.order, c.ID)
		if m.fast {
			m.ready[c.Destination] = append(m.ready[c.Destination], k)
		}
	}
}

func (m *memory) get(id string) hub.Claimed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deliveries[id].Claimed
}

func (k *kept) due(now time.Time) bool {
	switch k.State {
	case hub.DeliveryDue, hub.DeliveryRetrying:
		return !k.DueAt.After(now)
	case hub.DeliverySending:
		return !k.until.After(now)
	}
	return false
}

func (m *memory) Destinations(_ context.Context, now time.Time) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out []string
	if m.fast {
		for name, all := range m.ready {
			if len(all) > 0 {
				out = append(out, name)
			}
		}
		return out, nil
	}
	for _, k := range m.deliveries {
		if k.due(now) && !slices.Contains(out, k.Destination) {
			out = append(out, k.Destination)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (m *memory) Claim(_ context.Context, destination string, now time.Time, lease time.Duration, limit int, ordered bool) ([]hub.Claimed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var found []*kept
	if m.fast {
		n := min(limit, len(m.ready[destination]))
		found = m.ready[destination][:n]
		m.ready[destination] = m.ready[destination][n:]
	} else {
		open := map[string]bool{}
		for _, id := range m.order {
			k := m.deliveries[id]
			if k.Destination != destination {
				continue
			}
			blocked := ordered && open[k.CustomerID]
			switch k.State {
			case hub.DeliveryDelivered, hub.DeliveryDead, hub.DeliverySkipped:
			default:
				open[k.CustomerID] = true
			}
			if !blocked && k.due(now) {
				found = append(found, k)
			}
		}
		slices.SortStableFunc(found, func(a, b *kept) int { return a.DueAt.Compare(b.DueAt) })
		found = found[:min(limit, len(found))]
	}
	out := make([]hub.Claimed, len(found))
	for i, k := range found {
		if k.State == hub.DeliverySending {
			k.Uncertain = true
		}
		k.State, k.until = hub.DeliverySending, now.Add(lease)
		k.Claim++
		out[i] = k.Claimed
		if k.Desired != nil {
			row := *k.Desired
			out[i].Desired = &row
		}
	}
	return out, nil
}

func (m *memory) Sending(_ context.Context, sends []hub.Send) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, s := range sends {
		if k := m.deliveries[s.DeliveryID]; k.Claim != s.Claim || k.State != hub.DeliverySending {
			return hub.ErrConflict
		}
		m.deliveries[s.DeliveryID].SentAt = s.SentAt
	}
	m.sends = append(m.sends, sends...)
	return nil
}

func (m *memory) Finish(_ context.Context, done []hub.Finished) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.fail, m.failFinish); err != nil {
		return err
	}
	m.finishes++
	for _, f := range done {
		k := m.deliveries[f.DeliveryID]
		if k.Claim != f.Claim || k.State != hub.DeliverySending {
			continue
		}
		k.State, k.DueAt, k.Uncertain = f.State, f.DueAt, f.Uncertain
		if f.Attempt.At.IsZero() {
			continue
		}
		k.Attempts++
		if !m.fast {
			m.attempts[f.DeliveryID] = append(m.attempts[f.DeliveryID], f.Attempt)
		}
		if f.ExternalID != "" {
			k.ExternalID = f.ExternalID
		}
		if k.Desired == nil {
			continue
		}
		if f.State == hub.DeliveryDelivered {
			k.Desired.Written, k.Desired.WrittenGeneration = f.Written, f.Generation
		}
		if k.Desired.Generation > f.Generation {
			k.State, k.DueAt, k.Attempts = hub.DeliveryDue, m.now(), 0
		}
	}
	return nil
}

func (m *memory) Parked(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, k := range m.deliveries {
		if k.State == hub.DeliveryParked && !slices.Contains(out, k.Destination) {
			out = append(out, k.Destination)
		}
	}
	return out, m.fail
}

func (m *memory) Unpark(_ context.Context, destination string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.deliveries {
		if k.State == hub.DeliveryParked && k.Destination == destination {
			k.State, k.DueAt = hub.DeliveryDue, now
		}
	}
	return m.fail
}

func (m *memory) Backlog(_ context.Context, now time.Time) (due int, oldest time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.deliveries {
		if k.due(now) {
			due++
			if oldest.IsZero() || k.DueAt.Before(oldest) {
				oldest = k.DueAt
			}
		}
	}
	return due, oldest, m.fail
}

func (m *memory) HydrationConnections(_ context.Context, now time.Time) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, h := range m.hydration {
		if h.due(now) && !slices.Contains(out, h.Connection) {
			out = append(out, h.Connection)
		}
	}
	return out, m.fail
}

func (h *hydrating) due(now time.Time) bool {
	return h.State == "due" && !h.DueAt.After(now) || h.State == "fetching" && !h.until.After(now)
}

func (m *memory) ClaimHydration(_ context.Context, connection string, now time.Time, lease time.Duration, limit int) ([]hub.HydrationRecord, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out []hub.HydrationRecord
	for _, h := range m.hydration {
		if h.Connection != connection || !h.due(now) || len(out) >= limit || (len(out) > 0 && out[0].Object != h.Object) {
			continue
		}
		h.State, h.until = "fetching", now.Add(lease)
		h.Claim++
		out = append(out, h.HydrationRecord)
	}
	return out, nil
}

func (m *memory) Fetched(_ context.Context, rows []hub.HydrationRecord, bodies [][]byte, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, row := range rows {
		m.fetched[row.Object+"/"+row.ID] = string(bodies[i])
	}
	return m.fail
}

func (m *memory) FinishHydration(_ context.Context, done []hub.Hydrated) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, h := range done {
		i := slices.IndexFunc(m.hydration, func(x *hydrating) bool {
			return x.Connection == h.Connection && x.Object == h.Object && x.ID == h.ID && x.WebhookID == h.WebhookID
		})
		if i < 0 || m.hydration[i].Claim != h.Claim {
			continue
		}
		row := m.hydration[i]
		switch {
		case h.Done:
			m.hydration = slices.Delete(m.hydration, i, i+1)
		case h.Dead:
			row.State, row.Error = "dead", h.Error
		default:
			row.State, row.DueAt, row.Attempts, row.Error = "due", h.DueAt, h.Attempts, h.Error
		}
		for _, more := range h.More {
			more.State = "due"
			m.hydration = append(m.hydration, &hydrating{HydrationRecord: more})
		}
	}
	m.ended = append(m.ended, done...)
	return nil
}

func (m *memory) Setting(_ context.Context, key string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settings[key], m.fail
}

func (m *memory) SaveSetting(_ context.Context, key, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if value == "" {
		delete(m.settings, key)
	} else {
		m.settings[key] = value
	}
	return nil
}

func (m *memory) failing(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}
