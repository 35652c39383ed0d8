package server

import (
	"testing"

	"golang.org/x/text/language"
)

func TestLabel(t *testing.T) {
	for _, tt := range []struct {
		labels map[string]string
		asked  string
		want   string
	}{
		{map[string]string{"en": "Awareness", "zh-Hant": "認知階段"}, "", "認知階段"},
		{map[string]string{"en": "Awareness", "zh-Hant": "認知階段"}, "zh-TW", "認知階段"},
		{map[string]string{"en": "Awareness", "zh-Hant": "認知階段"}, "en-GB,zh;q=0.5", "Awareness"},
		{map[string]string{"en": "Awareness", "zh-Hant": "認知階段"}, "de", "Awareness"},
		{map[string]string{"en": "Awareness", "nb": "Bevissthet"}, "no", "Bevissthet"},
		{map[string]string{"en": "Awareness", "nb": "Bevissthet"}, "da;q=0.1, en", "Awareness"},
		{map[string]string{"en": "Contact", "zh": "接触期"}, "zh-CN", "接触期"},
		{map[string]string{"zh": "接触期"}, "de", "接触期"},
		{map[string]string{"en": "Lead"}, "", "Lead"},
		{map[string]string{"en": "Lead"}, "zh", "Lead"},
		{nil, "", "lead"},
		{nil, "zh", "lead"},
		{map[string]string{"not a language": "x", "en": "Lead"}, "de", "Lead"},
	} {
		tags, _, err := language.ParseAcceptLanguage(tt.asked)
		if err != nil {
			t.Fatal(err)
		}
		if got := label(tt.labels, "lead", tags); got != tt.want {
			t.Errorf("%v asked for in %q: %q, want %q", tt.labels, tt.asked, got, tt.want)
		}
	}
}
