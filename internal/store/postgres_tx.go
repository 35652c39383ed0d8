package store

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stagewire/stagewire/internal/hub"
)

// postgresTx is hub.Tx on PostgreSQL: arrays in, sets out, few round trips.
type postgresTx struct {
	postgresQuerier
	now   func() time.Time
	asked map[string]bool // event ids looked up in the ledger, and whether they were there
}

func (t *postgresTx) Advance(ctx context.Context, c hub.Cursor) (bool, error) {
	return advance(ctx, t, c)
}

func (t *postgresTx) Ledger(ctx context.Context, ids []string) (map[string]hub.LedgerEntry, error) {
	if t.asked == nil {
		t.asked = make(map[string]bool, len(ids))
	}
	for _, id := range ids {
		t.asked[id] = false
	}
	known := make(map[string]hub.LedgerEntry)
	err := each(ctx, t, `SELECT DISTINCT ON (id) id, activation, fetch_no, profile_id, withdrawn FROM events WHERE id = ANY($1::text[])
		ORDER BY id, activation DESC, fetch_no DESC`, []any{ids}, func(scan func(...any) error) error {
		var id string
		var e hub.LedgerEntry
		err := scan(&id, &e.Version.Activation, &e.Version.Fetch, &e.ProfileID, &e.Withdrawn)
		known[id], t.asked[id] = e, true
		return err
	})
	return known, err
}

func (t *postgresTx) LockIdentifiers(ctx context.Context, ids []hub.Identifier) ([]hub.IdentifierRecord, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var found []hub.IdentifierRecord
	byHash := make(map[string]*hub.Identifier, len(ids))
	for i := range ids {
		byHash[string(identifierHash(&ids[i]))] = &ids[i]
	}
	var hashes [][]byte
	var kinds, connections, values []string
	var flags []int64
	for _, h := range slices.Sorted(maps.Keys(byHash)) {
		id := byHash[h]
		hashes, kinds, connections, values = append(hashes, []byte(h)), append(kinds, id.Kind), append(connections, id.Connection), append(values, id.Value)
		flags = append(flags, identifierFlags(id))
	}
	if _, err := t.exec(ctx, `INSERT INTO identifiers (hash, kind, connection, value, flags, customer_id, profile_id)
		SELECT h, k, c, v, f, '', '' FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS i(h, k, c, v, f) ORDER BY h
		ON CONFLICT (hash) DO NOTHING`, hashes, kinds, connections, values, flags); err != nil {
		return nil, err
	}
	// A statement of its own, so that its snapshot is younger than the locks the first one waited for.
	err := each(ctx, t, "SELECT kind, connection, value, flags, customer_id, profile_id FROM identifiers WHERE hash = ANY($1::bytea[]) ORDER BY hash FOR UPDATE",
		[]any{hashes}, func(scan func(...any) error) error {
			var r hub.IdentifierRecord
			var bits int64
			if err := scan(&r.Kind, &r.Connection, &r.Value, &bits, &r.CustomerID, &r.ProfileID); err != nil {
				return err
			}
			if r.CustomerID != "" {
				r.Identifier = identifierOf(r.Kind, r.Connection, r.Value, bits)
				found = append(found, r)
			}
			return nil
		})
	return found, err
}

func (t *postgresTx) ProfileOwners(ctx context.Context, profileIDs []string) (map[string]string, error) {
	owners := make(map[string]string, len(profileIDs))
	err := each(ctx, t, "SELECT id, customer_id FROM profiles WHERE id = ANY($1::text[])", []any{profileIDs}, func(scan func(...any) error) error {
		var id, owner string
		err := scan(&id, &owner)
		owners[id] = owner
		return err
	})
	return owners, err
}

func (t *postgresTx) LockCustomers(ctx context.Context, ids []string) (map[string]*hub.CustomerRecord, error) {
	rows := make(map[string]*hub.CustomerRecord, len(ids))
	wanted := slices.Compact(slices.Sorted(slices.Values(ids)))
	for range maxChain {
		if len(wanted) == 0 {
			break
		}
		err := each(ctx, t, "SELECT "+customerColumns+" FROM customers WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE", []any{wanted}, func(scan func(...any) error) error {
			c, err := scanCustomer(scan)
			rows[c.ID] = c
			return err
		})
		if err != nil {
			return nil, err
		}
		// Survivors are locked out of order: two that wait for each other are a deadlock, which repeats the closure.
		var more []string
		for _, c := range rows {
			if _, there := rows[c.MergedInto]; c.MergedInto != "" && !there {
				more = append(more, c.MergedInto)
			}
		}
		slices.Sort(more)
		wanted = slices.Compact(more)
	}
	found := make(map[string]*hub.CustomerRecord, len(ids))
	living := make(map[string]*hub.CustomerRecord, len(ids))
	for _, id := range ids {
		c := rows[id]
		for n := 0; c != nil && c.MergedInto != "" && n < maxChain; n++ {
			c = rows[c.MergedInto]
		}
		if c != nil && c.MergedInto == "" {
			found[id], living[c.ID] = c, c
		}
	}
	if len(living) == 0 {
		return found, nil
	}
	return found, loadChildren(ctx, t, living)
}

func (t *postgresTx) Desired(ctx context.Context, slots []string) (map[string]hub.Desired, error) {
	return desiredBySlot(ctx, t, slots, t.locking())
}

func (t *postgresTx) OpenKeys(ctx context.Context, customerID string, keys []string) (map[string]bool, error) {
	return openKeys(ctx, t, customerID, keys)
}

func (t *postgresTx) Share(ctx context.Context, s hub.Sharing) ([]hub.Shared, error) {
	return share(ctx, t, s)
}

func (t *postgresTx) ConsumeEcho(ctx context.Context, connection string, change hub.FieldChange, at time.Time) (bool, error) {
	return consumeEcho(ctx, t, connection, change, at)
}

func (t *postgresTx) Horizons(ctx context.Context) (map[string]hub.Horizon, error) {
	return horizons(ctx, t)
}

func (t *postgresTx) ActiveVersion(ctx context.Context) (set, scores int64, err error) {
	return activeVersion(ctx, t)
}

func (t *postgresTx) Save(ctx context.Context, c *hub.Changes) error {
	batch := &pgx.Batch{}
	for _, queue := range []func(*pgx.Batch, *hub.Changes) error{queueCustomers, queueProfiles, queueIdentifiers, queueStages, t.queueLedger, queueTransitions} {
		if err := queue(batch, c); err != nil {
			return err
		}
	}
	if _, err := t.send(ctx, batch); err != nil {
		return err
	}
	if err := saveRare(ctx, t, c, t.now()); err != nil {
		return err
	}
	batch = &pgx.Batch{}
	if err := queueDeliveries(batch, c); err != nil {
		return err
	}
	queueOutbox(batch, c)
	if _, err := t.send(ctx, batch); err != nil {
		return err
	}
	return saveWoken(ctx, t, c, t.now())
}

// column takes one field of every row.
func column[T, V any](rows []T, field func(*T) V) []V {
	out := make([]V, len(rows))
	for i := range rows {
		out[i] = field(&rows[i])
	}
	return out
}

// encoded is column for fields that are written as JSON.
func encoded[T any](rows []T, field func(*T) (string, error)) ([]string, error) {
	out := make([]string, len(rows))
	for i := range rows {
		var err error
		if out[i], err = field(&rows[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// newest keeps the last row of each key: one statement may not touch a row twice.
func newest[T any, K comparable](rows []T, key func(*T) K) []T {
	last := make(map[K]int, len(rows))
	for i := range rows {
		last[key(&rows[i])] = i
	}
	if len(last) == len(rows) {
		return rows
	}
	out := make([]T, 0, len(last))
	for i := range rows {
		if last[key(&rows[i])] == i {
			out = append(out, rows[i])
		}
	}
	return out
}

func queueCustomers(batch *pgx.Batch, c *hub.Changes) error {
	type row = *hub.CustomerRecord
	rows := newest(c.Customers, func(r *row) string { return (*r).ID })
	if len(rows) == 0 {
		return nil
	}
	tags, err := encoded(rows, func(r *row) (string, error) { return encodeTexts((*r).Tags) })
	if err != nil {
		return err
	}
	previous, err := encoded(rows, func(r *row) (string, error) { return encodePrevious((*r).Previous) })
	if err != nil {
		return err
	}
	batch.Queue("INSERT INTO customers ("+customerColumns+`)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
		ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, first_event_at = excluded.first_event_at, decided_at = excluded.decided_at,
		updated_at = excluded.updated_at, merged_into = excluded.merged_into, name = excluded.name, email = excluded.email, tags = excluded.tags, previous = excluded.previous, kind = excluded.kind`,
		column(rows, func(r *row) string { return (*r).ID }), column(rows, func(r *row) string { return string((*r).Kind) }),
		column(rows, func(r *row) int64 { return (*r).Sequence }), column(rows, func(r *row) int64 { return micros((*r).FirstEventAt) }),
		column(rows, func(r *row) int64 { return micros((*r).DecidedAt) }), column(rows, func(r *row) int64 { return micros((*r).CreatedAt) }),
		column(rows, func(r *row) int64 { return micros((*r).UpdatedAt) }), column(rows, func(r *row) string { return (*r).MergedInto }),
		column(rows, func(r *row) string { return (*r).Name }), column(rows, func(r *row) string { return (*r).Email }), tags, previous)
	return nil
}

func queueProfiles(batch *pgx.Batch, c *hub.Changes) error {
	type row = hub.ProfileRecord
	rows := newest(c.Profiles, func(r *row) string { return r.ID })
	if len(rows) == 0 {
		return nil
	}
	identifiers, err := encoded(rows, func(r *row) (string, error) { return encodeIdentifiers(r.Identifiers) })
	if err != nil {
		return err
	}
	batch.Queue(`INSERT INTO profiles (id, customer_id, connection, key, joined_into, identifiers, facts)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
		ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, joined_into = excluded.joined_into, identifiers = excluded.identifiers, facts = excluded.facts`,
		column(rows, func(r *row) string { return r.ID }), column(rows, func(r *row) string { return r.CustomerID }),
		column(rows, func(r *row) string { return r.Connection }), column(rows, func(r *row) string { return r.Key }),
		column(rows, func(r *row) string { return r.JoinedInto }), identifiers, column(rows, func(r *row) []byte { return present(r.Facts) }))
	return nil
}

// present is b, but never nil: the column takes no NULL.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func queueIdentifiers(batch *pgx.Batch, c *hub.Changes) error {
	type row = hub.IdentifierRecord
	rows := newest(c.Identifiers, func(r *row) string { return r.Key() })
	if len(rows) == 0 {
		return nil
	}
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b row) int { return bytes.Compare(identifierHash(&a.Identifier), identifierHash(&b.Identifier)) })
	batch.Queue(`INSERT INTO identifiers (hash, kind, connection, value, flags, customer_id, profile_id)
		SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
		ON CONFLICT (hash) DO UPDATE SET flags = excluded.flags, customer_id = excluded.customer_id, profile_id = excluded.profile_id`,
		column(rows, func(r *row) []byte { return identifierHash(&r.Identifier) }), column(rows, func(r *row) string { return r.Kind }),
		column(rows, func(r *row) string { return r.Connection }), column(rows, func(r *row) string { return r.Value }),
		column(rows, func(r *row) int64 { return identifierFlags(&r.Identifier) }), column(rows, func(r *row) string { return r.CustomerID }),
		column(rows, func(r *row) string { return r.ProfileID }))
	return nil
}

func queueStages(batch *pgx.Batch, c *hub.Changes) error {
	type row = hub.StageRecord
	rows := newest(c.Stages, func(r *row) stageKey { return stageKey{r.CustomerID, r.Subject, r.Model} })
	if len(rows) == 0 {
		return nil
	}
	batch.Queue(`INSERT INTO stages (customer_id, subject_kind, subject_id, model, version, stage, since, decided_by, decided_at, wakes_at, path, entered_at, adopted)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bytea[],
			$12::bigint[], $13::bigint[])
		ON CONFLICT (customer_id, subject_kind, subject_id, model) DO UPDATE SET version = excluded.version, stage = excluded.stage, since = excluded.since,
		decided_by = excluded.decided_by, decided_at = excluded.decided_at, wakes_at = excluded.wakes_at, path = excluded.path`,
		column(rows, func(r *row) string { return r.CustomerID }), column(rows, func(r *row) string { return string(r.Subject.Kind) }),
		column(rows, func(r *row) string { return r.Subject.ID }), column(rows, func(r *row) string { return r.Model }),
		column(rows, func(r *row) int64 { return int64(r.Version) }), column(rows, func(r *row) string { return r.Stage }),
		column(rows, func(r *row) int64 { return micros(r.Since) }), column(rows, func(r *row) string { return r.By }),
		column(rows, func(r *row) int64 { return micros(r.DecidedAt) }), column(rows, func(r *row) *int64 {
			if r.WakesAt.IsZero() {
				return nil
			}
			us := micros(r.WakesAt)
			return &us
		}), column(rows, func(r *row) []byte { return r.Path }), column(rows, func(r *row) int64 { return micros(entered(r)) }),
		column(rows, func(r *row) int64 { return bit(r.Adopted) }))
	return nil
}

// queueLedger writes event versions in rounds, each id once in a round, so that a later version of the same frame replaces an earlier one.
func (t *postgresTx) queueLedger(batch *pgx.Batch, c *hub.Changes) error {
	type row = hub.LedgerRecord
	rest := c.Ledger
	for len(rest) > 0 {
		var rows, later []row
		inRound := make(map[string]bool, len(rest))
		for i := range rest {
			if inRound[rest[i].ID] {
				later = append(later, rest[i])
				continue
			}
			inRound[rest[i].ID] = true
			rows = append(rows, rest[i])
		}
		rest = later
		var replaced []string
		var until []int64
		for i := range rows {
			if there, asked := t.asked[rows[i].ID]; there || !asked {
				replaced, until = append(replaced, rows[i].ID), append(until, rows[i].KnownFrom)
			}
		}
		if len(replaced) > 0 {
			batch.Queue(`UPDATE events SET known_until = r.until FROM unnest($1::text[], $2::bigint[]) AS r(id, until)
				WHERE events.id = r.id AND events.known_until IS NULL`, replaced, until)
		}
		bodies, err := encoded(rows, func(r *row) (string, error) {
			var e encoder
			e.event(&r.Event)
			return string(e.buf), e.err
		})
		if err != nil {
			return err
		}
		batch.Queue(withMoments(`INSERT INTO events (id, activation, fetch_no, profile_id, customer_id, occurred_at, known_from, withdrawn, body)
			SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[])`, "occurred_at", momentEvent),
			column(rows, func(r *row) string { return r.ID }), column(rows, func(r *row) int64 { return r.Version.Activation }),
			column(rows, func(r *row) int64 { return r.Version.Fetch }), column(rows, func(r *row) string { return r.ProfileID }),
			column(rows, func(r *row) string { return r.CustomerID }), column(rows, func(r *row) int64 { return micros(r.OccurredAt) }),
			column(rows, func(r *row) int64 { return r.KnownFrom }), column(rows, func(r *row) int64 { return bit(r.Withdrawn) }), bodies)
		for i := range rows {
			if t.asked == nil {
				t.asked = map[string]bool{}
			}
			t.asked[rows[i].ID] = true
		}
	}
	return nil
}

// withMoments enters what an INSERT adds into the customers' histories, in the same statement.
func withMoments(insert, at string, kind int) string {
	return "WITH added AS (" + insert + " RETURNING customer_id, " + at + ", no) INSERT INTO moments (customer_id, at, kind, no) SELECT customer_id, " + at + ", " +
		strconv.Itoa(kind) + ", no FROM added"
}

func queueTransitions(batch *pgx.Batch, c *hub.Changes) error {
	type row = hub.Transition
	rows := c.Transitions
	if len(rows) == 0 {
		return nil
	}
	batch.Queue(withMoments("INSERT INTO transitions ("+transitionColumns+`)
		SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
		$9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::text[])
		WITH ORDINALITY AS t(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, nr) ORDER BY nr`, "at", momentTransition),
		column(rows, func(r *row) string { return r.ID }), column(rows, func(r *row) string { return string(r.Subject.Kind) }),
		column(rows, func(r *row) string { return r.Subject.ID }), column(rows, func(r *row) string { return r.CustomerID }),
		column(rows, func(r *row) string { return r.Model }), column(rows, func(r *row) int64 { return int64(r.Version) }),
		column(rows, func(r *row) string { return r.From }), column(rows, func(r *row) string { return r.To }),
		column(rows, func(r *row) int64 { return micros(r.At) }), column(rows, func(r *row) int64 { return micros(r.DecidedAt) }),
		column(rows, func(r *row) int64 { return r.Sequence }), column(rows, func(r *row) string { return r.Cause.Type }),
		column(rows, func(r *row) string { return r.Cause.ID }), column(rows, func(r *row) int64 { return int64(r.Rule) }),
		column(rows, func(r *row) int64 { return bit(r.Passing) }), column(rows, func(r *row) string { return r.Why }))
	return nil
}

func queueDeliveries(batch *pgx.Batch, c *hub.Changes) error {
	type row = hub.Delivery
	rows := c.Deliveries
	if len(rows) == 0 {
		return nil
	}
	params, err := encoded(rows, func(r *row) (string, error) { return encodeValues(r.Params) })
	if err != nil {
		return err
	}
	causes, err := encoded(rows, func(r *row) (string, error) { return encodeCause(&r.Cause) })
	if err != nil {
		return err
	}
	last, err := encoded(rows, func(r *row) (string, error) { return encodeAttempt(r.Last) })
	if err != nil {
		return err
	}
	batch.Queue(withMoments("INSERT INTO deliveries ("+deliveryColumns+`)
		SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
		$8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::text[], $16::bigint[], $17::bigint[], $18::text[], $19::text[],
		$20::text[], $21::bigint[]) WITH ORDINALITY AS x(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, nr) ORDER BY nr
		ON CONFLICT DO NOTHING`, "created_at", momentDelivery),
		column(rows, func(r *row) string { return r.ID }), column(rows, func(r *row) string { return r.Destination }),
		column(rows, func(r *row) string { return r.Action }), column(rows, func(r *row) string { return r.CustomerID }),
		column(rows, func(r *row) string { return string(r.Subject.Kind) }), column(rows, func(r *row) string { return r.Subject.ID }),
		column(rows, func(r *row) string { return r.State }), column(rows, func(r *row) int64 { return micros(r.DueAt) }),
		column(rows, func(r *row) int64 { return int64(r.Attempts) }), column(rows, func(r *row) int64 { return micros(r.CreatedAt) }),
		column(rows, func(r *row) string { return r.Slot }), column(rows, func(r *row) string { return r.Key }), params,
		column(rows, func(r *row) []byte { return r.Body }), column(rows, func(r *row) string { return r.Reference }),
		column(rows, func(r *row) int64 { return micros(r.SentAt) }), column(rows, func(r *row) int64 { return bit(r.Uncertain) }),
		column(rows, func(r *row) string { return r.ExternalID }), causes, last, column(rows, func(r *row) int64 { return r.Claim }))
	return nil
}

func queueOutbox(batch *pgx.Batch, c *hub.Changes) {
	type row = hub.OutboxRecord
	rows := c.Outbox
	if len(rows) == 0 {
		return
	}
	batch.Queue(`INSERT INTO outbox (id, kind, subject, customer_id, body, created_at, published_at)
		SELECT a, b, c, d, e, f, 0 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bigint[])
		WITH ORDINALITY AS t(a, b, c, d, e, f, nr) ORDER BY nr`,
		column(rows, func(r *row) string { return r.ID }), column(rows, func(r *row) string { return r.Kind }),
		column(rows, func(r *row) string { return r.Subject }), column(rows, func(r *row) string { return r.CustomerID }),
		column(rows, func(r *row) []byte { return present(r.Body) }), column(rows, func(r *row) int64 { return micros(r.CreatedAt) }))
}
