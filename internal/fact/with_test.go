package fact

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
)

// Facts with more events are what the same events in one profile give, whatever was derived before; the facts they were made from
// stay as they were.
func TestWith(t *testing.T) {
	for seed := range uint64(200) {
		g := rand.New(rand.NewPCG(7, seed)) //nolint:gosec // a fixed sequence
		event := func(n int) hub.Event {
			kinds := []string{"order.paid", "order.refunded", "ticket.opened", "ticket.solved", "page.viewed", "tag.added", "deal.created", "deal.won"}
			ev := hub.Event{
				ID: fmt.Sprintf("evt_%03d", n), Kind: kinds[g.IntN(len(kinds))], Connection: "shop", OccurredAt: time.UnixMilli(int64(g.IntN(50)) * 1000).UTC(),
				Properties: map[string]any{"id": fmt.Sprint(g.IntN(3)), "tags": []string{fmt.Sprint(g.IntN(4))}},
			}
			if g.IntN(4) == 0 {
				ev.Traits = []hub.Trait{{Name: "plan", Value: fmt.Sprint(n), At: ev.OccurredAt}}
			}
			return ev
		}
		var before, whole Profile
		for n := range g.IntN(12) {
			ev := event(n)
			before.Put(&ev)
			whole.Put(&ev)
		}
		var more []hub.Event
		for n := range 1 + g.IntN(4) {
			ev := event(100 + n)
			if g.IntN(2) == 0 { // mostly at the end, as time goes
				ev.OccurredAt = time.UnixMilli(100_000 + int64(n)).UTC()
			}
			more = append(more, ev)
			whole.Put(&ev)
		}
		told := func(f *Facts) (out []string) {
			for _, e := range f.Entries() {
				out = append(out, e.ID, e.Kind, fmt.Sprint(len(f.Kind(e.Kind))))
			}
			for _, object := range Objects {
				for _, o := range f.Objects(object) {
					out = append(out, fmt.Sprint(o.Kind, o.ID, o.Open, o.Won, o.Refunded, o.CreatedAt, o.ClosedAt, len(o.Entries())))
				}
			}
			out = append(out, fmt.Sprint(len(f.Standing()), f.Tags(), f.Text("plan"), len(f.Set("sales", []string{"deal.won", "order.paid"}))))
			return out
		}
		f := Union(&before)
		if g.IntN(2) == 0 {
			told(f) // derives everything
		}
		first := told(Union(&before))
		if d := cmp.Diff(told(Union(&whole)), told(f.With(more...))); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		if d := cmp.Diff(first, told(f)); d != "" {
			t.Fatalf("seed %d: the facts changed: %s", seed, d)
		}
		deal := f.Deal("shop", "1")
		if d := cmp.Diff(told(Union(&whole).Deal("shop", "1")), told(deal.With(more...))); d != "" {
			t.Fatalf("seed %d, a deal: %s", seed, d)
		}
	}
}
