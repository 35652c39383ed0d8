package expression

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/file"
)

// outsidePredicate says where .field and # belong.
const outsidePredicate = `# and .field mean something only inside a predicate such as count("order.paid", .amount > eur(50))`

// parseError turns what the parser says into words for somebody who comes from a spreadsheet.
func parseError(f *file.Error, text string) Problem {
	runes := []rune(text)
	p := Problem{Offset: min(f.From, len(runes)), Message: f.Message}
	rest := string(runes[p.Offset:])
	before := strings.TrimRight(string(runes[:p.Offset]), " \t\n")
	_, token, quoted := strings.Cut(f.Message, `("`)
	token = strings.TrimSuffix(token, `")`)
	switch {
	case strings.Contains(f.Message, "exceeds maximum allowed nodes"):
		p.Message, p.Suggestion = fmt.Sprintf("the expression is too long: more than %d parts", maxNodes), "name parts of it under define:"
	case strings.Contains(f.Message, `Operator(".")`) || strings.Contains(f.Message, `Operator("#")`):
		p.Message, p.Suggestion = outsidePredicate, "a window and a predicate go together as .age <= days(90) and …"
	case strings.Contains(f.Message, "coalesce expressions (??) cannot be mixed"):
		p.Message, p.Suggestion = "?? needs brackets beside another operator", `write (customer.name ?? "") == "Ada"`
	case strings.Contains(f.Message, "bad number syntax"):
		p.Message, p.Suggestion = "this is neither a number nor a name", durationHint(rest, before)
	case strings.HasPrefix(f.Message, "unrecognized character"):
		r, _ := utf8.DecodeRuneInString(rest)
		p.Message = fmt.Sprintf("the character %c does not belong here", r)
		if strings.ContainsRune("“”„‟«»", r) {
			p.Message, p.Suggestion = fmt.Sprintf("the quotes %c are not understood", r), `write straight ones: "order.paid"`
		}
	case strings.Contains(f.Message, "literal not terminated"):
		p.Message, p.Suggestion = "a text begins here and does not end", "close the quotes"
	case quoted:
		p.Message, p.Suggestion = unexpected(token, before, rest)
	case strings.Contains(f.Message, "unexpected token EOF"):
		p = unfinished(runes, p)
	}
	p.Message = strings.ReplaceAll(p.Message, "token EOF", "end")
	return p
}

// unexpected says what is wrong with a word or sign that the parser does not take.
func unexpected(token, before, rest string) (message, suggestion string) {
	switch lower := strings.ToLower(token); {
	case token == "=":
		return "a single = is not used", "compare with ==; functions take their values without names: days(90)"
	case token == "&" || token == "|":
		return token + " is not used", map[string]string{"&": "join conditions with and", "|": "join conditions with or"}[token]
	case token == ">" && strings.HasSuffix(before, "<"):
		return "<> is not used", "write !="
	case lower != token && (lower == "and" || lower == "or" || lower == "not" || lower == "in"):
		return token + " is written in small letters", "write " + lower
	case token == ".." || strings.HasPrefix(rest, ".."):
		return "ranges are not supported", rangeHint
	case token == ",":
		return "a comma does not belong here", "conditions are joined with and, or"
	case token == ")" || token == "]" || token == "}":
		return token + " closes nothing that is open, or something is missing before it", ""
	}
	return token + " does not belong here", "join conditions with and, or; texts stand in quotes"
}

const rangeHint = "ask about events or objects: all(orders, .paid)"

// unfinished says why an expression ends too early: a bracket that is not closed, a sign that stands for something in spreadsheets.
func unfinished(text []rune, p Problem) Problem {
	whole := string(text)
	if at := strings.Index(whole, ".."); at > 0 && text[utf8.RuneCountInString(whole[:at])-1] >= '0' && text[utf8.RuneCountInString(whole[:at])-1] <= '9' {
		return Problem{Offset: utf8.RuneCountInString(whole[:at]), Message: "ranges are not supported", Suggestion: rangeHint}
	}
	var open []int
	var quote rune
	for i, r := range text {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'' || r == '`':
			quote = r
		case r == '(' || r == '[' || r == '{':
			open = append(open, i)
		case (r == ')' || r == ']' || r == '}') && len(open) > 0:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		at := open[len(open)-1]
		return Problem{Offset: at, Message: fmt.Sprintf("this %c is not closed", text[at]), Suggestion: fmt.Sprintf("write the %s that belongs to it",
			map[rune]string{'(': ")", '[': "]", '{': "}"}[text[at]])}
	}
	if end := strings.TrimRight(whole, " \t\n"); strings.HasSuffix(end, "%") {
		return Problem{Offset: utf8.RuneCountInString(end) - 1, Message: "percentages are not supported", Suggestion: "write 0.1 for 10 %"}
	}
	return Problem{Offset: p.Offset, Message: "the condition ends too early", Suggestion: "something is missing behind the last sign"}
}

// durationHint tells how to write 90d in an expression.
func durationHint(rest, before string) string {
	word := strings.FieldsFunc(before[strings.LastIndexAny(before, " (,")+1:]+rest, func(r rune) bool { return strings.ContainsRune(" ),\n", r) })
	if len(word) > 0 {
		number := strings.TrimRight(word[0], "abcdefghijklmnopqrstuvwxyz")
		for suffix, unit := range map[string]string{"m": "minutes", "h": "hours", "d": "days", "w": "weeks", "mo": "months"} {
			if number != "" && word[0] == number+suffix {
				return "write " + unit + "(" + number + ")"
			}
		}
	}
	return "write a length of time as days(90), a name without a digit in front"
}
