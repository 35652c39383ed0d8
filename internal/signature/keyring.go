package signature

import (
	"crypto/hmac"
	"hash"
	"sync"

	"github.com/stagewire/stagewire/internal/hub"
)

// ringSize is how many secrets a keyring knows: more than a connection has while one is replaced.
const ringSize = 8

// keyrings are HMACs under secrets seen lately. Making one costs two blocks of hashing and half a kilobyte; one that exists is only
// reset. They keep nothing alive for good: the collector empties the pool, and ringSize newer secrets displace an old one.
type keyrings struct {
	hash func() hash.Hash
	key  func(hub.Secret) ([]byte, error) // reads a secret's text
	free sync.Pool                        // of *keyring
}

// keyring is used by one goroutine at a time.
type keyring struct {
	keys   [ringSize]hub.Secret
	macs   [ringSize]hash.Hash
	oldest int
}

// sum returns the HMAC under secret of what write writes. It wraps hub.ErrInvalid where the secret is no key.
func (k *keyrings) sum(secret hub.Secret, write func(hash.Hash)) ([]byte, error) {
	ring, _ := k.free.Get().(*keyring)
	if ring == nil {
		ring = new(keyring)
	}
	defer k.free.Put(ring)
	mac, err := ring.mac(k, secret)
	if err != nil {
		return nil, err
	}
	write(mac)
	return mac.Sum(nil), nil
}

// mac returns an HMAC under secret that nothing was written to.
func (r *keyring) mac(k *keyrings, secret hub.Secret) (hash.Hash, error) {
	for i, known := range r.macs {
		if known != nil && r.keys[i] == secret {
			known.Reset()
			return known, nil
		}
	}
	key, err := k.key(secret)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(k.hash, key)
	r.keys[r.oldest], r.macs[r.oldest] = secret, mac
	r.oldest = (r.oldest + 1) % ringSize
	return mac, nil
}
