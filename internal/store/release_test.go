package store_test

import (
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// What a process that was killed had in hand is taken up at once by the next one, in doubt; everything else stays as it is.
func TestReleaseAfterACrash(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		ada := person("ada")
		c := changes(ada)
		c.Deliveries = []hub.Delivery{delivery(ada, "dlv_1", "crm", t0), delivery(ada, "dlv_2", "crm", t0.Add(time.Second)), delivery(ada, "dlv_3", "crm", t0.Add(time.Hour))}
		b.apply(t, c)
		rows := []hub.HydrationRecord{
			{Connection: "crm", Object: "contact", ID: "1", WebhookID: "whk_1", ReceivedAt: t0, DueAt: t0, State: "due"},
			{Connection: "crm", Object: "contact", ID: "2", WebhookID: "whk_1", Item: 1, ReceivedAt: t0, DueAt: t0.Add(time.Hour), State: "due"},
		}
		if _, err := b.SaveWebhooks(ctx, nil, rows, nil); err != nil {
			t.Fatal(err)
		}
		diff(t, "claimed", []string{"dlv_1"}, ids(b.claim(t, "crm", t0, 10, false)))
		if fetching := must(b.ClaimHydration(ctx, "crm", t0, lease, 10))(t); len(fetching) != 1 || fetching[0].ID != "1" {
			t.Fatalf("fetching %+v", fetching)
		}
		now := t0.Add(2 * time.Second)
		if more := must(b.ClaimHydration(ctx, "crm", now, lease, 10))(t); len(more) != 0 {
			t.Fatalf("the lease does not hold: %+v", more)
		}

		b.again(t)
		if err := b.Release(ctx, now); err != nil {
			t.Fatal(err)
		}
		got := b.claim(t, "crm", now, 10, false)
		diff(t, "after the crash", []string{"dlv_2", "dlv_1"}, ids(got))
		if got[0].Uncertain || !got[1].Uncertain || got[1].Claim != 2 {
			t.Errorf("only what was being sent is in doubt: %+v", got)
		}
		fetching := must(b.ClaimHydration(ctx, "crm", now, lease, 10))(t)
		if len(fetching) != 1 || fetching[0].ID != "1" || fetching[0].Claim != 2 {
			t.Errorf("fetching again %+v", fetching)
		}
	})
}
