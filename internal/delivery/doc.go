// Package delivery does what was decided: it writes fields, creates tasks and sends callbacks, each once in effect, and
// fetches the records that a webhook named but did not hold.
//
// A delivery's states, as one attempt moves them:
//
//	            claim                    2xx
//	due ──────────────────▶ sending ──────────────▶ delivered
//	 ▲  ▲                    │ │ │ └── nothing to do ▶ skipped / superseded
//	 │  └── handed back ─────┘ │ └──── never again ──▶ dead        (a dead letter; redrive makes it due)
//	 │                         └────── connection gone ▶ parked    (due again when it returns)
//	 └── retrying ◀── try again later, or unknown: looked up first
//
// # Design
//
// Every destination has a worker of its own while it has work: its own claims, concurrency, breaker and pauses, so that a sick
// one slows nobody else. Nothing waits in memory: a delivery that cannot go now gets a later due_at and its attempts are left alone.
//
// A claim is a lease. A worker that died leaves its deliveries sending; they are claimed again when the lease runs out, with a
// higher claim number, which makes the dead worker's late outcome void. What it may have sent is looked up by its
// unique reference no sooner than the vendor's completes_within after sending; before that the vendor may still be at work on the request.
//
// The breaker does not change due times: an open one keeps the worker from claiming, so an outage costs no attempts
// beyond those that opened it and one probe per opening.
//
// Callbacks are not journalled before they are sent: their id is stable and receivers dedupe on it, which saves a commit per attempt.
package delivery
