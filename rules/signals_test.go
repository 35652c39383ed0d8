package rules

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
)

type signal struct {
	seed, words string
	targets     []string
	condition   string
	line        int
}

// signals reads the table of SIGNALS.md.
func signals(t *testing.T) []signal {
	t.Helper()
	text, err := os.ReadFile("SIGNALS.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []signal
	seed := ""
	for i, line := range strings.Split(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			seed, _, _ = strings.Cut(name, " ")
		}
		cells := strings.SplitN(strings.Trim(line, "| "), " | ", 3)
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 || cells[0] == "signal" {
			continue
		}
		s := signal{seed: seed, words: cells[0], condition: strings.Trim(cells[2], "`"), line: i + 1}
		for target := range strings.FieldsSeq(cells[1]) {
			s.targets = append(s.targets, strings.Trim(target, "`"))
		}
		out = append(out, s)
	}
	if len(out) < 100 {
		t.Fatalf("only %d signals were read", len(out))
	}
	return out
}

// TestSignals compiles each condition of the table, and sees that what the row names is there and is read by it.
func TestSignals(t *testing.T) {
	env := &expression.Env{Models: map[string]expression.Model{"clc": {}}}
	objects := []string{"orders", "tickets", "deals", "carts", "subscriptions", "tasks"}
	traits := regexp.MustCompile(`^customer\.(traits\.[a-z_]+|country|language|tags)$`)
	for _, s := range signals(t) {
		p, problems := expression.Compile(s.condition, env)
		if p == nil {
			t.Errorf("line %d: %s: %v", s.line, s.words, problems)
			continue
		}
		for _, target := range s.targets {
			used := false
			switch _, kind := hub.Catalogue.Lookup(target); {
			case kind:
				used = slices.Contains(p.Reads, target)
			case target == "any" || slices.Contains(hub.Groups, target):
				used = !slices.ContainsFunc(hub.Catalogue.Of(target), func(k string) bool { return !slices.Contains(p.Reads, k) })
			case slices.Contains(objects, target):
				used = regexp.MustCompile(`\((` + target + `),|\(` + target + `\)`).MatchString(s.condition)
			case traits.MatchString(target):
				used = strings.Contains(s.condition, target) && p.ReadsTraits || target == "customer.tags" && strings.Contains(s.condition, target)
			case strings.HasPrefix(target, "score.") || strings.HasPrefix(target, "rfm."):
				used = strings.Contains(s.condition, target) && p.Needs&expression.NeedsScores != 0
			default:
				t.Errorf("line %d: %s: the hub has no %s", s.line, s.words, target)
				continue
			}
			if !used {
				t.Errorf("line %d: %s: the condition does not read %s, but %v", s.line, s.words, target, p.Reads)
			}
		}
	}
}

// TestSignalsComplete compares the table with the list of what the texts name: nothing of it may be missing.
func TestSignalsComplete(t *testing.T) {
	const list = "../../shared/DOMAIN.md"
	text, err := os.ReadFile(list)
	if err != nil {
		t.Skipf("the list of signals is not there: %v", err)
	}
	_, section, _ := strings.Cut(string(text), "\n## 3 ")
	section, _, _ = strings.Cut(section, "\n## ")
	all := signals(t)
	seeds := 0
	for line := range strings.SplitSeq(section, "\n") {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| 00") || len(cells) != 2 {
			continue
		}
		seeds++
		seed, rest := line[2:5], strings.TrimSuffix(strings.TrimSpace(cells[1]), "|")
		rows := slices.DeleteFunc(slices.Clone(all), func(s signal) bool { return s.seed != seed })
		// Longer ones first: "purchase" is part of "purchase history".
		slices.SortStableFunc(rows, func(a, b signal) int { return len(b.words) - len(a.words) })
		for _, s := range rows {
			before, after, found := strings.Cut(rest, s.words)
			if !found {
				t.Errorf("line %d: %s has no signal %q (left: %s)", s.line, seed, s.words, rest)
				continue
			}
			rest = before + "\n" + after
		}
		for _, left := range strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune("\n;,()", r) }) {
			if left = strings.TrimSpace(left); left != "" && left != "and" {
				t.Errorf("%s: the table does not have %q", seed, left)
			}
		}
	}
	if seeds != 5 {
		t.Errorf("signals of %d texts found in %s", seeds, list)
	}
}
