package client

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Time-outs of the parts of a request. The whole of it is bounded by Config.Timeout, or CallbackTimeout.
const (
	dialTimeout   = 5 * time.Second
	tlsTimeout    = 5 * time.Second
	headerTimeout = 30 * time.Second
	idleTimeout   = 60 * time.Second
)

// connectionsPerHost bounds the sockets to one host, over all connections and subscriptions that share it.
const connectionsPerHost = 64

// never are addresses that no setting opens: cloud metadata services hand out credentials, and a multicast or
// broadcast address is no web server. 169.254.169.254 is AWS, Azure, GCP; fd00:ec2::254 AWS; 100.100.100.200 Alibaba; 168.63.129.16 Azure's host.
var never = []netip.Prefix{
	netip.MustParsePrefix("169.254.169.254/32"),
	netip.MustParsePrefix("169.254.170.2/32"),
	netip.MustParsePrefix("fd00:ec2::254/128"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("255.255.255.255/32"),
}

// private are addresses that mean another machine in another network, so that only a setting opens them
// (IANA special-purpose registries, RFC 6890).
var private = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), // unspecified, loopback, and the old IPv4-compatible addresses
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fec0::/10"),
}

// Prefixes of IPv6 addresses that carry an IPv4 address, and where in the sixteen bytes it lies.
var embedded = []struct {
	prefix netip.Prefix
	offset int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64, RFC 8215
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4, RFC 3056
}

// CheckAddress reports whether an outbound request may go to addr. The error wraps hub.ErrInvalid.
func CheckAddress(addr netip.Addr, allowPrivate bool) error {
	addr = addr.Unmap().WithZone("")
	for _, e := range embedded {
		if e.prefix.Contains(addr) {
			b := addr.As16()
			if err := CheckAddress(netip.AddrFrom4([4]byte(b[e.offset:e.offset+4])), allowPrivate); err != nil {
				return err
			}
		}
	}
	for _, p := range never {
		if p.Contains(addr) {
			return fmt.Errorf("address %s is refused: %w", addr, hub.ErrInvalid)
		}
	}
	if allowPrivate {
		return nil
	}
	for _, p := range private {
		if p.Contains(addr) {
			return fmt.Errorf("address %s is private (allow_private_addresses opens it): %w", addr, hub.ErrInvalid)
		}
	}
	return nil
}

// newDialer returns a dialer that refuses addresses after resolution.
func newDialer(allowPrivate bool) *net.Dialer {
	return &net.Dialer{
		Timeout:   dialTimeout,
		KeepAlive: 30 * time.Second,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("address %q is not an IP address and port: %w", address, hub.ErrInvalid)
			}
			if err := CheckAddress(at.Addr(), allowPrivate); err != nil {
				return &guardError{err}
			}
			return nil
		},
	}
}

// newTransport returns a transport for calls to vendors.
func newTransport(allowPrivate bool) *http.Transport {
	return &http.Transport{
		DialContext:            newDialer(allowPrivate).DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        idleTimeout,
		MaxConnsPerHost:        connectionsPerHost,
		MaxIdleConnsPerHost:    connectionsPerHost,
		MaxIdleConns:           4 * connectionsPerHost,
		MaxResponseHeaderBytes: 64 << 10,
	}
}
