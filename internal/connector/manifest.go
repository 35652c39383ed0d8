package connector

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/signature"
)

// Setting is one key of a connection in stagewire.yaml.
type Setting struct {
	Required bool
	Secret   bool
	Default  string
	OneOf    []string
	About    string // one line, for help
}

// commonSettings are keys that every connection may have, whatever its connector.
var commonSettings = map[string]Setting{
	"phone_region": {About: "ISO country of phone numbers written without one, e.g. DE"},
}

// mapping turns one item into an event, a hydration row, or both.
type mapping struct {
	place       at
	on          []string // topics; none means every item
	when        *expression
	each        *expression
	kind        *hub.Kind // nil: only a hydration row
	id          *expression
	at          []timeSource
	country     *expression
	identifiers []identifierMapping
	properties  []propertyMapping
	traits      []named
	traitsAt    *expression
	written     *changeMapping
	echo        *expression
	hydrate     *hydrateMapping
}

type named struct {
	name string
	*expression
}

type timeSource struct {
	by string // an Occurred value of hub
	*expression
}

type identifierMapping struct {
	kind         string
	record, weak bool
	own          bool // of this connection
	*expression
}

type propertyMapping struct {
	name string
	kind hub.PropertyType
	*expression
}

type changeMapping struct{ object, id, field, value *expression }

type hydrateMapping struct {
	object  string
	id      *expression
	context []named
}

// receive is how webhooks come in.
type receive struct {
	methods   []string
	codecs    []string // json, form
	handshake *handshake
	verify    []verifier
	ids       []string // headers with the vendor's delivery id, first present wins
	answer    Answer
	busy      Answer
	items     *expression
	topic     *expression
	events    []*mapping
	byTopic   map[string][]*mapping

	usesSettings bool
}

type handshake struct {
	methods []string
	when    *expression
	status  int
	content string
	body    *template
	verify  bool
}

type verifier struct {
	when    *expression
	scheme  string
	secrets []string // names of settings
	never   []string // well-known secrets that are never accepted
	signature.Verifier
	token   *expression // of scheme token
	headers []string    // of scheme token
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

func (l *loader) connector(root at, kinds *hub.Kinds) *Connector {
	c := &Connector{kinds: kinds, objects: map[string]*object{}, actions: map[string]*action{}}
	top := root.object("name", "title", "category", "version", "docs", "settings", "hosts", "identifiers", "receive", "hydrate", "auth", "limits", "actions", "provision")
	c.name = top["name"].text()
	if !nameForm.MatchString(c.name) {
		top["name"].problem("", "a connector needs a name of small letters, digits and dashes")
	}
	c.title, c.version, c.docs = top["title"].text(), top["version"].text(), top["docs"].text()
	if c.title == "" {
		c.title = c.name
	}
	c.category = top["category"].oneOf("other", "shop", "crm", "helpdesk", "marketing", "messaging", "survey", "payment", "telephony", "analytics", "other")
	l.settings = l.readSettings(top["settings"])
	c.settings = l.settings
	c.hosts = map[string]*expression{}
	for _, e := range top["hosts"].entries() {
		c.hosts[e.key] = e.expression(&actionEnv{}, wantsAny)
	}
	c.identifiers = map[string]string{}
	for _, e := range top["identifiers"].entries() {
		c.identifiers[e.key] = e.oneOf("strong", "record", "strong", "weak")
	}
	// hydrate's names first: receive refers to them.
	for _, e := range top["hydrate"].entries() {
		c.objects[e.key] = &object{name: e.key}
	}
	l.usesSettings = false
	c.receive = l.receive(top["receive"], c)
	c.receive.usesSettings = l.usesSettings
	// What follows reads answers and records, which are decoded whole.
	c.keep = l.keep()
	l.names, l.dynamic = members{}, false
	for _, e := range top["hydrate"].entries() {
		l.object(e.at, c, c.objects[e.key])
	}
	c.auth = l.auth(top["auth"], c)
	c.limit = l.limits(top["limits"])
	l.actions(top["actions"], c)
	l.provision(top["provision"], c)
	return c
}

// keep returns the member names that receive can read, nil for all.
func (l *loader) keep() members {
	if l.dynamic {
		return nil
	}
	return l.names
}

func (l *loader) readSettings(a at) map[string]Setting {
	out := map[string]Setting{}
	maps.Copy(out, commonSettings)
	for _, e := range a.entries() {
		o := e.object("required", "secret", "default", "one_of", "about")
		s := Setting{Required: o["required"].boolean(), Secret: o["secret"].boolean(), Default: o["default"].text(), OneOf: o["one_of"].texts(), About: o["about"].text()}
		if s.Default != "" && len(s.OneOf) > 0 && !slices.Contains(s.OneOf, s.Default) {
			o["default"].problem("", "%q is not in one_of", s.Default)
		}
		if s.Secret && s.Default != "" {
			o["default"].problem("", "a secret has no default")
		}
		out[e.key] = s
	}
	return out
}

func (l *loader) receive(a at, c *Connector) receive {
	var r receive
	o := a.object("methods", "codec", "handshake", "verify", "webhook_id", "answer", "busy", "items", "topic", "id", "at", "country", "echo", "events")
	if a.absent() {
		return r
	}
	r.methods = o["methods"].texts()
	if len(r.methods) == 0 {
		r.methods = []string{"POST"}
	}
	for _, m := range o["codec"].list() {
		r.codecs = append(r.codecs, m.oneOf("json", "json", "form"))
	}
	if len(r.codecs) == 0 {
		r.codecs = []string{"json"}
	}
	if !o["handshake"].absent() {
		r.handshake = l.handshake(o["handshake"])
	}
	for _, v := range o["verify"].list() {
		r.verify = append(r.verify, l.verifier(v))
	}
	if len(r.verify) == 0 {
		o["verify"].problem("", "webhooks must be verified: name a scheme")
	}
	r.ids = o["webhook_id"].texts()
	answer := o["answer"].object("status", "content_type", "body")
	r.answer = Answer{Status: answer["status"].status(0), ContentType: answer["content_type"].text(), Body: []byte(answer["body"].text())}
	busy := o["busy"].object("status", "retry_after")
	r.busy = Answer{Status: busy["status"].status(503), RetryAfter: busy["retry_after"].duration(30 * time.Second)}
	r.items = o["items"].expression(&webhookEnv{}, wantsAny)
	r.topic = o["topic"].expression(&webhookEnv{}, wantsAny)
	defaults := mapping{
		id:      o["id"].expression(&webhookEnv{}, wantsAny),
		at:      l.times(o["at"], &webhookEnv{}),
		country: o["country"].expression(&webhookEnv{}, wantsAny),
		echo:    o["echo"].expression(&webhookEnv{}, wantsBool),
	}
	r.events, r.byTopic = l.mappings(o["events"], c, defaults, func() any { return &webhookEnv{} })
	for topic := range r.byTopic {
		if topic != "" && r.topic == nil {
			o["topic"].problem("", "`on: %s` needs a topic", topic)
			break
		}
	}
	return r
}

func (l *loader) handshake(a at) *handshake {
	o := a.object("methods", "when", "verify", "answer")
	h := &handshake{methods: o["methods"].texts(), when: o["when"].expression(&webhookEnv{}, wantsBool), verify: o["verify"].boolean()}
	answer := o["answer"].object("status", "content_type", "body")
	h.status = answer["status"].status(200)
	h.content = answer["content_type"].text()
	h.body = l.template(answer["body"], &webhookEnv{}, plainEscape)
	return h
}

func (l *loader) verifier(a at) verifier {
	o := a.object("when", "scheme", "secrets", "never", "hash", "encoding", "header", "prefix", "key", "signs", "timestamp", "timestamp_format", "tolerance", "value")
	v := verifier{when: o["when"].expression(&webhookEnv{}, wantsBool), secrets: o["secrets"].texts(), never: o["never"].texts()}
	v.scheme = o["scheme"].oneOf("", "hmac", "token", "standard", "hubspot-v3", "hubspot-v2", "hubspot-v1")
	if len(v.secrets) == 0 {
		o["secrets"].problem("", "say which settings hold the secret")
	}
	for _, s := range v.secrets {
		if set, ok := l.settings[s]; !ok || !set.Secret {
			o["secrets"].problem(suggest(s, settingNames(l.settings)), "%q is not a secret of settings", s)
		}
	}
	tolerance := o["tolerance"].duration(signature.DefaultTolerance)
	switch v.scheme {
	case "":
		if o["scheme"].text() == "" {
			o["scheme"].problem("", "a scheme is missing")
		}
	case "hmac":
		h, err := signature.NewHMAC(signature.HMAC{
			Hash: o["hash"].text(), Encoding: o["encoding"].text(), Headers: o["header"].texts(), Prefix: o["prefix"].text(),
			Key: o["key"].text(), Signs: o["signs"].text(), Timestamp: o["timestamp"].texts(), TimestampFormat: o["timestamp_format"].text(), Tolerance: tolerance,
		})
		if err != nil {
			a.problem("", "%s", strings.TrimSuffix(err.Error(), ": "+hub.ErrInvalid.Error()))
		}
		v.Verifier = h
	case "token":
		v.token = o["value"].expression(&webhookEnv{}, wantsAny)
		v.headers = o["header"].texts()
		if (v.token == nil) == (len(v.headers) == 0) {
			a.problem("", "a token is read either from a header or by a value expression")
		}
		v.Verifier = signature.Header(o["prefix"].text(), v.headers...)
	case "standard":
		v.Verifier = signature.Standard{Tolerance: tolerance}
	default:
		version, _ := strconv.Atoi(v.scheme[len(v.scheme)-1:])
		v.Verifier = signature.HubSpot{Version: version, Tolerance: tolerance}
	}
	return v
}

// mappings reads a list of events.
func (l *loader) mappings(a at, c *Connector, defaults mapping, env func() any) ([]*mapping, map[string][]*mapping) {
	var all []*mapping
	byTopic := map[string][]*mapping{}
	for _, e := range a.list() {
		m := l.mapping(e, c, defaults, env())
		all = append(all, m)
		for _, topic := range m.on {
			byTopic[topic] = append(byTopic[topic], m)
		}
		if len(m.on) == 0 {
			byTopic[""] = append(byTopic[""], m)
		}
	}
	return all, byTopic
}

func (l *loader) mapping(a at, c *Connector, defaults mapping, env any) *mapping {
	m := defaults
	m.place = a
	o := a.object("on", "when", "each", "kind", "id", "at", "country", "identifiers", "properties", "traits", "traits_at", "written", "echo", "hydrate")
	m.on = o["on"].texts()
	m.when = o["when"].expression(env, wantsBool)
	m.each = o["each"].expression(env, wantsAny)
	if x := o["id"].expression(env, wantsAny); x != nil {
		m.id = x
	}
	m.at = append(l.times(o["at"], env), defaults.at...)
	if x := o["country"].expression(env, wantsAny); x != nil {
		m.country = x
	}
	if x := o["echo"].expression(env, wantsBool); x != nil {
		m.echo = x
	}
	if kind := o["kind"].text(); kind != "" {
		if k, ok := c.kinds.Lookup(kind); ok && k.Own {
			o["kind"].problem("", "%s is made by the hub itself", kind)
		} else if ok {
			m.kind = &k
		} else {
			o["kind"].problem(suggest(kind, c.kinds.Of("any")), "unknown kind %q", kind)
		}
	}
	for _, e := range o["identifiers"].entries() {
		x := identifierMapping{kind: e.key, expression: e.expression(env, wantsAny)}
		if e.key != hub.IdentifierEmail && e.key != hub.IdentifierPhone {
			strength, ok := c.identifiers[e.key]
			if !ok {
				e.keyAt.problem(suggest(e.key, append(sortedKeys(c.identifiers), hub.IdentifierEmail, hub.IdentifierPhone)), "unknown kind of identifier %q", e.key)
			}
			x.own, x.record, x.weak = true, strength == "record", strength == "weak"
		}
		if x.expression != nil {
			m.identifiers = append(m.identifiers, x)
		}
	}
	l.properties(o["properties"], &m, env)
	for _, e := range o["traits"].entries() {
		if x := e.expression(env, wantsAny); x != nil {
			m.traits = append(m.traits, named{e.key, x})
		}
	}
	m.traitsAt = o["traits_at"].expression(env, wantsAny)
	if w := o["written"]; !w.absent() {
		m.written = l.change(w, env)
	}
	if h := o["hydrate"]; !h.absent() {
		m.hydrate = l.hydrateMapping(h, c, env)
	}
	if m.kind == nil && m.hydrate == nil && o["kind"].text() == "" {
		a.problem("", "an event needs a kind, a hydrate, or both")
	}
	if m.kind == nil {
		for _, key := range []string{"identifiers", "properties", "traits", "written"} {
			if o["kind"].text() == "" && !o[key].absent() {
				o[key].problem("", "needs a kind")
			}
		}
	} else if _, record := env.(*recordEnv); m.id == nil && !record {
		a.problem("", "an event needs an id: what makes a second delivery of the same fact harmless")
	}
	return &m
}

func (l *loader) properties(a at, m *mapping, env any) {
	given := map[string]bool{}
	for _, e := range a.entries() {
		x := e.expression(env, wantsAny)
		if m.kind == nil || x == nil || x.program == nil {
			continue
		}
		t, ok := m.kind.Properties[e.key]
		if !ok {
			e.keyAt.problem(suggest(e.key, sortedKeys(m.kind.Properties)), "%s has no property %q", m.kind.Name, e.key)
			continue
		}
		if got := x.program.Node().Type(); !fits(t, got) {
			e.problem("", "%s.%s is %s, the expression gives %s", m.kind.Name, e.key, t, got)
		}
		given[e.key] = true
		m.properties = append(m.properties, propertyMapping{e.key, t, x})
	}
	if m.kind != nil && m.kind.Object != "" && !given["id"] {
		m.place.problem("", "%s needs the property id: the vendor's id of the %s", m.kind.Name, m.kind.Object)
	}
}

func (l *loader) change(a at, env any) *changeMapping {
	return l.changeOf(a, a.object("object", "id", "field", "value"), env)
}

func (l *loader) changeOf(a at, o map[string]at, env any) *changeMapping {
	ch := &changeMapping{object: o["object"].expression(env, wantsAny), id: o["id"].expression(env, wantsAny), field: o["field"].expression(env, wantsAny), value: o["value"].expression(env, wantsAny)}
	for _, key := range []string{"object", "id", "field", "value"} {
		if o[key].text() == "" {
			a.problem("", "%s is missing", key)
		}
	}
	return ch
}

func (l *loader) hydrateMapping(a at, c *Connector, env any) *hydrateMapping {
	o := a.object("object", "id", "context")
	h := &hydrateMapping{object: o["object"].text(), id: o["id"].expression(env, wantsAny)}
	if _, ok := c.objects[h.object]; !ok {
		o["object"].problem(suggest(h.object, sortedKeys(c.objects)), "%q is not under hydrate", h.object)
	}
	if h.id == nil {
		a.problem("", "id is missing")
	}
	for _, e := range o["context"].entries() {
		if x := e.expression(env, wantsAny); x != nil {
			h.context = append(h.context, named{e.key, x})
		}
	}
	return h
}

// times reads sources of occurred_at, best first: a list of {fact|record|sender: expression}.
func (l *loader) times(a at, env any) []timeSource {
	var out []timeSource
	for _, x := range a.list() {
		for _, e := range x.entries() {
			switch e.key {
			case hub.OccurredFact, hub.OccurredRecord, hub.OccurredSender:
			default:
				e.keyAt.problem(suggest(e.key, []string{"fact", "record", "sender"}), "a time is one of fact, record, sender")
				continue
			}
			if ex := e.expression(env, wantsAny); ex != nil {
				out = append(out, timeSource{e.key, ex})
			}
		}
	}
	return out
}

func (a at) status(fallback int) int {
	s := a.text()
	if s == "" {
		return fallback
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 100 || n > 599 {
		a.problem("", "%q is not an HTTP status", s)
		return fallback
	}
	return n
}

func (a at) duration(fallback time.Duration) time.Duration {
	s := a.text()
	if s == "" {
		return fallback
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		a.problem("write 5m, 30s or 2h", "%q is not a duration", s)
		return fallback
	}
	return d
}

func (a at) whole(fallback, least, most int) int {
	s := a.text()
	if s == "" {
		return fallback
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		a.problem("", "%q is not a whole number from %d to %d", s, least, most)
		return fallback
	}
	return n
}
