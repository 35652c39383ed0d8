package store

import (
	"context"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

const webhookColumns = "id, connection, received_at, state, reason, kinds, event_ids, incarnation, seq, item, activation"

const insertWebhook = "INSERT INTO webhooks (" + webhookColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"

func scanWebhook(scan func(...any) error, more ...any) (w hub.WebhookRecord, err error) {
	var received, seq int64
	var kinds, events string
	dest := append([]any{&w.ID, &w.Connection, &received, &w.State, &w.Reason, &kinds, &events, &w.Position.Incarnation, &seq, &w.Position.Index, &w.Activation}, more...)
	err = scan(dest...)
	w.ReceivedAt, w.Position.Seq, w.Kinds, w.EventIDs = at(received), uint64(seq), decodeTexts(kinds), decodeTexts(events)
	return w, err
}

// newWebhook is a row to insert, with what is stored of its lists.
type newWebhook struct {
	*hub.WebhookRecord
	kinds, events string
}

// SaveWebhooks writes the rows of normalized webhooks and their hydration rows and dead letters in one transaction. A row that
// exists keeps its received_at and takes the new state, kinds, event ids, position and activation, except that a redelivery
// (the same activation) never moves a row back from done. It returns how many rows existed already.
func (s *Store) SaveWebhooks(ctx context.Context, rows []hub.WebhookRecord, hydrations []hub.HydrationRecord, dead []hub.DeadLetter) (int, error) {
	var existing int
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		existing = 0
		ids := make([]string, 0, len(rows))
		for i := range rows {
			ids = append(ids, rows[i].ID)
		}
		places, err := q.rowsOf(ctx, placeWebhook, ids)
		if err != nil {
			return err
		}
		stored, err := webhooksAt(ctx, q, places, q.locking())
		if err != nil {
			return err
		}
		old := make(map[string]*hub.WebhookRecord, len(rows))
		for id, w := range stored {
			old[id] = &w
		}
		inserts := make([]newWebhook, 0, len(rows)-len(stored))
		var updates [][]any
		counts := map[string]*hub.ConnectionStat{}
		for i := range rows {
			w := &rows[i]
			before, there := old[w.ID]
			old[w.ID] = w // the same id twice in one call is a redelivery too
			if there {
				existing++
				if before.State == hub.WebhookDone && w.State != hub.WebhookDone && w.Activation <= before.Activation {
					old[w.ID] = before
					continue
				}
				if before.State == hub.WebhookDead && w.State != hub.WebhookDead {
					if err := forgetDead(ctx, q, w.ID); err != nil {
						return err
					}
				}
			} else {
				stat := counts[w.Connection]
				if stat == nil {
					stat = &hub.ConnectionStat{}
					counts[w.Connection] = stat
				}
				stat.Webhooks++
				if w.ReceivedAt.After(stat.LastWebhookAt) {
					stat.LastWebhookAt = w.ReceivedAt
				}
			}
			kinds, err := encodeTexts(w.Kinds)
			if err != nil {
				return err
			}
			events, err := encodeTexts(w.EventIDs)
			if err != nil {
				return err
			}
			if there {
				updates = append(updates, []any{w.State, printable(w.Reason), kinds, events, w.Position.Incarnation, int64(w.Position.Seq), w.Position.Index, w.Activation, places[w.ID]})
			} else {
				inserts = append(inserts, newWebhook{w, kinds, events})
			}
		}
		if err := q.addWebhooks(ctx, inserts); err != nil {
			return err
		}
		if _, err := q.many(ctx, `UPDATE webhooks SET state = $1, reason = $2, kinds = $3, event_ids = $4, incarnation = $5, seq = $6, item = $7, activation = $8
			WHERE no = $9`, updates); err != nil {
			return err
		}
		if err := saveHydrations(ctx, q, hydrations); err != nil {
			return err
		}
		if err := saveDead(ctx, q, dead); err != nil {
			return err
		}
		return countConnections(ctx, q, counts)
	})
	return existing, err
}

// countConnections adds to the connections' counters, in order of name so that two processes never wait for each other in a circle.
func countConnections(ctx context.Context, q querier, counts map[string]*hub.ConnectionStat) error {
	if len(counts) == 0 {
		return nil
	}
	var lists [][]any
	for name, c := range counts {
		lists = append(lists, []any{name, c.Webhooks, micros(c.LastWebhookAt), micros(c.LastDeliveryAt)})
	}
	slices.SortFunc(lists, func(a, b []any) int { return compareText(a[0], b[0]) })
	_, err := q.many(ctx, `INSERT INTO connections (connection, webhooks, last_webhook_at, last_delivery_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (connection) DO UPDATE SET webhooks = connections.webhooks + excluded.webhooks,
		last_webhook_at = CASE WHEN connections.last_webhook_at > excluded.last_webhook_at THEN connections.last_webhook_at ELSE excluded.last_webhook_at END,
		last_delivery_at = CASE WHEN connections.last_delivery_at > excluded.last_delivery_at THEN connections.last_delivery_at ELSE excluded.last_delivery_at END`, lists)
	return err
}

// forgetDead removes the dead letters of what is tried again.
func forgetDead(ctx context.Context, q querier, ref string) error {
	_, err := q.exec(ctx, "DELETE FROM dead_letters WHERE ref = $1", ref)
	return err
}

// webhooksAt returns the rows at those places, by id.
func webhooksAt(ctx context.Context, q querier, places map[string]int64, locking string) (map[string]hub.WebhookRecord, error) {
	found := make(map[string]hub.WebhookRecord, len(places))
	err := inPlaces(places, func(args []any, in string) error {
		return each(ctx, q, "SELECT "+webhookColumns+" FROM webhooks WHERE no IN "+in+" ORDER BY no"+locking, args, func(scan func(...any) error) error {
			w, err := scanWebhook(scan)
			found[w.ID] = w
			return err
		})
	})
	return found, err
}

// Webhooks returns the rows of those ids; unknown ids are absent.
func (s *Store) Webhooks(ctx context.Context, ids []string) (map[string]hub.WebhookRecord, error) {
	places, err := s.rowsOf(ctx, placeWebhook, ids)
	if err != nil {
		return nil, err
	}
	return webhooksAt(ctx, s.read, places, "")
}

// Webhook returns one row, or hub.ErrNotFound.
func (s *Store) Webhook(ctx context.Context, id string) (hub.WebhookRecord, error) {
	found, err := s.Webhooks(ctx, []string{id})
	if err != nil {
		return hub.WebhookRecord{}, err
	}
	w, ok := found[id]
	if !ok {
		return w, notFound("webhook", id)
	}
	return w, nil
}

// ListWebhooks returns webhook rows, the newest first.
func (s *Store) ListWebhooks(ctx context.Context, q hub.WebhookQuery) ([]hub.WebhookRecord, string, error) {
	b := newList("SELECT "+webhookColumns+", no FROM webhooks", "no", q.Page)
	if b.equal("state", q.State); q.State != "" && q.State != hub.WebhookDone {
		b.and("state <> 'done'") // in the words of the partial index
	}
	b.equal("connection", q.Connection)
	var all []hub.WebhookRecord
	next, err := b.run(ctx, s.read, func(scan func(...any) error, key *int64) error {
		w, err := scanWebhook(scan, key)
		all = append(all, w)
		return err
	})
	return all[:min(len(all), b.limit)], next, err
}

// SaveRejected appends to the bounded log of refused requests.
func (s *Store) SaveRejected(ctx context.Context, rows []hub.Rejected) error {
	lists := make([][]any, len(rows))
	for i := range rows {
		r := &rows[i]
		masked := make([]hub.Header, len(r.Headers))
		for i, h := range r.Headers {
			masked[i] = hub.Header{Name: printable(h.Name), Value: printable(h.Value)}
		}
		headers, err := encodeHeaders(masked)
		if err != nil {
			return err
		}
		lists[i] = []any{r.ID, r.Connection, micros(r.At), r.Reason, printable(r.Detail), headers, r.Size}
	}
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		_, err := q.many(ctx, "INSERT INTO rejected (id, connection, at, reason, detail, headers, size) VALUES ($1, $2, $3, $4, $5, $6, $7)", lists)
		return err
	})
}

// ListRejected returns refused requests, the newest first.
func (s *Store) ListRejected(ctx context.Context, p hub.Page) ([]hub.Rejected, string, error) {
	b := newList("SELECT id, connection, at, reason, detail, headers, size, no FROM rejected", "no", p)
	var all []hub.Rejected
	next, err := b.run(ctx, s.read, func(scan func(...any) error, key *int64) error {
		var r hub.Rejected
		var when int64
		var headers string
		err := scan(&r.ID, &r.Connection, &when, &r.Reason, &r.Detail, &headers, &r.Size, key)
		r.At, r.Headers = at(when), decodeHeaders(headers)
		all = append(all, r)
		return err
	})
	return all[:min(len(all), b.limit)], next, err
}

// ConnectionStats returns when each connection last worked, and how much of it is dead.
func (s *Store) ConnectionStats(ctx context.Context) (map[string]hub.ConnectionStat, error) {
	stats := map[string]hub.ConnectionStat{}
	err := each(ctx, s.read, "SELECT connection, webhooks, last_webhook_at, last_delivery_at FROM connections", nil, func(scan func(...any) error) error {
		var name string
		var c hub.ConnectionStat
		var webhook, delivery int64
		err := scan(&name, &c.Webhooks, &webhook, &delivery)
		c.LastWebhookAt, c.LastDeliveryAt = at(webhook), at(delivery)
		stats[name] = c
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, query := range []string{
		"SELECT destination, count(*) FROM deliveries WHERE state = 'dead' AND " + aside + " GROUP BY destination",
		"SELECT connection, count(*) FROM webhooks WHERE state = 'dead' AND state <> 'done' GROUP BY connection",
		"SELECT connection, count(*) FROM hydrations WHERE state = 'dead' GROUP BY connection",
	} {
		err := each(ctx, s.read, query, nil, func(scan func(...any) error) error {
			var name string
			var n int64
			err := scan(&name, &n)
			c := stats[name]
			c.Dead += n
			stats[name] = c
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return stats, nil
}

// OldestHydration returns, per connection, the received_at of the oldest hydration row that is not dead.
func (s *Store) OldestHydration(ctx context.Context) (map[string]time.Time, error) {
	return s.times(ctx, distinct("connection", "hydrations", "state <> 'dead'")+` SELECT d.name,
		(SELECT min(x.received_at) FROM hydrations x WHERE x.connection = d.name AND x.state <> 'dead') FROM d WHERE d.name IS NOT NULL`)
}
