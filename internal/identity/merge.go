package identity

import (
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// merge moves everything of loser to survivor. Profiles move, events and facts stay with them; the survivor's counter goes on
// from the higher of both, so that neither side's callbacks ever see a sequence twice; the later pin wins.
// The loser's row stays and points at the survivor.
func (p *People) merge(survivor, loser *Person, ev *hub.Event, reason string, now time.Time) {
	for i := range loser.Profiles {
		profile := loser.Profiles[i]
		profile.CustomerID = survivor.ID
		survivor.Profiles = append(survivor.Profiles, profile)
		p.byProfile[profile.ID] = survivor
		survivor.Touch(profile.ID)
	}
	p.holders.move(loser, survivor)
	survivor.Sequence = max(survivor.Sequence, loser.Sequence) + 1
	if loser.FirstEventAt.Before(survivor.FirstEventAt) {
		survivor.FirstEventAt = loser.FirstEventAt
	}
	if loser.DecidedAt.After(survivor.DecidedAt) {
		survivor.DecidedAt = loser.DecidedAt
	}
	if loser.CreatedAt.Before(survivor.CreatedAt) {
		survivor.CreatedAt = loser.CreatedAt
	}
	survivor.Pins = mergePins(survivor, loser)
	for _, told := range loser.Previous {
		if survivor.Previous.Of(told.Subscription) == "" {
			survivor.Previous = survivor.Previous.With(told.Subscription, told.ID)
		}
	}
	survivor.UpdatedAt, loser.UpdatedAt = now, now
	survivor.Dirty, loser.Dirty = true, true
	loser.MergedInto = survivor.ID
	loser.Profiles, loser.changed = nil, nil
	p.merges = append(p.merges, hub.Merge{
		From: loser.ID, Into: survivor.ID, At: ev.OccurredAt, DecidedAt: now,
		Reason: reason, EventID: ev.ID, Sequence: survivor.Sequence,
	})
}

// mergePins returns the pins of both, the later one where both have one about the same. What was about the loser is about the survivor.
func mergePins(survivor, loser *Person) []hub.PinRecord {
	type about struct{ model, deal string }
	key := func(pin hub.PinRecord) about {
		if pin.Subject.Kind == hub.SubjectDeal {
			return about{pin.Model, pin.Subject.ID}
		}
		return about{pin.Model, ""}
	}
	pins := slices.Clone(survivor.Pins)
	for _, pin := range loser.Pins {
		if pin.Subject.Kind != hub.SubjectDeal {
			pin.Subject.ID = survivor.ID
		}
		i := slices.IndexFunc(pins, func(have hub.PinRecord) bool { return key(have) == key(pin) })
		switch {
		case i < 0:
			pins = append(pins, pin)
		case pin.At.After(pins[i].At):
			pins[i] = pin
		}
	}
	return pins
}

// Merges returns the merges to record, oldest first. One who was created and merged away in the same transaction is among them: her
// events, transitions and callbacks have her id, and others may have been merged into her before.
func (p *People) Merges() []hub.Merge { return p.merges }
