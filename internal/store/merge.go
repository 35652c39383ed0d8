package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

func byProfileID(a, b hub.ProfileRecord) int { return cmp.Compare(a.ID, b.ID) }

// pinSubjects are the ids whose pins belong to a customer: her own and those of her deals.
func pinSubjects(c *hub.CustomerRecord) []string {
	ids := []string{c.ID}
	for i := range c.Stages {
		if id := c.Stages[i].Subject.ID; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// saveMerge moves what points at m.From to m.Into. Stages and transitions of From stay as its history, but nothing of it wakes any more.
// Both customers are locked.
func saveMerge(ctx context.Context, q keeper, m *hub.Merge, now time.Time) error {
	var no int64
	if err := one(ctx, q, "INSERT INTO merges (from_id, into_id, at, decided_at, reason, event_id, sequence) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING no",
		[]any{m.From, m.Into, micros(m.At), micros(m.DecidedAt), m.Reason, m.EventID, m.Sequence}, &no); err != nil {
		return err
	}
	if _, err := q.exec(ctx, "INSERT INTO moments (customer_id, at, kind, no) VALUES ($1, $2, $3, $4)", m.Into, micros(m.At), momentMerge, no); err != nil {
		return err
	}
	for _, update := range []string{
		// Customers merged into From earlier follow, so that chains stay short.
		"UPDATE customers SET merged_into = $1 WHERE merged_into <> '' AND merged_into = $2",
		"UPDATE customers SET merged_into = $1 WHERE id = $2",
		"UPDATE identifiers SET customer_id = $1 WHERE customer_id = $2",
		"UPDATE profiles SET customer_id = $1 WHERE customer_id = $2",
		"UPDATE deliveries SET customer_id = $1 WHERE no IN (SELECT no FROM moments WHERE customer_id = $2 AND kind = 3)",
		"UPDATE moments SET customer_id = $1 WHERE customer_id = $2",
	} {
		if _, err := q.exec(ctx, update, m.Into, m.From); err != nil {
			return err
		}
	}
	if _, err := q.exec(ctx, "UPDATE stages SET wakes_at = NULL WHERE customer_id = $1 AND wakes_at IS NOT NULL", m.From); err != nil {
		return err
	}
	if _, err := q.exec(ctx, "DELETE FROM shared WHERE customer_id = $1", m.From); err != nil { // Share has given the survivor what it was
		return err
	}
	if err := mergeHistory(ctx, q, m); err != nil {
		return err
	}
	if err := mergePins(ctx, q, m); err != nil {
		return err
	}
	return mergeDesired(ctx, q, m, now)
}

// mergeHistory notes whose way through which model is the survivor's from now on. What From had taken over itself goes with it
// where From's own way does, and ends where it does. Deals keep their way: they are as long in their models as they were.
func mergeHistory(ctx context.Context, q querier, m *hub.Merge) error {
	for _, model := range m.Inherited {
		for _, statement := range []string{
			"UPDATE inherited SET into_id = $1 WHERE into_id = $2 AND model = $3",
			"INSERT INTO inherited (into_id, from_id, model) VALUES ($1, $2, $3) ON CONFLICT (from_id, model) DO UPDATE SET into_id = excluded.into_id",
		} {
			if _, err := q.exec(ctx, statement, m.Into, m.From, model); err != nil {
				return err
			}
		}
		if _, err := q.exec(ctx, `UPDATE stages SET entered_at = f.entered_at, adopted = f.adopted
			FROM (SELECT entered_at, adopted FROM stages WHERE customer_id = $1 AND subject_id = $1 AND model = $2) f
			WHERE customer_id = $3 AND subject_id = $3 AND model = $2`, m.From, model, m.Into); err != nil {
			return err
		}
	}
	if _, err := q.exec(ctx, "DELETE FROM inherited WHERE into_id = $1", m.From); err != nil {
		return err
	}
	_, err := q.exec(ctx, `UPDATE stages SET entered_at = f.entered_at, adopted = f.adopted
		FROM (SELECT model AS of_model, subject_id AS deal, entered_at, adopted FROM stages WHERE customer_id = $1 AND subject_kind = 'deal') f
		WHERE customer_id = $2 AND subject_kind = 'deal' AND subject_id = f.deal AND model = f.of_model AND f.entered_at < stages.entered_at`, m.From, m.Into)
	return err
}

// mergePins gives the survivor the later pin of each model.
func mergePins(ctx context.Context, q querier, m *hub.Merge) error {
	if _, err := q.exec(ctx, `INSERT INTO pins (subject_kind, subject_id, model, stage, who, why, at, until)
		SELECT subject_kind, $1, model, stage, who, why, at, until FROM pins WHERE subject_id = $2
		ON CONFLICT (subject_id, model, subject_kind) DO UPDATE SET stage = excluded.stage, who = excluded.who, why = excluded.why, at = excluded.at, until = excluded.until
		WHERE pins.at < excluded.at`, m.Into, m.From); err != nil {
		return err
	}
	_, err := q.exec(ctx, "DELETE FROM pins WHERE subject_id = $1", m.From)
	return err
}

// mergeDesired moves desired state to the survivor's slots. Where the survivor has a row for the same field, hers stays, the other's goes
// and its open deliveries are superseded.
func mergeDesired(ctx context.Context, q keeper, m *hub.Merge, now time.Time) error {
	var moving []hub.Desired
	err := each(ctx, q, "SELECT "+desiredColumns+" FROM desired WHERE customer_id = $1 ORDER BY slot"+q.locking(), []any{m.From}, func(scan func(...any) error) error {
		d, err := scanDesired(scan)
		moving = append(moving, d)
		return err
	})
	if err != nil {
		return err
	}
	for i := range moving {
		d := &moving[i]
		slot := hub.SlotID(d.Destination, m.Into, d.Field)
		var kept string
		err := one(ctx, q, "SELECT slot FROM desired WHERE customer_id = $1 AND destination = $2 AND field = $3", []any{m.Into, d.Destination, d.Field}, &kept)
		switch {
		case errors.Is(err, hub.ErrNotFound):
			if _, err := q.exec(ctx, "UPDATE desired SET slot = $1, customer_id = $2 WHERE slot = $3", slot, m.Into, d.Slot); err != nil {
				return err
			}
			if _, err := q.exec(ctx, "UPDATE deliveries SET slot = $1 WHERE slot = $2 AND no IN (SELECT no FROM moments WHERE customer_id = $3 AND kind = 3)", slot, d.Slot, m.Into); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			if _, err := q.exec(ctx, "DELETE FROM desired WHERE slot = $1", d.Slot); err != nil {
				return err
			}
			// One being sent is finished by its worker; its slot is gone, so nothing follows it.
			if _, err := q.exec(ctx, "UPDATE deliveries SET state = 'superseded' WHERE slot <> '' AND slot = $1 AND state IN ('held', 'due', 'retrying', 'parked')", d.Slot); err != nil {
				return err
			}
		}
	}
	return nil
}
