package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/sandbox"
)

// Summary is what a quickstart came to (API.md).
type Summary struct {
	OK          bool                      `json:"ok"`
	Customers   int                       `json:"customers"`
	DurationMS  int64                     `json:"duration_ms"`
	Vendors     map[string]*VendorSummary `json:"vendors"`
	Transitions []hub.Transition          `json:"transitions"`
	Wakes       int                       `json:"wakes"`
	Callbacks   CallbackSummary           `json:"callbacks"`
	DeadLetters int                       `json:"dead_letters"`
	Checks      []Check                   `json:"checks"`
	Stages      []StageLine               `json:"stages"`
}

// VendorSummary is one vendor's part. What is found was looked for in the sandbox's own state.
type VendorSummary struct {
	WebhooksSent         int `json:"webhooks_sent"`
	Accepted             int `json:"accepted"`
	DuplicatesSuppressed int `json:"duplicates_suppressed"`
	Events               int `json:"events"`
	Echoes               int `json:"echoes"`
	StageChanges         int `json:"stage_changes"`
	UpdatesFound         int `json:"updates_found"`
	TasksFound           int `json:"tasks_found"`
	TicketsFound         int `json:"tickets_found"`
	TagsFound            int `json:"tags_found"`
}

// CallbackSummary counts callbacks as the receiver saw them.
type CallbackSummary struct {
	Sent       int `json:"sent"`
	Verified   int `json:"verified"`
	Duplicates int `json:"duplicates"`
}

// Check is one expected effect and whether it was observed.
type Check struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// StageLine is where a customer stands in the end, in one model.
type StageLine struct {
	Name  string `json:"name"`
	Model string `json:"model"`
	Email string `json:"email"`
	Stage string `json:"stage"`
	Label string `json:"label"`
	Path  string `json:"path"`
}

// summarize compares what should have happened with what the sandbox and the receiver hold.
func (q *quickstart) summarize(ctx context.Context, took time.Duration) (*Summary, error) {
	s := &Summary{OK: true, DurationMS: took.Milliseconds(), Vendors: map[string]*VendorSummary{}}
	check := func(name string, ok bool, expected, got any) {
		s.Checks = append(s.Checks, Check{name, ok, fmt.Sprint(expected), fmt.Sprint(got)})
		s.OK = s.OK && ok
	}
	equal := func(name string, expected, got any) {
		check(name, fmt.Sprint(expected) == fmt.Sprint(got), expected, got)
	}

	transitions, err := q.transitions(ctx)
	if err != nil {
		return nil, err
	}
	s.Transitions = transitions
	state := q.sandbox.State()
	counts := q.hub.pipeline.Counts()
	stats, err := q.hub.store.ConnectionStats(ctx)
	if err != nil {
		return nil, err
	}
	for vendor, connection := range quickstartConnections {
		sent := q.sandbox.Stats(vendor)
		v := &VendorSummary{
			WebhooksSent: sent.Sent + sent.Duplicates + sent.Retries, Accepted: sent.Accepted,
			// A whole webhook that came twice, or, where a vendor puts many facts into one request, a fact that did.
			DuplicatesSuppressed: max(sent.Accepted-int(stats[connection].Webhooks), counts.Duplicates[connection]),
			Events:               counts.Events[connection], Echoes: counts.Echoes[connection], StageChanges: counts.StageChanges[connection],
		}
		s.Vendors[vendor] = v
		equal(vendor+": every webhook accepted", v.WebhooksSent, v.Accepted)
		check(vendor+": each twin suppressed", v.DuplicatesSuppressed >= sent.Duplicates, fmt.Sprintf("at least %d", sent.Duplicates), v.DuplicatesSuppressed)
		equal(vendor+": webhooks lost", 0, sent.Lost)
	}
	checkCustomers := func() error { return q.checkCustomers(ctx, s, state, check, equal) }
	if q.expected != nil {
		checkCustomers = func() error { return q.checkExpected(ctx, s, equal) }
	}
	if err := checkCustomers(); err != nil {
		return nil, err
	}
	if err := q.checkTasks(ctx, s, state, equal); err != nil {
		return nil, err
	}
	q.checkCallbacks(s, check, equal)
	silent := 0
	for _, t := range transitions {
		if t.Cause.Type == hub.CauseWake {
			silent++
		}
	}
	s.Wakes = silent
	check("moves by silence alone", silent >= 1, "at least 1", silent)
	echoes, duplicates := 0, 0
	for _, v := range s.Vendors {
		echoes += v.Echoes
		duplicates += v.DuplicatesSuppressed
	}
	check("echoes of our own writes recognised", echoes >= 1, "at least 1", echoes)
	check("duplicates suppressed", duplicates >= 1, "at least 1", duplicates)
	pending, err := q.hub.store.Pending(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	s.DeadLetters = int(pending.Dead)
	equal("dead letters", 0, s.DeadLetters)
	return s, nil
}

func (q *quickstart) transitions(ctx context.Context) ([]hub.Transition, error) {
	var all []hub.Transition
	for cursor := ""; ; {
		list, next, err := q.hub.store.Transitions(ctx, hub.Page{Limit: 200, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if next == "" {
			break
		}
		cursor = next
	}
	slices.SortStableFunc(all, func(a, b hub.Transition) int {
		if d := a.At.Compare(b.At); d != 0 {
			return d
		}
		return cmp.Compare(a.Sequence, b.Sequence)
	})
	return all, nil
}

// checkCustomers compares stages and paths with the story's, and every vendor's field or tag with the stage.
func (q *quickstart) checkCustomers(ctx context.Context, s *Summary, state sandbox.State, check func(string, bool, any, any), equal func(string, any, any)) error {
	list, _, err := q.hub.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 200}})
	if err != nil {
		return err
	}
	s.Customers = len(list)
	expected := sandbox.QuickstartExpected()
	equal("customers", len(expected), len(list))
	program := q.hub.pipeline.Program()
	for _, want := range expected {
		found, _, err := q.hub.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 2}, Email: want.Email})
		if err != nil {
			return err
		}
		if len(found) != 1 {
			check(want.Name+" is one customer", false, 1, len(found))
			continue
		}
		rec, err := q.hub.store.Customer(ctx, found[0].ID)
		if err != nil {
			return err
		}
		stage := ""
		for _, st := range rec.Stages {
			if st.Model == "clc" {
				stage = st.Stage
			}
		}
		var path []string
		for _, t := range s.Transitions {
			if t.CustomerID == rec.ID && t.Model == "clc" {
				path = append(path, t.To)
			}
		}
		equal(want.Name+": stage", want.Stage, stage)
		equal(want.Name+": way", strings.Join(want.Path, " "), strings.Join(path, " "))
		label := stage
		if st := program.Models[0].Stage(stage); st != nil {
			label = st.Label("zh", "en")
		}
		s.Stages = append(s.Stages, StageLine{rec.Name, "clc", rec.Email, stage, label, strings.Join(append([]string{"prospect"}, path...), " → ")})
		for _, w := range program.Writes {
			vendor := vendorOf(w.Connection)
			if !slices.Contains(want.Vendors, vendor) {
				continue
			}
			value, _ := w.Value(stage)
			for _, c := range state[vendor].Customers {
				if c.Email != want.Email || c.Deleted || c.Kind == "lead" {
					continue
				}
				name := fmt.Sprintf("%s: %s shows it", want.Name, vendor)
				if w.Tag != "" {
					var tags []string
					for _, tag := range c.Tags {
						if strings.HasPrefix(tag, "stage:") {
							tags = append(tags, tag)
						}
					}
					equal(name, value, strings.Join(tags, " "))
					if len(tags) == 1 && tags[0] == value {
						s.Vendors[vendor].TagsFound++
					}
					continue
				}
				equal(name, value, c.Fields[w.Field])
				if c.Fields[w.Field] == value {
					s.Vendors[vendor].UpdatesFound++
				}
			}
		}
	}
	return nil
}

// checkExpected compares where everybody stands, in every model, with what the example says.
func (q *quickstart) checkExpected(ctx context.Context, s *Summary, equal func(string, any, any)) error {
	list, _, err := q.hub.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 200}})
	if err != nil {
		return err
	}
	s.Customers = len(list)
	equal("customers", len(q.expected), len(list))
	program := q.hub.pipeline.Program()
	for _, email := range slices.Sorted(maps.Keys(q.expected)) {
		found, _, err := q.hub.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 2}, Email: email})
		if err != nil {
			return err
		}
		equal(email+" is one customer", 1, len(found))
		if len(found) == 0 {
			continue
		}
		rec := found[0]
		stages := map[string]string{}
		for _, st := range rec.Stages {
			stages[st.Model] = st.Stage
		}
		for _, m := range program.Models {
			stage := stages[m.Name]
			equal(email+": "+m.Name, q.expected[email][m.Name], stage)
			line := StageLine{Name: rec.Name, Model: m.Name, Email: rec.Email, Stage: stage, Label: stage}
			if st := m.Stage(stage); st != nil {
				line.Label = both(st.Labels, stage)
			}
			way := []string{m.Initial(time.Time{}).Stage}
			for _, t := range s.Transitions {
				if t.CustomerID == rec.ID && t.Model == m.Name {
					way = append(way, t.To)
				}
			}
			line.Path = strings.Join(way, " → ")
			s.Stages = append(s.Stages, line)
		}
	}
	return nil
}

// both is a label in the model's own language and in English.
func both(labels map[string]string, name string) string {
	var texts []string
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		if l != "en" {
			texts = append(texts, labels[l])
		}
	}
	if len(texts) > 1 {
		texts = texts[:1]
	}
	if english := labels["en"]; english != "" {
		texts = append(texts, english)
	}
	if len(texts) == 0 {
		return name
	}
	return strings.Join(texts, ", ")
}

// checkTasks looks for every task that was owed, once, in the vendors' own state.
func (q *quickstart) checkTasks(ctx context.Context, s *Summary, state sandbox.State, equal func(string, any, any)) error {
	for vendor, connection := range quickstartConnections {
		owed := 0
		for cursor := ""; ; {
			list, next, err := q.hub.store.Deliveries(ctx, hub.DeliveryQuery{Page: hub.Page{Limit: 200, Cursor: cursor}, Destination: connection})
			if err != nil {
				return err
			}
			for _, d := range list {
				if d.Action == "create_task" && d.State == hub.DeliveryDelivered {
					owed++
				}
			}
			if next == "" {
				break
			}
			cursor = next
		}
		v := s.Vendors[vendor]
		for _, t := range state[vendor].Tasks {
			if vendor == sandbox.Zendesk {
				break // a task there is a ticket, counted below
			}
			for _, field := range t.Fields {
				if strings.HasPrefix(field, hub.PrefixDelivery) {
					v.TasksFound++
					break
				}
			}
		}
		for _, t := range state[vendor].Tickets {
			if strings.HasPrefix(t.ExternalID, hub.PrefixDelivery) {
				v.TicketsFound++
			}
		}
		equal(vendor+": tasks and tickets owed are there, once", owed, v.TasksFound+v.TicketsFound)
	}
	return nil
}

// checkCallbacks compares the callbacks that were received with the moves that have effects.
func (q *quickstart) checkCallbacks(s *Summary, check func(string, bool, any, any), equal func(string, any, any)) {
	verified, duplicates, forged := q.receiver.Counts()
	received := q.receiver.Received()
	missing := 0
	for _, t := range s.Transitions {
		if t.Passing {
			continue
		}
		s.Callbacks.Sent++
		if _, ok := received[t.ID]; !ok {
			missing++
		}
	}
	s.Callbacks.Verified, s.Callbacks.Duplicates = verified, duplicates
	equal("callbacks verified by the receiver", s.Callbacks.Sent, verified)
	equal("callbacks missing", 0, missing)
	equal("callbacks with a wrong signature", 0, forged)
	check("there were callbacks", verified > 0, "at least 1", verified)
}

func vendorOf(connection string) string {
	for vendor, name := range quickstartConnections {
		if name == connection {
			return vendor
		}
	}
	return ""
}

// Print writes the summary as tables.
func (s *Summary) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nCUSTOMER\tMODEL\tSTAGE\tWAY")
	for _, line := range s.Stages {
		fmt.Fprintf(t, "%s\t%s\t%s (%s)\t%s\n", line.Name, line.Model, line.Stage, line.Label, line.Path)
	}
	fmt.Fprintln(t, "\nVENDOR\tWEBHOOKS\tDUPLICATES\tEVENTS\tECHOES\tSTAGE CHANGES\tUPDATES\tTAGS\tTASKS\tTICKETS")
	for _, vendor := range sandbox.Vendors {
		v := s.Vendors[vendor]
		if v == nil {
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", vendor, v.Accepted, v.DuplicatesSuppressed, v.Events, v.Echoes, v.StageChanges, v.UpdatesFound, v.TagsFound, v.TasksFound, v.TicketsFound)
	}
	fmt.Fprintf(t, "\n%d callbacks verified by the receiver, %d moves by silence alone, %d dead letters, %.1f s\n", s.Callbacks.Verified, s.Wakes, s.DeadLetters, float64(s.DurationMS)/1000)
	failed := 0
	for _, c := range s.Checks {
		if !c.OK {
			failed++
			fmt.Fprintf(t, "NOT AS EXPECTED\t%s: want %s, got %s\n", c.Name, c.Expected, c.Got)
		}
	}
	fmt.Fprintf(t, "%d checks, %d failed\n", len(s.Checks), failed)
	return t.Flush()
}
