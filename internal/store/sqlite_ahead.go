package store

import "github.com/stagewire/stagewire/internal/hub"

// ahead is what a Save stores as JSON of its events and deliveries. Everything waits for the writer, and it comes to them last: another
// goroutine encodes them while it writes the customers.
type ahead struct {
	done   chan struct{}
	events []encodedText // of Changes.Ledger
	causes []encodedText // of Changes.Deliveries
}

type encodedText struct {
	text string
	err  error
}

// aheadRows is how many rows make it worth another goroutine.
const aheadRows = 16

func encodeAhead(c *hub.Changes) *ahead {
	a := &ahead{done: make(chan struct{}), events: make([]encodedText, len(c.Ledger)), causes: make([]encodedText, len(c.Deliveries))}
	encode := func() {
		defer close(a.done)
		var enc encoder
		for i := range c.Ledger {
			enc = encoder{buf: enc.buf[:0]}
			enc.event(&c.Ledger[i].Event)
			a.events[i] = encodedText{string(enc.buf), enc.err}
		}
		for i := range c.Deliveries {
			a.causes[i].text, a.causes[i].err = encodeCause(&c.Deliveries[i].Cause)
		}
	}
	if len(c.Ledger)+len(c.Deliveries) < aheadRows {
		encode()
	} else {
		go encode()
	}
	return a
}
