package store

import (
	"context"
	"fmt"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Past returns every version of the customer's events, her transitions and merges, those of whoever was merged into her
// included. hub.ErrNotFound where there is none of that id.
func (s *Store) Past(ctx context.Context, customerID string) (hub.Past, error) {
	var h hub.Past
	c, err := survivor(ctx, s.read, customerID)
	if err != nil {
		return h, err
	}
	if c == nil {
		return h, notFound("customer", customerID)
	}
	// A page at a time, so that no read lasts long. Rows are numbered in the order of their writing.
	pages := func(kind int64, query string, scan func(scan func(...any) error, no *int64) error) error {
		for last := int64(-1); ; {
			n := 0
			err := each(ctx, s.read, query+" JOIN ("+s.placed("no", "customer_id = $1 AND kind = $2 AND no > $3", "no LIMIT $4")+") m ON t.no = m.no ORDER BY t.no",
				[]any{c.ID, kind, last, eventPage}, func(columns func(...any) error) error {
					n++
					return scan(columns, &last)
				})
			if err != nil || n < eventPage {
				return err
			}
		}
	}
	err = pages(momentEvent, "SELECT "+qualified("t", eventColumns)+", t.customer_id, t.known_from, t.no FROM events t", func(scan func(...any) error, no *int64) error {
		var known hub.KnownEvent
		ev, err := scanEvent(scan, &known.CustomerID, &known.KnownFrom, no)
		if err != nil {
			return err
		}
		known.Event = *ev
		h.Events = append(h.Events, known)
		return nil
	})
	if err != nil {
		return h, err
	}
	err = pages(momentTransition, "SELECT "+qualified("t", transitionColumns)+", t.no FROM transitions t", func(scan func(...any) error, no *int64) error {
		t, err := scanTransition(scan, no)
		h.Transitions = append(h.Transitions, t)
		return err
	})
	if err != nil {
		return h, err
	}
	err = pages(momentMerge, "SELECT t.from_id, t.into_id, t.at, t.decided_at, t.reason, t.event_id, t.sequence, t.no FROM merges t", func(scan func(...any) error, no *int64) error {
		var m hub.Merge
		var when, decided int64
		err := scan(&m.From, &m.Into, &when, &decided, &m.Reason, &m.EventID, &m.Sequence, no)
		m.At, m.DecidedAt = at(when), at(decided)
		h.Merges = append(h.Merges, m)
		return err
	})
	return h, err
}

// PublishedSet returns the set of models that was in force at the wire time then; before the first one, the first.
// hub.ErrNotFound where none was ever published.
func (s *Store) PublishedSet(ctx context.Context, then time.Time) (hub.ModelSet, error) {
	sets, err := loadSets(ctx, s.read, "WHERE state <> 'draft' AND published_at <= $1 ORDER BY published_at DESC, number DESC LIMIT 1", micros(then))
	if err == nil && len(sets) == 0 {
		sets, err = loadSets(ctx, s.read, "WHERE state <> 'draft' ORDER BY published_at, number LIMIT 1")
	}
	if err != nil {
		return hub.ModelSet{}, err
	}
	if len(sets) == 0 {
		return hub.ModelSet{}, fmt.Errorf("published set of models: %w", hub.ErrNotFound)
	}
	return sets[0], nil
}

// SetWith returns the published set that a version of a model decided in at the wire time then: the last one with it by then,
// else the first with it after. hub.ErrNotFound where there is none.
func (s *Store) SetWith(ctx context.Context, model string, version int, then time.Time) (hub.ModelSet, error) {
	const with = "WHERE state <> 'draft' AND number IN (SELECT set_number FROM models WHERE name = $1 AND version = $2) AND published_at "
	sets, err := loadSets(ctx, s.read, with+"<= $3 ORDER BY published_at DESC, number DESC LIMIT 1", model, version, micros(then))
	if err == nil && len(sets) == 0 {
		sets, err = loadSets(ctx, s.read, with+"> $3 ORDER BY published_at, number LIMIT 1", model, version, micros(then))
	}
	if err != nil {
		return hub.ModelSet{}, err
	}
	if len(sets) == 0 {
		return hub.ModelSet{}, fmt.Errorf("version %d of model %s: %w", version, model, hub.ErrNotFound)
	}
	return sets[0], nil
}
