package lifecycle

import (
	"maps"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Move is a recorded move of a subject in whatever model.
type Move struct {
	Model, From, To string
	At              time.Time
	By              string // hub.ByRule, or hub.ByPin
}

// Recollect tells, from the recorded moves of a subject, oldest first, where it stood after them: its state in this model and
// its stages in all. stages are those before the first move. What a path-dependent model remembers is gathered from the moves
// as it was from the decisions.
func (m *Model) Recollect(st State, stages map[string]string, moves []Move) (State, map[string]string) {
	stages = maps.Clone(stages)
	if stages == nil {
		stages = map[string]string{}
	}
	mem := memory{}
	mem.note(m, st, stages, millis(st.Since))
	for _, move := range moves {
		at := move.At.UTC().Truncate(hub.Resolution)
		if move.Model == m.Name {
			mem.leave(m, st.Stage, millis(at))
			st.Stage, st.Since, st.DecidedAt, st.By = move.To, at, at, move.By
		}
		stages[move.Model] = move.To
		mem.note(m, st, stages, millis(at))
	}
	st.WakesAt, st.Path = time.Time{}, mem.encode(m)
	return st, stages
}
