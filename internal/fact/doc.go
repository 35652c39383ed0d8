// Package fact folds a customer's events into what rules read.
//
// A [Profile] is the fold of one profile's events and what SQL keeps of it: one entry per event, in the order of
// (OccurredAt, ID). [Union] joins the profiles of a customer into [Facts]: the entries of all of them in that same
// order, an index by kind, the latest state of each object, the traits.
//
// The package is pure: no clock, no randomness, no files, no network. Times are whole milliseconds.
//
// # Design
//
// An entry keeps its event's properties and traits as encoded bytes and reads them on demand. Decoding a profile
// then costs one string and two slices, whatever the events hold, and encoding copies. Everything that depends on
// several entries (objects, traits, tags) is derived when it is asked for and kept nowhere else, so replacing or
// removing an event can never leave a trace of what it said before.
package fact
