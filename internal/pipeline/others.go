package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/identity"
)

// What one customer's rules know of others comes to them as events of the hub's own: never by a look at the other's row, so
// that a decision depends on the customer's events alone and can be repeated. An own event is addressed to an identifier,
// waits in the outbox, and is applied like any other. A program whose models ask nothing about others makes none.
//
// Who is told of whom:
//
//   - who recommended somebody (referral.made with whom, or referral.accepted with by whom, on either of the two), of her stages;
//   - who belongs to a company (company.joined, until company.left), of the company's stages;
//   - who has the address, phone, e-mail address or device of another, of having it.
const (
	// maxFollowers bounds how many are told of one person: the members of a company, in order of joining.
	maxFollowers = 1000
	// maxHops bounds how long a move can lead to another's move that leads back: two who recommended each other.
	maxHops = 8
)

// follower is somebody who is told where a person stands.
type follower struct {
	to     hub.Identifier
	since  time.Time
	kind   string // of the events that tell
	id, of string // what the person is called in them, and in which system
}

// wants reports whether a model asks for something about others.
func (g *goes) wants(needs expression.Needs) bool {
	return g.p.Encode != nil && g.program.needs&needs != 0
}

const aboutOthers = expression.NeedsReferrals | expression.NeedsCompanies

// followers returns who is told of a person.
func (g *goes) followers(m *mind, facts *fact.Facts) []follower {
	var out []follower
	own := map[string]bool{}
	add := func(f follower, mention, connection string) {
		to, ok := hub.ParseMention(mention, connection)
		if !ok || own[f.kind+to.Key()] || len(out) >= maxFollowers {
			return
		}
		own[f.kind+to.Key()] = true
		f.to = to
		out = append(out, f)
	}
	if g.program.needs.Has(expression.NeedsReferrals) {
		for _, id := range m.Identifiers() { // nobody recommends herself
			own[hub.KindReferredMoved+id.Key()] = true
		}
		for _, e := range facts.Kind("referral.accepted") {
			referrer, _ := e.Text("referrer")
			add(follower{since: e.At(), kind: hub.KindReferredMoved, id: m.ID}, referrer, e.Connection)
		}
	}
	if g.program.needs.Has(expression.NeedsCompanies) {
		left := map[string]int64{}
		for _, e := range facts.Kind(hub.KindMemberLeft) {
			member, _ := e.Text("member")
			left[member] = e.Millis()
		}
		for _, e := range facts.Kind(hub.KindMemberJoined) {
			member, _ := e.Text("member")
			if at, ok := left[member]; ok && at >= e.Millis() {
				continue
			}
			f := follower{since: e.At(), kind: hub.KindCompanyMoved}
			f.id, _ = e.Text("id")
			f.of, _ = e.Text("of")
			add(f, member, "")
		}
	}
	return out
}

// tellMoves tells followers of the moves of a go. ev is what caused it, nil for silence.
func (g *goes) tellMoves(m *mind, ev *hub.Event, moves []hub.Transition) error {
	if len(moves) == 0 || !g.wants(aboutOthers) {
		return nil
	}
	facts, err := m.all()
	if err != nil {
		return err
	}
	hops := hopsOf(ev)
	if hops > maxHops {
		g.p.Log.Warn("customers who decide by each other's stages go round in a circle: no more is told", "customer_id", m.ID)
		return nil
	}
	for _, f := range g.followers(m, facts) {
		for i := range moves {
			if t := &moves[i]; !t.Passing && t.Subject.Kind != hub.SubjectDeal {
				if err := g.tellStage(m, f, t.Model, t.To, t.At, t.Sequence, hops); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func hopsOf(ev *hub.Event) int {
	if ev == nil {
		return 0
	}
	if n, ok := ev.Properties["hops"].(float64); ok && ev.Connection == hub.OwnConnection {
		return int(n) + 1
	}
	return 0
}

// introduce tells followers where a person stands in all models. What they know already they know by the same event.
func (g *goes) introduce(m *mind, ev *hub.Event) error {
	facts, err := m.all()
	if err != nil {
		return err
	}
	for _, f := range g.followers(m, facts) {
		for _, s := range m.stages {
			if s.at.deal != "" {
				continue
			}
			if err := g.tellStage(m, f, s.at.model, s.Stage, s.Since, m.Sequence, hopsOf(ev)); err != nil {
				return err
			}
		}
	}
	return nil
}

// tellStage tells a follower that a person is in a stage since an instant.
func (g *goes) tellStage(m *mind, f follower, model, stage string, since time.Time, sequence int64, hops int) error {
	properties := map[string]any{"id": f.id, "model": model, "stage": stage, "n": float64(sequence), "hops": float64(hops)}
	if f.of != "" {
		properties["of"] = f.of
	}
	if f.kind == hub.KindReferredMoved {
		properties["created"] = m.FirstEventAt
	}
	id := hub.DeriveID(hub.PrefixEvent, hub.OwnConnection, f.kind, f.to.Key(), f.of, f.id, model, stage, strconv.FormatInt(since.UnixMilli(), 10))
	return g.tell(id, f.kind, f.to, maxTime(since, f.since), properties)
}

// tell puts an own event for whoever has the identifier into the outbox.
func (g *goes) tell(id, kind string, to hub.Identifier, at time.Time, properties map[string]any) error {
	ev := hub.Event{
		ID: id, Kind: kind, Connection: hub.OwnConnection, OccurredAt: at.UTC().Truncate(hub.Resolution), OccurredBy: hub.OccurredFact,
		ReceivedAt: g.now, Identifiers: []hub.Identifier{to}, Properties: properties,
	}
	body, err := g.p.Encode(&ev)
	if err != nil {
		return fmt.Errorf("own event %s: %w", kind, err)
	}
	g.changes.Outbox = append(g.changes.Outbox, hub.OutboxRecord{
		ID: id, Kind: hub.OutboxOwn, Subject: "events.own", Body: body, CreatedAt: g.now,
	})
	return nil
}

// tellOthers tells whoever an event links a person to, and, after a merge, those who were told of the one who is gone.
func (g *goes) tellOthers(m *mind, ev *hub.Event, absorbed []*identity.Person) error {
	if !g.wants(aboutOthers) {
		return nil
	}
	text := func(name string) string { s, _ := ev.Properties[name].(string); return s }
	linked, err := g.link(m, ev.Kind, ev.ID, ev.Connection, ev.OccurredAt, text)
	if err != nil {
		return err
	}
	if !linked && len(absorbed) == 0 {
		return nil
	}
	facts, err := m.all()
	if err != nil {
		return err
	}
	for _, gone := range absorbed {
		for _, f := range g.followers(m, facts) {
			if f.kind != hub.KindReferredMoved {
				continue
			}
			id := hub.DeriveID(hub.PrefixEvent, hub.OwnConnection, "merged", f.to.Key(), gone.ID, m.ID)
			properties := map[string]any{"id": gone.ID, "into": m.ID, "n": float64(m.Sequence), "hops": float64(hopsOf(ev))}
			if err := g.tell(id, f.kind, f.to, maxTime(ev.OccurredAt, f.since), properties); err != nil {
				return err
			}
		}
	}
	return g.introduce(m, ev)
}

// link tells the other end of a link that an event makes. It reports whether the person is now told of to somebody.
func (g *goes) link(m *mind, kind, eventID, connection string, at time.Time, text func(string) string) (linked bool, err error) {
	to, ok := hub.Identifier{}, false
	told, properties := "", map[string]any{}
	switch kind {
	case "referral.accepted", hub.KindMemberJoined:
		return true, nil
	case "referral.made":
		if g.program.needs.Has(expression.NeedsReferrals) {
			to, ok = hub.ParseMention(text("referred"), connection)
			told, properties["referrer"] = "referral.accepted", mention(m)
		}
	case "company.joined", "company.left":
		id := text("id")
		if id == "" || !g.program.needs.Has(expression.NeedsCompanies) {
			return false, nil
		}
		record := text("record")
		if record == "" {
			record = "company:" + id
		}
		to, ok = hub.ParseMention(record, connection)
		properties["member"], properties["id"], properties["of"] = mention(m), id, connection
		if told = hub.KindMemberJoined; kind == "company.left" {
			told = hub.KindMemberLeft
		}
	}
	if !ok || mention(m) == "" {
		return false, nil
	}
	for _, id := range m.Identifiers() {
		if id.Key() == to.Key() {
			return false, nil
		}
	}
	return false, g.tell(hub.DeriveID(hub.PrefixEvent, hub.OwnConnection, told, eventID), told, to, at, properties)
}

// retell tells all that others are to know of a person, under a program that may be the first to ask.
func (g *goes) retell(ctx context.Context, m *mind) error {
	if err := g.share(ctx, m, nil); err != nil {
		return err
	}
	if !g.wants(aboutOthers) {
		return nil
	}
	facts, err := m.all()
	if err != nil {
		return err
	}
	for _, kind := range []string{"referral.made", "company.joined", "company.left"} {
		for _, e := range facts.Kind(kind) {
			text := func(name string) string { s, _ := e.Text(name); return s }
			if _, err := g.link(m, kind, e.ID, e.Connection, e.At(), text); err != nil {
				return err
			}
		}
	}
	return g.introduce(m, nil)
}

// mention returns the text by which own events name a person (hub.ParseMention): her best strong identifier, "" without one.
func mention(m *mind) string {
	best, rank := "", 0
	for _, id := range m.Identifiers() {
		r := 1
		switch {
		case id.Weak:
			continue
		case id.Kind == hub.IdentifierEmail:
			r = 4
		case id.Kind == hub.IdentifierPhone:
			r = 3
		case id.Record:
			r = 2
		}
		if r > rank {
			best, rank = id.Mention(), r
		}
	}
	return best
}

// share tells who has the same address, phone, e-mail address or device as a person, after an event that may have changed hers; nil
// looks at all of them.
func (g *goes) share(ctx context.Context, m *mind, ev *hub.Event) error {
	if !g.wants(expression.NeedsSharing) || (ev != nil && ev.Connection == hub.OwnConnection) {
		return nil
	}
	facts, err := m.all()
	if err != nil {
		return err
	}
	for _, what := range expression.Shareable {
		if ev != nil && len(m.absorbed) == 0 && !brings(ev, what) {
			continue
		}
		told, err := g.tx.Share(ctx, hub.Sharing{CustomerID: m.ID, Mention: mention(m), Absorbed: m.absorbed, What: what, Values: sharable(m, facts, what)})
		if err != nil {
			return fmt.Errorf("shared %s: %w", what, err)
		}
		at, cause := m.DecidedAt, "publish"
		if ev != nil {
			at, cause = ev.OccurredAt, ev.ID
		}
		for _, other := range told {
			to, ok := hub.ParseMention(other.Mention, "")
			if !ok {
				continue // known by a browser alone: nothing can be addressed there
			}
			id := hub.DeriveID(hub.PrefixEvent, hub.OwnConnection, "shared", what, other.CustomerID, strconv.Itoa(other.Others), cause)
			properties := map[string]any{"what": what, "others": float64(other.Others)}
			if err := g.tell(id, hub.KindIdentityShared, to, at, properties); err != nil {
				return err
			}
		}
	}
	return nil
}

// brings reports whether an event can change what a person has of one sort.
func brings(ev *hub.Event, what string) bool {
	if slices.ContainsFunc(ev.Traits, func(t hub.Trait) bool { return t.Name == what }) {
		return true
	}
	return slices.ContainsFunc(ev.Identifiers, func(id hub.Identifier) bool { return id.Kind == what || (what == "device" && id.Weak) })
}

// sharable returns what a person has of one sort, at most a few dozen, written so that what is the same is equal.
func sharable(m *mind, facts *fact.Facts, what string) []string {
	const most = 50
	var values []string
	if text := facts.Text(what); what != "device" && text != "" {
		values = append(values, normal(what, text))
	}
	for _, id := range m.Identifiers() {
		if len(values) < most && (id.Kind == what || (what == "device" && id.Weak)) {
			values = append(values, normal(what, id.Value)+id.Connection)
		}
	}
	return slices.DeleteFunc(values, func(v string) bool { return v == "" })
}

// normal leaves of an address its letters and digits; too few of them say nothing.
func normal(what, text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	if what != "address" {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			b.WriteRune(r)
		}
	}
	if b.Len() < 6 {
		return ""
	}
	return b.String()
}
