package lifecycle

import (
	"strings"

	"golang.org/x/text/language"
	"gopkg.in/yaml.v3"
)

// languageCalled are the languages whose names, or whose countries' codes, people write for them.
var languageCalled = map[string]string{
	"cn": "zh", "jp": "ja", "gb": "en", "us": "en", "at": "de", "dk": "da", "cz": "cs", "gr": "el", "ua": "uk", "mx": "es", "il": "he", "vn": "vi",
	"english": "en", "german": "de", "deutsch": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt", "dutch": "nl",
	"chinese": "zh", "japanese": "ja", "korean": "ko", "norwegian": "nb", "norsk": "nb", "swedish": "sv", "danish": "da", "polish": "pl",
	"russian": "ru", "ukrainian": "uk", "turkish": "tr", "arabic": "ar", "hindi": "hi",
}

// labels reads texts by language: en, zh, zh-Hant, pt-BR.
func (s *source) labels(n *yaml.Node, path string) map[string]string {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.ScalarNode && n.Value != "" && n.Tag != "!!null" {
		s.fail(n, path, "write {en: "+n.Value+"}", "labels are texts by language")
		return nil
	}
	out := map[string]string{}
	s.pairs(n, path, func(k, v *yaml.Node) {
		if _, err := language.Parse(k.Value); err != nil {
			suggestion := "languages are named en, zh, zh-Hant, pt-BR"
			if meant := languageCalled[strings.ToLower(k.Value)]; meant != "" {
				suggestion = "did you mean " + meant + "?"
			}
			s.fail(k, path, suggestion, "%s is no language", k.Value)
		}
		out[k.Value] = s.text(v, path+"."+k.Value)
	})
	return out
}
