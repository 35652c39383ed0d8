package signature

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// The headers of Standard Webhooks.
const (
	StandardID        = "webhook-id"
	StandardTimestamp = "webhook-timestamp"
	StandardSignature = "webhook-signature"
)

// Standard checks Standard Webhooks v1 (github.com/standard-webhooks/standard-webhooks, spec 1.0.0), under its own header names
// or Svix's. Secrets are "whsec_" and the base64 of the key; the prefix may be missing.
type Standard struct {
	Tolerance time.Duration // default DefaultTolerance
}

// Verify implements [Verifier].
func (s Standard) Verify(w *hub.Webhook, secrets []hub.Secret, now time.Time) error {
	secrets, err := usable(secrets)
	if err != nil {
		return err
	}
	id := first(w, []string{StandardID, "svix-id"})
	timestamp := first(w, []string{StandardTimestamp, "svix-timestamp"})
	list := first(w, []string{StandardSignature, "svix-signature"})
	for name, v := range map[string]string{StandardID: id, StandardTimestamp: timestamp, StandardSignature: list} {
		if v == "" {
			return unauthenticated("header %s is missing", name)
		}
	}
	var sums [][]byte
	for _, secret := range secrets {
		sum, err := standardSum(secret, id, timestamp, w.Body)
		if err != nil {
			continue // an unusable secret beside a usable one
		}
		sums = append(sums, sum)
	}
	genuine := false
	for entry := range strings.FieldsSeq(list) {
		text, ok := strings.CutPrefix(entry, "v1,")
		if !ok {
			continue // v1a and whatever comes later is not ours to check
		}
		got, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		for _, sum := range sums {
			genuine = same(sum, got) || genuine
		}
	}
	if !genuine {
		return unauthenticated("no signature matches")
	}
	at, err := parseTime(timestamp, Unix)
	if err != nil {
		return unauthenticated("header %s is not a time", StandardTimestamp)
	}
	tolerance := s.Tolerance
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	if !near(at, now, tolerance) {
		return stale(at, now, tolerance)
	}
	return nil
}

// SignStandard returns the value of webhook-signature: one v1 entry per secret, so that receivers can rotate. The id must
// not hold a dot. It wraps hub.ErrInvalid for an id that does, no secret, or one that is not base64.
func SignStandard(secrets []hub.Secret, id string, at time.Time, body []byte) (string, error) {
	if id == "" || strings.ContainsAny(id, ". \n") {
		return "", fmt.Errorf("sign %q: an id needs one character and no dot or space: %w", id, hub.ErrInvalid)
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	var b strings.Builder
	for _, secret := range secrets {
		if secret.IsZero() {
			continue
		}
		sum, err := standardSum(secret, id, timestamp, body)
		if err != nil {
			return "", err
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("v1,")
		b.WriteString(base64.StdEncoding.EncodeToString(sum))
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("sign %q: no secret is set: %w", id, hub.ErrInvalid)
	}
	return b.String(), nil
}

func standardKey(secret hub.Secret) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret.Reveal(), "whsec_"))
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("the secret is not whsec_ and base64: %w", hub.ErrInvalid) // the cause would quote it
	}
	return key, nil
}

var standardKeyed = keyrings{hash: sha256.New, key: standardKey}

func standardSum(secret hub.Secret, id, timestamp string, body []byte) ([]byte, error) {
	return standardKeyed.sum(secret, func(mac hash.Hash) {
		mac.Write([]byte(id))
		mac.Write([]byte{'.'})
		mac.Write([]byte(timestamp))
		mac.Write([]byte{'.'})
		mac.Write(body)
	})
}
