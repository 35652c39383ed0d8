package server

import (
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// hooks is the path under which connections receive.
const hooks = "/hooks/"

// endpoint is one connection ready to receive.
type endpoint struct {
	Connected
	counters
	secrets []string // headers in which the vendor sends a token, whatever they are called
}

// receive takes one webhook: find its connection, copy it, verify it, make it durable, answer. The vendor hears 2xx only
// when the bytes are on stable storage; what happens afterwards is no business of this request.
func (s *Server) receive(c *fiber.Ctx) error {
	began := s.opts.Now()
	setup := s.setup.Load()
	e := setup.endpoints[c.Params("connection")]
	if e == nil {
		s.metrics.webhooks.WithLabelValues("", outcomeUnknown).Inc()
		return fiber.NewError(fiber.StatusNotFound, "no connection receives here")
	}
	request := c.Request()
	declared := max(request.Header.ContentLength(), 0)
	contentType := string(request.Header.ContentType())
	if err := e.Receiver.Accepts(c.Method(), contentType); err != nil {
		if errors.Is(err, connector.ErrMethod) {
			return s.reject(c, e, began, hub.RejectedMethod, fiber.StatusMethodNotAllowed, declared, err)
		}
		return s.reject(c, e, began, hub.RejectedContentType, fiber.StatusUnsupportedMediaType, declared, err)
	}
	if encoding := string(request.Header.ContentEncoding()); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return s.reject(c, e, began, hub.RejectedContentType, fiber.StatusUnsupportedMediaType, declared,
			errors.New("compressed bodies are not taken"))
	}
	in := intakes.Get().(*intake)
	body, err := readBody(request, s.opts.BodyLimit, in.body)
	if errors.Is(err, fiber.ErrRequestEntityTooLarge) {
		return s.reject(c, e, began, hub.RejectedTooLarge, fiber.StatusRequestEntityTooLarge, max(declared, len(body)),
			errors.New("the body is larger than "+strconv.Itoa(s.opts.BodyLimit)+" bytes"))
	}
	if err != nil {
		return err
	}

	w := s.webhook(c, in, setup.publicURL, e, began, body)
	answer, err := e.Receiver.Handshake(w, e.Connection, began)
	if err != nil {
		return s.refuse(c, e, began, len(body), err)
	}
	if answer != nil {
		e.outcome[outcomeHandshake].Inc()
		return respond(c, *answer)
	}
	if err := e.Receiver.Verify(w, e.Connection, began); err != nil {
		return s.refuse(c, e, began, len(body), err)
	}
	w.ID = e.Receiver.WebhookID(w)
	said := e.Receiver.Answer(w)
	w.Headers = withoutCredentials(w.Headers, e.secrets)

	id := w.ID
	if _, err := s.opts.Log.PublishWebhook(s.patience.context(), *w); err != nil {
		return s.busy(c, e, err)
	}
	in.recycle()
	e.outcome[outcomeAccepted].Inc()
	e.bytes.Add(float64(len(body)))
	e.accept.Observe(s.opts.Now().Sub(began).Seconds())
	if said.Status == 0 {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.SendString(`{"id":"` + id + `"}`) // ids hold letters, digits and _ alone
	}
	return respond(c, said)
}

// webhook copies the request: Fiber and fasthttp use their buffers again once the handler has returned. body is ours already.
func (s *Server) webhook(c *fiber.Ctx, in *intake, publicURL string, e *endpoint, at time.Time, body []byte) *hub.Webhook {
	request := c.Request()
	uri := request.RequestURI()
	if len(uri) == 0 || uri[0] != '/' { // absolute form, as proxies may send it
		uri = request.URI().RequestURI()
	}
	in.webhook = hub.Webhook{
		Connection: e.Connection.Name,
		ReceivedAt: at,
		Method:     string(request.Header.Method()),
		URL:        publicURL + string(uri),
		Headers:    headers(c, in.headers),
		Body:       body,
		Activation: e.Activation,
	}
	return &in.webhook
}

// firstRead is how much memory a body gets before anything of it has arrived.
const firstRead = 16 << 10

// readBody reads the body into the memory of spare where that is large enough, else into memory of its own, as it arrives: a length
// that is declared and never sent costs nothing. It fails with fiber.ErrRequestEntityTooLarge beyond limit bytes, and with what Fiber
// answers where the body does not come.
func readBody(request *fasthttp.Request, limit int, spare []byte) ([]byte, error) {
	declared := request.Header.ContentLength()
	if declared > limit {
		return nil, fiber.ErrRequestEntityTooLarge
	}
	stream := request.BodyStream()
	if stream == nil { // only where no server read the request
		return append(spare[:0], request.Body()...), nil
	}
	size := firstRead
	if declared >= 0 {
		size = min(declared, size)
	}
	body := spare[:0]
	if cap(body) < size {
		body = make([]byte, 0, size)
	}
	for {
		if len(body) == cap(body) {
			grown := max(firstRead, 2*len(body))
			if declared >= 0 {
				grown = min(grown, declared)
			}
			body = slices.Grow(body, min(grown, limit+1)-len(body))
		}
		n, err := stream.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		var network net.Error
		switch {
		case len(body) > limit:
			return body, fiber.ErrRequestEntityTooLarge
		case errors.Is(err, io.EOF) && len(body) >= declared:
			return body, nil
		case errors.As(err, &network) && network.Timeout():
			return body, fiber.ErrRequestTimeout
		case err != nil:
			return body, fiber.NewError(fiber.StatusBadRequest, "the body is cut short or its framing is wrong")
		}
	}
}

// How much of a refused body is read and thrown away before the answer, in bytes, and for how long.
const (
	lingering   = 8 << 20
	lingerLimit = 2 * time.Second
)

// linger lets a sender finish what it is sending: a connection closed on unread bytes is reset, and the sender never sees the answer.
func linger(c *fasthttp.RequestCtx) {
	stream := c.Request.BodyStream()
	if stream == nil || c.Request.Header.ContentLength() > lingering || c.SetReadDeadline(time.Now().Add(lingerLimit)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, stream, lingering) // what comes after that is cut off
}

// headers copies all header lines into one string and slices it: two allocations at most instead of two per line. The list takes
// the memory of spare where that is large enough.
func headers(c *fiber.Ctx, spare []hub.Header) []hub.Header {
	header := &c.Request().Header
	size, lines := 0, 0
	for name, value := range header.All() {
		size, lines = size+len(name)+len(value), lines+1
	}
	var text strings.Builder
	text.Grow(size)
	for name, value := range header.All() {
		text.Write(name)
		text.Write(value)
	}
	rest, out := text.String(), slices.Grow(spare[:0], lines)
	for name, value := range header.All() {
		out = append(out, hub.Header{Name: rest[:len(name)], Value: rest[len(name) : len(name)+len(value)]})
		rest = rest[len(name)+len(value):]
	}
	return out
}

// withoutCredentials leaves out what let the sender in, so that it is not stored.
func withoutCredentials(headers []hub.Header, secrets []string) []hub.Header {
	kept := headers[:0]
	for _, h := range headers {
		if !credential(h.Name) && !named(secrets, h.Name) {
			kept = append(kept, h)
		}
	}
	return kept
}

// refuse answers a webhook that is not genuine, or that the verifier cannot read.
func (s *Server) refuse(c *fiber.Ctx, e *endpoint, at time.Time, size int, err error) error {
	switch {
	case errors.Is(err, hub.ErrStale):
		return s.reject(c, e, at, hub.RejectedStale, fiber.StatusUnauthorized, size, err)
	case errors.Is(err, hub.ErrUnauthenticated):
		return s.reject(c, e, at, hub.RejectedSignature, fiber.StatusUnauthorized, size, err)
	case errors.Is(err, connector.ErrContentType):
		return s.reject(c, e, at, hub.RejectedContentType, fiber.StatusUnsupportedMediaType, size, err)
	default:
		return s.reject(c, e, at, hub.RejectedUnparsable, fiber.StatusBadRequest, size, err)
	}
}

// reject counts a request, keeps it in the log of refusals, and answers. The sender learns the kind of refusal and not its
// detail, which is for the operator: a forger should not be told what to try next. size is the body's, as declared or read.
func (s *Server) reject(c *fiber.Ctx, e *endpoint, at time.Time, reason string, status, size int, err error) error {
	e.outcome[reason].Inc()
	s.rejected.add(hub.Rejected{
		Connection: e.Connection.Name, At: at, Reason: reason, Detail: shorten(err.Error(), 300),
		Headers: mask(headers(c, nil), e.secrets), Size: size,
	})
	detail := map[string]string{
		hub.RejectedSignature: "the signature or token is missing or wrong", hub.RejectedStale: "the signature is too old",
		hub.RejectedMethod: "this method is not taken here", hub.RejectedContentType: "this content type or encoding is not taken here",
		hub.RejectedUnparsable: "the body cannot be read", hub.RejectedTooLarge: "the body is too large",
	}[reason]
	return fiber.NewError(status, detail)
}

// busy tells the vendor to come again, in the way its connector says it takes best.
func (s *Server) busy(c *fiber.Ctx, e *endpoint, err error) error {
	e.outcome[outcomeBusy].Inc()
	if s.complain.allow(s.opts.Now()) { // every one of a flood would say the same
		s.log.Warn("webhooks are turned away: the log does not take them", "connection", e.Connection.Name, "error", err)
	}
	answer := e.Receiver.Busy()
	if answer.Status == 0 {
		answer.Status = fiber.StatusServiceUnavailable
	}
	if answer.RetryAfter <= 0 {
		answer.RetryAfter = retryAfter
	}
	return respond(c, answer)
}

// respond sends a connector's answer.
func respond(c *fiber.Ctx, a connector.Answer) error {
	if a.ContentType != "" {
		c.Set(fiber.HeaderContentType, a.ContentType)
	}
	if a.RetryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int((a.RetryAfter+time.Second-1)/time.Second)))
	}
	status := a.Status
	if status == 0 {
		status = fiber.StatusOK
	}
	return c.Status(status).Send(a.Body)
}

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
