package connector

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/hub"
)

// Set is the connectors that are known.
type Set struct {
	byName map[string]*Connector
	order  []*Connector
}

// Get returns the connector of that name.
func (s *Set) Get(name string) (*Connector, bool) { c, ok := s.byName[name]; return c, ok }

// All returns the connectors, sorted by name.
func (s *Set) All() []*Connector { return slices.Clone(s.order) }

// Connector is one compiled manifest. It is immutable and safe for concurrent use.
type Connector struct {
	name, title, category, version, docs string

	hash        string
	kinds       *hub.Kinds
	settings    map[string]Setting
	hosts       map[string]*expression
	identifiers map[string]string // kind -> record, strong, weak
	receive     receive
	keep        members // members of the body that receive reads; nil: all
	objects     map[string]*object
	auth        Auth
	limit       Limit
	actions     map[string]*action
	common      actionDefaults
	provision   []provisionStep
}

// Load compiles every */connector.yaml of fsys against the catalogue kinds. The error joins every [Problem] found.
func Load(fsys fs.FS, kinds *hub.Kinds) (*Set, error) {
	files, err := fs.Glob(fsys, "*/connector.yaml")
	if err != nil {
		return nil, fmt.Errorf("connectors: %w", err)
	}
	s := &Set{byName: map[string]*Connector{}}
	var problems []error
	for _, file := range files {
		text, err := fs.ReadFile(fsys, file)
		if err != nil {
			problems = append(problems, Problem{File: file, Message: err.Error()})
			continue
		}
		c, err := Parse(file, text, kinds)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if folder := path.Dir(file); c.name != folder {
			problems = append(problems, Problem{File: file, Line: 1, Column: 1, Path: "name", Message: fmt.Sprintf("is %q in folder %q: they must be the same", c.name, folder)})
			continue
		}
		s.byName[c.name] = c
		s.order = append(s.order, c)
	}
	slices.SortFunc(s.order, func(a, b *Connector) int { return strings.Compare(a.name, b.name) })
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return s, nil
}

// Parse compiles one manifest. The error joins every [Problem] found.
func Parse(file string, text []byte, kinds *hub.Kinds) (c *Connector, err error) {
	l := &loader{file: file, names: members{}, compiled: map[compileKey]*expression{}}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		p := Problem{File: file, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
		_, _ = fmt.Sscanf(p.Message, "line %d:", &p.Line)
		p.Column = min(1, p.Line)
		return nil, p
	}
	if len(doc.Content) == 0 {
		return nil, Problem{File: file, Line: 1, Column: 1, Message: "the manifest is empty"}
	}
	c = l.connector(at{l, doc.Content[0], ""}, kinds)
	if len(l.problems) > 0 {
		return nil, errors.Join(l.problems...)
	}
	sum := sha256.Sum256(text)
	c.hash = hex.EncodeToString(sum[:])
	return c, nil
}

// Name is what connections call it.
func (c *Connector) Name() string { return c.name }

// Title is the vendor's name for people.
func (c *Connector) Title() string { return c.title }

// Category is shop, crm, helpdesk, ….
func (c *Connector) Category() string { return c.category }

// APIVersion is the version of the vendor's API that the manifest was written for.
func (c *Connector) APIVersion() string { return c.version }

// Settings describes the keys of a connection.
func (c *Connector) Settings() map[string]Setting { return c.settings }

// Hash identifies the manifest's text: another text is another activation.
func (c *Connector) Hash() string { return c.hash }

// Produces returns the kinds of event it can make, sorted: wake-ups of models that read them wait for its connections.
func (c *Connector) Produces() []string {
	seen := map[string]struct{}{}
	add := func(all []*mapping) {
		for _, m := range all {
			if m.kind != nil {
				seen[m.kind.Name] = struct{}{}
			}
		}
	}
	add(c.receive.events)
	for _, o := range c.objects {
		add(o.events)
	}
	return sortedKeys(seen)
}

// Actions returns the names of the actions it can perform, sorted.
func (c *Connector) Actions() []string { return sortedKeys(c.actions) }

// Schemes returns the verification schemes it accepts, best first.
func (c *Connector) Schemes() []string {
	var out []string
	for i := range c.receive.verify {
		if s := c.receive.verify[i].scheme; !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Handshakes reports whether the vendor checks the address by a handshake.
func (c *Connector) Handshakes() bool { return c.receive.handshake != nil }

// Objects returns the names of what it can hydrate, sorted.
func (c *Connector) Objects() []string { return sortedKeys(c.objects) }

// Can reports whether the connector knows the action.
func (c *Connector) Can(action string) bool { _, ok := c.actions[action]; return ok }

// CompletesWithin is how long an answered or timed-out request may still take effect at the vendor: an uncertain
// create is looked up no sooner after sending.
func (c *Connector) CompletesWithin() time.Duration { return c.common.completesWithin }

// Limit returns what the vendor allows.
func (c *Connector) Limit() Limit { return c.limit }

// Auth returns how requests authenticate.
func (c *Connector) Auth() Auth { return c.auth }

// settingsOf returns conn's settings with the defaults filled in; every declared name that is no secret is there.
func (c *Connector) settingsOf(conn *hub.Connection) map[string]string {
	out := make(map[string]string, len(c.settings))
	for name, s := range c.settings {
		if s.Secret {
			continue
		}
		v := conn.Settings[name]
		if v == "" {
			v = s.Default
		}
		out[name] = v
	}
	return out
}

// BaseURL returns scheme and host that requests for host ("" means "api") go to, without a slash at the end.
// conn.BaseURL replaces every host.
func (c *Connector) BaseURL(host string, conn *hub.Connection) (string, error) {
	if conn.BaseURL != "" {
		return strings.TrimRight(conn.BaseURL, "/"), nil
	}
	if host == "" {
		host = "api"
	}
	x, ok := c.hosts[host]
	if !ok {
		return "", fmt.Errorf("connector %s has no host %q: %w", c.name, host, hub.ErrInvalid)
	}
	base, err := x.string(&actionEnv{Settings: c.settingsOf(conn)})
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(base, "https://") && !strings.HasPrefix(base, "http://") {
		return "", x.errorf("host %q is not an absolute address", host)
	}
	return strings.TrimRight(base, "/"), nil
}

// CheckConnection returns what is wrong with a connection's keys. Problems have no file or line: the caller knows them.
func (c *Connector) CheckConnection(conn *hub.Connection) []Problem {
	var out []Problem
	say := func(key, suggestion, format string, args ...any) {
		out = append(out, Problem{Path: "connections." + conn.Name + "." + key, Message: fmt.Sprintf(format, args...), Suggestion: suggestion})
	}
	known := settingNames(c.settings)
	has := func(name string) bool { return conn.Settings[name] != "" || !conn.Secret(name).IsZero() }
	for _, name := range sortedKeys(conn.Settings) {
		switch s, ok := c.settings[name]; {
		case !ok:
			say(name, suggest(name, known), "unknown key of a %s connection", c.name)
		case s.Secret:
			say(name, "", "is a secret and must be given as one")
		case len(s.OneOf) > 0 && !slices.Contains(s.OneOf, conn.Settings[name]):
			say(name, suggest(conn.Settings[name], s.OneOf), "%q is none of %s", conn.Settings[name], strings.Join(s.OneOf, ", "))
		}
	}
	for _, name := range sortedKeys(conn.Secrets) {
		if s, ok := c.settings[name]; !ok {
			say(name, suggest(name, known), "unknown key of a %s connection", c.name)
		} else if !s.Secret {
			say(name, "", "is not a secret: it is printed and logged")
		}
	}
	for _, name := range known {
		if s := c.settings[name]; s.Required && s.Default == "" && !has(name) {
			say(name, "", "is missing: %s", s.About)
		}
	}
	if conn.Mode != "poll" && len(c.receive.verify) > 0 {
		var names []string
		found := false
		for i := range c.receive.verify {
			v := &c.receive.verify[i]
			names = append(names, v.secrets...)
			for _, name := range v.secrets {
				for _, s := range conn.Secrets[name] {
					if slices.Contains(v.never, s.Reveal()) {
						say(name, "", "is the vendor's public test secret: anybody can sign with it")
					}
				}
				found = found || has(name)
			}
		}
		if !found {
			slices.Sort(names)
			say(names[0], "", "no secret to verify webhooks with: set one of %s", strings.Join(slices.Compact(names), ", "))
		}
	}
	if missing := c.auth.missing(conn); missing != "" {
		say(missing, "", "is missing: %s", c.settings[missing].About)
	}
	return out
}

var (
	timeType  = reflect.TypeFor[time.Time]()
	moneyType = reflect.TypeFor[hub.Money]()
)

// fits reports whether an expression of static type got can give a property of type t. Untyped ones are checked when run.
func fits(t hub.PropertyType, got reflect.Type) bool {
	if got == nil || got.Kind() == reflect.Interface {
		return true
	}
	switch t {
	case hub.Amount:
		return got == moneyType
	case hub.Time:
		return got == timeType || got.Kind() == reflect.String
	case hub.Bool:
		return got.Kind() == reflect.Bool
	case hub.Texts:
		return got.Kind() == reflect.Slice || got.Kind() == reflect.String
	case hub.Number:
		switch got.Kind() {
		case reflect.Int, reflect.Int64, reflect.Float64, reflect.String:
			return true
		}
		return false
	default:
		return got != moneyType && got.Kind() != reflect.Slice && got.Kind() != reflect.Map
	}
}
