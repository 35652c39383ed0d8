package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// A tag that an attempt of unknown outcome may have added is removed like the one known to be there; a field's value is only
// overwritten, and known to be ours.
func TestWhatLostAttemptsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, nil), &vendor{}
		b.connect("crm", v)
		v.perform = func(_ context.Context, _ connector.Call, in connector.Task) hub.Result {
			if in.Action.Name == "add_tag" && in.Previous == "stage:new" {
				return hub.Result{Outcome: hub.Skipped, Error: "equal already"}
			}
			return hub.Result{Outcome: hub.Delivered, Status: 200}
		}
		tag, value := field("crm", "tag", "stage:loyal"), field("crm", "field", "loyal")
		tag.Desired.Field, tag.Desired.Action, tag.Params = "tag:stage:${stage}", "add_tag", map[string]any{"field": "tag:stage:${stage}"}
		tag.Desired.Written, tag.Desired.WrittenGeneration, tag.Desired.Tried = "stage:new", 1, []string{"stage:active", "stage:new", "stage:loyal", "stage:lost"}
		value.Desired.Written, value.Desired.WrittenGeneration, value.Desired.Tried = "loyal", 1, []string{"active"} // perhaps it is active there by now
		b.store.add(tag, value)
		b.Wake()
		synctest.Wait()
		b.states(hub.DeliveryDelivered, "tag", "field")
		var did []string
		for _, in := range v.attempts() {
			did = append(did, fmt.Sprint(in.Action.Name, " after ", in.Previous, " or ", strings.Join(in.Tried, " ")))
		}
		slices.Sort(did)
		want := []string{
			"add_tag after stage:active or stage:active stage:new stage:loyal stage:lost",
			"add_tag after stage:lost or stage:active stage:new stage:loyal stage:lost",
			"add_tag after stage:new or stage:active stage:new stage:loyal stage:lost",
			"set_stage after loyal or active",
		}
		if !slices.Equal(did, want) {
			t.Errorf("did\n%s\nwant\n%s", strings.Join(did, "\n"), strings.Join(want, "\n"))
		}
		for _, s := range b.store.sends {
			if s.Slot == "" || s.Value == "" {
				t.Errorf("the row of desired state does not learn of %+v", s)
			}
		}
	})
}
