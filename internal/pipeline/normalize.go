package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// Normalize turns stored webhooks into events. The events are durable in EVENTS before the webhooks' rows say so, and
// the rows before the caller acks: a crash in between does the same work again, with the same ids.
//
// A webhook that cannot be mapped becomes a dead letter and never stops the others.
func (p *Pipeline) Normalize(ctx context.Context, webhooks []hub.StoredWebhook) error {
	var (
		events     = make([]hub.Event, 0, len(webhooks))
		rows       = make([]hub.WebhookRecord, 0, len(webhooks))
		hydrations []hub.HydrationRecord
		dead       []hub.DeadLetter
	)
	die := func(row *hub.WebhookRecord) {
		letter := p.deadWebhook(row)
		p.Log.Warn("webhook not mapped", "webhook_id", row.ID, "connection", row.Connection, "reason", row.Reason)
		if !slices.ContainsFunc(dead, func(d hub.DeadLetter) bool { return d.ID == letter.ID }) { // a redelivery beside the first
			dead = append(dead, letter)
		}
	}
	for i := range webhooks {
		w := &webhooks[i]
		made, row := p.normalizeOne(w)
		if row.State == hub.WebhookDead {
			die(&row)
		}
		for _, kind := range made.Ignored {
			p.metrics.ignored.WithLabelValues(w.Connection).Inc()
			p.Log.Debug("webhook kind ignored", "webhook_id", w.ID, "connection", w.Connection, "kind", kind)
		}
		events = append(events, made.Events...)
		hydrations = append(hydrations, made.Hydrate...)
		rows = append(rows, row)
	}
	err := p.publishEvents(ctx, events)
	if errors.Is(err, hub.ErrInvalid) {
		// An event that got past the mapping cannot be written: whoever made it must not hold up the rest of the frame for ever.
		var killed []string
		killed, err = p.publishApart(ctx, events, rows, die)
		hydrations = slices.DeleteFunc(hydrations, func(h hub.HydrationRecord) bool { return slices.Contains(killed, h.WebhookID) })
	}
	if err != nil {
		return err
	}
	existing, err := p.Store.SaveWebhooks(ctx, rows, hydrations, dead)
	if err != nil {
		return fmt.Errorf("save webhooks: %w", err)
	}
	p.metrics.redelivered.Add(float64(existing))
	if len(hydrations) > 0 {
		p.waiting()
	}
	return nil
}

func (p *Pipeline) deadWebhook(row *hub.WebhookRecord) hub.DeadLetter {
	return hub.DeadLetter{
		ID: hub.DeriveID(hub.PrefixDeadLetter, "webhook", row.ID), Of: "webhook", Ref: row.ID, At: p.Now(), Reason: row.Reason, Place: row.Connection,
	}
}

func (p *Pipeline) publishEvents(ctx context.Context, events []hub.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := p.Publisher.PublishEvents(ctx, events); err != nil {
		return fmt.Errorf("publish events: %w", err)
	}
	return nil
}

// publishApart publishes each webhook's events by themselves. The rows of webhooks with an event that cannot be written die; it
// returns their ids.
func (p *Pipeline) publishApart(ctx context.Context, events []hub.Event, rows []hub.WebhookRecord, die func(*hub.WebhookRecord)) (killed []string, err error) {
	for i := range rows {
		row := &rows[i]
		var own []hub.Event
		for j := range events {
			if events[j].WebhookID == row.ID {
				own = append(own, events[j])
			}
		}
		switch err := p.publishEvents(ctx, own); {
		case errors.Is(err, hub.ErrInvalid):
			row.State, row.Reason, row.EventIDs, row.Kinds = hub.WebhookDead, err.Error(), nil, nil
			killed = append(killed, row.ID)
			die(row)
		case err != nil:
			return killed, err
		}
	}
	return killed, nil
}

// normalizeOne maps one webhook. A panic in a mapping is a mapping that failed.
func (p *Pipeline) normalizeOne(w *hub.StoredWebhook) (made connector.Normalized, row hub.WebhookRecord) {
	row = hub.WebhookRecord{ID: w.ID, Connection: w.Connection, ReceivedAt: w.ReceivedAt, State: hub.WebhookDone, Position: w.Position}
	source, ok := p.Connections.Lookup(w.Connection)
	if !ok {
		row.State, row.Reason = hub.WebhookDead, "connection "+w.Connection+" is gone; replay this webhook when it is back"
		return made, row
	}
	row.Activation = source.Activation
	defer func() {
		if r := recover(); r != nil {
			p.Log.Error("panic in a mapping", "webhook_id", w.ID, "connection", w.Connection, "panic", r, "stack", string(debug.Stack()))
			made = connector.Normalized{}
			row.State, row.Reason = hub.WebhookDead, "the mapping panicked"
		}
	}()
	made, err := source.Connector.Normalize(&w.Webhook, source.Connection)
	version := hub.Version{Activation: source.Activation}
	for i := range made.Events {
		ev := &made.Events[i]
		ev.Version = version
		row.EventIDs = append(row.EventIDs, ev.ID)
		if !slices.Contains(row.Kinds, ev.Kind) {
			row.Kinds = append(row.Kinds, ev.Kind)
		}
	}
	switch {
	case err != nil: // one item that cannot be mapped costs the others nothing
		row.State, row.Reason = hub.WebhookDead, err.Error()
	case len(made.Hydrate) > 0:
		row.State = hub.WebhookHydrating
	case len(made.Events) == 0:
		row.State = hub.WebhookIgnored
		row.Reason = "no mapping for it"
	}
	return made, row
}

// Fetched is the store's memory of what hydration once fetched for a webhook.
type Fetched interface {
	// FetchedBodies returns the records fetched for the webhook and their newest bytes; a record that was gone has none.
	FetchedBodies(ctx context.Context, webhookID string) (rows []hub.HydrationRecord, bodies [][]byte, err error)
}

// Replay normalizes a stored webhook again through today's manifest. Events it no longer makes are withdrawn. Records that
// were fetched for it before are taken from the store unless rehydrate is set. It returns the ids of the events made and withdrawn.
func (p *Pipeline) Replay(ctx context.Context, w hub.StoredWebhook, fetched Fetched, rehydrate bool) (made, withdrawn []string, err error) {
	known, err := p.Store.Webhooks(ctx, []string{w.ID})
	if err != nil {
		return nil, nil, err
	}
	before, seen := known[w.ID]
	result, row := p.normalizeOne(&w)
	var dead []hub.DeadLetter
	if row.State == hub.WebhookDead { // takes nothing back: what it gave before stands until it can be mapped
		dead = append(dead, p.deadWebhook(&row))
		for _, id := range before.EventIDs {
			if !slices.Contains(row.EventIDs, id) {
				row.EventIDs = append(row.EventIDs, id)
			}
		}
		if len(result.Events) == 0 {
			_, err := p.Store.SaveWebhooks(ctx, []hub.WebhookRecord{row}, nil, dead)
			return nil, nil, errors.Join(fmt.Errorf("webhook %s: %s: %w", w.ID, row.Reason, hub.ErrInvalid), err)
		}
	}
	waiting := result.Hydrate
	if fetched != nil && !rehydrate && len(waiting) > 0 {
		if waiting, err = p.fromFetched(ctx, fetched, &result, &row, w.ID); err != nil {
			return nil, nil, err
		}
	}
	events := result.Events
	for _, ev := range events {
		made = append(made, ev.ID)
	}
	if seen && len(waiting) == 0 {
		lost := slices.DeleteFunc(slices.Clone(before.EventIDs), func(id string) bool { return slices.Contains(row.EventIDs, id) })
		for _, id := range lost {
			events = append(events, hub.Event{
				ID: id, Version: hub.Version{Activation: row.Activation}, Kind: "withdrawn", Connection: w.Connection,
				OccurredAt: w.ReceivedAt.Truncate(hub.Resolution), ReceivedAt: w.ReceivedAt, WebhookID: w.ID, Withdrawn: true,
			})
		}
		withdrawn = lost
	}
	if len(events) > 0 {
		if err := p.Publisher.PublishEvents(ctx, events); err != nil {
			return nil, nil, fmt.Errorf("publish events: %w", err)
		}
	}
	if _, err := p.Store.SaveWebhooks(ctx, []hub.WebhookRecord{row}, waiting, dead); err != nil {
		return nil, nil, fmt.Errorf("save webhook: %w", err)
	}
	p.waiting()
	return made, withdrawn, nil
}

// fromFetched makes the events of records that were fetched earlier and returns what must still be fetched.
func (p *Pipeline) fromFetched(ctx context.Context, fetched Fetched, result *connector.Normalized, row *hub.WebhookRecord, webhookID string) ([]hub.HydrationRecord, error) {
	source, ok := p.Connections.Lookup(row.Connection)
	if !ok {
		return result.Hydrate, nil
	}
	rows, bytes, err := fetched.FetchedBodies(ctx, webhookID)
	if err != nil {
		return nil, fmt.Errorf("fetched records of %s: %w", webhookID, err)
	}
	bodies := make(map[[2]string][]byte, len(rows))
	for i := range rows {
		bodies[[2]string{rows[i].Object, rows[i].ID}] = bytes[i]
	}
	var missing []hub.HydrationRecord
	queue := result.Hydrate
	result.Hydrate = nil
	for len(queue) > 0 {
		h := queue[0]
		queue = queue[1:]
		body, ok := bodies[[2]string{h.Object, h.ID}]
		if !ok {
			missing = append(missing, h)
			continue
		}
		more, err := source.Connector.FetchedEvents(h, body, len(body) == 0, source.Connection, source.Activation)
		if err != nil {
			return nil, fmt.Errorf("record %s %s: %w", h.Object, h.ID, err)
		}
		for i := range more.Events {
			more.Events[i].Version = hub.Version{Activation: source.Activation}
			row.EventIDs = append(row.EventIDs, more.Events[i].ID)
			if !slices.Contains(row.Kinds, more.Events[i].Kind) {
				row.Kinds = append(row.Kinds, more.Events[i].Kind)
			}
		}
		result.Events = append(result.Events, more.Events...)
		queue = append(queue, more.Hydrate...)
	}
	if len(missing) == 0 && row.State == hub.WebhookHydrating {
		row.State = hub.WebhookDone
	}
	return missing, nil
}
