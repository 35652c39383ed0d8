package client

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// For returns the way out to conn for deliveries. con must be conn's connector.
func (c *Client) For(conn *hub.Connection, con *connector.Connector) connector.Call {
	return c.With(conn, con, Deliver)
}

// With returns the way out to conn for callers of that priority.
func (c *Client) With(conn *hub.Connection, con *connector.Connector, p Priority) connector.Call {
	return c.call(conn, vendorOf(conn, con), p)
}

func (c *Client) call(conn *hub.Connection, v vendor, p Priority) connector.Call {
	return (&call{client: c, conn: conn, vendor: v, account: c.account(conn, v), priority: p}).do
}

// credentials say how a connection's requests prove who they are, with the connection's own values filled in.
type credentials struct {
	none           bool // the vendor wants none, or the connection has none
	missing        bool // the vendor wants some
	header, prefix string
	fixed          hub.Secret // where there is no grant
	user           string     // makes it HTTP Basic with fixed as the password

	grant    string // a Scheme of package connector, "" for a fixed credential
	tokenURL string
	clientID string
	secrets  []hub.Secret // the client's; several while one is rotated, newest first
	refresh  hub.Secret
	scope    string
	json     bool
}

// vendor is what the client must know of a connection's vendor.
type vendor struct {
	base        func(host string) (string, error) // base URL by its name in the manifest
	credentials credentials
	limit       connector.Limit
}

func vendorOf(conn *hub.Connection, con *connector.Connector) vendor {
	base := func(host string) (string, error) { return con.BaseURL(host, conn) }
	return vendor{base: base, credentials: credentialsOf(conn, con.Auth(), base), limit: con.Limit()}
}

// credentialsOf fills auth with conn's values.
func credentialsOf(conn *hub.Connection, auth connector.Auth, base func(string) (string, error)) credentials {
	option, ok := auth.For(conn)
	if !ok {
		return credentials{none: true, missing: len(auth.Options) > 0}
	}
	value := func(name string) string {
		if v := conn.Settings[name]; v != "" {
			return v
		}
		return conn.Secret(name).Reveal()
	}
	out := credentials{header: auth.Header, prefix: auth.Prefix, fixed: conn.Secret(option.Secret)}
	switch option.Scheme {
	case connector.AuthBasic:
		out.user = value(option.User)
	case connector.AuthClientCredentials, connector.AuthRefresh:
		out.grant = option.Scheme
		out.clientID, out.secrets, out.scope = value(option.ClientID), conn.Secrets[option.ClientSecret], option.Scope
		out.refresh, out.json = conn.Secret(option.RefreshToken), option.TokenFormat == "json"
		if at, err := base(option.TokenHost); err == nil {
			out.tokenURL = strings.TrimRight(at, "/") + "/" + strings.TrimPrefix(option.TokenPath, "/")
		}
	}
	return out
}

// key identifies everything that tokens are made with.
func (a credentials) key(allowPrivate bool) string {
	if a.grant == "" {
		return "fixed"
	}
	parts := []string{a.grant, a.tokenURL, a.clientID, a.refresh.Reveal(), a.scope, fmt.Sprint(a.json, allowPrivate)}
	for _, s := range a.secrets {
		parts = append(parts, s.Reveal())
	}
	return hub.DeriveID("", parts...)
}

// attach puts the credential, or the access token, into header.
func (a credentials) attach(header http.Header, token string) {
	value := a.fixed.Reveal()
	if a.grant != "" {
		value = token
	}
	switch {
	case value == "":
		return
	case a.user != "":
		value = "Basic " + base64.StdEncoding.EncodeToString([]byte(a.user+":"+value))
	default:
		value = a.prefix + value
	}
	name := a.header
	if name == "" {
		name = "Authorization"
	}
	header.Set(name, value)
}

// target returns the URL that req goes to. Credentials go to the manifest's hosts alone: an absolute URL
// elsewhere (a "next page" link that a vendor's answer holds) wraps hub.ErrInvalid unless the request carries none.
func (v vendor) target(conn *hub.Connection, method string, req connector.Request) (*url.URL, error) {
	text, err := v.base(req.Host)
	if err != nil {
		return nil, misconfigured(method, conn.Name, "the base URL cannot be made of the connection's settings")
	}
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || base.User != nil {
		return nil, misconfigured(method, conn.Name, "the base URL is not an absolute URL without a user")
	}
	target := *base
	if strings.HasPrefix(req.Path, "https://") || strings.HasPrefix(req.Path, "http://") {
		absolute, err := url.Parse(req.Path)
		if err != nil || absolute.Host == "" || absolute.User != nil {
			return nil, invalidRequest(method, conn.Name, "the request's URL is not legal")
		}
		if !req.NoAuth && (!strings.EqualFold(absolute.Host, base.Host) || absolute.Scheme != base.Scheme) {
			return nil, invalidRequest(method, absolute.Host, "the host is not the connection's, so credentials are not sent there")
		}
		target = *absolute
	} else {
		rest, err := url.Parse("/" + strings.TrimLeft(req.Path, "/"))
		if err != nil {
			return nil, invalidRequest(method, base.Host, "the request's path is not legal")
		}
		if slices.Contains(strings.Split(rest.Path, "/"), "..") {
			return nil, invalidRequest(method, base.Host, "the request's path steps out of the base URL")
		}
		target.Path = strings.TrimRight(base.Path, "/") + rest.Path
		target.RawPath = strings.TrimRight(base.EscapedPath(), "/") + rest.EscapedPath()
		target.RawQuery = rest.RawQuery
	}
	target.Fragment, target.RawFragment = "", ""
	if err := checkScheme(method, &target, conn.AllowPrivate); err != nil {
		return nil, err
	}
	return &target, nil
}

// checkScheme lets plain http pass only where private addresses are allowed too: a sandbox, a proxy beside the hub.
func checkScheme(method string, target *url.URL, allowPrivate bool) error {
	switch strings.ToLower(target.Scheme) {
	case "https":
		return nil
	case "http":
		if allowPrivate {
			return nil
		}
		return misconfigured(method, target.Host, "http is refused, use https (allow_private_addresses opens it)")
	}
	return invalidRequest(method, target.Host, "the URL's scheme is not https")
}

// errNotSent is in every error of a request that never left.
var errNotSent = connector.ErrNotSent

var errNoCredentials = errors.New("the connection has no credentials for calls")
