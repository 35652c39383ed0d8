package hub

import "strings"

// ParseMention reads how a property names another customer: an e-mail address, a phone number with its country code, or
// kind:value with a kind of strong identifier: of the connection that says so, or of another one, kind@connection:value.
// It is false for anything else: a name or a voucher's code leads to nobody.
func ParseMention(text, connection string) (Identifier, bool) {
	text = strings.TrimSpace(text)
	if len(text) > 320 || strings.ContainsAny(text, "\x00\x1f\n\r\t") {
		return Identifier{}, false
	}
	if kind, value, ok := strings.Cut(text, ":"); ok {
		if of, at, ok := strings.Cut(kind, "@"); ok {
			kind, connection = of, at
		}
		if kind == "" || value == "" || connection == "" || strings.ContainsAny(kind, " .") {
			return Identifier{}, false
		}
		return Identifier{Kind: kind, Connection: connection, Value: value}, true
	}
	if at := strings.LastIndexByte(text, '@'); at > 0 && at < len(text)-1 && !strings.ContainsAny(text, " ,;<>") {
		return Identifier{Kind: IdentifierEmail, Value: strings.ToLower(text)}, true
	}
	if digits, ok := strings.CutPrefix(text, "+"); ok && len(digits) >= 6 && len(digits) <= 15 && strings.Trim(digits, "0123456789") == "" {
		return Identifier{Kind: IdentifierPhone, Value: text}, true
	}
	return Identifier{}, false
}

// Mention returns the text that ParseMention reads as the identifier.
func (i Identifier) Mention() string {
	if i.Kind == IdentifierEmail || i.Kind == IdentifierPhone {
		return i.Value
	}
	return i.Kind + "@" + i.Connection + ":" + i.Value
}
