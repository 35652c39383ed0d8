package server

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/hub"
)

// Roles a route can ask for, weakest first (package access).
const (
	subscriber = "subscriber"
	viewer     = "viewer"
	operator   = "operator"
	author     = "author"
)

// route is one operation of the API.
type route struct {
	method, path string // path as Fiber has it, below /api/v1
	id           string // operationId, and label of the metric
	summary      string
	role         string
	query        []parameter
	request      any // an example value of the body's type; nil for none
	response     any // an example value of the answer's type
	handle       func(*Server, *fiber.Ctx) error
}

// parameter is one query parameter.
type parameter struct{ name, about string }

var (
	aDeal  = parameter{"deal", "Of a model of deals: which, as <connection>:<id>; may be left out where there is one."}
	paging = []parameter{{"limit", "Items on a page, 1 to 200; 50 where not given."}, {"cursor", "The next of the page before."}}
	spoken = parameter{"lang", "Language of label, such as zh-Hant; Accept-Language where not given, else the model's own."}
	routes = []route{
		{"GET", "/customers", "listCustomers", "Customers, newest change first.", viewer, with(paging,
			parameter{"q", "In name or e-mail."}, parameter{"email", "E-mail address."}, parameter{"identifier", "<kind>:<value>"},
			parameter{"model", "Together with stage."}, parameter{"stage", "In this stage of model."}, parameter{"tag", "Has this tag."}, spoken,
		), nil, List[Customer]{}, (*Server).listCustomers},
		{"GET", "/customers/:id", "getCustomer", "One view of one customer.", viewer, []parameter{spoken}, nil, Customer{}, (*Server).getCustomer},
		{"GET", "/customers/:id/timeline", "getTimeline", "What happened, newest first.", viewer, paging, nil, List[Entry]{}, (*Server).timeline},
		{"GET", "/customers/:id/events", "getEvents", "All known events, oldest first.", viewer, nil, nil, List[Event]{}, (*Server).events},
		{"GET", "/customers/:id/explain", "explain", "Why the customer is in a stage, clause by clause.", viewer, []parameter{
			{"model", "The model; may be left out where there is one."},
			{"deal", "Of a model of deals: which, as <connection>:<id>; may be left out where there is one."},
			{"at", "The instant, RFC 3339; now where not given."},
			{"transition", "The id of a recorded stage change, explained as it was decided then; last for the newest."},
			{"lang", "Language of the labels, such as zh-Hant; Accept-Language and English where not given."},
		}, nil, Explain{}, (*Server).explain},
		{"PUT", "/customers/:id/pins/:model", "pin", "Put a customer into a stage by hand, over all rules, until it is released or its date.", operator, []parameter{aDeal}, PinRequest{}, Pin{}, (*Server).pin},
		{"DELETE", "/customers/:id/pins/:model", "unpin", "Release a pin: the rules decide again.", operator, []parameter{
			aDeal, {"who", "Who releases it."}, {"why", "Why."},
		}, nil, Pin{}, (*Server).unpin},
		{"GET", "/models", "listModels", "Models in use, drafts, and shipped ones.", viewer, nil, nil, ModelList{}, (*Server).listModels},
		{"POST", "/scores/refit", "refit", "Fit the scores to the hub's orders now.", author, nil, nil, Scores{}, (*Server).refit},
		{"GET", "/models/:name", "getModel", "One model with its text.", viewer, nil, nil, Model{}, (*Server).getModel},
		{"GET", "/models/:name/funnel", "funnel", "How many customers stand in each stage of a model in use, and how they go from stage to stage.", viewer, funnelParameters, nil, Funnel{}, (*Server).funnel},
		{"POST", "/models/:name/publish", "publish", "Make the newest draft, of all models and reactions, the one that decides.", author, nil, nil, Published{}, (*Server).publish},
		{"GET", "/transitions", "listTransitions", "Stage changes, newest first.", viewer, paging, nil, List[Transition]{}, (*Server).transitions},
		{"GET", "/connections", "listConnections", "Configured accounts and how they do.", viewer, nil, nil, List[Connection]{}, (*Server).connections},
		{"POST", "/connections/:name/provision", "provision", "What the hub needs at the vendor; with apply it is made.", operator, nil, ProvisionRequest{}, Provisioned{}, (*Server).provision},
		{"GET", "/connectors", "listConnectors", "What each vendor's connector can do.", viewer, nil, nil, List[ConnectorInfo]{}, (*Server).connectors},
		{"GET", "/webhooks", "listWebhooks", "What came in, newest first.", viewer, with(paging,
			parameter{"state", "queued, hydrating, done, ignored or dead."}, parameter{"connection", "Of this connection."},
		), nil, List[Webhook]{}, (*Server).listWebhooks},
		{"GET", "/webhooks/:id", "getWebhook", "One webhook, byte for byte, with masked headers.", viewer, nil, nil, Webhook{}, (*Server).getWebhook},
		{"POST", "/webhooks/:id/replay", "replayWebhook", "Run a stored webhook through today's connector.", operator, nil, nil, Webhook{}, (*Server).replay},
		{"GET", "/rejected", "listRejected", "Refused requests, newest first.", viewer, paging, nil, List[Rejected]{}, (*Server).listRejected},
		{"GET", "/deliveries", "listDeliveries", "What goes out, newest first.", viewer, with(paging,
			parameter{"state", "held, due, sending, retrying, delivered, dead, superseded, skipped or parked."},
			parameter{"destination", "A connection, or subscription:<name>."}, parameter{"customer", "Of this customer."},
		), nil, List[Delivery]{}, (*Server).listDeliveries},
		{"GET", "/deliveries/:id", "getDelivery", "One delivery with all its attempts.", viewer, nil, nil, Delivery{}, (*Server).getDelivery},
		{"POST", "/deliveries/redrive", "redrive", "Put dead deliveries back.", operator, nil, RedriveRequest{}, RedriveResult{}, (*Server).redrive},
		{"GET", "/dead-letters", "listDeadLetters", "What will not be tried again by itself, newest first.", viewer, paging, nil, List[DeadLetter]{}, (*Server).deadLetters},
		{"GET", "/feed", "feed", "Published facts in commit order, for those who would rather ask than be called.", subscriber, []parameter{
			{"after", "Position after which to begin; 0 where not given."}, {"limit", "At most this many, 1 to 200."},
		}, nil, List[FeedItem]{}, (*Server).feed},
		{"GET", "/events/catalogue", "listKinds", "Every kind of event.", subscriber, nil, nil, List[KindInfo]{}, (*Server).listKinds},
		{"GET", "/events/catalogue/:kind", "getKind", "JSON Schema of one kind's callback data.", subscriber, nil, nil, map[string]any{}, (*Server).getKind},
		{"GET", "/version", "version", "Which binary answers.", viewer, nil, nil, map[string]string{}, (*Server).version},
	}
)

func with(base []parameter, more ...parameter) []parameter {
	return append(slices.Clone(base), more...)
}

// base is where the API lies.
const base = "/api/v1"

func (s *Server) api(app *fiber.App) {
	app.Get("/metrics", s.exposition())
	app.Get("/api/openapi.json", s.openapi)
	for i := range routes {
		r := &routes[i]
		app.Add(r.method, base+r.path, func(c *fiber.Ctx) error { return s.serve(c, r) })
	}
	app.Use(s.unmatched)
}

// serve checks who asks and what for, then handles.
func (s *Server) serve(c *fiber.Ctx, r *route) error {
	err := s.authorize(c, r.role)
	if err == nil {
		err = r.checkQuery(c)
	}
	if err == nil {
		err = r.handle(s, c)
	}
	if err != nil {
		err = s.sendProblem(c, err)
	}
	s.metrics.requests.WithLabelValues(r.id, strconv.Itoa(c.Response().StatusCode())).Inc()
	return err
}

func (s *Server) authorize(c *fiber.Ctx, role string) error {
	scheme, token, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="stagewire"`)
		return fiber.NewError(fiber.StatusUnauthorized, "send Authorization: Bearer <token>")
	}
	known, allowed := s.opts.Gate.Authorize(strings.TrimSpace(token), role)
	switch {
	case !known:
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="stagewire", error="invalid_token"`)
		return fiber.NewError(fiber.StatusUnauthorized, "the token is not known here")
	case !allowed:
		return fiber.NewError(fiber.StatusForbidden, "the token's role may not do this; it takes "+role)
	}
	return nil
}

// checkQuery refuses parameters that nobody would read: a misspelt filter must not look like one that matches everything.
func (r *route) checkQuery(c *fiber.Ctx) error {
	for key := range c.Queries() {
		if !slices.ContainsFunc(r.query, func(p parameter) bool { return p.name == key }) {
			var names []string
			for _, p := range r.query {
				names = append(names, p.name)
			}
			known := "none"
			if len(names) > 0 {
				known = strings.Join(names, ", ")
			}
			return fmt.Errorf("unknown query parameter %q (known: %s): %w", shorten(key, 60), known, hub.ErrInvalid)
		}
	}
	return nil
}

// unmatched tells a wrong method from a wrong path.
func (s *Server) unmatched(c *fiber.Ctx) error {
	path := strings.TrimPrefix(c.Path(), base)
	var methods []string
	for i := range routes {
		if matches(routes[i].path, path) {
			methods = append(methods, routes[i].method)
		}
	}
	if len(methods) > 0 && path != c.Path() {
		c.Set(fiber.HeaderAllow, strings.Join(methods, ", "))
		return fiber.NewError(fiber.StatusMethodNotAllowed, "takes "+strings.Join(methods, ", "))
	}
	return fiber.NewError(fiber.StatusNotFound, "nothing is here")
}

func matches(pattern, path string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if want[i] != have[i] && !strings.HasPrefix(want[i], ":") {
			return false
		}
	}
	return true
}

// page reads limit and cursor.
func page(c *fiber.Ctx) (hub.Page, error) {
	p := hub.Page{Limit: 50, Cursor: c.Query("cursor")}
	if text := c.Query("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 200 {
			return p, fmt.Errorf("limit %q is not a number from 1 to 200: %w", shorten(text, 20), hub.ErrInvalid)
		}
		p.Limit = n
	}
	return p, nil
}

// list answers with one page.
func list[T any](c *fiber.Ctx, items []T, next string) error {
	out := List[T]{Items: items}
	if out.Items == nil {
		out.Items = []T{}
	}
	if next != "" {
		out.Next = &next
	}
	return ok(c, out)
}

// shapes applies shape to each row.
func shapes[R, T any](rows []R, shape func(*R) T) []T {
	out := make([]T, len(rows))
	for i := range rows {
		out[i] = shape(&rows[i])
	}
	return out
}
