package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/identity"
)

const (
	// publishPage is how many customers one transaction decides after a publish; frames and wake-ups come in between.
	publishPage = 256
	// publishLease outlives any page, so that one process works at a time. Two would only do the same twice.
	publishLease = 30 * time.Second
	// settingDecided says how far the customers have been decided under the published set.
	settingDecided = "publish.decided"
)

// published is what customers are decided under.
type published struct{ set, scores int64 }

// progress is how far a publish has come, as it is kept in SQL: a restart goes on where the last process stopped.
type progress struct {
	Set       int64  `json:"set"`
	Scores    int64  `json:"scores,omitempty"`
	Writes    string `json:"writes"`             // what the set writes to other systems, hashed
	Everyone  bool   `json:"everyone,omitempty"` // that has changed, so that nobody may be passed over
	Rescored  bool   `json:"rescored,omitempty"` // the scores have changed, and a model reads them
	After     string `json:"after,omitempty"`    // the last customer looked at
	Customers int    `json:"customers"`          // decided so far
	Done      bool   `json:"done,omitempty"`
}

// DecidePublished decides the next page of customers who are not decided under the published set yet, and reports whether there
// are more. Whoever stands in another version of a model is decided now, with hub.CausePublish, and her transitions have
// effects. Whoever was known before a model was published adopts her stage in it, without a transition. Fields that
// are to hold a stage are brought to it. After a new snapshot of scores whoever stands in a model that reads them is decided, with
// hub.CauseSnapshot. Only the process that holds the lease works, whichever published.
//
// It may be stopped anywhere: a customer whose versions are right is passed over, and one decided twice does not move twice.
func (p *Pipeline) DecidePublished(ctx context.Context) (more bool, err error) {
	program := p.Program()
	if program == nil {
		return false, nil
	}
	if p.Decided() {
		return false, nil
	}
	now := published{program.Number, p.ScoresVersion()}
	mine, err := p.Store.Lease(ctx, "publish", p.Holder, publishLease)
	if err != nil || !mine {
		return false, err
	}
	state, err := p.publishProgress(ctx, program, now.scores)
	if err != nil {
		return false, err
	}
	if !state.Done {
		if err := p.decidePage(ctx, program, &state); err != nil {
			return false, err
		}
		if state.Done && state.Customers > 0 {
			p.Log.Info("customers are decided under the published set", "set", state.Set, "scores", state.Scores, "customers", state.Customers)
		}
	}
	if !state.Done {
		return true, nil
	}
	p.decided.Store(&now)
	_, err = p.Store.Lease(ctx, "publish", p.Holder, 0) // not needed any more
	return false, err
}

// Decided reports whether this process knows that nobody is left to be decided under what is published now.
func (p *Pipeline) Decided() bool {
	program, done := p.Program(), p.decided.Load()
	return program != nil && done != nil && *done == published{program.Number, p.ScoresVersion()}
}

// publishProgress returns where to go on under program and the version of the scores.
func (p *Pipeline) publishProgress(ctx context.Context, program *Program, scores int64) (progress, error) {
	var state progress
	text, err := p.Store.Setting(ctx, settingDecided)
	if err != nil {
		return state, err
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &state); err != nil {
			return state, fmt.Errorf("setting %s: %w", settingDecided, err)
		}
	}
	if state.Set == program.Number && (state.Scores == scores || state.Done && !program.readsScores) {
		return state, nil
	}
	writes, err := json.Marshal(program.Writes, json.Deterministic(true))
	if err != nil {
		return state, fmt.Errorf("writes: %w", err)
	}
	sum := sha256.Sum256(writes)
	next := progress{Set: program.Number, Scores: scores, Writes: hex.EncodeToString(sum[:])}
	next.Rescored = program.readsScores && (state.Scores != scores || (state.Rescored && !state.Done))
	// The fields of a set that was never finished may still hold what the one before it wrote.
	next.Everyone = state.Set != 0 && (state.Writes != next.Writes || (state.Everyone && !state.Done))
	return next, nil
}

// stale returns the next customers to decide, at most a page of them, and the id to go on after, "" at the end.
func (p *Pipeline) stale(ctx context.Context, program *Program, state *progress) (ids []string, next string, err error) {
	var models map[string]int // nil: everyone
	// Who has a stage in a model of deals or companies is not known before the facts are: then everyone is looked at.
	if !state.Everyone && !state.Rescored && !slices.ContainsFunc(program.Models, func(m ActiveModel) bool { return m.Of != hub.SubjectCustomer }) {
		if len(program.Models) == 0 {
			return nil, "", nil
		}
		models = make(map[string]int, len(program.Models))
		for i := range program.Models {
			models[program.Models[i].Name] = program.Models[i].Version
		}
	}
	for next = state.After; ; {
		ids, next, err = p.Store.Stale(ctx, models, next, publishPage)
		if err != nil {
			return nil, "", fmt.Errorf("customers to decide: %w", err)
		}
		if len(ids) > 0 || next == "" || ctx.Err() != nil {
			return ids, next, nil
		}
	}
}

// decidePage decides one page and keeps how far it came.
func (p *Pipeline) decidePage(ctx context.Context, program *Program, state *progress) error {
	ids, next, err := p.stale(ctx, program, state)
	if err != nil {
		return err
	}
	// Also without anybody to decide: the transaction says whether program is still the published one.
	if err := p.decideStale(ctx, ids, state.Rescored); err != nil {
		return err
	}
	state.After, state.Done = next, next == ""
	state.Customers += len(ids)
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("setting %s: %w", settingDecided, err)
	}
	return p.Store.SaveSetting(ctx, settingDecided, string(text))
}

func (p *Pipeline) decideStale(ctx context.Context, ids []string, rescored bool) error {
	return p.decideAll(ctx, ids, func(g *goes, ctx context.Context, m *mind) error {
		g.rescored = rescored
		return g.publish(ctx, m)
	})
}

// decideAll locks the customers and decides each, in one transaction.
func (p *Pipeline) decideAll(ctx context.Context, ids []string, decide func(*goes, context.Context, *mind) error) error {
	var done *goes
	err := p.Store.Apply(ctx, func(ctx context.Context, tx hub.Tx) error {
		done = nil
		g, err := p.begin(ctx, tx)
		if err != nil || len(ids) == 0 {
			return err
		}
		records, err := tx.LockCustomers(ctx, ids)
		if err != nil {
			return fmt.Errorf("lock customers: %w", err)
		}
		g.people = identity.Adopt(records)
		for _, person := range g.people.All() {
			if err := decide(g, ctx, g.mind(person)); err != nil {
				return fmt.Errorf("customer %s: %w", person.ID, err)
			}
		}
		if err := tx.Save(ctx, g.finish()); err != nil {
			return fmt.Errorf("save: %w", err)
		}
		done = g
		return nil
	})
	if err == nil && done != nil {
		done.report()
	}
	return err
}

// publish decides one customer under the program that has just been published. It is one go.
func (g *goes) publish(ctx context.Context, m *mind) error {
	if m.DecidedAt.IsZero() {
		return nil // nothing is known of her that decides: she enters with her first event
	}
	cause := hub.Cause{Type: hub.CausePublish, ID: "set/" + strconv.FormatInt(g.program.Number, 10)}
	decidedAt := m.DecidedAt
	var moved []string
	for i := range g.program.Models {
		model := &g.program.Models[i]
		hold, horizon := g.limits(model)
		instant := maxTime(m.DecidedAt, horizon)
		subjects, err := m.subjects(model)
		if err != nil {
			return err
		}
		reads := model.reads(moved)
		for _, deal := range subjects {
			s := m.stages.of(place{model.Name, deal})
			switch {
			case s == nil:
				if s, err = g.enter(m, model, deal, bounded(instant, hold).Add(hub.Resolution), true); err != nil {
					return err
				}
				moved = noted(moved, model.Name)
			case s.version != model.Version || reads || (g.rescored && readsScores(model)):
				cause := cause
				if s.version == model.Version && !reads {
					cause = hub.Cause{Type: hub.CauseSnapshot, ID: "scores/" + strconv.FormatInt(g.scores.Version, 10)}
				}
				changed, err := g.decide(m, model, deal, s, maxTime(bounded(instant, hold), s.DecidedAt), maxTime(instant, s.Since), cause)
				if err != nil {
					return err
				}
				if changed {
					moved = noted(moved, model.Name)
				}
				if s.version != model.Version { // a pin decides for her
					s.version, s.dirty, m.Dirty = model.Version, true, true
				}
			default:
				continue
			}
			decidedAt = maxTime(decidedAt, s.DecidedAt)
		}
	}
	if err := g.chainToHorizon(m); err != nil {
		return err
	}
	m.DecidedAt = maxTime(m.DecidedAt, decidedAt)
	if err := g.retell(ctx, m); err != nil {
		return err
	}
	told := len(g.moves) > 0
	if err := g.effects(ctx, m, nil); err != nil || told {
		return err
	}
	return g.writeStages(ctx, m, nil, "", "") // effects does it only for who has moved
}
