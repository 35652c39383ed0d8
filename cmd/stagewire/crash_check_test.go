package main

import (
	"cmp"
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/sandbox"
	"github.com/stagewire/stagewire/rules"
)

// history is what a stopped hub's database says happened, read past the hub's own code.
type history struct {
	events      map[string]applied
	transitions map[string][]hub.Transition // by surviving customer, in order of sequence
	merged      map[string]string
}

// applied is a row of the ledger.
type applied struct {
	id, customer string
	sequence     int64
	occurred     time.Time
}

// readHistory reads the tables of a hub that has stopped.
func (w *world) readHistory() *history {
	w.Helper()
	driver, source := "sqlite", "file:"+filepath.Join(w.data(), "stagewire.db")+"?mode=ro"
	if w.settings.database != "" {
		driver, source = "pgx", w.settings.database
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		w.Fatal(err)
	}
	defer db.Close()
	query := func(text string, each func(*sql.Rows) error) {
		w.Helper()
		rows, err := db.QueryContext(w.Context(), text)
		if err != nil {
			w.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows); err != nil {
				w.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil {
			w.Fatal(err)
		}
	}
	h := &history{events: map[string]applied{}, transitions: map[string][]hub.Transition{}, merged: map[string]string{}}
	query("SELECT id, merged_into FROM customers WHERE merged_into <> ''", func(r *sql.Rows) error {
		var from, into string
		err := r.Scan(&from, &into)
		h.merged[from] = into
		return err
	})
	query("SELECT id, customer_id, known_from, occurred_at FROM events WHERE known_until IS NULL AND withdrawn = 0", func(r *sql.Rows) error {
		var a applied
		var occurred int64
		err := r.Scan(&a.id, &a.customer, &a.sequence, &occurred)
		a.customer, a.occurred = h.survivor(a.customer), time.UnixMicro(occurred).UTC()
		if _, twice := h.events[a.id]; twice {
			w.Errorf("event %s is there twice", a.id)
		}
		h.events[a.id] = a
		return err
	})
	query("SELECT id, subject_kind, subject_id, model, from_stage, to_stage, at, decided_at, sequence, cause_type, cause_id, passing FROM transitions ORDER BY sequence, no", func(r *sql.Rows) error {
		var t hub.Transition
		var kind string
		var at, decided, passing int64
		err := r.Scan(&t.ID, &kind, &t.Subject.ID, &t.Model, &t.From, &t.To, &at, &decided, &t.Sequence, &t.Cause.Type, &t.Cause.ID, &passing)
		t.Subject.Kind, t.At, t.DecidedAt, t.Passing = hub.SubjectKind(kind), time.UnixMicro(at).UTC(), time.UnixMicro(decided).UTC(), passing != 0
		customer := h.survivor(t.Subject.ID)
		h.transitions[customer] = append(h.transitions[customer], t)
		return err
	})
	return h
}

func (h *history) survivor(id string) string {
	for h.merged[id] != "" {
		id = h.merged[id]
	}
	return id
}

// shippedModel compiles clc as the hub has it.
func shippedModel(t *testing.T, params map[string]string) *lifecycle.Model {
	t.Helper()
	text, ok := rules.Text("clc")
	if !ok {
		t.Fatal("clc is not shipped")
	}
	model, err := lifecycle.Compile("clc.yaml", text, lifecycle.Env{Params: params})
	if err != nil {
		t.Fatal(err)
	}
	return model
}

// stageOf is where the orders alone put a customer.
func stageOf(model *lifecycle.Model, list []sandbox.LoadedOrder, at time.Time) string {
	var profile fact.Profile
	for _, o := range list {
		profile.Put(&hub.Event{ID: eventOf(o), Kind: "order.paid", Connection: "shop", OccurredAt: o.OccurredAt, Properties: map[string]any{"id": o.OrderID}})
	}
	state, _ := model.Decide(fact.Union(&profile), nil, model.Initial(list[0].OccurredAt.Add(-time.Millisecond)), at)
	return state.Stage
}

// pathOf is the way of somebody with that many orders: the stage entered with the n-th.
func pathOf(orders int) map[int]string {
	path := map[int]string{}
	for n, stage := range map[int]string{1: "new", 2: "active", 5: "loyal"} {
		if n <= orders {
			path[n] = stage
		}
	}
	return path
}

// customerOf is the id of a customer whose first profile is the shop's.
func customerOf(shopID string) string {
	key := hub.Identifier{Kind: "shopify_customer", Connection: "shop", Value: shopID}.Key()
	return hub.DeriveID(hub.PrefixCustomer, hub.DeriveID(hub.PrefixProfile, "shop", key))
}

// compare holds what the hub came to against what the acknowledged orders say.
func (c *crash) compare() {
	c.Helper()
	h, model := c.readHistory(), shippedModel(c.T, nil)
	s := c.open()
	defer s.Close()
	if len(c.orders.lost) > 0 {
		c.Errorf("%d orders were never acknowledged: %+v", len(c.orders.lost), c.orders.lost[0])
	}
	dead, _, err := s.DeadLetters(c.Context(), hub.Page{Limit: 5})
	if err != nil || len(dead) > 0 {
		c.Errorf("dead letters: %v %+v", err, dead)
	}

	customers := c.orders.byCustomer()
	received := c.receiver.Received()
	state := c.sandbox.State()
	expected := map[string]bool{} // ids of callbacks
	stages, late := map[string]int{}, 0
	for _, email := range slices.Sorted(maps.Keys(customers)) {
		list := customers[email]
		var known []applied
		for _, o := range list {
			expected[eventOf(o)] = true
			a, ok := h.events[eventOf(o)]
			if !ok {
				c.fault("lost", "order %s of %s was acknowledged and is no event", o.OrderID, email)
				continue
			}
			if !a.occurred.Equal(o.OccurredAt) {
				c.fault("time", "order %s occurred at %v, the event says %v", o.OrderID, o.OccurredAt, a.occurred)
			}
			known = append(known, a)
		}
		found, _, err := s.Customers(c.Context(), hub.CustomerQuery{Email: email})
		if err != nil || len(found) != 1 {
			c.fault("customer", "%s: %d customers, %v", email, len(found), err)
			continue
		}
		rec, err := s.Customer(c.Context(), found[0].ID)
		if err != nil {
			c.Error(err)
			continue
		}
		stage, has := stageOf(model, list, time.Now()), ""
		for _, st := range rec.Stages {
			if st.Model == "clc" {
				has = st.Stage
			}
		}
		if has != stage {
			c.fault("stage", "%s is %s, her %d orders say %s", email, has, len(list), stage)
		}
		stages[stage]++
		late += c.compareMoves(h, rec, list, known, received, expected, state)
		c.compareFields(email, stage, state)
	}
	c.compareCallbacks(received, expected)
	if len(c.wrong) > 0 {
		c.Logf("wrong: %v", c.wrong)
	}
	verified, duplicates, forged := c.receiver.Counts()
	c.Logf("%d customers %v, %d orders, %d moves by late orders; callbacks: %d received, %d of them again, %d forged", len(customers), stages, c.orders.count(), late, verified, duplicates, forged)
	if forged > 0 {
		c.Errorf("%d callbacks do not verify", forged)
	}
}

// compareMoves holds a customer's transitions against her orders in the order in which they became known, which is recorded; who was
// late and when that was decided is recorded too, everything else follows. It returns how many moves late orders made.
func (c *crash) compareMoves(h *history, rec *hub.CustomerRecord, list []sandbox.LoadedOrder, known []applied, received map[string]app.Callback, expected map[string]bool, state sandbox.State) int {
	c.Helper()
	who, path, late := list[0].Email, pathOf(len(known)), 0
	slices.SortFunc(known, func(a, b applied) int { return cmp.Compare(a.sequence, b.sequence) })
	for _, a := range known {
		if a.customer != rec.ID {
			c.fault("customer", "%s: event %s is with customer %s, she is %s", who, a.id, a.customer, rec.ID)
		}
	}
	moves := h.transitions[rec.ID]
	if len(moves) != len(path) {
		c.fault("moves", "%s: %d orders make %d moves, recorded are %+v", who, len(known), len(path), moves)
		return 0
	}
	from, before := "prospect", time.Time{}
	var task string
	for i, n := range slices.Sorted(maps.Keys(path)) {
		t, cause := moves[i], known[n-1]
		at := cause.occurred
		if before.After(at) {
			at = before
		}
		if t.Cause.Type == hub.CauseLate { // decided at the horizon: business now, if nothing waited
			late++
			if t.At.Before(at) || t.At.After(t.DecidedAt) {
				c.fault("late", "%s: a late move at %v, decided %v, not before %v", who, t.At, t.DecidedAt, at)
			}
			at = t.At
		} else if t.Cause.Type != hub.CauseEvent {
			c.fault("cause", "%s: a move because of %+v", who, t.Cause)
		}
		before = at
		id := hub.DeriveID(hub.PrefixTransition, "customer", customerOf(list[0].CustomerID), "clc", t.Cause.Type, cause.id, strconv.FormatInt(at.UnixMilli(), 10), path[n])
		expected[id] = true
		got := received[id]
		if t.ID != id || t.From != from || t.To != path[n] || t.Passing || got.From != from || got.To != path[n] || got.Subject != customerOf(list[0].CustomerID) {
			c.fault("move", "%s: order %d moves her from %s to %s at %v as %s; recorded is %+v, called back %+v", who, n, from, path[n], at, id, t, got)
		}
		if path[n] == "active" {
			task = hub.DeriveID(hub.PrefixDelivery, id, "care", "0", "crm")
		}
		from = path[n]
	}
	if c.settings.crm {
		c.compareTasks(who, task, state[sandbox.HubSpot])
	}
	return late
}

// compareTasks looks for the one task of a customer who became active, and for none of anybody else.
func (c *crash) compareTasks(who, reference string, crm sandbox.VendorState) {
	c.Helper()
	contact := ""
	for _, one := range crm.Customers {
		if one.Email == who {
			contact = one.ID
		}
	}
	var found []string
	for _, task := range crm.Tasks {
		if task.Customer == contact {
			found = append(found, task.Fields["stagewire_ref"])
		}
	}
	switch {
	case reference == "" && len(found) > 0:
		c.fault("task", "%s was never active and has tasks %v", who, found)
	case reference != "" && (len(found) != 1 || found[0] != reference):
		c.fault("task", "%s: tasks %v, want the one %s", who, found, reference)
	}
}

// compareFields looks at what the vendors hold.
func (c *crash) compareFields(who, stage string, state sandbox.State) {
	c.Helper()
	if !c.settings.crm {
		return
	}
	for _, one := range state[sandbox.Shopify].Customers {
		if one.Email == who && (len(one.Tags) != 1 || one.Tags[0] != "stage:"+stage) {
			c.fault("tags", "%s is %s, her tags are %v", who, stage, one.Tags)
		}
	}
	value := map[string]string{"active": "customer", "loyal": "evangelist"}[stage] // the hub learns of her contact with the task
	for _, one := range state[sandbox.HubSpot].Customers {
		if one.Email == who && value != "" && one.Fields["lifecyclestage"] != value {
			c.fault("field", "%s is %s, her lifecyclestage is %q", who, stage, one.Fields["lifecyclestage"])
		}
	}
}

// compareCallbacks holds the ids that came against those that should, and each customer's chain against itself.
func (c *crash) compareCallbacks(received map[string]app.Callback, expected map[string]bool) {
	c.Helper()
	var missing, surplus []string
	for id := range expected {
		if _, ok := received[id]; !ok {
			missing = append(missing, id)
		}
	}
	bySubject := map[string][]app.Callback{}
	for id, callback := range received {
		if !expected[id] {
			surplus = append(surplus, fmt.Sprintf("%+v", callback))
		}
		bySubject[callback.Subject] = append(bySubject[callback.Subject], callback)
	}
	if len(missing)+len(surplus) > 0 {
		c.Errorf("callbacks: %d expected, %d missing %v, %d surplus %v", len(expected), len(missing), missing[:min(3, len(missing))], len(surplus), surplus[:min(3, len(surplus))])
	}
	for subject, chain := range bySubject {
		slices.SortFunc(chain, func(a, b app.Callback) int { return strings.Compare(a.Sequence, b.Sequence) })
		previous, sequence := "", ""
		for _, one := range chain {
			if one.Previous != previous || one.Sequence <= sequence {
				c.fault("chain", "callbacks of %s: %s has sequence %s after %q and names %q as the one before, which is %q", subject, one.ID, one.Sequence, sequence, one.Previous, previous)
			}
			previous, sequence = one.ID, one.Sequence
		}
	}
}
