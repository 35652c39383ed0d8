// Package store keeps everything the hub knows in SQL: SQLite in the data directory, or PostgreSQL. One Store type serves the
// pipeline, delivery, the relay and the API; it knows no rules, no vendors and no streams.
//
// # Design
//
// The hot path, an apply transaction (hub.Tx), is written twice, because the fast form differs: SQLite takes one prepared
// statement per row (sqlite_tx.go), PostgreSQL takes arrays and pipelined statements (postgres_tx.go). Everything else is
// one text for both, written against the small interface in query.go; numbered placeholders appear first in the order of
// their numbers, because SQLite numbers them by appearance.
//
// On SQLite there is one writer: a goroutine that owns the only writing connection and runs closures (writer.go). It gives each
// a savepoint and commits many at once, so that one fsync serves everybody who came meanwhile; nobody is answered before it.
// A failing closure is rolled back to its savepoint and harms no other. The writer never checkpoints within a
// transaction's time: another connection does, every few seconds; only a log that grew past its cap is cut by the writer.
// Reads go through their own connections and see the last commit, a moment before it is on disk; what is told to others is claimed by
// a write, or read and then settled, so that no power cut takes back what somebody knows.
//
// The writer remembers the customers it has just worked on (sqlite_recent.go), because what one does comes in bursts: most events then
// read nothing of her. It also gives the rows of the feed their positions as it inserts them, in the order in which they are committed.
//
// Indexes whose entries lie scattered cost the writer a page per event. Those of ids (of events, deliveries and webhooks) and of the customers'
// history are entered thousands at a time (sqlite_late.go); a table says up to where, and what lies behind that is looked at row by row.
//
// The index of wake-ups is lazy there: an event of an active customer moves her wake-up later, and the index hears of it when the poll comes to
// where the wake-up was (wake.go).
//
// On PostgreSQL transactions are READ COMMITTED and lock rows in one order everywhere: cursor, identifiers by hash,
// customers by id, desired state, deliveries. A unique violation, a serialization failure and a deadlock are
// hub.ErrConflict and repeat the closure; a lost connection is hub.ErrTransient.
//
// What is claimed for a vendor is written before it is sent, so that after a crash its outcome is known to be unknown. Callbacks have a
// stable id and may be sent twice: where one process owns the database (SQLite), their claims are kept in memory (sqlite_claims.go),
// and a callback that was being sent when the process died is simply due.
//
// A delivery that is being sent keeps the end of its lease in due_at, so that one partial index finds everything a worker
// may take. A customer's history is one row per version of an event: the newest is the ledger's entry, older ones say
// from which to which of the customer's sequence numbers they were what was known.
package store
