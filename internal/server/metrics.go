package server

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a webhook beside the reasons of hub.Rejected.
const (
	outcomeAccepted  = "accepted"
	outcomeHandshake = "handshake"
	outcomeBusy      = "busy"    // 503: the queue or the disk is full, or the log is away
	outcomeUnknown   = "unknown" // no such connection
)

var outcomes = []string{
	outcomeAccepted, outcomeHandshake, outcomeBusy,
	"signature", "stale", "too_large", "method", "content_type", "unparsable",
}

type metrics struct {
	webhooks *prometheus.CounterVec
	accept   *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	dropped  prometheus.Counter
	requests *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_webhooks_total", Help: "Requests to /hooks by connection and what became of them.",
		}, []string{"connection", "outcome"}),
		accept: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "stagewire_webhook_accept_duration_seconds", Help: "Time from the whole body read to the answer, of accepted webhooks.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}, []string{"connection"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_webhook_bytes_total", Help: "Body bytes of accepted webhooks.",
		}, []string{"connection"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagewire_rejected_dropped_total", Help: "Refused requests that are counted but not in the log of refusals, because it was full or the database away.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_api_requests_total", Help: "Requests to the API by operation and status.",
		}, []string{"operation", "status"}),
	}
	reg.MustRegister(m.webhooks, m.accept, m.bytes, m.dropped, m.requests)
	m.webhooks.WithLabelValues("", outcomeUnknown)
	return m
}

// counters are a connection's own, found once and not at each request.
type counters struct {
	outcome map[string]prometheus.Counter
	accept  prometheus.Observer
	bytes   prometheus.Counter
}

func (m *metrics) of(connection string) counters {
	c := counters{
		outcome: make(map[string]prometheus.Counter, len(outcomes)),
		accept:  m.accept.WithLabelValues(connection), bytes: m.bytes.WithLabelValues(connection),
	}
	for _, outcome := range outcomes {
		c.outcome[outcome] = m.webhooks.WithLabelValues(connection, outcome)
	}
	return c
}
