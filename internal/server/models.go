package server

import (
	"context"
	"fmt"

	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/hub"
)

func (s *Server) listModels(c *fiber.Ctx) error {
	ctx, cancel := apiContext()
	defer cancel()
	models, err := s.opts.Views.Models(ctx)
	if err != nil {
		return err
	}
	for i := range models {
		if models[i].State != hub.ModelActive {
			models[i].Text = ""
			continue
		}
		counts, err := s.opts.Reader.StageCounts(ctx, models[i].Name)
		if err != nil {
			return err
		}
		count(&models[i], counts)
		models[i].Text = ""
	}
	scores, err := s.opts.Views.Scores(ctx)
	if err != nil {
		return err
	}
	out := ModelList{Items: models, Scores: scores}
	if out.Items == nil {
		out.Items = []Model{}
	}
	return ok(c, out)
}

func count(m *Model, counts map[string]int) {
	for j := range m.Stages {
		m.Stages[j].Customers = counts[m.Stages[j].Name]
	}
}

// getModel answers with the version in force, else with whatever version there is.
func (s *Server) getModel(c *fiber.Ctx) error {
	ctx, cancel := apiContext()
	defer cancel()
	models, err := s.opts.Views.Models(ctx)
	if err != nil {
		return err
	}
	var found *Model
	for i := range models {
		if models[i].Name == c.Params("name") && (found == nil || models[i].State == hub.ModelActive) {
			found = &models[i]
		}
	}
	if found == nil {
		return fmt.Errorf("model %q: %w", shorten(c.Params("name"), 60), hub.ErrNotFound)
	}
	if found.State == hub.ModelActive {
		counts, err := s.opts.Reader.StageCounts(ctx, found.Name)
		if err != nil {
			return err
		}
		count(found, counts)
	}
	return ok(c, *found)
}

func (s *Server) publish(c *fiber.Ctx) error {
	if s.opts.Publisher == nil {
		return fiber.NewError(fiber.StatusNotImplemented, "this process does not decide")
	}
	ctx, cancel := context.WithTimeout(context.Background(), slowTimeout)
	defer cancel()
	out, err := s.opts.Publisher.Publish(ctx, c.Params("name"))
	if err != nil {
		return err
	}
	return ok(c, out)
}
