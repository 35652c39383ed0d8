package fact

import (
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// Channel is what is known of one way to reach the customer (hub.Channels).
type Channel struct {
	Following                bool
	FollowedAt, UnfollowedAt int64 // milliseconds since 1970, None where it did not happen
	ReceivedAt, SentAt       int64 // the latest message from and to the customer there, None without one
	Consent                  string
	Reachable                bool
}

// Channel derives what is known of a channel. The customer follows it where the latest of social.followed and
// social.unfollowed says so, else where the trait <channel>_following is true.
//
// She is reachable where there is an address for it and nothing says that she does not want it: e-mail wants an address that
// was not unsubscribed and whose latest message did not bounce; sms and phone a number; whatsapp and viber a number or
// a message from her; post the trait address; app and push that she has opened the app; all others that she follows or has
// written there. A consent that is denied or withdrawn makes it unreachable, an unknown one does not.
func (f *Facts) Channel(name string) Channel {
	c := Channel{FollowedAt: None, UnfollowedAt: None, ReceivedAt: None, SentAt: None}
	on := func(kind string) int64 {
		for _, e := range slices.Backward(f.Kind(kind)) {
			if channel, _ := e.Text("channel"); strings.EqualFold(channel, name) {
				return e.at
			}
		}
		return None
	}
	c.FollowedAt, c.UnfollowedAt = on("social.followed"), on("social.unfollowed")
	c.ReceivedAt, c.SentAt = on("message.received"), on("message.sent")
	switch {
	case c.FollowedAt != None || c.UnfollowedAt != None:
		c.Following = c.FollowedAt > c.UnfollowedAt
	default:
		c.Following, _ = f.Traits()[name+"_following"].Value.(bool)
	}
	granted := None
	for _, e := range f.Kind("consent.changed") {
		if channel, _ := e.Text("channel"); channel == name {
			if state, ok := e.Text("state"); ok {
				if c.Consent = state; state == "granted" {
					granted = e.at
				}
			}
		}
	}
	c.Reachable = c.Consent != "denied" && c.Consent != "withdrawn" && f.hasAddress(name, c, granted)
	return c
}

func (f *Facts) hasAddress(name string, c Channel, granted int64) bool {
	switch name {
	case "email":
		latest := func(kinds ...string) int64 {
			at := None
			for _, kind := range kinds {
				if l := f.Kind(kind); len(l) > 0 {
					at = max(at, l[len(l)-1].at)
				}
			}
			return at
		}
		if gone := latest("email.unsubscribed"); gone != None && gone >= granted {
			return false
		}
		if bounced := latest("email.bounced"); bounced != None && bounced > latest("email.delivered", "email.opened", "email.clicked") {
			return false
		}
		return f.Email() != ""
	case "sms", "phone":
		return f.Phone() != ""
	case "whatsapp", "viber":
		return f.Phone() != "" || c.ReceivedAt != None
	case "post":
		return f.Text("address") != ""
	case "app", "push":
		return len(f.Kind("app.opened")) > 0
	}
	return c.Following || c.ReceivedAt != None
}

// Phone returns the trait phone, else a phone number that identifies the customer (where those are known), else "".
func (f *Facts) Phone() string { return f.address("phone", hub.IdentifierPhone) }

func (f *Facts) address(trait, kind string) string {
	if t := f.Text(trait); t != "" {
		return t
	}
	for i := range f.known.Identifiers {
		if f.known.Identifiers[i].Kind == kind {
			return f.known.Identifiers[i].Value
		}
	}
	return ""
}

// Shared reports whether another customer has the same address, phone, email or device, as the hub last told
// (identity.shared).
func (f *Facts) Shared(what string) bool {
	for _, e := range slices.Backward(f.Kind(hub.KindIdentityShared)) {
		if w, _ := e.Text("what"); w == what {
			others, _ := e.Number("others")
			return others > 0
		}
	}
	return false
}
