// Package examples holds what a newcomer starts from, as files that really run: `stagewire init` writes them, quickstart uses them.
package examples

import (
	"embed"
	"io/fs"
)

// files are the examples, a folder each:
//
//   - quickstart is a hub with a shop, a helpdesk and two CRMs, all played by the sandbox; its story is built in.
//   - lifecycle has the same systems, all shipped stage models side by side, and a story of its own (story.yaml) with where
//     it leads to (expected.yaml: e-mail address, model, stage).
//
//go:embed quickstart lifecycle
var files embed.FS

// Names lists the examples.
var Names = []string{"quickstart", "lifecycle"}

// Folder returns an example's files; false for a name that is none.
func Folder(name string) (fs.FS, bool) {
	root, err := fs.Sub(files, name)
	if err != nil {
		return nil, false
	}
	if _, err := fs.Stat(root, "stagewire.yaml"); err != nil {
		return nil, false
	}
	return root, true
}
