package hub

import (
	"math"
	"time"
)

// Timetable is a calendar by the clocks of one zone, ready to calculate with. It is immutable.
type Timetable struct {
	calendar Calendar
	zone     *time.Location
	holidays map[int]bool // year*10000 + month*100 + day
}

// maxSearch bounds how many days a calculation looks ahead: forty years.
const maxSearch = 40 * 366

// In returns the calendar by the clocks of zone, whatever zone the calendar itself names.
func (c Calendar) In(zone *time.Location) *Timetable {
	t := &Timetable{calendar: c, zone: zone}
	for _, day := range c.Holidays {
		if d, err := time.Parse(time.DateOnly, day); err == nil {
			if t.holidays == nil {
				t.holidays = make(map[int]bool, len(c.Holidays))
			}
			t.holidays[dayKey(d.Year(), d.Month(), d.Day())] = true
		}
	}
	return t
}

func dayKey(year int, month time.Month, day int) int { return year*10000 + int(month)*100 + day }

// Zone returns the zone whose clocks it goes by.
func (t *Timetable) Zone() *time.Location { return t.zone }

// After returns the first instant by which the length of business time has passed since from, and over how many days it
// looked. Both instants and the length are in milliseconds. It is false where that is more than forty years away.
func (t *Timetable) After(from, length int64) (at int64, days int, ok bool) {
	if length <= 0 {
		return from, 0, true
	}
	ok = t.walk(from, func(open, shut int64) bool {
		if shut-open >= length {
			at = open + length
			return false
		}
		length -= shut - open
		return true
	}, &days)
	return at, days, ok
}

// Between returns the business time from one instant to a later one, in milliseconds, zero where it is not later.
func (t *Timetable) Between(from, to int64) int64 {
	total, days := int64(0), 0
	t.walk(from, func(open, shut int64) bool {
		total += max(0, min(shut, to)-open)
		return shut < to
	}, &days)
	return total
}

// walk calls each with the open stretches after from, in order, until it returns false; walk then returns true.
func (t *Timetable) walk(from int64, each func(open, shut int64) bool, days *int) bool {
	local := time.UnixMilli(from).In(t.zone)
	year, month, day := local.Date()
	weekday := (int(local.Weekday()) + 6) % 7
	steady := steadyClock(local)
	for ; *days < maxSearch; *days++ {
		if t.calendar.Days[weekday] {
			// Days beyond the end of a month are those of the next: only the holidays want them named properly.
			if t.holidays != nil {
				year, month, day = time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Date()
			}
			if t.holidays == nil || !t.holidays[dayKey(year, month, day)] {
				for _, h := range t.calendar.Hours {
					open := max(from, steady.instant(t.zone, year, month, day, h.From))
					shut := steady.instant(t.zone, year, month, day, h.To)
					if shut <= open {
						continue
					}
					if !each(open, shut) {
						return true
					}
				}
			}
		}
		day++
		weekday = (weekday + 1) % 7
	}
	return false
}

// clockStretch is a time during which a zone's clocks are not changed, and by how much they differ from UTC: in seconds.
type clockStretch struct{ from, to, offset int64 }

// steadyClock returns the stretch that local is in, without its first day: what the clocks show there they show once.
func steadyClock(local time.Time) clockStretch {
	_, offset := local.Zone()
	c := clockStretch{from: math.MinInt64, to: math.MaxInt64, offset: int64(offset)}
	start, end := local.ZoneBounds()
	if !start.IsZero() {
		c.from = start.Unix() + 24*60*60
	}
	if !end.IsZero() {
		c.to = end.Unix()
	}
	return c
}

// instant is WallClock without a look at the zone where the stretch has the answer.
func (c clockStretch) instant(zone *time.Location, year int, month time.Month, day, minute int) int64 {
	at := time.Date(year, month, day, 0, minute, 0, 0, time.UTC).Unix() - c.offset
	if c.from <= at && at < c.to {
		return at * 1000
	}
	return WallClock(zone, year, month, day, minute)
}

// WallClock returns, in milliseconds since 1970, the first instant at which the clocks of zone show that minute of that day
// or a later one: where they are put forward over it, the instant of doing so; where they show it twice, the first.
func WallClock(zone *time.Location, year int, month time.Month, day, minute int) int64 {
	t := time.Date(year, month, day, 0, minute, 0, 0, zone)
	want := time.Date(year, month, day, 0, minute, 0, 0, time.UTC).Unix()
	_, offset := t.Zone()
	start, end := t.ZoneBounds()
	switch shown := t.Unix() + int64(offset); {
	case shown > want && !start.IsZero(): // skipped, and t lies behind the gap
		return start.UnixMilli()
	case shown < want && !end.IsZero(): // skipped, and t lies before the gap
		return end.UnixMilli()
	}
	if !start.IsZero() {
		_, before := start.Add(-time.Second).Zone()
		if first := want - int64(before); first < start.Unix() {
			return first * 1000 // shown twice, and t is the second
		}
	}
	return t.UnixMilli()
}
