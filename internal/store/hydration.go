package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// States of a hydration row, as hub.HydrationRecord names them.
const (
	hydrationDue      = "due"
	hydrationFetching = "fetching"
	hydrationDead     = "dead"
)

const hydrationColumns = "connection, object, id, webhook_id, item, received_at, due_at, attempts, context, state, error, claim"

func scanHydration(scan func(...any) error) (h hub.HydrationRecord, err error) {
	var received, due int64
	err = scan(&h.Connection, &h.Object, &h.ID, &h.WebhookID, &h.Item, &received, &due, &h.Attempts, &h.Context, &h.State, &h.Error, &h.Claim)
	h.ReceivedAt, h.DueAt = at(received), at(due)
	return h, err
}

// saveHydrations adds rows; one that is there stays, but a dead one (its webhook is replayed) is due again.
func saveHydrations(ctx context.Context, q querier, rows []hub.HydrationRecord) error {
	lists := make([][]any, len(rows))
	for i := range rows {
		h := &rows[i]
		state := h.State
		if state == "" {
			state = hydrationDue
		}
		var context any
		if h.Context != nil {
			context = h.Context
		}
		lists[i] = []any{h.Connection, h.Object, h.ID, h.WebhookID, h.Item, micros(h.ReceivedAt), micros(h.DueAt), h.Attempts, context, state, printable(h.Error), h.Claim}
	}
	_, err := q.many(ctx, "INSERT INTO hydrations ("+hydrationColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (connection, object, id, webhook_id, item) DO UPDATE SET state = excluded.state, due_at = excluded.due_at, attempts = excluded.attempts, error = ''
		WHERE hydrations.state = 'dead'`, lists)
	return err
}

// HydrationConnections returns the connections that have a hydration row due at or before now, or one whose lease ran out.
func (s *Store) HydrationConnections(ctx context.Context, now time.Time) ([]string, error) {
	return s.names(ctx, distinct("connection", "hydrations", "state <> 'dead'")+` SELECT d.name FROM d WHERE d.name IS NOT NULL
		AND EXISTS (SELECT 1 FROM hydrations x WHERE x.connection = d.name AND x.state <> 'dead' AND x.due_at <= $1) ORDER BY d.name`, micros(now))
}

// ClaimHydration takes up to limit due hydration rows of connection, all of one object, oldest first. A fetching row's DueAt is the
// end of its lease.
func (s *Store) ClaimHydration(ctx context.Context, connection string, now time.Time, lease time.Duration, limit int) ([]hub.HydrationRecord, error) {
	var claimed []hub.HydrationRecord
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		claimed = nil
		var object string
		err := one(ctx, q, "SELECT object FROM hydrations WHERE connection = $1 AND state <> 'dead' AND due_at <= $2 ORDER BY due_at, received_at, object LIMIT 1"+q.skipping(),
			[]any{connection, micros(now)}, &object)
		if errors.Is(err, hub.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		until := now.Add(lease)
		var lists [][]any
		err = each(ctx, q, "SELECT "+hydrationColumns+` FROM hydrations WHERE connection = $1 AND object = $2 AND state <> 'dead' AND due_at <= $3
			ORDER BY received_at, id, webhook_id, item LIMIT $4`+q.skipping(), []any{connection, object, micros(now), limit}, func(scan func(...any) error) error {
			h, err := scanHydration(scan)
			if err != nil {
				return err
			}
			h.State, h.DueAt = hydrationFetching, at(micros(until))
			h.Claim++
			lists = append(lists, []any{h.Claim, micros(until), h.Connection, h.Object, h.ID, h.WebhookID, h.Item})
			claimed = append(claimed, h)
			return nil
		})
		if err != nil {
			return err
		}
		_, err = q.many(ctx, `UPDATE hydrations SET state = 'fetching', claim = $1, due_at = $2
			WHERE connection = $3 AND object = $4 AND id = $5 AND webhook_id = $6 AND item = $7`, lists)
		return err
	})
	return claimed, err
}

// Fetched stores the bytes fetched for each row, so that a replay can use them.
func (s *Store) Fetched(ctx context.Context, rows []hub.HydrationRecord, bodies [][]byte, when time.Time) error {
	if len(rows) != len(bodies) {
		return fmt.Errorf("%d bodies for %d rows: %w", len(bodies), len(rows), hub.ErrInvalid)
	}
	lists := make([][]any, len(rows))
	for i := range rows {
		body := bodies[i]
		if body == nil {
			body = []byte{}
		}
		lists[i] = []any{rows[i].WebhookID, rows[i].Connection, rows[i].Object, rows[i].ID, rows[i].Item, micros(when), body}
	}
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		_, err := q.many(ctx, `INSERT INTO fetched (webhook_id, connection, object, id, item, at, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (webhook_id, connection, object, id, item) DO UPDATE SET at = excluded.at, body = excluded.body`, lists)
		return err
	})
}

// FetchedBodies returns what was fetched for a webhook: rows that name the record, and its bytes, empty where it was gone.
func (s *Store) FetchedBodies(ctx context.Context, webhookID string) (rows []hub.HydrationRecord, bodies [][]byte, err error) {
	err = each(ctx, s.read, "SELECT connection, object, id, item, body FROM fetched WHERE webhook_id = $1 ORDER BY connection, object, id, item", []any{webhookID},
		func(scan func(...any) error) error {
			h := hub.HydrationRecord{WebhookID: webhookID}
			var body []byte
			err := scan(&h.Connection, &h.Object, &h.ID, &h.Item, &body)
			rows, bodies = append(rows, h), append(bodies, body)
			return err
		})
	return rows, bodies, err
}

// FinishHydration removes rows that are done, reschedules those to retry with Attempts as given, marks the dead ones (with a dead letter),
// adds the rows of More, and moves their webhooks on: done when nothing of it waits any more, kinds and event ids added. A row whose
// Claim is not the given one any more is left alone.
func (s *Store) FinishHydration(ctx context.Context, done []hub.Hydrated) error {
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		return finishHydration(ctx, q, done, s.now())
	})
}

func finishHydration(ctx context.Context, q keeper, done []hub.Hydrated, now time.Time) error {
	ids := make([]string, 0, len(done))
	for i := range done {
		ids = append(ids, done[i].WebhookID)
	}
	places, err := q.rowsOf(ctx, placeWebhook, ids)
	if err != nil {
		return err
	}
	webhooks, err := webhooksAt(ctx, q, places, q.locking())
	if err != nil {
		return err
	}
	var dead []hub.DeadLetter
	touched := map[string]*hub.WebhookRecord{}
	for i := range done {
		h := &done[i]
		key := []any{h.Connection, h.Object, h.ID, h.WebhookID, h.Item, h.Claim}
		const where = " WHERE connection = $1 AND object = $2 AND id = $3 AND webhook_id = $4 AND item = $5 AND claim = $6 AND state = 'fetching'"
		var n int64
		switch {
		case h.Done:
			n, err = q.exec(ctx, "DELETE FROM hydrations"+where, key...)
		default:
			state := hydrationDue
			if h.Dead {
				state = hydrationDead
			}
			n, err = q.exec(ctx, `UPDATE hydrations SET state = $1, due_at = $2, attempts = $3, error = $4
				WHERE connection = $5 AND object = $6 AND id = $7 AND webhook_id = $8 AND item = $9 AND claim = $10 AND state = 'fetching'`,
				append([]any{state, micros(h.DueAt), h.Attempts, printable(h.Error)}, key...)...)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		if h.Dead && !h.Done {
			dead = append(dead, hub.DeadLetter{
				ID: hub.DeriveID(hub.PrefixDeadLetter, "hydration", h.Connection, h.Object, h.ID, h.WebhookID, strconv.Itoa(h.Item)),
				Of: "webhook", Ref: h.WebhookID, At: now, Reason: h.Error, Place: h.Connection + ": fetch " + h.Object + " " + h.ID, Attempts: h.Attempts,
			})
		}
		if err := saveHydrations(ctx, q, h.More); err != nil {
			return err
		}
		w, ok := webhooks[h.WebhookID]
		if !ok {
			continue
		}
		t := touched[w.ID]
		if t == nil {
			t = &w
			touched[w.ID] = t
		}
		t.Kinds, t.EventIDs = union(t.Kinds, h.Kinds), union(t.EventIDs, h.EventIDs)
	}
	for _, w := range touched {
		if err := moveWebhook(ctx, q, w, places[w.ID]); err != nil {
			return err
		}
	}
	return saveDead(ctx, q, dead)
}

// moveWebhook writes a webhook's kinds and events and, where it was hydrating, the state that its remaining rows give it.
func moveWebhook(ctx context.Context, q querier, w *hub.WebhookRecord, no int64) error {
	var waiting, dead int64
	if err := one(ctx, q, "SELECT count(*), coalesce(sum(CASE WHEN state = 'dead' THEN 1 ELSE 0 END), 0) FROM hydrations WHERE webhook_id = $1", []any{w.ID}, &waiting, &dead); err != nil {
		return err
	}
	waiting -= dead
	state, reason := w.State, w.Reason
	if state == hub.WebhookHydrating || state == hub.WebhookDead {
		switch {
		case waiting > 0:
			state = hub.WebhookHydrating
		case dead > 0:
			state, reason = hub.WebhookDead, "a record could not be fetched"
		default:
			state, reason = hub.WebhookDone, ""
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
	_, err = q.exec(ctx, "UPDATE webhooks SET state = $1, reason = $2, kinds = $3, event_ids = $4 WHERE no = $5", state, reason, kinds, events, no)
	return err
}

// union adds what list lacks, in order.
func union(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// Token returns the sealed OAuth token of connection; hub.ErrNotFound when there is none.
func (s *Store) Token(ctx context.Context, connection string) ([]byte, error) {
	var sealed []byte
	err := one(ctx, s.read, "SELECT sealed FROM tokens WHERE connection = $1", []any{connection}, &sealed)
	if errors.Is(err, hub.ErrNotFound) || (err == nil && len(sealed) == 0) {
		return nil, notFound("token of", connection)
	}
	return sealed, err
}
