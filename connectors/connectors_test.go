package connectors_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stagewire/stagewire/connectors"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/connector/connectortest"
	"github.com/stagewire/stagewire/internal/hub"
)

func load(t testing.TB) *connector.Set {
	t.Helper()
	set, err := connector.Load(connectors.FS, hub.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestConnectors runs every vendor's case folders and the common suite.
func TestConnectors(t *testing.T) {
	set := load(t)
	if len(set.All()) == 0 {
		t.Fatal("no connector")
	}
	for _, c := range set.All() {
		t.Run(c.Name(), func(t *testing.T) { connectortest.Run(t, c, c.Name()) })
	}
}

// TestFolders fails for a vendor's folder without a manual.
func TestFolders(t *testing.T) {
	for _, c := range load(t).All() {
		if _, err := os.Stat(filepath.Join(c.Name(), "README.md")); err != nil {
			t.Errorf("%s has no README.md: %v", c.Name(), err)
		}
	}
}
