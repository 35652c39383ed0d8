package server

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/hub"
)

// Problem is an error answer as RFC 9457 has it.
type Problem struct {
	Type   string    `json:"type"`
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Detail string    `json:"detail,omitempty"`
	Errors []Mistake `json:"errors,omitempty"`
}

// Mistake is one place in what a person wrote.
type Mistake struct {
	File       string `json:"file"`
	Line       int    `json:"line"`
	Column     int    `json:"column"`
	Path       string `json:"path"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion"`
}

// Mistakes is an error that is an answer: everything wrong in what a person wrote, each with its place.
type Mistakes []Mistake

// Error names the first place and how many there are.
func (m Mistakes) Error() string {
	if len(m) == 0 {
		return "no mistake"
	}
	first := fmt.Sprintf("%s:%d:%d: %s: %s", m[0].File, m[0].Line, m[0].Column, m[0].Path, m[0].Message)
	if len(m) == 1 {
		return first
	}
	return fmt.Sprintf("%s (and %d more)", first, len(m)-1)
}

// Unwrap says that trying again does not help.
func (m Mistakes) Unwrap() error { return hub.ErrInvalid }

// retryAfter is what a busy hub asks for where no connector says otherwise.
const retryAfter = 30 * time.Second

// statusOf is the HTTP status an error's kind stands for.
func statusOf(err error) int {
	var fe *fiber.Error
	switch {
	case errors.As(err, &fe):
		return fe.Code
	case errors.Is(err, hub.ErrNotFound):
		return fiber.StatusNotFound
	case errors.Is(err, hub.ErrInvalid):
		return fiber.StatusBadRequest
	case errors.Is(err, hub.ErrConflict):
		return fiber.StatusConflict
	case errors.Is(err, hub.ErrUnauthenticated):
		return fiber.StatusUnauthorized
	case errors.Is(err, hub.ErrBusy), errors.Is(err, hub.ErrTransient):
		return fiber.StatusServiceUnavailable
	default:
		return fiber.StatusInternalServerError
	}
}

// sendProblem answers with err. What went wrong inside is logged and not told.
func (s *Server) sendProblem(c *fiber.Ctx, err error) error {
	p := Problem{Type: "about:blank", Status: statusOf(err), Detail: err.Error()}
	p.Title = statusText(p.Status)
	if mistakes, ok := errors.AsType[Mistakes](err); ok {
		p.Errors = mistakes
	}
	switch p.Status {
	case fiber.StatusInternalServerError:
		s.log.Error("request failed", "method", c.Method(), "path", c.Path(), "error", err)
		p.Detail = "the hub's own log says more"
	case fiber.StatusServiceUnavailable:
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(retryAfter.Seconds())))
	}
	return send(c, p.Status, "application/problem+json", p)
}

func statusText(status int) string {
	if e := fiber.NewError(status); e.Message != "" {
		return e.Message
	}
	return "error"
}

// apiBody is the largest body an API request may have, in bytes.
const apiBody = 256 << 10

// decodeBody reads the request's JSON into v, which must name all its members. The error wraps hub.ErrInvalid or is an answer.
func decodeBody(c *fiber.Ctx, v any) error {
	body, err := readBody(c.Request(), apiBody, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("%w: %w", err, hub.ErrInvalid)
	}
	return nil
}

// send answers with v as JSON.
func send(c *fiber.Ctx, status int, contentType string, v any) error {
	// What strangers sent may hold anything; it must not make a list unreadable.
	body, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, contentType)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	return c.Status(status).Send(body)
}

func ok(c *fiber.Ctx, v any) error { return send(c, fiber.StatusOK, fiber.MIMEApplicationJSON, v) }
