package lifecycle

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/yamlfault"
)

// maxFile bounds a model's or reactions' file, in bytes.
const maxFile = 1 << 20

// maxDuration bounds what a person may write as a length of time.
const maxDuration = 100 * 365 * 24 * time.Hour

// source is a YAML file being read: it knows where each thing stands and collects what is wrong.
type source struct {
	file     string
	lines    []string
	problems []*Problem
}

// open parses text and returns its top mapping, nil with a problem noted where there is none.
func open(file string, text []byte) (*source, *yaml.Node) {
	s := &source{file: file}
	if len(text) > maxFile {
		s.problems = append(s.problems, &Problem{File: file, Message: fmt.Sprintf("the file has %d bytes, at most %d are read", len(text), maxFile)})
		return s, nil
	}
	if !utf8.Valid(text) {
		s.problems = append(s.problems, &Problem{File: file, Message: "the file is not valid UTF-8"})
		return s, nil
	}
	s.lines = strings.Split(string(text), "\n")
	var doc yaml.Node
	if err := decodeYAML(text, &doc); err != nil {
		fault := yamlfault.Explain(string(text), err)
		p := &Problem{File: file, Line: fault.Line, Column: fault.Column, Message: fault.Message, Suggestion: fault.Suggestion}
		p.Excerpt = s.excerpt(p.Line, p.Column)
		s.problems = append(s.problems, p)
		return s, nil
	}
	if at := second(s.lines); at > 0 {
		s.problems = append(s.problems, &Problem{
			File: file, Line: at, Column: 1, Message: "a second document begins here, which nobody would read", Suggestion: "take the line --- out, or make a file of its own",
			Excerpt: s.excerpt(at, 1),
		})
		return s, nil
	}
	if len(doc.Content) == 0 {
		s.problems = append(s.problems, &Problem{File: file, Message: "the file is empty"})
		return s, nil
	}
	if s.tooDeep(doc.Content[0], 0) {
		return s, nil
	}
	return s, doc.Content[0]
}

// second returns the line at which a second document begins, 0 without one.
func second(lines []string) int {
	begun := false
	for i, line := range lines {
		text := strings.TrimSpace(line)
		if (line == "---" || strings.HasPrefix(line, "--- ")) && begun {
			return i + 1
		}
		begun = begun || text != "" && !strings.HasPrefix(text, "#") && !strings.HasPrefix(text, "%")
	}
	return 0
}

// decodeYAML parses text. The library panics on some inputs; for us that is one more way of being unreadable.
func decodeYAML(text []byte, doc *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	return yaml.Unmarshal(text, doc)
}

// tooDeep refuses aliases (nothing here needs them, and they multiply) and deep nesting.
func (s *source) tooDeep(n *yaml.Node, depth int) bool {
	if n.Kind == yaml.AliasNode {
		s.fail(n, "", "write out what it stands for", "aliases (*%s) are not read", n.Value)
		return true
	}
	if depth > 20 {
		s.fail(n, "", "", "this is nested too deeply")
		return true
	}
	for _, c := range n.Content {
		if s.tooDeep(c, depth+1) {
			return true
		}
	}
	return false
}

// fail notes a mistake at a node.
func (s *source) fail(n *yaml.Node, path, suggestion, format string, args ...any) {
	p := &Problem{File: s.file, Path: path, Message: fmt.Sprintf(format, args...), Suggestion: suggestion}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
		p.Excerpt = s.excerpt(n.Line, n.Column)
	}
	s.problems = append(s.problems, p)
}

// expressionProblems notes mistakes in an expression that n holds.
func (s *source) expressionProblems(n *yaml.Node, path string, problems []expression.Problem) {
	for _, e := range problems {
		line, column := s.locate(n, e.Offset)
		s.problems = append(s.problems, &Problem{
			File: s.file, Line: line, Column: column, Path: path, Message: e.Message, Suggestion: e.Suggestion,
			Excerpt: s.excerpt(line, column),
		})
	}
}

// excerpt is the line with a caret below the column.
func (s *source) excerpt(line, column int) string {
	if line < 1 || line > len(s.lines) {
		return ""
	}
	text := strings.ReplaceAll(strings.TrimRight(s.lines[line-1], "\r"), "\t", " ")
	runes := []rune(text)
	at := min(max(column-1, 0), len(runes))
	if len(runes) > 160 { // show what surrounds the place
		from := max(0, at-80)
		runes = runes[from:min(len(runes), from+160)]
		at -= from
	}
	return string(runes) + "\n" + strings.Repeat(" ", at) + "^"
}

// locate returns line and column of the character at offset in the scalar's value, whatever style it is written in:
// it walks value and file side by side.
func (s *source) locate(n *yaml.Node, offset int) (line, column int) {
	line, column = n.Line-1, n.Column-1
	if line < 0 || line >= len(s.lines) {
		return n.Line, n.Column
	}
	block := n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	double, single := n.Style&yaml.DoubleQuotedStyle != 0, n.Style&yaml.SingleQuotedStyle != 0
	at := func() []rune {
		if line >= len(s.lines) {
			return nil
		}
		return []rune(strings.TrimRight(s.lines[line], "\r"))
	}
	row := at()
	// Every line of a block starts at the indent of its first; what goes beyond belongs to the value.
	indent := 0
	for i := line + 1; block && i < len(s.lines); i++ {
		if text := strings.TrimLeft(s.lines[i], " "); strings.TrimSpace(text) != "" {
			indent = len(s.lines[i]) - len(text)
			break
		}
	}
	// nextLine moves to where the value goes on: in a block the next line, else the next that holds anything.
	nextLine := func() bool {
		if block {
			line++
			row, column = at(), indent
			return line < len(s.lines)
		}
		for line++; line < len(s.lines); line++ {
			row = at()
			if text := strings.TrimLeft(string(row), " "); text != "" {
				column = len(row) - utf8.RuneCountInString(text)
				return true
			}
		}
		return false
	}
	switch {
	case block:
		if !nextLine() {
			return n.Line, n.Column
		}
	case double || single:
		column++
	}
	for i, r := range []rune(n.Value) {
		// Where the line of the file is used up, the value goes on in the next one.
		for column >= len(row) && r != '\n' && r != ' ' {
			if !nextLine() {
				return n.Line, n.Column
			}
		}
		if i == offset {
			break
		}
		switch {
		case (r == '\n' || r == ' ') && column >= len(row):
			if !nextLine() {
				return line + 1, column + 1
			}
		case (r == '\n' || r == ' ') && !block && strings.TrimSpace(string(row[column:])) == "":
			if !nextLine() {
				return line + 1, column + 1
			}
		case double && row[column] == '\\' && column+1 < len(row):
			switch row[column+1] {
			case 'x':
				column += 4
			case 'u':
				column += 6
			case 'U':
				column += 10
			default:
				column += 2
			}
		case single && row[column] == '\'' && r == '\'':
			column += 2
		default:
			column++
		}
	}
	return line + 1, column + 1
}

// fields returns the values of a mapping by key. Unknown and doubled keys are reported. A misspelt key counts as the one that was
// meant, so that what it holds is checked too and nothing is missing.
func (s *source) fields(n *yaml.Node, path string, known ...string) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	if n.Kind != yaml.MappingNode {
		suggestion := "known here: " + strings.Join(known, ", ")
		if n.Kind == yaml.ScalarNode && n.Value != "" && contains(known, "name") {
			suggestion = "write {name: " + n.Value + "}"
		}
		s.fail(n, path, suggestion, "this must be keys with values")
		return out
	}
	lines := map[string]int{}
	meant := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !contains(known, k.Value) {
			message, suggestion := s.unknownKey(k.Value, known)
			if c := expression.Closest(k.Value, known); c != "" {
				meant[c] = v
			}
			s.fail(k, path, suggestion, "%s", message)
			continue
		}
		if _, ok := out[k.Value]; ok {
			s.fail(k, path, "put both under one", "%s is there twice: first on line %d", k.Value, lines[k.Value])
			continue
		}
		out[k.Value], lines[k.Value] = v, k.Line
	}
	for key, v := range meant {
		if out[key] == nil {
			out[key] = v
		}
	}
	return out
}

// unknownKey says what is wrong with a key, and where it belongs if it is one of another place.
func (s *source) unknownKey(key string, known []string) (message, suggestion string) {
	message = "unknown key " + key
	if name, value, ok := strings.Cut(key, ":"); ok && contains(known, name) {
		return "a space is missing after the colon", "write " + name + ": " + value
	}
	if contains(known, "decide") || contains(known, "when") || contains(known, "terminal") {
		for _, place := range []struct{ form, name string }{{FormStage, "a stage"}, {FormRule, "a rule"}, {FormTarget, "a stage's target"}, {FormModel, "the model, at the top of the file"}} {
			if contains(keysOf(place.form), key) {
				return key + " does not belong here", "it is a key of " + place.name
			}
		}
		if contains([]string{"connection", "connections", "via"}, key) {
			return "a model names no connection, so that it can be shared: " + key + " does not belong here", "say it in a reaction, or under write: in the configuration"
		}
	}
	if c := expression.Closest(key, known); c != "" {
		return message, "did you mean " + c + "?"
	}
	return message, "known here: " + strings.Join(known, ", ")
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}

// pairs calls fn for each key of a mapping, in order; doubled keys are reported.
func (s *source) pairs(n *yaml.Node, path string, fn func(k, v *yaml.Node)) {
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		s.fail(n, path, "such as {name: value}", "this must be keys with values")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if seen[k.Value] {
			s.fail(k, path, "take one of them out", "%s is there twice", k.Value)
			continue
		}
		seen[k.Value] = true
		fn(k, n.Content[i+1])
	}
}

// items returns the items of a list.
func (s *source) items(n *yaml.Node, path string) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		s.fail(n, path, "begin each item on a line of its own, with a dash and a space", "this must be a list")
		return nil
	}
	return n.Content
}

// text returns a scalar, "" with a report for anything else.
func (s *source) text(n *yaml.Node, path string) string {
	if n == nil {
		return ""
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		s.fail(n, path, "write a text, or leave the key out", "nothing stands here")
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		s.fail(n, path, "", "this must be a text")
		return ""
	}
	return n.Value
}

// texts returns a list of scalars; a single one counts as a list of one.
func (s *source) texts(n *yaml.Node, path string) []string {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return []string{s.text(n, path)}
	}
	var out []string
	for i, item := range s.items(n, path) {
		out = append(out, s.text(item, fmt.Sprintf("%s[%d]", path, i)))
	}
	return out
}

// duration returns a duration such as 7d.
func (s *source) duration(n *yaml.Node, path string) time.Duration {
	if n == nil {
		return 0
	}
	d, ok := expression.ParseDuration(s.text(n, path))
	if !ok || d <= 0 {
		s.fail(n, path, durationHint(n.Value), "%q is not a duration", n.Value)
		return 0
	}
	if d > maxDuration {
		s.fail(n, path, "", "%s is longer than 100 years", n.Value)
		return 0
	}
	return d
}

var (
	bareNumber = regexp.MustCompile(`^\d+$`)
	inWords    = regexp.MustCompile(`^(\d+) *(minute|hour|day|week|month)s?$`)
)

// durationHint tells how a duration is written.
func durationHint(text string) string {
	if bareNumber.MatchString(text) && strings.Trim(text, "0") != "" {
		return "say a number of what: " + text + "d for days, " + text + "h for hours"
	}
	if m := inWords.FindStringSubmatch(text); m != nil {
		return "write " + m[1] + map[string]string{"minute": "m", "hour": "h", "day": "d", "week": "w", "month": "mo"}[m[2]]
	}
	return "write 90d, 12h, 30m"
}

// flag returns true or false.
func (s *source) flag(n *yaml.Node, path string) bool {
	if n == nil {
		return false
	}
	var b bool
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Decode(&b) != nil {
		s.fail(n, path, "write true, or leave it out", "this must be true or false")
	}
	return b
}

// instant returns a time such as 2026-01-01T10:00:00Z, or a date.
func (s *source) instant(n *yaml.Node, path string) time.Time {
	if n == nil {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, n.Value); err == nil {
			return t.UTC().Truncate(time.Millisecond)
		}
	}
	s.fail(n, path, "write 2026-01-01T10:00:00Z", "%q is not a time", n.Value)
	return time.Time{}
}

// scalar returns a scalar in its YAML type: int, float64, bool or string.
func scalar(n *yaml.Node) (any, bool) {
	if n.Kind != yaml.ScalarNode {
		return nil, false
	}
	switch n.Tag {
	case "!!int":
		var i int
		if n.Decode(&i) == nil {
			return i, true
		}
		var f float64
		return f, n.Decode(&f) == nil
	case "!!float":
		var f float64
		return f, n.Decode(&f) == nil
	case "!!bool":
		var b bool
		return b, n.Decode(&b) == nil
	case "!!null":
		return nil, false
	}
	return n.Value, true
}
