package expression

import (
	"testing"
	"time"
	_ "time/tzdata" // the zones of these tests, also where the machine has none

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// happened is a customer to whom one thing happened, and who lives in a zone.
func happened(t testing.TB, zone string, kind string, at time.Time) *fact.Facts {
	t.Helper()
	var p fact.Profile
	ev := hub.Event{ID: "evt_1", Kind: kind, Connection: "desk", OccurredAt: at, Properties: map[string]any{"id": "1"}}
	if zone != "" {
		ev.Traits = []hub.Trait{{Name: "timezone", Value: zone, At: at}}
	}
	p.Put(&ev)
	return fact.Union(&p)
}

func instantAt(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestBusinessTimeFlipsAtTheInstant compares business time with a length of it at the millisecond before and at the flip.
func TestBusinessTimeFlipsAtTheInstant(t *testing.T) {
	office := hub.Calendar{Zone: "Europe/Berlin", Days: [7]bool{true, true, true, true, true}, Hours: []hub.Hours{{From: 9 * 60, To: 17*60 + 30}}, Holidays: []string{"2026-04-03", "2026-04-06", "2026-12-25"}}
	split := hub.Calendar{Days: [7]bool{true, true, true, true, true, true, true}, Hours: []hub.Hours{{From: 8 * 60, To: 12 * 60}, {From: 13 * 60, To: 17 * 60}}}
	night := hub.Calendar{Zone: "Europe/Berlin", Days: [7]bool{true, true, true, true, true, true, true}, Hours: []hub.Hours{{From: 0, To: 24 * 60}}}
	local := hub.Calendar{Zone: hub.CustomerZone, Days: [7]bool{true, true, true, true, true}, Hours: []hub.Hours{{From: 9 * 60, To: 17 * 60}}}
	calendars := map[string]hub.Calendar{"berlin": office, "split": split, "night": night, "local": local}
	for _, c := range []struct{ what, text, from, flips, zone string }{
		{"within a day", `since("ticket.opened") >= business_hours(3)`, "2026-03-03T10:00:00Z", "2026-03-03T13:00:00Z", ""},
		{"overnight", `since("ticket.opened") >= business_hours(8)`, "2026-03-03T16:00:00Z", "2026-03-04T16:00:00Z", ""},
		{"to the very end of a day", `since("ticket.opened") >= business_hours(8)`, "2026-03-03T09:00:00Z", "2026-03-03T17:00:00Z", ""},
		{"more than that: the next morning", `since("ticket.opened") > business_hours(8)`, "2026-03-03T09:00:00Z", "2026-03-04T09:00:00.001Z", ""},
		{"over a weekend", `since("ticket.opened") >= business_hours(1)`, "2026-03-06T16:30:00Z", "2026-03-09T09:30:00Z", ""},
		{"from the night", `since("ticket.opened") >= business_hours(1)`, "2026-03-07T03:00:00Z", "2026-03-09T10:00:00Z", ""},
		{"in Berlin, winter", `since("ticket.opened") >= business_hours(2, "berlin")`, "2026-03-03T07:00:00Z", "2026-03-03T10:00:00Z", ""},
		{"in Berlin, over the change to summer", `since("ticket.opened") >= business_hours(1, "berlin")`, "2026-03-27T16:00:00Z", "2026-03-30T07:30:00Z", ""},
		{"over Good Friday and Easter Monday", `since("ticket.opened") >= business_hours(1, "berlin")`, "2026-04-02T15:00:00Z", "2026-04-07T07:30:00Z", ""},
		{"a lunch break", `since("ticket.opened") >= business_hours(2, "split")`, "2026-03-03T11:00:00Z", "2026-03-03T14:00:00Z", ""},
		{"round the clock, the day the clocks go forward", `since("ticket.opened") >= business_hours(24, "night")`, "2026-03-28T23:00:00Z", "2026-03-29T23:00:00Z", ""},
		{"the customer's own zone", `since("ticket.opened") >= business_hours(1, "local")`, "2026-03-03T00:00:00Z", "2026-03-03T02:00:00Z", "Asia/Shanghai"},
		{"a customer of no known zone", `since("ticket.opened") >= business_hours(1, "local")`, "2026-03-03T00:00:00Z", "2026-03-03T10:00:00Z", "Nowhere/Land"},
		{"calculated", `since("ticket.opened") >= 2 * business_hours(count("ticket.opened") + 1) / 2`, "2026-03-03T10:00:00Z", "2026-03-03T12:00:00Z", ""},
		{"an object", `any(tickets, .open and .open_for >= business_hours(16))`, "2026-03-03T10:00:00Z", "2026-03-05T10:00:00Z", ""},
		{"nothing at all", `since("ticket.opened") >= business_hours(0)`, "2026-03-03T10:00:00Z", "", ""},
		{"never", `since("order.paid") >= business_hours(1)`, "2026-03-03T10:00:00Z", "", ""},
	} {
		p, problems := Compile(c.text, &Env{Clock: Clock{Calendars: calendars}})
		if problems != nil {
			t.Errorf("%s: %+v", c.what, problems)
			continue
		}
		f := happened(t, c.zone, "ticket.opened", instantAt(t, c.from))
		run := func(at time.Time) (bool, time.Time) {
			s := Begin(Input{Facts: f, At: at})
			defer s.End()
			held, err := s.Bool(p)
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			return held, s.Next()
		}
		at := instantAt(t, c.from)
		held, next := run(at)
		if c.flips == "" {
			if !next.IsZero() {
				t.Errorf("%s: wakes at %s", c.what, next)
			}
			continue
		}
		flips := instantAt(t, c.flips)
		if held || !next.Equal(flips) {
			t.Errorf("%s: at %s it is %v and wakes at %s, want %s", c.what, at, held, next, flips)
		}
		if before, _ := run(flips.Add(-time.Millisecond)); before {
			t.Errorf("%s: holds before %s", c.what, flips)
		}
		if after, _ := run(flips); !after {
			t.Errorf("%s: does not hold at %s", c.what, flips)
		}
	}
}

// TestDialsFlipAtTheBoundary asks for the hour and the day around changes of the clocks.
func TestDialsFlipAtTheBoundary(t *testing.T) {
	for _, c := range []struct {
		text, zone, at string
		held           bool
		next           string
	}{
		{`hour() >= 9 and hour() < 17`, "", "2026-03-03T05:30:00Z", false, "2026-03-03T09:00:00Z"},
		{`hour() >= 9 and hour() < 17`, "", "2026-03-03T09:00:00Z", true, "2026-03-03T17:00:00Z"},
		{`hour() >= 9`, "Europe/Berlin", "2026-03-03T07:59:59.999Z", false, "2026-03-03T08:00:00Z"},
		{`hour() == 2`, "Europe/Berlin", "2026-03-28T02:00:00Z", false, "2026-03-30T00:00:00Z"}, // there is no 2 o'clock on the 29th
		{`hour() != 2`, "Europe/Berlin", "2026-10-25T00:00:00Z", false, "2026-10-25T02:00:00Z"}, // two hours of 2 o'clock
		{`hour("Asia/Kolkata") == 10`, "Europe/Berlin", "2026-03-03T04:00:00Z", false, "2026-03-03T04:30:00Z"},
		{`hour() in [8, 20]`, "", "2026-03-03T08:10:00Z", true, "2026-03-03T09:00:00Z"},
		{`hour() + 1 > 12`, "", "2026-03-03T08:10:00Z", false, "2026-03-03T09:00:00Z"},
		{`hour() >= 24`, "", "2026-03-03T08:10:00Z", false, ""},
		{`9 <= hour("customer")`, "", "2026-03-03T08:10:00Z", true, "2026-03-03T16:00:00Z"}, // Shanghai
		{`weekday() in ["sat", "sun"]`, "", "2026-03-03T08:10:00Z", false, "2026-03-07T00:00:00Z"},
		{`weekday() == "tue"`, "Asia/Shanghai", "2026-03-03T08:10:00Z", true, "2026-03-03T16:00:00Z"},
		{`weekday("America/New_York") != "mon"`, "", "2026-03-03T04:00:00Z", false, "2026-03-03T05:00:00Z"},
		{`weekday() == "fri"`, "Pacific/Apia", "2011-12-30T09:00:00Z", false, "2012-01-05T10:00:00Z"}, // Samoa left out a Friday
		{`zone == "Asia/Shanghai"`, "customer", "2026-03-03T08:10:00Z", true, ""},
		{`(customer.zone ?? "UTC") == "Asia/Shanghai" and zone == "UTC"`, "", "2026-03-03T08:10:00Z", true, ""},
		{`hour() == 16`, "customer", "2026-03-03T08:10:00Z", true, "2026-03-03T09:00:00Z"},
	} {
		p, problems := Compile(c.text, &Env{Clock: Clock{Zone: c.zone}})
		if problems != nil {
			t.Errorf("%s: %+v", c.text, problems)
			continue
		}
		s := Begin(Input{Facts: happened(t, "Asia/Shanghai", "page.viewed", start), At: instantAt(t, c.at)})
		held, err := s.Bool(p)
		next := ""
		if !s.Next().IsZero() {
			next = s.Next().Format(time.RFC3339)
		}
		s.End()
		if err != nil || held != c.held || next != c.next {
			t.Errorf("%s in %s at %s: %v, wakes at %s, %v; want %v, %s", c.text, c.zone, c.at, held, next, err, c.held, c.next)
		}
	}
}

func TestCalendarOfTheModel(t *testing.T) {
	short := hub.Calendar{Days: [7]bool{true, true, true, true, true}, Hours: []hub.Hours{{From: 9 * 60, To: 10 * 60}}}
	f := happened(t, "", "ticket.opened", instantAt(t, "2026-03-03T09:00:00Z"))
	for name, clock := range map[string]Clock{
		"2026-03-03T11:00:00Z": {},
		"2026-03-04T10:00:00Z": {Calendars: map[string]hub.Calendar{"office": short}},
		"2026-03-03T19:00:00Z": {Calendars: map[string]hub.Calendar{"office": short}, Calendar: "late", Zone: "America/New_York"},
	} {
		if clock.Calendar != "" {
			clock.Calendars["late"] = hub.Calendar{Days: short.Days, Hours: []hub.Hours{{From: 12 * 60, To: 20 * 60}}}
		}
		p, problems := Compile(`since("ticket.opened") >= business_hours(2)`, &Env{Clock: clock})
		if problems != nil {
			t.Fatal(problems)
		}
		s := Begin(Input{Facts: f, At: instantAt(t, "2026-03-03T09:00:00Z")})
		if _, err := s.Bool(p); err != nil {
			t.Error(err)
		}
		if got := s.Next().Format(time.RFC3339); got != name {
			t.Errorf("wakes at %s, want %s", got, name)
		}
		s.End()
	}
}
