package store_test

import (
	sender "github.com/stagewire/stagewire/internal/delivery"
	"github.com/stagewire/stagewire/internal/pipeline"
	"github.com/stagewire/stagewire/internal/server"
	"github.com/stagewire/stagewire/internal/store"
)

// The interfaces are declared by those who use them; that the store fills them is said here, because it imports none of them.
var (
	_ pipeline.Store = (*store.Store)(nil)
	_ sender.Store   = (*store.Store)(nil)
	_ server.Reader  = (*store.Store)(nil)
)
