package store

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stagewire/stagewire/internal/hub"
)

// clean reports text that both databases would not treat alike: NUL, which PostgreSQL refuses, and invalid UTF-8.
func clean(what, s string) error {
	if plain(s) { // nearly always
		return nil
	}
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%s holds NUL: %w", what, hub.ErrInvalid)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8: %w", what, hub.ErrInvalid)
	}
	return nil
}

// plain reports that s is ASCII without NUL, eight bytes at a time.
func plain(s string) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	var odd uint64
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 | uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		odd |= w | (w-ones)&^w
	}
	if odd&tops != 0 {
		return false
	}
	for ; i < len(s); i++ {
		if s[i] == 0 || s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
