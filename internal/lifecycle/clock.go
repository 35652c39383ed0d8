package lifecycle

import (
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
)

// ownCalendar is the name under which a calendar that a model's file writes out is known to its conditions.
const ownCalendar = "calendar of the model"

// clock reads zone: and calendar: of a model, which win over the configuration's.
func (s *source) clock(c expression.Clock, zone, calendar *yaml.Node) expression.Clock {
	if c.Zone != hub.CustomerZone {
		c.Default = c.Zone
	}
	if zone != nil {
		c.Zone = s.zone(zone, "zone")
	}
	switch {
	case calendar == nil:
	case calendar.Kind == yaml.ScalarNode:
		c.Calendar = s.text(calendar, "calendar")
		if _, ok := c.Calendars[c.Calendar]; !ok {
			suggestion := "declare it in the configuration under calendars:, or write it out here"
			if near := expression.Closest(c.Calendar, slices.Sorted(maps.Keys(c.Calendars))); near != "" {
				suggestion = "did you mean " + near + "?"
			}
			s.fail(calendar, "calendar", suggestion, "there is no calendar %s", c.Calendar)
			c.Calendar = ""
		}
	default:
		own, ok := s.calendar(calendar, "calendar")
		if !ok {
			break
		}
		c.Calendars = maps.Clone(c.Calendars)
		if c.Calendars == nil {
			c.Calendars = map[string]hub.Calendar{}
		}
		c.Calendars[ownCalendar], c.Calendar = own, ownCalendar
	}
	return c
}

// zone reads the name of a time zone, or the word customer; "" with a report for what is neither.
func (s *source) zone(n *yaml.Node, path string) string {
	name := s.text(n, path)
	if name == "" || name == hub.CustomerZone {
		return name
	}
	if _, err := hub.LoadZone(name); err != nil {
		s.fail(n, path, "or the word customer, for the customer's own", "%s", plainText(err))
		return ""
	}
	return name
}

// calendar reads {zone, days: mon-fri, hours: 09:00-17:00, holidays: [2026-12-25]}.
func (s *source) calendar(n *yaml.Node, path string) (hub.Calendar, bool) {
	before := len(s.problems)
	f := s.fields(n, path, keysOf(FormCalendar)...)
	c := hub.OfficeHours("")
	if f["zone"] != nil {
		c.Zone = s.zone(f["zone"], path+".zone")
	}
	if days := f["days"]; days != nil {
		var err error
		if c.Days, err = hub.ParseDays(strings.Join(s.texts(days, path+".days"), ",")); err != nil {
			s.fail(days, path+".days", "", "%s", plainText(err))
		}
	}
	if hours := f["hours"]; hours != nil {
		c.Hours = nil
		for _, text := range s.texts(hours, path+".hours") {
			h, err := hub.ParseHours(text)
			if err != nil {
				s.fail(hours, path+".hours", "", "%s", plainText(err))
			}
			c.Hours = append(c.Hours, h)
		}
	}
	c.Holidays = s.texts(f["holidays"], path+".holidays")
	if len(s.problems) == before {
		if err := c.Check(); err != nil {
			s.fail(n, path, "", "%s", plainText(err))
		}
	}
	return c, len(s.problems) == before
}

func plainText(err error) string { return strings.TrimSuffix(err.Error(), ": "+hub.ErrInvalid.Error()) }
