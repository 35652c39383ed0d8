package app

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/server"
	"github.com/stagewire/stagewire/rules"
)

// views answers what the API wants to know of facts and models.
type views struct{ *App }

// Customer tells what the facts of the customer say.
func (v views) Customer(_ context.Context, rec *hub.CustomerRecord) (server.CustomerView, error) {
	out := server.CustomerView{
		Traits: map[string]server.Trait{}, Consent: map[string]string{}, Facts: map[string]server.KindFacts{}, Labels: map[string]map[string]string{},
	}
	v.mu.RLock()
	compiled := v.compiled
	v.mu.RUnlock()
	labels := func(st *hub.StageRecord) map[string]string {
		for _, m := range compiled.models {
			if m.Name == st.Model {
				if stage := m.Stage(st.Stage); stage != nil {
					return stage.Labels
				}
			}
		}
		return nil
	}
	facts, err := factsOf(rec)
	if err != nil {
		return out, err
	}
	for i := range rec.Stages {
		switch st := &rec.Stages[i]; {
		case st.Subject.Kind == hub.SubjectDeal:
			out.Deals = withDeal(out.Deals, facts, st.Subject, st.Model, labels(st))
		case labels(st) != nil:
			out.Labels[st.Model] = labels(st)
		}
	}
	for name, t := range facts.Traits() {
		out.Traits[name] = server.Trait{Value: t.Value, Connection: t.Connection, At: server.Time(t.At)}
	}
	maps.Copy(out.Consent, facts.Consent())
	for kind, s := range facts.Summary() {
		sums := make([]server.Money, 0, len(s.Sum))
		for _, m := range s.Sum {
			sums = append(sums, server.Money{Amount: m.Amount.String(), Currency: m.Currency})
		}
		out.Facts[kind] = server.KindFacts{Count: s.Count, FirstAt: server.Time(s.FirstAt), LastAt: server.Time(s.LastAt), Sum: sums}
	}
	return out, nil
}

// withDeal adds the labels of a deal's stage in a model to the deals.
func withDeal(deals []server.Deal, facts *fact.Facts, subject hub.Subject, model string, labels map[string]string) []server.Deal {
	i := slices.IndexFunc(deals, func(d server.Deal) bool { return d.ID == subject.ID })
	if i < 0 {
		d := server.Deal{ID: subject.ID, Stages: map[string]server.Stage{}}
		if connection, id, ok := subject.Deal(); ok {
			deal := facts.Deal(connection, id).Subject()
			d.Name, _ = deal.Text("name")
			d.Open = deal.Open
		}
		i, deals = len(deals), append(deals, d)
	}
	deals[i].Stages[model] = server.Stage{Labels: labels}
	return deals
}

func factsOf(rec *hub.CustomerRecord) (*fact.Facts, error) {
	profiles := make([]*fact.Profile, 0, len(rec.Profiles))
	for _, p := range rec.Profiles {
		profile, err := fact.DecodeProfile(p.Facts)
		if err != nil {
			return nil, fmt.Errorf("facts of profile %s: %w", p.ID, err)
		}
		profiles = append(profiles, profile)
	}
	facts := fact.Union(profiles...)
	facts.Know(fact.Known{Identifiers: hub.UnionIdentifiers(rec.Profiles)})
	return facts, nil
}

// Models returns the models that decide, the newest draft's where it differs, and the shipped ones nobody uses.
func (v views) Models(ctx context.Context) ([]server.Model, error) {
	v.mu.RLock()
	compiled := v.compiled
	v.mu.RUnlock()
	failed := v.pipeline.Counts().Failed
	versions, err := v.store.Models(ctx)
	if err != nil {
		return nil, err
	}
	var out []server.Model
	seen := map[string]bool{}
	add := func(m *lifecycle.Model, version int, state, text string) {
		dependent, _ := m.PathDependent()
		info := server.Model{Name: m.Name, Version: version, State: state, Of: string(m.Of), PathDependent: dependent, ReadsScores: m.Needs().Has(expression.NeedsScores), Labels: m.Labels, Text: text}
		if state == hub.ModelActive {
			info.Failures = failed[m.Name]
		}
		for _, s := range m.Stages {
			info.Stages = append(info.Stages, server.ModelStage{Name: s.Name, Labels: s.Labels, Asks: s.Asks})
		}
		out = append(out, info)
		seen[m.Name] = true
	}
	for _, m := range compiled.models {
		for _, version := range versions {
			if version.Name == m.Name && version.State == hub.ModelActive {
				add(m, version.Version, hub.ModelActive, version.Text)
			}
		}
	}
	for _, version := range versions {
		active := func(v hub.ModelVersion) bool {
			return v.State == hub.ModelActive && v.Name == version.Name && v.Version == version.Version
		}
		if version.State != hub.ModelDraft || slices.ContainsFunc(versions, active) {
			continue
		}
		if m, err := lifecycle.Compile(version.Name, []byte(version.Text), lifecycle.Env{}); err == nil {
			add(m, version.Version, hub.ModelDraft, version.Text)
		}
	}
	for _, name := range rules.Names() {
		if seen[name] {
			continue
		}
		text, err := rules.FS.ReadFile(name + ".yaml")
		if err != nil {
			return nil, err
		}
		if m, err := lifecycle.Compile("rules/"+name+".yaml", text, lifecycle.Env{}); err == nil {
			add(m, 0, "shipped", string(text))
		}
	}
	return out, nil
}

// replayer runs stored webhooks through today's connectors.
type replayer struct{ *App }

// Replay normalizes the webhook again.
func (r replayer) Replay(ctx context.Context, id string) (hub.WebhookRecord, error) {
	rec, err := r.store.Webhook(ctx, id)
	if err != nil {
		return rec, err
	}
	w, err := r.bus.ReadWebhook(ctx, rec.Position)
	if err != nil {
		return rec, fmt.Errorf("the bytes of webhook %s: %w", id, err)
	}
	if _, _, err := r.pipeline.Replay(ctx, hub.StoredWebhook{Webhook: w, Position: rec.Position}, r.store, false); err != nil {
		return rec, err
	}
	return r.store.Webhook(ctx, id)
}

// setup is what the server needs of the present configuration.
func (a *App) setup() server.Setup {
	a.mu.RLock()
	defer a.mu.RUnlock()
	out := server.Setup{PublicURL: a.config.PublicURL, Kinds: hub.Catalogue.With(a.config.Kinds...)}
	for _, name := range a.registry.Names() {
		s, ok := a.registry.Lookup(name)
		if !ok {
			continue
		}
		out.Connections = append(out.Connections, server.Connected{Connection: s.Connection, Receiver: s.Connector, Activation: s.Activation})
	}
	for _, con := range a.set.All() {
		out.Connectors = append(out.Connectors, server.Describe(con))
	}
	return out
}
