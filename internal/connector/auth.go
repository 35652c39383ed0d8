package connector

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Schemes of AuthOption.
const (
	AuthBearer            = "bearer" // the secret, in Auth.Header behind Auth.Prefix
	AuthHeader            = "header" // the same without a default prefix
	AuthBasic             = "basic"
	AuthClientCredentials = "oauth2_client_credentials"
	AuthRefresh           = "oauth2_refresh"
)

// Auth says how requests authenticate; package client does it. A token of any scheme but basic travels in Header behind Prefix.
type Auth struct {
	Header  string // default Authorization
	Prefix  string // default "Bearer "; "" for scheme header
	Options []AuthOption
}

// AuthOption is one way to authenticate. The first one whose settings a connection has is used.
type AuthOption struct {
	Scheme string
	// Secret names the setting with a fixed token (bearer, header) or password (basic); User the one with basic's user name.
	Secret, User string
	// Token endpoint of the oauth2 schemes: Host is a key of hosts.
	TokenHost, TokenPath string
	// TokenFormat of the token request's body: form (default) or json.
	TokenFormat string
	// ClientID, ClientSecret and RefreshToken name settings. Several client secrets may be set while one is rotated: try newest first.
	ClientID, ClientSecret, RefreshToken string
	// Scope is sent as is where not empty.
	Scope string
}

// needs returns the settings that o cannot do without.
func (o AuthOption) needs() []string {
	var out []string
	for _, s := range []string{o.Secret, o.User, o.ClientID, o.ClientSecret, o.RefreshToken} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// For returns the option conn has the settings for; false where it has none.
func (a Auth) For(conn *hub.Connection) (AuthOption, bool) {
	for _, o := range a.Options {
		if !slices.ContainsFunc(o.needs(), func(name string) bool { return conn.Settings[name] == "" && conn.Secret(name).IsZero() }) {
			return o, true
		}
	}
	return AuthOption{}, false
}

// missing names the key that keeps a connection, begun for one option, from being complete; "" where one is complete or none
// is begun: a connection that only receives needs none. What verifies webhooks too does not count as begun.
func (a Auth) missing(conn *hub.Connection) string {
	if _, ok := a.For(conn); ok {
		return ""
	}
	for _, o := range a.Options {
		begun, missing := false, ""
		for _, name := range o.needs() {
			switch {
			case conn.Settings[name] == "" && conn.Secret(name).IsZero():
				missing = name
			case name != o.ClientSecret:
				begun = true
			}
		}
		if begun {
			return missing
		}
	}
	return ""
}

func (l *loader) auth(a at, c *Connector) Auth {
	o := a.object("header", "prefix", "options")
	auth := Auth{Header: o["header"].text(), Prefix: o["prefix"].text()}
	if auth.Header == "" {
		auth.Header = "Authorization"
	}
	for _, x := range o["options"].list() {
		p := x.object("scheme", "secret", "user", "host", "path", "format", "client_id", "client_secret", "refresh_token", "scope")
		opt := AuthOption{
			Scheme: p["scheme"].oneOf("", AuthBearer, AuthHeader, AuthBasic, AuthClientCredentials, AuthRefresh), Secret: p["secret"].text(), User: p["user"].text(),
			TokenHost: p["host"].text(), TokenPath: p["path"].text(), TokenFormat: p["format"].oneOf("form", "form", "json"), Scope: p["scope"].text(),
			ClientID: p["client_id"].text(), ClientSecret: p["client_secret"].text(), RefreshToken: p["refresh_token"].text(),
		}
		required := map[string][]string{
			AuthBearer: {"secret"}, AuthHeader: {"secret"}, AuthBasic: {"user", "secret"},
			AuthClientCredentials: {"path", "client_id", "client_secret"}, AuthRefresh: {"path", "client_id", "client_secret", "refresh_token"},
		}
		if opt.Scheme == "" && p["scheme"].text() == "" {
			x.problem("", "scheme is missing")
		}
		for _, key := range required[opt.Scheme] {
			if p[key].text() == "" {
				x.problem("", "%s needs %s", opt.Scheme, key)
			}
		}
		for _, key := range []string{"secret", "user", "client_id", "client_secret", "refresh_token"} {
			s := p[key].text()
			if set, ok := l.settings[s]; s != "" && !ok {
				p[key].problem(suggest(s, settingNames(l.settings)), "unknown setting %q", s)
			} else if s != "" && set.Secret != (key != "user" && key != "client_id") {
				p[key].problem("", "%q is or is not a secret, against what stands under settings", s)
			}
		}
		if opt.TokenHost != "" {
			if _, ok := c.hosts[opt.TokenHost]; !ok {
				p["host"].problem(suggest(opt.TokenHost, sortedKeys(c.hosts)), "%q is not under hosts", opt.TokenHost)
			}
		}
		auth.Options = append(auth.Options, opt)
	}
	if o["prefix"].absent() && !slices.ContainsFunc(auth.Options, func(o AuthOption) bool { return o.Scheme == AuthHeader }) {
		auth.Prefix = "Bearer "
	}
	return auth
}

// Limit is what a vendor allows one connection: Requests in any span of Per, at most Concurrent at once.
type Limit struct {
	Requests   int // 0: none known
	Per        time.Duration
	Concurrent int
	// Remaining names a header of answers with how many requests are left in the span; Retry-After is always honoured.
	Remaining string
}

var rateForm = regexp.MustCompile(`^(\d+)/(\d+)?(ms|s|m|h)$`)

func (l *loader) limits(a at) Limit {
	o := a.object("requests", "concurrent", "remaining")
	lim := Limit{Concurrent: o["concurrent"].whole(4, 1, 1000), Remaining: o["remaining"].text()}
	if s := o["requests"].text(); s != "" {
		m := rateForm.FindStringSubmatch(s)
		if m == nil {
			o["requests"].problem("write 80/2s or 200/1m", "%q is not a rate", s)
			return lim
		}
		lim.Requests, _ = strconv.Atoi(m[1])
		if m[2] == "" {
			m[2] = "1"
		}
		lim.Per, _ = time.ParseDuration(strings.Join(m[2:], ""))
		if lim.Requests < 1 || lim.Per <= 0 {
			o["requests"].problem("", "%q allows nothing", s)
		}
	}
	return lim
}
