package fact

import (
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// Objects are the things whose latest state rules can read, in the words of the catalogue. A company is one that the customer
// belongs to, a referred is somebody the customer brought.
var Objects = []string{"order", "ticket", "deal", "cart", "subscription", "task", "company", "referred"}

// None stands for an instant or a span that there is not.
const None = int64(-1) << 63

// Object is the latest state of one of [Objects]. It is derived from its entries.
type Object struct {
	Kind, ID, Connection string

	CreatedAt int64 // when it was first heard of, or placed, opened, started: milliseconds since 1970
	OpenSince int64 // since when it is open, None while it is not
	ClosedAt  int64 // None while it is open

	Open, Paid, Fulfilled, Cancelled, Won, Lost, Paused, Abandoned, Overdue, Deleted bool
	// Refunded is set once the whole amount went back; RefundedAt is when it did, PaidAt when it was paid (None).
	Refunded, PartlyRefunded bool
	PaidAt, RefundedAt       int64
	RefundedAmount           hub.Money

	entries []*Entry // in (at, id) order
}

// verb returns what follows the dot of an event kind.
func verb(kind string) string { return kind[strings.IndexByte(kind, '.')+1:] }

// isSide tells events whose properties describe something else than the object: a refund's amount is not the order's.
func isSide(kind string) bool { return kind == "order.refunded" || kind == "order.return_requested" }

// latest returns the newest value of a property over the object's own events.
func (o *Object) latest(name string) (value, bool) {
	for _, v := range slices.Backward(o.entries) {
		if isSide(v.Kind) {
			continue
		}
		if v, ok := v.property(name); ok {
			return v, true
		}
	}
	return value{}, false
}

// Text returns the newest value of a text property; likewise the others below.
func (o *Object) Text(name string) (string, bool) {
	v, ok := o.latest(name)
	if !ok {
		return "", false
	}
	return v.text()
}

// Number returns the newest value of a number property.
func (o *Object) Number(name string) (float64, bool) {
	v, ok := o.latest(name)
	if !ok {
		return 0, false
	}
	return v.number()
}

// Bool returns the newest value of a bool property.
func (o *Object) Bool(name string) (bool, bool) {
	v, ok := o.latest(name)
	if !ok {
		return false, false
	}
	return v.bool()
}

// Money returns the newest value of a money property.
func (o *Object) Money(name string) (hub.Money, bool) {
	v, ok := o.latest(name)
	if !ok {
		return hub.Money{}, false
	}
	return v.money()
}

// Instant returns the newest value of a time property in milliseconds since 1970.
func (o *Object) Instant(name string) (int64, bool) {
	v, ok := o.latest(name)
	if !ok {
		return 0, false
	}
	return v.millis()
}

// Texts returns the newest value of a list property.
func (o *Object) Texts(name string) ([]string, bool) {
	v, ok := o.latest(name)
	if !ok {
		return nil, false
	}
	return v.texts()
}

// Len returns how many entries tell of the object.
func (o *Object) Len() int { return len(o.entries) }

// Stage returns the stage that was last told of the object itself in a model, "" where none was. Of what was told the greatest
// n counts: two moves can have one instant.
func (o *Object) Stage(model string) string {
	stage, best := "", -1.0
	for _, e := range o.entries {
		if m, ok := e.Text("model"); !ok || m != model {
			continue
		}
		if n, _ := e.Number("n"); n >= best {
			best = n
			stage, _ = e.Text("stage")
		}
	}
	return stage
}

// Objects returns the objects of one kind ("order", …) that were not deleted, by when they were first heard of.
func (f *Facts) Objects(kind string) []*Object {
	n := slices.Index(Objects, kind)
	if n < 0 {
		return nil
	}
	live := f.fold(n).list
	if slices.ContainsFunc(live, func(o *Object) bool { return o.Deleted }) {
		live = slices.DeleteFunc(slices.Clone(live), func(o *Object) bool { return o.Deleted })
	}
	return live
}

// ObjectOf returns the object an entry tells of, nil where it names none.
func (f *Facts) ObjectOf(e *Entry) *Object {
	object, _, _ := strings.Cut(e.Kind, ".")
	n := slices.Index(Objects, object)
	if n < 0 {
		return nil
	}
	id, ok := e.Text("id")
	if !ok {
		return nil
	}
	return f.fold(n).byID[objectKey{e.Connection, id}]
}

// objectKey names an object of one kind: its connection and the vendor's id.
type objectKey struct{ connection, id string }

// folded are the objects of one kind.
type folded struct {
	list []*Object // by when they were first heard of
	byID map[objectKey]*Object
}

// fold derives the objects of one kind, once. An object is named by its connection and the property id.
func (f *Facts) fold(n int) *folded {
	if f.of != nil { // whatever a deal leaves out of its events, the objects are the customer's
		return f.of.full.fold(n)
	}
	if f.objects[n] != nil {
		return f.objects[n]
	}
	prefix := Objects[n] + "."
	all := &folded{byID: map[objectKey]*Object{}}
	f.objects[n] = all
	for _, e := range f.entries {
		if !strings.HasPrefix(e.Kind, prefix) {
			continue
		}
		id, ok := e.Text("id")
		if !ok {
			continue
		}
		k := objectKey{e.Connection, id}
		if k.connection == hub.OwnConnection { // told of another system's object
			if of, ok := e.Text("of"); ok {
				k.connection = of
			}
		}
		o := all.byID[k]
		if o == nil {
			o = &Object{Kind: Objects[n], ID: id, Connection: k.connection}
			all.byID[k] = o
			all.list = append(all.list, o)
		}
		o.entries = append(o.entries, e)
	}
	for _, o := range all.list {
		o.derive()
	}
	return all
}

// derive works the state out from the entries, oldest first.
func (o *Object) derive() {
	o.CreatedAt, o.OpenSince, o.ClosedAt = o.entries[0].at, o.entries[0].at, None
	o.PaidAt, o.RefundedAt = None, None
	o.Open = true
	open := func(at int64) {
		if !o.Open {
			o.Open, o.OpenSince, o.ClosedAt = true, at, None
		}
	}
	shut := func(at int64) {
		if o.Open {
			o.Open, o.OpenSince, o.ClosedAt = false, None, at
		}
	}
	var refunds []*Entry
	for _, e := range o.entries {
		switch verb(e.Kind) {
		case "joined":
			o.Deleted = false
		case "left":
			o.Deleted = true
		case "moved":
			if into, _ := e.Text("into"); into != "" { // merged into somebody who is told of separately
				o.Deleted = true
			}
		case "placed", "opened", "created", "started":
			if o.Open {
				o.OpenSince = min(o.OpenSince, e.at)
			} else if e.Kind == "subscription.started" {
				o.Cancelled, o.Paused = false, false
				open(e.at)
			}
			o.Deleted = false
		case "paid":
			o.Paid = true
			if o.PaidAt == None {
				o.PaidAt = e.at
			}
		case "fulfilled":
			o.Fulfilled = true
			shut(e.at)
		case "cancelled":
			o.Cancelled = true
			shut(e.at)
		case "refunded":
			refunds = append(refunds, e)
		case "solved", "completed":
			shut(e.at)
		case "reopened":
			open(e.at)
		case "deleted":
			o.Deleted = true
			shut(e.at)
		case "won":
			o.Won, o.Lost = true, false
			shut(e.at)
		case "lost":
			o.Won, o.Lost = false, true
			shut(e.at)
		case "stage_changed":
			// Vendors tell "won" and the change of stage at one instant: only a later change opens the deal again.
			if !o.Open && e.at > o.ClosedAt && !o.Deleted {
				o.Won, o.Lost = false, false
				open(e.at)
			}
		case "renewed":
			o.Cancelled, o.Paused = false, false
			open(e.at)
		case "paused":
			o.Paused = true
		case "abandoned":
			o.Abandoned = true
		case "overdue":
			o.Overdue = true
		case "updated":
			if o.Kind == "cart" {
				o.Abandoned = false
				if done, _ := e.Bool("completed"); done {
					shut(e.at)
				} else {
					open(e.at)
				}
			}
			if o.Kind == "ticket" {
				switch status, _ := e.Text("status"); status {
				case "solved", "closed":
					shut(e.at)
				}
			}
		}
	}
	if o.Kind == "order" {
		o.refund(refunds)
	}
	if o.Kind == "task" && !o.Open {
		o.Overdue = false
	}
}

// refund adds up what went back. A refund without an amount, or of an order whose amount is not known, is the whole.
func (o *Object) refund(refunds []*Entry) {
	total, known := o.Money("amount")
	for _, e := range refunds {
		back, ok := e.Money("amount")
		if ok && known && back.Currency == total.Currency {
			if o.RefundedAmount.IsZero() {
				o.RefundedAmount = back
			} else if sum, err := o.RefundedAmount.Add(back); err == nil {
				o.RefundedAmount = sum
			}
			if o.RefundedAmount.Amount.Cmp(total.Amount) < 0 {
				o.PartlyRefunded = true
				continue
			}
		}
		if known {
			o.RefundedAmount = total
		}
		if !o.Refunded {
			o.Refunded, o.RefundedAt = true, e.at
		}
	}
	if o.Refunded {
		o.PartlyRefunded = false
		if o.Open {
			o.Open, o.OpenSince, o.ClosedAt = false, None, o.RefundedAt
		}
	}
}

// RefundedAfter returns the milliseconds from payment (or placing) to the whole refund, None without one.
func (o *Object) RefundedAfter() int64 {
	if !o.Refunded {
		return None
	}
	from := o.PaidAt
	if from == None {
		from = o.CreatedAt
	}
	return max(0, o.RefundedAt-from)
}
