package server

import (
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/hub"
)

// feed gives published facts after a position. next is always the position to ask after next time, also where nothing is new.
func (s *Server) feed(c *fiber.Ctx) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	after := int64(0)
	if text := c.Query("after"); text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			return fmt.Errorf("after %q is not a position: %w", shorten(text, 30), hub.ErrInvalid)
		}
	}
	ctx, cancel := apiContext()
	defer cancel()
	rows, err := s.opts.Reader.Feed(ctx, after, p.Limit)
	if err != nil {
		return err
	}
	items := make([]FeedItem, len(rows))
	for i := range rows {
		items[i] = FeedItem{rows[i].Position, jsontext.Value(rows[i].Body)}
		after = max(after, rows[i].Position)
	}
	return list(c, items, strconv.FormatInt(after, 10))
}

func (s *Server) version(c *fiber.Ctx) error {
	return ok(c, map[string]string{"version": s.opts.Version})
}
