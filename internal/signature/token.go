package signature

import (
	"crypto/sha256"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Token is the scheme of vendors that sign nothing and only send a shared secret along, in a header or in the body. It
// proves who sends, not what: one who reads a single webhook can forge others, so such tokens are rotated.
type Token struct {
	// From returns the token that w carries, "" for none. It gets the webhook as received.
	From func(w *hub.Webhook) (string, error)
}

// Header returns the Token scheme reading the first non-empty header of names, without prefix where it has one.
func Header(prefix string, names ...string) Token {
	return Token{From: func(w *hub.Webhook) (string, error) {
		v := first(w, names)
		if len(v) < len(prefix) || v[:len(prefix)] != prefix {
			return "", nil
		}
		return v[len(prefix):], nil
	}}
}

// Verify implements [Verifier]. The instant does not matter: a token has no time.
func (t Token) Verify(w *hub.Webhook, secrets []hub.Secret, _ time.Time) error {
	secrets, err := usable(secrets)
	if err != nil {
		return err
	}
	got, err := t.From(w)
	if err != nil {
		return unauthenticated("the token cannot be read: %w", err)
	}
	if got == "" {
		return unauthenticated("the token is missing")
	}
	// Hashes have one length, so that the comparison does not tell the secret's.
	sum := sha256.Sum256([]byte(got))
	genuine := false
	for _, s := range secrets {
		want := sha256.Sum256([]byte(s.Reveal()))
		genuine = same(want[:], sum[:]) || genuine
	}
	if !genuine {
		return unauthenticated("the token does not match")
	}
	return nil
}
