package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/hub"
)

// Step is one thing that happens in the outside world, at an instant of the story. People are named by their e-mail address,
// orders, carts, tickets and deals by a name of the story's own (Object), unique per vendor.
//
// What each vendor can do (Do):
//
//	shopify   customer.created customer.updated customer.deleted customer.erased consent.changed tag.added tag.removed
//	          order.placed order.paid order.fulfilled order.cancelled order.refunded cart.updated cart.completed shop.uninstalled
//	zendesk   customer.created customer.updated customer.deleted tag.added tag.removed
//	          ticket.opened ticket.commented ticket.solved ticket.reopened ticket.tagged
//	hubspot   customer.created customer.updated customer.deleted customer.erased customer.merged consent.changed
//	          deal.created deal.stage_changed deal.won deal.lost deal.deleted task.completed
//	zoho-crm  customer.created customer.updated customer.deleted consent.changed lead.created lead.converted
//	          deal.created deal.stage_changed deal.won deal.lost task.created task.completed
//	(none)    time.passed: nothing happens, but the clock goes on
type Step struct {
	At       time.Time `yaml:"at" json:"at"`                                // when it is told, on the story's clock
	Occurred time.Time `yaml:"occurred,omitempty" json:"occurred,omitzero"` // when it happened, where it is told late; default At
	Vendor   string    `yaml:"vendor,omitempty" json:"vendor,omitempty"`
	Do       string    `yaml:"do" json:"do"`
	Customer string    `yaml:"customer,omitempty" json:"customer,omitempty"` // e-mail address
	Name     string    `yaml:"name,omitempty" json:"name,omitempty"`
	Phone    string    `yaml:"phone,omitempty" json:"phone,omitempty"`
	Object   string    `yaml:"object,omitempty" json:"object,omitempty"`
	Amount   string    `yaml:"amount,omitempty" json:"amount,omitempty"`
	Currency string    `yaml:"currency,omitempty" json:"currency,omitempty"` // default EUR
	Field    string    `yaml:"field,omitempty" json:"field,omitempty"`       // the vendor's own name
	Value    string    `yaml:"value,omitempty" json:"value,omitempty"`       // of Field; a deal's stage; consent's state
	Subject  string    `yaml:"subject,omitempty" json:"subject,omitempty"`   // of a ticket or deal; an order's product
	Text     string    `yaml:"text,omitempty" json:"text,omitempty"`
	Reason   string    `yaml:"reason,omitempty" json:"reason,omitempty"`
	Tags     []string  `yaml:"tags,omitempty" json:"tags,omitempty"`
	// Account is for a person, told by a person: what the step is, in words.
	Account string `yaml:"account,omitempty" json:"account,omitempty"`
}

// TimePassed is the step in which nothing happens.
const TimePassed = "time.passed"

func stepErr(step Step, format string, args ...any) error {
	return fmt.Errorf("story: %s %s at %s: %s: %w", step.Vendor, step.Do, step.At.UTC().Format(time.RFC3339), fmt.Sprintf(format, args...), hub.ErrInvalid)
}

// Play applies one step to its vendor's state and queues the webhooks that follow; Run sends them. The caller sets the
// story's clock to the step's At first. It wraps hub.ErrInvalid for a step that makes no sense; nothing is sent then.
func (s *Sandbox) Play(ctx context.Context, step Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if step.Do == TimePassed {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.vendors[step.Vendor]
	if v == nil {
		return stepErr(step, "no vendor %q; there are %v", step.Vendor, Vendors)
	}
	at := step.Occurred
	if at.IsZero() {
		at = step.At
	}
	if at.IsZero() {
		at = s.cfg.Business()
	}
	return v.play(step, at)
}

// ReadStory reads a story from YAML: a list of steps. Unknown keys and steps out of order are errors.
func ReadStory(text []byte) ([]Step, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var steps []Step
	if err := dec.Decode(&steps); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("story: %w: %w", err, hub.ErrInvalid)
	}
	for i, step := range steps {
		if step.At.IsZero() || i > 0 && step.At.Before(steps[i-1].At) {
			return nil, stepErr(step, "step %d: times must be set and never go back", i+1)
		}
		if step.Do != TimePassed && !slices.Contains(Vendors, step.Vendor) {
			return nil, stepErr(step, "step %d: no vendor %q; there are %v", i+1, step.Vendor, Vendors)
		}
	}
	return steps, nil
}

// Expected is where the quickstart's story leaves a customer, with the model clc.
type Expected struct {
	Email, Name string
	// Path is every stage entered after the first one, in order; Stage is the last.
	Path  []string
	Stage string
	// Vendors are those that know her.
	Vendors []string
	// Silence says that a move in Path came from silence alone.
	Silence bool
}

// The people of the quickstart.
const (
	ada    = "ada@example.com"
	ben    = "ben@example.com"
	chiara = "chiara@example.com"
	dan    = "dan@example.com"
	elif   = "elif@example.com"
	farid  = "farid@example.com"
)

// QuickstartExpected says how QuickstartStory ends with clc: prospect until the first paid order, new, active at two orders,
// loyal at five in 365 days, lost after 180 days without one.
func QuickstartExpected() []Expected {
	return []Expected{
		{Email: ada, Name: "Ada Example", Path: []string{"new", "active", "loyal"}, Stage: "loyal", Vendors: Vendors},
		{Email: ben, Name: "Ben Vogel", Path: []string{"new", "active", "lost"}, Stage: "lost", Vendors: []string{Shopify, HubSpot, Zoho}, Silence: true},
		{Email: chiara, Name: "Chiara Conti", Path: []string{"new", "lost", "active"}, Stage: "active", Vendors: []string{Shopify, HubSpot}, Silence: true},
		{Email: dan, Name: "Dan Moreau", Path: []string{"new"}, Stage: "new", Vendors: []string{Shopify, Zendesk}},
		{Email: elif, Name: "Elif Kaya", Stage: "prospect", Vendors: []string{Shopify}},
		{Email: farid, Name: "Farid Haddad", Path: []string{"new", "active"}, Stage: "active", Vendors: []string{Shopify, Zoho}},
	}
}

// QuickstartStory is nine months of six customers, February to November 2025: in the past of every clock it can meet, since an event
// ahead of the wall clock would be cut back to it.
func QuickstartStory() []Step {
	day := func(month time.Month, d, hour, minute int) time.Time {
		return time.Date(2025, month, d, hour, minute, 0, 0, time.UTC)
	}
	var steps []Step
	add := func(step Step) { steps = append(steps, step) }
	buy := func(at time.Time, who, order, amount, account string) {
		add(Step{At: at, Vendor: Shopify, Do: "order.placed", Customer: who, Object: order, Amount: amount, Account: account})
		add(Step{At: at.Add(2 * time.Minute), Vendor: Shopify, Do: "order.paid", Customer: who, Object: order, Account: "paid " + amount + " EUR"})
	}

	// Ada is known to all four systems by the same address, and becomes loyal.
	add(Step{At: day(2, 3, 9, 0), Vendor: HubSpot, Do: "customer.created", Customer: ada, Name: "Ada Example", Phone: "+12025550143", Account: "a colleague adds Ada to HubSpot"})
	add(Step{At: day(2, 3, 9, 30), Vendor: Zoho, Do: "customer.created", Customer: ada, Name: "Ada Example", Account: "Zoho CRM knows her too"})
	add(Step{At: day(2, 4, 18, 0), Vendor: Shopify, Do: "customer.created", Customer: ada, Name: "Ada Example", Phone: "+12025550143", Account: "Ada signs up in the shop"})
	buy(day(2, 4, 18, 20), ada, "ada-1", "54.90", "Ada's first order")
	// Ben buys twice and is never seen again.
	add(Step{At: day(2, 9, 8, 0), Vendor: Zoho, Do: "lead.created", Customer: ben, Name: "Ben Vogel", Account: "Ben is a lead in Zoho CRM"})
	add(Step{At: day(2, 10, 9, 0), Vendor: Shopify, Do: "customer.created", Customer: ben, Name: "Ben Vogel", Account: "Ben signs up in the shop"})
	buy(day(2, 10, 9, 15), ben, "ben-1", "120.00", "Ben's first order")
	add(Step{At: day(2, 11, 10, 0), Vendor: Zoho, Do: "lead.converted", Customer: ben, Account: "the lead becomes a contact"})
	add(Step{At: day(2, 11, 10, 30), Vendor: HubSpot, Do: "customer.created", Customer: ben, Name: "Ben Vogel", Account: "HubSpot learns of Ben"})
	// Chiara buys once, goes, and comes back.
	add(Step{At: day(2, 12, 12, 0), Vendor: Shopify, Do: "customer.created", Customer: chiara, Name: "Chiara Conti", Account: "Chiara signs up in the shop"})
	buy(day(2, 12, 12, 5), chiara, "chiara-1", "35.50", "Chiara's first order")
	add(Step{At: day(2, 13, 9, 0), Vendor: HubSpot, Do: "customer.created", Customer: chiara, Name: "Chiara Conti", Account: "HubSpot learns of Chiara"})
	buy(day(3, 1, 11, 0), ben, "ben-2", "80.00", "Ben orders again")
	add(Step{At: day(3, 4, 11, 0), Vendor: Shopify, Do: "order.fulfilled", Customer: ben, Object: "ben-2", Account: "Ben's parcel is on its way"})
	// Elif puts things into a cart and never buys.
	add(Step{At: day(3, 15, 20, 0), Vendor: Shopify, Do: "customer.created", Customer: elif, Name: "Elif Kaya", Account: "Elif signs up in the shop"})
	add(Step{At: day(3, 15, 20, 10), Vendor: Shopify, Do: "consent.changed", Customer: elif, Value: "subscribed", Account: "and agrees to e-mails"})
	add(Step{At: day(3, 15, 20, 20), Vendor: Shopify, Do: "cart.updated", Customer: elif, Object: "elif-cart", Amount: "49.90", Account: "and fills a cart"})
	buy(day(3, 20, 17, 0), ada, "ada-2", "42.00", "Ada's second order")
	add(Step{At: day(3, 22, 8, 0), Vendor: Zendesk, Do: "customer.created", Customer: ada, Name: "Ada Example", Account: "Ada writes to the helpdesk for the first time"})
	add(Step{At: day(3, 22, 8, 1), Vendor: Zendesk, Do: "ticket.opened", Customer: ada, Object: "parcel", Subject: "Where is my parcel?", Text: "Where is order 1003?", Tags: []string{"shipping"}, Account: "and asks for her parcel"})
	add(Step{At: day(3, 22, 9, 30), Vendor: Zendesk, Do: "ticket.commented", Object: "parcel", Text: "It left our store yesterday.", Account: "an agent answers"})
	add(Step{At: day(3, 23, 8, 0), Vendor: Zendesk, Do: "ticket.commented", Customer: ada, Object: "parcel", Text: "It came, thank you!", Account: "Ada thanks"})
	add(Step{At: day(3, 23, 9, 0), Vendor: Zendesk, Do: "ticket.solved", Object: "parcel", Account: "the ticket is solved"})
	add(Step{At: day(4, 2, 10, 0), Vendor: HubSpot, Do: "deal.created", Customer: ada, Object: "office", Subject: "Mugs for the office", Amount: "4800.00", Account: "a deal with Ada's office"})
	add(Step{At: day(4, 9, 10, 0), Vendor: HubSpot, Do: "deal.stage_changed", Customer: ada, Object: "office", Value: "contractsent", Account: "the contract is out"})
	buy(day(4, 28, 19, 0), ada, "ada-3", "61.20", "Ada's third order")
	add(Step{At: day(5, 5, 10, 0), Vendor: HubSpot, Do: "deal.won", Customer: ada, Object: "office", Account: "the deal is won"})
	// Farid comes through Zoho.
	add(Step{At: day(5, 12, 9, 0), Vendor: Zoho, Do: "customer.created", Customer: farid, Name: "Farid Haddad", Account: "Farid is a contact in Zoho CRM"})
	add(Step{At: day(5, 12, 9, 30), Vendor: Zoho, Do: "deal.created", Customer: farid, Object: "cafe", Subject: "Farid's café", Amount: "1500", Account: "with a deal"})
	add(Step{At: day(5, 30, 16, 0), Vendor: Zoho, Do: "deal.won", Customer: farid, Object: "cafe", Account: "the deal is won"})
	buy(day(6, 3, 18, 0), ada, "ada-4", "39.90", "Ada's fourth order")
	add(Step{At: day(6, 6, 9, 0), Vendor: Shopify, Do: "order.refunded", Customer: ada, Object: "ada-4", Amount: "10.00", Reason: "damaged", Account: "a part of it is refunded"})
	add(Step{At: day(6, 20, 11, 0), Vendor: Shopify, Do: "customer.created", Customer: farid, Name: "Farid Haddad", Account: "Farid signs up in the shop"})
	buy(day(6, 20, 11, 30), farid, "farid-1", "210.00", "Farid's first order")
	buy(day(7, 8, 19, 30), ada, "ada-5", "58.00", "Ada's fifth order in a year")
	add(Step{At: day(7, 20, 10, 0), Vendor: HubSpot, Do: "customer.updated", Customer: ada, Field: "phone", Value: "+12025550199", Account: "a colleague corrects Ada's phone number"})
	add(Step{At: day(8, 1, 9, 0), Vendor: Zoho, Do: "customer.updated", Customer: farid, Field: "Mobile", Value: "+4915112345678", Account: "a colleague notes Farid's mobile"})
	// Chiara turns lost on 11 August (180 days after 12 February), Ben on 28 August (180 days after 1 March).
	add(Step{At: day(8, 20, 12, 0), Do: TimePassed, Account: "Chiara has been silent for 180 days"})
	buy(day(9, 2, 15, 0), farid, "farid-2", "95.00", "Farid orders again")
	add(Step{At: day(9, 10, 9, 0), Do: TimePassed, Account: "Ben has been silent for 180 days"})
	add(Step{At: day(9, 15, 10, 0), Vendor: HubSpot, Do: "consent.changed", Customer: ada, Value: "unsubscribed", Account: "Ada wants no more e-mails"})
	buy(day(9, 20, 21, 0), chiara, "chiara-2", "44.00", "Chiara comes back")
	// Dan's order was made at a market stall without a network: it is told two days late.
	add(Step{At: day(10, 4, 9, 0), Occurred: day(10, 2, 14, 0), Vendor: Shopify, Do: "customer.created", Customer: dan, Name: "Dan Moreau", Account: "Dan bought at a market stall two days ago"})
	add(Step{At: day(10, 4, 9, 1), Occurred: day(10, 2, 14, 5), Vendor: Shopify, Do: "order.placed", Customer: dan, Object: "dan-1", Amount: "18.00", Account: "the till tells it now"})
	add(Step{At: day(10, 4, 9, 2), Occurred: day(10, 2, 14, 5), Vendor: Shopify, Do: "order.paid", Customer: dan, Object: "dan-1", Account: "it was paid at once"})
	add(Step{At: day(10, 6, 10, 0), Vendor: Zendesk, Do: "customer.created", Customer: dan, Name: "Dan Moreau", Account: "Dan is in the helpdesk"})
	add(Step{At: day(10, 6, 10, 1), Vendor: Zendesk, Do: "ticket.opened", Customer: dan, Object: "colour", Subject: "Other colours?", Text: "Do you have it in red?", Account: "and asks for red mugs"})
	buy(day(10, 12, 20, 0), ada, "ada-6", "27.30", "Ada's sixth order")
	add(Step{At: day(10, 20, 10, 0), Vendor: Shopify, Do: "customer.updated", Customer: elif, Text: "prefers blue", Account: "a note about Elif"})
	add(Step{At: day(11, 3, 9, 0), Do: TimePassed, Account: "nine months have passed"})
	return steps
}
