package hub_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stagewire/stagewire/internal/hub"
)

// Whoever has a copy of who was told what keeps it, whatever is told next.
func TestPreviousIsNotChangedInPlace(t *testing.T) {
	var none hub.Previous
	one := none.With("erp", "stg_1")
	room := slices.Grow(one, 4)
	two, again := room.With("bi", "stg_2"), room.With("erp", "stg_3")
	for got, want := range map[string]string{
		fmt.Sprint(none):  "[]",
		fmt.Sprint(one):   "[{erp stg_1}]",
		fmt.Sprint(room):  "[{erp stg_1}]",
		fmt.Sprint(two):   "[{bi stg_2} {erp stg_1}]",
		fmt.Sprint(again): "[{erp stg_3}]",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if two.Of("bi") != "stg_2" || two.Of("erp") != "stg_1" || two.Of("crm") != "" || none.Of("erp") != "" {
		t.Errorf("%v does not tell what it holds", two)
	}
}
