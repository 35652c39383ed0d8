package fact

import (
	"slices"
	"strings"
)

// dealPrefix is what the kinds of events about a deal start with.
const dealPrefix = "deal."

// subject says whose facts these are where they are not the customer's as a whole.
type subject struct {
	full *Facts // the customer's
	deal objectKey
}

// Deal returns the facts as one deal of the customer sees them: of the events about deals only its own, all others as they are.
// The lists of objects stay whole, so that a deal can be seen beside the others. A deal that nothing tells of gives
// facts whose Subject is empty.
func (f *Facts) Deal(connection, id string) *Facts {
	if f.of != nil {
		f = f.of.full
	}
	key := objectKey{connection, id}
	own := func(e *Entry) bool {
		if !strings.HasPrefix(e.Kind, dealPrefix) {
			return true
		}
		named, ok := e.Text("id")
		return ok && e.Connection == connection && named == id
	}
	if !slices.ContainsFunc(f.entries, func(e *Entry) bool { return !own(e) }) {
		view := *f      // nothing to leave out: only the subject differs
		view.sets = nil // appended to by either, which must not be seen by the other
		view.of = &subject{full: f, deal: key}
		return &view
	}
	entries := make([]*Entry, 0, len(f.entries))
	for _, e := range f.entries {
		if own(e) {
			entries = append(entries, e)
		}
	}
	view := index(entries)
	view.known = f.known
	view.of = &subject{full: f, deal: key}
	return view
}

// Subject returns the deal whose facts these are as it is now, nil for the facts of a customer. Before anything is known of
// the deal it is an object that is not open and has no instants.
func (f *Facts) Subject() *Object {
	if f.of == nil {
		return nil
	}
	if o := f.fold(slices.Index(Objects, "deal")).byID[f.of.deal]; o != nil {
		return o
	}
	return &Object{
		Kind: "deal", ID: f.of.deal.id, Connection: f.of.deal.connection,
		CreatedAt: None, OpenSince: None, ClosedAt: None, PaidAt: None, RefundedAt: None,
	}
}

// Whole returns the customer's facts, of which these may be what one deal sees.
func (f *Facts) Whole() *Facts {
	if f.of != nil {
		return f.of.full
	}
	return f
}

// Deals returns the customer's deals, deleted ones included, by when they were first heard of.
func (f *Facts) Deals() []*Object {
	return f.fold(slices.Index(Objects, "deal")).list
}

// DealOf returns which deal an event of that kind and those properties is about; false where it is about none.
func DealOf(kind, connection string, properties map[string]any) (id string, ok bool) {
	if !strings.HasPrefix(kind, dealPrefix) {
		return "", false
	}
	id, ok = properties["id"].(string)
	return id, ok && id != ""
}
