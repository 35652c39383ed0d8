// Package examples holds what a newcomer starts from, as files that really run: `stagewire init` writes them, quickstart uses them.
package examples

import "embed"

// Quickstart is a hub with a shop, a helpdesk and two CRMs, all played by the sandbox.
//
//go:embed quickstart
var Quickstart embed.FS
