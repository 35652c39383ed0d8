package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// States of a connection.
const (
	connectionOK            = "ok"
	connectionSilent        = "silent"        // nothing came in for a day, or ever
	connectionFailing       = "failing"       // something of it is dead
	connectionMisconfigured = "misconfigured" // it cannot work as it is set up
)

// silence is how long a connection may say nothing before it is worth a look.
const silence = 24 * time.Hour

func (s *Server) connections(c *fiber.Ctx) error {
	ctx, cancel := apiContext()
	defer cancel()
	stats, err := s.opts.Reader.ConnectionStats(ctx)
	if err != nil {
		return err
	}
	setup := s.setup.Load()
	items := make([]Connection, 0, len(setup.endpoints))
	for name, e := range setup.endpoints {
		items = append(items, connectionShape(e.Connected, stats[name], setup.publicURL, s.opts.Now()))
	}
	slices.SortFunc(items, func(a, b Connection) int { return cmp.Compare(a.Name, b.Name) })
	return list(c, items, "")
}

func connectionShape(c Connected, stat hub.ConnectionStat, publicURL string, now time.Time) Connection {
	out := Connection{
		Name: c.Connection.Name, Connector: c.Connection.Connector, Receives: hooks + c.Connection.Name, State: connectionOK,
		LastWebhookAt: Time(stat.LastWebhookAt), LastDeliveryAt: Time(stat.LastDeliveryAt), Webhooks: stat.Webhooks,
		Problems: slices.Clone(c.Problems),
	}
	if len(out.Problems) > 0 {
		out.State = connectionMisconfigured
	}
	if stat.Dead > 0 {
		out.State = cmp.Or(notOK(out.State), connectionFailing)
		out.Problems = append(out.Problems, ConnectionIssue{
			Message: fmt.Sprintf("%d webhooks or deliveries of it are dead", stat.Dead),
			Mend:    "see /api/v1/dead-letters; `stagewire redrive " + c.Connection.Name + "` or `stagewire replay <webhook>` puts them back",
		})
	}
	if c.Connection.Mode != "poll" && now.Sub(stat.LastWebhookAt) > silence {
		out.State = cmp.Or(notOK(out.State), connectionSilent)
		message := "no webhook has come yet"
		if !stat.LastWebhookAt.IsZero() {
			message = "no webhook for more than " + silence.String()
		}
		out.Problems = append(out.Problems, ConnectionIssue{
			Message: message, Mend: "check that the vendor calls " + publicURL + out.Receives + "; /api/v1/rejected tells what was refused",
		})
	}
	return out
}

func notOK(state string) string {
	if state == connectionOK {
		return ""
	}
	return state
}

// ProvisionRequest says whether what is missing is to be made.
type ProvisionRequest struct {
	Apply bool `json:"apply"`
}

// provision answers with what is there, also where the vendor could not be asked for all of it.
func (s *Server) provision(c *fiber.Ctx) error {
	if s.opts.Provisioner == nil {
		return fiber.NewError(fiber.StatusNotImplemented, "this process does not deliver")
	}
	var in ProvisionRequest
	if err := decodeBody(c, &in); err != nil {
		return fmt.Errorf("body is not {\"apply\"}: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), slowTimeout)
	defer cancel()
	name := c.Params("name")
	planned, err := s.opts.Provisioner.Provision(ctx, name, in.Apply)
	if errors.Is(err, hub.ErrNotFound) {
		return err
	}
	out := Provisioned{Connection: name, Applied: in.Apply, Items: []Planned{}}
	for _, p := range planned {
		out.Items = append(out.Items, Planned(p))
	}
	if err != nil {
		out.Error = shorten(err.Error(), 1000)
	}
	s.log.Info("provisioned", "connection", name, "applied", in.Apply, "items", len(planned), "error", out.Error)
	return ok(c, out)
}

func (s *Server) connectors(c *fiber.Ctx) error {
	return list(c, s.setup.Load().Connectors, "")
}

// Describe returns a connector's row in the matrix of vendors.
func Describe(c *connector.Connector) ConnectorInfo {
	return ConnectorInfo{
		Name: c.Name(), Title: c.Title(), Category: c.Category(), Events: c.Produces(), Actions: c.Actions(),
		Handshake: c.Handshakes(), Verify: strings.Join(c.Schemes(), ", "), Hydrate: len(c.Objects()) > 0, APIVersion: c.APIVersion(),
	}
}
