// Package yamlfault says in plain words what the YAML library complains of, and finds the place: the library names the line where it
// gave up, which is often not the one that is wrong.
package yamlfault

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Fault is what is wrong with a text that is no YAML.
type Fault struct {
	Line, Column int // from 1
	Message      string
	Suggestion   string
}

var (
	lineOf     = regexp.MustCompile(`line (\d+)`)
	prefix     = regexp.MustCompile(`^yaml: (?:line [0-9]+: )?`)
	quotedPart = regexp.MustCompile(`^\s*(?:- +)?[A-Za-z_]+:[ \t]+("(?:[^"\\]|\\.)*"|'[^']*')[ \t]*[^\s#,}\]]`)
	flowWhen   = regexp.MustCompile(`\{.*\b(?:when|if|unless|becomes)[ \t]*:`)
	keyLine    = regexp.MustCompile(`^\s*(?:- +)?[A-Za-z_]+:(?:\s|$)`)
)

// BlockStyle tells how to write a condition that YAML would cut.
const BlockStyle = "write when: on a line of its own, not inside { }"

// Explain finds the fault that made the library fail with err.
func Explain(text string, err error) Fault {
	f := Fault{Line: 1, Column: 1, Message: prefix.ReplaceAllString(err.Error(), "")}
	if m := lineOf.FindStringSubmatch(err.Error()); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
	}
	t := lines(strings.Split(text, "\n"))
	for _, look := range []func(lines, Fault) (Fault, bool){tab, cut, quote, colon, missingColon, bracket, start, indent} {
		if found, ok := look(t, f); ok {
			return found
		}
	}
	return f
}

type lines []string

// near calls fn for the lines around the one that the library names, and returns the first it takes.
func (t lines) near(line, before, after int, fn func(text string) (column int, ok bool)) (at, column int, ok bool) {
	for i := max(1, line-before); i <= min(len(t), line+after); i++ {
		if column, ok := fn(strings.TrimRight(t[i-1], "\r")); ok {
			return i, column, true
		}
	}
	return 0, 0, false
}

// column counts characters up to a byte of the line, from 1.
func column(text string, at int) int { return utf8.RuneCountInString(text[:at]) + 1 }

func tab(t lines, f Fault) (Fault, bool) {
	line, col, ok := t.near(f.Line, 1, 1, func(text string) (int, bool) {
		indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
		at := strings.IndexByte(indent, '\t')
		return at + 1, at >= 0
	})
	return Fault{line, col, "a tab stands here", "indent with spaces"}, ok
}

// cut finds a condition inside { }, which ends at its first comma or quote.
func cut(t lines, f Fault) (Fault, bool) {
	if !strings.Contains(f.Message, "',' or") && !strings.Contains(f.Message, "mapping values") {
		return f, false
	}
	line, col, ok := t.near(f.Line, 1, 2, func(text string) (int, bool) {
		at := flowWhen.FindStringIndex(text)
		if at == nil {
			return 0, false
		}
		return column(text, at[0]), true
	})
	return Fault{line, col, "YAML cuts the condition at its first comma", BlockStyle}, ok
}

func quote(t lines, f Fault) (Fault, bool) {
	if strings.Contains(f.Message, "expected key") || strings.Contains(f.Message, "expected '-'") || strings.Contains(f.Message, "block mapping") {
		line, col, ok := t.near(f.Line, 2, 4, func(text string) (int, bool) {
			at := quotedPart.FindStringSubmatchIndex(text)
			if at == nil {
				return 0, false
			}
			return column(text, at[2]), true
		})
		return Fault{line, col, "the text in quotes ends before the line does", "put single quotes around the whole value: '\"a\" == \"b\"'"}, ok
	}
	if !strings.Contains(f.Message, "end of stream") {
		return f, false
	}
	line, col, ok := t.near(f.Line, len(t), len(t), func(text string) (int, bool) {
		for _, q := range []string{`"`, `'`} {
			if strings.Count(text, q)%2 == 1 {
				return column(text, strings.Index(text, q)), true
			}
		}
		return 0, false
	})
	return Fault{line, col, "a quote is opened here and not closed", "write the quote that belongs to it"}, ok
}

func colon(t lines, f Fault) (Fault, bool) {
	if !strings.Contains(f.Message, "mapping values") {
		return f, false
	}
	line, col, ok := t.near(f.Line, 1, 1, func(text string) (int, bool) {
		first := strings.Index(text, ": ")
		if first < 0 {
			return 0, false
		}
		second := strings.Index(text[first+2:], ": ")
		if second < 0 {
			return 0, false
		}
		return column(text, first+2+second), true
	})
	return Fault{line, col, "there is a second colon on this line", "put the text that holds it in quotes"}, ok
}

func missingColon(t lines, f Fault) (Fault, bool) {
	if !strings.Contains(f.Message, "expected ':'") && !strings.Contains(f.Message, "mapping values") {
		return f, false
	}
	word := ""
	line, col, ok := t.near(f.Line, 1, 1, func(text string) (int, bool) {
		word = strings.TrimPrefix(strings.TrimSpace(text), "- ")
		if word == "" || strings.Contains(text, ":") || strings.HasPrefix(word, "#") {
			return 0, false
		}
		return column(text, len(strings.TrimRight(text, " \t"))), true
	})
	return Fault{line, col, fmt.Sprintf("a colon is missing after %s", word), "write " + word + ":"}, ok
}

func bracket(t lines, f Fault) (Fault, bool) {
	if !strings.Contains(f.Message, "',' or") {
		return f, false
	}
	closes := map[byte]byte{'{': '}', '[': ']'}
	var open byte
	line, col, ok := t.near(f.Line, 1, 2, func(text string) (int, bool) {
		var stack []int
		for i := range len(text) {
			switch c := text[i]; {
			case closes[c] != 0:
				stack = append(stack, i)
			case (c == '}' || c == ']') && len(stack) > 0:
				stack = stack[:len(stack)-1]
			}
		}
		if len(stack) == 0 {
			return 0, false
		}
		open = text[stack[len(stack)-1]]
		return column(text, stack[len(stack)-1]), true
	})
	return Fault{line, col, fmt.Sprintf("this %c is not closed", open), fmt.Sprintf("write the %c that belongs to it", closes[open])}, ok
}

// start finds a value that begins with a character that YAML keeps for itself.
func start(t lines, f Fault) (Fault, bool) {
	if !strings.Contains(f.Message, "cannot start any token") {
		return f, false
	}
	var which byte
	line, col, ok := t.near(f.Line, 1, 1, func(text string) (int, bool) {
		for i := range len(text) {
			if strings.IndexByte("@`%", text[i]) >= 0 && (i == 0 || strings.IndexByte(" {[,", text[i-1]) >= 0) {
				which = text[i]
				return column(text, i), true
			}
		}
		return 0, false
	})
	return Fault{line, col, fmt.Sprintf("a value cannot begin with %c", which), "put it in quotes"}, ok
}

// indent finds a line that stands neither under the one above it nor beside one further up.
func indent(t lines, f Fault) (Fault, bool) {
	if !strings.Contains(f.Message, "expected key") && !strings.Contains(f.Message, "expected '-'") && !strings.Contains(f.Message, "block") {
		return f, false
	}
	levels := []int{0}
	for i, text := range t {
		trimmed := strings.TrimLeft(text, " ")
		if strings.TrimSpace(trimmed) == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		depth := len(text) - len(trimmed)
		dropped := false
		for len(levels) > 1 && levels[len(levels)-1] > depth {
			levels, dropped = levels[:len(levels)-1], true
		}
		if levels[len(levels)-1] != depth {
			if dropped && i+1 >= f.Line && (keyLine.MatchString(text) || strings.HasPrefix(trimmed, "- ")) {
				return Fault{i + 1, depth + 1, "this line is indented unlike those above it", "indent what belongs together by the same number of spaces"}, true
			}
			levels = append(levels, depth)
		}
		if strings.HasPrefix(trimmed, "- ") {
			levels = append(levels, depth+2)
		}
	}
	return f, false
}
