package server

import (
	"context"
	"fmt"
	"net/url"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/text/language"

	"github.com/stagewire/stagewire/internal/hub"
)

// pin puts a customer, a company or a deal into a stage by hand.
func (s *Server) pin(c *fiber.Ctx) error {
	if s.opts.Pinner == nil {
		return fiber.NewError(fiber.StatusNotImplemented, "this process does not decide")
	}
	var body PinRequest
	if err := decodeBody(c, &body); err != nil {
		return err
	}
	subject, err := dealQuery(c)
	if err != nil {
		return err
	}
	pin := hub.PinRecord{Subject: subject, Model: c.Params("model"), Stage: body.Stage, Who: body.Who, Why: body.Why}
	if body.Until != nil {
		pin.Until = *body.Until
	}
	return s.byHand(c, func(ctx context.Context, id string) (hub.PinRecord, error) { return s.opts.Pinner.Pin(ctx, id, pin) })
}

// unpin releases a pin.
func (s *Server) unpin(c *fiber.Ctx) error {
	if s.opts.Pinner == nil {
		return fiber.NewError(fiber.StatusNotImplemented, "this process does not decide")
	}
	subject, err := dealQuery(c)
	if err != nil {
		return err
	}
	model, who, why := c.Params("model"), c.Query("who"), c.Query("why")
	return s.byHand(c, func(ctx context.Context, id string) (hub.PinRecord, error) {
		return s.opts.Pinner.Unpin(ctx, id, model, subject, who, why)
	})
}

func (s *Server) byHand(c *fiber.Ctx, change func(ctx context.Context, id string) (hub.PinRecord, error)) error {
	ctx, cancel := apiContext()
	defer cancel()
	pin, err := change(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	return ok(c, pinShape(&pin))
}

// dealQuery reads which deal is meant, nothing where none is named.
func dealQuery(c *fiber.Ctx) (hub.Subject, error) {
	text := c.Query("deal")
	if text == "" {
		return hub.Subject{}, nil
	}
	subject := hub.Subject{Kind: hub.SubjectDeal, ID: text}
	if connection, id, ok := subject.Deal(); !ok || connection == "" || id == "" {
		return subject, fmt.Errorf("deal %q is not <connection>:<id>, such as crm:4711: %w", shorten(text, 60), hub.ErrInvalid)
	}
	return subject, nil
}

func stageShape(st *hub.StageRecord, labels map[string]string, asked []language.Tag, pins []hub.PinRecord) Stage {
	if labels == nil {
		labels = map[string]string{}
	}
	return Stage{st.Stage, label(labels, st.Stage, asked), labels, Time(st.Since), st.By, st.Version, Time(st.WakesAt), stagePin(st, pins)}
}

// stagePin returns the pin that holds a stage, nil where the rules do.
func stagePin(st *hub.StageRecord, pins []hub.PinRecord) *StagePin {
	if st.By != hub.ByPin {
		return nil
	}
	for i := range pins {
		p := &pins[i]
		if p.Model == st.Model && (p.Subject.Kind == hub.SubjectDeal) == (st.Subject.Kind == hub.SubjectDeal) && (p.Subject.Kind != hub.SubjectDeal || p.Subject.ID == st.Subject.ID) {
			return &StagePin{p.Who, p.Why, Time(p.At), Time(p.Until)}
		}
	}
	return nil
}

func pinShape(p *hub.PinRecord) Pin {
	out := Pin{Model: p.Model, Stage: p.Stage, Who: p.Who, Why: p.Why, At: Time(p.At), Until: Time(p.Until)}
	if p.Subject.Kind != hub.SubjectCustomer && p.Subject.Kind != "" {
		subject := p.Subject
		out.Subject = &subject
	}
	return out
}

// PinPath is where a pin lies below /api/v1.
func PinPath(customerID, model string) string {
	return "/customers/" + url.PathEscape(customerID) + "/pins/" + url.PathEscape(model)
}
