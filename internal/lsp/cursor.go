package lsp

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
)

// cursor is a place in a text and what surrounds it.
type cursor struct {
	vocabulary Vocabulary
	lines      []string
	row        int
	before     string // the line up to the place
	after      string // and from there

	path  []string // of the mapping or value the place is in
	key   bool     // a key stands or is being typed there
	value string   // what stands of the value before the place
}

var keyForm = regexp.MustCompile(`^("?)([A-Za-z_][A-Za-z0-9_.-]*)("?):(?:[ \t]+|$)`)

func newCursor(text string, at position, v Vocabulary) *cursor {
	c := &cursor{vocabulary: v, lines: strings.Split(text, "\n"), row: max(0, at.Line)}
	line := ""
	if c.row < len(c.lines) {
		line = strings.TrimRight(c.lines[c.row], "\r")
	}
	coded := utf16.Encode([]rune(line))
	col := min(max(0, at.Character), len(coded))
	c.before, c.after = string(utf16.Decode(coded[:col])), string(utf16.Decode(coded[col:]))
	c.locate()
	return c
}

// dashes takes the marks of list items off the beginning of a line.
func dashes(line string) (indent int, marks []int, rest string) {
	rest = strings.TrimLeft(line, " ")
	indent = len(line) - len(rest)
	for strings.HasPrefix(rest, "- ") || rest == "-" {
		marks = append(marks, indent)
		inner := strings.TrimLeft(rest[1:], " ")
		indent += len(rest) - len(inner)
		rest = inner
	}
	return indent, marks, rest
}

// locate finds the path of the place.
func (c *cursor) locate() {
	indent, marks, rest := dashes(c.before)
	path := c.container(indent, marks)
	m := keyForm.FindStringSubmatch(rest)
	switch {
	case m != nil:
		path, rest = append(path, m[2]), rest[len(m[0]):]
	case strings.HasPrefix(rest, "{") || strings.HasPrefix(rest, "["):
	default:
		c.path, c.key, c.value = path, true, rest
		return
	}
	c.path, c.value = path, rest
	c.flow(rest)
}

// container returns the path of the mapping that a line of that indent, behind those marks, belongs to.
func (c *cursor) container(indent int, marks []int) []string {
	var reversed []string
	list := false
	take := func(marks []int) {
		for _, mark := range slices.Backward(marks) {
			reversed = append(reversed, "[]")
			indent, list = mark, true
		}
	}
	take(marks)
	for i := min(c.row, len(c.lines)) - 1; i >= 0 && (indent > 0 || list); i-- {
		line := strings.TrimRight(c.lines[i], "\r")
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		at, marks, rest := dashes(line)
		m := keyForm.FindStringSubmatch(rest)
		switch {
		case at == indent && !list && len(marks) > 0: // the first key of the item we are in
			take(marks)
		case at < indent || at == indent && list && len(marks) == 0:
			if m == nil {
				continue
			}
			reversed = append(reversed, m[2])
			indent, list = at, false
			take(marks)
		}
	}
	slices.Reverse(reversed)
	return reversed
}

// flow follows { } and [ ] on the line.
func (c *cursor) flow(text string) {
	type frame struct {
		open  rune
		key   string
		start int // of the present key or value
	}
	var stack []frame
	var quote rune
	if text != "" && text[0] != '{' && text[0] != '[' {
		return // a plain value: its brackets are an expression's
	}
	for i, r := range text {
		top := len(stack) - 1
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'':
			quote = r
		case r == '{' || r == '[':
			stack = append(stack, frame{open: r, start: i + 1})
		case (r == '}' || r == ']') && top >= 0:
			stack = stack[:top]
		case r == ':' && top >= 0 && stack[top].open == '{' && stack[top].key == "":
			stack[top].key, stack[top].start = strings.Trim(strings.TrimSpace(text[stack[top].start:i]), `"'`), i+1
		case r == ',' && top >= 0:
			stack[top].key, stack[top].start = "", i+1
		}
	}
	for _, f := range stack {
		if f.open == '[' {
			c.path = append(c.path, "[]")
		} else if f.key != "" {
			c.path = append(c.path, f.key)
		}
		c.key = f.open == '{' && f.key == ""
		c.value = strings.TrimLeft(text[f.start:], " ")
	}
}

// expression returns what stands of the expression before the place; false where there is none.
func (c *cursor) expression() (string, bool) {
	if at := strings.LastIndex(c.value, "${"); at >= 0 && !strings.Contains(c.value[at:], "}") {
		return c.value[at+2:], true
	}
	n := len(c.path)
	switch {
	case n == 0:
		return "", false
	case slices.Contains([]string{"when", "if", "unless", "becomes"}, c.path[n-1]):
	case n > 1 && c.path[n-2] == "define":
	default:
		return "", false
	}
	return strings.TrimLeft(c.value, `'`), true
}

// last returns the key whose value, or item, the place is in.
func (c *cursor) last() string {
	for _, step := range slices.Backward(c.path) {
		if step != "[]" {
			return step
		}
	}
	return ""
}
