// Package server is the hub's HTTP side, on Fiber: it receives webhooks and serves the operator's API.
//
// Receiving (receive.go) is step 1 of the walk in package hub: find the connection, copy what Fiber will reuse, verify the exact
// bytes, write them to the log, answer. It needs the log alone: with the database down webhooks are still accepted, and what
// is refused is told to the database by a queue that drops rather than waits (reject.go).
//
// The API (routes.go) is one table of routes, from which the router, the access checks, the refusal of unknown query parameters and
// the OpenAPI document are made. The shapes it answers with are in shapes.go, as API.md has them. What it needs of SQL, the
// log, facts and models comes in through the interfaces of ports.go.
//
// # Design
//
// Connections are swapped as a whole through an atomic pointer ([Server.Use]): a request keeps the connection it began with, so a
// reload drops nothing.
//
// Bodies are read raw and never inflated: Fiber's Body() decodes Content-Encoding without a limit, before anybody was verified.
// A webhook that carries a Content-Encoding is refused; no vendor of ours sends one. They are read as streams, because fasthttp
// otherwise allocates whatever length a sender declares: 200 connections that declared 2 MB and sent one byte held 392 MiB, now 4.
package server
