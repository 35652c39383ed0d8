package client

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"github.com/stagewire/stagewire/internal/hub"
)

// Sealer encrypts what must rest in SQL but is nobody's business there: access and refresh tokens.
// AES-256-GCM with a random nonce; the connection's name is authenticated with it, so that a row copied to another connection does not open.
type Sealer struct{ aead cipher.AEAD }

// sealVersion is the first byte of everything sealed, so that another scheme can follow.
const sealVersion = 1

// NewSealer makes a sealer from the 32 bytes of the key file. Any other length wraps hub.ErrInvalid.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("key has %d bytes, not 32: %w", len(key), hub.ErrInvalid)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return &Sealer{aead: aead}, nil
}

// Seal encrypts plain for the given place. It is safe for concurrent use.
func (s *Sealer) Seal(place string, plain []byte) []byte {
	out := make([]byte, 1+s.aead.NonceSize(), 1+s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	out[0] = sealVersion
	_, _ = rand.Read(out[1:]) // never fails since Go 1.24
	return s.aead.Seal(out, out[1:], plain, []byte(place))
}

// Open decrypts what Seal made for the same place with the same key. Anything else wraps hub.ErrInvalid.
func (s *Sealer) Open(place string, sealed []byte) ([]byte, error) {
	n := 1 + s.aead.NonceSize()
	if len(sealed) < n+s.aead.Overhead() || sealed[0] != sealVersion {
		return nil, fmt.Errorf("sealed value of %s: not in a known form: %w", place, hub.ErrInvalid)
	}
	plain, err := s.aead.Open(nil, sealed[1:n], sealed[n:], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("sealed value of %s: another key or a changed value: %w", place, hub.ErrInvalid)
	}
	return plain, nil
}
