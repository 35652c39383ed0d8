package lsp

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
)

// Vocabulary is what can stand in a file.
type Vocabulary struct {
	Schema      *Schema // of its keys; nil: unknown
	Kinds       *hub.Kinds
	Stages      []string            // of the model itself
	Models      map[string][]string // the stages of others
	Params      []string
	Defines     []string
	Fields      []string // of your own
	Connections []string
	Shipped     []string // models that ship, for a configuration
}

// What a completion is, in the protocol's numbers.
const (
	kindFunction = 3
	kindField    = 5
	kindVariable = 6
	kindProperty = 10
	kindValue    = 12
	kindKeyword  = 14
	kindEvent    = 23
)

// entry is one thing that can stand somewhere.
type entry struct {
	name, doc, detail string
	kind              int
}

type completion struct {
	Label         string `json:"label"`
	Kind          int    `json:"kind"`
	Detail        string `json:"detail,omitempty"`
	Documentation string `json:"documentation,omitempty"`
}

// maxCompletions bounds an answer.
const maxCompletions = 500

// complete returns what can stand at the place.
func (c *cursor) complete() []completion {
	out := []completion{}
	for _, e := range c.candidates() {
		if len(out) < maxCompletions {
			out = append(out, completion{e.name, e.kind, e.detail, e.doc})
		}
	}
	return out
}

func (c *cursor) candidates() []entry {
	v := c.vocabulary
	if text, ok := c.expression(); ok {
		return c.inExpression(text)
	}
	if c.key {
		return v.Schema.keys(c.path)
	}
	switch c.last() {
	case "stage", "otherwise", "from", "to", "yields_to", "walk":
		stages := named(v.Stages, "A stage of the model.", kindValue)
		if c.last() == "otherwise" {
			stages = append(stages, entry{name: "stay", doc: "The stage stays as it is. It makes the model path dependent.", kind: kindKeyword})
		}
		return stages
	case "kind":
		return words(expression.KindWords(v.Kinds), kindEvent)
	case "enter", "leave":
		var out []entry
		for _, model := range slices.Sorted(maps.Keys(v.Models)) {
			for _, stage := range v.Models[model] {
				out = append(out, entry{name: model + "." + stage, kind: kindValue})
			}
		}
		return out
	case "via":
		return named(v.Connections, "A connection of the configuration.", kindValue)
	case "models", "use":
		return named(v.Shipped, "A model that ships.", kindValue)
	}
	return v.Schema.values(c.path)
}

func named(names []string, doc string, kind int) []entry {
	var out []entry
	for _, name := range names {
		out = append(out, entry{name: name, doc: doc, kind: kind})
	}
	return out
}

func words(list []expression.Word, kind int) []entry {
	var out []entry
	for _, w := range list {
		out = append(out, entry{name: w.Name, doc: w.Doc, kind: kind})
	}
	return out
}

var (
	stageText  = regexp.MustCompile(`\bstage\s*(?:==|!=|in\s*\[[^\]]*)\s*$`)
	stagesText = regexp.MustCompile(`\bstages\.([a-z0-9_-]+)\s*(?:==|!=|in\s*\[[^\]]*)\s*$`)
	behindDot  = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*)\.[A-Za-z0-9_]*$`)
	inPredi    = regexp.MustCompile(`(?:^|[^A-Za-z0-9_\])"])\.[A-Za-z0-9_]*$`)
)

// inExpression completes a condition of which text stands before the place.
func (c *cursor) inExpression(text string) []entry {
	v := c.vocabulary
	if start, inside := openQuote(text); inside {
		before := text[:start]
		if m := stagesText.FindStringSubmatch(before); m != nil {
			return named(v.Models[m[1]], "A stage of "+m[1]+".", kindValue)
		}
		if stageText.MatchString(before) {
			return named(v.Stages, "A stage of the model.", kindValue)
		}
		return words(expression.KindWords(v.Kinds), kindEvent)
	}
	if inPredi.MatchString(text) {
		return words(expression.FieldWords(scope(text), v.Kinds), kindField)
	}
	if m := behindDot.FindStringSubmatch(text); m != nil {
		switch m[1] {
		case "params":
			return named(v.Params, "A parameter of the model.", kindVariable)
		case "stages":
			return named(slices.Sorted(maps.Keys(v.Models)), "The stage in that model.", kindVariable)
		case "fields":
			return named(v.Fields, "A field of your own.", kindField)
		case "customer":
			return append(words(expression.FieldWords("customer", v.Kinds), kindField),
				entry{name: "traits", doc: "What the systems know of the customer.", kind: kindField},
				entry{name: "consent", doc: "The consent for a channel: granted, withdrawn.", kind: kindField})
		}
		return nil
	}
	var out []entry
	for _, f := range expression.Functions() {
		out = append(out, entry{name: f.Name, detail: f.Signature, doc: f.Doc + "\n\n" + f.Example, kind: kindFunction})
	}
	out = append(out, named(v.Defines, "A named condition of the model.", kindVariable)...)
	return append(out, words(expression.Names(), kindKeyword)...)
}

// openQuote returns where the text in quotes begins that a text ends in.
func openQuote(text string) (start int, inside bool) {
	for i := range len(text) {
		if text[i] == '"' {
			start, inside = i, !inside
		}
	}
	return start, inside
}

var firstArgument = regexp.MustCompile(`^\s*(?:(?:events|filter)\s*\(\s*)?(?:"([^"]*)"|([a-z]+))`)

// scope returns what . stands for at the end of a text: the first argument of the innermost call that is open.
func scope(text string) string {
	depth, quoted := 0, false
	for i := len(text) - 1; i >= 0; i-- {
		switch r := text[i]; {
		case r == '"':
			quoted = !quoted
		case quoted:
		case r == ')' || r == ']':
			depth++
		case r == '[' && depth > 0, r == '(' && depth > 0:
			depth--
		case r == '(':
			if m := firstArgument.FindStringSubmatch(text[i+1:]); m != nil && strings.Contains(text[i+1:], ",") {
				return m[1] + m[2]
			}
		}
	}
	return ""
}

type markup struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
}

type hover struct {
	Contents markup `json:"contents"`
}

var (
	endsInWord   = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_.]*$`)
	beginsInWord = regexp.MustCompile(`^[A-Za-z0-9_.]*`)
)

// hover says what the word at the place means; nil where there is nothing to say.
func (c *cursor) hover() *hover {
	left, right := endsInWord.FindString(c.before), beginsInWord.FindString(c.after)
	if text, ok := c.expression(); ok {
		full := left + right
		begin := strings.TrimSuffix(text, left)
		if doc := c.meaning(full, begin); doc != "" {
			return &hover{markup{"markdown", doc}}
		}
		return nil
	}
	// On a key: the path ends at it.
	if c.key {
		_, _, rest := dashes(c.before)
		if at := strings.LastIndexAny(rest, "{,"); at >= 0 {
			rest = strings.TrimLeft(rest[at+1:], " ")
		}
		key := strings.TrimSpace(rest) + right
		if doc := c.vocabulary.Schema.about(append(slices.Clone(c.path), key)); doc != "" {
			return &hover{markup{"markdown", "**" + key + "**: " + doc}}
		}
	}
	for _, w := range expression.KindWords(c.vocabulary.Kinds) {
		if w.Name == left+right {
			return &hover{markup{"markdown", "**" + w.Name + "**: " + w.Doc}}
		}
	}
	return nil
}

// meaning explains a word of an expression that stands behind begin.
func (c *cursor) meaning(word, begin string) string {
	if _, quoted := openQuote(begin); quoted {
		for _, w := range expression.KindWords(c.vocabulary.Kinds) {
			if w.Name == word {
				return "**" + word + "**: " + w.Doc
			}
		}
		return ""
	}
	if strings.HasSuffix(begin, ".") && inPredi.MatchString(begin) {
		return find(expression.FieldWords(scope(begin), c.vocabulary.Kinds), word)
	}
	if name, ok := strings.CutPrefix(word, "customer."); ok {
		if doc := find(expression.FieldWords("customer", c.vocabulary.Kinds), name); doc != "" {
			return doc
		}
	}
	first, _, _ := strings.Cut(word, ".")
	for _, f := range expression.Functions() {
		if f.Name == first {
			return "`" + f.Signature + "`\n\n" + f.Doc + "\n\n```\n" + f.Example + "\n```"
		}
	}
	return find(expression.Names(), first)
}

func find(list []expression.Word, name string) string {
	for _, w := range list {
		if w.Name == name {
			return "**" + name + "**: " + w.Doc
		}
	}
	return ""
}
