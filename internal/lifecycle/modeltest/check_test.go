package modeltest

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/lifecycle"
)

func compile(t testing.TB, text string) *lifecycle.Model {
	t.Helper()
	m, err := lifecycle.Compile("m.yaml", []byte(text), lifecycle.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func shipped(t testing.TB, name string) *lifecycle.Model {
	t.Helper()
	text, err := os.ReadFile("../../../rules/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return compile(t, string(text))
}

func TestTmp(t *testing.T) {
	m := shipped(t, "clc")
	begin := time.Now()
	r, err := Check(context.Background(), m, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d mutants %d noticed %d equal %d survivors, idle %v in %s", r.Mutants, r.Noticed, r.Equal, len(r.Survivors), r.CannotFail, time.Since(begin))
	for _, s := range r.Survivors {
		t.Logf("%d:%d %s %s\n%s", s.Line, s.Column, s.Path, s.What, s.Example)
		name := strings.Repeat(" ", 2) + strings.ReplaceAll(strings.TrimSpace(s.Example), "\n", "\n  ")
		_ = name
	}
	c := Cover(m)
	t.Logf("%+v", c.Gaps(LevelClauses))
}
