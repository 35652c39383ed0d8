package signature

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"sync"
	"testing"

	"github.com/stagewire/stagewire/internal/hub"
)

// Every sum is that of its own secret and text, whichever secrets were used before it, by whom, and what they left unfinished.
func TestKeyrings(t *testing.T) {
	keyed := keyrings{hash: sha256.New, key: func(s hub.Secret) ([]byte, error) {
		if s == hub.NewSecret("no key") {
			return nil, hub.ErrInvalid
		}
		return []byte(s.Reveal()), nil
	}}
	check := func(secret, text string) {
		want := hmac.New(sha256.New, []byte(secret))
		want.Write([]byte(text))
		got, err := keyed.sum(hub.NewSecret(secret), func(mac hash.Hash) { mac.Write([]byte(text)) })
		if err != nil || !bytes.Equal(got, want.Sum(nil)) {
			t.Errorf("%s under %s: %x, %v", text, secret, got, err)
		}
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 200 {
				check(fmt.Sprint("secret ", (worker+i*i)%(2*ringSize)), fmt.Sprint("text ", i))
				if _, err := keyed.sum(hub.NewSecret("no key"), func(hash.Hash) { t.Error("written without a key") }); !errors.Is(err, hub.ErrInvalid) {
					t.Errorf("no key: %v", err)
				}
				func() {
					defer func() { _ = recover() }()
					_, _ = keyed.sum(hub.NewSecret("secret 1"), func(mac hash.Hash) { mac.Write([]byte("half")); panic("a text that cannot be read") })
				}()
				check("secret 1", "whole")
			}
		})
	}
	all.Wait()
}

// A key is read once while its secret is in use.
func TestKeyringsKnowTheirKeys(t *testing.T) {
	read := 0
	ring := new(keyring)
	keyed := &keyrings{hash: sha256.New, key: func(s hub.Secret) ([]byte, error) { read++; return []byte(s.Reveal()), nil }}
	for range 3 {
		for i := range ringSize {
			if _, err := ring.mac(keyed, hub.NewSecret(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if read != ringSize {
		t.Errorf("%d keys were read %d times", ringSize, read)
	}
	if _, err := ring.mac(keyed, hub.NewSecret("one more")); err != nil || read != ringSize+1 {
		t.Errorf("one more: %d, %v", read, err)
	}
	if _, err := ring.mac(keyed, hub.NewSecret("0")); err != nil || read != ringSize+2 { // the oldest made room
		t.Errorf("the oldest: %d, %v", read, err)
	}
}
