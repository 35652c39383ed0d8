package server

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/hub"
)

var deliveryStates = []string{
	hub.DeliveryHeld, hub.DeliveryDue, hub.DeliverySending, hub.DeliveryRetrying, hub.DeliveryDelivered, hub.DeliveryDead,
	hub.DeliverySuperseded, hub.DeliverySkipped, hub.DeliveryParked,
}

func (s *Server) listDeliveries(c *fiber.Ctx) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	q := hub.DeliveryQuery{Page: p, State: c.Query("state"), Destination: c.Query("destination"), CustomerID: c.Query("customer")}
	if q.State != "" && !slices.Contains(deliveryStates, q.State) {
		return fmt.Errorf("state %q is none of %v: %w", shorten(q.State, 20), deliveryStates, hub.ErrInvalid)
	}
	ctx, cancel := apiContext()
	defer cancel()
	rows, next, err := s.opts.Reader.Deliveries(ctx, q)
	if err != nil {
		return err
	}
	return list(c, shapes(rows, deliveryShape), next)
}

func (s *Server) getDelivery(c *fiber.Ctx) error {
	ctx, cancel := apiContext()
	defer cancel()
	row, attempts, err := s.opts.Reader.Delivery(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	out := deliveryShape(&row)
	out.History = shapes(attempts, attemptShape)
	if body := jsontext.Value(row.Body); body.IsValid() {
		out.Body = body
	}
	return ok(c, out)
}

// RedriveRequest says what to put back: all dead deliveries of a destination, or those ids. One of them must be given.
type RedriveRequest struct {
	Destination string   `json:"destination,omitempty"`
	IDs         []string `json:"ids,omitempty"`
}

// RedriveResult says how many were put back.
type RedriveResult struct {
	Redriven int `json:"redriven"`
}

func (s *Server) redrive(c *fiber.Ctx) error {
	var in RedriveRequest
	if err := decodeBody(c, &in); err != nil {
		return fmt.Errorf("body is not {\"destination\", \"ids\"}: %w", err)
	}
	if in.Destination == "" && len(in.IDs) == 0 {
		return fmt.Errorf("say which: destination or ids: %w", hub.ErrInvalid)
	}
	if len(in.IDs) > 1000 {
		return fmt.Errorf("at most 1000 ids at once: %w", hub.ErrInvalid)
	}
	ctx, cancel := apiContext()
	defer cancel()
	n, err := s.opts.Reader.Redrive(ctx, in.Destination, in.IDs, s.opts.Now())
	if err != nil {
		return err
	}
	if n > 0 && s.opts.Redriven != nil {
		s.opts.Redriven()
	}
	s.log.Info("redriven", "destination", in.Destination, "deliveries", n)
	return ok(c, RedriveResult{n})
}

func (s *Server) deadLetters(c *fiber.Ctx) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	ctx, cancel := apiContext()
	defer cancel()
	rows, next, err := s.opts.Reader.DeadLetters(ctx, p)
	if err != nil {
		return err
	}
	return list(c, shapes(rows, deadLetterShape), next)
}
