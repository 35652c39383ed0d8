package hub

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CustomerZone is the word for the zone of the customer in question, where a zone is wanted.
const CustomerZone = "customer"

// Weekdays are the names of the days of a week as files and rules have them.
var Weekdays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// Calendar says when business goes on: certain hours of certain days, by the clocks of a zone.
type Calendar struct {
	Zone string `json:"zone,omitempty"` // IANA name, or CustomerZone; "" for that of whoever asks
	// Days says whether the day of the week is open, Monday first.
	Days [7]bool `json:"days"`
	// Hours are the open stretches of a day, in order and apart.
	Hours []Hours `json:"hours"`
	// Holidays are days that are closed all the same, as 2026-12-25, sorted.
	Holidays []string `json:"holidays,omitempty"`
}

// Hours is an open stretch of a day: minutes since its midnight by the clock on the wall. To is at most 1440.
type Hours struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// OfficeHours is the calendar that counts where none is configured: Monday to Friday, 9 to 17.
func OfficeHours(zone string) Calendar {
	return Calendar{Zone: zone, Days: [7]bool{true, true, true, true, true}, Hours: []Hours{{9 * 60, 17 * 60}}}
}

// ParseDays reads "mon-fri", "sat" or "mon-wed, fri". The error wraps ErrInvalid.
func ParseDays(s string) ([7]bool, error) {
	var days [7]bool
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, b := weekday(from), weekday(to)
		if !isRange {
			b = a
		}
		if a < 0 || b < 0 {
			return days, fmt.Errorf("%q is no day or stretch of days such as mon-fri: %w", strings.TrimSpace(part), ErrInvalid)
		}
		for d := a; ; d = (d + 1) % 7 {
			days[d] = true
			if d == b {
				break
			}
		}
	}
	return days, nil
}

func weekday(s string) int { return slices.Index(Weekdays, strings.ToLower(strings.TrimSpace(s))) }

// ParseHours reads "09:00-17:30". An evening that ends at midnight ends at 24:00. The error wraps ErrInvalid.
func ParseHours(s string) (Hours, error) {
	from, to, ok := strings.Cut(s, "-")
	a, okA := clock(from)
	b, okB := clock(to)
	switch {
	case !ok || !okA || !okB:
		return Hours{}, fmt.Errorf("%q is no stretch of hours such as 09:00-17:30: %w", s, ErrInvalid)
	case b <= a:
		return Hours{}, fmt.Errorf("%q ends before it begins: past midnight write two, such as 22:00-24:00 and 00:00-06:00: %w", s, ErrInvalid)
	}
	return Hours{a, b}, nil
}

func clock(s string) (int, bool) {
	h, m, ok := strings.Cut(strings.TrimSpace(s), ":")
	if !ok || len(h) == 0 || len(h) > 2 || len(m) != 2 {
		return 0, false
	}
	hours, errH := strconv.ParseUint(h, 10, 8)
	minutes, errM := strconv.ParseUint(m, 10, 8)
	if errH != nil || errM != nil || minutes > 59 || hours*60+minutes > 24*60 {
		return 0, false
	}
	return int(hours*60 + minutes), true
}

// Check returns what is wrong with the calendar, nil for nothing. The error wraps ErrInvalid.
func (c Calendar) Check() error {
	if c.Zone != "" && c.Zone != CustomerZone {
		if _, err := LoadZone(c.Zone); err != nil {
			return err
		}
	}
	if c.Days == [7]bool{} {
		return fmt.Errorf("no day is open: %w", ErrInvalid)
	}
	if len(c.Hours) == 0 {
		return fmt.Errorf("no hours are open: %w", ErrInvalid)
	}
	for i, h := range c.Hours {
		if h.From < 0 || h.To > 24*60 || h.To <= h.From {
			return fmt.Errorf("hours %d to %d are no stretch of a day: %w", h.From, h.To, ErrInvalid)
		}
		if i > 0 && h.From < c.Hours[i-1].To {
			return fmt.Errorf("stretches of hours overlap or are out of order: %w", ErrInvalid)
		}
	}
	for _, day := range c.Holidays {
		if _, err := time.Parse(time.DateOnly, day); err != nil {
			return fmt.Errorf("%q is no date such as 2026-12-25: %w", day, ErrInvalid)
		}
	}
	return nil
}

// LoadZone returns the zone of an IANA name. The error wraps ErrInvalid and is fit for people. "Local" is refused: what
// a rule means must not depend on the machine.
func LoadZone(name string) (*time.Location, error) {
	if len(name) > 64 || name == "" || name == "Local" {
		return nil, fmt.Errorf("%q is no time zone such as Europe/Berlin: %w", shortened(name), ErrInvalid)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("there is no time zone %q; zones are named like Europe/Berlin: %w", name, ErrInvalid)
	}
	return loc, nil
}

func shortened(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
