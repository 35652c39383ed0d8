package main

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/examples"
	"github.com/stagewire/stagewire/internal/server"
)

// One set of data, every stage model: the example's customers are where its expected.yaml has them, and the running hub shows each
// stage with its label in the language of its source and in English.
func TestLifecycleExample(t *testing.T) {
	if testing.Short() {
		t.Skip("tells a story of nine months, which takes some seconds")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var told, trouble lockedBuffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"quickstart", "--example", "lifecycle"}, nil, &told, &trouble) }()
	defer func() {
		cancel()
		<-ended
	}()
	address := waitFor(t, &told, `--server (http://\S+)\n`)
	token := waitFor(t, &told, `STAGEWIRE_TOKEN=(\S+)`)
	if text := told.String(); !strings.Contains(text, " 0 failed") {
		t.Errorf("not everybody stands where expected.yaml says:\n%s", text[strings.Index(text, "VENDOR"):])
	}
	ask := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, "--server", address, "--token", token), nil, &out, &errs); code != exitOK {
			t.Fatalf("%v: exit %d: %s", args, code, errs.String())
		}
		return out.String()
	}
	// Mei stands in all seven models of the texts at once; two of them have others beside them.
	mei := []struct{ model, stage, own, english string }{
		{"guide", "retention", "保留階段", "Retention"},
		{"relationship", "stability", "稳定期", "Stability"},
		{"activation", "in_touch", "联系中", "In touch"},
		{"seed", "ordinary", "普通客户", "Ordinary customer"},
		{"journey", "repurchase", "再次购买阶段", "Repurchase"},
		{"management", "retention", "客户保持", "Retention"},
		{"decline", "complaining", "抱怨", "Complaining"},
		{"nordic", "bonding", "Bonding / binding", "Bonding"},
		{"clc", "loyal", "忠诚客户", "Loyal customer"},
		{"clm", "loyalty", "客户忠诚度提升", "Loyalty growth"},
	}
	table := ask("customers", "--email", "mei@example.com")
	english := ask("customers", "--email", "mei@example.com", "--lang", "en")
	taiwan := ask("customers", "--email", "mei@example.com", "--lang", "zh-TW", "--json")
	raw := ask("customers", "--email", "mei@example.com", "--json")
	shown := ask("customers", "show", "mei@example.com")
	var page server.List[server.Customer]
	if err := json.Unmarshal([]byte(raw), &page); err != nil || len(page.Items) != 1 {
		t.Fatalf("%v: %s", err, raw)
	}
	for _, want := range mei {
		line := want.model + "=" + want.stage + "  "
		if !strings.Contains(table, line+want.own+" · "+want.english+"\n") {
			t.Errorf("the table does not show %s as %s and %s:\n%s", want.model, want.own, want.english, table)
		}
		if !strings.Contains(english, line+want.english+"\n") {
			t.Errorf("in English %s is not %s:\n%s", want.model, want.english, english)
		}
		if !strings.Contains(shown, want.own+" · "+want.english+"\n") {
			t.Errorf("one customer alone does not show %s and %s:\n%s", want.own, want.english, shown)
		}
		st := page.Items[0].Stages[want.model]
		if st.Stage != want.stage || st.Label != want.own || st.Labels["en"] != want.english {
			t.Errorf("as JSON %s is %+v", want.model, st)
		}
	}
	if !strings.Contains(taiwan, `"label": "保留階段"`) || strings.Contains(table, "\x00") {
		t.Errorf("labels in traditional characters:\n%s", taiwan)
	}
}

// What init writes of any example passes check and test as it is.
func TestExamplesAreGood(t *testing.T) {
	for _, name := range examples.Names {
		dir := filepath.Join(t.TempDir(), name)
		file := filepath.Join(dir, "stagewire.yaml")
		for _, args := range [][]string{{"init", "--example", name, dir}, {"check", "--config", file}, {"test", "--config", file}} {
			var out, errs bytes.Buffer
			if code := run(t.Context(), args, nil, &out, &errs); code != exitOK {
				t.Errorf("%v: exit %d: %s%s", args, code, out.String(), errs.String())
			}
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"init", "--example", "lifecyle", t.TempDir()}, nil, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "lifecycle") {
		t.Errorf("an example that is none: exit %d: %s", code, errs.String())
	}
}

// waitFor waits until text holds what the pattern's group names, a minute at most.
func waitFor(t *testing.T, text *lockedBuffer, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if m := re.FindStringSubmatch(text.String()); m != nil {
			return m[1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("not told in time: %s\n%s", pattern, text.String())
		}
	}
}
