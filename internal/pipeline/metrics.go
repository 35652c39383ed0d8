package pipeline

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events      *prometheus.CounterVec
	ignored     *prometheus.CounterVec
	echoes      *prometheus.CounterVec
	duplicates  *prometheus.CounterVec
	decisions   *prometheus.CounterVec
	transitions *prometheus.CounterVec
	redelivered prometheus.Counter
	dead        *prometheus.CounterVec
	late        prometheus.Counter
	wakes       prometheus.Counter
	held        *prometheus.GaugeVec

	mu    sync.Mutex
	tally Counts
}

// Counts is what was counted since the start, per connection, plus, per model, the decisions in which a condition failed (it counted as not
// holding), and the wake-ups that moved somebody.
type Counts struct {
	Events, Echoes, Duplicates, StageChanges map[string]int
	Failed                                   map[string]int
	Wakes                                    int
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_events_total",
			Help: "Events applied, by connection and kind.",
		}, []string{"connection", "kind"}),
		ignored: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_webhook_items_ignored_total",
			Help: "Items of webhooks no mapping exists for.",
		}, []string{"connection"}),
		echoes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_echoes_total",
			Help: "Events recognised as our own writes coming back.",
		}, []string{"connection"}),
		duplicates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_events_duplicate_total",
			Help: "Events the ledger had already.",
		}, []string{"connection"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_decisions_total",
			Help: "Decisions taken; outcome is moved, stayed or error.",
		}, []string{"model", "outcome"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_transitions_total",
			Help: "Moves from stage to stage.",
		}, []string{"model", "from", "to"}),
		redelivered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagewire_webhooks_redelivered_total",
			Help: "Webhooks that were normalized before.",
		}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stagewire_events_dead_total",
			Help: "Events that could not be applied.",
		}, []string{"connection"}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagewire_events_late_total",
			Help: "Events older than the customer's latest decision.",
		}),
		wakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stagewire_wakes_total",
			Help: "Customers decided because their silence came due.",
		}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "stagewire_horizon_held_seconds",
			Help: "How far the connection's horizon lies behind business now.",
		}, []string{"connection"}),
		tally: Counts{Events: map[string]int{}, Echoes: map[string]int{}, Duplicates: map[string]int{}, StageChanges: map[string]int{}, Failed: map[string]int{}},
	}
	if reg != nil {
		reg.MustRegister(m.events, m.ignored, m.echoes, m.duplicates, m.decisions, m.transitions, m.redelivered, m.dead, m.late, m.wakes, m.held)
	}
	return m
}

// prepare makes all label values of the program visible as zero.
func (m *metrics) prepare(program *Program) {
	for _, model := range program.Models {
		for _, outcome := range [...]string{"moved", "stayed", outcomeError} {
			m.decisions.WithLabelValues(model.Name, outcome)
		}
	}
}

func (m *metrics) counts() Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Counts{Wakes: m.tally.Wakes}
	for _, pair := range [...]struct {
		to   *map[string]int
		from map[string]int
	}{{&out.Events, m.tally.Events}, {&out.Echoes, m.tally.Echoes}, {&out.Duplicates, m.tally.Duplicates}, {&out.StageChanges, m.tally.StageChanges}, {&out.Failed, m.tally.Failed}} {
		*pair.to = make(map[string]int, len(pair.from))
		maps.Copy((*pair.to), pair.from)
	}
	return out
}
