package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// A statement that does not say a partial index's condition in its words reads the whole table, which no other test would see.
func TestPartialIndexesAreUsed(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for query, index := range map[string]string{
		"SELECT d.no FROM deliveries d WHERE d.destination = 'x' AND " + of("d", claimable) + " AND d.due_at <= 1 ORDER BY d.due_at, d.state, d.no": "COVERING INDEX deliveries_due (destination=? AND due_at<?)",
		"SELECT d.* FROM deliveries d WHERE d.destination = 'x' AND " + of("d", claimable) + " AND d.due_at <= 1 ORDER BY d.due_at, d.no LIMIT 1":   "INDEX deliveries_due (destination=? AND due_at<?)",
		"SELECT count(*), min(due_at) FROM deliveries WHERE " + claimable + " AND due_at <= 1 AND no NOT IN (SELECT value FROM json_each('[1]'))":   "COVERING INDEX deliveries_due",
		"SELECT count(*) FROM deliveries WHERE " + claimable:                                            "COVERING INDEX deliveries_due",
		"UPDATE deliveries SET due_at = 1 WHERE " + claimable + " AND state = 'sending' AND due_at > 2": "INDEX deliveries_due",
		"SELECT DISTINCT destination FROM deliveries WHERE state = 'parked' AND " + aside:               "INDEX deliveries_aside (state=?)",
		"UPDATE deliveries SET state = 'due' WHERE destination = 'x' AND state = 'parked' AND " + aside: "INDEX deliveries_aside (state=?)",
		"SELECT id, no FROM deliveries WHERE state = 'dead' AND " + aside:                               "INDEX deliveries_aside (state=?)",
		"SELECT 1 FROM deliveries WHERE slot = 'x' AND slot <> '' AND " + stillOpen:                     "INDEX deliveries_slot (slot=?)",
		lazySleepers: "INDEX stages_looks (model=? AND looks_at>? AND looks_at<?)",
		"SELECT 1 FROM deliveries WHERE customer_id = 'x' AND key = 'y' AND key <> '' AND " + stillKeyed: "INDEX deliveries_key (customer_id=? AND key=?)",
	} {
		if plan := planOf(t, s, query); !strings.Contains(plan, index) || strings.Contains(plan, "SORTER") {
			t.Errorf("%s\nis read by\n%s\nnot by %s", query, plan, index)
		}
	}
	names := distinct("destination", "deliveries", claimable) + " SELECT d.name FROM d WHERE d.name IS NOT NULL AND EXISTS (SELECT 1 FROM deliveries x WHERE x.destination = d.name AND " +
		of("x", claimable) + " AND x.due_at <= 1)"
	if plan := planOf(t, s, names); strings.Count(plan, "COVERING INDEX deliveries_due") != 3 {
		t.Errorf("destinations are read by\n%s", plan)
	}
}

// Writing a delivery makes no table of SQLite's own: it would cost more than all indexes.
func TestDeliveriesAreWrittenWithoutTables(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, query := range []string{insertDelivery, finishDelivery} {
		if opened := stepsOf(t, s, query)["OpenEphemeral"]; opened > 0 {
			t.Errorf("%s opens %d tables", query, opened)
		}
	}
}

// An event that moves a wake-up later writes to the table of stages and to none of its indexes.
func TestLaterWakesAreWrittenWithoutAnIndex(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for query, want := range map[string]int{updateWake: 1, updateLook: 2, lookEarlier: 2} {
		if written := stepsOf(t, s, query)["OpenWrite"]; written != want {
			t.Errorf("%s writes to %d trees, not %d", query, written, want)
		}
	}
}

// stepsOf counts the operations of a writing statement by name.
func stepsOf(t *testing.T, s *Store, query string) map[string]int {
	t.Helper()
	steps := map[string]int{}
	err := s.write(t.Context(), func(ctx context.Context, q keeper) error {
		return each(ctx, q, "EXPLAIN "+query, filler(query), func(scan func(...any) error) error {
			var address, p1, p2, p3 int64
			var opcode string
			err := scan(&address, &opcode, &p1, &p2, &p3)
			steps[opcode]++
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// filler is an argument for each placeholder.
func filler(query string) []any {
	n := 0
	for strings.Contains(query, fmt.Sprintf("$%d", n+1)) {
		n++
	}
	args := make([]any, n)
	for i := range args {
		args[i] = 0
	}
	return args
}

func planOf(t *testing.T, s *Store, query string) string {
	t.Helper()
	var lines []string
	err := each(t.Context(), s.read, "EXPLAIN QUERY PLAN "+query, filler(query), func(scan func(...any) error) error {
		var id, parent, unused int64
		var detail string
		err := scan(&id, &parent, &unused, &detail)
		lines = append(lines, detail)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return strings.Join(lines, "\n")
}
