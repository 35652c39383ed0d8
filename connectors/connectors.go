// Package connectors embeds the manifest of every vendor the hub ships with: one folder each, connector.yaml, README.md and
// testdata. README.md in this folder is the manual for writing one.
package connectors

import "embed"

// FS holds */connector.yaml, for connector.Load.
//
//go:embed */connector.yaml
var FS embed.FS
