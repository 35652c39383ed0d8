package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	// turnRecords and turnTime bound one commit: what came in meanwhile waits for the next. Whoever has handed a job over does nothing
	// until it is committed, so that with longer turns first those have nothing to do, and then the writer.
	turnRecords = 1536
	turnTime    = 70 * time.Millisecond
	// checkpointEvery is how often the log is copied into the database, off the writer.
	checkpointEvery = 2 * time.Second
	// logCap is the size in bytes above which the writer itself finishes the checkpoint, so that the log starts over. Under
	// constant load the passive one never quite catches up.
	logCap = 64 << 20
)

// writer owns the only connection that writes. Everything else hands it closures.
//
// A commit writes to the log but does not wait for the disk; sync does, and only then are the jobs of that commit answered.
// So the next turn works while the disk does, one fsync may serve several commits, and nobody is told of what a power cut
// could undo. (PRAGMA synchronous = FULL would do the same fsync with the writer waiting for it.)
type writer struct {
	conn *sqlite.Conn // used by loop alone
	side *sqlite.Conn // used by checkpoint alone
	path string       // of the database; its log is path-wal
	page int64        // its size in bytes
	log  *slog.Logger
	jobs chan *job
	quit chan struct{}
	wait sync.WaitGroup

	committed chan []*job  // on their way to the disk
	broken    atomic.Value // error: an fsync failed, and what the log holds cannot be known
	begun     atomic.Int64 // commits that were begun and go through committed
	disk      sync.Mutex   // of onDisk
	synced    sync.Cond    // onDisk has grown
	onDisk    int64        // of those begun, how many sync is through with
	changes   int64        // rows changed by conn since it was opened, at the last commit

	tokens keyLocks
	tx     sqliteTx
	weight int // records written in this turn
}

// job is a closure on its way through the writer.
type job struct {
	ctx      context.Context
	run      func() error
	bare     bool // runs outside of any transaction
	err      error
	panicked any
	done     chan struct{}
}

func newWriter(path string, page int64, conn, side *sqlite.Conn, now func() time.Time, log *slog.Logger) *writer {
	w := &writer{path: path, page: page, conn: conn, side: side, log: log, jobs: make(chan *job), quit: make(chan struct{}), committed: make(chan []*job, commitsAhead)}
	w.tx = sqliteTx{sqliteQuerier: sqliteQuerier{conn: conn}, now: now, writer: w, recent: newRecent()}
	w.tx.forget()
	w.synced.L = &w.disk
	w.wait.Add(3)
	go w.loop()
	go w.sync()
	go w.checkpoint()
	return w
}

func (w *writer) close() error {
	close(w.quit)
	w.wait.Wait()
	// The last connection to close copies the rest of the log.
	return errors.Join(w.side.Close(), w.conn.Close())
}

func (w *writer) apply(ctx context.Context, fn func(context.Context, hub.Tx) error) error {
	return w.do(ctx, func() error {
		w.tx.begin()
		return fn(ctx, &w.tx)
	})
}

func (w *writer) write(ctx context.Context, fn func(context.Context, keeper) error) error {
	return w.do(ctx, func() error { return fn(ctx, &w.tx) })
}

// settled implements database. What somebody could read was begun to be committed before; the commits go to the disk in their order. Nothing
// is asked of the writer, and where all is on disk already, nobody waits.
func (w *writer) settled(ctx context.Context) error {
	select {
	case <-w.quit:
		return errClosed
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	last := w.begun.Load()
	w.disk.Lock()
	defer w.disk.Unlock()
	for w.onDisk < last {
		w.synced.Wait() // as long as an fsync takes: sync passes on whatever was begun, also as the store closes
	}
	err, _ := w.broken.Load().(error)
	return err
}

// do hands run to the writer and returns after the commit that holds it. Once begun it is waited for, whatever ctx says:
// whether it was committed must not stay unknown.
func (w *writer) do(ctx context.Context, run func() error) error {
	return w.submit(&job{ctx: ctx, run: run, done: make(chan struct{})})
}

func (w *writer) submit(j *job) error {
	select {
	case <-w.quit: // asked first, so that a closed store never takes more
		return errClosed
	default:
	}
	select {
	case w.jobs <- j:
	case <-w.quit:
		return errClosed
	case <-j.ctx.Done():
		return context.Cause(j.ctx)
	}
	<-j.done
	if j.panicked != nil {
		panic(j.panicked)
	}
	return j.err
}

func (w *writer) loop() {
	runtime.LockOSThread() // a thread that few others share: all that is decided waits for this one
	defer runtime.UnlockOSThread()
	defer w.wait.Done()
	defer close(w.committed)
	for {
		select {
		case j := <-w.jobs:
			w.turn(j)
		case <-w.quit:
			return
		}
	}
}

// turn runs first and whatever else waits, commits them together and passes all on to sync.
func (w *writer) turn(first *job) {
	if first.bare {
		first.err = first.run()
		close(first.done)
		return
	}
	group := []*job{first}
	start := time.Now()
	w.weight = 0
	err, _ := w.broken.Load().(error)
	if err == nil {
		err = w.statement("BEGIN IMMEDIATE")
	}
	if err == nil {
		err = w.fill(&group, start)
	}
	if err == nil && w.tx.late.full() {
		err = w.tx.catchUp()
	}
	changed := false
	if err == nil {
		changed, err = w.changed()
	}
	synced := changed && err == nil
	if synced {
		w.begun.Add(1) // before anybody can see what is committed
	}
	if err == nil {
		err = w.statement("COMMIT")
	}
	if err != nil {
		w.tx.forget()
		if !w.conn.AutocommitEnabled() {
			if back := w.statement("ROLLBACK"); back != nil {
				w.log.Error("roll back", "error", back)
			}
		}
		for _, j := range group {
			if j.err == nil && j.panicked == nil {
				j.err = err
			}
		}
	}
	if synced { // also where the commit failed: it was counted as begun
		w.committed <- group
		return
	}
	answer(group)
}

// changed reports whether the transaction changed anything, or an earlier one that was rolled back did.
func (w *writer) changed() (bool, error) {
	var n int64
	err := one(context.Background(), &w.tx.sqliteQuerier, "SELECT total_changes()", nil, &n)
	changed := n != w.changes
	w.changes = n
	return changed, err
}

func answer(group []*job) {
	for _, j := range group {
		close(j.done)
	}
}

// commitsAhead is how many commits may wait for one fsync.
const commitsAhead = 8

// sync takes what was committed to the disk and answers. Where the disk fails, what the log holds there is unknown, and a
// second fsync would not tell: nothing more is written until the process starts again and reads the log anew.
func (w *writer) sync() {
	defer w.wait.Done()
	var log *os.File
	defer func() {
		if log != nil {
			_ = log.Close() // nothing was written through it
		}
	}()
	for group := range w.committed {
		groups := [][]*job{group}
		for more := true; more; {
			select {
			case group, more = <-w.committed:
				if more {
					groups = append(groups, group)
				}
			default:
				more = false
			}
		}
		err, _ := w.broken.Load().(error)
		if err == nil && log == nil {
			log, err = os.Open(w.path + "-wal")
		}
		if err == nil {
			err = log.Sync()
		}
		if err != nil {
			if w.broken.Load() == nil {
				err = fmt.Errorf("store: the disk did not take the log, start again: %w: %w", err, hub.ErrTransient)
				w.broken.Store(err)
				w.log.Error("the database's log is not on disk; nothing more is written until the process starts again", "error", err)
			}
		}
		w.disk.Lock()
		w.onDisk += int64(len(groups))
		w.synced.Broadcast()
		w.disk.Unlock()
		for _, group := range groups {
			for _, j := range group {
				if j.err == nil && j.panicked == nil {
					j.err = err
				}
			}
			answer(group)
		}
	}
}

// fill runs jobs until the turn is full or nobody waits. An error means that the transaction is lost.
func (w *writer) fill(group *[]*job, start time.Time) error {
	for i := 0; ; i++ {
		j := (*group)[i]
		lost, err := w.one(j, i == 0)
		if err != nil {
			return err
		}
		if lost {
			// The first job has no savepoint of its own: nothing was written before it, so a new transaction does as well.
			if err := w.statement("BEGIN IMMEDIATE"); err != nil {
				return err
			}
		}
		if w.weight >= turnRecords || time.Since(start) >= turnTime {
			return nil
		}
		select {
		case next := <-w.jobs:
			if next.bare {
				go func() { next.err = w.again(next); close(next.done) }()
				return nil
			}
			*group = append(*group, next)
		default:
			return nil
		}
	}
}

// again submits a copy of a job that came at the wrong time.
func (w *writer) again(j *job) error {
	return w.submit(&job{ctx: j.ctx, run: j.run, bare: true, done: make(chan struct{})})
}

// one runs a job, again after a conflict, and undoes a failed one. It reports whether the transaction ended by that.
func (w *writer) one(j *job, first bool) (ended bool, err error) {
	if j.err = context.Cause(j.ctx); j.err != nil {
		return false, nil
	}
	for try := 1; ; try++ {
		if !first {
			if err := w.statement("SAVEPOINT job"); err != nil {
				return false, err
			}
		}
		w.call(j)
		if w.conn.AutocommitEnabled() {
			// SQLite rolled everything back by itself (disk full, I/O error).
			return false, fmt.Errorf("store: transaction lost: %w: %w", errors.Join(j.err), hub.ErrTransient)
		}
		if j.err == nil && j.panicked == nil {
			if !first {
				return false, w.statement("RELEASE job")
			}
			return false, nil
		}
		w.tx.forget()
		switch {
		case first:
			if err := w.statement("ROLLBACK"); err != nil {
				return false, err
			}
		default:
			if err := w.statement("ROLLBACK TO job"); err != nil {
				return false, err
			}
			if err := w.statement("RELEASE job"); err != nil {
				return false, err
			}
		}
		if j.panicked != nil || !errors.Is(j.err, hub.ErrConflict) || try == maxRepeats {
			return first, nil
		}
		if first {
			if err := w.statement("BEGIN IMMEDIATE"); err != nil {
				return false, err
			}
		}
	}
}

// call runs the closure; a panic belongs to the caller, not to the writer.
func (w *writer) call(j *job) {
	defer func() {
		if p := recover(); p != nil {
			j.panicked = p
		}
	}()
	j.err = j.run()
}

func (w *writer) statement(text string) error {
	_, err := w.tx.exec(context.Background(), text)
	return err
}

// checkpoint copies the log into the database while the writer goes on.
func (w *writer) checkpoint() {
	defer w.wait.Done()
	ticker := time.NewTicker(checkpointEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-w.quit:
			return
		}
		err := w.submit(&job{ctx: context.Background(), run: w.tx.catchUp, done: make(chan struct{})})
		if err != nil && !errors.Is(err, errClosed) {
			w.log.Error("enter the newest events", "error", err)
		}
		pages, err := passive(w.side)
		if err != nil {
			w.log.Error("checkpoint", "error", err)
			continue
		}
		if pages*w.page > logCap {
			err := w.submit(&job{ctx: context.Background(), bare: true, done: make(chan struct{}), run: func() error {
				_, err := passive(w.conn)
				return err
			}})
			if err != nil && !errors.Is(err, errClosed) {
				w.log.Error("checkpoint on the writer", "error", err)
			}
		}
	}
}

// passive runs a checkpoint that waits for nobody and returns how many pages the log holds.
func passive(conn *sqlite.Conn) (pages int64, err error) {
	q := sqliteQuerier{conn: conn}
	var busy, done int64
	err = one(context.Background(), &q, "PRAGMA wal_checkpoint(PASSIVE)", nil, &busy, &pages, &done)
	return pages, err
}
