// Package client is the one way out to vendors and subscribers. It holds everything that every outbound request needs:
// the address guard, time-outs, size limits, authentication with token refresh, one rate limiter per connection, and errors
// that tell no secret. It knows no vendor: what differs between them is data that the connector's manifest gives.
//
// # Design
//
// Addresses are checked in the dialer's Control hook, which sees the address that is really dialled: a name that
// resolves differently a moment later (DNS rebinding) gains nothing. Redirects are never followed, so that a vendor or a
// subscriber cannot send our credentials or our signature elsewhere, and credentials are only attached to the hosts
// that the connection's manifest names. HTTP proxies are not used: behind one the guard would see the proxy's address only.
//
// Vendors are called through net/http's transport, callbacks are posted over lines of our own (lines.go): there are far more of them,
// to fewer hosts, and less of HTTP is needed for them.
//
// An error names the method and the host. Paths are left out too: some vendors' paths hold a customer's e-mail address and
// a subscriber's may hold a token. Error.Unsent says whether the request can have reached the other side, which
// decides between trying again and looking up first.
//
// An access token is refreshed once for all callers of this process (single flight) and for all processes (under the store's
// lock of the connection). The new token is sealed and stored before anybody uses it: vendors rotate refresh tokens, and a
// token that was used but not stored locks the hub out after a crash.
package client
