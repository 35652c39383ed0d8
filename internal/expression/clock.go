package expression

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/stagewire/stagewire/internal/hub"
)

// Clocks on the wall and business time: weekday(), hour(), zone, business_hours(). Which zone and calendar they go by is
// fixed when the expression is compiled (Env.Clock), but for the customer's own zone, which is a trait.

// zoneTrait is the trait that holds the customer's own zone.
const zoneTrait = "timezone"

// place is a zone, or the customer's own with one for those who have none.
type place struct {
	zone     *time.Location
	customer bool
}

// at returns the zone for the customer in question.
func (p place) at(s *Session) *time.Location {
	if p.customer {
		if name := s.in.Facts.Text(zoneTrait); name != "" {
			if loc := zoneNamed(name); loc != nil {
				return loc
			}
		}
	}
	return p.zone
}

// zones remembers what zone names mean, and that others mean none. What customers are said to live in comes from outside,
// so it is bounded.
var (
	zones     sync.Map // string → *time.Location, nil for no zone
	zonesKept atomic.Int64
)

const maxZones = 2000

func zoneNamed(name string) *time.Location {
	if v, ok := zones.Load(name); ok {
		return v.(*time.Location)
	}
	loc, err := hub.LoadZone(name)
	if err != nil {
		loc = nil
	}
	if zonesKept.Load() < maxZones {
		zonesKept.Add(1)
		zones.Store(name, loc)
	}
	return loc
}

func told(err error) string { return strings.TrimSuffix(err.Error(), ": "+hub.ErrInvalid.Error()) }

// place returns the zone of that name; "" is the one in force.
func (c *checker) place(n ast.Node, name string) (place, bool) {
	name = cmp.Or(name, c.env.Clock.Zone, "UTC")
	p := place{}
	if name == hub.CustomerZone {
		p.customer = true
		name = cmp.Or(c.env.Clock.Default, "UTC")
		c.program.ReadsTraits = true
	}
	loc, err := hub.LoadZone(name)
	if err != nil {
		c.fail(n, "", "%s", told(err))
		return p, false
	}
	p.zone = loc
	return p, true
}

var zoneText = Type{Base: Text, enum: "zone"}

// zoneName checks zone: the name of the zone in force.
func (c *checker) zoneName(n ast.Node) term {
	p, ok := c.place(n, "")
	if !ok {
		return nothing
	}
	return call(n, zoneText, "$zone", self(), constant(p))
}

// dial is a clock's face: the hour of the day, or the day of the week.
type dial struct {
	place
	weekday bool
}

var weekdayText = Type{Base: Text, Enum: hub.Weekdays, enum: "weekday"}

const (
	hourMillis = int64(time.Hour / time.Millisecond)
	daysShift  = 3 // 1 January 1970 was a Thursday
)

// shows is where a dial stands: what it shows, until when the clocks are not changed, by how much they differ from UTC.
// All in milliseconds.
type shows struct{ at, steady, offset int64 }

// look reads the clocks of a zone.
func look(zone *time.Location, at int64) shows {
	local := time.UnixMilli(at).In(zone)
	_, offset := local.Zone()
	out := shows{at: at, steady: math.MaxInt64, offset: int64(offset) * 1000}
	if _, end := local.ZoneBounds(); !end.IsZero() {
		out.steady = end.UnixMilli()
	}
	return out
}

// face returns the number that the dial shows: the hour, or the day of the week from Monday, 0.
func (d *dial) face(s shows) int {
	local := s.at + s.offset
	day := floorDiv(local, dayMillis)
	if d.weekday {
		return int(((day+daysShift)%7 + 7) % 7)
	}
	return int((local - day*dayMillis) / hourMillis)
}

// next goes on to the next instant at which it may show something else: the full hour or midnight, or when the clocks
// are changed.
func (d *dial) next(zone *time.Location, s shows) shows {
	step := hourMillis
	if d.weekday {
		step = dayMillis
	}
	at := (floorDiv(s.at+s.offset, step)+1)*step - s.offset
	if at < s.steady {
		s.at = at
		return s
	}
	return look(zone, s.steady)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// value is what a rule sees of a face.
func (d *dial) value(face int) any {
	if d.weekday {
		return hub.Weekdays[face]
	}
	return face
}

// steps is how often next is asked before a question is taken to have one answer for ever: in that many steps it shows
// everything it ever shows, changes of the clocks included.
func (d *dial) steps() int {
	if d.weekday {
		return 12
	}
	return 80
}

// ask asks a question of the dial and records when its answer changes.
func (s *Session) ask(d *dial, holds func(face int) bool) (bool, error) {
	zone := d.at(s)
	now := look(zone, s.at)
	held := holds(d.face(now))
	for i := range d.steps() {
		now = d.next(zone, now)
		if holds(d.face(now)) != held {
			s.record(now.at)
			return held, s.charge(i)
		}
	}
	return held, s.charge(d.steps())
}

// dialIs compares what a dial shows with a value.
func dialIs(a ...any) (any, error) {
	s, d, o := a[0].(*Session), a[1].(*dial), a[3].(op)
	if d.weekday {
		want, _ := a[2].(string)
		return s.ask(d, func(face int) bool { return o.holds(strings.Compare(hub.Weekdays[face], want)) })
	}
	want := float(a[2])
	return s.ask(d, func(face int) bool { return !math.IsNaN(want) && o.holds(cmp.Compare(float64(face), want)) })
}

// dialIn looks what a dial shows up in a list.
func dialIn(a ...any) (any, error) {
	s, d := a[0].(*Session), a[1].(*dial)
	return s.ask(d, func(face int) bool {
		switch list := a[2].(type) {
		case []string:
			return d.weekday && slices.Contains(list, hub.Weekdays[face])
		case []any:
			return slices.ContainsFunc(list, func(x any) bool {
				if d.weekday {
					return x == hub.Weekdays[face]
				}
				return float(x) == float64(face)
			})
		}
		return false
	})
}

// dialValue is what a dial shows, for any other use: it records when that changes.
func dialValue(a ...any) (any, error) {
	s, d := a[0].(*Session), a[1].(*dial)
	now := d.face(look(d.at(s), s.at))
	_, err := s.ask(d, func(face int) bool { return face == now })
	return d.value(now), err
}

// dialed rewrites a comparison of weekday() or hour() with something else.
func dialed(n ast.Node, l, r term, o op) (term, bool) {
	switch {
	case l.dial != nil && r.dial == nil:
		return call(n, boolean, "$dialis", self(), constant(l.dial), r.node, constant(o)), true
	case r.dial != nil && l.dial == nil:
		return call(n, boolean, "$dialis", self(), constant(r.dial), l.node, constant(o.mirror())), true
	}
	return term{}, false
}

// face checks weekday([zone]) and hour([zone]).
func face(name string) func(*checker, ast.Node, []ast.Node) term {
	return func(c *checker, n ast.Node, args []ast.Node) term {
		if !c.arity(n, name, args, 0, 1) {
			return nothing
		}
		zone, at := "", n
		if len(args) == 1 {
			s, ok := args[0].(*ast.StringNode)
			if !ok {
				return c.fail(args[0], `write `+name+`("Europe/Berlin") or `+name+`("customer")`, "a time zone is written out in quotes")
			}
			if s.Value == "" {
				return c.fail(args[0], "leave it out for the zone of the model", "a time zone is named like Europe/Berlin")
			}
			zone, at = s.Value, args[0]
		}
		p, ok := c.place(at, zone)
		if !ok {
			return nothing
		}
		d := &dial{place: p, weekday: name == "weekday"}
		t := Type{Base: Number}
		if d.weekday {
			t = weekdayText
		}
		out := call(n, t, "$dial", self(), constant(d))
		out.dial = d
		if !d.weekday {
			out = intTerm(out)
		}
		return out
	}
}

// office is a calendar in a zone.
type office struct {
	place
	calendar hub.Calendar
	table    *hub.Timetable // by the clocks of place.zone
	tables   sync.Map       // of customers in other zones: *time.Location → *hub.Timetable
}

func (o *office) at(s *Session) *hub.Timetable {
	zone := o.place.at(s)
	if zone == o.zone {
		return o.table
	}
	if t, ok := o.tables.Load(zone); ok {
		return t.(*hub.Timetable)
	}
	t, _ := o.tables.LoadOrStore(zone, o.calendar.In(zone))
	return t.(*hub.Timetable)
}

// business is a length of business time, in milliseconds.
type business struct {
	length int64
	office *office
}

// maxBusiness is the longest length of business time, in hours: about five years of office hours.
const maxBusiness = 10_000

func inOffice(hours float64, o *office) business {
	if math.IsNaN(hours) {
		return business{none, o}
	}
	return business{int64(math.Round(min(max(hours, 0), maxBusiness) * float64(time.Hour/time.Millisecond))), o}
}

func (c *checker) businessHours(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "business_hours", args, 1, 2) {
		return nothing
	}
	t := c.elab(args[0])
	okNumber := c.want(args[0], t, Number, "business_hours")
	o := c.office(n, args[1:])
	if !okNumber || o == nil {
		return nothing
	}
	typ := Type{Base: Business}
	if f, ok := literal(t.node); ok {
		if f < 0 || f > maxBusiness {
			return c.fail(args[0], "", "business hours are between 0 and %d", maxBusiness)
		}
		return term{node: constant(inOffice(f, o)), typ: typ}
	}
	return call(n, typ, "$businesstime", t.node, constant(o))
}

// office returns the calendar that is named, or the one in force.
func (c *checker) office(n ast.Node, args []ast.Node) *office {
	clock := c.env.Clock
	var calendar hub.Calendar
	if len(args) == 1 {
		s, ok := args[0].(*ast.StringNode)
		if !ok {
			c.fail(args[0], `write business_hours(8, "office")`, "a calendar is written out in quotes")
			return nil
		}
		if calendar, ok = clock.Calendars[s.Value]; !ok {
			if len(clock.Calendars) == 0 {
				c.fail(args[0], "declare it in the configuration under calendars:", "there is no calendar %s", s.Value)
			} else {
				c.unknown(args[0], "calendar", s.Value, slices.Sorted(maps.Keys(clock.Calendars)))
			}
			return nil
		}
	} else {
		ok := false
		if calendar, ok = clock.Calendars[cmp.Or(clock.Calendar, "office")]; !ok {
			calendar = hub.OfficeHours("")
		}
	}
	if err := calendar.Check(); err != nil {
		c.fail(n, "", "the calendar: %s", told(err))
		return nil
	}
	p, ok := c.place(n, calendar.Zone)
	if !ok {
		return nil
	}
	return &office{place: p, calendar: calendar, table: calendar.In(p.zone)}
}

// businessIs compares the business time since something with a length of it, and records when that flips.
func businessIs(a ...any) (any, error) {
	s, b := a[0].(*Session), a[2].(business)
	base, ok := instantOf(a[1])
	if !ok || b.length == none {
		return false, nil
	}
	c := a[3].(comparison)
	table := b.office.at(s)
	var failed error
	reached := func(length int64) bool {
		at := base
		if length <= 0 {
			if c.clamped {
				return true
			}
		} else {
			days, ok := 0, false
			at, days, ok = table.After(base, length)
			if failed = cmp.Or(failed, s.charge(4*days)); !ok {
				return false
			}
		}
		s.record(at)
		return s.at >= at
	}
	held := false
	switch c.op {
	case ge:
		held = reached(b.length)
	case lt:
		held = !reached(b.length)
	case gt:
		held = reached(b.length + 1)
	case le:
		held = !reached(b.length + 1)
	default:
		from, past := reached(b.length), reached(b.length+1)
		held = (from && !past) == (c.op == eq)
	}
	return held, failed
}

// businessOp is a length of business time times or through a number.
func businessOp(a ...any) (any, error) {
	b, ok := a[0].(business)
	n := float(a[1])
	if !ok {
		b, n = a[1].(business), float(a[0])
	}
	if b.length == none {
		return b, nil
	}
	hours := float64(b.length) / float64(time.Hour/time.Millisecond)
	if a[2].(string) == "/" {
		return inOffice(hours/n, b.office), nil
	}
	return inOffice(hours*n, b.office), nil
}
