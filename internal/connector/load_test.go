package connector_test

import (
	"testing"

	"github.com/stagewire/stagewire/connectors"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := connector.Load(connectors.FS, hub.Catalogue); err != nil {
			b.Fatal(err)
		}
	}
}
