package connector

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stagewire/stagewire/connectors"
	"github.com/stagewire/stagewire/internal/hub"
)

// What no event can hold must fail in the mapping, with its place: later it would hold up everything behind it.
func TestNumbersAndTimesNoEventCanHold(t *testing.T) {
	for _, v := range []any{math.Inf(1), math.Inf(-1), math.NaN(), "Inf", "NaN", "1e999"} {
		if n, err := asNumber(v); err == nil {
			t.Errorf("%v is the number %v", v, n)
		}
	}
	for _, v := range []any{int64(9e14), -int64(9e14), 9e14, "900000000000000", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if at, err := asTime(v, ""); err == nil {
			t.Errorf("%v is the time %v", v, at)
		}
	}
	if at, err := asTime(nil, ""); err != nil || !at.IsZero() {
		t.Errorf("no time is %v, %v", at, err)
	}
}

func TestTokenHeaders(t *testing.T) {
	set, err := Load(connectors.FS, hub.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"hubspot": {"X-Hub-Key"}, "zoho-crm": {"X-Hub-Key"}, "shopify": nil} {
		c, _ := set.Get(name)
		if got := c.TokenHeaders(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
