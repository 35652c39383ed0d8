package sandbox

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
)

// State is what every vendor holds, by vendor: the shape of GET /state.
type State map[string]VendorState

// VendorState is what one vendor holds, in the order it was made.
type VendorState struct {
	Customers []Customer `json:"customers"`
	Tasks     []Task     `json:"tasks"`
	Tickets   []Ticket   `json:"tickets"`
	Notes     []Note     `json:"notes"`
	Deals     []Deal     `json:"deals"`
	Requests  []Request  `json:"requests"`
}

// Customer is a person as a vendor knows her: Shopify customer, Zendesk end user, HubSpot contact, Zoho contact or lead.
type Customer struct {
	ID    string   `json:"id"`
	Kind  string   `json:"kind"` // customer, user, contact or lead
	Email string   `json:"email"`
	Phone string   `json:"phone,omitempty"`
	Name  string   `json:"name"`
	Tags  []string `json:"tags"`
	// Fields holds metafields ("lifecycle.stage"), user fields, properties or custom fields, as text.
	Fields    map[string]string `json:"fields"`
	Orders    int               `json:"orders,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	UpdatedAt time.Time         `json:"updated_at"`
	Deleted   bool              `json:"deleted,omitempty"`
}

// Task is a task at HubSpot or Zoho.
type Task struct {
	ID       string `json:"id"`
	Subject  string `json:"subject"`
	Text     string `json:"text,omitempty"`
	Status   string `json:"status"`
	Due      string `json:"due,omitempty"`
	Customer string `json:"customer,omitempty"` // id of the contact
	Owner    string `json:"owner,omitempty"`
	// Fields holds the custom properties set on it, a unique reference among them.
	Fields    map[string]string `json:"fields"`
	CreatedAt time.Time         `json:"created_at"`
}

// Ticket is a ticket at Zendesk.
type Ticket struct {
	ID         string    `json:"id"`
	Subject    string    `json:"subject"`
	Status     string    `json:"status"`
	Type       string    `json:"type,omitempty"`
	Priority   string    `json:"priority,omitempty"`
	Requester  string    `json:"requester"` // id of the user
	Submitter  string    `json:"submitter"`
	ExternalID string    `json:"external_id,omitempty"`
	Tags       []string  `json:"tags"`
	Comments   []Comment `json:"comments"`
	CreatedAt  time.Time `json:"created_at"`
}

// Comment is one comment of a ticket; the first is its description.
type Comment struct {
	Author string `json:"author"`
	Public bool   `json:"public"`
	Body   string `json:"body"`
}

// Note is a note at HubSpot or Zoho, or a customer's note at Shopify.
type Note struct {
	ID       string `json:"id"`
	Title    string `json:"title,omitempty"`
	Text     string `json:"text"`
	Customer string `json:"customer"`
}

// Deal is a deal at HubSpot or Zoho.
type Deal struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Stage    string `json:"stage"`
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
	Customer string `json:"customer"`
}

// Request is one API call that was answered; the oldest are dropped past 2,000. Secrets are masked. Status 0 means the
// connection was closed without an answer.
type Request struct {
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Status int       `json:"status"`
	Body   string    `json:"body"`
}

// State returns a copy of all that the vendors hold.
func (s *Sandbox) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := State{}
	for name, v := range s.vendors {
		state := v.state()
		state.Requests = slices.Clone(s.requests[name])
		// Lists are never null in JSON, so that a reader can count without asking.
		state.Customers = notNil(state.Customers)
		state.Tasks = notNil(state.Tasks)
		state.Tickets = notNil(state.Tickets)
		state.Notes = notNil(state.Notes)
		state.Deals = notNil(state.Deals)
		state.Requests = notNil(state.Requests)
		out[name] = state
	}
	return out
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Span is a duration that reads and writes as text ("1.5s") in JSON.
type Span time.Duration

// MarshalText gives "1.5s".
func (d Span) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Span) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Span(v)
	return err
}

// Knobs are one vendor's faults. The zero value has none: a vendor on a good day, whose search index lags nevertheless.
type Knobs struct {
	// Webhooks. Probabilities are 0 to 1; durations are wire time.
	Duplicates float64 `json:"duplicates"` // a webhook is sent a second time, a little later
	Disorder   float64 `json:"disorder"`   // a webhook is held back for Overtake, so that later ones come first
	Overtake   Span    `json:"overtake"`   // default 300ms
	Delay      Span    `json:"delay"`      // each webhook waits a random time up to this
	Drop       float64 `json:"drop"`       // a webhook is lost for ever
	Hold       bool    `json:"hold"`       // nothing is sent until this is off again

	// API.
	Outage      bool    `json:"outage"`       // 503 to everything
	Refuse      bool    `json:"refuse"`       // the connection is closed without an answer
	Hydration   bool    `json:"hydration"`    // 503 to reads of records, writes work
	LoseAnswers float64 `json:"lose_answers"` // a write is applied and the connection closed without an answer
	Slow        Span    `json:"slow"`         // each answer takes this long
	TokenLife   Span    `json:"token_life"`   // of tokens issued from now on; default the vendor's
	SearchLag   Span    `json:"search_lag"`   // how late search sees a write; default 2s, negative for none
	Limit       int     `json:"limit"`        // calls (Shopify: cost points in the bucket) per the vendor's window; default the vendor's
	// SourceID replaces the app's id in HubSpot's sourceId of our own writes, so that only their values can tell.
	SourceID string `json:"source_id"`
}

// defaultSearchLag is how late a search sees a write where no knob says otherwise.
const defaultSearchLag = 2 * time.Second

func (k Knobs) searchLag() time.Duration {
	switch {
	case k.SearchLag == 0:
		return defaultSearchLag
	case k.SearchLag < 0:
		return 0
	default:
		return time.Duration(k.SearchLag)
	}
}

// Knobs returns a vendor's knobs.
func (s *Sandbox) Knobs(vendor string) Knobs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.knobs[vendor]
}

// AllKnobs returns every vendor's knobs.
func (s *Sandbox) AllKnobs() map[string]Knobs {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]Knobs{}
	maps.Copy(out, s.knobs)
	return out
}

// Set changes a vendor's knobs; vendor "" means all. It reports whether the vendor exists.
func (s *Sandbox) Set(vendor string, change func(*Knobs)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := false
	for _, name := range Vendors {
		if vendor != "" && vendor != name {
			continue
		}
		k := s.knobs[name]
		change(&k)
		s.knobs[name] = k
		s.queues[name].wake()
		found = true
	}
	return found
}

// ExpireTokens makes every token issued so far invalid at once.
func (s *Sandbox) ExpireTokens(vendor string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens[vendor])
}

// order is the body of POST /control.
type order struct {
	Vendor       string `json:"vendor"`
	ExpireTokens bool   `json:"expire_tokens"`
	Knobs        `json:",inline"`
}

// control is POST /control: {"vendor":"hubspot","outage":true,"expire_tokens":true}. Knobs that are not named stay;
// without a vendor all vendors are meant. It answers with all knobs.
func (s *Sandbox) control(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return
	}
	var o order
	if err := json.Unmarshal(body, &o, json.RejectUnknownMembers(true)); err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	vendor := o.Vendor
	if vendor == "zoho" {
		vendor = Zoho
	}
	found := s.Set(vendor, func(k *Knobs) {
		into := order{Knobs: *k}
		if json.Unmarshal(body, &into) == nil { // it did once already
			*k = into.Knobs
		}
	})
	if !found {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "no vendor " + vendor})
		return
	}
	if o.ExpireTokens {
		for _, name := range Vendors {
			if vendor == "" || vendor == name {
				s.ExpireTokens(name)
			}
		}
	}
	writeJSON(w, http.StatusOK, s.AllKnobs())
}
