package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// Two indexes lie scattered however the events come: the customers' history (moments, of events, transitions and deliveries) and
// the places of ids (of events, deliveries and webhooks). Entered one by one they cost a page each per row; entered thousands at a
// time, in their own order, many share one. The rows between the marks (table entered) and the ends of their tables are not entered
// yet: the writer knows their ids, and who reads looks at them one by one.

const (
	// lateRows is how many rows wait at most: entering them holds up the writer, and reading passes over them.
	// While fewer come, they are entered before each checkpoint.
	lateRows = 8192
)

// lateKinds are the kinds of rows that are found by id.
var lateKinds = []int64{momentEvent, momentDelivery, placeWebhook}

// late is what the writer knows of the rows behind the marks. It holds what was rolled back too unless it is forgotten then.
type late struct {
	loaded bool
	rows   []lateRow
	newest map[int64]int32 // by hash of id: place in rows, from 1
	moves  int             // transitions, about
}

type lateRow struct {
	hash, kind, no int64
	older          int32 // the row of the same hash before it, from 1; 0 for none
}

// idHash is what a row is found by. Two ids may share one: rows are asked for their id.
func idHash(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any bits do
}

func (l *late) add(kind, hash, no int64) {
	l.rows = append(l.rows, lateRow{hash, kind, no, l.newest[hash]})
	l.newest[hash] = int32(len(l.rows)) //nolint:gosec // a few thousand at most
}

// forget makes the next look read the rows again: after a rollback, and at the start.
func (l *late) forget() { l.loaded, l.rows, l.moves = false, l.rows[:0], max(l.moves, 1) }

// behind loads the rows behind the marks, unless they are known.
func (t *sqliteTx) behind() (*late, error) {
	l := &t.late
	if l.loaded {
		return l, nil
	}
	l.rows, l.newest = l.rows[:0], map[int64]int32{}
	for _, kind := range lateKinds {
		b := t.prepare("SELECT id, no FROM " + tableOf(kind) + " WHERE no > (SELECT upto FROM entered WHERE kind = $1) ORDER BY no")
		for b.int(kind); b.row(); {
			l.add(kind, idHash(b.stmt.ColumnText(0)), b.stmt.ColumnInt64(1))
		}
		if err := b.end(); err != nil {
			return nil, err
		}
	}
	l.loaded = true
	return l, nil
}

// candidates appends the places of rows of a kind whose id may be that one.
func (t *sqliteTx) candidates(places []int64, kind int64, id string) ([]int64, error) {
	hash := idHash(id)
	places, err := t.waiting(places, kind, hash)
	if err != nil {
		return nil, err
	}
	// Not one statement with what reads the rows: a join SQLite plans again for each hash.
	b := t.prepare("SELECT no FROM ids WHERE hash = $1 AND kind = $2")
	for b.int(hash).int(kind); b.row(); {
		places = append(places, b.stmt.ColumnInt64(0))
	}
	return places, b.end()
}

// waiting is candidates among the rows that are not entered yet.
func (t *sqliteTx) waiting(places []int64, kind, hash int64) ([]int64, error) {
	l, err := t.behind()
	if err != nil {
		return nil, err
	}
	for i := l.newest[hash]; i > 0; i = l.rows[i-1].older {
		if l.rows[i-1].kind == kind {
			places = append(places, l.rows[i-1].no)
		}
	}
	return places, nil
}

// place returns where the row of that id lies, 0 for nowhere. Of an event's versions it is one of them.
func (t *sqliteTx) place(kind int64, id string) (int64, error) {
	var room [4]int64
	places, err := t.candidates(room[:0], kind, id)
	if err != nil {
		return 0, err
	}
	return t.among(places, kind, id)
}

// among returns which of the places is that of the id, 0 for none.
func (t *sqliteTx) among(places []int64, kind int64, id string) (int64, error) {
	for _, no := range places {
		b := t.prepare("SELECT 1 FROM " + tableOf(kind) + " WHERE no = $1 AND id = $2")
		found := b.int(no).text(id).row()
		if err := b.end(); err != nil || found {
			return no, err
		}
	}
	return 0, nil
}

// waits is has among the rows that are not entered yet.
func (t *sqliteTx) waits(kind int64, id string) (bool, error) {
	var room [4]int64
	places, err := t.waiting(room[:0], kind, idHash(id))
	if err != nil || len(places) == 0 {
		return false, err
	}
	no, err := t.among(places, kind, id)
	return no != 0, err
}

func (t *sqliteTx) has(kind int64, id string) (bool, error) {
	no, err := t.place(kind, id)
	return no != 0, err
}

// rowsOf implements keeper.
func (t *sqliteTx) rowsOf(_ context.Context, kind int64, ids []string) (map[string]int64, error) {
	found := make(map[string]int64, len(ids))
	for _, id := range ids {
		no, err := t.place(kind, id)
		if err != nil {
			return nil, err
		}
		if no != 0 {
			found[id] = no
		}
	}
	return found, nil
}

// rowsByHash is rowsOf for who only reads.
func rowsByHash(ctx context.Context, q querier, kind int64, ids []string) (map[string]int64, error) {
	found := make(map[string]int64, len(ids))
	table, mark := tableOf(kind), strconv.FormatInt(kind, 10)
	err := inLists(ids, func(args []any, in string) error {
		hashes := make([]any, len(args))
		for i := range args {
			id, _ := args[i].(string)
			hashes[i] = idHash(id)
		}
		collect := func(scan func(...any) error) error { return scanPlace(scan, found) }
		if err := each(ctx, q, "SELECT id, no FROM "+table+" WHERE no > (SELECT upto FROM entered WHERE kind = "+mark+") AND id IN "+in, args, collect); err != nil {
			return err
		}
		// Later than the look at what waits: what was entered meanwhile is here.
		return each(ctx, q, "SELECT id, no FROM "+table+" WHERE no IN (SELECT no FROM ids WHERE kind = "+mark+" AND hash IN "+in+") AND id IN ("+
			placeholders(len(args)+1, len(args))+")", append(hashes, args...), collect)
	})
	return found, err
}

// version is a row of the ledger.
type version struct {
	no int64
	hub.LedgerEntry
}

// versions calls each for every version of an event that the ledger has.
func (t *sqliteTx) versions(id string, each func(version)) error {
	var room [4]int64
	rows, err := t.candidates(room[:0], momentEvent, id)
	if err != nil {
		return err
	}
	for _, no := range rows {
		b := t.prepare("SELECT activation, fetch_no, profile_id, withdrawn FROM events WHERE no = $1 AND id = $2")
		if b.int(no).text(id).row() {
			each(version{no, hub.LedgerEntry{
				Version:   hub.Version{Activation: b.stmt.ColumnInt64(0), Fetch: b.stmt.ColumnInt64(1)},
				ProfileID: b.stmt.ColumnText(2),
				Withdrawn: b.stmt.ColumnInt64(3) != 0,
			}})
		}
		if err := b.end(); err != nil {
			return err
		}
	}
	return nil
}

// idsAtOnce is how many rows one statement enters: beginning a statement costs as much as a row.
const idsAtOnce = 64

const insertID = "INSERT INTO ids (hash, kind, no) VALUES (?, ?, ?)"

var insertIDs = insertID + strings.Repeat(", (?, ?, ?)", idsAtOnce-1)

// full reports that it is time to enter what waits.
func (l *late) full() bool { return len(l.rows)+l.moves >= lateRows }

// catchUp brings the indexes up to the end and moves the marks there.
func (t *sqliteTx) catchUp() error {
	l, err := t.behind()
	if err != nil || len(l.rows)+l.moves == 0 {
		return err
	}
	slices.SortFunc(l.rows, func(a, b lateRow) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.kind, b.kind), cmp.Compare(a.no, b.no))
	})
	for rows := l.rows; len(rows) > 0; {
		n := idsAtOnce
		query := insertIDs
		if len(rows) < n {
			n, query = 1, insertID
		}
		b := t.prepare(query)
		for _, row := range rows[:n] {
			b.int(row.hash).int(row.kind).int(row.no)
		}
		if err := b.run(); err != nil {
			return err
		}
		rows = rows[n:]
	}
	l.rows = l.rows[:0]
	clear(l.newest)
	moments := t.prepare("INSERT INTO moments (customer_id, at, kind, no) SELECT customer_id, at, kind, no FROM moments_waiting WHERE customer_id <> '' ORDER BY customer_id")
	if err := moments.run(); err != nil {
		return err
	}
	for _, kind := range append([]int64{momentTransition}, lateKinds...) {
		table := tableOf(kind)
		if kind == momentTransition {
			table = "transitions"
		}
		b := t.prepare("UPDATE entered SET upto = (SELECT coalesce(max(no), 0) FROM " + table + ") WHERE kind = $1")
		if err := b.int(kind).run(); err != nil {
			return err
		}
	}
	l.moves = 0
	return nil
}
