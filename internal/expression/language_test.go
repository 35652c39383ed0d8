package expression

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// TestEveryFormOfTheLanguage compiles and runs each line of testdata/language.txt.
func TestEveryFormOfTheLanguage(t *testing.T) {
	text, err := os.ReadFile("testdata/language.txt")
	if err != nil {
		t.Fatal(err)
	}
	lostAfter, _ := NewParam("180d")
	loyal, _ := NewParam(5)
	env := &Env{
		Params: map[string]Param{"lost_after": lostAfter, "loyal_orders": loyal},
		Models: map[string]Model{"clc": {Stages: []string{"prospect", "new", "active", "loyal", "lost"}}},
		Fields: map[string]hub.PropertyType{"plan": hub.Text},
		Name:   "lights", Stages: []string{"red", "green"},
		Clock: Clock{Zone: "Europe/Berlin"},
	}
	f := customer(t)
	lines := 0
	for n, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		lines++
		compile := Compile
		if value, ok := strings.CutPrefix(line, "= "); ok {
			line, compile = value, CompileValue
		}
		p, problems := compile(line, env)
		if problems != nil {
			t.Errorf("language.txt:%d: %s: %+v", n+1, line, problems)
			continue
		}
		s := Begin(Input{Facts: f, At: day50, Stages: map[string]string{"clc": "loyal"}, Stage: "green", Since: start.Add(time.Hour)})
		if _, err := s.Run(p); err != nil {
			t.Errorf("language.txt:%d: %s: %v", n+1, line, err)
		}
		if next := s.Next(); !next.IsZero() && !next.After(day50) {
			t.Errorf("language.txt:%d: %s wakes at %s", n+1, line, next)
		}
		s.End()
	}
	if lines < 90 {
		t.Errorf("only %d lines", lines)
	}
}
