package pipeline

import (
	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
)

// Scores are a snapshot of what was fitted to all customers together. A new one is applied like a publish: whoever decides by an
// older one hands back what it has begun, and all customers of models that read scores are decided anew.
type Scores struct {
	Version int64
	Scorer  fact.Scorer
}

// UseScores makes a snapshot the one that decides from now on.
func (p *Pipeline) UseScores(s Scores) { p.scores.Store(&s) }

// ScoresVersion returns the version of the snapshot in use, 0 for none.
func (p *Pipeline) ScoresVersion() int64 { return p.scored().Version }

// Scorer returns the snapshot in use, nil for none.
func (p *Pipeline) Scorer() fact.Scorer { return p.scored().Scorer }

func (p *Pipeline) scored() Scores {
	if s := p.scores.Load(); s != nil {
		return *s
	}
	return Scores{}
}

// ReadsScores reports whether a model's decisions depend on scores.
func (p *Program) ReadsScores() bool { return p.readsScores }

func readsScores(m *ActiveModel) bool { return m.Needs().Has(expression.NeedsScores) }
