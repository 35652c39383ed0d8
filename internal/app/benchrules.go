package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/rules"
)

// BenchRules is deciding alone, in µs of CPU for one customer with two years of orders, visits and messages at hand.
type BenchRules struct {
	Models int     `json:"models"` // the shipped ones of customers
	OneUs  float64 `json:"one_us"` // by clc, a model of five rules
	AllUs  float64 `json:"all_us"` // by all of them
}

// rules measures deciding alone, for about a second.
func (b *bench) rules() error {
	start := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	var profile fact.Profile
	put := func(day int, kind string, properties map[string]any) {
		profile.Put(&hub.Event{ID: fmt.Sprint(kind, day), Kind: kind, Connection: "shop", OccurredAt: start.AddDate(0, 0, day), Properties: properties})
	}
	for day := 0; day < 730; day += 60 {
		id := fmt.Sprint(day)
		put(day, "page.viewed", nil)
		put(day, "product.viewed", map[string]any{"product": "kettle"})
		put(day, "order.placed", map[string]any{"id": id})
		put(day, "order.paid", map[string]any{"id": id})
		put(day+3, "order.fulfilled", map[string]any{"id": id})
		put(day+5, "message.received", map[string]any{"channel": "email"})
	}
	facts, at := fact.Union(&profile), start.AddDate(2, 0, 0)
	var all, one []*lifecycle.Model
	for _, name := range rules.Names() {
		text, _ := rules.Text(name)
		m, err := lifecycle.Compile(name, text, lifecycle.Env{})
		if err != nil {
			return err
		}
		if m.Of == hub.SubjectCustomer {
			all = append(all, m)
			if name == "clc" {
				one = append(one, m)
			}
		}
	}
	per := func(models []*lifecycle.Model) (float64, error) {
		states := make([]lifecycle.State, len(models))
		var failed []error
		for i, m := range models { // the first look folds the facts
			states[i], failed = m.Decide(facts, nil, m.Initial(start.Add(-hub.Resolution)), at)
		}
		n, cpu := 0, processCPU()
		for begin := time.Now(); time.Since(begin) < 500*time.Millisecond; {
			for range 100 {
				for i, m := range models {
					if _, errs := m.Decide(facts, nil, states[i], at); len(errs) > 0 {
						failed = errs
					}
				}
				n++
			}
		}
		return micros(processCPU()-cpu, n), errors.Join(failed...)
	}
	b.result.Rules.Models = len(all)
	var oneErr, allErr error
	b.result.Rules.OneUs, oneErr = per(one)
	b.result.Rules.AllUs, allErr = per(all)
	b.o.Say("deciding one customer: %.1f µs by clc, %.1f µs by %d models", b.result.Rules.OneUs, b.result.Rules.AllUs, len(all))
	return errors.Join(oneErr, allErr)
}
