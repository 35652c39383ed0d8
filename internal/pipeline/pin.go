package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// A pin is a person's decision about one subject in one model: it wins over all rules until it is released or its date has come.
//
// Setting and releasing one are facts of their own: each raises the customer's counter, is told to subscriptions (pin.set,
// pin.released) before the move it brings, and is decided in the transaction that stores it.

// Bounds of what a person may write.
const (
	maxPinText = 500 // characters of who and why
	maxPinTime = 100 * 365 * 24 * time.Hour
)

// Kinds of what is told about pins.
const (
	kindPinSet      = "pin.set"
	kindPinReleased = "pin.released"
)

// Pin puts a customer, a company or a deal into a stage of a model. pin needs Model, Stage and Who; Why and Until may be left out.
// Subject names the deal in a model of deals (its kind and ID), and is nothing otherwise. A pin that is there is replaced. It returns
// the pin as it is stored, and wraps hub.ErrNotFound for an unknown customer, model or deal and hub.ErrInvalid for what makes no sense.
func (p *Pipeline) Pin(ctx context.Context, customerID string, pin hub.PinRecord) (hub.PinRecord, error) {
	pin.Who, pin.Why = strings.TrimSpace(pin.Who), strings.TrimSpace(pin.Why)
	pin.At = p.Clock.Business().UTC().Truncate(hub.Resolution)
	pin.Until = pin.Until.UTC().Truncate(hub.Resolution)
	switch {
	case pin.Who == "":
		return pin, fmt.Errorf("a pin says who decided: %w", hub.ErrInvalid)
	case len([]rune(pin.Who)) > maxPinText || len([]rune(pin.Why)) > maxPinText:
		return pin, fmt.Errorf("who and why have at most %d characters: %w", maxPinText, hub.ErrInvalid)
	case !pin.Until.IsZero() && !pin.Until.After(pin.At):
		return pin, fmt.Errorf("the pin would end at %s, which has passed: %w", pin.Until.Format(time.RFC3339), hub.ErrInvalid)
	case pin.Until.Sub(pin.At) > maxPinTime:
		return pin, fmt.Errorf("a pin ends within 100 years; leave until out where it is to hold until it is released: %w", hub.ErrInvalid)
	}
	err := p.byHand(ctx, customerID, pin.Model, pin.Subject, func(g *goes, m *mind, model *ActiveModel, deal string) error {
		if model.Stage(pin.Stage) == nil {
			return fmt.Errorf("model %s has no stage %q (it has %s): %w", model.Name, pin.Stage, strings.Join(model.StageNames(), ", "), hub.ErrInvalid)
		}
		pin.Subject = m.subject(deal)
		m.Pins = append(slices.DeleteFunc(m.Pins, func(have hub.PinRecord) bool { return samePlace(have, pin) }), pin)
		g.changes.Pins = append(g.changes.Pins, pin)
		return g.tellPin(m, kindPinSet, pin, pin.Who, pin.Why, pin.At)
	})
	return pin, err
}

// Unpin releases a pin and returns what it was: the rules decide at once. It wraps hub.ErrNotFound where there is none.
func (p *Pipeline) Unpin(ctx context.Context, customerID, model string, subject hub.Subject, who, why string) (released hub.PinRecord, err error) {
	who, why = strings.TrimSpace(who), strings.TrimSpace(why)
	if len([]rune(who)) > maxPinText || len([]rune(why)) > maxPinText {
		return released, fmt.Errorf("who and why have at most %d characters: %w", maxPinText, hub.ErrInvalid)
	}
	at := p.Clock.Business().UTC().Truncate(hub.Resolution)
	err = p.byHand(ctx, customerID, model, subject, func(g *goes, m *mind, model *ActiveModel, deal string) error {
		i := slices.IndexFunc(m.Pins, func(pin hub.PinRecord) bool { return pinIs(pin, model.Name, deal) })
		if i < 0 {
			return fmt.Errorf("customer %s has no pin in model %s: %w", m.ID, model.Name, hub.ErrNotFound)
		}
		released = m.Pins[i]
		return g.release(m, i, who, why, at)
	})
	return released, err
}

// byHand changes the pins of one customer and decides her under them, in one transaction. It is one go.
func (p *Pipeline) byHand(ctx context.Context, customerID, name string, subject hub.Subject, change func(*goes, *mind, *ActiveModel, string) error) error {
	found := false
	err := p.decideAll(ctx, []string{customerID}, func(g *goes, ctx context.Context, m *mind) error {
		found = true
		i, there := g.program.places[name]
		if !there {
			return fmt.Errorf("model %q is not in use: %w", name, hub.ErrNotFound)
		}
		model := &g.program.Models[i]
		deal, err := m.pinnable(model, subject)
		if err != nil {
			return err
		}
		now := maxTime(p.Clock.Business().UTC().Truncate(hub.Resolution), m.DecidedAt)
		if _, err := g.enterAll(m, now); err != nil {
			return err
		}
		if err := change(g, m, model, deal); err != nil {
			return err
		}
		s := m.stages.of(place{model.Name, deal})
		cause := hub.Cause{Type: hub.CausePin, ID: name + "/" + strconv.FormatInt(m.Sequence, 10)}
		hold, horizon := g.limits(model)
		instant := maxTime(bounded(maxTime(m.DecidedAt, horizon), hold), s.DecidedAt)
		if m.pin(model, deal, now) != nil {
			instant = now
		}
		moved, err := g.decide(m, model, deal, s, instant, maxTime(now, s.Since), cause)
		if err != nil {
			return err
		}
		if moved {
			if err := g.follow(m, model.Name, instant, cause); err != nil {
				return err
			}
		}
		if err := g.chainToHorizon(m); err != nil {
			return err
		}
		return g.effects(ctx, m, nil)
	})
	if err == nil && !found {
		return fmt.Errorf("customer %s: %w", customerID, hub.ErrNotFound)
	}
	return err
}

// pinnable returns the deal that a pin is about, "" for the person.
func (m *mind) pinnable(model *ActiveModel, subject hub.Subject) (deal string, err error) {
	if model.Of != hub.SubjectDeal {
		switch {
		case subject.Kind == hub.SubjectDeal:
			return "", fmt.Errorf("model %s is of a %s, not of deals: %w", model.Name, model.Of, hub.ErrInvalid)
		case !m.is(model.Of):
			return "", fmt.Errorf("model %s is of a %s, and %s is none: %w", model.Name, model.Of, m.ID, hub.ErrInvalid)
		}
		return "", nil
	}
	deals, err := m.subjects(model)
	switch {
	case err != nil:
		return "", err
	case subject.ID == "" && len(deals) == 1:
		return deals[0], nil
	case subject.ID == "":
		return "", fmt.Errorf("model %s is of deals: say which of %d (%s): %w", model.Name, len(deals), strings.Join(deals[:min(len(deals), 10)], ", "), hub.ErrInvalid)
	case !slices.Contains(deals, subject.ID):
		return "", fmt.Errorf("customer %s has no deal %q: %w", m.ID, subject.ID, hub.ErrNotFound)
	}
	return subject.ID, nil
}

func pinIs(pin hub.PinRecord, model, deal string) bool {
	return placeOf(pin.Model, pin.Subject) == place{model, deal}
}

func samePlace(a, b hub.PinRecord) bool {
	return placeOf(a.Model, a.Subject) == placeOf(b.Model, b.Subject)
}

// pin returns the pin that holds at an instant, nil for none. One that names a stage the model does not have any more holds nobody.
func (m *mind) pin(model *ActiveModel, deal string, at time.Time) *hub.PinRecord {
	for i := range m.Pins {
		if pin := &m.Pins[i]; pinIs(*pin, model.Name, deal) && (pin.Until.IsZero() || at.Before(pin.Until)) && model.Stage(pin.Stage) != nil {
			return pin
		}
	}
	return nil
}

// pinned applies a person's decision where there is one; it wins over all rules until its date. A pin whose date has come is released.
func (g *goes) pinned(m *mind, model *ActiveModel, deal string, s *standing, stages map[string]string, instant time.Time) (pinned, moved bool) {
	if len(m.Pins) == 0 {
		return false, false
	}
	if i := slices.IndexFunc(m.Pins, func(pin hub.PinRecord) bool {
		return pinIs(pin, model.Name, deal) && !pin.Until.IsZero() && !instant.Before(pin.Until)
	}); i >= 0 {
		if err := g.release(m, i, "", "its date has come", m.Pins[i].Until); err != nil {
			g.p.Log.Error("the end of a pin was not told", "customer_id", m.ID, "model", model.Name, "error", err)
		}
	}
	pin := m.pin(model, deal, instant)
	if pin == nil {
		return false, false
	}
	from := s.Stage
	at := instant
	if from != pin.Stage {
		at = maxTime(pin.At, s.Since)
	}
	next := model.Place(stages, s.State, pin.Stage, at)
	next.WakesAt, next.DecidedAt = pin.Until, maxTime(instant, s.DecidedAt)
	if moved = from != pin.Stage; !moved && s.By == hub.ByPin && s.WakesAt.Equal(next.WakesAt) && samePath(s.Path, next.Path) {
		return true, false
	}
	s.State, s.dirty, m.Dirty = next, true, true
	if moved {
		g.tally.decision(model.Name, "moved")
		g.move(m, model, deal, from, pin.Stage, s.Since, -1, hub.Cause{Type: hub.CausePin, ID: pin.Who}, pin.Why)
	}
	return true, moved
}

// release takes pin i away and tells it.
func (g *goes) release(m *mind, i int, who, why string, at time.Time) error {
	pin := m.Pins[i]
	m.Pins = slices.Delete(m.Pins, i, i+1)
	gone := pin
	gone.Stage = ""
	g.changes.Pins = append(g.changes.Pins, gone)
	return g.tellPin(m, kindPinReleased, pin, who, why, at)
}

// pinTold is the data of pin.set and pin.released. Who and Why are those of the act: of the release where it is one.
type pinTold struct {
	Model    string       `json:"model"`
	Stage    string       `json:"stage"`
	Who      string       `json:"who"`
	Why      string       `json:"why"`
	At       string       `json:"at"`
	Until    string       `json:"until,omitempty"`
	Customer told         `json:"customer"`
	Subject  *hub.Subject `json:"subject,omitempty"`
}

// tellPin puts a pin that was set or released into the outbox and owes it to every subscription that wants it.
func (g *goes) tellPin(m *mind, kind string, pin hub.PinRecord, who, why string, at time.Time) error {
	m.raise()
	data := pinTold{
		Model: pin.Model, Stage: pin.Stage, Who: who, Why: why, At: at.UTC().Format(stamp), Customer: told{ID: m.ID}, Subject: apart(pin.Subject),
	}
	if !pin.Until.IsZero() {
		data.Until = pin.Until.UTC().Format(stamp)
	}
	id := hub.DeriveID(hub.PrefixPin, m.ID, kind, pin.Model, pin.Subject.ID, strconv.FormatInt(m.Sequence, 10))
	if err := g.outbox(m, id, kind, at, data); err != nil {
		return err
	}
	for _, sub := range g.program.Subscriptions {
		if !sub.wants(kind, pin.Model) {
			continue
		}
		data.Customer = g.told(m, sub)
		l, err := g.marshalled(id, kind, m, at, data)
		if err != nil {
			return err
		}
		if err := g.callback(m, sub, id, l, hub.DeliveryCause{}); err != nil {
			return err
		}
	}
	return nil
}

// outbox makes a fact that somebody can be told part of the feed.
func (g *goes) outbox(m *mind, id, kind string, at time.Time, data any) error {
	l, err := g.marshalled(id, kind, m, at, data)
	if err != nil {
		return err
	}
	g.changes.Outbox = append(g.changes.Outbox, hub.OutboxRecord{ID: id, Kind: hub.OutboxEvent, CustomerID: m.ID, Body: l.text, CreatedAt: g.now})
	return nil
}
