//go:build race

package app

// slow says that the race detector makes everything ten times slower: what is measured by size is made smaller.
const slow = true
