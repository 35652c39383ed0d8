// Package access holds who may use the API and the files that prove it: the admin token, from the configuration or generated
// at first start as data_dir/token, and data_dir/key, the 32 random bytes that seal what the hub stores encrypted.
//
// Tokens are compared by their SHA-256 in constant time, so neither their length nor their first letters leak.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/stagewire/stagewire/internal/hub"
)

// Role is what a token may do. Each role may do everything the roles before it may.
type Role string

// The roles, weakest first (DESIGN 9).
const (
	Subscriber Role = "subscriber" // the feed and the catalogue
	Viewer     Role = "viewer"     // read everything
	Operator   Role = "operator"   // redrive, replay
	Author     Role = "author"     // change models
	Admin      Role = "admin"      // everything
)

var roles = []Role{Subscriber, Viewer, Operator, Author, Admin}

// Allows reports whether r may do what need is needed for. An unknown role may do nothing.
func (r Role) Allows(need Role) bool {
	have, want := slices.Index(roles, r), slices.Index(roles, need)
	return have >= 0 && want >= 0 && have >= want
}

// Tokens says which role a bearer token has. It is safe for concurrent use; Set swaps all of it at once.
type Tokens struct {
	entries atomic.Pointer[[]entry]
}

type entry struct {
	sum  [sha256.Size]byte
	role Role
}

// NewTokens returns Tokens with one admin token. A zero admin lets nobody in.
func NewTokens(admin hub.Secret) *Tokens {
	t := &Tokens{}
	t.Set(admin)
	return t
}

// Set replaces the admin token, as after a reload.
func (t *Tokens) Set(admin hub.Secret) {
	var entries []entry
	if !admin.IsZero() {
		entries = append(entries, entry{sha256.Sum256([]byte(admin.Reveal())), Admin})
	}
	t.entries.Store(&entries)
}

// Authorize reports whether token is known, and whether its role allows what need is needed for.
func (t *Tokens) Authorize(token, need string) (known, allowed bool) {
	sum := sha256.Sum256([]byte(token))
	for _, e := range *t.entries.Load() {
		if subtle.ConstantTimeCompare(sum[:], e.sum[:]) == 1 {
			known, allowed = true, e.role.Allows(Role(need))
		}
	}
	return known, allowed
}

// Names of the files in data_dir.
const (
	TokenFile = "token"
	KeyFile   = "key"
)

// LoadToken returns the admin token in dir, generating it (and dir) where there is none. created tells which, so that it
// can be pointed out to whoever starts the hub for the first time.
func LoadToken(dir string) (token hub.Secret, created bool, err error) {
	text, created, err := loadOrCreate(dir, TokenFile, func(random []byte) string {
		return "swt_" + base64.RawURLEncoding.EncodeToString(random) + "\n"
	})
	if err != nil {
		return hub.Secret{}, false, err
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return hub.Secret{}, false, fmt.Errorf("%s is empty: %w", filepath.Join(dir, TokenFile), hub.ErrInvalid)
	}
	return hub.NewSecret(text), created, nil
}

// ReadToken returns the token in dir without making one. It wraps hub.ErrNotFound where there is none.
func ReadToken(dir string) (hub.Secret, error) {
	raw, err := os.ReadFile(filepath.Join(dir, TokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return hub.Secret{}, fmt.Errorf("%s: %w", filepath.Join(dir, TokenFile), hub.ErrNotFound)
	}
	if err != nil {
		return hub.Secret{}, fmt.Errorf("token: %w", err)
	}
	return hub.NewSecret(strings.TrimSpace(string(raw))), nil
}

// LoadKey returns the 32 bytes that seal tokens in SQL, generating them (and dir) where there are none. Whoever loses this file
// loses what is sealed, and connections must be authorized again.
func LoadKey(dir string) ([]byte, error) {
	text, _, err := loadOrCreate(dir, KeyFile, func(random []byte) string { return hex.EncodeToString(random) + "\n" })
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s is not 64 hexadecimal digits: %w", filepath.Join(dir, KeyFile), hub.ErrInvalid)
	}
	return key, nil
}

// loadOrCreate reads dir/name, or writes it whole and durably with mode 0600: a crash leaves no file or all of it, and
// of two processes that start at once both use the file of the first.
func loadOrCreate(dir, name string, text func(random []byte) string) (string, bool, error) {
	path := filepath.Join(dir, name)
	raw, err := os.ReadFile(path)
	if err == nil {
		return string(raw), false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("read %s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", false, fmt.Errorf("data_dir: %w", err)
	}
	random := make([]byte, 32)
	rand.Read(random) // never returns an error: it ends the program instead
	temporary, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return "", false, fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.WriteString(text(random))
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return "", false, fmt.Errorf("write %s: %w", name, err)
	}
	switch err := os.Link(temporary.Name(), path); { // unlike a rename it never replaces what another process wrote
	case errors.Is(err, fs.ErrExist):
	case err != nil:
		return "", false, fmt.Errorf("write %s: %w", name, err)
	default:
		return text(random), true, syncDir(dir)
	}
	if raw, err = os.ReadFile(path); err != nil {
		return "", false, fmt.Errorf("read %s: %w", name, err)
	}
	return string(raw), false, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}
