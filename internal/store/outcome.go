package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// ending is an outcome together with what its delivery's row says.
type ending struct {
	*hub.Finished
	row         int64
	destination string
	attempts    int // before this one
	externalID  string
	former      *hub.Attempt // the one before, nil for none
}

// outcomes collects what one transaction writes about attempts that have ended.
type outcomes struct {
	returns, updates, formers [][]any
	dead                      []hub.DeadLetter
	stats                     map[string]*hub.ConnectionStat
}

func (r *outcomes) add(e *ending) error {
	if e.Attempt.At.IsZero() {
		r.returns = append(r.returns, []any{e.State, micros(e.DueAt), e.Uncertain, e.Claim, e.row})
		return nil
	}
	a := e.Attempt
	a.Error = printable(a.Error)
	last, err := encodeAttempt(&a)
	if err != nil {
		return err
	}
	r.updates = append(r.updates, []any{
		e.State, micros(e.DueAt), e.attempts + 1, last, cmp.Or(e.ExternalID, e.externalID), e.Uncertain, e.Claim, e.row,
	})
	if f := e.former; f != nil {
		r.formers = append(r.formers, []any{e.row, micros(f.At), f.Status, string(f.Outcome), f.Error, int64(f.Duration)})
	}
	switch e.State {
	case hub.DeliveryDead:
		r.dead = append(r.dead, hub.DeadLetter{
			ID: hub.DeriveID(hub.PrefixDeadLetter, "delivery", e.DeliveryID), Of: "delivery", Ref: e.DeliveryID, At: a.At,
			Reason: a.Error, Place: e.destination, Attempts: e.attempts + 1,
		})
	case hub.DeliveryDelivered:
		if c := r.stats[e.destination]; c == nil || a.At.After(c.LastDeliveryAt) {
			if r.stats == nil {
				r.stats = map[string]*hub.ConnectionStat{}
			}
			r.stats[e.destination] = &hub.ConnectionStat{LastDeliveryAt: a.At}
		}
	}
	return nil
}

const finishDelivery = "UPDATE deliveries SET state = $1, due_at = $2, attempts = $3, last = $4, external_id = $5, uncertain = $6, claim = $7 WHERE no = $8"

// save writes what was collected. The newest attempt is in its delivery's row alone, because most deliveries have no other; the
// one before moves to the table, unless an earlier release wrote it there at once.
func (r *outcomes) save(ctx context.Context, q querier) error {
	for _, step := range []struct {
		query string
		lists [][]any
	}{
		{"UPDATE deliveries SET state = $1, due_at = $2, uncertain = $3, claim = $4 WHERE no = $5", r.returns},
		{finishDelivery, r.updates},
		{`INSERT INTO attempts (delivery_no, at, status, outcome, error, duration)
			SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS BIGINT)
			WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE delivery_no = $1 AND at = $2 AND status = $3 AND outcome = $4 AND duration = $6)`, r.formers},
	} {
		if _, err := q.many(ctx, step.query, step.lists); err != nil {
			return err
		}
	}
	if err := saveDead(ctx, q, r.dead); err != nil {
		return err
	}
	return countConnections(ctx, q, r.stats)
}

// attempts returns those of the delivery in a row, the oldest first; last is the one that the row holds.
func (s *Store) attempts(ctx context.Context, row int64, last *hub.Attempt) ([]hub.Attempt, error) {
	var all []hub.Attempt
	err := each(ctx, s.read, "SELECT at, status, outcome, error, duration FROM attempts WHERE delivery_no = $1 ORDER BY no", []any{row}, func(scan func(...any) error) error {
		var when, duration int64
		var a hub.Attempt
		var outcome string
		err := scan(&when, &a.Status, &outcome, &a.Error, &duration)
		a.At, a.Outcome, a.Duration = at(when), hub.Outcome(outcome), time.Duration(duration)
		all = append(all, a)
		return err
	})
	if last != nil && !slices.Contains(all, *last) { // there already: an earlier release wrote it in both places, or it has just moved
		all = append(all, *last)
	}
	return all, err
}
