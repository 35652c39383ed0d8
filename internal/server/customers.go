package server

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/text/language"

	"github.com/stagewire/stagewire/internal/hub"
)

// apiTimeout bounds the work for one API request; store gives up its reads after a second.
const apiTimeout = 5 * time.Second

// slowTimeout bounds what compiles models or asks a vendor. It lies below the time after which clients give up.
const slowTimeout = 25 * time.Second

func apiContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), apiTimeout)
}

func (s *Server) customer(ctx context.Context, rec *hub.CustomerRecord, asked []language.Tag) (Customer, error) {
	view, err := s.opts.Views.Customer(ctx, rec)
	if err != nil {
		return Customer{}, fmt.Errorf("customer %s: %w", rec.ID, err)
	}
	out := Customer{
		ID: rec.ID, Kind: string(cmp.Or(rec.Kind, hub.SubjectCustomer)), Name: rec.Name, Identifiers: []Identifier{}, Traits: view.Traits, Tags: rec.Tags, Consent: view.Consent,
		Stages: map[string]Stage{}, Facts: view.Facts, CreatedAt: Time(rec.CreatedAt), UpdatedAt: Time(rec.UpdatedAt),
	}
	seen := map[hub.IdentifierName]bool{}
	for i := range rec.Profiles {
		for _, id := range rec.Profiles[i].Identifiers {
			if name := id.Name(); !seen[name] {
				seen[name] = true
				out.Identifiers = append(out.Identifiers, Identifier{id.Kind, id.Value, id.Connection})
			}
		}
	}
	for i := range rec.Stages {
		st := &rec.Stages[i]
		if st.Subject.Kind != rec.Kind && st.Subject.Kind != "" {
			continue // a deal's stage is not the customer's, nor is one from before a row was known to be a company's
		}
		out.Stages[st.Model] = stageShape(st, view.Labels[st.Model], asked, rec.Pins)
	}
	for _, deal := range view.Deals {
		for i := range rec.Stages {
			if st := &rec.Stages[i]; st.Subject.Kind == hub.SubjectDeal && st.Subject.ID == deal.ID {
				deal.Stages[st.Model] = stageShape(st, deal.Stages[st.Model].Labels, asked, rec.Pins)
			}
		}
		out.Deals = append(out.Deals, deal)
	}
	return out, nil
}

func (s *Server) listCustomers(c *fiber.Ctx) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	q := hub.CustomerQuery{
		Page: p, Text: c.Query("q"), Email: c.Query("email"), Identifier: c.Query("identifier"),
		Model: c.Query("model"), Stage: c.Query("stage"), Tag: c.Query("tag"),
	}
	if kind, value, ok := strings.Cut(q.Identifier, ":"); q.Identifier != "" && (!ok || kind == "" || value == "") {
		return fmt.Errorf("identifier %q is not <kind>:<value>: %w", shorten(q.Identifier, 60), hub.ErrInvalid)
	}
	if q.Stage != "" && q.Model == "" {
		return fmt.Errorf("stage needs model: stages of different models can share a name: %w", hub.ErrInvalid)
	}
	ctx, cancel := apiContext()
	defer cancel()
	rows, next, err := s.opts.Reader.Customers(ctx, q)
	if err != nil {
		return err
	}
	items, asked := make([]Customer, len(rows)), languages(c)
	for i, row := range rows {
		if items[i], err = s.customer(ctx, row, asked); err != nil {
			return err
		}
	}
	return list(c, items, next)
}

func (s *Server) getCustomer(c *fiber.Ctx) error {
	ctx, cancel := apiContext()
	defer cancel()
	rec, err := s.opts.Reader.Customer(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	out, err := s.customer(ctx, rec, languages(c))
	if err != nil {
		return err
	}
	return ok(c, out)
}

func (s *Server) timeline(c *fiber.Ctx) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	ctx, cancel := apiContext()
	defer cancel()
	rec, err := s.opts.Reader.Customer(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	rows, next, err := s.opts.Reader.Timeline(ctx, rec.ID, p)
	if err != nil {
		return err
	}
	return list(c, shapes(rows, entryShape), next)
}

func (s *Server) events(c *fiber.Ctx) error {
	ctx, cancel := apiContext()
	defer cancel()
	rec, err := s.opts.Reader.Customer(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	rows, err := s.opts.Reader.Events(ctx, rec.ID)
	if err != nil {
		return err
	}
	return list(c, shapes(rows, eventShape), "")
}

func (s *Server) explain(c *fiber.Ctx) error {
	var at time.Time
	if text := c.Query("at"); text != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			at, err = time.Parse(time.DateOnly, text)
		}
		if err != nil {
			return fmt.Errorf("at %q is not a time such as 2026-03-01T10:00:00Z: %w", shorten(text, 40), hub.ErrInvalid)
		}
	}
	ctx, cancel := apiContext()
	defer cancel()
	rec, err := s.opts.Reader.Customer(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	transition := c.Query("transition")
	if transition != "" && !at.IsZero() {
		return fmt.Errorf("a transition has its own instant: leave at out: %w", hub.ErrInvalid)
	}
	asked := languages(c)
	if len(asked) == 0 {
		asked = []language.Tag{language.English} // as all the rest of it
	}
	out, err := s.opts.Views.Explain(ctx, rec, ExplainQuery{
		Model: c.Query("model"), At: at, Transition: transition, Deal: c.Query("deal"),
		Label: func(labels map[string]string, stage string) string { return label(labels, stage, asked) },
	})
	if err != nil {
		return err
	}
	return ok(c, out)
}

func (s *Server) transitions(c *fiber.Ctx) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	ctx, cancel := apiContext()
	defer cancel()
	rows, next, err := s.opts.Reader.Transitions(ctx, p)
	if err != nil {
		return err
	}
	return list(c, shapes(rows, transitionShape), next)
}
