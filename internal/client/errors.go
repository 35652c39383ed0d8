package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Error is a request that got no complete answer. It names the method and the host and nothing else of the request, and wraps
// hub.ErrTransient, hub.ErrInvalid (can never succeed: not a legal request, an answer too large), hub.ErrUnauthenticated (no token to be
// had) or hub.ErrBusy (the connection's limiter wants quiet). What a person can mend in the configuration, an address that
// the guard refuses among it, is transient, so that nothing is given up over it at once.
type Error struct {
	Method string
	Host   string
	reason string
	kind   error
	unsent bool
	wait   time.Duration
}

// Error gives "POST api.example.com: connection refused".
func (e *Error) Error() string { return e.Method + " " + e.Host + ": " + e.reason }

// Unwrap returns the kind, and connector.ErrNotSent for a request that never left.
func (e *Error) Unwrap() []error {
	if e.unsent {
		return []error{e.kind, errNotSent}
	}
	return []error{e.kind}
}

// Unsent reports that the request cannot have had an effect: it never left this machine. False means it may have.
func (e *Error) Unsent() bool { return e.unsent }

// RetryAfter returns how long the connection's limiter wants to be left alone; 0 where it was not the limiter.
func (e *Error) RetryAfter() time.Duration { return e.wait }

// transportError tells why a round trip failed without the URL that net/http puts in front. reached reports whether a
// socket to the host was ready to be written to.
func transportError(method, host string, err error, reached bool) *Error {
	if already, ok := errors.AsType[*Error](err); ok {
		return already
	}
	out := &Error{Method: method, Host: host, kind: hub.ErrTransient, unsent: !reached}
	if guard := (*guardError)(nil); errors.As(err, &guard) {
		out.unsent = true // it runs before anything is sent
	}
	out.reason = reason(err)
	return out
}

// reason names the kind of a failure by its type. Texts of foreign errors are only passed on where they hold nothing but addresses:
// net/http quotes URLs, headers and bytes of the answer in some of its own.
func reason(err error) string {
	var (
		dns     *net.DNSError
		op      *net.OpError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		cert    *tls.CertificateVerificationError
		timeout net.Error
		errno   syscall.Errno
		guard   *guardError
	)
	switch {
	case errors.As(err, &guard):
		return guard.Error()
	case errors.Is(err, errHeader):
		return "a header value is not legal (is there a line break in a secret?)"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return "host name does not resolve"
		}
		return "name resolution failed"
	case errors.As(err, &unknown):
		return "certificate of an unknown authority"
	case errors.As(err, &name):
		return "certificate is for another host name"
	case errors.As(err, &invalid), errors.As(err, &cert):
		return "certificate is not valid"
	case errors.As(err, &record), errors.As(err, &alert):
		return "TLS handshake failed"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	case errors.As(err, &errno):
		if errors.As(err, &op) && op.Op == "dial" {
			return "connect: " + errno.Error()
		}
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed before the answer was complete"
	case errors.As(err, &op):
		return op.Op + " failed"
	}
	var outer *url.Error
	if errors.As(err, &outer) && strings.HasPrefix(outer.Err.Error(), "net/http: invalid header") {
		return "a header value is not legal (is there a line break in a secret?)"
	}
	return "request failed"
}

// guardError is the address guard's own text, safe to show.
type guardError struct{ err error }

func (e *guardError) Error() string { return e.err.Error() }
func (e *guardError) Unwrap() error { return e.err }

func invalidRequest(method, host, format string, args ...any) *Error {
	return &Error{Method: method, Host: host, reason: fmt.Sprintf(format, args...), kind: hub.ErrInvalid, unsent: true}
}

// misconfigured is a request that the configuration makes impossible for now.
func misconfigured(method, host, text string) *Error {
	return &Error{Method: method, Host: host, reason: text, kind: hub.ErrTransient, unsent: true}
}
