package expression

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stagewire/stagewire/internal/hub"
)

// Template is a text with ${expressions}. Everything else in it is literal.
type Template struct {
	parts []part
	// Reads, ReadsTraits, Needs as in Program, over all expressions.
	Reads       []string
	ReadsTraits bool
	Needs       Needs
}

type part struct {
	text    string
	program *Program // nil for literal text
}

// CompileTemplate checks a text. A problem's offset counts characters of the whole text. A value that is missing at run
// time becomes nothing, so expressions here need no ??.
func CompileTemplate(text string, env *Env) (*Template, []Problem) {
	t := &Template{}
	var problems []Problem
	rest, offset := text, 0
	for {
		start := strings.Index(rest, "${")
		if start < 0 {
			break
		}
		runes := utf8.RuneCountInString(rest[:start])
		end := closing([]rune(rest[start+1:]), 0, utf8.RuneCountInString(rest[start+1:]))
		if end < 0 {
			return nil, append(problems, Problem{Offset: offset + runes, Message: "${ is not closed", Suggestion: "write ${customer.name}"})
		}
		inside := string([]rune(rest[start+1:])[1:end])
		if start > 0 {
			t.parts = append(t.parts, part{text: rest[:start]})
		}
		p, found := CompileValue(inside, env)
		for _, f := range found {
			f.Offset += offset + runes + 2
			problems = append(problems, f)
		}
		if p != nil {
			switch p.Type.Base {
			case Text, Number, Bool, Money, Instant, Duration, Fading, Any:
			case List:
				if p.Type.Elem != nil && p.Type.Elem.Base != Text {
					problems = append(problems, Problem{Offset: offset + runes + 2, Message: p.Type.String() + " has no text"})
				}
			default:
				problems = append(problems, Problem{Offset: offset + runes + 2, Message: p.Type.String() + " has no text"})
			}
			t.Reads = append(t.Reads, p.Reads...)
			t.ReadsTraits = t.ReadsTraits || p.ReadsTraits
			t.Needs |= p.Needs
			t.parts = append(t.parts, part{program: p})
		}
		skip := runes + 1 + end + 1 // up to and with }
		offset += skip
		rest = string([]rune(rest)[skip:])
	}
	if rest != "" {
		t.parts = append(t.parts, part{text: rest})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return t, nil
}

// Literal returns the text where it holds no expression.
func (t *Template) Literal() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].program == nil:
		return t.parts[0].text, true
	}
	return "", false
}

// Value evaluates the template: to the value itself (string, float64, bool, hub.Money, time.Time) where it is a single expression,
// else to a text.
func (t *Template) Value(s *Session) (any, error) {
	if len(t.parts) == 1 && t.parts[0].program != nil {
		v, err := s.Run(t.parts[0].program)
		if err != nil {
			return nil, err
		}
		if f, ok := v.(fading); ok {
			v = f.now
		}
		switch v := v.(type) {
		case int:
			return float64(v), nil
		case instant:
			if missing(v) {
				return nil, nil
			}
			return time.UnixMilli(int64(v)).UTC(), nil
		case time.Duration:
			return render(v), nil
		}
		if missing(v) {
			return nil, nil
		}
		return v, nil
	}
	return t.Render(s)
}

// Render evaluates the template to a text.
func (t *Template) Render(s *Session) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.program == nil {
			b.WriteString(p.text)
			continue
		}
		v, err := s.Run(p.program)
		if err != nil {
			return "", err
		}
		b.WriteString(render(v))
	}
	return b.String(), nil
}

// Format writes a value for a person; what is missing is "".
func Format(v any) string { return render(v) }

func render(v any) string {
	if missing(v) {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case hub.Money:
		return v.String()
	case fading:
		if n, ok := v.now.(float64); ok {
			return strconv.FormatFloat(math.Round(n*1000)/1000, 'f', -1, 64)
		}
		return render(v.now)
	case instant:
		return time.UnixMilli(int64(v)).UTC().Format(time.RFC3339)
	case time.Duration:
		return FormatDuration(v)
	case []string:
		return strings.Join(v, ", ")
	case []any:
		out := make([]string, len(v))
		for i := range v {
			out[i] = render(v[i])
		}
		return strings.Join(out, ", ")
	}
	return ""
}

// FormatDuration writes a duration in the largest unit that gives a whole number: "90 days", "12 hours".
func FormatDuration(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d != 0 && d%u.of == 0 {
			n := int64(d / u.of)
			if n == 1 || n == -1 {
				return strconv.FormatInt(n, 10) + " " + u.name
			}
			return strconv.FormatInt(n, 10) + " " + u.name + "s"
		}
	}
	return d.String()
}
