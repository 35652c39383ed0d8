package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Kinds of moments, as the table's rows and some statements have them.
const (
	momentEvent      = 1
	momentTransition = 2
	momentDelivery   = 3
	momentMerge      = 4
	momentPin        = 5 // pins have no rows of their own there: they are few and change in place

	placeWebhook = 6 // webhooks are in nobody's history, but found by id as events and deliveries are
)

// moment is a place in a customer's history, in the order of the timeline.
type moment struct{ at, kind, no int64 }

func (m moment) compare(o moment) int {
	return cmp.Or(cmp.Compare(m.at, o.at), cmp.Compare(m.kind, o.kind), cmp.Compare(m.no, o.no))
}

func (m moment) cursor() string {
	return encodeCursor(strconv.FormatInt(m.at, 10), strconv.FormatInt(m.kind, 10), strconv.FormatInt(m.no, 10))
}

func decodeMoment(cursor string) (moment, error) {
	parts, err := decodeCursor(cursor, 3)
	if err != nil {
		return moment{}, err
	}
	var numbers [3]int64
	for i := range parts {
		if numbers[i], err = strconv.ParseInt(parts[i], 10, 64); err != nil {
			return moment{}, errCursor
		}
	}
	return moment{numbers[0], numbers[1], numbers[2]}, nil
}

// entry is an entry of a timeline with its place.
type entry struct {
	moment
	hub.Entry
}

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
	before := moment{at: 1<<63 - 1}
	if p.Cursor != "" {
		if before, err = decodeMoment(p.Cursor); err != nil {
			return nil, "", err
		}
	}
	all, err := s.pinEntries(ctx, c.ID, before)
	if err != nil {
		return nil, "", err
	}
	// Replaced versions of events have moments too; they are left out, so a page may take more than one look.
	for look := before; ; {
		moments, err := s.moments(ctx, c.ID, look, limit+1)
		if err != nil {
			return nil, "", err
		}
		entries, err := s.entries(ctx, moments)
		if err != nil {
			return nil, "", err
		}
		all = append(all, entries...)
		if len(moments) <= limit || len(all) > limit {
			break
		}
		look = moments[len(moments)-1]
	}
	slices.SortFunc(all, func(a, b entry) int { return b.compare(a.moment) })
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = all[limit-1].cursor()
	}
	entries := make([]hub.Entry, len(all))
	for i := range all {
		entries[i] = all[i].Entry
	}
	return entries, next, nil
}

// placed selects moments; where some of them wait to be entered, those too. Each part is cut by itself, so that a long history is
// not sorted for a page of it.
func (s *Store) placed(columns, where, order string) string {
	part := func(table string) string {
		return "SELECT " + columns + " FROM " + table + " WHERE " + where + " ORDER BY " + order
	}
	if !s.late {
		return part("moments")
	}
	return "SELECT * FROM (" + part("moments") + ") UNION ALL SELECT * FROM (" + part("moments_waiting") + ") ORDER BY " + order
}

// moments returns the places before one, the newest first.
func (s *Store) moments(ctx context.Context, customerID string, before moment, limit int) ([]moment, error) {
	var all []moment
	err := each(ctx, s.read, s.placed("at, kind, no", "customer_id = $1 AND (at, kind, no) < ($2, $3, $4)", "at DESC, kind DESC, no DESC LIMIT $5"),
		[]any{customerID, before.at, before.kind, before.no, limit}, func(scan func(...any) error) error {
			var m moment
			err := scan(&m.at, &m.kind, &m.no)
			all = append(all, m)
			return err
		})
	return all, err
}

// entries loads what lies at the places, one statement per kind.
func (s *Store) entries(ctx context.Context, moments []moment) ([]entry, error) {
	var byKind [momentPin][]int64
	places := map[[2]int64]moment{}
	for _, m := range moments {
		byKind[m.kind] = append(byKind[m.kind], m.no)
		places[[2]int64{m.kind, m.no}] = m
	}
	var all []entry
	load := func(kind int64, query string, scan func(scan func(...any) error, no *int64) (hub.Entry, error)) error {
		return chunks(byKind[kind], 256, func(some []int64) error {
			args := make([]any, len(some))
			for i := range some {
				args[i] = some[i]
			}
			return each(ctx, s.read, query+" WHERE no IN ("+placeholders(1, len(some))+")", args, func(columns func(...any) error) error {
				var no int64
				e, err := scan(columns, &no)
				m := places[[2]int64{kind, no}]
				e.At = at(m.at)
				if e.Event == nil || e.ID != "" {
					all = append(all, entry{m, e})
				}
				return err
			})
		})
	}
	if err := load(momentEvent, "SELECT "+eventColumns+", no, known_until IS NULL AND withdrawn = 0 FROM events", func(scan func(...any) error, no *int64) (hub.Entry, error) {
		var known bool
		ev, err := scanEvent(scan, no, &known)
		if !known {
			return hub.Entry{Event: ev}, err // no id: left out
		}
		return hub.Entry{Type: "event", ID: ev.ID, Event: ev}, err
	}); err != nil {
		return nil, err
	}
	if err := load(momentTransition, "SELECT "+transitionColumns+", no FROM transitions", func(scan func(...any) error, no *int64) (hub.Entry, error) {
		t, err := scanTransition(scan, no)
		return hub.Entry{Type: "transition", ID: t.ID, Transition: &t}, err
	}); err != nil {
		return nil, err
	}
	if err := load(momentDelivery, "SELECT "+deliveryColumns+", no FROM deliveries", func(scan func(...any) error, no *int64) (hub.Entry, error) {
		d, err := scanDelivery(scan, no)
		s.claims.show(*no, &d)
		return hub.Entry{Type: "delivery", ID: d.ID, Delivery: &d}, err
	}); err != nil {
		return nil, err
	}
	err := load(momentMerge, "SELECT from_id, into_id, at, decided_at, reason, event_id, sequence, no FROM merges", func(scan func(...any) error, no *int64) (hub.Entry, error) {
		var m hub.Merge
		var when, decided int64
		err := scan(&m.From, &m.Into, &when, &decided, &m.Reason, &m.EventID, &m.Sequence, no)
		m.At, m.DecidedAt = at(when), at(decided)
		return hub.Entry{Type: "merge", ID: m.From, Merge: &m}, err
	})
	return all, err
}

func (s *Store) pinEntries(ctx context.Context, customerID string, before moment) ([]entry, error) {
	var all []entry
	place := int64(0)
	err := each(ctx, s.read, "SELECT subject_kind, subject_id, model, stage, who, why, at, until FROM pins WHERE subject_id = $1 ORDER BY model", []any{customerID},
		func(scan func(...any) error) error {
			p, err := scanPin(scan)
			m := moment{micros(p.At), momentPin, place}
			place++
			if m.compare(before) < 0 {
				all = append(all, entry{m, hub.Entry{At: p.At, Type: "pin", ID: p.Model, Pin: &p}})
			}
			return err
		})
	return all, err
}

const eventColumns = "id, activation, fetch_no, occurred_at, withdrawn, body"

func scanEvent(scan func(...any) error, more ...any) (*hub.Event, error) {
	ev := &hub.Event{}
	var occurred int64
	var body string
	dest := append([]any{&ev.ID, &ev.Version.Activation, &ev.Version.Fetch, &occurred, &ev.Withdrawn, &body}, more...)
	if err := scan(dest...); err != nil {
		return ev, err
	}
	ev.OccurredAt = at(occurred)
	return ev, decodeEvent(body, ev)
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
	last := moment{at: micros(time.Time{}) - 1}
	for {
		n := 0
		err := each(ctx, s.read, "SELECT "+qualified("e", eventColumns)+`, m.at, m.no, e.known_until IS NULL AND e.withdrawn = 0 FROM
			(`+s.placed("at, no", "customer_id = $1 AND kind = 1 AND (at, no) > ($2, $3)", "at, no LIMIT $4")+`) m
			JOIN events e ON e.no = m.no ORDER BY m.at, m.no`,
			[]any{c.ID, last.at, last.no, eventPage}, func(scan func(...any) error) error {
				var known bool
				ev, err := scanEvent(scan, &last.at, &last.no, &known)
				if err != nil {
					return err
				}
				n++
				if known {
					all = append(all, *ev)
				}
				return nil
			})
		if err != nil {
			return nil, err
		}
		if n < eventPage {
			slices.SortFunc(all, func(a, b hub.Event) int { return cmp.Or(a.OccurredAt.Compare(b.OccurredAt), cmp.Compare(a.ID, b.ID)) })
			return all, nil
		}
	}
}

const eventPage = 5000
