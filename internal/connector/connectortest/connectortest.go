// Package connectortest is the suite every connector passes: its own case folders, and what no vendor may get wrong: forged,
// unsigned, late and doubled webhooks, secrets in errors, the outcome of every status code.
//
// A vendor's folder holds testdata/connection.yaml and one folder per case. What a case is, its first file says:
//
//	webhook.http   → events.json            a webhook and what it becomes (or error.txt)
//	hydrate.json   → request.http …         rows to fetch, the request made, response.http given, then events.json
//	action.json    → request.http …         a task, the requests made, response.http given, then result.json
//
// Further exchanges are request2.http, response2.http and so on. Run the tests with -update to write the files on the right; response
// files are written by hand. An HTTP file is a request or status line, header lines, an empty line, and the body to the last byte.
package connectortest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

var update = flag.Bool("update", false, "write the golden files of connector cases")

// Case is one vendor's folder with the connection its cases run under.
type Case struct {
	Dir        string
	Connector  *connector.Connector
	Connection *hub.Connection
	ReceivedAt time.Time
}

// Run runs all case folders of dir (a vendor's folder) and the common suite. It fails where there is no case.
func Run(t *testing.T, c *connector.Connector, dir string) {
	cases, err := os.ReadDir(filepath.Join(dir, "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, entry := range cases {
		if !entry.IsDir() || entry.Name() == "fuzz" {
			continue
		}
		folder := filepath.Join(dir, "testdata", entry.Name())
		k := Open(t, c, dir, folder)
		switch {
		case exists(folder, "webhook.http"):
			ran++
			t.Run(entry.Name(), k.webhook)
		case exists(folder, "hydrate.json"):
			ran++
			t.Run(entry.Name(), k.hydrate)
		case exists(folder, "action.json"):
			ran++
			t.Run(entry.Name(), k.action)
		default:
			t.Errorf("%s: holds neither webhook.http nor hydrate.json nor action.json", folder)
		}
	}
	if ran == 0 {
		t.Fatalf("%s: no case", dir)
	}
	t.Run("suite", func(t *testing.T) { Suite(t, c, dir) })
}

type connectionFile struct {
	Name       string              `yaml:"name"`
	Settings   map[string]string   `yaml:"settings"`
	Secrets    map[string][]string `yaml:"secrets"`
	ReceivedAt time.Time           `yaml:"received_at"`
}

// Open reads the connection of a case: its own connection.yaml, else the vendor's.
func Open(t testing.TB, c *connector.Connector, dir, folder string) *Case {
	t.Helper()
	path := filepath.Join(folder, "connection.yaml")
	if !exists(folder, "connection.yaml") {
		path = filepath.Join(dir, "testdata", "connection.yaml")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f connectionFile
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	conn := &hub.Connection{Name: f.Name, Connector: c.Name(), Settings: f.Settings, Secrets: map[string][]hub.Secret{}}
	for name, all := range f.Secrets {
		for _, s := range all {
			conn.Secrets[name] = append(conn.Secrets[name], hub.NewSecret(s))
		}
	}
	if problems := c.CheckConnection(conn); len(problems) > 0 {
		t.Fatalf("%s: %v", path, problems)
	}
	return &Case{Dir: folder, Connector: c, Connection: conn, ReceivedAt: f.ReceivedAt.UTC()}
}

// Webhook reads the case's webhook.http, received at the connection's received_at.
func (k *Case) Webhook(t testing.TB) *hub.Webhook {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(k.Dir, "webhook.http"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseWebhook(text)
	if err != nil {
		t.Fatalf("%s: %v", k.Dir, err)
	}
	w.Connection, w.ReceivedAt, w.Activation = k.Connection.Name, k.ReceivedAt, 1
	w.ID = k.Connector.WebhookID(w)
	return w
}

// ParseWebhook reads an HTTP request as it stands in a case folder: method and absolute URL in the first line.
func ParseWebhook(text []byte) (*hub.Webhook, error) {
	line, headers, body, err := splitHTTP(text)
	if err != nil {
		return nil, err
	}
	f := strings.Fields(line)
	if len(f) < 2 {
		return nil, fmt.Errorf("first line %q is not METHOD URL", line)
	}
	return &hub.Webhook{Method: f[0], URL: f[1], Headers: headers, Body: body}, nil
}

func splitHTTP(text []byte) (line string, headers []hub.Header, body []byte, err error) {
	for first := true; ; first = false {
		raw, rest, ok := bytes.Cut(text, []byte("\n"))
		l := strings.TrimSuffix(string(raw), "\r")
		text = rest
		if first {
			line = l
			if !ok {
				return line, nil, nil, nil
			}
			continue
		}
		if l == "" {
			return line, headers, text, nil
		}
		name, value, found := strings.Cut(l, ":")
		if !found {
			return "", nil, nil, fmt.Errorf("header line %q has no colon", l)
		}
		headers = append(headers, hub.Header{Name: name, Value: strings.TrimSpace(value)})
		if !ok {
			return line, headers, nil, nil
		}
	}
}

func (k *Case) webhook(t *testing.T) {
	w := k.Webhook(t)
	if err := k.Connector.Accepts(w.Method, w.Header("Content-Type")); err != nil {
		t.Fatal(err)
	}
	err := k.Connector.Verify(w, k.Connection, w.ReceivedAt)
	var n connector.Normalized
	if err == nil {
		n, err = k.Connector.Normalize(w, k.Connection)
	}
	k.goldenNormalized(t, n, err)
	k.forged(t, w)
}

func (k *Case) goldenNormalized(t *testing.T, n connector.Normalized, err error) {
	t.Helper()
	if err != nil {
		Golden(t, filepath.Join(k.Dir, "error.txt"), []byte(err.Error()+"\n"))
		if n.Events == nil && n.Hydrate == nil {
			return
		}
	} else if exists(k.Dir, "error.txt") {
		t.Errorf("%s: error.txt expects an error, there is none", k.Dir)
	}
	Golden(t, filepath.Join(k.Dir, "events.json"), Encode(t, n))
}

// Encode writes what a webhook became as a case folder keeps it.
func Encode(t testing.TB, n connector.Normalized) []byte {
	t.Helper()
	out := map[string]any{}
	if len(n.Events) > 0 {
		var events []any
		for i := range n.Events {
			events = append(events, encodeEvent(&n.Events[i]))
		}
		out["events"] = events
	}
	var rows []any
	for _, h := range n.Hydrate {
		rows = append(rows, map[string]any{"object": h.Object, "id": h.ID, "item": h.Item, "context": jsontext.Value(h.Context)})
	}
	if len(rows) > 0 {
		out["hydrate"] = rows
	}
	if len(n.Ignored) > 0 {
		out["ignored"] = n.Ignored
	}
	return encode(t, out)
}

func encodeEvent(e *hub.Event) map[string]any {
	m := map[string]any{"id": e.ID, "kind": e.Kind, "occurred_at": e.OccurredAt.Format(time.RFC3339Nano), "occurred_by": e.OccurredBy}
	if !e.ClampedFrom.IsZero() {
		m["clamped_from"] = e.ClampedFrom.Format(time.RFC3339Nano)
	}
	if len(e.Identifiers) > 0 {
		var all []any
		for _, id := range e.Identifiers {
			x := map[string]any{"kind": id.Kind, "value": id.Value}
			if id.Connection != "" {
				x["connection"] = id.Connection
			}
			if id.Weak {
				x["weak"] = true
			}
			if id.Record {
				x["record"] = true
			}
			all = append(all, x)
		}
		m["identifiers"] = all
	}
	if len(e.Properties) > 0 {
		p := map[string]any{}
		for k, v := range e.Properties {
			if money, ok := v.(hub.Money); ok {
				v = money.String()
			}
			p[k] = v
		}
		m["properties"] = p
	}
	if len(e.Traits) > 0 {
		m["traits"] = e.Traits
	}
	if e.Written != nil {
		m["written"] = e.Written
	}
	if e.Echo {
		m["echo"] = true
	}
	return m
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// Golden compares got with the file, or writes it under -update.
func Golden(t testing.TB, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// vendor plays the other side of a case: it gives the case's responses in turn and keeps the requests.
type vendor struct {
	t    testing.TB
	dir  string
	sent int
}

func numbered(base string, n int) string {
	if n == 1 {
		return base + ".http"
	}
	return base + strconv.Itoa(n) + ".http"
}

func (v *vendor) call(_ context.Context, req connector.Request) (connector.Response, error) {
	v.t.Helper()
	v.sent++
	Golden(v.t, filepath.Join(v.dir, numbered("request", v.sent)), encodeRequest(v.t, req))
	text, err := os.ReadFile(filepath.Join(v.dir, numbered("response", v.sent)))
	if err != nil {
		v.t.Fatalf("%s: request %d has no response: %v", v.dir, v.sent, err)
	}
	line, headers, body, err := splitHTTP(text)
	if err != nil {
		v.t.Fatalf("%s: %v", v.dir, err)
	}
	if line == "time-out" {
		return connector.Response{}, context.DeadlineExceeded
	}
	var status int
	if _, err := fmt.Sscanf(strings.TrimPrefix(line, "HTTP/1.1 "), "%d", &status); err != nil {
		v.t.Fatalf("%s: first line %q is not a status", v.dir, line)
	}
	resp := connector.Response{Status: status, Header: http.Header{}, Body: body}
	for _, h := range headers {
		resp.Header.Add(h.Name, h.Value)
	}
	return resp, nil
}

func encodeRequest(t testing.TB, req connector.Request) []byte {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", req.Method, req.Path)
	if req.Host != "" {
		fmt.Fprintf(&b, "Host: %s\n", req.Host)
	}
	names := make([]string, 0, len(req.Header))
	for name := range req.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %s\n", name, req.Header[name])
	}
	if req.ContentType != "" {
		fmt.Fprintf(&b, "Content-Type: %s\n", req.ContentType)
	}
	b.WriteByte('\n')
	if req.ContentType == "application/json" {
		pretty := jsontext.Value(bytes.Clone(req.Body))
		if err := pretty.Indent(); err != nil {
			t.Fatal(err)
		}
		b.Write(pretty)
		b.WriteByte('\n')
	} else {
		b.Write(req.Body)
	}
	return b.Bytes()
}

// finished fails where a response was never asked for.
func (v *vendor) finished() {
	v.t.Helper()
	if exists(v.dir, numbered("response", v.sent+1)) {
		v.t.Errorf("%s: %s was never asked for", v.dir, numbered("response", v.sent+1))
	}
}

type hydrateFile struct {
	Object string `json:"object"`
	Rows   []struct {
		ID      string         `json:"id"`
		Context jsontext.Value `json:"context"`
	} `json:"rows"`
}

func (k *Case) hydrate(t *testing.T) {
	var f hydrateFile
	k.read(t, "hydrate.json", &f)
	var rows []hub.HydrationRecord
	for i, r := range f.Rows {
		rows = append(rows, hub.HydrationRecord{Connection: k.Connection.Name, Object: f.Object, ID: r.ID, WebhookID: "whk_case", Item: i, ReceivedAt: k.ReceivedAt, Context: r.Context})
	}
	v := &vendor{t: t, dir: k.Dir}
	fetched, err := k.Connector.Fetch(context.Background(), v.call, k.Connection, rows)
	v.finished()
	var all connector.Normalized
	for i := range fetched {
		if err == nil {
			err = fetched[i].Err
		}
		if fetched[i].Err != nil {
			continue
		}
		n, e := k.Connector.FetchedEvents(fetched[i].Row, fetched[i].Body, fetched[i].Gone, k.Connection, 1)
		err = errors.Join(err, e)
		all.Events = append(all.Events, n.Events...)
		all.Hydrate = append(all.Hydrate, n.Hydrate...)
		all.Ignored = append(all.Ignored, n.Ignored...)
	}
	k.goldenNormalized(t, all, err)
}

type actionFile struct {
	Action      string           `json:"action"`
	Params      map[string]any   `json:"params"`
	Customer    string           `json:"customer"`
	Identifiers []hub.Identifier `json:"identifiers"`
	Traits      map[string]any   `json:"traits"`
	Reference   string           `json:"reference"`
	Lookup      bool             `json:"lookup"`
	Previous    string           `json:"previous"`
	Tried       []string         `json:"tried"`
	Mode        string           `json:"mode"`
	Business    time.Time        `json:"business"`
}

func (k *Case) action(t *testing.T) {
	var f actionFile
	k.read(t, "action.json", &f)
	task := connector.Task{
		Action: hub.Action{Name: f.Action, Params: f.Params}, Reference: f.Reference, Lookup: f.Lookup, Previous: f.Previous, Tried: f.Tried, Mode: f.Mode, Business: f.Business,
		Recipient: hub.Recipient{CustomerID: f.Customer, Identifiers: f.Identifiers, Traits: f.Traits},
	}
	v := &vendor{t: t, dir: k.Dir}
	r := k.Connector.Perform(context.Background(), v.call, k.Connection, task)
	v.finished()
	out := map[string]any{"outcome": r.Outcome, "status": r.Status}
	for key, value := range map[string]string{"error": r.Error, "external_id": r.ExternalID} {
		if value != "" {
			out[key] = value
		}
	}
	if r.RetryAfter > 0 {
		out["retry_after"] = r.RetryAfter.String()
	}
	if len(r.Values) > 0 {
		out["values"] = r.Values
	}
	if w := k.Connector.Writes(task, k.Connection); len(w) > 0 {
		out["writes"] = w
	}
	Golden(t, filepath.Join(k.Dir, "result.json"), encode(t, out))
}

func (k *Case) read(t testing.TB, file string, to any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(k.Dir, file))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, to, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%s/%s: %v", k.Dir, file, err)
	}
}

func exists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}
