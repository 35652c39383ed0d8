package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/server"
)

// followPoll is how often a process looks whether another one has published.
const followPoll = time.Second

// published follows the set that is published, by whichever process, and decides the customers under it, page by page.
func (a *App) published(ctx context.Context) error {
	for ctx.Err() == nil {
		_, err := a.followActiveSet(ctx)
		if err == nil {
			_, err = a.followScores(ctx)
		}
		more := false
		if err == nil {
			more, err = a.pipeline.DecidePublished(ctx)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, hub.ErrTransient) {
			a.Log.Error("customers not decided under the published set", "error", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-a.publishedNow:
		case <-time.After(followPoll):
		}
	}
	return nil
}

// Publish makes what the files and the configuration in force define the active set, as one unit, and says what that changes.
// Customers are decided under it in the background. model must be one of the set's; "" means whichever. It wraps hub.ErrConflict
// where that is published already, hub.ErrNotFound for an unknown model, and server.Mistakes where something does not compile.
func (a *App) Publish(ctx context.Context, model string) (server.Published, error) {
	a.reload.Lock()
	defer a.reload.Unlock()
	draft, err := a.draft(ctx)
	if err != nil {
		return server.Published{}, mistakes(err)
	}
	if known := func(m hub.ModelVersion) bool { return m.Name == model }; model != "" && !slices.ContainsFunc(draft.Models, known) {
		return server.Published{}, fmt.Errorf("model %q is not in use: %w", model, hub.ErrNotFound)
	}
	before, err := a.store.ActiveSet(ctx)
	if err != nil && !errors.Is(err, hub.ErrNotFound) {
		return server.Published{}, err
	}
	if before.Number == draft.Number {
		return server.Published{}, fmt.Errorf("nothing has changed since set %d was published: %w", before.Number, hub.ErrConflict)
	}
	out, err := difference(before, draft)
	if err != nil {
		return out, err
	}
	if out.DecidesAnew() {
		if out.Customers, err = a.store.Decided(ctx); err != nil {
			return out, err
		}
	}
	if err := a.store.Publish(ctx, draft.Number, time.Now()); err != nil {
		return out, err
	}
	active, err := a.store.ActiveSet(ctx)
	if err != nil {
		return out, err
	}
	if err := a.activate(active); err != nil {
		return out, err
	}
	select {
	case a.publishedNow <- struct{}{}:
	default: // it is awake already
	}
	a.Log.Info("published", "set", out.Set, "customers", out.Customers)
	return out, nil
}

// difference says what a set changes.
func difference(before, after hub.ModelSet) (server.Published, error) {
	out := server.Published{Set: after.Number, Models: []server.PublishedModel{}}
	var old, now definition
	if len(before.Definition) > 0 {
		if err := json.Unmarshal(before.Definition, &old); err != nil {
			return out, fmt.Errorf("model set %d: %w", before.Number, err)
		}
	}
	if err := json.Unmarshal(after.Definition, &now); err != nil {
		return out, fmt.Errorf("model set %d: %w", after.Number, err)
	}
	out.Reactions, out.Write = !same(old.Reactions, now.Reactions), !same(old.Write, now.Write)
	for _, m := range after.Models {
		change := server.PublishedModel{Name: m.Name, Version: m.Version, Change: "new"}
		for _, b := range before.Models {
			if b.Name == m.Name {
				change.From, change.Change = b.Version, "changed"
				if b.Version == m.Version {
					change.Change = "unchanged"
				}
			}
		}
		out.Models = append(out.Models, change)
	}
	for _, b := range before.Models {
		if !slices.ContainsFunc(after.Models, func(m hub.ModelVersion) bool { return m.Name == b.Name }) {
			out.Models = append(out.Models, server.PublishedModel{Name: b.Name, From: b.Version, Change: "removed"})
		}
	}
	return out, nil
}

// same reports whether two parts of definitions say the same.
func same(a, b any) bool {
	left, err := json.Marshal(a, json.Deterministic(true))
	right, err2 := json.Marshal(b, json.Deterministic(true))
	return err == nil && err2 == nil && string(left) == string(right)
}

// mistakes makes what a person wrote wrong an answer of the API. Other errors stay as they are.
func mistakes(err error) error {
	var out server.Mistakes
	var walk func(error) bool
	walk = func(err error) bool {
		if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the walk itself: errors.As would stop at the first
			for _, e := range many.Unwrap() {
				if !walk(e) {
					return false
				}
			}
			return true
		}
		var (
			ofConfig    config.Problem
			ofConnector connector.Problem
			ofModel     *lifecycle.Problem
		)
		switch {
		case errors.As(err, &ofConfig):
			out = append(out, server.Mistake(ofConfig))
		case errors.As(err, &ofConnector):
			out = append(out, server.Mistake(ofConnector))
		case errors.As(err, &ofModel):
			out = append(out, server.Mistake{
				File: ofModel.File, Line: ofModel.Line, Column: ofModel.Column, Path: ofModel.Path, Message: ofModel.Message, Suggestion: ofModel.Suggestion,
			})
		default:
			return false
		}
		return true
	}
	if !walk(err) || len(out) == 0 {
		return err
	}
	return out
}
