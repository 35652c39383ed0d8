package pipeline_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stagewire/stagewire/internal/hub"
)

const sleeper = `
model: buying
stages: [{name: none}, {name: some}, {name: asleep}]
decide:
  - {stage: asleep, when: 'since("order.paid") >= days(30)'}
  - {stage: some, when: 'ever("order.paid")'}
  - otherwise: none
`

// What comes due at one instant, in more transactions than are under way at once, is decided by one call, each customer once.
func TestManyDueAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, h *harness) {
		h.pipeline.Use(h.publish(t, nil, sleeper))
		const customers, frame = 1300, 100
		for from := 0; from < customers; from += frame {
			var events []hub.Event
			for i := range frame {
				events = append(events, happens(fmt.Sprintf("c%d@example.com", from+i), "order.paid", epoch, nil))
			}
			h.apply(t.Context(), t, uint64(from/frame+1), events)
		}
		h.horizon(t.Context(), t, epoch.AddDate(0, 0, 31))
		n, err := h.pipeline.WakeOnce(t.Context())
		if err != nil || n != customers {
			t.Errorf("decided %d, want %d: %v", n, customers, err)
		}
		standings, causes := h.tell(t)
		if want := map[string]int{"buying 1 asleep by rule": customers}; !maps.Equal(standings, want) {
			t.Errorf("standings %v, want %v", standings, want)
		}
		moved := 0
		for cause, n := range causes {
			if strings.Contains(cause, "some→asleep") {
				moved += n
			}
		}
		if moved != customers {
			t.Errorf("%d transitions: %v", moved, causes)
		}
		if n, err := h.pipeline.WakeOnce(t.Context()); err != nil || n != 0 {
			t.Errorf("decided %d again: %v", n, err)
		}
	})
}
