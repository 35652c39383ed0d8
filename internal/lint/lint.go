package lint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// Finding is one piece of advice about a model.
type Finding struct {
	Check        string // its name, as lint:ignore has it
	File         string
	Line, Column int // from 1
	Path         string
	Message      string
	Suggestion   string
}

// Options are what a model is judged against beside itself. The zero value is fine.
type Options struct {
	Kinds *hub.Kinds // nil: the built-in catalogue
	// Retention is how long events stay, by kind or group; what is not named stays for ever.
	Retention map[string]time.Duration
	// Used are the named conditions that something outside of the model uses, such as reactions.
	Used []string
	// Stages are those of other models, by name.
	Stages map[string][]string
	// Customers is how many are made up at most to reach the rules; 0 for DefaultCustomers.
	Customers int
}

// DefaultCustomers is how many customers are made up for a model whose rules are not all reached before.
const DefaultCustomers = 4000

// The checks, by name.
const (
	checkUnreachable = "unreachable"
	checkShadowed    = "shadowed"
	checkUnreached   = "unreached"
	checkNoWayOut    = "no-way-out"
	checkConstant    = "constant"
	checkSameStage   = "same-stage"
	checkUnits       = "units"
	checkScale       = "scale"
	checkRetention   = "retention"
	checkSilence     = "silence"
	checkExact       = "exact-count"
	checkUnused      = "unused"
	checkTarget      = "target"
	checkLabels      = "labels"
	checkIgnore      = "ignore"
)

// Checks are the names of all checks and what each looks for.
var Checks = map[string]string{
	checkUnreachable: "a stage that no rule leads to",
	checkShadowed:    "a rule that can never win, because one above it holds whenever it does",
	checkUnreached:   "a rule that none of many made-up customers reaches",
	checkNoWayOut:    "a stage that no rule leads out of, though it is not terminal",
	checkConstant:    "a condition, or a part of one, that always or never holds",
	checkSameStage:   "rules that make no difference, because the line below gives the same stage",
	checkUnits:       "days where hours seem to be meant, and the like",
	checkScale:       "a threshold off the scale of NPS, CSAT or CES",
	checkRetention:   "a window longer than events are kept",
	checkSilence:     "> where >= is meant: silence changes a stage at the very instant",
	checkExact:       "== on a count that goes on growing",
	checkUnused:      "a parameter or named condition that nothing uses",
	checkTarget:      "a target that customers cannot reach, or not in time",
	checkLabels:      "a label missing in a language that others have",
	checkIgnore:      "a lint:ignore that names no check or silences nothing",
}

// linter is one run over one model.
type linter struct {
	m    *lifecycle.Model
	opts Options
	root *yaml.Node

	params  map[string]value
	defines map[string]lifecycle.Condition
	rules   []*rule
	proof   prover
	reached map[string]bool // the stages that a customer can come to, as far as that is proved

	findings []Finding
}

// Check judges a model that was compiled from text. Findings are in the order of the file.
func Check(m *lifecycle.Model, text []byte, opts Options) []Finding {
	l := newLinter(m, text, opts)
	l.walkAll()
	l.logic()
	l.stages()
	l.search()
	l.unused()
	l.labels()
	return l.silenced(string(text))
}

// newLinter reads the model's conditions.
func newLinter(m *lifecycle.Model, text []byte, opts Options) *linter {
	if opts.Kinds == nil {
		opts.Kinds = hub.Catalogue
	}
	if opts.Customers == 0 {
		opts.Customers = DefaultCustomers
	}
	l := &linter{m: m, opts: opts, root: top(text), defines: m.Defines()}
	l.readParams()
	l.readRules()
	return l
}

func (l *linter) report(check string, line, column int, path, suggestion, format string, args ...any) {
	f := Finding{
		Check: check, File: l.m.File(), Line: line, Column: column, Path: path, Suggestion: suggestion, Message: fmt.Sprintf(format, args...),
	}
	if !slices.Contains(l.findings, f) {
		l.findings = append(l.findings, f)
	}
}

// at reports at a node of the file, or at its first line where there is none.
func (l *linter) at(n *yaml.Node, check, path, suggestion, format string, args ...any) {
	line, column := 1, 1
	if n != nil {
		line, column = n.Line, n.Column
	}
	l.report(check, line, column, path, suggestion, format, args...)
}

// silenced sorts the findings and leaves out those that a comment silences.
func (l *linter) silenced(text string) []Finding {
	type ignore struct {
		line, column, covers int
		check                string
		used                 bool
	}
	var ignores []*ignore
	names := slices.Sorted(maps.Keys(Checks))
	number := 0
	for line := range strings.Lines(text) {
		number++
		before, words, ok := strings.Cut(line, "lint:ignore")
		// The comment must be one: YAML's begin with # after a space or at the start of a line.
		hash := strings.LastIndex(before, "#")
		if !ok || hash < 0 || hash > 0 && !strings.ContainsRune(" \t", rune(before[hash-1])) || strings.TrimSpace(before[hash+1:]) != "" {
			continue
		}
		covers := number
		if strings.TrimSpace(before[:hash]) == "" {
			covers++ // alone on its line: it speaks of the next
		}
		column := len([]rune(before[:hash])) + 1
		words, _, _ = strings.Cut(words, "#")
		fields := strings.FieldsFunc(words, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
		if len(fields) == 0 {
			l.report(checkIgnore, number, column, "", "known: "+strings.Join(names, ", "), "lint:ignore names no check")
		}
		for _, name := range fields {
			if _, known := Checks[name]; known {
				ignores = append(ignores, &ignore{number, column, covers, name, false})
				continue
			}
			suggestion := "known: " + strings.Join(names, ", ")
			if c := expression.Closest(name, names); c != "" {
				suggestion = "did you mean " + c + "?"
			}
			l.report(checkIgnore, number, column, "", suggestion, "lint:ignore names %s, which is no check", name)
		}
	}
	var out []Finding
	for _, f := range l.findings {
		silent := false
		for _, i := range ignores {
			if i.check == f.Check && i.covers == f.Line {
				i.used, silent = true, true
			}
		}
		if !silent {
			out = append(out, f)
		}
	}
	for _, i := range ignores {
		if !i.used {
			out = append(out, Finding{
				Check: checkIgnore, File: l.m.File(), Line: i.line, Column: i.column,
				Message: "this silences nothing: no " + i.check + " is found here", Suggestion: "take the comment out, or put it on the line that is meant",
			})
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Check, b.Check))
	})
	return out
}

// top returns the top mapping of a file that compiled.
func top(text []byte) *yaml.Node {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return &yaml.Node{}
	}
	return doc.Content[0]
}

// child returns the value of a key, nil without it.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// keyNode returns the key itself.
func keyNode(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i]
		}
	}
	return nil
}

// item returns the i-th item of a list, nil without it.
func item(n *yaml.Node, i int) *yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode || i >= len(n.Content) {
		return nil
	}
	return n.Content[i]
}
