package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/hub"
)

// queuedLimit is how many waiting webhooks are looked through: the backlog itself may be much longer.
const queuedLimit = 200

var webhookStates = []string{hub.WebhookQueued, hub.WebhookHydrating, hub.WebhookDone, hub.WebhookIgnored, hub.WebhookDead}

// listWebhooks shows rows of SQL, and on the first page before them what is stored but has no row yet.
func (s *Server) listWebhooks(c *fiber.Ctx) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	q := hub.WebhookQuery{Page: p, State: c.Query("state"), Connection: c.Query("connection")}
	if q.State != "" && !slices.Contains(webhookStates, q.State) {
		return fmt.Errorf("state %q is none of %v: %w", shorten(q.State, 20), webhookStates, hub.ErrInvalid)
	}
	ctx, cancel := apiContext()
	defer cancel()
	var items []Webhook
	next := ""
	if q.State != hub.WebhookQueued {
		rows, cursor, err := s.opts.Reader.ListWebhooks(ctx, q)
		if err != nil {
			return err
		}
		items, next = shapes(rows, webhookShape), cursor
	}
	if (q.State == "" || q.State == hub.WebhookQueued) && q.Cursor == "" {
		waiting, err := s.queued(ctx, q.Connection, items)
		if err != nil {
			return err
		}
		items = append(waiting, items...)
	}
	return list(c, items, next)
}

// queued returns webhooks without a row, newest first, leaving out those among known: a row may have been written meanwhile.
func (s *Server) queued(ctx context.Context, connection string, known []Webhook) ([]Webhook, error) {
	stored, err := s.opts.Log.Queued(ctx, queuedLimit)
	if err != nil {
		return nil, err
	}
	var out []Webhook
	for i := range slices.Backward(stored) {
		w := &stored[i].Webhook
		if connection != "" && w.Connection != connection || slices.ContainsFunc(known, func(k Webhook) bool { return k.ID == w.ID }) {
			continue
		}
		out = append(out, queuedShape(w))
	}
	return out, nil
}

func queuedShape(w *hub.Webhook) Webhook {
	return Webhook{
		ID: w.ID, Connection: w.Connection, ReceivedAt: Time(w.ReceivedAt), State: hub.WebhookQueued,
		Kinds: []string{}, EventIDs: []string{},
	}
}

func (s *Server) getWebhook(c *fiber.Ctx) error {
	ctx, cancel := apiContext()
	defer cancel()
	id := c.Params("id")
	row, err := s.opts.Reader.Webhook(ctx, id)
	if errors.Is(err, hub.ErrNotFound) {
		return s.getQueued(ctx, c, id)
	}
	if err != nil {
		return err
	}
	out := webhookShape(&row)
	w, err := s.opts.Log.ReadWebhook(ctx, row.Position)
	switch {
	case errors.Is(err, hub.ErrNotFound):
		out.Purged = true
	case err != nil:
		return err
	default:
		out.Headers, out.Body = shown(w.Headers), w.Body
	}
	return ok(c, out)
}

func (s *Server) getQueued(ctx context.Context, c *fiber.Ctx, id string) error {
	stored, err := s.opts.Log.Queued(ctx, queuedLimit)
	if err != nil {
		return err
	}
	for i := range stored {
		if w := &stored[i].Webhook; w.ID == id {
			out := queuedShape(w)
			out.Headers, out.Body = shown(w.Headers), w.Body
			return ok(c, out)
		}
	}
	return fmt.Errorf("webhook %q: %w", shorten(id, 60), hub.ErrNotFound)
}

func (s *Server) replay(c *fiber.Ctx) error {
	if s.opts.Replayer == nil {
		return fiber.NewError(fiber.StatusNotImplemented, "this process does not normalize webhooks")
	}
	ctx, cancel := apiContext()
	defer cancel()
	row, err := s.opts.Replayer.Replay(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	return ok(c, webhookShape(&row))
}

func (s *Server) listRejected(c *fiber.Ctx) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	ctx, cancel := apiContext()
	defer cancel()
	rows, next, err := s.opts.Reader.ListRejected(ctx, p)
	if err != nil {
		return err
	}
	return list(c, shapes(rows, func(r *hub.Rejected) Rejected {
		return Rejected{r.ID, r.Connection, Time(r.At), r.Reason, r.Detail, shown(r.Headers), r.Size}
	}), next)
}
