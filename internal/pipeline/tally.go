package pipeline

import "github.com/stagewire/stagewire/internal/hub"

// tally collects what a transaction did, to be counted only once it is committed.
type tally struct {
	events      map[[2]string]int // connection, kind
	duplicates  map[string]int
	echoes      map[string]int
	decisions   map[[2]string]int
	transitions map[[3]string]int
	changes     map[string]int // connection → stage changes its events caused
	late, wakes int
}

func (t *tally) event(connection, kind string) { bump(&t.events, [2]string{connection, kind}) }
func (t *tally) duplicate(connection string)   { bump(&t.duplicates, connection) }
func (t *tally) echo(connection string)        { bump(&t.echoes, connection) }

// outcomeError is a decision of which a condition failed: it counted as not holding.
const outcomeError = "error"

func (t *tally) decision(model, outcome string) {
	bump(&t.decisions, [2]string{model, outcome})
}

func (t *tally) transition(tr *hub.Transition, ev *hub.Event) {
	bump(&t.transitions, [3]string{tr.Model, tr.From, tr.To})
	if ev != nil && !tr.Passing {
		bump(&t.changes, ev.Connection)
	}
	if tr.Cause.Type == hub.CauseWake {
		t.wakes++
	}
}

func bump[K comparable](m *map[K]int, key K) {
	if *m == nil {
		*m = map[K]int{}
	}
	(*m)[key]++
}

func (m *metrics) add(t *tally) {
	for k, n := range t.events {
		m.events.WithLabelValues(k[0], k[1]).Add(float64(n))
	}
	for k, n := range t.duplicates {
		m.duplicates.WithLabelValues(k).Add(float64(n))
	}
	for k, n := range t.echoes {
		m.echoes.WithLabelValues(k).Add(float64(n))
	}
	for k, n := range t.decisions {
		m.decisions.WithLabelValues(k[0], k[1]).Add(float64(n))
	}
	for k, n := range t.transitions {
		m.transitions.WithLabelValues(k[0], k[1], k[2]).Add(float64(n))
	}
	m.late.Add(float64(t.late))
	m.wakes.Add(float64(t.wakes))
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range t.events {
		m.tally.Events[k[0]] += n
	}
	for k, n := range t.duplicates {
		m.tally.Duplicates[k] += n
	}
	for k, n := range t.echoes {
		m.tally.Echoes[k] += n
	}
	for k, n := range t.changes {
		m.tally.StageChanges[k] += n
	}
	for k, n := range t.decisions {
		if k[1] == outcomeError {
			m.tally.Failed[k[0]] += n
		}
	}
	m.tally.Wakes += t.wakes
}
