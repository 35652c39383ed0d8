package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/stagewire/stagewire/internal/hub"
)

// sqliteTx is hub.Tx on the writer's connection: one prepared statement per row. It remembers what it has loaded, so that Save can leave
// alone the indexes of what did not change.
type sqliteTx struct {
	sqliteQuerier
	now    func() time.Time
	writer *writer

	asked    map[string]bool       // event ids looked up in the ledger, and whether they were there
	fresh    map[string]bool       // those that were not
	profiles map[string]owned      // loaded profiles
	people   map[string]int64      // row numbers of loaded customers
	stages   map[stageKey]standing // loaded stages
	pins     int                   // whether there are pins at all: 0 unknown, 1 yes, -1 no
	made     map[string]int64      // row numbers of customers that this transaction inserted
	late     late                  // outlives transactions
	recent   recent                // outlives transactions
	feed     feedEnd               // outlives transactions
}

// owned is a loaded profile's row number and its customer.
type owned struct {
	no       int64
	customer string
}

// standing is a loaded stage's row number and its wake-up.
type standing struct {
	no    int64
	wakes time.Time
}

type stageKey struct {
	customer string
	subject  hub.Subject
	model    string
}

// begin forgets the transaction before.
func (t *sqliteTx) begin() {
	t.asked, t.fresh = emptied(t.asked), emptied(t.fresh)
	t.profiles, t.people, t.made, t.stages, t.pins = emptied(t.profiles), emptied(t.people), emptied(t.made), emptied(t.stages), 0
}

// emptied returns m without its entries: the next transaction needs the room again, unless this one was unusually large.
func emptied[K comparable, V any](m map[K]V) map[K]V {
	if m == nil || len(m) > turnRecords {
		return map[K]V{}
	}
	clear(m)
	return m
}

// binder binds the arguments of a prepared statement in turn; the first error stays.
type binder struct {
	stmt *sqlite.Stmt
	n    int
	err  error
}

func (t *sqliteTx) prepare(query string) binder {
	stmt, err := t.conn.Prepare(query)
	return binder{stmt: stmt, err: writeError(err)}
}

func (b *binder) text(s string) *binder {
	b.n++
	if b.err == nil {
		if b.err = clean("text", s); b.err == nil {
			b.stmt.BindText(b.n, s)
		}
	}
	return b
}

func (b *binder) int(v int64) *binder {
	b.n++
	if b.err == nil {
		b.stmt.BindInt64(b.n, v)
	}
	return b
}

func (b *binder) time(v time.Time) *binder { return b.int(v.UnixMicro()) }

func (b *binder) wake(v time.Time) *binder {
	if v.IsZero() {
		b.n++ // bindings start as NULL
		return b
	}
	return b.time(v)
}

func (b *binder) bytes(v []byte) *binder {
	b.n++
	if b.err == nil && v != nil {
		b.stmt.BindBytes(b.n, v)
	}
	return b
}

// encoded binds what enc holds as text; it was checked while it was written.
func (b *binder) encoded(text string, err error) *binder {
	b.n++
	if b.err == nil {
		if b.err = err; err == nil {
			b.stmt.BindText(b.n, text)
		}
	}
	return b
}

// row steps to the next row.
func (b *binder) row() bool {
	if b.err != nil {
		return false
	}
	more, err := b.stmt.Step()
	b.err = writeError(err)
	return more && err == nil
}

// run executes a statement without result rows.
func (b *binder) run() error {
	for b.row() {
	}
	return b.err
}

// end resets a statement whose rows were not read to the end.
func (b *binder) end() error {
	if b.stmt != nil {
		if err := b.stmt.Reset(); err != nil && b.err == nil {
			b.err = writeError(err)
		}
	}
	return b.err
}

func (t *sqliteTx) Advance(ctx context.Context, c hub.Cursor) (bool, error) {
	return advance(ctx, t, c)
}

func (t *sqliteTx) Ledger(_ context.Context, ids []string) (map[string]hub.LedgerEntry, error) {
	known := make(map[string]hub.LedgerEntry)
	for _, id := range ids {
		found := false
		if err := t.versions(id, func(v version) {
			if !found || v.Version.After(known[id].Version) {
				known[id], found = v.LedgerEntry, true
			}
		}); err != nil {
			return nil, err
		}
		if t.asked[id] = found; !found {
			t.fresh[id] = true
		}
	}
	return known, nil
}

func (t *sqliteTx) LockIdentifiers(_ context.Context, ids []hub.Identifier) ([]hub.IdentifierRecord, error) {
	found := make([]hub.IdentifierRecord, 0, len(ids))
	for i := range ids {
		name := ids[i].Name()
		if p, ok := t.recent.identifiers.get(name); ok {
			found = append(found, p.of(name))
			continue
		}
		b := t.prepare("SELECT kind, connection, value, flags, customer_id, profile_id FROM identifiers WHERE hash = $1 AND customer_id <> ''")
		if b.bytes(identifierHash(&ids[i])).row() {
			s := b.stmt
			r := hub.IdentifierRecord{
				Identifier: identifierOf(s.ColumnText(0), s.ColumnText(1), s.ColumnText(2), s.ColumnInt64(3)),
				CustomerID: s.ColumnText(4), ProfileID: s.ColumnText(5),
			}
			found = append(found, r)
			t.recent.identifiers.put(name, pointerOf(&r), 1)
		}
		if err := b.end(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (t *sqliteTx) ProfileOwners(_ context.Context, profileIDs []string) (map[string]string, error) {
	owners := make(map[string]string, len(profileIDs))
	for _, id := range profileIDs {
		if owner, ok := t.recent.owners.get(id); ok {
			owners[id] = owner
			continue
		}
		b := t.prepare("SELECT customer_id FROM profiles WHERE id = $1")
		if b.text(id).row() {
			owners[id] = b.stmt.ColumnText(0)
			t.recent.owners.put(id, owners[id], 1)
		}
		if err := b.end(); err != nil {
			return nil, err
		}
	}
	return owners, nil
}

func (t *sqliteTx) LockCustomers(_ context.Context, ids []string) (map[string]*hub.CustomerRecord, error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	found := make(map[string]*hub.CustomerRecord, len(ids))
	loaded := map[string]*hub.CustomerRecord{} // those who were not asked for themselves, or are merged away
	var read []*hub.CustomerRecord
	for _, asked := range ids {
		id := asked
		for range maxChain {
			c := cmp.Or(found[id], loaded[id])
			if c == nil {
				c = t.lend(id)
			}
			if c == nil {
				var err error
				if c, err = t.customer(id); err != nil {
					return nil, err
				}
				if c == nil {
					break
				}
				read = append(read, c)
			}
			if c.MergedInto != "" || id != asked {
				loaded[id] = c
			}
			if c.MergedInto == "" {
				found[asked] = c
				break
			}
			id = c.MergedInto
		}
	}
	for _, c := range read {
		if c.MergedInto != "" {
			continue
		}
		if err := t.children(c); err != nil {
			return nil, err
		}
		t.keep(c)
	}
	return found, nil
}

// maxChain bounds how many merges are followed; merging shortens chains, so more than a few means a damaged database.
const maxChain = 100

const customerColumns = "id, kind, sequence, first_event_at, decided_at, created_at, updated_at, merged_into, name, email, tags, previous"

func (t *sqliteTx) customer(id string) (*hub.CustomerRecord, error) {
	b := t.prepare("SELECT " + customerColumns + ", no FROM customers WHERE id = $1")
	var c *hub.CustomerRecord
	if b.text(id).row() {
		s := b.stmt
		c = &hub.CustomerRecord{
			ID: s.ColumnText(0), Kind: hub.SubjectKind(s.ColumnText(1)), Sequence: s.ColumnInt64(2), FirstEventAt: at(s.ColumnInt64(3)), DecidedAt: at(s.ColumnInt64(4)),
			CreatedAt: at(s.ColumnInt64(5)), UpdatedAt: at(s.ColumnInt64(6)), MergedInto: s.ColumnText(7), Name: s.ColumnText(8), Email: s.ColumnText(9),
			Tags: decodeTexts(s.ColumnText(10)), Previous: decodePrevious(s.ColumnText(11)),
		}
		t.people[c.ID] = s.ColumnInt64(12)
	}
	return c, b.end()
}

// children loads what belongs to a living customer.
func (t *sqliteTx) children(c *hub.CustomerRecord) error {
	b := t.prepare("SELECT id, connection, key, joined_into, identifiers, facts, no FROM profiles WHERE customer_id = $1")
	for b.text(c.ID); b.row(); {
		s := b.stmt
		ids, err := decodeIdentifiers(s.ColumnText(4))
		if err != nil {
			b.err = err
			break
		}
		c.Profiles = append(c.Profiles, hub.ProfileRecord{
			ID: s.ColumnText(0), CustomerID: c.ID, Connection: s.ColumnText(1), Key: s.ColumnText(2), JoinedInto: s.ColumnText(3),
			Identifiers: ids, Facts: columnBytes(s, 5),
		})
		t.profiles[c.Profiles[len(c.Profiles)-1].ID] = owned{s.ColumnInt64(6), c.ID}
	}
	if err := b.end(); err != nil {
		return err
	}
	slices.SortFunc(c.Profiles, byProfileID)

	b = t.prepare("SELECT subject_kind, subject_id, model, version, stage, since, decided_by, decided_at, wakes_at, path, no FROM stages WHERE customer_id = $1")
	for b.text(c.ID); b.row(); {
		s := b.stmt
		r := hub.StageRecord{
			Subject: hub.Subject{Kind: hub.SubjectKind(s.ColumnText(0)), ID: s.ColumnText(1)}, CustomerID: c.ID, Model: s.ColumnText(2), Version: s.ColumnInt(3),
			Stage: s.ColumnText(4), Since: at(s.ColumnInt64(5)), By: s.ColumnText(6), DecidedAt: at(s.ColumnInt64(7)), Path: columnBytes(s, 9),
		}
		if !s.ColumnIsNull(8) {
			r.WakesAt = at(s.ColumnInt64(8))
		}
		c.Stages = append(c.Stages, r)
		t.stages[stageKey{c.ID, r.Subject, r.Model}] = standing{s.ColumnInt64(10), r.WakesAt}
	}
	if err := b.end(); err != nil {
		return err
	}
	slices.SortFunc(c.Stages, byStage) // an ORDER BY would be planned again for each customer

	if t.pins == 0 {
		b = t.prepare("SELECT 1 FROM pins LIMIT 1")
		if t.pins = -1; b.row() {
			t.pins = 1
		}
		if err := b.end(); err != nil {
			return err
		}
	}
	if t.pins < 0 {
		return nil
	}
	for _, id := range pinSubjects(c) {
		b = t.prepare("SELECT subject_kind, subject_id, model, stage, who, why, at, until FROM pins WHERE subject_id = $1")
		for b.text(id); b.row(); {
			s := b.stmt
			c.Pins = append(c.Pins, hub.PinRecord{
				Subject: hub.Subject{Kind: hub.SubjectKind(s.ColumnText(0)), ID: s.ColumnText(1)}, Model: s.ColumnText(2), Stage: s.ColumnText(3),
				Who: s.ColumnText(4), Why: s.ColumnText(5), At: at(s.ColumnInt64(6)), Until: at(s.ColumnInt64(7)),
			})
		}
		if err := b.end(); err != nil {
			return err
		}
	}
	return nil
}

func (t *sqliteTx) Desired(ctx context.Context, slots []string) (map[string]hub.Desired, error) {
	found := make(map[string]hub.Desired, len(slots))
	for _, slot := range slots {
		err := each(ctx, t, "SELECT "+desiredColumns+" FROM desired WHERE slot = $1", []any{slot}, func(scan func(...any) error) error {
			d, err := scanDesired(scan)
			found[slot] = d
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (t *sqliteTx) OpenKeys(ctx context.Context, customerID string, keys []string) (map[string]bool, error) {
	return openKeys(ctx, t, customerID, keys)
}

func (t *sqliteTx) Share(ctx context.Context, s hub.Sharing) ([]hub.Shared, error) {
	return share(ctx, t, s)
}

func (t *sqliteTx) ConsumeEcho(ctx context.Context, connection string, change hub.FieldChange, at time.Time) (bool, error) {
	return consumeEcho(ctx, t, connection, change, at)
}

func (t *sqliteTx) Horizons(ctx context.Context) (map[string]hub.Horizon, error) {
	return horizons(ctx, t)
}

func (t *sqliteTx) ActiveVersion(ctx context.Context) (set, scores int64, err error) {
	return activeVersion(ctx, t)
}

func (t *sqliteTx) Save(ctx context.Context, c *hub.Changes) error {
	t.writer.weight += len(c.Ledger) + len(c.Stages)
	t.pins = 0 // it may have some now
	coming := encodeAhead(c)
	defer func() { <-coming.done }() // also where it fails before
	for _, save := range []func(*hub.Changes) error{t.saveCustomers, t.saveProfiles, t.saveIdentifiers, t.saveStages, t.saveTransitions} {
		if err := save(c); err != nil {
			return err
		}
	}
	<-coming.done
	if err := t.saveLedger(c, coming.events); err != nil {
		return err
	}
	if len(c.Merges) > 0 {
		// A merge moves the moments: all of them must be there.
		if err := t.catchUp(); err != nil {
			return err
		}
	}
	if err := saveRare(ctx, t, c, t.now()); err != nil {
		return err
	}
	if err := t.saveDeliveries(c, coming.causes); err != nil {
		return err
	}
	if err := t.saveOutbox(c); err != nil {
		return err
	}
	if err := saveWoken(ctx, t, c, t.now()); err != nil {
		return err
	}
	t.remember(c)
	return nil
}
