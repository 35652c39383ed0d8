package lifecycle

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones, also where the machine has none

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
)

// officeModel says who has waited for a day of business, with lines of the head to fill in.
const officeModel = `
model: waits
HEAD
stages: [{name: fine}, {name: waits}]
decide:
  - stage: waits
    when: any(tickets, .open and .open_for >= business_hours(8)) and hour() >= 9
  - otherwise: fine
`

func TestZoneAndCalendarOfAModel(t *testing.T) {
	configured := expression.Clock{
		Zone: "Europe/Berlin",
		Calendars: map[string]hub.Calendar{
			"office": {Days: [7]bool{true, true, true, true, true}, Hours: []hub.Hours{{From: 10 * 60, To: 14 * 60}}},
			"always": {Days: [7]bool{true, true, true, true, true, true, true}, Hours: []hub.Hours{{From: 0, To: 24 * 60}}},
		},
	}
	for _, c := range []struct{ head, waits string }{
		{"", "2026-01-02T13:00:00Z"},                                                                          // the configuration's office: two days of four hours
		{"calendar: always", "2026-01-01T17:00:00Z"},                                                          // eight hours, whatever day it is
		{"zone: Asia/Shanghai\ncalendar: always", "2026-01-02T01:00:00Z"},                                     // past nine in Shanghai
		{"calendar: {days: mon-sun, hours: [09:00-10:00, 18:00-19:00]}", "2026-01-05T09:00:00Z"},              // one of its own
		{"calendar: {zone: America/New_York, days: mon-fri, holidays: [2026-01-01]}", "2026-01-02T22:00:00Z"}, // New York's Friday
	} {
		m := compile(t, strings.Replace(officeModel, "HEAD", c.head, 1), Env{Clock: configured})
		f := facts(t, hub.Event{Kind: "ticket.opened", OccurredAt: day(0).Add(9 * time.Hour), Properties: map[string]any{"id": "1"}})
		st, _ := m.Decide(f, nil, m.Initial(day(0)), day(0).Add(9*time.Hour))
		steps, _, errs := m.Advance(f, nil, st, day(30), 1000)
		if len(errs) > 0 || len(steps) == 0 || steps[0].At.Format(time.RFC3339) != c.waits {
			t.Errorf("%s: %+v %v, want %s", c.head, steps[:min(1, len(steps))], errs, c.waits)
		}
	}
	with := compile(t, strings.Replace(officeModel, "HEAD", "", 1), Env{Clock: configured})
	without := compile(t, strings.Replace(officeModel, "HEAD", "", 1), Env{})
	if with.Hash == without.Hash {
		t.Error("another zone makes no other model")
	}
}

func TestMistakesInZoneAndCalendar(t *testing.T) {
	for head, want := range map[string]string{
		"zone: Europe/Berln":                "m.yaml:3:7: zone: there is no time zone \"Europe/Berln\"",
		"calendar: offce":                   "m.yaml:3:11: calendar: there is no calendar offce",
		"calendar: {days: mon-fry}":         "m.yaml:3:18: calendar.days: \"mon-fry\" is no day",
		"calendar: {hours: 17:00-09:00}":    "m.yaml:3:19: calendar.hours:",
		"calendar: {holidays: [christmas]}": "m.yaml:3:11: calendar: \"christmas\" is no date",
		"calendar: {day: mon}":              "unknown key day",
	} {
		_, err := Compile("m.yaml", []byte(strings.Replace(officeModel, "HEAD", head, 1)), Env{Clock: expression.Clock{Calendars: map[string]hub.Calendar{"office": hub.OfficeHours("")}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", head, err, want)
		}
	}
}
