package app

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

// What a query leaves open ends now, the present instant included; what lies ahead is cut, and asked for alone refused.
func TestFunnelWindow(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	instant := hub.Resolution
	for _, c := range []struct {
		name, query string
		want        funnel.Query
		fails       string
	}{
		{name: "nothing said", query: "", want: funnel.Query{To: now.Add(instant), At: now}},
		{name: "a month, seen now", query: "from=2026-01-01 to=2026-01-31", want: funnel.Query{
			From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), At: now,
		}},
		{name: "as it was", query: "at=2026-02-01T10:00:00%2B02:00", want: funnel.Query{
			To: time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC).Add(instant), At: time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC),
		}},
		{name: "the end of a day", query: "to=2026-02-01 at=2026-02-01", want: funnel.Query{
			To: time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC), At: time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC).Add(-instant),
		}},
		{name: "today is not over", query: "to=2026-03-10 at=2026-03-10", want: funnel.Query{To: now.Add(instant), At: now}},
		{name: "a window that goes on", query: "to=2026-12-31", want: funnel.Query{To: now.Add(instant), At: now}},
		{name: "years away", query: "from=0001-01-01 to=9999-12-31", want: funnel.Query{From: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), To: now.Add(instant), At: now}},
		{name: "from in the future", query: "from=2026-03-11", fails: "lies in the future"},
		{name: "at in the future", query: "at=2026-03-11", fails: "lies in the future"},
	} {
		values := map[string]string{}
		for pair := range strings.FieldsSeq(c.query) {
			name, value, _ := strings.Cut(pair, "=")
			values[name] = strings.ReplaceAll(value, "%2B", "+")
		}
		q, err := server.ParseFunnel(func(name string) string { return values[name] })
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := funnelWindow(q, now)
		switch {
		case c.fails != "":
			if !errors.Is(err, hub.ErrInvalid) || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v", c.name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		default:
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	}
}
