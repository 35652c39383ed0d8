package expression

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/stagewire/stagewire/internal/fact"
)

// Bounds of one evaluation. With the bound on an expression's nodes they keep it below a tenth of a second, whatever
// was written and whatever the customer did.
const (
	memoryBudget = 10_000    // elements of lists made
	workBudget   = 1_000_000 // entries and objects looked at
)

// Input is what an expression is evaluated over.
type Input struct {
	Facts *fact.Facts
	At    time.Time // whole milliseconds
	// Stages has the stage in each other model, by its name.
	Stages map[string]string
	// Stage and Since are the present stage in the model itself, for stage and stage_age.
	Stage string
	Since time.Time
	// Vars are the texts that Env.Vars declared.
	Vars map[string]string
}

const (
	never     = int64(math.MaxInt64)            // no next instant
	none      = fact.None                       // no instant
	neverSpan = time.Duration(math.MinInt64)    // no duration
	maxSpan   = 200 * 365 * 24 * time.Hour      // longest duration a calculation can give
	maxWindow = 100 * 365 * 24 * time.Hour      // longest one that can be written
	dayMillis = int64(24 * time.Hour / 1000000) // milliseconds of a day
)

// Session evaluates programs at one instant and keeps the least instant at which any of them could differ. Get one
// by [Begin], give it back by [Session.End]. It is not safe for concurrent use.
type Session struct {
	in    Input
	at    int64
	next  int64
	work  int
	depth int
	vms   []*vm.VM
	memo  []memo
}

type memo struct {
	program *Program
	value   any
	next    int64
	err     error
}

var sessions = sync.Pool{New: func() any { return new(Session) }}

// Begin starts a session over in. The facts must not change until its end.
func Begin(in Input) *Session {
	s := sessions.Get().(*Session)
	s.in, s.at, s.next, s.work, s.depth = in, in.At.UnixMilli(), never, 0, 0
	if s.in.Facts == nil {
		s.in.Facts = fact.Union()
	}
	return s
}

// End gives the session back; it must not be used afterwards.
func (s *Session) End() {
	s.in = Input{}
	clear(s.memo)
	s.memo = s.memo[:0]
	sessions.Put(s)
}

// Next returns the next instant at which one of the programs run so far could give something else though nothing
// happens in between, zero for never. It is after the session's instant.
func (s *Session) Next() time.Time {
	if s.next == never {
		return time.Time{}
	}
	return time.UnixMilli(s.next).UTC()
}

// Run evaluates p. An error says what went wrong at which place of p's text; it wraps nothing.
func (s *Session) Run(p *Program) (any, error) { return s.run(p.code, p) }

// Bool evaluates a condition. One that fails counts as not holding.
func (s *Session) Bool(p *Program) (bool, error) {
	v, err := s.run(p.code, p)
	if err != nil {
		return false, err
	}
	b, _ := v.(bool)
	return b, nil
}

// Apart evaluates p and also tells p's own next instant (zero for never).
func (s *Session) Apart(p *Program) (v any, next time.Time, err error) {
	saved := s.next
	s.next = never
	v, err = s.Run(p)
	next = s.Next()
	s.next = min(s.next, saved)
	return v, next, err
}

func (s *Session) run(code *vm.Program, p *Program) (any, error) {
	if s.depth >= len(s.vms) {
		s.vms = append(s.vms, &vm.VM{MemoryBudget: memoryBudget})
	}
	machine := s.vms[s.depth]
	s.depth++
	v, err := machine.Run(code, s)
	s.depth--
	if err != nil {
		return nil, p.locate(err)
	}
	return v, nil
}

// define runs a named condition once per session.
func (s *Session) define(p *Program) (any, error) {
	for i := range s.memo {
		if m := &s.memo[i]; m.program == p {
			s.next = min(s.next, m.next)
			return m.value, m.err
		}
	}
	saved := s.next
	s.next = never
	v, err := s.run(p.code, p)
	s.memo = append(s.memo, memo{p, v, s.next, err})
	s.next = min(s.next, saved)
	return v, err
}

// record notes that something flips at t.
func (s *Session) record(t int64) {
	if t > s.at && t < s.next {
		s.next = t
	}
}

var errWork = errors.New("looks at more than a million events: simplify nested predicates")

// charge counts n things looked at.
func (s *Session) charge(n int) error {
	if s.work += n + 1; s.work > workBudget {
		return errWork
	}
	return nil
}

// RunError is what went wrong while a program ran, and where in its text.
type RunError struct {
	Offset  int // in characters
	Message string
}

func (e *RunError) Error() string { return e.Message }

func (p *Program) locate(err error) error {
	if inner, ok := errors.AsType[*RunError](err); ok {
		return inner
	}
	if f, ok := errors.AsType[*file.Error](err); ok {
		return &RunError{Offset: f.From, Message: f.Message}
	}
	return &RunError{Message: fmt.Sprint(err)}
}

// add is a+b that stays at the ends instead of overflowing.
func add(a, b int64) int64 {
	c := a + b
	if a > 0 && b > 0 && c < 0 {
		return math.MaxInt64 - 1
	}
	if a < 0 && b < 0 && c >= 0 {
		return math.MinInt64 + 1
	}
	return c
}

// instantOf returns the instant a value stands for; false for none.
func instantOf(v any) (int64, bool) {
	switch v := v.(type) {
	case *fact.Entry:
		return v.Millis(), true
	case instant:
		return int64(v), int64(v) != none
	}
	return 0, false
}

// instant is a point in time at run time: milliseconds since 1970, none for none.
type instant int64

type op uint8

const (
	lt op = iota
	le
	gt
	ge
	eq
	ne
)

var ops = map[string]op{"<": lt, "<=": le, ">": gt, ">=": ge, "==": eq, "!=": ne}

// mirror is the operator that holds with the sides swapped.
func (o op) mirror() op { return [...]op{gt, ge, lt, le, eq, ne}[o] }

func (o op) holds(c int) bool {
	switch o {
	case lt:
		return c < 0
	case le:
		return c <= 0
	case gt:
		return c > 0
	case ge:
		return c >= 0
	case eq:
		return c == 0
	}
	return c != 0
}

// elapsed compares the span since base with d and records when that flips. A clamped span is never below zero.
func (s *Session) elapsed(base int64, clamped bool, d time.Duration, o op) bool {
	ms := int64(d / time.Millisecond)
	reached := func(ms int64) bool {
		if clamped && ms <= 0 {
			return true
		}
		t := add(base, ms)
		s.record(t)
		return s.at >= t
	}
	switch o {
	case ge:
		return reached(ms)
	case lt:
		return !reached(ms)
	case gt:
		return reached(ms + 1)
	case le:
		return !reached(ms + 1)
	}
	// Both boundaries matter: the span equals d for one millisecond.
	from, past := reached(ms), reached(ms+1)
	return (from && !past) == (o == eq)
}

// spans compares the spans since two instants.
func (s *Session) spans(a, b int64, clampedA, clampedB bool, o op) bool {
	age := func(base int64, clamped bool) int64 {
		s.record(base)
		s.record(add(base, 1))
		n := add(s.at, -base)
		if clamped {
			n = max(0, n)
		}
		return n
	}
	x, y := age(a, clampedA), age(b, clampedB)
	switch {
	case x < y:
		return o.holds(-1)
	case x > y:
		return o.holds(1)
	}
	return o.holds(0)
}

// entries returns what a kind set stands for.
func (s *Session) entries(k *kindSet) []*fact.Entry {
	switch {
	case k.standing:
		return s.in.Facts.Standing()
	case k.name == "any":
		return s.in.Facts.Outside()
	}
	return s.in.Facts.Set(k.name, k.kinds)
}

// cut returns the entries younger than w. It records nothing.
func (s *Session) cut(all []*fact.Entry, w time.Duration) []*fact.Entry {
	if w <= 0 {
		return nil
	}
	limit := s.at - int64(w/time.Millisecond)
	// Windows hold the newest entries and most are short: search from the end in growing steps.
	lo, hi := 0, len(all)
	for step := 1; hi > 0; step *= 2 {
		i := max(0, len(all)-step)
		if all[i].Millis() <= limit {
			lo = i + 1
			break
		}
		hi = i
		if i == 0 {
			break
		}
	}
	for lo < hi {
		mid := (lo + hi) / 2
		if all[mid].Millis() > limit {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return all[hi:]
}

// window returns the entries younger than w and records when the oldest of them leaves.
func (s *Session) window(all []*fact.Entry, w time.Duration) []*fact.Entry {
	in := s.cut(all, w)
	if len(in) > 0 {
		s.record(add(in[0].Millis(), int64(w/time.Millisecond)))
	}
	return in
}

// newest is window for those who only ask whether there is one, or for the newest: it records when that one leaves.
func (s *Session) newest(all []*fact.Entry, w time.Duration) *fact.Entry {
	if len(all) == 0 || w <= 0 {
		return nil
	}
	e := all[len(all)-1]
	t := add(e.Millis(), int64(w/time.Millisecond))
	s.record(t)
	if s.at >= t {
		return nil
	}
	return e
}

// countIs compares the number of entries younger than w with n and records when that comparison flips. The number only
// falls as time passes, so it flips when the n-th (or n+1st) newest entry leaves.
func (s *Session) countIs(all []*fact.Entry, w time.Duration, n float64, o op) bool {
	c := len(s.cut(all, w))
	leaves := func(k int) { // record when the k-th newest of those inside leaves
		if k >= 1 && k <= c {
			s.record(add(all[len(all)-k].Millis(), int64(w/time.Millisecond)))
		}
	}
	if n == math.Trunc(n) && math.Abs(n) < 1<<31 {
		k := int(n)
		switch o {
		case ge, lt:
			leaves(k)
		case gt, le:
			leaves(k + 1)
		default:
			leaves(k)
			leaves(k + 1)
		}
	} else if !math.IsNaN(n) {
		leaves(int(min(max(math.Ceil(n), 0), 1<<31)))
	}
	switch f := float64(c); {
	case f < n:
		return o.holds(-1)
	case f > n:
		return o.holds(1)
	case f == n:
		return o.holds(0)
	}
	return false
}
