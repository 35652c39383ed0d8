package connectors_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// TestManual compiles the manual's whole manifest, so that it cannot go stale.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```yaml\n")
	if !ok {
		t.Fatal("the manual shows no manifest")
	}
	manifest, _, _ := strings.Cut(rest, "```")
	if _, err := connector.Parse("README.md", []byte(manifest), hub.Catalogue); err != nil {
		t.Fatal(err)
	}
}
