// Package hub holds the nouns everyone speaks: webhook, event, identifier, customer, stage, transition, action,
// delivery; the catalogue of event kinds; money; and the kinds of error that cross package borders. It does nothing
// by itself: no clock, no I/O, and no import but a decimal type.
//
// # The walk
//
// One webhook, in the order of the code:
//
//  1. server/receive.go finds the connection and copies headers and body; connector and signature verify the exact bytes.
//  2. bus/publish.go writes it to WEBHOOKS, one fsync shared with whoever arrived beside it; then the vendor gets its 2xx.
//  3. pipeline/normalize.go turns it into events by the connector's manifest, onto EVENTS; what must be fetched first
//     becomes a hydration row, and delivery/hydrate.go fetches it.
//  4. pipeline/apply.go folds a frame of events into their customers and decides, in one SQL transaction.
//  5. bus/relay.go publishes the transitions to STAGES; delivery/worker.go sends updates, tasks and callbacks.
//
// pipeline/wake.go does step 4 for customers whose silence comes due.
//
// # Design
//
// Records that cross from the pipeline to SQL (CustomerRecord, Changes, Tx) live here and not in store, so that the
// pipeline can be read and tested without any database and both databases implement the same few methods: apply loads
// and locks everyone a frame touches, decides in memory, and saves once.
//
// Facts are kept per profile, not per customer: a merge then moves profiles and never rewrites events or facts, and taking
// it back is moving them again. A customer's facts are the union of her profiles', folded when loaded.
//
// Desired state (what a field should hold) and deliveries (what must be sent) are two tables tied by a slot: the
// delivery carries no value and reads it from the slot when claimed, so ten changes in a second are one write.
package hub
