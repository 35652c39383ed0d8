package store

import (
	"context"
	"fmt"

	"github.com/stagewire/stagewire/internal/hub"
)

// The statements of Save that every event runs. A row that was loaded is updated without naming the columns of its
// indexes that stay as they are: SQLite rewrites the entry of every index whose column is named.

func (t *sqliteTx) saveCustomers(c *hub.Changes) error {
	for _, r := range c.Customers {
		var b binder
		if no, loaded := t.people[r.ID]; loaded && r.MergedInto == "" {
			b = t.prepare(`UPDATE customers SET sequence = $1, first_event_at = $2, decided_at = $3, updated_at = $4, name = $5, email = $6, tags = $7, previous = $8, kind = $9
				WHERE no = $10`)
			b.int(r.Sequence).time(r.FirstEventAt).time(r.DecidedAt).time(r.UpdatedAt).text(r.Name).text(r.Email).
				encoded(encodeTexts(r.Tags)).encoded(encodePrevious(r.Previous)).text(string(r.Kind)).int(no)
		} else {
			whole := func(query string) error {
				b := t.prepare(query)
				return b.text(r.ID).text(string(r.Kind)).int(r.Sequence).time(r.FirstEventAt).time(r.DecidedAt).time(r.CreatedAt).time(r.UpdatedAt).text(r.MergedInto).
					text(r.Name).text(r.Email).encoded(encodeTexts(r.Tags)).encoded(encodePrevious(r.Previous)).run()
			}
			no, err := t.insertOr(whole, insertCustomer+" DO NOTHING", insertCustomer+replaceCustomer)
			if err != nil {
				return err
			}
			if no != 0 {
				t.people[r.ID], t.made[r.ID] = no, no
			}
			continue
		}
		if err := b.run(); err != nil {
			return err
		}
	}
	return nil
}

const insertCustomer = "INSERT INTO customers (" + customerColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id)"

const replaceCustomer = ` DO UPDATE SET sequence = excluded.sequence, first_event_at = excluded.first_event_at, decided_at = excluded.decided_at,
	updated_at = excluded.updated_at, merged_into = excluded.merged_into, name = excluded.name, email = excluded.email, tags = excluded.tags, previous = excluded.previous, kind = excluded.kind`

// insertOr runs insert, which leaves a row that is there alone, and returns the number of the new row. Where there is one, it runs
// replace and returns 0.
func (t *sqliteTx) insertOr(run func(query string) error, insert, replace string) (int64, error) {
	if err := run(insert); err != nil {
		return 0, err
	}
	if t.conn.Changes() > 0 {
		return t.conn.LastInsertRowID(), nil
	}
	return 0, run(replace)
}

func (t *sqliteTx) saveProfiles(c *hub.Changes) error {
	for i := range c.Profiles {
		r := &c.Profiles[i]
		facts := r.Facts
		if facts == nil {
			facts = []byte{}
		}
		var b binder
		if row, loaded := t.profiles[r.ID]; loaded && row.customer == r.CustomerID {
			b = t.prepare("UPDATE profiles SET joined_into = $1, identifiers = $2, facts = $3 WHERE no = $4")
			b.text(r.JoinedInto).encoded(encodeIdentifiers(r.Identifiers)).bytes(facts).int(row.no)
		} else {
			whole := func(query string) error {
				b := t.prepare(query)
				return b.text(r.ID).text(r.CustomerID).text(r.Connection).text(r.Key).text(r.JoinedInto).encoded(encodeIdentifiers(r.Identifiers)).bytes(facts).run()
			}
			no, err := t.insertOr(whole, insertProfile+" DO NOTHING", insertProfile+replaceProfile)
			if err != nil {
				return err
			}
			if no != 0 {
				t.profiles[r.ID] = owned{no, r.CustomerID}
			} else {
				delete(t.profiles, r.ID)
			}
			continue
		}
		if err := b.run(); err != nil {
			return err
		}
	}
	return nil
}

const (
	insertProfile  = "INSERT INTO profiles (id, customer_id, connection, key, joined_into, identifiers, facts) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id)"
	replaceProfile = ` DO UPDATE SET customer_id = excluded.customer_id, joined_into = excluded.joined_into, identifiers = excluded.identifiers,
		facts = excluded.facts`
)

func (t *sqliteTx) saveIdentifiers(c *hub.Changes) error {
	for i := range c.Identifiers {
		r := &c.Identifiers[i]
		b := t.prepare(`INSERT INTO identifiers (hash, kind, connection, value, flags, customer_id, profile_id) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (hash) DO UPDATE SET flags = excluded.flags, customer_id = excluded.customer_id, profile_id = excluded.profile_id`)
		b.bytes(identifierHash(&r.Identifier)).text(r.Kind).text(r.Connection).text(r.Value).int(identifierFlags(&r.Identifier)).text(r.CustomerID).text(r.ProfileID)
		if err := b.run(); err != nil {
			return err
		}
	}
	return nil
}

func (t *sqliteTx) saveStages(c *hub.Changes) error {
	for i := range c.Stages {
		r := &c.Stages[i]
		key := stageKey{r.CustomerID, r.Subject, r.Model}
		if row, loaded := t.stages[key]; loaded {
			if err := t.updateStage(r, row); err != nil {
				return err
			}
			t.stages[key] = standing{row.no, r.WakesAt}
			continue
		}
		whole := func(query string) error {
			b := t.prepare(query)
			b.text(r.CustomerID).text(string(r.Subject.Kind)).text(r.Subject.ID).text(r.Model)
			return b.int(int64(r.Version)).text(r.Stage).time(r.Since).text(r.By).time(r.DecidedAt).wake(r.WakesAt).bytes(r.Path).time(entered(r)).int(bit(r.Adopted)).run()
		}
		no, err := t.insertOr(whole, insertStage+" DO NOTHING", insertStage+replaceStage)
		if err != nil {
			return err
		}
		if no != 0 {
			t.stages[key] = standing{no, r.WakesAt}
		}
	}
	return nil
}

// updateStage updates a loaded row, and its looks_at only where it must (wake.go). A wake-up that has passed is about to be looked at, or has
// just been: there its looks_at follows at once, which spares the poll a second look.
func (t *sqliteTx) updateStage(r *hub.StageRecord, row standing) error {
	ahead := row.wakes.After(r.DecidedAt) && !r.WakesAt.IsZero()
	var b binder
	switch {
	case row.wakes.Equal(r.WakesAt):
		b = t.prepare("UPDATE stages SET version = $1, stage = $2, since = $3, decided_by = $4, decided_at = $5, path = $6 WHERE no = $7")
	case ahead:
		b = t.prepare(updateWake)
	default:
		b = t.prepare(updateLook)
	}
	b.int(int64(r.Version)).text(r.Stage).time(r.Since).text(r.By).time(r.DecidedAt).bytes(r.Path)
	if !row.wakes.Equal(r.WakesAt) {
		b.wake(r.WakesAt)
	}
	if err := b.int(row.no).run(); err != nil || !ahead || !r.WakesAt.Before(row.wakes) {
		return err
	}
	b = t.prepare(lookEarlier)
	return b.time(r.WakesAt).int(row.no).run()
}

const (
	updateWake  = "UPDATE stages SET version = $1, stage = $2, since = $3, decided_by = $4, decided_at = $5, path = $6, wakes_at = $7 WHERE no = $8"
	updateLook  = "UPDATE stages SET version = $1, stage = $2, since = $3, decided_by = $4, decided_at = $5, path = $6, wakes_at = $7, looks_at = $7 WHERE no = $8"
	lookEarlier = "UPDATE stages SET looks_at = $1 WHERE no = $2 AND looks_at > $1"
)

const (
	insertStage = `INSERT INTO stages (customer_id, subject_kind, subject_id, model, version, stage, since, decided_by, decided_at, wakes_at, path, entered_at, adopted, looks_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $10) ON CONFLICT (customer_id, subject_kind, subject_id, model)`
	replaceStage = ` DO UPDATE SET version = excluded.version, stage = excluded.stage, since = excluded.since,
		decided_by = excluded.decided_by, decided_at = excluded.decided_at, wakes_at = excluded.wakes_at, path = excluded.path, looks_at = excluded.looks_at`
)

func (t *sqliteTx) saveLedger(c *hub.Changes, bodies []encodedText) error {
	if len(c.Ledger) == 0 {
		return nil
	}
	l, err := t.behind()
	if err != nil {
		return err
	}
	for i := range c.Ledger {
		r := &c.Ledger[i]
		if there, asked := t.asked[r.ID]; there || !asked {
			if err := t.replace(r); err != nil {
				return err
			}
		}
		t.asked[r.ID] = true
		b := t.prepare(`INSERT INTO events (id, activation, fetch_no, profile_id, customer_id, occurred_at, known_from, withdrawn, body)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`)
		b.text(r.ID).int(r.Version.Activation).int(r.Version.Fetch).text(r.ProfileID).text(r.CustomerID).time(r.OccurredAt).int(r.KnownFrom).
			int(bit(r.Withdrawn)).encoded(bodies[i].text, bodies[i].err)
		if err := b.run(); err != nil {
			return err
		}
		l.add(momentEvent, idHash(r.ID), t.conn.LastInsertRowID())
	}
	return nil
}

// replace ends the versions of an event that r takes the place of.
func (t *sqliteTx) replace(r *hub.LedgerRecord) error {
	var older []int64
	same := false
	if err := t.versions(r.ID, func(v version) {
		older, same = append(older, v.no), same || v.Version == r.Version
	}); err != nil {
		return err
	}
	if same {
		return fmt.Errorf("store: event %s: this version is there: %w", r.ID, hub.ErrConflict)
	}
	for _, no := range older {
		b := t.prepare("UPDATE events SET known_until = $1 WHERE no = $2 AND known_until IS NULL")
		if err := b.int(r.KnownFrom).int(no).run(); err != nil {
			return err
		}
	}
	return nil
}

func (t *sqliteTx) saveTransitions(c *hub.Changes) error {
	for i := range c.Transitions {
		r := &c.Transitions[i]
		b := t.prepare("INSERT INTO transitions (" + transitionColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)")
		b.text(r.ID).text(string(r.Subject.Kind)).text(r.Subject.ID).text(r.CustomerID).text(r.Model).int(int64(r.Version)).text(r.From).text(r.To).
			time(r.At).time(r.DecidedAt).int(r.Sequence).text(r.Cause.Type).text(r.Cause.ID).int(int64(r.Rule)).int(bit(r.Passing)).text(r.Why)
		if err := b.run(); err != nil {
			return err
		}
		t.late.moves++
	}
	return nil
}

const transitionColumns = "id, subject_kind, subject_id, customer_id, model, version, from_stage, to_stage, at, decided_at, sequence, cause_type, cause_id, rule, passing, why"

func (t *sqliteTx) saveDeliveries(c *hub.Changes, causes []encodedText) error {
	for i := range c.Deliveries {
		r := &c.Deliveries[i]
		if there, err := t.owed(r); err != nil || there {
			if err != nil {
				return err
			}
			continue
		}
		b := t.prepare(insertDelivery)
		b.text(r.ID).text(r.Destination).text(r.Action).text(r.CustomerID).text(string(r.Subject.Kind)).text(r.Subject.ID).text(r.State).time(r.DueAt).
			int(int64(r.Attempts)).time(r.CreatedAt).text(r.Slot).text(r.Key).encoded(encodeValues(r.Params)).bytes(r.Body).text(r.Reference).time(r.SentAt).
			int(bit(r.Uncertain)).text(r.ExternalID).encoded(causes[i].text, causes[i].err).encoded(encodeAttempt(r.Last)).int(r.Claim)
		if err := b.run(); err != nil {
			return err
		}
		if t.conn.Changes() > 0 { // else the slot has an open one
			t.late.add(momentDelivery, idHash(r.ID), t.conn.LastInsertRowID())
		}
	}
	return nil
}

// owed reports whether a delivery is there already. Callbacks of an event that is new are named after it: only this transaction can
// have made them.
func (t *sqliteTx) owed(r *hub.Delivery) (bool, error) {
	if r.Action == "callback" && t.fresh[r.Cause.EventID] {
		return t.waits(momentDelivery, r.ID)
	}
	return t.has(momentDelivery, r.ID)
}

// addDelivery is saveDeliveries for one that was made inside the store.
func (t *sqliteTx) addDelivery(ctx context.Context, args []any) (bool, error) {
	id, _ := args[0].(string)
	if there, err := t.has(momentDelivery, id); err != nil || there {
		return false, err
	}
	n, err := t.exec(ctx, insertDelivery, args...)
	if err == nil && n > 0 {
		t.late.add(momentDelivery, idHash(id), t.conn.LastInsertRowID())
	}
	return n > 0, err
}

func (t *sqliteTx) addWebhooks(_ context.Context, rows []newWebhook) error {
	if _, err := t.behind(); err != nil {
		return err
	}
	for _, w := range rows {
		b := t.prepare(insertWebhook)
		b.text(w.ID).text(w.Connection).time(w.ReceivedAt).text(w.State).text(printable(w.Reason)).text(w.kinds).text(w.events).
			text(w.Position.Incarnation).int(int64(w.Position.Seq)).int(int64(w.Position.Index)).int(w.Activation)
		if err := b.run(); err != nil {
			return err
		}
		t.late.add(placeWebhook, idHash(w.ID), t.conn.LastInsertRowID())
	}
	return nil
}

// saveOutbox gives each row its place in the feed, where it can be read from then on: with one writer, rows are committed in the order in
// which they are inserted.
func (t *sqliteTx) saveOutbox(c *hub.Changes) error {
	if len(c.Outbox) == 0 {
		return nil
	}
	if err := t.feed.load(t); err != nil {
		return err
	}
	now := micros(t.now())
	for i := range c.Outbox {
		r := &c.Outbox[i]
		body := r.Body
		if body == nil {
			body = []byte{}
		}
		b := t.prepare("INSERT INTO outbox (id, kind, subject, customer_id, body, created_at, position, published_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
		b.text(r.ID).text(r.Kind).text(r.Subject).text(r.CustomerID).bytes(body).time(r.CreatedAt).int(t.feed.next()).int(now)
		if err := b.run(); err != nil {
			return err
		}
	}
	return nil
}

// feedEnd is what the writer knows of the feed's end. The zero value knows nothing. It holds positions that were rolled back too unless it is
// forgotten then.
type feedEnd struct {
	known bool
	last  int64 // the highest position given
}

// load reads where the feed ends, unless it is known.
func (f *feedEnd) load(q querier) (err error) {
	if !f.known {
		f.last, err = lastPosition(context.Background(), q)
		f.known = err == nil
	}
	return err
}

// next gives a position.
func (f *feedEnd) next() int64 {
	f.last++
	return f.last
}

// forget makes the next load read again: after a rollback.
func (f *feedEnd) forget() { f.known = false }
