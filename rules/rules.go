// Package rules embeds the stage models that ship with the hub. README.md beside it is the manual for those who
// write models.
package rules

import (
	"embed"
	"strings"
)

// FS holds the shipped models: <name>.yaml.
//
//go:embed *.yaml
var FS embed.FS

// Names returns the shipped models, sorted.
func Names() []string {
	entries, err := FS.ReadDir(".")
	if err != nil {
		return nil // an embedded folder that was compiled in can be read
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Text returns the file of a shipped model; false for a name that is none.
func Text(name string) ([]byte, bool) {
	b, err := FS.ReadFile(name + ".yaml")
	return b, err == nil
}
