package connector

import (
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"

	"github.com/stagewire/stagewire/internal/hub"
)

// addIdentifier normalises value and adds it to ev. What cannot be an identifier (empty, too long, an address without @,
// a phone number nobody can dial) is dropped: a missing identifier is harmless, a wrong one merges strangers.
func addIdentifier(ev *hub.Event, x *identifierMapping, value, region string) {
	id := hub.Identifier{Kind: x.kind, Weak: x.weak, Record: x.record}
	switch x.kind {
	case hub.IdentifierEmail:
		id.Value = normalEmail(value)
	case hub.IdentifierPhone:
		id.Value = normalPhone(value, region)
	default:
		id.Value = strings.TrimSpace(value)
	}
	if id.Value == "" || len(id.Value) > maxIdentifier || len(ev.Identifiers) >= maxIdentifiers {
		return
	}
	if x.own {
		id.Connection = ev.Connection
	}
	for i := range ev.Identifiers {
		if ev.Identifiers[i].Kind == id.Kind && ev.Identifiers[i].Value == id.Value {
			return
		}
	}
	ev.Identifiers = append(ev.Identifiers, id)
}

// normalEmail trims and lowers; "" for what is no address. It does not fold dots or plus signs: only the vendor of the mailbox
// knows whether those matter.
func normalEmail(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at == len(s)-1 || len(s) > 320 || strings.ContainsAny(s, " \t\r\n,;<>") {
		return ""
	}
	return s
}

// normalPhone gives E.164, "" for what is no number. A number without a country code is one of region (ISO 3166, two letters).
func normalPhone(s, region string) string {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 40 || len(region) > 8 {
		return ""
	}
	key := region + "\x00" + s
	phones.Lock()
	known, ok := phones.seen[key]
	phones.Unlock()
	if ok {
		return known
	}
	known = parsePhone(s, region)
	phones.Lock()
	if len(phones.seen) >= 4096 || phones.seen == nil {
		phones.seen = make(map[string]string, 4096)
	}
	phones.seen[key] = known
	phones.Unlock()
	return known
}

// phones remembers numbers lately parsed: parsing one costs as much as all the rest of a small webhook, and a person's events come
// in bursts.
var phones struct {
	sync.Mutex
	seen map[string]string
}

func parsePhone(s, region string) string {
	if rest, ok := strings.CutPrefix(s, "00"); ok && region == "" {
		s = "+" + rest
	}
	n, err := phonenumbers.Parse(s, strings.ToUpper(strings.TrimSpace(region)))
	if err != nil || !phonenumbers.IsPossibleNumber(n) {
		return ""
	}
	return phonenumbers.Format(n, phonenumbers.E164)
}
