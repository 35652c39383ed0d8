package server

import (
	"maps"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/text/language"
)

// languages returns what the reader asked to read, best first: the query parameter lang, else Accept-Language. Nil where nobody asked.
func languages(c *fiber.Ctx) []language.Tag {
	asked := c.Query("lang")
	if asked == "" {
		asked = c.Get(fiber.HeaderAcceptLanguage)
	}
	if strings.TrimSpace(asked) == "*" {
		return nil
	}
	tags, _, err := language.ParseAcceptLanguage(asked)
	if err != nil {
		return nil // a header that cannot be read is one that was not sent
	}
	return tags
}

// label picks the one to show of a stage's labels, by language: in a language asked for (zh-TW finds zh-Hant, no finds nb), else in
// English. Where nobody asked it is the one in the model's own language, which is the first that is not English. A stage without
// labels shows its name.
func label(labels map[string]string, name string, asked []language.Tag) string {
	written := slices.Sorted(maps.Keys(labels))
	english, own := "", ""
	for _, l := range written {
		switch {
		case l == "en" || strings.HasPrefix(l, "en-"):
			english = labels[l]
		case own == "":
			own = labels[l]
		}
	}
	if len(asked) == 0 {
		return first(own, english, name)
	}
	var tags []language.Tag
	var texts []string
	for _, l := range written {
		if tag, err := language.Parse(l); err == nil {
			tags, texts = append(tags, tag), append(texts, labels[l])
		}
	}
	if len(tags) > 0 {
		if _, i, sure := language.NewMatcher(tags).Match(asked...); sure >= language.Low {
			return first(texts[i], name)
		}
	}
	return first(english, own, name)
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
