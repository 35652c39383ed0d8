// Package config reads stagewire.yaml: one strict YAML file that is decoded over [Default] and then validated, so that a
// Config that loads without a problem is always a legal one. Unknown keys, wrong types, missing environment variables and names
// that point nowhere are reported all at once, each with file, line, column and, where one is near, a suggestion.
//
// The package knows nothing of connectors, models or stages. What it needs to know of them (which names exist, which keys a
// connection takes and which of those are secret) comes in through [Lookups].
//
// # Design
//
// The file's form is one table (fields.go) of keys with their kinds of value. Decoding, the did-you-mean suggestions and the JSON
// Schema of `stagewire schema` are all made from it, so they cannot drift apart.
//
// The YAML is decoded from nodes and not into structs by reflection: every value then has a place to point at, one mistake does not
// hide the next, and a value can be a secret reference (`${env:NAME}`, `${file:/path}`) wherever it stands. [Config.At]
// remembers the place of each path, so that those who check more (does this stage exist in that model?) can point there too.
package config
