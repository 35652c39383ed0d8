package hub

import (
	"maps"
	"slices"
	"strings"
)

// PropertyType is the type of one property of an event kind.
type PropertyType string

// Property types and the Go type each has in Event.Properties.
const (
	Text   PropertyType = "text"   // string
	Number PropertyType = "number" // float64
	Bool   PropertyType = "bool"   // bool
	Time   PropertyType = "time"   // time.Time, UTC, whole milliseconds
	Amount PropertyType = "money"  // Money
	Texts  PropertyType = "texts"  // []string
)

// Kind is one entry of the event catalogue.
type Kind struct {
	Name       string // object.past_verb
	Group      string
	Object     string // "order", "ticket", … whose latest state the event tells; "" for none
	Properties map[string]PropertyType
	Doc        string // one sentence; "" for kinds that a configuration declares
	// Own marks events that the hub itself makes when something about another customer changes. They are facts like all
	// others, but nothing that this customer did: "any" leaves them out.
	Own bool
}

// OwnConnection is the connection that own events come from. No configured connection has this name.
const OwnConnection = "stagewire"

// Kinds of own events.
const (
	KindReferredMoved  = "referred.moved"
	KindCompanyMoved   = "company.moved"
	KindIdentityShared = "identity.shared"
	KindMemberJoined   = "member.joined"
	KindMemberLeft     = "member.left"
)

// Channels are the ways to reach a customer that rules can name.
var Channels = []string{
	"app", "douyin", "email", "facebook", "instagram", "kakao", "line", "linkedin", "messenger", "phone", "post", "push",
	"sms", "telegram", "tiktok", "viber", "wechat", "wecom", "weibo", "whatsapp", "x", "xiaohongshu", "youtube", "zalo",
}

// ConsentStates are what a customer can have said of a channel.
var ConsentStates = []string{"granted", "denied", "pending", "withdrawn"}

// Groups of kinds. In rules a group's name stands for its kinds, "any" for all.
const (
	GroupPerson    = "person"
	GroupSales     = "sales"
	GroupService   = "service"
	GroupVoice     = "voice"
	GroupAttention = "attention"
	GroupReward    = "reward"
	GroupStage     = "stage"
	GroupSystem    = "system"
)

// Groups lists the groups in the order of the catalogue.
var Groups = []string{GroupPerson, GroupSales, GroupService, GroupVoice, GroupAttention, GroupReward, GroupStage, GroupSystem}

// Kinds is a catalogue: the built-in kinds plus those the configuration declares.
type Kinds struct{ byName map[string]Kind }

// Lookup returns the kind of that name.
func (k *Kinds) Lookup(name string) (Kind, bool) { kind, ok := k.byName[name]; return kind, ok }

// Of returns the names of the kinds in group, sorted; "any" names all of them but those of the hub's own.
func (k *Kinds) Of(group string) []string {
	var names []string
	for name, kind := range k.byName {
		if group == "any" && !kind.Own || kind.Group == group {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// All returns every kind, sorted by group in catalogue order, then name.
func (k *Kinds) All() []Kind {
	all := make([]Kind, 0, len(k.byName))
	for _, kind := range k.byName {
		all = append(all, kind)
	}
	slices.SortFunc(all, func(a, b Kind) int {
		if d := slices.Index(Groups, a.Group) - slices.Index(Groups, b.Group); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// With returns a catalogue that also holds extra, whose names win.
func (k *Kinds) With(extra ...Kind) *Kinds {
	out := &Kinds{byName: make(map[string]Kind, len(k.byName)+len(extra))}
	maps.Copy(out.byName, k.byName)
	for _, kind := range extra {
		out.byName[kind.Name] = kind
	}
	return out
}

// Catalogue is the built-in event catalogue (DESIGN 5).
var Catalogue = builtin()

func builtin() *Kinds {
	k := &Kinds{byName: map[string]Kind{}}
	add := func(group, object, verbs string, properties ...string) {
		types := map[string]PropertyType{}
		for _, p := range properties {
			name, t, ok := strings.Cut(p, ":")
			if !ok {
				t = string(Text)
			}
			types[name] = PropertyType(t)
		}
		stateful := ""
		switch object {
		case "order", "ticket", "deal", "cart", "subscription", "task", "company", "referred":
			stateful = object
			types["id"] = Text
		}
		for verb := range strings.FieldsSeq(verbs) {
			name := object + "." + verb
			k.byName[name] = Kind{Name: name, Group: group, Object: stateful, Properties: types, Doc: kindDocs[name]}
		}
	}
	add(GroupPerson, "customer", "created updated deleted restored merged erased", "into", "reason", "source")
	add(GroupPerson, "consent", "changed", "channel", "state")
	add(GroupPerson, "tag", "added removed", "tags:texts")
	add(GroupPerson, "list", "joined left", "list")
	add(GroupPerson, "form", "submitted", "form", "source")
	add(GroupPerson, "company", "created updated joined left", "name", "domain", "record") // joined and left: of a member; record names the company
	add(GroupSales, "lead", "created updated converted", "id", "status", "source")
	add(GroupSales, "deal", "created updated stage_changed won lost deleted",
		"name", "amount:money", "stage", "pipeline", "probability:number", "reason", "closes_at:time")
	add(GroupSales, "order", "placed updated paid fulfilled cancelled refunded return_requested",
		"number", "amount:money", "status", "items:number", "products:texts", "coupons:texts", "source", "reason")
	add(GroupSales, "cart", "updated abandoned", "amount:money", "items:number", "products:texts", "reason", "completed:bool")
	add(GroupSales, "subscription", "started renewed paused cancelled", "plan", "amount:money", "status", "ends_at:time", "reason")
	add(GroupSales, "payment", "failed", "amount:money", "reason")
	add(GroupSales, "product", "released", "product", "version")
	add(GroupService, "ticket", "opened updated solved reopened deleted",
		"subject", "status", "priority", "type", "tags:texts", "channel")
	add(GroupService, "message", "received sent", "ticket", "channel", "text", "public:bool")
	add(GroupService, "chat", "started", "channel")
	add(GroupService, "call", "completed", "direction", "seconds:number", "result")
	add(GroupService, "meeting", "held missed", "subject", "minutes:number") // a consultation, a viewing, a visit; missed: they did not come
	add(GroupService, "complaint", "raised", "ticket", "subject", "reason")
	add(GroupService, "task", "created completed overdue", "subject", "status", "due_at:time", "reference")
	add(GroupVoice, "survey", "answered", "metric", "score:number", "scale:number", "text")
	add(GroupVoice, "review", "posted", "product", "score:number", "scale:number", "text")
	add(GroupVoice, "referral", "made", "referred")     // of the one who recommends: whom
	add(GroupVoice, "referral", "accepted", "referrer") // of the one who came: by whom
	add(GroupAttention, "email", "delivered opened clicked bounced unsubscribed", "campaign", "subject", "url", "reason")
	add(GroupAttention, "ad", "viewed clicked", "campaign", "source") // source: where it was shown
	add(GroupAttention, "page", "viewed", "url", "title", "source")   // source: what led there, as search or newsletter
	add(GroupAttention, "product", "viewed", "product", "amount:money")
	add(GroupAttention, "product", "compared", "products:texts", "by") // by: price, service, function
	add(GroupAttention, "product", "used", "product", "feature", "minutes:number")
	add(GroupAttention, "review", "viewed", "product", "score:number", "scale:number") // read by them, not written
	add(GroupAttention, "content", "viewed", "content")
	add(GroupAttention, "search", "performed", "query", "results:number")
	add(GroupAttention, "webinar", "attended", "webinar", "minutes:number")
	add(GroupAttention, "social", "followed unfollowed shared", "channel", "content")
	add(GroupAttention, "campaign", "scanned", "campaign")
	add(GroupAttention, "menu", "clicked", "item")
	add(GroupAttention, "app", "opened", "app")      // a mini-program too
	add(GroupAttention, "store", "visited", "store") // a shop of stone
	add(GroupReward, "coupon", "redeemed", "code", "amount:money")
	add(GroupReward, "points", "changed", "points:number", "balance:number")
	add(GroupReward, "reward", "claimed", "reward", "points:number")
	add(GroupReward, "membership", "joined changed left", "program", "level")
	add(GroupStage, "stage", "set", "field", "value", "previous", "by")
	add(GroupStage, "stage", "entered", "model", "stage", "from")
	add(GroupSystem, "connection", "revoked", "reason")
	add(GroupSystem, "app", "uninstalled", "reason")
	// The hub's own, see Kind.Own. hops counts how many moves led to this one.
	add(GroupSystem, "referred", "moved", "model", "stage", "created:time", "into", "n:number", "hops:number")
	add(GroupSystem, "company", "moved", "of", "model", "stage", "n:number", "hops:number")
	add(GroupSystem, "identity", "shared", "what", "others:number")
	add(GroupSystem, "member", "joined left", "member", "id", "of")
	for _, name := range []string{KindReferredMoved, KindCompanyMoved, KindIdentityShared, KindMemberJoined, KindMemberLeft} {
		kind := k.byName[name]
		kind.Own = true
		k.byName[name] = kind
	}
	return k
}
