package config

import (
	"strings"
	"testing"
	_ "time/tzdata" // the zones, also where the machine has none

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
)

func TestCalendars(t *testing.T) {
	cfg, _, err := Parse("stagewire.yaml", []byte(`
zone: customer
calendars:
  office: {zone: Europe/Berlin, days: mon-fri, hours: 09:00-17:30, holidays: [2026-12-25]}
  split: {days: [mon-wed, sat], hours: [08:00-12:00, 13:00-24:00]}
  plain: {}
`), lookups(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]hub.Calendar{
		"office": {Zone: "Europe/Berlin", Days: [7]bool{true, true, true, true, true}, Hours: []hub.Hours{{From: 540, To: 1050}}, Holidays: []string{"2026-12-25"}},
		"split":  {Days: [7]bool{true, true, true, 5: true}, Hours: []hub.Hours{{From: 480, To: 720}, {From: 780, To: 1440}}},
		"plain":  hub.OfficeHours(""),
	}
	if d := cmp.Diff(want, cfg.Calendars); d != "" || cfg.Zone != hub.CustomerZone {
		t.Errorf("zone %q, %s", cfg.Zone, d)
	}
}

func TestMistakesInCalendars(t *testing.T) {
	for text, want := range map[string]string{
		"zone: Europe/Berln":                                       `there is no time zone "Europe/Berln"`,
		"zone: Local":                                              `"Local" is no time zone`,
		"calendars: {office: {zone: Mars}}":                        `calendars.office.zone: there is no time zone "Mars"`,
		"calendars: {office: {days: mon-fry}}":                     `"mon-fry" is no day`,
		"calendars: {office: {hours: 22:00-06:00}}":                `ends before it begins: past midnight write two`,
		"calendars: {office: {hours: 9-17}}":                       `is no stretch of hours such as 09:00-17:30`,
		"calendars: {office: {hours: [09:00-12:00, 11:00-13:00]}}": `stretches of hours overlap`,
		"calendars: {office: {hours: 09:00-25:00}}":                `is no stretch of hours`,
		"calendars: {office: {holidays: [25.12.2026]}}":            `"25.12.2026" is no date`,
		"calendars: {office: {holydays: [2026-12-25]}}":            `unknown key`,
		"connections: {stagewire: {connector: shopify}}":           "this name is the hub's own",
		"calendars: {Office: {}}":                                  `a calendar is small letters`,
	} {
		_, _, err := Parse("stagewire.yaml", []byte(text), lookups(nil))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "stagewire.yaml:1:") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
