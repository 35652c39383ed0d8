package connector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/hub"
)

// Call is the only way out to a vendor: it adds base address and authentication and keeps the limits. An error means there is
// no answer; it wraps ErrNotSent where the request surely never left.
type Call func(ctx context.Context, req Request) (Response, error)

// Request is one HTTP request to a vendor.
type Request struct {
	Method      string
	Path        string // path and query below the base address, or absolute
	Header      map[string]string
	Body        []byte
	ContentType string
	Host        string // key of the manifest's hosts; "" means api
	NoAuth      bool
}

// Response is a vendor's answer.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// object is what can be fetched by its id.
type object struct {
	name     string
	batch    int
	requests []*requestTemplate
	records  *expression
	key      *expression
	gone     *expression
	outcome  []outcomeRule
	events   []*mapping
	byTopic  map[string][]*mapping
}

func (l *loader) object(a at, c *Connector, ob *object) {
	o := a.object("batch", "requests", "records", "key", "gone", "outcome", "id", "at", "country", "echo", "events")
	ob.batch = o["batch"].whole(1, 1, 1000)
	for _, r := range o["requests"].list() {
		ob.requests = append(ob.requests, l.request(r.object(requestKeys...), c, &fetchEnv{}))
	}
	if len(ob.requests) == 0 {
		o["requests"].problem("", "say how to fetch it")
	}
	ob.records = o["records"].expression(&fetchEnv{}, wantsAny)
	ob.key = o["key"].expression(&fetchEnv{}, wantsAny)
	ob.gone = o["gone"].expression(&fetchEnv{}, wantsBool)
	ob.outcome = l.outcomes(o["outcome"], &fetchEnv{})
	if ob.batch > 1 && (ob.records == nil || ob.key == nil) {
		a.problem("", "a batch needs records (the list in the answer) and key (a record's id)")
	}
	defaults := mapping{
		id:      o["id"].expression(&recordEnv{}, wantsAny),
		at:      l.times(o["at"], &recordEnv{}),
		country: o["country"].expression(&recordEnv{}, wantsAny),
		echo:    o["echo"].expression(&recordEnv{}, wantsBool),
	}
	ob.events, ob.byTopic = l.mappings(o["events"], c, defaults, func() any { return &recordEnv{} })
	if len(ob.events) == 0 {
		o["events"].problem("", "say what a fetched record becomes")
	}
}

// FetchBatch returns how many ids one fetch of object takes; 0 for an unknown object.
func (c *Connector) FetchBatch(object string) int {
	if o := c.objects[object]; o != nil {
		return o.batch
	}
	return 0
}

// Fetched is one record as fetched: its bytes, or the news that it is gone, or why it could not be fetched.
// Err wraps hub.ErrTransient where trying again makes sense, hub.ErrInvalid where it never will.
type Fetched struct {
	Row  hub.HydrationRecord
	Body []byte // JSON; exact as far as numbers and texts go
	Gone bool
	Err  error
	// RetryAfter is what the vendor asked for, 0 for nothing.
	RetryAfter time.Duration
}

// Fetch fetches rows, all of one object and no more than FetchBatch, in order of rows. An error of the whole request is in each Err;
// the error returned is for rows that cannot be asked for at all.
func (c *Connector) Fetch(ctx context.Context, call Call, conn *hub.Connection, rows []hub.HydrationRecord) ([]Fetched, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	o := c.objects[rows[0].Object]
	if o == nil {
		return nil, fmt.Errorf("connector %s cannot fetch %q: %w", c.name, rows[0].Object, hub.ErrInvalid)
	}
	if len(rows) > o.batch {
		return nil, fmt.Errorf("fetch %d of %s at once, at most %d: %w", len(rows), o.name, o.batch, hub.ErrInvalid)
	}
	out := make([]Fetched, len(rows))
	env := &fetchEnv{Settings: c.settingsOf(conn)}
	seen := map[string]bool{}
	for i, r := range rows {
		out[i].Row = r
		if !seen[r.ID] {
			seen[r.ID] = true
			env.IDs = append(env.IDs, r.ID)
		}
	}
	env.ID = env.IDs[0]
	all := func(gone bool, wait time.Duration, err error) ([]Fetched, error) {
		for i := range out {
			out[i].Gone, out[i].Err, out[i].RetryAfter = gone, err, wait
		}
		return out, nil
	}
	for i, r := range o.requests {
		req, err := r.render(env)
		if err != nil {
			return nil, err
		}
		resp, err := call(ctx, req)
		if err != nil {
			return all(false, 0, fmt.Errorf("fetch %s: %w", o.name, err))
		}
		env.Status = resp.Status
		env.Body = nil
		if len(resp.Body) > 0 {
			if env.Body, err = decodeJSON(resp.Body, nil, nil); err != nil && resp.Status < 300 {
				return all(false, 0, fmt.Errorf("fetch %s: the answer is not JSON: %w", o.name, hub.ErrTransient))
			}
		}
		if i == 0 {
			gone, err := o.isGone(env)
			if err != nil {
				return nil, err
			}
			if gone {
				return all(true, 0, nil)
			}
		}
		what, err := judge(o.outcome, nil, env, resp, false)
		if err != nil {
			return nil, err
		}
		switch what.outcome {
		case hub.Delivered:
		case hub.Refused:
			return all(false, 0, fmt.Errorf("fetch %s: status %d %s: %w", o.name, resp.Status, what.reason, hub.ErrInvalid))
		default:
			return all(false, what.after, fmt.Errorf("fetch %s: status %d %s: %w", o.name, resp.Status, what.reason, hub.ErrTransient))
		}
		env.Answers = append(env.Answers, env.Body)
	}
	return out, o.collect(env, out)
}

func (o *object) isGone(env *fetchEnv) (bool, error) {
	if o.gone == nil {
		return env.Status == http.StatusNotFound || env.Status == http.StatusGone, nil
	}
	return o.gone.holds(env)
}

// collect gives each row its record. One that the answer leaves out is gone.
func (o *object) collect(env *fetchEnv, out []Fetched) error {
	records := []any{env.Answers[0]}
	if o.records != nil {
		v, err := o.records.run(env)
		if err != nil {
			return err
		}
		records = nil
		switch v := v.(type) {
		case nil:
		case []any:
			records = v
		default:
			records = []any{v}
		}
	}
	byID := map[string][]byte{}
	for _, r := range records {
		if r == nil {
			continue
		}
		id := env.ID
		if o.key != nil {
			env.Item = r
			var err error
			if id, err = o.key.string(env); err != nil {
				return err
			}
		}
		text, err := json.Marshal(r, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("fetch %s: a record cannot be encoded: %w", o.name, hub.ErrInvalid)
		}
		byID[id] = text
	}
	for i := range out {
		body, ok := byID[out[i].Row.ID]
		out[i].Body, out[i].Gone = body, !ok
	}
	return nil
}

// FetchedEvents turns a fetched record into events; it may ask for further records. It is pure. version is the number of
// the fetch; the caller sets the activation. With gone, body is ignored and events carry no traits. Errors are as of Normalize.
func (c *Connector) FetchedEvents(row hub.HydrationRecord, body []byte, gone bool, conn *hub.Connection, version int64) (Normalized, error) {
	o := c.objects[row.Object]
	if o == nil {
		return Normalized{}, fmt.Errorf("connector %s cannot fetch %q: %w", c.name, row.Object, hub.ErrInvalid)
	}
	env := &recordEnv{Settings: c.settingsOf(conn), ID: row.ID, Gone: gone, ReceivedAt: row.ReceivedAt.UTC().Truncate(hub.Resolution), Context: map[string]any{}, Item: map[string]any{}}
	var err error
	if len(row.Context) > 0 {
		if env.Context, err = decodeJSON(row.Context, nil, nil); err != nil {
			return Normalized{}, fmt.Errorf("context of %s: %w", o.name, err)
		}
	}
	if m, ok := env.Context.(map[string]any); ok {
		env.Topic, _ = m["topic"].(string)
	}
	if !gone {
		if env.Item, err = decodeJSON(body, nil, nil); err != nil {
			return Normalized{}, fmt.Errorf("fetched %s: %w", o.name, err)
		}
	}
	b := builder{
		c: c, conn: conn, received: row.ReceivedAt, webhook: row.WebhookID, version: hub.Version{Fetch: version},
		known: row.ReceivedAt, item: row.Item, topic: env.Topic, object: row.Object, id: row.ID, gone: gone,
	}
	if row.DueAt.After(b.known) {
		b.known = row.DueAt // a fetch that was put off sees a later state
	}
	b.all(o.events, o.byTopic, env)
	return b.out, errors.Join(b.errs...)
}
