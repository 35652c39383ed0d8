package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// entered is what is kept of when a record's subject came into its model.
func entered(r *hub.StageRecord) time.Time {
	if r.Entered.IsZero() {
		return r.Since
	}
	return r.Entered
}

// Histories calls each with the way of every living customer, company or deal through model, in no order. The history is used
// again by the next call. Everything is read in one look at one instant, before the first call, over a reading
// connection: with a million transitions that takes about a second, and the writer does not wait.
//
// A way is made of the recorded transitions, those in passing included: a stage that silence led through while the hub was
// behind was stood in all the same, for as long as business time says. Only what took no time at all was no stay: of
// several moves at one instant the last counts. Of customers who were merged the survivor's way counts alone, and
// who was merged into somebody that stood nowhere in the model brought her way along. A deal keeps its way, whosever it becomes.
//
// One is read at a time, so that many who ask do not take the reading connections from everybody else; who waits too long
// for her turn is told hub.ErrBusy.
func (s *Store) Histories(ctx context.Context, model string, each func(*hub.History)) error {
	select {
	case s.counting <- struct{}{}:
		defer func() { <-s.counting }()
	case <-ctx.Done():
		return fmt.Errorf("histories of %s: others are being read: %w", model, hub.ErrBusy)
	}
	w := &ways{subjects: map[string]int32{}, stages: map[string]int32{}, owners: map[string]string{}}
	if err := s.read.snapshot(ctx, func(q querier) error { return w.load(ctx, q, model) }); err != nil {
		return err
	}
	w.each(each)
	return nil
}

// ways is what Histories has read: a list of stays for each subject, all in one array.
type ways struct {
	subjects map[string]int32 // by id: place in list
	list     []way
	stays    []stay
	stages   map[string]int32 // by name: place in names
	names    []string
	owners   map[string]string // of merged customers: whose way theirs is, "" for nobody's
}

type way struct {
	entered     int64 // 0 where it is not known
	first, last int32 // places in stays, from 1; 0 for none
	stage       int32 // where she stands, by the stage's own row
	standing    bool  // there is such a row
	adopted     bool
}

type stay struct {
	since int64
	stage int32
	next  int32 // place in stays, from 1; 0 for the last
}

func (w *ways) load(ctx context.Context, q querier, model string) error {
	for _, part := range []func(context.Context, querier, string) error{w.loadMerged, w.loadStages, w.loadTransitions} {
		if err := part(ctx, q, model); err != nil {
			return err
		}
	}
	return nil
}

func (w *ways) loadMerged(ctx context.Context, q querier, model string) error {
	err := each(ctx, q, "SELECT id FROM customers WHERE merged_into <> ''", nil, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		w.owners[id] = ""
		return err
	})
	if err != nil {
		return err
	}
	return each(ctx, q, "SELECT from_id, into_id FROM inherited WHERE model = $1", []any{model}, func(scan func(...any) error) error {
		var from, into string
		err := scan(&from, &into)
		w.owners[from] = into
		return err
	})
}

func (w *ways) loadStages(ctx context.Context, q querier, model string) error {
	var subject, stage string
	var since, entered int64
	var adopted bool
	return each(ctx, q, `SELECT subject_id, stage, since, entered_at, adopted FROM stages
		WHERE model = $1 AND (subject_kind <> 'deal' OR customer_id NOT IN (SELECT id FROM customers WHERE merged_into <> ''))`, []any{model}, func(scan func(...any) error) error {
		if err := scan(&subject, &stage, &since, &entered, &adopted); err != nil {
			return err
		}
		if _, merged := w.owners[subject]; merged {
			return nil
		}
		if entered == 0 {
			entered = since
		}
		*w.of(subject) = way{entered: entered, stage: w.number(stage), standing: true, adopted: adopted}
		return nil
	})
}

func (w *ways) loadTransitions(ctx context.Context, q querier, model string) error {
	var subject, from, to string
	var when int64
	// The order of the rows is that of each subject's moves.
	return each(ctx, q, "SELECT subject_id, from_stage, to_stage, at FROM transitions WHERE model = $1 ORDER BY no", []any{model}, func(scan func(...any) error) error {
		if err := scan(&subject, &from, &to, &when); err != nil {
			return err
		}
		if owner, merged := w.owners[subject]; merged {
			if owner == "" {
				return nil
			}
			subject = owner
		}
		one := w.of(subject)
		if one.first == 0 {
			if !one.standing || one.entered == 0 || one.entered > when {
				one.entered = when
			}
			w.append(one, w.number(from), one.entered)
		}
		w.append(one, w.number(to), max(when, w.stays[one.last-1].since))
		return nil
	})
}

func (w *ways) of(subject string) *way {
	n, ok := w.subjects[subject]
	if !ok {
		n = int32(len(w.list)) //nolint:gosec // customers, not two thousand millions of them
		w.subjects[subject] = n
		w.list = append(w.list, way{})
	}
	return &w.list[n]
}

func (w *ways) number(stage string) int32 {
	n, ok := w.stages[stage]
	if !ok {
		n = int32(len(w.names)) //nolint:gosec // stages
		w.stages[stage] = n
		w.names = append(w.names, stage)
	}
	return n
}

func (w *ways) append(one *way, stage int32, since int64) {
	w.stays = append(w.stays, stay{since: since, stage: stage})
	n := int32(len(w.stays)) //nolint:gosec // transitions that fit in memory
	if one.last == 0 {
		one.first = n
	} else {
		w.stays[one.last-1].next = n
	}
	one.last = n
}

func (w *ways) each(fn func(*hub.History)) {
	var h hub.History
	for i := range w.list {
		one := &w.list[i]
		h.Adopted, h.Stays = one.adopted, h.Stays[:0]
		if one.first == 0 {
			h.Stays = append(h.Stays, hub.Stay{Stage: w.names[one.stage], Since: at(one.entered)})
		}
		for n := one.first; n != 0; n = w.stays[n-1].next {
			h.Stays = visit(h.Stays, w.names[w.stays[n-1].stage], w.stays[n-1].since)
		}
		fn(&h)
	}
}

// visit adds a stay to a way; the stay before it goes where it took no time, and the stage before that may be the same one again.
func visit(stays []hub.Stay, stage string, since int64) []hub.Stay {
	when := at(since)
	if len(stays) > 1 && stays[len(stays)-1].Since.Equal(when) {
		stays = stays[:len(stays)-1]
	}
	if len(stays) > 0 && stays[len(stays)-1].Stage == stage {
		return stays
	}
	return append(stays, hub.Stay{Stage: stage, Since: when})
}

// snapshot runs fn over one look at the database.
func (r reader) snapshot(ctx context.Context, fn func(querier) error) error {
	tx, err := r.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return r.fail(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	return fn(snapshot{reader: r, tx: tx})
}

// snapshot is a reader whose queries all see the same.
type snapshot struct {
	reader
	tx *sql.Tx
}

func (s snapshot) query(ctx context.Context, query string, args ...any) (rows, error) {
	result, err := s.tx.QueryContext(ctx, query, args...) //nolint:rowserrcheck // each and one, the only callers, check it
	if err != nil {
		return nil, s.fail(err)
	}
	return &readRows{Rows: result, fail: s.fail}, nil
}
