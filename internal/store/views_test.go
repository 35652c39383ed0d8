package store_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/store"
)

// direct opens the database as a program that reads the views does.
func (b *bench) direct(t testing.TB) *sql.DB {
	t.Helper()
	driver, source := "pgx", b.options.URL
	if b.dialect == "sqlite" {
		driver, source = "sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(filepath.Join(b.options.Dir, "stagewire.db")), RawQuery: "_pragma=busy_timeout(10000)"}).String()
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// texts returns all rows as text, cells parted by a space, null as -.
func texts(t *testing.T, db *sql.DB, query string, args ...any) (list []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		cells, dest := make([]any, len(columns)), make([]any, len(columns))
		for i := range cells {
			dest[i] = &cells[i]
		}
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		var row []string
		for _, cell := range cells {
			switch cell := cell.(type) {
			case nil:
				row = append(row, "-")
			case time.Time:
				text := cell.UTC().Format("2006-01-02T15:04:05.000Z")
				row = append(row, strings.TrimSuffix(text, "T00:00:00.000Z")) // a date, or close enough
			default:
				row = append(row, strings.TrimSuffix(fmt.Sprint(cell), "T00:00:00.000Z"))
			}
		}
		list = append(list, strings.Join(row, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// Every view that other programs may read is documented, column by column, and no other.
func TestViewsAreDocumented(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		db := b.direct(t)
		var names []string
		for _, v := range store.Views() {
			names = append(names, v.Name)
			if v.About == "" {
				t.Errorf("%s says nothing of itself", v.Name)
			}
			var documented, found []string
			for _, c := range v.Columns {
				if c.About == "" {
					t.Errorf("%s.%s says nothing of itself", v.Name, c.Name)
				}
				documented = append(documented, c.Name+" "+c.Type)
			}
			if b.dialect == "sqlite" {
				found = texts(t, db, "SELECT name FROM pragma_table_info($1) ORDER BY cid", v.Name)
				for i := range documented {
					documented[i], _, _ = strings.Cut(documented[i], " ")
				}
			} else {
				found = texts(t, db, `SELECT column_name, CASE data_type WHEN 'bigint' THEN 'integer' WHEN 'timestamp with time zone' THEN 'timestamp' ELSE data_type END
					FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position`, v.Name)
			}
			diff(t, v.Name, documented, found)
		}
		query := "SELECT name FROM sqlite_schema WHERE type = 'view' AND name LIKE 'stagewire%'"
		if b.dialect == "postgres" {
			query = "SELECT table_name FROM information_schema.views WHERE table_schema = current_schema() AND table_name LIKE 'stagewire%'"
		}
		found := texts(t, db, query)
		slices.Sort(names)
		slices.Sort(found)
		diff(t, "views", names, found)
	})
}

// The views say of a random past what the naive count says.
func TestViewsCount(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		seed := uint64(time.Now().UnixNano())
		s := newStory(seed)
		for _, c := range s.changes {
			b.apply(t, c)
		}
		db := b.direct(t)
		counts, flows := map[string]int{}, map[string]map[string]int{}
		var stays, moves []string
		form := func(at time.Time) string {
			return strings.TrimSuffix(at.Format("2006-01-02T15:04:05.000Z"), "T00:00:00.000Z")
		}
		for _, p := range s.people {
			if p.gone {
				continue
			}
			id, kind := p.stage.Subject.ID, string(p.stage.Subject.Kind)
			counts[fmt.Sprintf("clc %s %s", kind, p.stage.Stage)]++
			for _, m := range p.moves {
				moves = append(moves, fmt.Sprintf("%s %s %s %s %s %s %d", p.stage.CustomerID, id, m.From, m.To, form(m.At), m.At.Format(time.DateOnly), one(m.Passing)))
			}
			past := []hub.Stay{{Stage: p.stage.Stage, Since: p.entered}} // as recorded: what took no time has a row too
			if len(p.moves) > 0 {
				past[0].Stage = p.moves[0].From
			}
			for _, m := range p.moves {
				past = append(past, hub.Stay{Stage: m.To, Since: m.At})
			}
			for i, stay := range past {
				found := i == 0 && p.stage.Adopted
				row := fmt.Sprintf("%s %s %s %s", p.stage.CustomerID, id, stay.Stage, form(stay.Since))
				if i+1 == len(past) {
					stays = append(stays, fmt.Sprintf("%s - - - %d 0", row, one(found)))
					continue
				}
				next := past[i+1]
				took := next.Since.Sub(stay.Since)
				once := i == 0 && !found && took <= hub.Resolution
				stays = append(stays, fmt.Sprintf("%s %s %s %d %d %d", row, form(next.Since), next.Stage, int64(took/time.Second), one(found), one(once)))
				flow := fmt.Sprintf("%s clc %s %s %s", next.Since.Format(time.DateOnly), kind, stay.Stage, next.Stage)
				if flows[flow] == nil {
					flows[flow] = map[string]int{}
				}
				flows[flow][id]++
			}
		}
		var wantCounts, wantFlows []string
		for key, n := range counts {
			wantCounts = append(wantCounts, fmt.Sprintf("%s %d", key, n))
		}
		for key, by := range flows {
			n := 0
			for _, times := range by {
				n += times
			}
			wantFlows = append(wantFlows, fmt.Sprintf("%s %d %d", key, n, len(by)))
		}
		same := func(what string, want []string, query string) {
			t.Helper()
			got := texts(t, db, query)
			slices.Sort(want)
			slices.Sort(got)
			diff(t, fmt.Sprintf("seed %d: %s", seed, what), want, got)
		}
		same("stage counts", wantCounts, "SELECT * FROM stagewire_stage_counts WHERE model = 'clc'")
		same("flows", wantFlows, "SELECT * FROM stagewire_flow_daily WHERE model = 'clc'")
		same("stays", stays, "SELECT customer_id, subject_id, stage, entered_at, left_at, next_stage, seconds, adopted, at_once FROM stagewire_stays WHERE model = 'clc'")
		same("transitions", moves, "SELECT customer_id, subject_id, from_stage, to_stage, at, day, passing FROM stagewire_transitions WHERE model = 'clc'")
		if got := texts(t, db, "SELECT count(*) FROM stagewire_customers"); got[0] != fmt.Sprint(len(s.people)-s.gone()) {
			t.Errorf("seed %d: %s customers of %d", seed, got[0], len(s.people)-s.gone())
		}
		now := texts(t, db, "SELECT customer_id, subject_id, stage, since, in_model_since, adopted FROM stagewire_stages_now WHERE model = 'clc' AND decided_by = 'initial'")
		for _, row := range now {
			if !slices.ContainsFunc(s.people, func(p *storied) bool {
				return row == fmt.Sprintf("%s %s %s %s %s %d", p.stage.CustomerID, p.stage.Subject.ID, p.stage.Stage, form(p.stage.Since), form(p.entered), one(p.stage.Adopted))
			}) {
				t.Errorf("seed %d: stands nowhere so: %s", seed, row)
			}
		}
		if len(now) == 0 {
			t.Errorf("seed %d: nobody stands where she began", seed)
		}
	})
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *story) gone() (n int) {
	for _, p := range s.people {
		if p.gone {
			n++
		}
	}
	return n
}

// A program finds plain values: times as text or as real ones, personal data in one view alone.
func TestViewsForSpreadsheets(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		ada.FirstEventAt = time.Time{}
		b.apply(t, changes(ada))
		db := b.direct(t)
		diff(t, "customers", []string{ada.ID + " customer - 2026-03-01T10:00:00.000Z 2026-03-01T10:00:01.000Z"}, texts(t, db, "SELECT * FROM stagewire_customers"))
		diff(t, "personal", []string{ada.ID + ` Ada ada@example.com ["vip","größe \"L\""]`}, texts(t, db, "SELECT * FROM stagewire_customers_personal"))
		diff(t, "stages", []string{ada.ID + " customer " + ada.ID + " clc 3 new 2026-03-01T10:00:00.000Z rule 2026-03-01T10:00:00.000Z 0 2026-05-30T10:00:00.000Z"},
			texts(t, db, "SELECT * FROM stagewire_stages_now"))
		diff(t, "counts", []string{"clc customer new 1"}, texts(t, db, "SELECT * FROM stagewire_stage_counts"))
	})
}
