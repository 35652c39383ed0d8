package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// claimable is the condition of the index deliveries_due. due_at of a sending row is the end of its lease. It says OR, as the index does:
// SQLite makes a table of its own for a list of more than two, anew for each row that it writes.
const claimable = "(state = 'due' OR state = 'retrying' OR state = 'sending')"

// aside is the condition of the index deliveries_aside. SQLite uses a partial index only where a statement says its condition
// in the same words.
const aside = "(state = 'held' OR state = 'parked' OR state = 'dead')"

// of is a condition on states for the table of that alias.
func of(alias, condition string) string {
	return strings.ReplaceAll(condition, "state", alias+".state")
}

func scanDelivery(scan func(...any) error, more ...any) (d hub.Delivery, err error) {
	var due, created, sent int64
	var params, cause, last string
	dest := append([]any{
		&d.ID, &d.Destination, &d.Action, &d.CustomerID, &d.Subject.Kind, &d.Subject.ID, &d.State, &due, &d.Attempts, &created, &d.Slot, &d.Key,
		&params, &d.Body, &d.Reference, &sent, &d.Uncertain, &d.ExternalID, &cause, &last, &d.Claim,
	}, more...)
	var kind string
	dest[4] = &kind
	if err := scan(dest...); err != nil {
		return d, err
	}
	d.Subject.Kind = hub.SubjectKind(kind)
	d.DueAt, d.CreatedAt, d.SentAt = at(due), at(created), at(sent)
	if d.Params, err = decodeValues(params); err != nil {
		return d, err
	}
	if d.Cause, err = decodeCause(cause); err != nil {
		return d, err
	}
	d.Last, err = decodeAttempt(last)
	return d, err
}

// Destinations returns the destinations that have a delivery due at or before now, one whose lease ran out included.
func (s *Store) Destinations(ctx context.Context, now time.Time) ([]string, error) {
	others, args := s.claims.except(now, micros(now))
	return s.names(ctx, distinct("destination", "deliveries", claimable)+` SELECT d.name FROM d WHERE d.name IS NOT NULL
		AND EXISTS (SELECT 1 FROM deliveries x WHERE x.destination = d.name AND `+of("x", claimable)+" AND x.due_at <= $1"+others+") ORDER BY d.name", args...)
}

// distinct begins a statement with the rows of d: the different values of a column among the rows of a partial index, and a last
// NULL. It costs one seek for each value, where SELECT DISTINCT reads the whole index.
func distinct(column, table, where string) string {
	return "WITH RECURSIVE d(name) AS (SELECT min(" + column + ") FROM " + table + " WHERE " + where +
		" UNION ALL SELECT (SELECT min(x." + column + ") FROM " + table + " x WHERE " + of("x", where) + " AND x." + column + " > d.name) FROM d WHERE d.name IS NOT NULL)"
}

// Parked returns the destinations that have parked deliveries.
func (s *Store) Parked(ctx context.Context) ([]string, error) {
	return s.names(ctx, "SELECT DISTINCT destination FROM deliveries WHERE state = 'parked' AND "+aside+" ORDER BY destination")
}

func (s *Store) names(ctx context.Context, query string, args ...any) ([]string, error) {
	var names []string
	err := each(ctx, s.read, query, args, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// Unpark makes the parked deliveries of destination due at now.
func (s *Store) Unpark(ctx context.Context, destination string, now time.Time) error {
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		_, err := q.exec(ctx, "UPDATE deliveries SET state = 'due', due_at = $1 WHERE destination = $2 AND state = 'parked' AND "+aside, micros(now), destination)
		return err
	})
}

// Backlog returns how many deliveries are due at or before now, retries and lost leases included, and the oldest due_at among them.
func (s *Store) Backlog(ctx context.Context, now time.Time) (due int, oldest time.Time, err error) {
	var first sql.NullInt64
	others, args := s.claims.except(now, micros(now))
	err = one(ctx, s.read, "SELECT count(*), min(due_at) FROM deliveries WHERE "+claimable+" AND due_at <= $1"+others, args, &due, &first)
	if first.Valid {
		oldest = at(first.Int64)
	}
	return due, oldest, err
}

// Claim takes up to limit due deliveries of destination, oldest due first, marks them sending until now+lease, raises their claim and
// gives back what is needed to send them. While one is being sent, its DueAt is the end of the lease. A claim whose lease ran
// out is given again, Uncertain. With ordered, a customer's delivery is not given while an earlier one of the destination is open.
// Recipients have identifiers but no traits: those are facts.
func (s *Store) Claim(ctx context.Context, destination string, now time.Time, lease time.Duration, limit int, ordered bool) ([]hub.Claimed, error) {
	if s.claims != nil && strings.HasPrefix(destination, hub.SubscriptionPrefix) {
		return s.claimInMemory(ctx, destination, now, lease, limit, ordered)
	}
	query := "SELECT " + qualified("d", deliveryColumns) + ", d.no FROM deliveries d WHERE d.destination = $1 AND " + of("d", claimable) + " AND d.due_at <= $2"
	if ordered {
		query += afterEarlier()
	}
	query += " ORDER BY d.due_at, d.no LIMIT $3"
	var claimed []hub.Claimed
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		claimed = nil
		if ordered {
			if err := q.catchUp(); err != nil {
				return err
			}
		}
		var lists [][]any
		until := now.Add(lease)
		err := each(ctx, q, query+q.skipping(), []any{destination, micros(now), limit}, func(scan func(...any) error) error {
			var no int64
			d, err := scanDelivery(scan, &no)
			if err != nil {
				return err
			}
			d.Uncertain = d.Uncertain || d.State == hub.DeliverySending
			d.State, d.DueAt = hub.DeliverySending, at(micros(until))
			d.Claim++
			d.Row = no
			lists = append(lists, []any{d.Claim, d.Uncertain, micros(until), no})
			claimed = append(claimed, hub.Claimed{Delivery: d})
			return nil
		})
		if err != nil || len(claimed) == 0 {
			return err
		}
		if _, err := q.many(ctx, "UPDATE deliveries SET state = 'sending', claim = $1, uncertain = $2, due_at = $3 WHERE no = $4", lists); err != nil {
			return err
		}
		if err := loadSlots(ctx, q, claimed); err != nil {
			return err
		}
		return loadRecipients(ctx, q, claimed)
	})
	return claimed, err
}

// afterEarlier leaves out deliveries d that an earlier open one of the same customer and destination goes before. Moments must be complete.
func afterEarlier() string {
	return ` AND NOT EXISTS (SELECT 1 FROM moments m JOIN deliveries e ON e.no = m.no WHERE m.customer_id = d.customer_id AND m.kind = 3 AND m.no < d.no
		AND e.destination = d.destination AND ` + of("e", stillOpen) + ")"
}

// qualified puts a table's name before each column.
func qualified(table, columns string) string {
	names := strings.Split(columns, ",")
	for i := range names {
		names[i] = table + "." + strings.TrimSpace(names[i])
	}
	return strings.Join(names, ", ")
}

func loadSlots(ctx context.Context, q querier, claimed []hub.Claimed) error {
	var slots []string
	for i := range claimed {
		if claimed[i].Slot != "" {
			slots = append(slots, claimed[i].Slot)
		}
	}
	if len(slots) == 0 {
		return nil
	}
	found, err := desiredBySlot(ctx, q, slots, "")
	if err != nil {
		return err
	}
	for i := range claimed {
		if d, ok := found[claimed[i].Slot]; ok {
			claimed[i].Desired = &d
		}
	}
	return nil
}

func desiredBySlot(ctx context.Context, q querier, slots []string, locking string) (map[string]hub.Desired, error) {
	found := make(map[string]hub.Desired, len(slots))
	err := inLists(slots, func(args []any, in string) error {
		return each(ctx, q, "SELECT "+desiredColumns+" FROM desired WHERE slot IN "+in+" ORDER BY slot"+locking, args, func(scan func(...any) error) error {
			d, err := scanDesired(scan)
			found[d.Slot] = d
			return err
		})
	})
	return found, err
}

// inLists calls fn with the ids in sorted chunks and the text of the list.
func inLists(ids []string, fn func(args []any, in string) error) error {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	return chunks(ids, 256, func(some []string) error { return fn(filled(texts(some))) })
}

func loadRecipients(ctx context.Context, q querier, claimed []hub.Claimed) error {
	ids := make([]string, 0, len(claimed))
	for i := range claimed {
		claimed[i].Recipient.CustomerID = claimed[i].CustomerID
		if claimed[i].Body == nil { // a callback's body is frozen: it names whom it is about
			ids = append(ids, claimed[i].CustomerID)
		}
	}
	profiles := map[string][]hub.ProfileRecord{}
	err := inLists(ids, func(args []any, in string) error {
		return each(ctx, q, "SELECT customer_id, id, identifiers FROM profiles WHERE customer_id IN "+in+" ORDER BY customer_id, id", args, func(scan func(...any) error) error {
			var p hub.ProfileRecord
			var text string
			if err := scan(&p.CustomerID, &p.ID, &text); err != nil {
				return err
			}
			var err error
			p.Identifiers, err = decodeIdentifiers(text)
			profiles[p.CustomerID] = append(profiles[p.CustomerID], p)
			return err
		})
	})
	if err != nil {
		return err
	}
	for i := range claimed {
		claimed[i].Recipient.Identifiers = hub.UnionIdentifiers(profiles[claimed[i].CustomerID])
	}
	return nil
}

// Release makes due at now what a process that is gone had in hand: deliveries being sent, which stay in doubt, and records being fetched.
// Only who knows that nobody else works on the database may call it, such as the holder of the lock on SQLite's folder;
// elsewhere the leases run out.
func (s *Store) Release(ctx context.Context, now time.Time) error {
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		if _, err := q.exec(ctx, "UPDATE deliveries SET due_at = $1 WHERE "+claimable+" AND state = 'sending' AND due_at > $2", micros(now), micros(now)); err != nil {
			return err
		}
		_, err := q.exec(ctx, "UPDATE hydrations SET due_at = $1 WHERE state <> 'dead' AND state = 'fetching' AND due_at > $2", micros(now), micros(now))
		return err
	})
}

// Sending journals what is about to be written, in the transaction that sets sent_at, and adds it to what a slot's row has Tried. It wraps hub.ErrConflict and writes nothing
// where one of the claims is not the newest any more: somebody else sends that.
func (s *Store) Sending(ctx context.Context, sends []hub.Send) error {
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		var updates, entries [][]any
		oldest := s.now().Add(-echoLife)
		if err := trying(ctx, q, sends); err != nil {
			return err
		}
		ids := make([]string, len(sends))
		for i := range sends {
			ids[i] = sends[i].DeliveryID
		}
		places, err := q.rowsOf(ctx, momentDelivery, ids)
		if err != nil {
			return err
		}
		for i := range sends {
			f := &sends[i]
			updates = append(updates, []any{micros(f.SentAt), places[f.DeliveryID], f.Claim})
			for j := range f.Writes {
				w := &f.Writes[j]
				entries = append(entries, []any{changeHash(w.Connection, &w.FieldChange), micros(w.SentAt)})
			}
		}
		changed, err := q.many(ctx, "UPDATE deliveries SET sent_at = $1 WHERE no = $2 AND claim = $3 AND state = 'sending'", updates)
		if err != nil {
			return err
		}
		for i, n := range changed {
			if n == 0 {
				return fmt.Errorf("delivery %s: %w", sends[i].DeliveryID, errStaleClaim)
			}
		}
		if len(entries) == 0 {
			return nil
		}
		if _, err := q.exec(ctx, "DELETE FROM journal WHERE sent_at < $1", micros(oldest)); err != nil {
			return err
		}
		_, err = q.many(ctx, "INSERT INTO journal (hash, sent_at, n) VALUES ($1, $2, 1) ON CONFLICT (hash, sent_at) DO UPDATE SET n = journal.n + 1", entries)
		return err
	})
	if errors.Is(err, errStaleClaim) {
		return fmt.Errorf("%w: %w", err, hub.ErrConflict)
	}
	return err
}

// trying notes in the slots' rows which values are about to be sent.
func trying(ctx context.Context, q querier, sends []hub.Send) error {
	values := map[string]string{}
	var slots []string
	for i := range sends {
		if sends[i].Slot != "" {
			slots, values[sends[i].Slot] = append(slots, sends[i].Slot), sends[i].Value
		}
	}
	if len(slots) == 0 {
		return nil
	}
	rows, err := desiredBySlot(ctx, q, slots, q.locking())
	if err != nil {
		return err
	}
	var updates [][]any
	for _, slot := range slots {
		row, value := rows[slot], values[slot]
		if row.Slot == "" || slices.Contains(row.Tried, value) || row.WrittenGeneration > 0 && row.Written == value && len(row.Tried) == 0 {
			continue
		}
		text, err := encodeTexts(append(row.Tried, value))
		if err != nil {
			return err
		}
		updates = append(updates, []any{text, slot})
	}
	_, err = q.many(ctx, "UPDATE desired SET tried = $1 WHERE slot = $2", updates)
	return err
}

// Finish records outcomes and attempts. A delivery whose claim is not the given one any more is left alone. A slot's delivered
// value becomes Written; where the row's generation has moved on past Finished.Generation, a new delivery is due at once. A dead
// one makes a dead letter. A Finished whose Attempt.At is zero hands back: nothing is recorded or counted.
func (s *Store) Finish(ctx context.Context, done []hub.Finished) error {
	held, done := s.claims.end(done)
	if len(done)+len(held) == 0 {
		return nil
	}
	recorded := false
	defer func() { s.claims.ended(held, recorded) }()
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		var r outcomes
		for i := range held {
			if err := r.add(&held[i]); err != nil {
				return err
			}
		}
		return s.finish(ctx, q, done, &r)
	})
	recorded = err == nil
	return err
}

// finish records the outcomes of done beside what r holds already.
func (s *Store) finish(ctx context.Context, q keeper, done []hub.Finished, r *outcomes) error {
	byID := make(map[string]*hub.Finished, len(done))
	var numbers []int64
	var unplaced []string
	for i := range done {
		f := &done[i]
		byID[f.DeliveryID] = f
		if f.Row != 0 {
			numbers = append(numbers, f.Row)
		} else {
			unplaced = append(unplaced, f.DeliveryID)
		}
	}
	places, err := q.rowsOf(ctx, momentDelivery, unplaced)
	if err != nil {
		return err
	}
	numbers = slices.AppendSeq(numbers, maps.Values(places))
	// Slots first: the order of locks is desired state, then deliveries.
	slots, err := lockSlotsOf(ctx, q, numbers)
	if err != nil {
		return err
	}
	var slotted []hub.Delivery
	err = inNumbers(numbers, func(args []any, in string) error {
		query := "SELECT no, id, destination, subject_kind, subject_id, attempts, slot, external_id, cause, last, claim FROM deliveries WHERE no IN " + in +
			" AND state = 'sending' ORDER BY no" + q.locking()
		return each(ctx, q, query, args, func(scan func(...any) error) error {
			var d hub.Delivery
			var kind, cause, last string
			if err := scan(&d.Row, &d.ID, &d.Destination, &kind, &d.Subject.ID, &d.Attempts, &d.Slot, &d.ExternalID, &cause, &last, &d.Claim); err != nil {
				return err
			}
			f := byID[d.ID]
			if f == nil || f.Claim != d.Claim {
				return nil
			}
			if d.Slot != "" {
				var err error
				if d.Cause, err = decodeCause(cause); err != nil {
					return err
				}
				d.Subject.Kind = hub.SubjectKind(kind)
				slotted = append(slotted, d)
			}
			former, err := decodeAttempt(last)
			if err != nil {
				return err
			}
			return r.add(&ending{Finished: f, row: d.Row, destination: d.Destination, attempts: d.Attempts, externalID: d.ExternalID, former: former})
		})
	})
	if err != nil {
		return err
	}
	if err := r.save(ctx, q); err != nil {
		return err
	}
	for i := range slotted {
		d := &slotted[i]
		if err := s.finishSlot(ctx, q, d, byID[d.ID], slots[d.Slot]); err != nil {
			return err
		}
	}
	return nil
}

// lockSlotsOf locks the desired rows of deliveries, in order, and returns them by slot.
func lockSlotsOf(ctx context.Context, q querier, numbers []int64) (map[string]hub.Desired, error) {
	var slots []string
	err := inNumbers(numbers, func(args []any, in string) error {
		return each(ctx, q, "SELECT slot FROM deliveries WHERE no IN "+in+" AND slot <> ''", args, func(scan func(...any) error) error {
			var slot string
			err := scan(&slot)
			slots = append(slots, slot)
			return err
		})
	})
	if err != nil || len(slots) == 0 {
		return nil, err
	}
	return desiredBySlot(ctx, q, slots, q.locking())
}

func (s *Store) finishSlot(ctx context.Context, q keeper, d *hub.Delivery, f *hub.Finished, row hub.Desired) error {
	if row.Slot == "" || f.Generation == 0 {
		return nil // the slot was merged away, or the value was never read
	}
	if f.State == hub.DeliveryDelivered && f.Generation > row.WrittenGeneration {
		if _, err := q.exec(ctx, "UPDATE desired SET written = $1, written_generation = $2, tried = '' WHERE slot = $3", f.Written, f.Generation, d.Slot); err != nil {
			return err
		}
	}
	if row.Generation <= f.Generation {
		return nil
	}
	switch f.State {
	case hub.DeliveryDue, hub.DeliveryRetrying, hub.DeliveryHeld, hub.DeliveryParked:
		return nil // still open: it reads the newest value when it is claimed
	}
	cause, err := encodeCause(&d.Cause)
	if err != nil {
		return err
	}
	return slotDelivery(ctx, q, &row, d.Subject, cause, s.now())
}

// Deliveries returns deliveries, the newest first.
func (s *Store) Deliveries(ctx context.Context, q hub.DeliveryQuery) ([]hub.Delivery, string, error) {
	b := newList("SELECT "+deliveryColumns+", no FROM deliveries", "no", q.Page)
	s.claims.only(b, q.State)
	switch q.State {
	case hub.DeliveryHeld, hub.DeliveryParked, hub.DeliveryDead:
		b.and(aside)
	}
	b.equal("destination", q.Destination)
	if q.CustomerID != "" {
		if s.late {
			b.and("no IN (SELECT no FROM moments WHERE customer_id = ? AND kind = 3 UNION ALL SELECT no FROM moments_waiting WHERE customer_id = ? AND kind = 3)", q.CustomerID, q.CustomerID)
		} else {
			b.and("no IN (SELECT no FROM moments WHERE customer_id = ? AND kind = 3)", q.CustomerID)
		}
	}
	var all []hub.Delivery
	next, err := b.run(ctx, s.read, func(scan func(...any) error, key *int64) error {
		d, err := scanDelivery(scan, key)
		s.claims.show(*key, &d)
		all = append(all, d)
		return err
	})
	return all[:min(len(all), b.limit)], next, err
}

// Delivery returns one delivery and its attempts, the oldest first; hub.ErrNotFound where there is none.
func (s *Store) Delivery(ctx context.Context, id string) (hub.Delivery, []hub.Attempt, error) {
	var d hub.Delivery
	var row int64
	places, err := s.rowsOf(ctx, momentDelivery, []string{id})
	if err != nil {
		return d, nil, err
	}
	err = inPlaces(places, func(args []any, in string) error {
		return each(ctx, s.read, "SELECT "+deliveryColumns+", no FROM deliveries WHERE no IN "+in, args, func(scan func(...any) error) (err error) {
			d, err = scanDelivery(scan, &row)
			return err
		})
	})
	if err != nil {
		return d, nil, err
	}
	if d.ID == "" {
		return d, nil, notFound("delivery", id)
	}
	s.claims.show(row, &d)
	attempts, err := s.attempts(ctx, row, d.Last)
	return d, attempts, err
}

// DeadLetters returns dead letters, the newest first.
func (s *Store) DeadLetters(ctx context.Context, p hub.Page) ([]hub.DeadLetter, string, error) {
	b := newList("SELECT id, of_what, ref, at, reason, place, attempts, no FROM dead_letters", "no", p)
	var all []hub.DeadLetter
	next, err := b.run(ctx, s.read, func(scan func(...any) error, key *int64) error {
		var d hub.DeadLetter
		var when int64
		err := scan(&d.ID, &d.Of, &d.Ref, &when, &d.Reason, &d.Place, &d.Attempts, key)
		d.At = at(when)
		all = append(all, d)
		return err
	})
	return all[:min(len(all), b.limit)], next, err
}

// Redrive makes dead deliveries due again, with their attempts counted anew: those of destination ("" for all), or those of ids where
// any are given. It returns how many. One whose slot has an open delivery by now is left dead: the newest value is on its way already.
func (s *Store) Redrive(ctx context.Context, destination string, ids []string, now time.Time) (int, error) {
	var count int
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		count = 0
		chosen, err := deadDeliveries(ctx, q, destination, ids)
		if err != nil {
			return err
		}
		for id, no := range chosen {
			n, err := q.exec(ctx, `UPDATE deliveries SET state = 'due', due_at = $1, attempts = 0 WHERE no = $2 AND state = 'dead'
				AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.slot = deliveries.slot AND o.slot <> '' AND `+of("o", stillOpen)+")", micros(now), no)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			count++
			if err := forgetDead(ctx, q, id); err != nil {
				return err
			}
		}
		return nil
	})
	return count, err
}

// deadDeliveries returns the places of those to redrive, by id.
func deadDeliveries(ctx context.Context, q keeper, destination string, ids []string) (map[string]int64, error) {
	chosen := map[string]int64{}
	collect := func(scan func(...any) error) error { return scanPlace(scan, chosen) }
	const dead = "SELECT id, no FROM deliveries WHERE state = 'dead' AND " + aside
	switch {
	case len(ids) > 0:
		places, err := q.rowsOf(ctx, momentDelivery, ids)
		if err != nil {
			return nil, err
		}
		return chosen, inPlaces(places, func(args []any, in string) error {
			if destination == "" {
				return each(ctx, q, "SELECT id, no FROM deliveries WHERE no IN "+in+" AND state = 'dead'", args, collect)
			}
			n := len(args) + 1
			return each(ctx, q, "SELECT id, no FROM deliveries WHERE no IN "+in+" AND state = 'dead' AND destination = "+placeholders(n, 1), append(args, destination), collect)
		})
	case destination != "":
		return chosen, each(ctx, q, dead+" AND destination = $1", []any{destination}, collect)
	default:
		return chosen, each(ctx, q, dead, nil, collect)
	}
}

// errStaleClaim is not hub.ErrConflict inside the transaction: repeating would not help.
var errStaleClaim = errors.New("claimed by somebody else since")
