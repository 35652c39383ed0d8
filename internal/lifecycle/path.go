package lifecycle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// memory is what State.Path keeps for a path-dependent model: what neither the facts nor the rest of the state tell.
type memory struct {
	left map[string]int64 // when a stage was last left, of those that a rule with cooldown leads to
	log  []moment         // in order, for conditions that read stages and have after
}

// moment is how the stages stood from an instant on, up to the next moment.
type moment struct {
	at     int64 // milliseconds since 1970, as all instants here
	stage  string
	since  int64
	others []string // of Model.watches, in its order
}

// Bounds of what is remembered.
const (
	pathVersion = 1
	// maxMoments bounds the log. What was dropped counts as unknown, so that a stretch begins no earlier than what is left.
	maxMoments = 256
)

var errPath = errors.New("what was remembered of the path cannot be read and is forgotten")

// recall reads what the state remembers. Damage costs the memory, not the decision.
func (m *Model) recall(path []byte) (memory, error) {
	mem := memory{}
	if !m.remembers() || len(path) == 0 {
		return mem, nil
	}
	d := pathDecoder{b: path}
	if v := d.uvarint(); v != pathVersion {
		return mem, fmt.Errorf("format %d, this release knows %d: %w", v, pathVersion, errPath)
	}
	mem.left = map[string]int64{}
	for range d.count() {
		stage, at := d.text(), d.varint()
		if m.cools[stage] {
			mem.left[stage] = at
		}
	}
	names := make([]string, d.count())
	for i := range names {
		names[i] = d.text()
	}
	var at int64
	for range d.count() {
		at += d.varint()
		now := moment{at: at, stage: d.text(), others: make([]string, len(m.watches))}
		now.since = at - d.varint()
		for _, name := range names {
			stage := d.text()
			if i := slices.Index(m.watches, name); i >= 0 {
				now.others[i] = stage
			}
		}
		if d.bad {
			break
		}
		mem.log = append(mem.log, now)
	}
	if d.bad || len(d.b) > 0 {
		return memory{}, errPath
	}
	if !m.logs || slices.ContainsFunc(m.watches, func(w string) bool { return !slices.Contains(names, w) }) {
		mem.log = nil // another version watched something else
	}
	return mem, nil
}

// remembers reports whether the model keeps anything in State.Path.
func (m *Model) remembers() bool { return len(m.cools) > 0 || m.logs }

// encode gives equal bytes for equal memories; nil for an empty one.
func (mem *memory) encode(m *Model) []byte {
	if len(mem.left) == 0 && len(mem.log) == 0 {
		return nil
	}
	b := binary.AppendUvarint(nil, pathVersion)
	b = binary.AppendUvarint(b, uint64(len(mem.left)))
	for _, stage := range slices.Sorted(maps.Keys(mem.left)) {
		b = appendText(b, stage)
		b = binary.AppendVarint(b, mem.left[stage])
	}
	b = binary.AppendUvarint(b, uint64(len(m.watches)))
	for _, name := range m.watches {
		b = appendText(b, name)
	}
	b = binary.AppendUvarint(b, uint64(len(mem.log)))
	var last int64
	for _, now := range mem.log {
		b = binary.AppendVarint(b, now.at-last)
		last = now.at
		b = appendText(b, now.stage)
		b = binary.AppendVarint(b, now.at-now.since)
		for _, stage := range now.others {
			b = appendText(b, stage)
		}
	}
	return b
}

// leave notes that a stage was left.
func (mem *memory) leave(m *Model, stage string, at int64) {
	if !m.cools[stage] {
		return
	}
	if mem.left == nil {
		mem.left = map[string]int64{}
	}
	mem.left[stage] = at
}

// note adds to the log how the stages stand from at on, and drops what no condition can look back to any more.
func (mem *memory) note(m *Model, st State, stages map[string]string, at int64) {
	if !m.logs {
		return
	}
	now := moment{at: at, stage: st.Stage, since: millis(st.Since), others: make([]string, len(m.watches))}
	for i, name := range m.watches {
		now.others[i] = stages[name]
	}
	if n := len(mem.log); n > 0 && mem.log[n-1].at >= at {
		mem.log = mem.log[:n-1]
	}
	if n := len(mem.log); n == 0 || !mem.log[n-1].same(now) {
		mem.log = append(mem.log, now)
	}
	from := at - int64(m.longest/time.Millisecond)
	for len(mem.log) > 1 && mem.log[1].at <= from {
		mem.log = mem.log[1:]
	}
	if len(mem.log) > maxMoments {
		mem.log = mem.log[len(mem.log)-maxMoments:]
	}
}

func (a moment) same(b moment) bool {
	return a.stage == b.stage && a.since == b.since && slices.Equal(a.others, b.others)
}

// when returns how the stages stood at an instant; false before the log begins.
func (mem *memory) when(at int64) (moment, bool) {
	i, found := slices.BinarySearchFunc(mem.log, at, func(m moment, at int64) int {
		switch {
		case m.at < at:
			return -1
		case m.at > at:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 {
		return moment{}, false
	}
	return mem.log[i], true
}

// Place returns the state after a person put the subject into a stage at an instant, or confirmed where it is: what must be
// remembered of a stage that is left is remembered. stages are the other models' as Decide takes them.
func (m *Model) Place(stages map[string]string, st State, stage string, at time.Time) State {
	mem, _ := m.recall(st.Path) // a pin must not fail for what cannot be read; the next decision tells it
	if st.Stage != stage {
		if st.Stage != "" {
			mem.leave(m, st.Stage, millis(at))
		}
		st.Stage, st.Since = stage, at
	}
	st.By, st.Rule, st.DecidedAt, st.WakesAt = hub.ByPin, -1, at, time.Time{}
	mem.note(m, st, stages, millis(at))
	st.Path = mem.encode(m)
	return st
}

func millis(t time.Time) int64 { return t.UnixMilli() }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// pathDecoder reads off the front of b; bad is set at the first thing that does not fit.
type pathDecoder struct {
	b   []byte
	bad bool
}

func (d *pathDecoder) uvarint() uint64 {
	u, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return u
}

func (d *pathDecoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of things, each of which takes at least one byte.
func (d *pathDecoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *pathDecoder) text() string {
	n := d.count()
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}
