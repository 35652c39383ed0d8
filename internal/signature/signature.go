// Package signature checks that a webhook came from whom it says, over the exact bytes received, and signs the hub's own
// callbacks.
//
// Most vendors do the same thing with five knobs turned differently: hash, header and prefix, encoding, signed text, key
// derivation. That is [HMAC], one tested implementation. What is a protocol of its own has a type of its own: [HubSpot],
// [Standard] (standardwebhooks.com), [Token] for vendors that only send a shared secret.
//
// # Design
//
// Everything here is pure: the URL and the instant are arguments, nothing is read from a request but what was stored.
// No verifier accepts anything when no secret is set: an empty secret would make every forged signature right for whoever
// guesses that it is empty. Comparisons take constant time. No error names the secret or the signature expected.
package signature

import (
	"crypto/subtle"
	"fmt"
	"strconv"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Verifier tells genuine webhooks from forged ones.
type Verifier interface {
	// Verify returns nil when w was signed with one of secrets. Otherwise the error wraps hub.ErrUnauthenticated, and
	// hub.ErrStale too where the signature is right but older (or newer) than the scheme's tolerance. It never contains a
	// secret or the expected signature.
	Verify(w *hub.Webhook, secrets []hub.Secret, now time.Time) error
}

// DefaultTolerance is how far a signed timestamp may lie from now, both ways, where a vendor does not say.
const DefaultTolerance = 5 * time.Minute

func unauthenticated(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, hub.ErrUnauthenticated)...)
}

func stale(at, now time.Time, tolerance time.Duration) error {
	return fmt.Errorf("signed at %s, more than %s from %s: %w: %w", at.UTC().Format(time.RFC3339), tolerance,
		now.UTC().Format(time.RFC3339), hub.ErrStale, hub.ErrUnauthenticated)
}

// usable drops secrets that are not set.
func usable(secrets []hub.Secret) ([]hub.Secret, error) {
	var out []hub.Secret
	for _, s := range secrets {
		if !s.IsZero() {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, unauthenticated("no secret is set")
	}
	return out, nil
}

// Formats of a signed timestamp.
const (
	Unix      = "unix"    // whole seconds
	UnixMilli = "unix_ms" // whole milliseconds
	RFC3339   = "rfc3339" // 2026-03-02T09:30:00Z
)

func parseTime(text, format string) (time.Time, error) {
	switch format {
	case RFC3339:
		return time.Parse(time.RFC3339, text)
	case UnixMilli:
		n, err := strconv.ParseInt(text, 10, 64)
		return time.UnixMilli(n), err
	default:
		n, err := strconv.ParseInt(text, 10, 64)
		return time.Unix(n, 0), err
	}
}

// near reports whether at lies within tolerance of now. It compares instants, not differences: time.Sub saturates.
func near(at, now time.Time, tolerance time.Duration) bool {
	return !at.Before(now.Add(-tolerance)) && !at.After(now.Add(tolerance))
}

// first returns the first non-empty header of names.
func first(w *hub.Webhook, names []string) string {
	for _, name := range names {
		if v := w.Header(name); v != "" {
			return v
		}
	}
	return ""
}

func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
