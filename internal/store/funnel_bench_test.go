package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/store"
)

// BenchmarkFunnel counts a funnel over 200,000 customers with 1,000,000 transitions of one model, while somebody writes, and reads the
// SQL views of the same. It tells how long the slowest write took meanwhile.
func BenchmarkFunnel(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		o := store.Options{Dir: b.TempDir()}
		benchmarkFunnel(b, &bench{options: o, dialect: "sqlite"})
	})
	b.Run("postgres", func(b *testing.B) {
		server := os.Getenv("STAGEWIRE_TEST_POSTGRES")
		if server == "" {
			b.Skip("STAGEWIRE_TEST_POSTGRES is not set: no PostgreSQL to test on")
		}
		benchmarkFunnel(b, &bench{options: store.Options{URL: schemaOf(b, server)}, dialect: "postgres"})
	})
}

func benchmarkFunnel(b *testing.B, on *bench) {
	s, err := store.Open(b.Context(), on.options)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	db := on.direct(b)
	fillFunnel(b, db)
	if on.dialect == "sqlite" { // as if it had been entered and checkpointed while it came
		for _, statement := range []string{"UPDATE entered SET upto = 1000000 WHERE kind = 2", "PRAGMA wal_checkpoint(TRUNCATE)"} {
			if _, err := db.ExecContext(b.Context(), statement); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("count", func(b *testing.B) {
		slowest, stop := writeBeside(b, s)
		used := cpu(b)
		for b.Loop() {
			q := funnel.Query{From: t0.AddDate(0, 3, 0), To: t0.AddDate(0, 9, 0), At: t0.AddDate(1, 0, 0), Cohort: funnel.Month}
			count, err := funnel.New(funnelModel, q)
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Histories(b.Context(), "clc", count.Add); err != nil {
				b.Fatal(err)
			}
			if r, err := count.Result(); err != nil || r.Stages[1].Entered == 0 {
				b.Fatal(err, r)
			}
		}
		b.ReportMetric(float64((cpu(b)-used).Milliseconds())/float64(b.N), "cpu-ms/op")
		stop()
		b.ReportMetric(float64(slowest().Milliseconds()), "slowest-write-ms")
	})
	for _, query := range []string{
		"SELECT sum(customers) FROM stagewire_stage_counts", "SELECT count(stage) FROM stagewire_stages_now", "SELECT count(at) FROM stagewire_transitions",
		"SELECT sum(moves) FROM stagewire_flow_daily WHERE model = 'clc'", "SELECT count(seconds) FROM stagewire_stays WHERE model = 'clc'",
	} {
		b.Run(query, func(b *testing.B) {
			used := cpu(b)
			for b.Loop() {
				var n int64
				if err := db.QueryRowContext(b.Context(), query).Scan(&n); err != nil || n == 0 {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64((cpu(b)-used).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// writeBeside writes one customer after the other until it is stopped; slowest is the longest that one took.
func writeBeside(b *testing.B, s *store.Store) (slowest func() time.Duration, stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	done, longest := make(chan struct{}), time.Duration(0)
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			began := time.Now()
			if err := s.Apply(b.Context(), func(ctx context.Context, tx hub.Tx) error { return tx.Save(ctx, changes(person(fmt.Sprint("w", i)))) }); err != nil {
				b.Error(err)
				return
			}
			longest = max(longest, time.Since(began))
		}
	}()
	return func() time.Duration { return longest }, func() { cancel(); <-done }
}

// fillFunnel writes rows as the hub does, in the order of their making.
func fillFunnel(b *testing.B, db *sql.DB) {
	const n = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d - 1) "
	stage := func(number string) string {
		return "CASE (" + number + ") % 5 WHEN 0 THEN 'prospect' WHEN 1 THEN 'new' WHEN 2 THEN 'active' WHEN 3 THEN 'loyal' ELSE 'lost' END"
	}
	began := fmt.Sprintf("(%d + (i %% 200000) * CAST(60000000 AS BIGINT))", t0.UnixMicro()) // each customer one minute after the one before
	id := "'cus_01j00000000000000' || (100000000 + i % 200000)"
	for _, statement := range []string{
		fmt.Sprintf(n, 200_000) + `INSERT INTO customers (id, kind, sequence, first_event_at, decided_at, created_at, updated_at, merged_into, name, email, tags, previous)
			SELECT ` + id + `, 'customer', 9, ` + began + `, 0, 0, 0, CASE WHEN i % 1000 = 999 THEN 'cus_01j00000000000000100000000' ELSE '' END, 'Ada Example', 'ada@example.com', '', '' FROM n`,
		fmt.Sprintf(n, 200_000) + `INSERT INTO stages (customer_id, subject_kind, subject_id, model, version, stage, since, decided_by, decided_at, wakes_at, path, entered_at)
			SELECT ` + id + `, 'customer', ` + id + `, 'clc', 1, ` + stage("i+5") + `, ` + began + ` + CAST(5 AS BIGINT) * 864000000000, 'rule', 0, NULL, NULL, ` + began + ` - 1000 FROM n`,
		fmt.Sprintf(n, 1_000_000) + `INSERT INTO transitions (id, subject_kind, subject_id, customer_id, model, version, from_stage, to_stage, at, decided_at, sequence, cause_type, cause_id, rule, passing, why)
			SELECT 'stg_01j0000000000000000' || (1000000 + i), 'customer', ` + id + `, ` + id + `, 'clc', 1, ` + stage("i + i / 200000") + `, ` + stage("i + i / 200000 + 1") + `,
				` + began + ` + (i / 200000) * (864000000000 + (i % 997) * CAST(3600000000 AS BIGINT)), 0, i / 200000, 'event', 'evt_01j0000000000000000' || (1000000 + i), 2, 0,
				'count of order.paid was 2, at least 2 were needed; the latest order.paid was 12 days ago' FROM n`,
	} {
		if _, err := db.ExecContext(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
}
