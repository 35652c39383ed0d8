package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// The parts of hub.Tx that run seldom enough to be one text for both databases.

// identifierHash is an identifier's primary key: 16 bytes of kind and value, then 4 of its connection.
func identifierHash(id *hub.Identifier) []byte {
	key := make([]byte, 0, 20)
	key = append(key, valueHash(id.Kind, id.Value)...)
	owner := sha256.Sum256([]byte(id.Connection))
	return append(key, owner[:4]...)
}

// valueHash is the first part of identifierHash: whoever issued the value.
func valueHash(parts ...string) []byte {
	var stack [256]byte
	buf := stack[:0]
	for _, p := range parts {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(p)))
		buf = append(buf, p...)
	}
	sum := sha256.Sum256(buf)
	return append([]byte(nil), sum[:16]...)
}

func advance(ctx context.Context, q querier, c hub.Cursor) (bool, error) {
	if c.After == 0 {
		n, err := q.exec(ctx, `INSERT INTO cursors (incarnation, partition_no, seq) VALUES ($1, $2, $3)
			ON CONFLICT (incarnation, partition_no) DO UPDATE SET seq = excluded.seq WHERE cursors.seq < excluded.seq`, c.Incarnation, c.Partition, int64(c.Seq))
		return n > 0, err
	}
	n, err := q.exec(ctx, "UPDATE cursors SET seq = $1 WHERE incarnation = $2 AND partition_no = $3 AND seq < $1 AND seq >= $4",
		int64(c.Seq), c.Incarnation, c.Partition, int64(c.After))
	if n > 0 || err != nil {
		return n > 0, err
	}
	var done int64
	err = one(ctx, q, "SELECT coalesce(max(seq), 0) FROM cursors WHERE incarnation = $1 AND partition_no = $2", []any{c.Incarnation, c.Partition}, &done)
	// Not asked for together with the update: the frame before may have been committed in between.
	if err == nil && done < int64(c.Seq) {
		err = fmt.Errorf("store: frame %d of partition %d waits for %d, the cursor stands at %d: %w", c.Seq, c.Partition, c.After, done, hub.ErrTransient)
	}
	return false, err
}

// stillOpen is the condition of a delivery that is not finished. The partial indexes say it in these words.
const stillOpen = "(state = 'held' OR state = 'due' OR state = 'sending' OR state = 'retrying' OR state = 'parked')"

// stillKeyed is that of a task that may still be open: also the one that was created, until it is closed.
const stillKeyed = "(state = 'held' OR state = 'due' OR state = 'sending' OR state = 'retrying' OR state = 'parked' OR state = 'delivered')"

func openKeys(ctx context.Context, q querier, customerID string, keys []string) (map[string]bool, error) {
	open := make(map[string]bool, len(keys))
	for _, key := range keys {
		var n int64
		err := one(ctx, q, "SELECT count(*) FROM deliveries WHERE customer_id = $1 AND key = $2 AND key <> '' AND "+stillKeyed, []any{customerID, key}, &n)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			open[key] = true
		}
	}
	return open, nil
}

const (
	echoEarly = 30 * time.Second // how much later than the echo a write may have been sent, by the clocks
	echoLife  = 24 * time.Hour
)

func changeHash(connection string, c *hub.FieldChange) []byte {
	return valueHash(connection, c.Object, c.ID, c.Field, c.Value)
}

func consumeEcho(ctx context.Context, q querier, connection string, change hub.FieldChange, seen time.Time) (bool, error) {
	hash := changeHash(connection, &change)
	var sent, n int64
	err := one(ctx, q, "SELECT sent_at, n FROM journal WHERE hash = $1 AND sent_at <= $2 AND sent_at > $3 ORDER BY sent_at LIMIT 1"+q.locking(),
		[]any{hash, micros(seen.Add(echoEarly)), micros(seen.Add(-echoLife))}, &sent, &n)
	if errors.Is(err, hub.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if n > 1 {
		_, err = q.exec(ctx, "UPDATE journal SET n = n - 1 WHERE hash = $1 AND sent_at = $2", hash, sent)
	} else {
		_, err = q.exec(ctx, "DELETE FROM journal WHERE hash = $1 AND sent_at = $2", hash, sent)
	}
	return err == nil, err
}

func horizons(ctx context.Context, q querier) (map[string]hub.Horizon, error) {
	found := map[string]hub.Horizon{}
	err := each(ctx, q, "SELECT connection, at, hold, computed_at FROM horizons", nil, func(scan func(...any) error) error {
		var h hub.Horizon
		var when, hold, computed int64
		if err := scan(&h.Connection, &when, &hold, &computed); err != nil {
			return err
		}
		h.At, h.Hold, h.ComputedAt = at(when), at(hold), at(computed)
		found[h.Connection] = h
		return nil
	})
	return found, err
}

func activeVersion(ctx context.Context, q querier) (set, scores int64, err error) {
	err = one(ctx, q, "SELECT (SELECT coalesce(max(number), 0) FROM model_sets WHERE state = 'active'), (SELECT coalesce(max(version), 0) FROM scores)",
		nil, &set, &scores)
	return set, scores, err
}

const (
	desiredSaved   = "slot, destination, customer_id, field, action, mode, value, generation, written, written_generation, updated_at"
	desiredColumns = desiredSaved + ", tried"
)

func scanDesired(scan func(...any) error) (d hub.Desired, err error) {
	var updated int64
	var tried string
	if err := scan(&d.Slot, &d.Destination, &d.CustomerID, &d.Field, &d.Action, &d.Mode, &d.Value, &d.Generation, &d.Written, &d.WrittenGeneration, &updated, &tried); err != nil {
		return d, err
	}
	d.UpdatedAt, d.Tried = at(updated), decodeTexts(tried)
	return d, nil
}

// saveRare writes what few transactions have: pins, merges, desired state, dead letters.
func saveRare(ctx context.Context, q keeper, c *hub.Changes, now time.Time) error {
	for i := range c.Pins {
		if err := savePin(ctx, q, &c.Pins[i]); err != nil {
			return err
		}
	}
	for i := range c.Merges {
		if err := saveMerge(ctx, q, &c.Merges[i], now); err != nil {
			return err
		}
	}
	if len(c.Desired) > 0 {
		lists := make([][]any, len(c.Desired))
		for i := range c.Desired {
			d := &c.Desired[i]
			lists[i] = []any{d.Slot, d.Destination, d.CustomerID, d.Field, d.Action, d.Mode, d.Value, d.Generation, d.Written, d.WrittenGeneration, micros(d.UpdatedAt)}
		}
		// Tried belongs to Sending and Finish, and so does Written: an older one never replaces a newer.
		if _, err := q.many(ctx, "INSERT INTO desired ("+desiredSaved+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
			ON CONFLICT (slot) DO UPDATE SET action = excluded.action, mode = excluded.mode, value = excluded.value, generation = excluded.generation,
			written = CASE WHEN excluded.written_generation >= desired.written_generation THEN excluded.written ELSE desired.written END,
			written_generation = CASE WHEN excluded.written_generation >= desired.written_generation THEN excluded.written_generation ELSE desired.written_generation END,
			updated_at = excluded.updated_at`, lists); err != nil {
			return err
		}
	}
	for _, done := range c.Closed {
		if done.Reference != "" {
			places, err := q.rowsOf(ctx, momentDelivery, []string{done.Reference})
			if err != nil {
				return err
			}
			if no, there := places[done.Reference]; there {
				if _, err := q.exec(ctx, "UPDATE deliveries SET key = '' WHERE no = $1 AND key <> ''", no); err != nil {
					return err
				}
			}
			continue
		}
		if _, err := q.exec(ctx, "UPDATE deliveries SET key = '' WHERE customer_id = $1 AND key <> '' AND "+stillKeyed+" AND destination = $2 AND external_id = $3",
			done.CustomerID, done.Destination, done.ExternalID); err != nil {
			return err
		}
	}
	return saveDead(ctx, q, c.DeadLetters)
}

// savePin sets a pin; one without a stage is released.
func savePin(ctx context.Context, q querier, p *hub.PinRecord) error {
	if p.Stage == "" {
		_, err := q.exec(ctx, "DELETE FROM pins WHERE subject_id = $1 AND model = $2 AND subject_kind = $3", p.Subject.ID, p.Model, string(p.Subject.Kind))
		return err
	}
	_, err := q.exec(ctx, `INSERT INTO pins (subject_kind, subject_id, model, stage, who, why, at, until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (subject_id, model, subject_kind) DO UPDATE SET stage = excluded.stage, who = excluded.who, why = excluded.why, at = excluded.at, until = excluded.until`,
		string(p.Subject.Kind), p.Subject.ID, p.Model, p.Stage, p.Who, p.Why, micros(p.At), micros(p.Until))
	return err
}

func saveDead(ctx context.Context, q querier, dead []hub.DeadLetter) error {
	if len(dead) == 0 {
		return nil
	}
	lists := make([][]any, len(dead))
	for i := range dead {
		d := &dead[i]
		lists[i] = []any{d.ID, d.Of, d.Ref, micros(d.At), printable(d.Reason), printable(d.Place), d.Attempts}
	}
	_, err := q.many(ctx, `INSERT INTO dead_letters (id, of_what, ref, at, reason, place, attempts) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET at = excluded.at, reason = excluded.reason, place = excluded.place, attempts = excluded.attempts`, lists)
	return err
}

// printable makes text of an error fit to store: a bad byte in it must not lose the record that tells of it.
func printable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}

// saveWoken makes skipped desired state due again where the customer has become known.
func saveWoken(ctx context.Context, q keeper, c *hub.Changes, now time.Time) error {
	if len(c.Woken) > 0 {
		if err := q.catchUp(); err != nil {
			return err
		}
	}
	for _, w := range c.Woken {
		var waiting []hub.Desired
		err := each(ctx, q, "SELECT "+desiredColumns+` FROM desired WHERE customer_id = $1 AND destination = $2 AND written_generation < generation
			AND EXISTS (SELECT 1 FROM moments m JOIN deliveries d ON d.no = m.no WHERE m.customer_id = desired.customer_id AND m.kind = 3
				AND d.slot = desired.slot AND d.state = 'skipped')
			ORDER BY slot`+q.locking(), []any{w.CustomerID, w.Destination}, func(scan func(...any) error) error {
			d, err := scanDesired(scan)
			waiting = append(waiting, d)
			return err
		})
		if err != nil {
			return err
		}
		for i := range waiting {
			if err := slotDelivery(ctx, q, &waiting[i], hub.Subject{Kind: hub.SubjectCustomer, ID: w.CustomerID}, "", now); err != nil {
				return err
			}
		}
	}
	return nil
}

const deliveryColumns = `id, destination, action, customer_id, subject_kind, subject_id, state, due_at, attempts, created_at, slot, key, params, body, reference, sent_at,
	uncertain, external_id, cause, last, claim`

// insertDelivery leaves alone a delivery that is there already, and a slot that has an open one: that one reads the newest value
// when it is claimed, or Finish makes the next.
const insertDelivery = "INSERT INTO deliveries (" + deliveryColumns + `)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) ON CONFLICT DO NOTHING`

// slotDelivery makes a delivery of the slot's present generation due, unless one is open.
func slotDelivery(ctx context.Context, q keeper, d *hub.Desired, subject hub.Subject, cause string, now time.Time) error {
	id := hub.DeriveID(hub.PrefixDelivery, d.Slot, strconv.FormatInt(d.Generation, 10))
	added, err := q.addDelivery(ctx, []any{
		id, d.Destination, d.Action, d.CustomerID, string(subject.Kind), subject.ID, hub.DeliveryDue, micros(now), 0, micros(now),
		d.Slot, "", "", nil, "", micros(time.Time{}), 0, "", cause, "", 0,
	})
	if err != nil || added {
		return err
	}
	// The id is there (this generation was tried before) or the slot has an open one.
	places, err := q.rowsOf(ctx, momentDelivery, []string{id})
	if err != nil {
		return err
	}
	_, err = q.exec(ctx, `UPDATE deliveries SET state = 'due', due_at = $1, attempts = 0 WHERE no = $2 AND state IN ('skipped', 'superseded')
		AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.slot = deliveries.slot AND o.slot <> '' AND `+of("o", stillOpen)+")", micros(now), places[id])
	return err
}
