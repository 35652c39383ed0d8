// Package sandbox plays the outside systems that a test or a newcomer cannot reach: Shopify, Zendesk, HubSpot and Zoho CRM.
//
// It plays both directions. Towards the hub it sends webhooks, signed as each vendor signs, with the vendor's own
// ids, headers, batches and retries. From the hub it takes API calls and is as strict as the vendor: tokens that expire,
// required fields, properties that must exist first, rate limits, partial success, search indexes that lag behind
// writes, a lifecycle stage that only moves forward. Every write made through the API comes back as a webhook, as it
// does in reality, so that loops are found here and not in somebody's shop.
//
// It signs with code of its own (crypto/hmac and crypto/sha256 alone), so that it is an independent check of the hub's
// verifiers, and it knows nothing about connectors.
//
//	story ──Play──▶ the vendor's state ──▶ queue ──Run──▶ hub /hooks/…      webhooks, signed in wire time
//	hub ──API──▶ Handler ──▶ the vendor's state ──▶ queue (the echo)        bodies stamped in business time
//
// # Design
//
// One lock guards all state: a write, its echo in the queue and the answer are one step, so Outstanding never misses an
// echo between the two. Ids of what a story makes and of what the API makes come from different counters, and every random
// choice is drawn from the seed and the webhook's own id, so a story plays the same for the same seed however fast the hub is.
//
// Faults are knobs per vendor (Knobs), turned in Go or by POST /control.
//
// Not played: registering webhooks (but for Zoho's watch channels), bulk and job endpoints, Zendesk's triggers, HubSpot's
// workflow webhooks and journal, Zoho's workflow webhooks and blueprints. Where a vendor's answer is not documented the sandbox is
// the stricter one: HubSpot bodies with members it does not know are refused, and a failed Zoho notification is never repeated.
//
// Vendor facts (paths, codes, limits, retry schedules) follow the vendors' public documentation of 2026.
package sandbox
