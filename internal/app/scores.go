package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
	"github.com/stagewire/stagewire/internal/score"
	"github.com/stagewire/stagewire/internal/server"
)

const (
	// refitPoll is how often it is asked whether a refit is due.
	refitPoll = time.Minute
	// refitUnknown is how soon it is tried again where too little was known: a young hub learns more than one a day old.
	refitUnknown = time.Hour
	// refitLease outlives any page of customers and any fit, so that one process works at a time.
	refitLease = 2 * time.Minute
	// settingRefit is the wire time of the last refit, whether or not it found anything.
	settingRefit = "scores.refit"
)

// refitted is what came of a refit.
type refitted struct {
	scores server.Scores
	err    error
}

// keepScores refits the scores to the hub's own orders as often as the configuration says, and whenever somebody asks. Of several processes
// one does.
func (a *App) keepScores(ctx context.Context) error {
	for ctx.Err() == nil {
		var asked chan<- refitted
		select {
		case <-ctx.Done():
			return nil
		case asked = <-a.refitAsked:
		case <-time.After(refitPoll):
			if due, err := a.refitDue(ctx, time.Now()); err != nil || !due {
				if err != nil && ctx.Err() == nil {
					a.Log.Error("scores not fitted", "error", err)
				}
				continue
			}
		}
		scores, err := a.refit(ctx)
		if asked != nil {
			asked <- refitted{scores, err}
		} else if err != nil && ctx.Err() == nil && !errors.Is(err, hub.ErrConflict) {
			a.Log.Error("scores not fitted", "error", err)
		}
	}
	return nil
}

// RefitNow has the scores fitted to the hub's own orders now, and waits for what comes of it. It wraps hub.ErrConflict where a refit is under
// way already, hub.ErrTransient where it takes longer than ctx: it goes on all the same.
func (a *App) RefitNow(ctx context.Context) (server.Scores, error) {
	answer := make(chan refitted, 1)
	select {
	case a.refitAsked <- answer:
	case <-time.After(time.Second): // nobody listens: it is at work
		return server.Scores{}, errRefit
	case <-ctx.Done():
		return server.Scores{}, errRefit
	}
	select {
	case r := <-answer:
		return r.scores, r.err
	case <-ctx.Done():
		return server.Scores{}, fmt.Errorf("the scores are still being fitted; `stagewire models` shows them when they are: %w", hub.ErrTransient)
	}
}

// refitDue reports whether it is time at the wire time now.
func (a *App) refitDue(ctx context.Context, now time.Time) (bool, error) {
	text, err := a.store.Setting(ctx, settingRefit)
	if err != nil || text == "" {
		return err == nil, err
	}
	last, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return false, fmt.Errorf("setting %s: %w", settingRefit, err)
	}
	wait := a.current().Scores.Refit
	snapshot, _, err := a.snapshot(ctx)
	if err != nil {
		return false, err
	}
	if snapshot == nil || snapshot.Empty() {
		wait = min(wait, refitUnknown)
	}
	return now.Sub(last) >= wait, nil
}

// snapshot returns the newest snapshot of scores, nil where there is none.
func (a *App) snapshot(ctx context.Context) (*score.Snapshot, hub.ScoresRecord, error) {
	record, err := a.store.Scores(ctx)
	if errors.Is(err, hub.ErrNotFound) {
		return nil, record, nil
	}
	if err != nil {
		return nil, record, err
	}
	snapshot, err := readSnapshot(record)
	return snapshot, record, err
}

func readSnapshot(record hub.ScoresRecord) (*score.Snapshot, error) {
	snapshot := &score.Snapshot{}
	if err := json.Unmarshal(record.Body, snapshot); err != nil {
		return nil, fmt.Errorf("scores %d: %w", record.Version, err)
	}
	snapshot.Version = record.Version
	return snapshot, nil
}

// followScores brings the newest snapshot of scores into use, whichever process made it. It reports whether that changed anything.
func (a *App) followScores(ctx context.Context) (bool, error) {
	snapshot, record, err := a.snapshot(ctx)
	if err != nil || snapshot == nil || record.Version == a.pipeline.ScoresVersion() {
		return false, err
	}
	a.pipeline.UseScores(pipeline.Scores{Version: record.Version, Scorer: snapshot})
	return true, nil
}

// refit fits the scores and brings what it finds into use. What the orders do not determine is unknown from then on. It wraps
// hub.ErrConflict where another process is at it.
func (a *App) refit(ctx context.Context) (server.Scores, error) {
	holder := a.pipeline.Holder
	mine, err := a.store.Lease(ctx, "scores", holder, refitLease)
	if err != nil {
		return server.Scores{}, err
	}
	if !mine {
		return server.Scores{}, errRefit
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = a.store.Lease(end, "scores", holder, 0) // else it runs out by itself
	}()
	began := time.Now()
	at, err := a.settled(ctx)
	if err != nil {
		return server.Scores{}, err
	}
	sample, err := a.sample(ctx, at, holder)
	if err != nil {
		return server.Scores{}, err
	}
	fitted := sample.Snapshot(at)
	before, record, err := a.snapshot(ctx)
	if err != nil {
		return server.Scores{}, err
	}
	next := hub.ScoresRecord{At: at, SavedAt: time.Now()}
	if before != nil && before.Empty() && fitted.Empty() {
		next.Version = record.Version // unknown as before: nobody needs to be decided anew
	}
	if next.Body, err = json.Marshal(fitted, json.Deterministic(true)); err != nil {
		return server.Scores{}, fmt.Errorf("scores: %w", err)
	}
	if fitted.Version, err = a.store.SaveScores(ctx, next); err != nil {
		return server.Scores{}, err
	}
	if err := a.store.SaveSetting(ctx, settingRefit, time.Now().UTC().Format(time.RFC3339Nano)); err != nil {
		return server.Scores{}, err
	}
	if _, err := a.followScores(ctx); err != nil {
		return server.Scores{}, err
	}
	select {
	case a.publishedNow <- struct{}{}:
	default: // it is awake already
	}
	a.Log.Info("scores fitted", "version", fitted.Version, "customers", fitted.Customers, "repeaters", fitted.Repeaters,
		"unknown", len(fitted.Unknown), "duration", time.Since(began).Round(time.Millisecond))
	return scoresShape(fitted), nil
}

var errRefit = fmt.Errorf("scores are being fitted already: %w", hub.ErrConflict)

// settled is the business instant up to which nothing is missing: an outage must not look like customers who stay away.
func (a *App) settled(ctx context.Context) (time.Time, error) {
	at := a.Clock.Business()
	err := a.store.Apply(ctx, func(ctx context.Context, tx hub.Tx) error {
		horizons, err := tx.Horizons(ctx)
		if err != nil {
			return err
		}
		at = a.Clock.Business()
		for _, h := range horizons {
			if h.At.Before(at) {
				at = h.At
			}
		}
		return nil
	})
	return at.Truncate(hub.Resolution).UTC(), err
}

// sample looks at all customers, page by page.
func (a *App) sample(ctx context.Context, at time.Time, holder string) (*score.Sample, error) {
	sample := &score.Sample{}
	for page := (hub.Page{Limit: 200}); ; {
		customers, next, err := a.store.Customers(ctx, hub.CustomerQuery{Page: page})
		if err != nil {
			return nil, fmt.Errorf("customers to fit scores to: %w", err)
		}
		for _, rec := range customers {
			if rec.Kind != hub.SubjectCustomer {
				continue
			}
			facts, err := factsOf(rec)
			if err != nil {
				return nil, err
			}
			if summary, ok := score.Summarise(score.OrdersOf(facts), at); ok {
				sample.Add(rec.ID, summary)
			}
		}
		if next == "" {
			return sample, nil
		}
		if mine, err := a.store.Lease(ctx, "scores", holder, refitLease); err != nil || !mine {
			return nil, errors.Join(err, errRefit)
		}
		page.Cursor = next
	}
}

// Scores tells of the newest snapshot; nil where nothing was fitted yet.
func (v views) Scores(ctx context.Context) (*server.Scores, error) {
	snapshot, _, err := v.snapshot(ctx)
	if err != nil || snapshot == nil {
		return nil, err
	}
	shape := scoresShape(snapshot)
	return &shape, nil
}

func scoresShape(s *score.Snapshot) server.Scores {
	out := server.Scores{
		Version: s.Version, At: server.Time(s.At), Customers: s.Customers, Repeaters: s.Repeaters, Sampled: s.Sampled,
		GammaGamma: map[string]server.FittedValues{}, Unknown: s.Unknown,
	}
	if out.Unknown == nil {
		out.Unknown = []string{}
	}
	if p := s.Purchases; p != nil {
		out.BGNBD = &server.FittedPurchases{R: p.R, Alpha: p.Alpha, A: p.A, B: p.B, LogLikelihood: p.LogLikelihood}
	}
	for currency, v := range s.Values {
		out.GammaGamma[currency] = server.FittedValues{P: v.P, Q: v.Q, V: v.V, Customers: v.Customers}
	}
	if g := s.Goodness; g != nil {
		out.Goodness = &server.Goodness{ChiSquare: g.ChiSquare, Degrees: g.Degrees, P: g.P, Deviation: g.Deviation()}
		for _, c := range g.Counts {
			out.Goodness.Counts = append(out.Goodness.Counts, server.RepeatCount(c))
		}
	}
	if s.Recency != nil {
		out.RFM = &server.RFM{Frequency: s.Frequency, Monetary: map[string][]float64{}}
		for _, ms := range s.Recency {
			out.RFM.Recency = append(out.RFM.Recency, server.Time(time.UnixMilli(int64(ms))))
		}
		for currency, fifths := range s.Monetary {
			out.RFM.Monetary[currency] = fifths
		}
	}
	return out
}
