package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkTimeout bounds each check of readyz; what takes longer is as good as broken for whoever asks.
const checkTimeout = 2 * time.Second

// Readiness is the answer of readyz.
type Readiness struct {
	OK     bool              `json:"ok"`
	Checks map[string]string `json:"checks"` // "ok", or what is wrong
}

func (s *Server) health(app *fiber.App) {
	app.Get("/healthz", func(c *fiber.Ctx) error { return ok(c, map[string]bool{"ok": true}) })
	app.Get("/readyz", s.ready)
}

// ready is 200 while webhooks can be received and worked on, else 503 with the reasons.
func (s *Server) ready(c *fiber.Ctx) error {
	out := Readiness{OK: true, Checks: map[string]string{}}
	if s.draining.Load() {
		out.OK, out.Checks["server"] = false, "shutting down"
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), checkTimeout, fmt.Errorf("no answer in %s", checkTimeout))
	defer cancel()
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	for _, check := range s.opts.Checks {
		all.Go(func() {
			err := check.Run(ctx)
			mu.Lock()
			defer mu.Unlock()
			out.Checks[check.Name] = "ok"
			if err != nil {
				out.OK, out.Checks[check.Name] = false, err.Error()
			}
		})
	}
	all.Wait()
	status := fiber.StatusOK
	if !out.OK {
		status = fiber.StatusServiceUnavailable
	}
	return send(c, status, fiber.MIMEApplicationJSON, out)
}

// exposition serves the metrics.
func (s *Server) exposition() fiber.Handler {
	return adaptor.HTTPHandler(promhttp.HandlerFor(s.opts.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
}
