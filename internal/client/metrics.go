package client

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	throttled *prometheus.CounterVec
	refreshes *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_client_requests_total",
			Help: "Requests to vendors by connection and answer: 2xx to 5xx, or error.",
		}, []string{"connection", "answer"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "stagewire_client_request_duration_seconds",
			Help:    "Time from sending a request to a vendor to the end of its answer.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"connection"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_client_throttled_seconds_total",
			Help: "Time requests waited for their connection's limiter.",
		}, []string{"connection"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_client_token_refreshes_total",
			Help: "Access tokens asked for, by outcome: ok or error.",
		}, []string{"connection", "outcome"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.throttled, m.refreshes)
	}
	return m
}

// known makes a connection's series visible at zero.
func (m *metrics) known(connection string) {
	for _, answer := range []string{"2xx", "3xx", "4xx", "5xx", "error"} {
		m.requests.WithLabelValues(connection, answer)
	}
	m.duration.WithLabelValues(connection)
	m.throttled.WithLabelValues(connection)
}

func (m *metrics) answered(connection string, status int, took time.Duration) {
	answer := "error"
	if status > 0 {
		answer = strconv.Itoa(status/100) + "xx"
	}
	m.requests.WithLabelValues(connection, answer).Inc()
	m.duration.WithLabelValues(connection).Observe(took.Seconds())
}
