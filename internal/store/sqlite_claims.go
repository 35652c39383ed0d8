package store

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/stagewire/stagewire/internal/hub"
)

// claims are those of callbacks, where one process owns the database: they are kept in memory and cost the writer nothing. In SQL
// a callback that is being sent stays due or retrying, and who reads is shown what is known here. After a crash it is simply due and
// is sent again, under the same id, as the contract with its receiver allows. What goes to vendors is claimed in SQL: there it must be
// known after a crash that something may have been sent.
//
// A nil *claims holds nothing.
type claims struct {
	path string // of the database

	mu     sync.Mutex
	byRow  map[int64]*inHand // by row; no more than are being sent
	conn   *sqlite.Conn      // reads what is due; opened by the first claim
	read   sqliteQuerier
	closed bool
}

// inHand is a callback in a worker's hand, and what its row said.
type inHand struct {
	id, destination, externalID string
	attempts                    int
	last                        *hub.Attempt
	claim                       int64
	until                       time.Time // the end of the lease
	ending                      bool      // its outcome is being recorded
}

// free reports whether the callback may be given to a worker at now.
func (h *inHand) free(now time.Time) bool { return h == nil || !h.ending && !now.Before(h.until) }

func newClaims(dir string) *claims {
	return &claims{path: filepath.Join(dir, "stagewire.db"), byRow: map[int64]*inHand{}}
}

func (c *claims) close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.disconnect()
}

func (c *claims) disconnect() error {
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn, c.read = nil, sqliteQuerier{}
	return conn.Close()
}

func (c *claims) connect(ctx context.Context) error {
	if c.closed {
		return errClosed
	}
	if c.conn != nil {
		return nil
	}
	conn, err := sqlite.OpenConn(c.path, sqlite.OpenReadOnly)
	if err != nil {
		return writeError(err)
	}
	conn.SetBusyTimeout(5 * time.Second)
	c.conn, c.read = conn, sqliteQuerier{conn: conn}
	_, err = c.read.exec(ctx, "PRAGMA temp_store = MEMORY")
	return err
}

// claimInMemory is Claim for a destination whose claims are not written.
func (s *Store) claimInMemory(ctx context.Context, destination string, now time.Time, lease time.Duration, limit int, ordered bool) ([]hub.Claimed, error) {
	if ordered {
		if err := s.write(ctx, func(_ context.Context, q keeper) error { return q.catchUp() }); err != nil {
			return nil, err
		}
	}
	claimed, err := s.claims.take(ctx, destination, now, now.Add(lease), limit, ordered)
	if err != nil || len(claimed) == 0 {
		return nil, err
	}
	if err := s.db.settled(ctx); err != nil { // nobody is told what a power cut could take back
		s.claims.drop(claimed)
		return nil, err
	}
	return claimed, nil
}

// take gives up to limit callbacks that are due and in nobody's hand. Rows are read under the lock: an outcome that is recorded meanwhile
// leaves its callback here until the rows seen cannot be older than it.
func (c *claims) take(ctx context.Context, destination string, now, until time.Time, limit int, ordered bool) (claimed []hub.Claimed, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connect(ctx); err != nil {
		return nil, errors.Join(err, c.disconnect())
	}
	defer func() {
		if err != nil {
			claimed, err = nil, errors.Join(err, c.disconnect())
		}
	}()
	if _, err := c.read.exec(ctx, "BEGIN"); err != nil { // both statements see the same
		return nil, err
	}
	rows, err := c.due(ctx, destination, now, limit, ordered)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		var d hub.Delivery
		err := each(ctx, &c.read, "SELECT "+deliveryColumns+" FROM deliveries WHERE no = $1", []any{row}, func(scan func(...any) error) (err error) {
			d, err = scanDelivery(scan)
			return err
		})
		if err != nil {
			return nil, err
		}
		d.Uncertain = d.Uncertain || d.State == hub.DeliverySending // an earlier release wrote its claims
		if before := c.byRow[row]; before != nil {
			d.Uncertain, d.Claim = true, max(d.Claim, before.claim)
		}
		d.Row, d.State, d.DueAt = row, hub.DeliverySending, at(micros(until))
		d.Claim++
		claimed = append(claimed, hub.Claimed{Delivery: d})
	}
	if err := loadRecipients(ctx, &c.read, claimed); err != nil {
		return nil, err
	}
	if _, err := c.read.exec(ctx, "COMMIT"); err != nil {
		return nil, err
	}
	for i := range claimed {
		d := &claimed[i]
		c.byRow[d.Row] = &inHand{
			id: d.ID, destination: d.Destination, externalID: d.ExternalID, attempts: d.Attempts, last: d.Last, claim: d.Claim, until: d.DueAt,
		}
	}
	return claimed, nil
}

// due returns the rows of up to limit callbacks that may be sent, in the order of the index, which holds all that is asked for. Rows that
// moments do not hold yet are left for the next claim where the order counts.
func (c *claims) due(ctx context.Context, destination string, now time.Time, limit int, ordered bool) ([]int64, error) {
	query := "SELECT d.no FROM deliveries d WHERE d.destination = $1 AND " + of("d", claimable) + " AND d.due_at <= $2"
	if ordered {
		query += " AND d.no <= (SELECT upto FROM entered WHERE kind = 3)" + afterEarlier()
	}
	found, err := c.read.query(ctx, query+" ORDER BY d.due_at, d.state, d.no", destination, micros(now))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var all []int64
	for len(all) < limit && found.Next() {
		var row int64
		if err := found.Scan(&row); err != nil {
			return nil, err
		}
		if c.byRow[row].free(now) {
			all = append(all, row)
		}
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	return all, found.Close()
}

// drop forgets claims that nobody was given.
func (c *claims) drop(claimed []hub.Claimed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range claimed {
		if h := c.byRow[claimed[i].Row]; h != nil && h.claim == claimed[i].Claim {
			delete(c.byRow, claimed[i].Row)
		}
	}
}

// end returns the outcomes of what is held here, which keeps it from being given again until ended, and the rest. Outcomes under
// an old claim are left out.
func (c *claims) end(done []hub.Finished) (mine []ending, rest []hub.Finished) {
	if c == nil {
		return nil, done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range done {
		f := &done[i]
		row := c.rowOf(f)
		switch h := c.byRow[row]; {
		case h == nil:
			rest = append(rest, *f)
		case h.claim == f.Claim && !h.ending:
			h.ending = true
			mine = append(mine, ending{Finished: f, row: row, destination: h.destination, attempts: h.attempts, externalID: h.externalID, former: h.last})
		}
	}
	return mine, rest
}

func (c *claims) rowOf(f *hub.Finished) int64 {
	if f.Row != 0 {
		return f.Row
	}
	for row, h := range c.byRow {
		if h.id == f.DeliveryID {
			return row
		}
	}
	return 0
}

// ended lets go of what was recorded; what could not be stays with its worker.
func (c *claims) ended(mine []ending, recorded bool) {
	if len(mine) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range mine {
		if recorded {
			delete(c.byRow, mine[i].row)
		} else {
			c.byRow[mine[i].row].ending = false
		}
	}
}

// except is a condition that leaves out the rows of deliveries that are being sent at now, to follow one with those arguments;
// nothing where there are none.
func (c *claims) except(now time.Time, args ...any) (condition string, all []any) {
	if c == nil {
		return "", args
	}
	list := c.list(func(h *inHand) bool { return !h.free(now) })
	if list == "" {
		return "", args
	}
	return " AND no NOT IN (SELECT value FROM json_each($" + strconv.Itoa(len(args)+1) + "))", append(args, list)
}

// only makes a list hold deliveries in that state, "" for any.
func (c *claims) only(b *list, state string) {
	rows := ""
	if c != nil {
		rows = c.list(func(*inHand) bool { return true })
	}
	switch {
	case rows == "":
		b.equal("state", state)
	case state == hub.DeliverySending:
		b.and("(state = 'sending' OR state IN ('due', 'retrying') AND no IN (SELECT value FROM json_each(?)))", rows)
	case state == hub.DeliveryDue, state == hub.DeliveryRetrying:
		b.and("state = ? AND no NOT IN (SELECT value FROM json_each(?))", state, rows)
	default:
		b.equal("state", state)
	}
}

// list returns the rows of some claims as JSON, "" for none.
func (c *claims) list(some func(*inHand) bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var text []byte
	for row, h := range c.byRow {
		if some(h) {
			text = strconv.AppendInt(append(text, ','), row, 10)
		}
	}
	if text == nil {
		return ""
	}
	text[0] = '['
	return string(append(text, ']'))
}

// show makes a delivery that was read from a row look as it would if its claim were written.
func (c *claims) show(row int64, d *hub.Delivery) {
	if c == nil || d.State != hub.DeliveryDue && d.State != hub.DeliveryRetrying && d.State != hub.DeliverySending {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.byRow[row]; h != nil {
		d.State, d.DueAt, d.Claim = hub.DeliverySending, h.until, h.claim
	}
}
