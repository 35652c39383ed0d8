package signature

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// HubSpot checks HubSpot's request signatures; the secret is the app's client secret.
//
//	v3  base64 HMAC-SHA-256 of method + URI + body + timestamp (epoch ms), five minutes
//	v2  hex SHA-256 of secret + method + URI + body, no timestamp
//	v1  hex SHA-256 of secret + body, no timestamp
//
// Scheme: developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation (read 2026-11).
// v1 and v2 can be replayed for ever, so a manifest takes them only where a connection asks for it.
type HubSpot struct {
	Version   int           // 3 (default), 2, 1
	Tolerance time.Duration // of v3; default five minutes
}

// The headers HubSpot signs with.
const (
	hubspotV3        = "X-HubSpot-Signature-v3"
	hubspotOld       = "X-HubSpot-Signature"
	hubspotTimestamp = "X-HubSpot-Request-Timestamp"
)

// hubspotURI decodes the escapes that HubSpot decodes before hashing, and only those: %20 stays.
var hubspotURI = strings.NewReplacer(
	"%3A", ":", "%3a", ":", "%2F", "/", "%2f", "/", "%3F", "?", "%3f", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'",
	"%28", "(", "%29", ")", "%2A", "*", "%2a", "*", "%2C", ",", "%2c", ",", "%3B", ";", "%3b", ";")

var hubspotKeyed = keyrings{hash: sha256.New, key: func(secret hub.Secret) ([]byte, error) { return []byte(secret.Reveal()), nil }}

// Verify implements [Verifier].
func (h HubSpot) Verify(w *hub.Webhook, secrets []hub.Secret, now time.Time) error {
	secrets, err := usable(secrets)
	if err != nil {
		return err
	}
	name := hubspotOld
	if h.version() == 3 {
		name = hubspotV3
	}
	got := w.Header(name)
	if got == "" {
		return unauthenticated("header %s is missing", name)
	}
	if h.version() == 3 && w.Header(hubspotTimestamp) == "" {
		return unauthenticated("header %s is missing", hubspotTimestamp)
	}
	genuine := false
	for _, s := range secrets {
		want, err := h.Sign(w, s)
		genuine = err == nil && same([]byte(want), []byte(got)) || genuine
		if h.version() == 2 { // whether it decodes the URL as v3 does is not said: both are proof of the same
			decoded := *w
			decoded.URL = hubspotURI.Replace(w.URL)
			want, err := h.Sign(&decoded, s)
			genuine = err == nil && same([]byte(want), []byte(got)) || genuine
		}
	}
	if !genuine {
		return unauthenticated("the signature does not match")
	}
	if h.version() != 3 {
		return nil
	}
	at, err := parseTime(w.Header(hubspotTimestamp), UnixMilli)
	if err != nil {
		return unauthenticated("header %s is not a time", hubspotTimestamp)
	}
	tolerance := h.Tolerance
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	if !near(at, now, tolerance) {
		return stale(at, now, tolerance)
	}
	return nil
}

// Sign returns the signature HubSpot would send for w; for v3 the timestamp header must be set already.
func (h HubSpot) Sign(w *hub.Webhook, secret hub.Secret) (string, error) {
	if secret.IsZero() {
		return "", fmt.Errorf("no secret is set: %w", hub.ErrInvalid)
	}
	switch h.version() {
	case 3:
		sum, err := hubspotKeyed.sum(secret, func(mac hash.Hash) {
			mac.Write([]byte(w.Method))
			mac.Write([]byte(hubspotURI.Replace(w.URL)))
			mac.Write(w.Body)
			mac.Write([]byte(w.Header(hubspotTimestamp)))
		})
		return base64.StdEncoding.EncodeToString(sum), err
	case 2:
		sum := sha256.New()
		sum.Write([]byte(secret.Reveal() + w.Method + w.URL))
		sum.Write(w.Body)
		return hex.EncodeToString(sum.Sum(nil)), nil
	default:
		sum := sha256.New()
		sum.Write([]byte(secret.Reveal()))
		sum.Write(w.Body)
		return hex.EncodeToString(sum.Sum(nil)), nil
	}
}

func (h HubSpot) version() int {
	if h.Version == 0 {
		return 3
	}
	return h.Version
}
