package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/stagewire/stagewire/internal/hub"
)

// Two indexes lie scattered however the events come: the customers' history (moments, of events and transitions) and the
// ledger's ids. Entered one by one they cost a page each per event; entered thousands at a time, in their own order, many
// share one. The rows between the mark (table entered) and the end of events and transitions are not entered yet: the
// writer knows their ids, and who reads a history looks at them one by one.

const (
	// lateRows is how many rows wait at most: entering them holds up the writer, and reading a history passes over them.
	// While fewer come, they are entered before each checkpoint.
	lateRows = 4096
)

// late is what the writer knows of the events behind the mark. It holds what was rolled back too unless it is forgotten then.
type late struct {
	loaded bool
	rows   []lateRow
	newest map[int64]int32 // by hash of id: place in rows, from 1
	moves  int             // transitions, about
}

type lateRow struct {
	hash, no int64
	older    int32 // the row of the same hash before it, from 1; 0 for none
}

// eventHash is what the ledger finds an event's versions by. Two ids may share one: rows are asked for their id.
func eventHash(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any bits do
}

func (l *late) add(hash, no int64) {
	l.rows = append(l.rows, lateRow{hash, no, l.newest[hash]})
	l.newest[hash] = int32(len(l.rows)) //nolint:gosec // a few thousand at most
}

// forget makes the next look read the rows again: after a rollback, and at the start.
func (l *late) forget() { l.loaded, l.rows, l.moves = false, l.rows[:0], max(l.moves, 1) }

// behind loads the rows behind the mark, unless they are known.
func (t *sqliteTx) behind() (*late, error) {
	l := &t.late
	if l.loaded {
		return l, nil
	}
	l.rows, l.newest = l.rows[:0], map[int64]int32{}
	b := t.prepare("SELECT id, no FROM events WHERE no > (SELECT upto FROM entered WHERE kind = 1) ORDER BY no")
	for b.row() {
		l.add(eventHash(b.stmt.ColumnText(0)), b.stmt.ColumnInt64(1))
	}
	if err := b.end(); err != nil {
		return nil, err
	}
	l.loaded = true
	return l, nil
}

// version is a row of the ledger.
type version struct {
	no int64
	hub.LedgerEntry
}

// versions calls each for every version of an event that the ledger has.
func (t *sqliteTx) versions(id string, each func(version)) error {
	l, err := t.behind()
	if err != nil {
		return err
	}
	hash := eventHash(id)
	var rows []int64
	for i := l.newest[hash]; i > 0; i = l.rows[i-1].older {
		rows = append(rows, l.rows[i-1].no)
	}
	// Not one statement with the next: a join SQLite plans again for each hash.
	b := t.prepare("SELECT no FROM event_ids WHERE hash = $1")
	for b.int(hash); b.row(); {
		rows = append(rows, b.stmt.ColumnInt64(0))
	}
	if err := b.end(); err != nil {
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

// full reports that it is time to enter what waits.
func (l *late) full() bool { return len(l.rows)+l.moves >= lateRows }

// enter brings the indexes up to the end and moves the mark there.
func (t *sqliteTx) enter() error {
	l, err := t.behind()
	if err != nil || len(l.rows)+l.moves == 0 {
		return err
	}
	slices.SortFunc(l.rows, func(a, b lateRow) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.no, b.no)) })
	for _, row := range l.rows {
		b := t.prepare("INSERT INTO event_ids (hash, no) VALUES ($1, $2)")
		if err := b.int(row.hash).int(row.no).run(); err != nil {
			return err
		}
	}
	l.rows = l.rows[:0]
	clear(l.newest)
	for _, text := range []string{
		`INSERT INTO moments (customer_id, at, kind, no) SELECT customer_id, occurred_at, 1, no FROM events
			WHERE no > (SELECT upto FROM entered WHERE kind = 1) AND customer_id <> '' ORDER BY customer_id`,
		`INSERT INTO moments (customer_id, at, kind, no) SELECT customer_id, at, 2, no FROM transitions
			WHERE no > (SELECT upto FROM entered WHERE kind = 2) AND customer_id <> '' ORDER BY customer_id`,
		"UPDATE entered SET upto = (SELECT coalesce(max(no), 0) FROM events) WHERE kind = 1",
		"UPDATE entered SET upto = (SELECT coalesce(max(no), 0) FROM transitions) WHERE kind = 2",
	} {
		b := t.prepare(text)
		if err := b.run(); err != nil {
			return err
		}
	}
	l.moves = 0
	return nil
}
