// Package connector turns manifests (connectors/<vendor>/connector.yaml) into what the hub does with a vendor: accept and verify a
// webhook, map it to events, fetch what it only names, perform actions, and say what an answer means. connectors/README.md
// is the manual of the format.
//
//	set, err := connector.Load(connectors.FS, hub.Catalogue)
//	c, _ := set.Get("shopify")
//	err = c.Verify(w, conn, now)                 // receive
//	n, err := c.Normalize(w, conn)               // normalize: n.Events, n.Hydrate, n.Ignored
//	f, err := c.Fetch(ctx, call, conn, rows)     // hydrate, then c.FetchedEvents for each record
//	r := c.Perform(ctx, call, conn, task)        // deliver
//
// It holds no state, no clock and no network: requests go out through a [Call] that package client gives, which adds address,
// authentication and limits. Normalize and FetchedEvents are pure, so that a replay repeats.
//
// # Design
//
// What vendors differ in is data, and stands in the manifest; what protocols differ in is code, and is a named scheme of package signature.
// All logic in a manifest is an expression, compiled when it is loaded, against the variables of the place where it stands
// (environment.go): mistakes are reported all at once as [Problem]s with line, column and a suggestion.
//
// Bodies are decoded once, by a decoder of our own (json.go), for three reasons: ids must never pass through a float64, what
// strangers send must become harmless before it is an event (both databases refuse NUL and bad UTF-8, in different words), and members that
// no expression of the manifest can read are skipped instead of built, which is most of a large order.
//
// Mappings are found by topic, then by their condition; only those that apply are evaluated. An expression that is a constant, a chain of
// members or a plain call is read without the VM (expression.go, shortcut): whatever goes wrong there is left to the VM, so the
// errors are the same.
//
// Errors name file, line and key but never values: bodies hold people's data, and errors are logged.
package connector
