package expression

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// clocks are zones of every sort: both hemispheres, half hours, a change of half an hour, none, far east.
var clocks = []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Chatham", "America/Santiago", "Asia/Shanghai"}

var officeCalendars = map[string]hub.Calendar{
	"office": {Zone: "Europe/Berlin", Days: [7]bool{true, true, true, true, true}, Hours: []hub.Hours{{From: 540, To: 1050}}, Holidays: []string{"2026-04-03", "2026-05-01", "2026-12-25"}},
	"night":  {Zone: "America/New_York", Days: [7]bool{true, true, true, true, true, true, true}, Hours: []hub.Hours{{From: 0, To: 210}, {From: 1320, To: 1440}}}, // over the change of the clocks
	"local":  {Zone: hub.CustomerZone, Days: [7]bool{true, false, true, false, true, true}, Hours: []hub.Hours{{From: 480, To: 720}, {From: 780, To: 1020}}},
	"howe":   {Zone: "Australia/Lord_Howe", Days: [7]bool{true, true, true, true, true, true, true}, Hours: []hub.Hours{{From: 60, To: 150}}},
}

// steady is what evaluating a condition again and again came to.
type steady struct{ flips, wakes int }

// holdsSteady evaluates p at every one of the instants, which are in order, and demands that the result stays until the instant
// that the evaluation before promised.
func holdsSteady(t interface{ Fatalf(string, ...any) }, p *Program, f *fact.Facts, instants []time.Time) steady {
	var out steady
	eval := func(at time.Time) (bool, time.Time) {
		s := Begin(Input{Facts: f, At: at})
		defer s.End()
		held, err := s.Bool(p)
		if err != nil {
			t.Fatalf("%s at %s: %v", p.Text, at, err)
		}
		next := s.Next()
		if !next.IsZero() && !next.After(at) {
			t.Fatalf("%s: at %s the next wake-up is %s", p.Text, at, next)
		}
		return held, next
	}
	held, next := eval(instants[0])
	last := held
	for _, at := range instants[1:] {
		for !next.IsZero() && !next.After(at) {
			held, next = eval(next)
			out.wakes++
		}
		truth, _ := eval(at)
		if truth != held {
			t.Fatalf("%s\nat %s it is %v, the wake-ups say %v (next %s)\n%s", p.Text, at, truth, held, next, dump(f))
		}
		if truth != last {
			out.flips++
		}
		last = truth
	}
	return out
}

// every returns the instants of a grid and the millisecond on both sides of each.
func every(from, to time.Time, step time.Duration) []time.Time {
	var out []time.Time
	for at := from; at.Before(to); at = at.Add(step) {
		out = append(out, at.Add(-time.Millisecond), at, at.Add(time.Millisecond))
	}
	return out
}

// TestEveryFunctionWakesInTime evaluates the example of each function, and each form that depends on clocks, over 400 days:
// wherever spans end, and those that know hours at every hour.
func TestEveryFunctionWakesInTime(t *testing.T) {
	f := customer(t)
	var zoned fact.Profile
	for _, e := range f.Entries() {
		zoned.Put(&hub.Event{ID: e.ID, Kind: e.Kind, Connection: e.Connection, OccurredAt: e.At(), Properties: e.Properties()})
	}
	zoned.Put(&hub.Event{
		ID: "evt_zone", Kind: "customer.updated", Connection: "crm", OccurredAt: start,
		Traits: []hub.Trait{{Name: "timezone", Value: "Australia/Lord_Howe", At: start}, {Name: "name", Value: "Ada", At: start}},
	})
	f = fact.Union(&zoned)
	grid := func(step time.Duration) []time.Time {
		instants := append(every(start, start.AddDate(0, 0, 400), step), boundaries(f)...)
		if step == time.Hour {
			instants = append(instants, every(start.AddDate(0, 0, 80), start.AddDate(0, 0, 110), 30*time.Minute)...)
		}
		slices.SortFunc(instants, time.Time.Compare)
		return slices.Compact(instants)
	}
	hourly, rare := grid(time.Hour), grid(24*time.Hour)
	conditions := map[string]bool{} // whether it must flip by silence alone
	for _, fn := range Functions() {
		conditions[fn.Example] = false
	}
	for _, text := range []string{
		`weekday() == "mon"`, `weekday("customer") in ["sat", "sun"]`, `weekday("America/New_York") != weekday()`, `"tue" == weekday()`,
		`hour() >= 9 and hour() < 17`, `hour("customer") == 1`, `hour("Australia/Lord_Howe") in [0, 13]`, `hour("Asia/Kolkata") * 2 > 20`, `hour() > hour("Pacific/Chatham")`,
		`since("order.paid") >= business_hours(40)`, `since("order.paid") < business_hours(100, "office")`, `since("ticket.opened") > business_hours(400, "night")`,
		`any(tickets, .open and .open_for >= business_hours(60, "local"))`, `since("ticket.opened") == business_hours(0) or since(date("2026-06-01")) >= business_hours(16, "office")`,
		`count("order.paid", .age >= business_hours(80)) >= 2`, `any("order.paid", .age > 3 * business_hours(50, "howe"))`,
	} {
		conditions[text] = true
	}
	env := &Env{Clock: Clock{Zone: "Europe/Berlin", Calendars: officeCalendars}}
	for text, must := range conditions {
		p, problems := Compile(text, env)
		if problems != nil {
			t.Errorf("%s: %+v", text, problems)
			continue
		}
		instants := rare
		if must || strings.Contains(text, "hour") || strings.Contains(text, "weekday") {
			instants = hourly
		}
		if got := holdsSteady(t, p, f, instants); must && got.flips == 0 {
			t.Errorf("%s never flips: it shows nothing", text)
		}
	}
}

// TestClockWakeUpsAgreeWithBruteForce does so for random conditions, zones and calendars over some weeks at every ten minutes.
func TestClockWakeUpsAgreeWithBruteForce(t *testing.T) {
	flips, wakes := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := grammar{t}
		leaf := func() string {
			switch rapid.IntRange(0, 5).Draw(t, "leaf") {
			case 0:
				return fmt.Sprintf(`weekday("%s") %s "%s"`, g.pick("zone", clocks...), g.pick("is", "==", "!="), g.pick("day", hub.Weekdays...))
			case 1:
				return fmt.Sprintf(`hour("%s") %s %d`, g.pick("zone", clocks...), g.op(), rapid.IntRange(0, 24).Draw(t, "hour"))
			case 2:
				return fmt.Sprintf(`hour() in [%d, %d]`, rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 23).Draw(t, "hour"))
			case 3:
				return fmt.Sprintf(`since("page.viewed") %s business_hours(%d)`, g.op(), rapid.IntRange(0, 60).Draw(t, "hours"))
			case 4:
				return fmt.Sprintf(`since(%s) %s business_hours(%d, "%s")`, g.kind(), g.op(), rapid.IntRange(0, 60).Draw(t, "hours"), g.pick("calendar", "office", "night", "local", "howe"))
			}
			return fmt.Sprintf(`any(tickets, .open and .open_for %s business_hours(%d, "%s"))`, g.op(), rapid.IntRange(0, 30).Draw(t, "hours"), g.pick("calendar", "office", "local"))
		}
		text := leaf()
		for range rapid.IntRange(0, 2).Draw(t, "more") {
			text = "(" + text + ") " + g.pick("joined", "and", "or") + " not (" + leaf() + ")"
		}
		// Around the change of the clocks in Europe and America, or anywhere.
		from := start.AddDate(0, 0, rapid.SampledFrom([]int{60, 80, 90, 270, 292, 300, 0, 150}).Draw(t, "from"))
		var p fact.Profile
		for i := range rapid.IntRange(1, 4).Draw(t, "events") {
			p.Put(&hub.Event{
				ID: fmt.Sprint(i), Kind: g.pick("event", "page.viewed", "ticket.opened", "ticket.solved"), Connection: "shop",
				OccurredAt: from.Add(time.Duration(rapid.IntRange(-600, 1000).Draw(t, "tens")) * 10 * time.Minute),
				Properties: map[string]any{"id": g.pick("id", "1", "2")},
				Traits:     []hub.Trait{{Name: "timezone", Value: g.pick("lives", append(clocks, "Nowhere")...), At: from}},
			})
		}
		f := fact.Union(&p)
		program, problems := Compile(text, &Env{Clock: Clock{Zone: g.pick("in", append(clocks, hub.CustomerZone)...), Default: "Asia/Kolkata", Calendars: officeCalendars}})
		if problems != nil {
			t.Fatalf("%s: %+v", text, problems)
		}
		got := holdsSteady(t, program, f, every(from, from.AddDate(0, 0, 14), 10*time.Minute))
		flips, wakes = flips+got.flips, wakes+got.wakes
	})
	if flips == 0 {
		t.Error("no condition ever flipped: the generator is broken")
	}
	t.Logf("%d flips, %d wake-ups", flips, wakes)
}
