package expression

import (
	"maps"
	"slices"

	"github.com/expr-lang/expr/ast"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// What is known around a customer: channels, those she brought, companies, what she shares with others.

// staged are the objects that have stages of their own in the hub's models.
var staged = map[string]bool{"referred": true, "company": true}

var consentState = Type{Base: Text, Enum: hub.ConsentStates, enum: "consent state"}

// channelFields are what can follow the name of a channel.
var channelFields = []struct {
	name, doc string
	typ       Type
	get       func(fact.Channel) any
}{
	{"following", "follows us there", boolean, func(c fact.Channel) any { return c.Following }},
	{"followed_at", "when the customer last began to follow", Type{Base: Instant}, func(c fact.Channel) any { return instant(c.FollowedAt) }},
	{"unfollowed_at", "when the customer last ceased to follow", Type{Base: Instant}, func(c fact.Channel) any { return instant(c.UnfollowedAt) }},
	{"received_at", "when the customer last wrote to us there", Type{Base: Instant}, func(c fact.Channel) any { return instant(c.ReceivedAt) }},
	{"sent_at", "when we last wrote there", Type{Base: Instant}, func(c fact.Channel) any { return instant(c.SentAt) }},
	{"consent", "what the customer said of being written to there", optional(consentState), func(c fact.Channel) any {
		if c.Consent == "" {
			return nil
		}
		return c.Consent
	}},
	{"reachable", "there is an address, and nothing says that the customer does not want it", boolean, func(c fact.Channel) any { return c.Reachable }},
}

func (c *checker) channelField(n ast.Node, channel string, name *ast.StringNode) term {
	var names []string
	for _, f := range channelFields {
		if f.name == name.Value {
			c.readChannel(channel)
			return call(n, f.typ, "$channel", self(), constant(channel), constant(f.get))
		}
		names = append(names, f.name)
	}
	if p, ok := c.env.Models[channel].Defines[name.Value]; ok {
		return c.defined(n, p)
	}
	return c.unknown(name, "field of channel "+channel+":", name.Value, names)
}

// readChannel notes what fact.Facts.Channel reads.
func (c *checker) readChannel(channel string) {
	c.read("social.followed", "social.unfollowed", "message.received", "message.sent", "consent.changed")
	c.program.ReadsTraits = true
	switch channel {
	case "email":
		c.read("email.unsubscribed", "email.bounced", "email.delivered", "email.opened", "email.clicked")
		c.program.Needs |= NeedsIdentifiers
	case "sms", "phone", "whatsapp", "viber":
		c.program.Needs |= NeedsIdentifiers
	case "app", "push":
		c.read("app.opened")
	}
}

func (c *checker) reachable(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "reachable", args, 1, 1) {
		return nothing
	}
	s, ok := args[0].(*ast.StringNode)
	switch {
	case !ok:
		return c.fail(args[0], `write reachable("sms")`, "a channel is written out in quotes")
	case !slices.Contains(hub.Channels, s.Value):
		return c.unknown(s, "channel", s.Value, hub.Channels)
	}
	c.readChannel(s.Value)
	return call(n, boolean, "$channel", self(), constant(s.Value), constant(func(c fact.Channel) any { return c.Reachable }))
}

func channelIs(a ...any) (any, error) {
	s := a[0].(*Session)
	f := s.in.Facts
	if err := s.charge(len(f.Kind("message.received")) + len(f.Kind("message.sent")) + len(f.Kind("consent.changed"))); err != nil {
		return nil, err
	}
	return a[2].(func(fact.Channel) any)(f.Channel(a[1].(string))), nil
}

// Shareable are the things of which shared() can tell.
var Shareable = []string{"address", "device", "email", "phone"}

func (c *checker) shared(n ast.Node, args []ast.Node) term {
	if !c.arity(n, "shared", args, 1, 1) {
		return nothing
	}
	s, ok := args[0].(*ast.StringNode)
	switch {
	case !ok:
		return c.fail(args[0], `write shared("address")`, "what is shared is written out in quotes")
	case !slices.Contains(Shareable, s.Value):
		return c.unknown(s, "thing to share:", s.Value, Shareable)
	}
	c.read(hub.KindIdentityShared)
	c.program.Needs |= NeedsSharing
	return call(n, boolean, "$shared", self(), constant(s.Value))
}

// stageOf is .stages.<model> of a referred customer or a company: its stage as it was last told, "" where it never was.
func (c *checker) stageOf(n ast.Node, base term, name *ast.StringNode) term {
	stages, ok := c.env.Stages, name.Value == c.env.Name && c.env.Name != ""
	if !ok {
		var m Model
		m, ok = c.env.Models[name.Value]
		stages = m.Stages
	}
	if !ok {
		names := slices.Sorted(maps.Keys(c.env.Models))
		if c.env.Name != "" {
			names = append(names, c.env.Name)
		}
		return c.unknown(name, "model", name.Value, names)
	}
	return call(n, Type{Base: Text, Enum: stages, Optional: base.typ.Optional}, "$stageof", self(), base.of, constant(name.Value))
}

func stageOf(a ...any) (any, error) {
	if o, ok := a[1].(*fact.Object); ok && o != nil {
		return o.Stage(a[2].(string)), a[0].(*Session).charge(o.Len())
	}
	return nil, nil
}
