package server

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// nowhere takes webhooks and keeps none.
type nowhere struct{ memory }

func (*nowhere) PublishWebhook(context.Context, hub.Webhook) (hub.Position, error) {
	return hub.Position{}, nil
}

// BenchmarkReceive is receiving without network and log: routing, copying, verifying a 2 KB order, answering.
func BenchmarkReceive(b *testing.B) {
	vendor, err := connector.Parse("pipely/connector.yaml", []byte(manifest), hub.Catalogue)
	if err != nil {
		b.Fatal(err)
	}
	log, registry := &nowhere{}, prometheus.NewRegistry()
	s := New(Options{Log: log, Reader: log, Logger: slog.New(slog.DiscardHandler), Registerer: registry, Gatherer: registry})
	s.Use(Setup{PublicURL: "https://hub.example.com", Connections: []Connected{{
		Connection: &hub.Connection{Name: "crm", Connector: "pipely", Secrets: map[string][]hub.Secret{"client_secret": {hub.NewSecret("hush")}}},
		Receiver:   vendor,
	}}})
	body := `{"id": 1, "note": "` + strings.Repeat("x", 2000) + `"}`
	handler := s.intake.Handler()
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod("POST")
	c.Request.SetRequestURI("/hooks/crm")
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-Pipely-Hmac": signed(body), "X-Pipely-Delivery": "d1", "User-Agent": "Pipely/1", "Accept": "*/*", "Host": "hub",
	} {
		c.Request.Header.Set(name, value)
	}
	c.Request.SetBodyString(body)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		c.Response.Reset()
		handler(&c)
		if c.Response.StatusCode() != 200 {
			b.Fatal(c.Response.StatusCode(), string(c.Response.Body()))
		}
	}
}
