package modeltest

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/stagewire/stagewire/internal/expression"
)

// edit is one small change of an expression's text.
type edit struct {
	offset   int // in characters
	was, now string
	what     string
}

// apply returns text with the edit made.
func (e edit) apply(text string) string {
	runes := []rune(text)
	return string(runes[:e.offset]) + e.now + string(runes[e.offset+len([]rune(e.was)):])
}

type tokenKind uint8

const (
	word tokenKind = iota
	number
	quoted
	operator
	bracket
)

// token is a piece of an expression between spaces.
type token struct {
	kind tokenKind
	text string
	from int // in characters
}

func (t token) to() int { return t.from + len([]rune(t.text)) }

// operators of more than one character, the longer ones first.
var operators = []string{">=", "<=", "==", "!=", "&&", "||", "??", "?.", "..", "**"}

// tokens takes an expression that compiles apart.
func tokens(text string) []token {
	runes := []rune(text)
	var out []token
	for i := 0; i < len(runes); {
		from, kind := i, operator
		switch r := runes[i]; {
		case unicode.IsSpace(r):
			i++
			continue
		case r == '"' || r == '\'' || r == '`':
			kind = quoted
			for i++; i < len(runes) && runes[i] != r; i++ {
				if runes[i] == '\\' && r != '`' {
					i++
				}
			}
			i = min(i+1, len(runes))
		case unicode.IsDigit(r):
			kind = number
			for i < len(runes) && (unicode.IsDigit(runes[i]) || runes[i] == '_' || runes[i] == '.' && i+1 < len(runes) && unicode.IsDigit(runes[i+1])) {
				i++
			}
		case unicode.IsLetter(r) || r == '_' || r == '$':
			kind = word
			for i < len(runes) && (unicode.IsLetter(runes[i]) || unicode.IsDigit(runes[i]) || runes[i] == '_' || runes[i] == '$') {
				i++
			}
		case strings.ContainsRune("()[]{}", r):
			kind = bracket
			i++
		default:
			i++
			for _, op := range operators {
				if strings.HasPrefix(string(runes[from:min(from+2, len(runes))]), op) {
					i = from + len(op)
					break
				}
			}
		}
		out = append(out, token{kind, string(runes[from:i]), from})
	}
	return out
}

// swaps are the operators and functions that are mistaken for one another.
var swaps = map[string][]string{
	">=": {">", "<"}, ">": {">=", "<="}, "<=": {"<", ">"}, "<": {"<=", ">="}, "==": {"!="}, "!=": {"=="},
	"and": {"or"}, "or": {"and"}, "&&": {"||"}, "||": {"&&"},
}

var wordSwaps = map[string]string{"ever": "never", "never": "ever", "any": "none", "none": "any", "true": "false", "false": "true"}

// edits returns the small changes of an expression: other operators, not dropped, other numbers, a part of and/or dropped.
// No two of them come to the same text.
func edits(text string) []edit {
	list := tokens(text)
	var out []edit
	seen := map[string]bool{}
	keep := func(e edit) {
		if came := strings.Join(strings.Fields(e.apply(text)), " "); !seen[came] {
			seen[came] = true
			out = append(out, e)
		}
	}
	add := func(t token, now, what string) { keep(edit{t.from, t.text, now, what}) }
	for i, t := range list {
		field := i > 0 && (list[i-1].text == "." || list[i-1].text == "?.")
		switch {
		case t.kind == operator || t.kind == word && !field:
			for _, now := range swaps[t.text] {
				add(t, now, t.text+" became "+now)
			}
			switch {
			case t.text == "and" || t.text == "or" || t.text == "&&" || t.text == "||":
				for _, e := range drops(text, list, i) {
					keep(e)
				}
			case t.text == "not" || t.text == "!":
				add(t, "", "not was dropped")
			case wordSwaps[t.text] != "" && (t.text == "true" || t.text == "false" || i+1 < len(list) && list[i+1].text == "("):
				add(t, wordSwaps[t.text], t.text+" became "+wordSwaps[t.text])
			}
		case t.kind == number:
			for _, now := range numbers(t.text) {
				add(t, now, t.text+" became "+now)
			}
		case t.kind == quoted && i > 1 && list[i-1].text == "(" && (list[i-2].text == "money" || list[i-2].text == "date"):
			inner := strings.Trim(t.text, t.text[:1])
			for _, now := range values(inner) {
				add(t, strconv.Quote(now), inner+" became "+now)
			}
		}
	}
	return out
}

// numbers returns other numbers: a small step up and down, and a large one.
func numbers(text string) []string {
	text = strings.ReplaceAll(text, "_", "")
	if n, err := strconv.Atoi(text); err == nil {
		return distinct(text, strconv.Itoa(n+1), strconv.Itoa(max(0, n-1)), strconv.Itoa(2*n+1), strconv.Itoa(n/2))
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil
	}
	format := func(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }
	return distinct(text, format(f*1.1), format(f*0.9), format(f*2), format(f/2))
}

// values returns other values of a parameter or a literal: an amount, a duration, a number, a date, true or false.
func values(text string) []string {
	if amount, currency, ok := strings.Cut(text, " "); ok {
		if _, err := strconv.ParseFloat(amount, 64); err == nil {
			var out []string
			for _, n := range numbers(amount) {
				out = append(out, n+" "+currency)
			}
			return out
		}
		return nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return []string{at.AddDate(0, 0, 1).Format(layout), at.AddDate(0, 0, -1).Format(layout), at.AddDate(1, 0, 0).Format(layout)}
		}
	}
	if _, ok := expression.ParseDuration(text); ok {
		unit := strings.TrimLeft(text, "0123456789.")
		var out []string
		for _, n := range numbers(strings.TrimSuffix(text, unit)) {
			if n != "0" {
				out = append(out, n+unit)
			}
		}
		return out
	}
	switch text {
	case "true":
		return []string{"false"}
	case "false":
		return []string{"true"}
	}
	return numbers(text)
}

func distinct(not string, list ...string) []string {
	var out []string
	for _, s := range list {
		if s != not && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// drops returns the two edits that leave out the left or the right side of and/or, whose token is list[at].
func drops(text string, list []token, at int) []edit {
	or := list[at].text == "or" || list[at].text == "||"
	// ends reports whether a token at the depth of the operator ends its side.
	ends := func(t token) bool {
		switch t.text {
		case ",", "?", ":", ";", "|":
			return t.kind == operator
		case "or", "||":
			return true
		case "and", "&&":
			return !or
		}
		return false
	}
	depth, first := 0, at
	for i := at - 1; i >= 0; i-- {
		if list[i].kind == bracket {
			if strings.Contains(")]}", list[i].text) {
				depth++
			} else if depth--; depth < 0 {
				break
			}
		}
		if depth == 0 && ends(list[i]) {
			break
		}
		first = i
	}
	depth = 0
	last := at
	for i := at + 1; i < len(list); i++ {
		if list[i].kind == bracket {
			if strings.Contains("([{", list[i].text) {
				depth++
			} else if depth--; depth < 0 {
				break
			}
		}
		if depth == 0 && ends(list[i]) {
			break
		}
		last = i
	}
	if first == at || last == at {
		return nil
	}
	runes := []rune(text)
	cut := func(from, to int, side string) edit {
		return edit{from, string(runes[from:to]), "", strings.Join(strings.Fields(side), " ") + " was dropped"}
	}
	left, right := string(runes[list[first].from:list[at-1].to()]), string(runes[list[at+1].from:list[last].to()])
	return []edit{cut(list[first].from, list[at+1].from, left), cut(list[at-1].to(), list[last].to(), right)}
}
