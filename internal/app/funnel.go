package app

import (
	"context"
	"fmt"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/server"
)

// Funnel counts what a model in use did to customers. What the query leaves open is now.
func (v views) Funnel(ctx context.Context, name string, q server.FunnelQuery) (*server.Funnel, error) {
	m, err := v.inUse(name)
	if err != nil {
		return nil, err
	}
	if q.Stage != "" && m.Stage(q.Stage) == nil {
		return nil, fmt.Errorf("model %s has no stage %q%s: %w", name, printed(q.Stage), meant(q.Stage, m.StageNames()), hub.ErrNotFound)
	}
	now := v.Clock.Business().UTC().Truncate(hub.Resolution)
	window, err := funnelWindow(q, now)
	if err != nil {
		return nil, err
	}
	model := funnel.Model{Name: m.Name}
	for _, s := range m.Stages {
		stage := funnel.ModelStage{Name: s.Name}
		if t := s.Target; t != nil {
			stage.Target = &funnel.Target{To: t.To, Within: t.Within, Share: t.Share}
		}
		model.Stages = append(model.Stages, stage)
	}
	count, err := funnel.New(model, window)
	if err != nil {
		return nil, err
	}
	if err := v.store.Histories(ctx, m.Name, count.Add); err != nil {
		return nil, err
	}
	result, err := count.Result()
	if err != nil {
		return nil, err
	}
	out := &server.Funnel{Model: m.Name, Of: string(m.Of), From: server.Time(window.From), To: server.Time(window.To), At: server.Time(window.At)}
	if window.To.After(window.At) { // what happens at that instant belongs to it
		out.To = server.Time(window.At)
	}
	out.Count(result, q.Stage)
	for i := range out.Stages {
		if s := m.Stage(out.Stages[i].Name); s != nil {
			out.Stages[i].Labels = s.Labels
		}
	}
	return out, nil
}

// funnelWindow fills in what the query leaves open. A window that ends after now ends now, itself included.
func funnelWindow(q server.FunnelQuery, now time.Time) (funnel.Query, error) {
	w := funnel.Query{From: q.From, To: q.To, At: q.At, Every: q.Every, Cohort: q.Cohort}
	switch {
	case w.At.IsZero():
		w.At = now
	case w.At.Truncate(24*time.Hour).Equal(now.Truncate(24*time.Hour)) && w.At.After(now): // today
		w.At = now
	case w.At.After(now):
		return w, fmt.Errorf("at %s lies in the future: what is counted has happened: %w", w.At.Format(time.RFC3339), hub.ErrInvalid)
	}
	if end := w.At.Add(hub.Resolution); w.To.IsZero() || w.To.After(end) {
		w.To = end
	}
	if !w.From.IsZero() && w.From.After(now) {
		return w, fmt.Errorf("from %s lies in the future: it is %s: %w", w.From.Format(time.RFC3339), now.Format(time.RFC3339), hub.ErrInvalid)
	}
	return w, w.Check()
}

// inUse returns a model that decides. The error wraps hub.ErrNotFound and says which one may have been meant.
func (v views) inUse(name string) (*lifecycle.Model, error) {
	v.mu.RLock()
	compiled := v.compiled
	v.mu.RUnlock()
	var names []string
	for _, m := range compiled.models {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return nil, fmt.Errorf("model %q is not in use%s: %w", printed(name), meant(name, names), hub.ErrNotFound)
}

// meant is a suggestion to end a message with, "" where no candidate is near.
func meant(name string, candidates []string) string {
	if c := expression.Closest(name, candidates); c != "" {
		return ", did you mean " + c + "?"
	}
	return ""
}

// printed is at most 60 characters of what somebody sent.
func printed(text string) string {
	if runes := []rune(text); len(runes) > 60 {
		return string(runes[:60]) + "…"
	}
	return text
}
