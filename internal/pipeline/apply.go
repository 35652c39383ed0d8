package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/identity"
)

// maxFrameFailures is how often a frame may fail as a whole before its records are tried one by one.
const maxFrameFailures = 3

// Apply folds a frame of events into their customers and records what follows from them. Everything is written by one
// transaction, so a crash at any line leaves all or nothing; applying a frame twice changes nothing. A nil error means
// the frame is committed and may be acked. A frame that keeps failing is applied record by record, and the records that
// fail become dead letters; what is wrong with the store itself (hub.ErrTransient) only ever delays.
func (p *Pipeline) Apply(ctx context.Context, frame hub.EventFrame) error {
	key := frameKey{frame.Incarnation, frame.Partition, frame.First}
	cursor := hub.Cursor{Incarnation: frame.Incarnation, Partition: frame.Partition, Seq: frame.Seq, After: frame.After}
	err := p.applyOnce(ctx, frame.Events, &cursor, nil, frame.Written)
	if err == nil || ctx.Err() != nil || errors.Is(err, hub.ErrTransient) {
		if err == nil {
			p.forgive(key)
		}
		return err
	}
	if p.blame(key) <= maxFrameFailures {
		return err
	}
	var dead []hub.DeadLetter
	for i := range frame.Events {
		ev := &frame.Events[i]
		err := p.applyOnce(ctx, frame.Events[i:i+1], nil, nil, nil)
		switch {
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, hub.ErrTransient):
			return err
		default:
			p.metrics.dead.WithLabelValues(ev.Connection).Inc()
			p.Log.Error("event not applied", "event_id", ev.ID, "connection", ev.Connection, "kind", ev.Kind, "error", err)
			dead = append(dead, hub.DeadLetter{
				ID: hub.DeriveID(hub.PrefixDeadLetter, "event", ev.ID), Of: "event", Ref: ev.ID, At: p.Now(),
				Reason: err.Error(), Place: fmt.Sprintf("events.%d %d/%d", frame.Partition, frame.Seq, i), Attempts: maxFrameFailures + 1,
			})
		}
	}
	if err := p.applyOnce(ctx, nil, &cursor, dead, nil); err != nil {
		return err
	}
	p.forgive(key)
	return nil
}

func (p *Pipeline) blame(key frameKey) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures[key]++
	return p.failures[key]
}

func (p *Pipeline) forgive(key frameKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failures, key)
}

// applyOnce is one transaction. Without a cursor the ledger alone keeps it from being applied twice. written is called before the commit.
func (p *Pipeline) applyOnce(ctx context.Context, events []hub.Event, cursor *hub.Cursor, dead []hub.DeadLetter, written func()) error {
	var done *goes
	err := p.Store.Apply(ctx, func(ctx context.Context, tx hub.Tx) error {
		done = nil
		if cursor != nil {
			fresh, err := tx.Advance(ctx, *cursor)
			if err != nil {
				return fmt.Errorf("cursor: %w", err)
			}
			if !fresh {
				return nil
			}
		}
		g, err := p.begin(ctx, tx)
		if err != nil {
			return err
		}
		g.changes.DeadLetters = dead
		if err := g.events(ctx, events); err != nil {
			return err
		}
		if err := tx.Save(ctx, g.finish()); err != nil {
			return fmt.Errorf("save: %w", err)
		}
		done = g
		if written != nil {
			written()
		}
		return nil
	})
	if err == nil && done != nil {
		done.report()
	}
	return err
}

// goes is the work of one transaction.
type goes struct {
	p        *Pipeline
	tx       hub.Tx
	program  *Program
	scores   Scores
	rescored bool // whoever stands in a model that reads scores is decided, whatever the version
	horizons map[string]hub.Horizon
	now      time.Time // wire time of the transaction
	people   *identity.People
	minds    map[*identity.Person]*mind
	order    []*mind
	changes  hub.Changes
	desired  map[string]*hub.Desired // slots touched, as they will be
	seen     []Observation
	tally    tally
	// inherited: in which models the survivor of each merged customer stands where that one stood.
	inherited map[string][]string

	// Room that one event after the other uses: what is made in it is copied out, or not needed any more, before it is used again.
	data, envelope []byte            // see letter
	names          map[string]string // see stageNames
	moves          []hub.Transition  // of the present go, which is one customer's
}

func (p *Pipeline) begin(ctx context.Context, tx hub.Tx) (*goes, error) {
	program := p.Program()
	if program == nil {
		return nil, fmt.Errorf("no model set is in use: %w", hub.ErrTransient)
	}
	version, scored, err := tx.ActiveVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("active version: %w", err)
	}
	if version != program.Number {
		return nil, fmt.Errorf("model set %d is published, this process has compiled %d: %w", version, program.Number, hub.ErrTransient)
	}
	scores := p.scored()
	if scores.Version != scored && program.readsScores {
		return nil, fmt.Errorf("scores %d are in force, this process has %d: %w", scored, scores.Version, hub.ErrTransient)
	}
	horizons, err := tx.Horizons(ctx)
	if err != nil {
		return nil, fmt.Errorf("horizons: %w", err)
	}
	return &goes{
		p: p, tx: tx, program: program, scores: scores, horizons: horizons, now: p.Now(),
		minds: map[*identity.Person]*mind{}, desired: map[string]*hub.Desired{}, inherited: map[string][]string{}, names: map[string]string{},
	}, nil
}

// events applies what the ledger does not know yet, in the order in which it occurred.
func (g *goes) events(ctx context.Context, frame []hub.Event) error {
	if len(frame) == 0 {
		return nil
	}
	fresh, known, err := g.fresh(ctx, frame)
	if err != nil {
		return err
	}
	old := make([]string, 0, len(known))
	for _, entry := range known {
		if entry.ProfileID != "" {
			old = append(old, entry.ProfileID)
		}
	}
	if g.people, err = identity.Load(ctx, g.tx, fresh, old); err != nil {
		return err
	}
	g.changes.Ledger = slices.Grow(g.changes.Ledger, len(fresh))
	if len(g.program.Subscriptions) > 0 { // likely
		g.changes.Deliveries, g.changes.Outbox = slices.Grow(g.changes.Deliveries, len(fresh)), slices.Grow(g.changes.Outbox, len(fresh))
	}
	for _, ev := range fresh {
		entry, had := known[ev.ID]
		if err := g.event(ctx, ev, entry, had); err != nil {
			return fmt.Errorf("event %s (%s): %w", ev.ID, ev.Kind, err)
		}
	}
	return nil
}

// fresh returns the events whose version the ledger does not have, the newest version of each id, by occurred_at and id.
func (g *goes) fresh(ctx context.Context, frame []hub.Event) ([]*hub.Event, map[string]hub.LedgerEntry, error) {
	ids := make([]string, len(frame))
	for i := range frame {
		ids[i] = frame[i].ID
	}
	known, err := g.tx.Ledger(ctx, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: %w", err)
	}
	at := make(map[string]int, len(frame))
	fresh := make([]*hub.Event, 0, len(frame))
	for i := range frame {
		ev := &frame[i]
		if entry, ok := known[ev.ID]; ok && !ev.Version.After(entry.Version) {
			g.tally.duplicate(ev.Connection)
			continue
		}
		if j, ok := at[ev.ID]; ok {
			g.tally.duplicate(ev.Connection)
			if ev.Version.After(fresh[j].Version) {
				fresh[j] = ev
			}
			continue
		}
		at[ev.ID] = len(fresh)
		fresh = append(fresh, ev)
	}
	slices.SortStableFunc(fresh, func(a, b *hub.Event) int {
		if d := a.OccurredAt.Compare(b.OccurredAt); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return fresh, known, nil
}

// event applies one event: resolve, fold, decide, and what follows.
func (g *goes) event(ctx context.Context, ev *hub.Event, entry hub.LedgerEntry, had bool) error {
	g.tally.event(ev.Connection, ev.Kind)
	record := hub.LedgerRecord{Event: *ev}
	var older *mind // whoever had the version that this one replaces
	if had && entry.ProfileID != "" {
		if person := g.people.OfProfile(entry.ProfileID); person != nil {
			older = g.mind(person)
		}
	}
	if ev.Withdrawn {
		record.ProfileID = entry.ProfileID
		if older != nil {
			if err := g.unfold(ev, older, entry.ProfileID, &record); err != nil {
				return err
			}
			if err := g.decideLate(ctx, older, ev, hub.Cause{Type: hub.CauseLate, ID: ev.ID}); err != nil {
				return err
			}
		}
		g.changes.Ledger = append(g.changes.Ledger, record)
		return nil
	}
	resolved := g.people.Of(ev, g.now)
	g.closeTask(ev, resolved)
	if resolved == nil { // names nobody: kept, decides nothing
		g.changes.Ledger = append(g.changes.Ledger, record)
		return nil
	}
	if resolved.Refused != "" {
		g.p.Log.Warn("merge refused: too many profiles share an identifier", "event_id", ev.ID,
			"customer_id", resolved.Person.ID, "identifier_kind", resolved.Refused)
	}
	m := g.mind(resolved.Person)
	for _, absorbed := range resolved.Absorbed {
		g.absorb(m, absorbed)
	}
	record.ProfileID, record.CustomerID = resolved.Profile, m.ID
	echo, err := g.isEcho(ctx, ev)
	if err != nil {
		return err
	}
	if had && entry.ProfileID != "" && entry.ProfileID != resolved.Profile && older != nil {
		if err := older.remove(entry.ProfileID, ev.ID); err != nil {
			return err
		}
	}
	g.recognise(m, ev)
	m.raise()
	record.KnownFrom = m.Sequence
	g.changes.Ledger = append(g.changes.Ledger, record)
	if ev.OccurredAt.Before(m.FirstEventAt) {
		m.FirstEventAt = ev.OccurredAt
		m.Dirty = true
	}
	if echo {
		g.tally.echo(ev.Connection)
		g.observe(Observation{Event: ev, Customer: m.CustomerRecord, Echo: true})
		if len(resolved.Absorbed) > 0 { // what both brought together may say something else, whoever wrote it
			if err := g.decideLate(ctx, m, ev, hub.Cause{Type: hub.CauseMerge, ID: ev.ID}); err != nil {
				return err
			}
		}
		return g.afterResolve(ctx, m, ev, resolved)
	}
	if err := g.decideEvent(ctx, m, ev, resolved.Profile, had, len(resolved.Absorbed) > 0); err != nil {
		return err
	}
	return g.afterResolve(ctx, m, ev, resolved)
}

// closeTask frees the key of a task of ours that somebody has done: by our reference where the vendor tells it, else by the
// vendor's id.
func (g *goes) closeTask(ev *hub.Event, resolved *identity.Resolved) {
	switch ev.Kind {
	case "task.completed", "ticket.solved", "ticket.deleted":
	default:
		return
	}
	done := hub.Closed{Destination: ev.Connection}
	done.Reference, _ = ev.Properties["reference"].(string)
	done.ExternalID, _ = ev.Properties["id"].(string)
	if resolved != nil {
		done.CustomerID = resolved.Person.ID
	}
	if strings.HasPrefix(done.Reference, hub.PrefixDelivery) || (done.CustomerID != "" && done.ExternalID != "") {
		if !strings.HasPrefix(done.Reference, hub.PrefixDelivery) {
			done.Reference = ""
		}
		g.changes.Closed = append(g.changes.Closed, done)
	}
}

// unfold takes a withdrawn event out of its profile.
func (g *goes) unfold(ev *hub.Event, m *mind, profileID string, record *hub.LedgerRecord) error {
	m.raise()
	record.CustomerID, record.KnownFrom = m.ID, m.Sequence
	return m.remove(profileID, ev.ID)
}

// isEcho tells whether the event is our own write coming back, by the vendor's mark or by the journal.
func (g *goes) isEcho(ctx context.Context, ev *hub.Event) (bool, error) {
	if ev.Echo {
		return true, nil
	}
	if ev.Written == nil {
		return false, nil
	}
	echo, err := g.tx.ConsumeEcho(ctx, ev.Connection, *ev.Written, ev.ReceivedAt)
	if err != nil {
		return false, fmt.Errorf("echo journal: %w", err)
	}
	return echo, nil
}

// finish gathers everything that was touched.
func (g *goes) finish() *hub.Changes {
	c := &g.changes
	if g.people != nil {
		c.Identifiers = g.people.Identifiers()
		c.Merges = g.people.Merges()
		for i := range c.Merges {
			c.Merges[i].Inherited = g.inherited[c.Merges[i].From]
		}
	}
	for _, m := range g.order {
		m.encode()
	}
	merged := map[string]bool{}
	if g.people != nil {
		all := g.people.All()
		c.Customers, c.Profiles = slices.Grow(c.Customers, len(all)), slices.Grow(c.Profiles, len(all))
		for _, person := range all {
			if person.MergedInto != "" {
				merged[person.ID] = true
			}
			if !person.Dirty {
				continue
			}
			person.UpdatedAt = g.now
			c.Customers = append(c.Customers, person.CustomerRecord)
			c.Profiles = person.AppendChanged(c.Profiles)
		}
		c.Stages = g.changedStages()
	}
	slots := make([]string, 0, len(g.desired))
	for slot := range g.desired {
		slots = append(slots, slot)
	}
	slices.Sort(slots)
	for _, slot := range slots {
		if d := g.desired[slot]; d != nil && d.UpdatedAt.Equal(g.now) && !merged[d.CustomerID] {
			c.Desired = append(c.Desired, *d)
		}
	}
	return c
}

func (g *goes) observe(o Observation) {
	if g.p.Observe != nil {
		ev := *o.Event
		o.Event = &ev
		record := *o.Customer
		o.Customer = &record
		g.seen = append(g.seen, o)
	}
}

// report counts and tells what was committed.
func (g *goes) report() {
	g.p.metrics.add(&g.tally)
	if to := g.owedTo(); g.p.Written != nil && (len(to) > 0 || len(g.changes.Outbox) > 0) {
		g.p.Written(to, g.changes.Outbox)
	}
	for _, t := range g.changes.Transitions {
		g.p.Log.Debug("stage", "customer_id", t.CustomerID, "model", t.Model, "from", t.From, "to", t.To, "cause", t.Cause.Type, "at", t.At)
	}
	if g.p.Observe != nil {
		for _, o := range g.seen {
			g.p.Observe(o)
		}
	}
}

// owedTo returns the destinations of the deliveries that were made due.
func (g *goes) owedTo() []string {
	var to []string
	add := func(destination string) {
		if !slices.Contains(to, destination) {
			to = append(to, destination)
		}
	}
	for i := range g.changes.Deliveries {
		if d := &g.changes.Deliveries[i]; d.State == hub.DeliveryDue {
			add(d.Destination)
		}
	}
	for _, w := range g.changes.Woken {
		add(w.Destination)
	}
	return to
}
