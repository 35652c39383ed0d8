package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Types of timeline entries, in the order in which those of one instant are shown (the newest page first, so reversed).
const (
	entryDelivery   = "delivery"
	entryEvent      = "event"
	entryMerge      = "merge"
	entryPin        = "pin"
	entryTransition = "transition"
)

// Timeline returns what happened to a customer, the newest first: her events, transitions, deliveries, merges and pins, those
// from before a merge included. Events and transitions stand at their business time, deliveries at their making.
func (s *Store) Timeline(ctx context.Context, customerID string, p hub.Page) ([]hub.Entry, string, error) {
	c, err := survivor(ctx, s.read, customerID)
	if err != nil {
		return nil, "", err
	}
	if c == nil {
		return nil, "", notFound("customer", customerID)
	}
	limit := pageLimit(p)
	before := entryKey{at: 1<<63 - 1}
	if p.Cursor != "" {
		if before, err = decodeEntryKey(p.Cursor); err != nil {
			return nil, "", err
		}
	}
	family, err := s.family(ctx, c.ID)
	if err != nil {
		return nil, "", err
	}
	var all []keyed
	for _, load := range []func(context.Context, []string, entryKey, int) ([]keyed, error){
		s.eventEntries, s.transitionEntries, s.deliveryEntries, s.mergeEntries, s.pinEntries,
	} {
		some, err := load(ctx, family, before, limit+1)
		if err != nil {
			return nil, "", err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b keyed) int { return b.key.compare(a.key) })
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = all[limit-1].key.cursor()
	}
	entries := make([]hub.Entry, len(all))
	for i := range all {
		entries[i] = all[i].Entry
	}
	return entries, next, nil
}

// entryKey orders a timeline.
type entryKey struct {
	at       int64
	kind, id string
}

type keyed struct {
	key entryKey
	hub.Entry
}

func (k entryKey) compare(o entryKey) int {
	return cmp.Or(cmp.Compare(k.at, o.at), strings.Compare(k.kind, o.kind), strings.Compare(k.id, o.id))
}

func (k entryKey) cursor() string { return encodeCursor(strconv.FormatInt(k.at, 10), k.kind, k.id) }

func decodeEntryKey(cursor string) (entryKey, error) {
	parts, err := decodeCursor(cursor, 3)
	if err != nil {
		return entryKey{}, err
	}
	n, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return entryKey{}, errCursor
	}
	return entryKey{n, parts[1], parts[2]}, nil
}

// bound returns the arguments of a condition "(time, id) < (…)" for entries of one kind that lie before k.
func (k entryKey) bound(kind string) (when int64, id string) {
	switch {
	case k.kind == kind:
		return k.at, k.id
	case kind < k.kind:
		return k.at, "\U0010FFFF" // entries of this kind at the same instant come after k
	default:
		return k.at, "" // they came before k
	}
}

// family returns the ids of a customer and of all that were merged into her.
func (s *Store) family(ctx context.Context, id string) ([]string, error) {
	ids := []string{id}
	for i := 0; i < len(ids); i++ {
		err := each(ctx, s.read, "SELECT id FROM customers WHERE merged_into <> '' AND merged_into = $1 ORDER BY id", []any{ids[i]}, func(scan func(...any) error) error {
			var more string
			err := scan(&more)
			if !slices.Contains(ids, more) {
				ids = append(ids, more)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

const eventColumns = "e.id, e.activation, e.fetch_no, e.occurred_at, e.withdrawn, e.body"

func scanEvent(scan func(...any) error) (*hub.Event, error) {
	ev := &hub.Event{}
	var occurred int64
	var body string
	if err := scan(&ev.ID, &ev.Version.Activation, &ev.Version.Fetch, &occurred, &ev.Withdrawn, &body); err != nil {
		return nil, err
	}
	ev.OccurredAt = at(occurred)
	return ev, decodeEvent(body, ev)
}

// walk runs one query per member of a family and keeps the newest limit of the results.
func (s *Store) walk(ctx context.Context, family []string, before entryKey, kind string, limit int, query string, scan func(func(...any) error) (keyed, error)) ([]keyed, error) {
	when, id := before.bound(kind)
	var all []keyed
	for _, member := range family {
		err := each(ctx, s.read, query, []any{member, when, id, limit}, func(columns func(...any) error) error {
			k, err := scan(columns)
			k.Type, k.ID = kind, k.key.id
			k.At = at(k.key.at)
			k.key.kind = kind
			all = append(all, k)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (s *Store) eventEntries(ctx context.Context, family []string, before entryKey, limit int) ([]keyed, error) {
	// Events belong to profiles, and profiles to the survivor: the first of the family.
	return s.walk(ctx, family[:1], before, entryEvent, limit, "SELECT "+eventColumns+` FROM profiles p JOIN events e ON e.profile_id = p.id
		WHERE p.customer_id = $1 AND e.known_until IS NULL AND e.withdrawn = 0 AND (e.occurred_at, e.id) < ($2, $3) ORDER BY e.occurred_at DESC, e.id DESC LIMIT $4`,
		func(scan func(...any) error) (keyed, error) {
			ev, err := scanEvent(scan)
			if err != nil {
				return keyed{}, err
			}
			return keyed{entryKey{at: micros(ev.OccurredAt), id: ev.ID}, hub.Entry{Event: ev}}, nil
		})
}

func (s *Store) transitionEntries(ctx context.Context, family []string, before entryKey, limit int) ([]keyed, error) {
	return s.walk(ctx, family, before, entryTransition, limit, "SELECT "+transitionColumns+` FROM transitions
		WHERE customer_id = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4`,
		func(scan func(...any) error) (keyed, error) {
			t, err := scanTransition(scan)
			return keyed{entryKey{at: micros(t.At), id: t.ID}, hub.Entry{Transition: &t}}, err
		})
}

func (s *Store) deliveryEntries(ctx context.Context, family []string, before entryKey, limit int) ([]keyed, error) {
	return s.walk(ctx, family[:1], before, entryDelivery, limit, "SELECT "+deliveryColumns+` FROM deliveries
		WHERE customer_id = $1 AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4`,
		func(scan func(...any) error) (keyed, error) {
			d, err := scanDelivery(scan)
			return keyed{entryKey{at: micros(d.CreatedAt), id: d.ID}, hub.Entry{Delivery: &d}}, err
		})
}

func (s *Store) mergeEntries(ctx context.Context, family []string, before entryKey, limit int) ([]keyed, error) {
	return s.walk(ctx, family, before, entryMerge, limit, `SELECT from_id, into_id, at, decided_at, reason, event_id, sequence FROM merges
		WHERE into_id = $1 AND (at, from_id) < ($2, $3) ORDER BY at DESC, from_id DESC LIMIT $4`,
		func(scan func(...any) error) (keyed, error) {
			var m hub.Merge
			var when, decided int64
			err := scan(&m.From, &m.Into, &when, &decided, &m.Reason, &m.EventID, &m.Sequence)
			m.At, m.DecidedAt = at(when), at(decided)
			return keyed{entryKey{at: when, id: m.From}, hub.Entry{Merge: &m}}, err
		})
}

func (s *Store) pinEntries(ctx context.Context, family []string, before entryKey, limit int) ([]keyed, error) {
	return s.walk(ctx, family[:1], before, entryPin, limit, `SELECT subject_kind, subject_id, model, stage, who, why, at, until FROM pins
		WHERE subject_id = $1 AND (at, model) < ($2, $3) ORDER BY at DESC, model DESC LIMIT $4`,
		func(scan func(...any) error) (keyed, error) {
			p, err := scanPin(scan)
			return keyed{entryKey{at: micros(p.At), id: p.Model}, hub.Entry{Pin: &p}}, err
		})
}

// Events returns all that is known of a customer's events, by occurred_at and id: the newest versions, without withdrawn ones.
func (s *Store) Events(ctx context.Context, customerID string) ([]hub.Event, error) {
	c, err := survivor(ctx, s.read, customerID)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, notFound("customer", customerID)
	}
	var all []hub.Event
	// A page at a time, so that no read lasts long.
	last := entryKey{at: micros(time.Time{}) - 1}
	for {
		n := 0
		err := each(ctx, s.read, "SELECT "+eventColumns+` FROM profiles p JOIN events e ON e.profile_id = p.id
			WHERE p.customer_id = $1 AND e.known_until IS NULL AND e.withdrawn = 0 AND (e.occurred_at, e.id) > ($2, $3) ORDER BY e.occurred_at, e.id LIMIT $4`,
			[]any{c.ID, last.at, last.id, eventPage}, func(scan func(...any) error) error {
				ev, err := scanEvent(scan)
				if err != nil {
					return err
				}
				n++
				last.at, last.id = micros(ev.OccurredAt), ev.ID
				all = append(all, *ev)
				return nil
			})
		if err != nil || n < eventPage {
			return all, err
		}
	}
}

const eventPage = 5000
