package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/identity"
)

// CallbackDestination is the destination of a subscription's callbacks.
func CallbackDestination(subscription string) string { return hub.SubscriptionPrefix + subscription }

// effects ends a go: of each model's moves the last is told and acted upon, unless the go ends where it began.
func (g *goes) effects(ctx context.Context, m *mind, ev *hub.Event) error {
	moves := g.moves
	g.moves = g.moves[:0]
	first, last := map[place]int{}, map[place]int{}
	for i := range moves {
		at := placeOf(moves[i].Model, moves[i].Subject)
		if _, ok := first[at]; !ok {
			first[at] = i
		}
		last[at] = i
	}
	for i := range moves {
		t := &moves[i]
		at := placeOf(t.Model, t.Subject)
		t.Passing = last[at] != i || moves[first[at]].From == t.To
		g.tally.transition(t, ev)
		if t.Passing {
			continue
		}
		if err := g.publishTransition(m, t); err != nil {
			return err
		}
		if err := g.react(ctx, m, t, ev); err != nil {
			return err
		}
	}
	g.changes.Transitions = append(g.changes.Transitions, moves...)
	moves = slices.Clip(g.changes.Transitions[len(g.changes.Transitions)-len(moves):]) // these stay
	if err := g.tellMoves(m, ev, moves); err != nil {
		return err
	}
	if len(moves) > 0 {
		if err := g.writeStages(ctx, m, ev, moves[len(moves)-1].ID, ""); err != nil {
			return err
		}
	}
	if g.p.Observe != nil && (ev != nil || len(moves) > 0) {
		o := Observation{Event: ev, Customer: m.CustomerRecord, Transitions: moves}
		if ev != nil {
			g.observe(o)
		} else {
			record := *m.CustomerRecord
			o.Customer = &record
			g.seen = append(g.seen, o)
		}
	}
	return nil
}

// afterResolve brings desired state to a connection where the person has just become known, or wherever a merge may have brought
// a record.
func (g *goes) afterResolve(ctx context.Context, m *mind, ev *hub.Event, resolved *identity.Resolved) error {
	if err := g.tellOthers(m, ev, resolved.Absorbed); err != nil {
		return err
	}
	if err := g.share(ctx, m, ev); err != nil {
		return err
	}
	switch {
	case len(resolved.Absorbed) > 0:
		return g.writeStages(ctx, m, ev, "", "")
	case resolved.NewRecord:
		return g.writeStages(ctx, m, ev, "", ev.Connection)
	}
	return nil
}

// writeStages makes every field that stands for a stage hold it, wherever the person has a record. only restricts it to one
// connection. A field whose desired value is right already costs nothing.
func (g *goes) writeStages(ctx context.Context, m *mind, ev *hub.Event, transition, only string) error {
	var slots []string
	type want struct {
		write Write
		field string
		value string
	}
	wants := map[string]want{}
	for _, w := range g.program.Writes {
		s := m.stages.of(place{w.Model, ""})
		if s == nil || w.Mode == "never" || (only != "" && w.Connection != only) || !m.HasRecord(w.Connection) {
			continue
		}
		value, ok := w.Value(s.Stage)
		if !ok {
			continue
		}
		field := w.Field
		if w.Tag != "" {
			field = "tag:" + w.Tag
		}
		slot := hub.SlotID(w.Connection, m.ID, field)
		slots = append(slots, slot)
		wants[slot] = want{w, field, value}
	}
	if len(slots) == 0 {
		return nil
	}
	load := slots
	for _, slot := range slots {
		for _, id := range m.absorbed {
			load = append(load, hub.SlotID(wants[slot].write.Connection, id, wants[slot].field))
		}
	}
	if err := g.loadDesired(ctx, load); err != nil {
		return err
	}
	for _, slot := range slots {
		w := wants[slot]
		have := g.desired[slot]
		for _, id := range m.absorbed { // the merge moves the row to the survivor's slot where she has none
			if row := g.desired[hub.SlotID(w.write.Connection, id, w.field)]; have == nil && row != nil {
				moved := *row
				moved.Slot = slot
				if moved.UpdatedAt.Equal(g.now) {
					moved.Value = "" // its delivery went with the one who was merged away
				}
				have = &moved
				g.desired[slot] = have
			}
		}
		if have != nil && have.Value == w.value && have.Generation > 0 {
			continue
		}
		action := "set_stage"
		if w.write.Tag != "" {
			action = "add_tag"
		}
		if have == nil {
			have = &hub.Desired{Slot: slot}
			g.desired[slot] = have
		}
		have.Destination, have.CustomerID, have.Field, have.Action, have.Mode = w.write.Connection, m.ID, w.field, action, w.write.Mode
		have.Value, have.UpdatedAt = w.value, g.now
		have.Generation++
		cause := hub.DeliveryCause{TransitionID: transition}
		if ev != nil {
			cause.EventID, cause.WebhookID, cause.Connection = ev.ID, ev.WebhookID, ev.Connection
		}
		g.deliver(hub.Delivery{
			ID:          hub.DeriveID(hub.PrefixDelivery, slot, strconv.FormatInt(have.Generation, 10)),
			Destination: w.write.Connection, Action: action, CustomerID: m.ID, Slot: slot,
			Params: map[string]any{"field": w.field}, Cause: cause,
		}, m)
	}
	return nil
}

// loadDesired locks the rows of desired state that this transaction has not seen yet.
func (g *goes) loadDesired(ctx context.Context, slots []string) error {
	var missing []string
	for _, slot := range slots {
		if _, ok := g.desired[slot]; !ok {
			missing = append(missing, slot)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	rows, err := g.tx.Desired(ctx, missing)
	if err != nil {
		return fmt.Errorf("desired state: %w", err)
	}
	for _, slot := range missing {
		if row, ok := rows[slot]; ok {
			g.desired[slot] = &row
		} else {
			g.desired[slot] = nil
		}
	}
	return nil
}

// react writes the deliveries of the reactions to a stage that was entered.
func (g *goes) react(ctx context.Context, m *mind, t *hub.Transition, ev *hub.Event) error {
	deal := placeOf(t.Model, t.Subject).deal
	facts, err := m.about(deal)
	if err != nil {
		return err
	}
	for _, r := range g.program.Reactions {
		model, stage := r.Enters()
		if model != t.Model || stage != t.To {
			continue
		}
		planned, matched, err := r.Actions(facts, g.stageNames(m, deal), t.Why, t.At)
		if err != nil {
			g.p.Log.Warn("reaction did not evaluate, counts as not holding", "reaction", r.Name, "customer_id", m.ID, "error", err)
			continue
		}
		if !matched {
			continue
		}
		for _, action := range planned {
			if action.Key != "" {
				open, err := g.keyOpen(ctx, m, action.Via, action.Key)
				if err != nil {
					return err
				}
				if open {
					continue
				}
			}
			id := hub.DeriveID(hub.PrefixDelivery, t.ID, r.Name, strconv.Itoa(action.Step), action.Via)
			cause := hub.DeliveryCause{TransitionID: t.ID, Reaction: r.Name}
			if ev != nil {
				cause.EventID, cause.WebhookID, cause.Connection = ev.ID, ev.WebhookID, ev.Connection
			}
			g.deliver(hub.Delivery{
				ID: id, Subject: t.Subject, Destination: action.Via, Action: action.Action.Name, CustomerID: m.ID,
				Params: action.Action.Params, Key: action.Key, Reference: id, Cause: cause,
			}, m)
		}
	}
	return nil
}

// keyOpen reports whether the customer has an open task of that key there, in SQL or made a moment ago.
func (g *goes) keyOpen(ctx context.Context, m *mind, via, key string) (bool, error) {
	for i := range g.changes.Deliveries {
		d := &g.changes.Deliveries[i]
		if d.CustomerID == m.ID && d.Destination == via && d.Key == key {
			return true, nil
		}
	}
	if m.Created {
		return false, nil
	}
	open, err := g.tx.OpenKeys(ctx, m.ID, []string{key})
	if err != nil {
		return false, fmt.Errorf("open tasks: %w", err)
	}
	return open[key], nil
}

func (g *goes) deliver(d hub.Delivery, m *mind) {
	if d.Subject.ID == "" {
		d.Subject = hub.Subject{Kind: m.Kind, ID: m.ID}
	}
	d.State, d.DueAt, d.CreatedAt = hub.DeliveryDue, g.now, g.now
	g.changes.Deliveries = append(g.changes.Deliveries, d)
}

type told struct {
	ID  string            `json:"id"`
	IDs map[string]string `json:"ids,omitempty"`
	// EmailSHA256 is the hash of the normalised address, for receivers who asked for it.
	EmailSHA256 string `json:"email_sha256,omitempty"`
	Email       string `json:"email,omitempty"`
}

type stageEntered struct {
	Model     string `json:"model"`
	Version   int    `json:"version"`
	From      string `json:"from"`
	To        string `json:"to"`
	At        string `json:"at"`
	DecidedAt string `json:"decided_at"`
	By        string `json:"by"`
	Customer  told   `json:"customer"`
	// Subject is whose stage it is where that is not the customer herself: a company or one of her deals.
	Subject *hub.Subject `json:"subject,omitempty"`
}

const stamp = "2006-01-02T15:04:05.000Z"

// publishTransition puts the move into the outbox and owes it to every subscription that wants it.
func (g *goes) publishTransition(m *mind, t *hub.Transition) error {
	data := &stageEntered{
		Model: t.Model, Version: t.Version, From: t.From, To: t.To, At: t.At.UTC().Format(stamp),
		DecidedAt: t.DecidedAt.UTC().Format(stamp), By: t.Cause.Type, Customer: told{ID: m.ID}, Subject: apart(t.Subject),
	}
	write := func() (letter, error) {
		var err error
		if g.data, err = data.append(g.data[:0]); err != nil {
			return letter{}, fmt.Errorf("callback data of %s: %w", t.ID, err)
		}
		return g.letter(t.ID, "stage.entered", m, data.At, t.Sequence, g.data)
	}
	plain, err := write()
	if err != nil {
		return err
	}
	g.changes.Outbox = append(g.changes.Outbox, hub.OutboxRecord{
		ID: t.ID, Kind: hub.OutboxTransition, Subject: "stages." + t.Model + "." + t.To, CustomerID: m.ID, Body: plain.text, CreatedAt: g.now,
	})
	for _, sub := range g.program.Subscriptions {
		if !sub.wants("stage.entered", t.Model) {
			continue
		}
		own := plain
		if len(sub.Include) > 0 {
			data.Customer = g.told(m, sub)
			if own, err = write(); err != nil {
				return err
			}
		}
		cause := hub.DeliveryCause{TransitionID: t.ID}
		if t.Cause.Type == hub.CauseEvent || t.Cause.Type == hub.CauseLate {
			cause.EventID = t.Cause.ID
		}
		if err := g.callback(m, sub, t.ID, own, cause); err != nil {
			return err
		}
	}
	return nil
}

// apart returns a subject that is not a customer, nil for one that is.
func apart(s hub.Subject) *hub.Subject {
	if s.Kind == hub.SubjectCustomer || s.Kind == "" {
		return nil
	}
	return &s
}

// publishEvent owes an applied event to the subscriptions that want its kind, before what it brings about: sequence is the
// customer's when the event was applied, and that of its transitions is higher.
func (g *goes) publishEvent(m *mind, ev *hub.Event, sequence int64) {
	var plain letter // what the outbox tells, and a subscription that includes nothing
	write := func(customer told) (letter, error) {
		data := happened{
			Kind: ev.Kind, Connection: ev.Connection, OccurredAt: ev.OccurredAt.UTC().Format(stamp), Properties: ev.Properties, Customer: customer,
		}
		var err error
		if g.data, err = data.append(g.data[:0]); err != nil {
			return letter{}, err
		}
		return g.letter(ev.ID, ev.Kind, m, data.OccurredAt, sequence, g.data)
	}
	for _, sub := range g.program.Subscriptions {
		if !sub.wants(ev.Kind, "") {
			continue
		}
		var err error
		if plain.text == nil {
			if plain, err = write(told{ID: m.ID}); err == nil {
				g.changes.Outbox = append(g.changes.Outbox, hub.OutboxRecord{ID: ev.ID, Kind: hub.OutboxEvent, CustomerID: m.ID, Body: plain.text, CreatedAt: g.now})
			}
		}
		if err == nil {
			own := plain
			if len(sub.Include) > 0 {
				own, err = write(g.told(m, sub))
			}
			if err == nil {
				err = g.callback(m, sub, ev.ID, own, hub.DeliveryCause{EventID: ev.ID, WebhookID: ev.WebhookID, Connection: ev.Connection})
			}
		}
		if err != nil {
			g.p.Log.Error("callback not written", "event_id", ev.ID, "subscription", sub.Name, "error", err)
		}
	}
}

// callback owes a subscription the letter of that id.
func (g *goes) callback(m *mind, sub Subscription, id string, l letter, cause hub.DeliveryCause) error {
	body, err := l.after(m.Previous.Of(sub.Name))
	if err != nil {
		return fmt.Errorf("callback %s: %w", id, err)
	}
	m.Previous = m.Previous.With(sub.Name, id)
	m.Dirty = true
	destination := CallbackDestination(sub.Name)
	g.deliver(hub.Delivery{
		ID: hub.DeriveID(hub.PrefixDelivery, id, "callback", "0", destination), Destination: destination, Action: "callback",
		CustomerID: m.ID, Body: body, Reference: id, Cause: cause,
	}, m)
	return nil
}

// told is what a subscription learns of the customer: the id, and what its include names.
func (g *goes) told(m *mind, sub Subscription) told {
	out := told{ID: m.ID}
	for _, want := range sub.Include {
		switch {
		case want == "email_sha256":
			if m.Email != "" {
				sum := sha256.Sum256([]byte(m.Email))
				out.EmailSHA256 = hex.EncodeToString(sum[:])
			}
		case want == "email":
			out.Email = m.Email
		case strings.HasPrefix(want, "ids."):
			name := strings.TrimPrefix(want, "ids.")
			for _, id := range m.Identifiers() {
				if (id.Record && id.Connection == name) || id.Kind == name {
					if out.IDs == nil {
						out.IDs = map[string]string{}
					}
					out.IDs[name] = id.Value
					break
				}
			}
		}
	}
	return out
}
