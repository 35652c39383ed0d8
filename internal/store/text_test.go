package store

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// plain says what looking at each byte says.
func TestPlain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20_000 {
		text := []byte(strings.Repeat("a", r.IntN(40)))
		for i := range text {
			if r.IntN(30) == 0 {
				text[i] = byte(r.IntN(256))
			}
		}
		want := true
		for _, c := range text {
			want = want && c != 0 && c < utf8.RuneSelf
		}
		if got := plain(string(text)); got != want {
			t.Fatalf("%q: %v", text, got)
		}
	}
}
