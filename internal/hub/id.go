package hub

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
)

// Ids are derived from what they name, never drawn, so that a replay, a redelivery or a restored database makes
// the same ones (DESIGN 2). Each is a short prefix and 26 characters of Crockford's base 32 (128 bits of SHA-256).
const (
	PrefixWebhook    = "whk_"
	PrefixEvent      = "evt_"
	PrefixProfile    = "prf_"
	PrefixCustomer   = "cus_"
	PrefixTransition = "stg_"
	PrefixDelivery   = "dlv_"
	PrefixRejected   = "rej_"
	PrefixDeadLetter = "ded_"
	PrefixSlot       = "slt_"
	PrefixPin        = "pin_"
)

var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// DeriveID returns prefix followed by the hash of parts. Each part is hashed with its length, so ("ab","c")
// and ("a","bc") differ.
func DeriveID(prefix string, parts ...string) string {
	sum := digest(parts)
	var out [32]byte
	n := copy(out[:], prefix)
	crockford.Encode(out[n:], sum[:16])
	return string(out[:n+26])
}

// SlotID derives the slot of a row of desired state. A merge makes the survivor's slots with it.
func SlotID(destination, customerID, field string) string {
	return DeriveID(PrefixSlot, destination, customerID, field)
}

// HashKey returns the first eight bytes of the hash of parts: for partitions and lock order.
func HashKey(parts ...string) uint64 {
	sum := digest(parts)
	return binary.BigEndian.Uint64(sum[:8])
}

func digest(parts []string) [sha256.Size]byte {
	size := 0
	for _, p := range parts {
		size += 4 + len(p)
	}
	var stack [256]byte
	buf := stack[:0]
	if size > len(stack) {
		buf = make([]byte, 0, size)
	}
	for _, p := range parts {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(p)))
		buf = append(buf, p...)
	}
	return sha256.Sum256(buf)
}
