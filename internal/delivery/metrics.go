package delivery

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/hub"
)

type metrics struct {
	deliveries *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	breaker    *prometheus.GaugeVec
	due        prometheus.Gauge
	oldest     prometheus.Gauge
	hydrations *prometheus.CounterVec
}

// outcomes are the label values of stagewire_deliveries_total; parked and handed-back deliveries are no attempts and not counted.
var outcomes = []hub.Outcome{hub.Delivered, hub.Retry, hub.Refused, hub.Uncertain, hub.Skipped}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_deliveries_total",
			Help: "Attempts by destination and outcome: delivered, retry, refused, uncertain, skipped.",
		}, []string{"destination", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "stagewire_delivery_duration_seconds",
			Help:    "Time of one attempt, waiting for the connection's limiter included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60},
		}, []string{"destination"}),
		breaker: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "stagewire_delivery_breaker",
			Help: "Breaker of a destination: 0 closed, 1 half open, 2 open.",
		}, []string{"destination"}),
		due: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stagewire_deliveries_due",
			Help: "Deliveries that are due now, retries included.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stagewire_deliveries_oldest_seconds",
			Help: "How long the longest waiting due delivery has been due.",
		}),
		hydrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_hydrations_total",
			Help: "Records fetched from a connection by outcome: fetched, gone, retry, dead.",
		}, []string{"connection", "outcome"}),
	}
	if reg != nil {
		reg.MustRegister(m.deliveries, m.duration, m.breaker, m.due, m.oldest, m.hydrations)
	}
	return m
}

// newDestination makes the memory of a destination, with its series visible at zero.
func (m *metrics) newDestination(name string, now func() time.Time, random func() float64, b breaker) *destination {
	d := &destination{
		name: name, now: now, random: random, breaker: b,
		outcomes: make(map[hub.Outcome]prometheus.Counter, len(outcomes)),
		duration: m.duration.WithLabelValues(name),
		gauge:    m.breaker.WithLabelValues(name),
		poke:     make(chan struct{}, 1),
	}
	if !strings.HasPrefix(name, hydratePrefix) { // fetches count in stagewire_hydrations_total
		for _, o := range outcomes {
			d.outcomes[o] = m.deliveries.WithLabelValues(name, string(o))
		}
	}
	return d
}
