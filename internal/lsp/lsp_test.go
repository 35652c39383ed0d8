package lsp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// models checks every document as a model.
type models struct{ schema *Schema }

func (models) Check(path string, text []byte) []Diagnostic {
	_, err := lifecycle.Compile(path, text, lifecycle.Env{})
	var out []Diagnostic
	for _, p := range lifecycle.Problems(err) {
		out = append(out, Diagnostic{File: p.File, Line: p.Line, Column: p.Column, Message: p.Message})
	}
	return out
}

func (m models) Describe(string, []byte) Vocabulary {
	return Vocabulary{
		Schema: m.schema, Kinds: hub.Catalogue, Stages: []string{"new", "lost"}, Models: map[string][]string{"clc": {"active", "loyal"}},
		Params: []string{"lost_after"}, Defines: []string{"regular"}, Fields: []string{"plan"}, Connections: []string{"crm"},
	}
}

func newModels(t testing.TB) models {
	t.Helper()
	text, err := lifecycle.ModelSchema(hub.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := ParseSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	return models{schema}
}

func frame(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }

// client talks to a server line by line.
type client struct {
	t   *testing.T
	in  *io.PipeWriter
	out *bufio.Reader
	end chan error
	id  int
}

func connect(t *testing.T) *client {
	in, w := io.Pipe()
	r, out := io.Pipe()
	c := &client{t: t, in: w, out: bufio.NewReader(r), end: make(chan error, 1)}
	s := &Server{Project: newModels(t), Version: "test"}
	go func() {
		c.end <- s.Run(t.Context(), in, out)
		_ = out.Close()
	}()
	t.Cleanup(func() { _ = w.Close(); _ = r.Close() })
	return c
}

func (c *client) send(body string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, frame(body)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) receive() message {
	c.t.Helper()
	body, err := readFrame(c.out)
	if err != nil {
		c.t.Fatal(err)
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *client) ask(method, params string) message {
	c.t.Helper()
	c.id++
	c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, c.id, method, params))
	m := c.receive()
	if string(m.ID) != fmt.Sprint(c.id) {
		c.t.Fatalf("answer to %s, want %d: %s", m.ID, c.id, m.Result)
	}
	return m
}

func quote(text string) string {
	b, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

const good = "model: m\nstages:\n  - {name: new}\n  - {name: lost}\ndecide:\n  - stage: lost\n    when: since(\"order.paid\") >= days(90)\n  - otherwise: new\n"

// TestSession: an editor opens a model, makes a mistake, mends it, asks, and leaves.
func TestSession(t *testing.T) {
	c := connect(t)
	if m := c.ask("textDocument/hover", `{"textDocument":{"uri":"file:///m.yaml"},"position":{"line":0,"character":0}}`); m.Error == nil || m.Error.Code != codeNotInitialized {
		t.Errorf("before initialize: %+v", m)
	}
	if m := c.ask("initialize", `{"capabilities":{}}`); !strings.Contains(string(m.Result), `"hoverProvider":true`) {
		t.Errorf("initialize: %s", m.Result)
	}
	c.send(`{"jsonrpc":"2.0","method":"initialized","params":{}}`)
	open := func(text string) string {
		t.Helper()
		c.send(`{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{"uri":"file:///m.yaml","languageId":"yaml","version":1,"text":` + quote(text) + `}}}`)
		m := c.receive()
		if m.Method != "textDocument/publishDiagnostics" {
			t.Fatalf("%s %s", m.Method, m.Params)
		}
		return string(m.Params)
	}
	if got := open(good); !strings.Contains(got, `"diagnostics":[]`) {
		t.Errorf("a good model: %s", got)
	}
	change := func(text string) string {
		c.send(`{"jsonrpc":"2.0","method":"textDocument/didChange","params":{"textDocument":{"uri":"file:///m.yaml","version":2},"contentChanges":[{"text":` + quote(text) + `}]}}`)
		return string(c.receive().Params)
	}
	bad := change(strings.Replace(good, "order.paid", "order.payed", 1))
	if want := `"range":{"start":{"line":6,"character":16},"end":{"line":6,"character":29}},"severity":1,"source":"stagewire","message":"unknown event kind order.payed"`; !strings.Contains(bad, want) {
		t.Errorf("%s\nwant %s", bad, want)
	}
	if got := change(good); !strings.Contains(got, `"diagnostics":[]`) {
		t.Errorf("mended: %s", got)
	}
	if m := c.ask("textDocument/completion", `{"textDocument":{"uri":"file:///m.yaml"},"position":{"line":5,"character":11}}`); !strings.Contains(string(m.Result), `"label":"lost"`) {
		t.Errorf("completion: %s", m.Result)
	}
	if m := c.ask("textDocument/hover", `{"textDocument":{"uri":"file:///m.yaml"},"position":{"line":6,"character":12}}`); !strings.Contains(string(m.Result), "The time since the last event") {
		t.Errorf("hover: %s", m.Result)
	}
	if m := c.ask("textDocument/rename", `{}`); m.Error == nil {
		t.Errorf("rename: %s", m.Result)
	}
	if m := c.ask("workspace/symbol", `{}`); m.Error == nil || m.Error.Code != codeMethodNotFound {
		t.Errorf("an unknown request: %+v", m)
	}
	c.send(`{"jsonrpc":"2.0","method":"textDocument/didClose","params":{"textDocument":{"uri":"file:///m.yaml"}}}`)
	if m := c.receive(); m.Method != "textDocument/publishDiagnostics" {
		t.Errorf("after closing: %s", m.Method)
	}
	c.ask("shutdown", "null")
	c.send(`{"jsonrpc":"2.0","method":"exit"}`)
	if err := <-c.end; err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// TestBrokenStreams: what is no protocol ends the server with an error, never with a crash or without bounds.
func TestBrokenStreams(t *testing.T) {
	for _, in := range []string{
		"", "nonsense\r\n\r\n", "Content-Length: 99999999999\r\n\r\n", "Content-Length: -1\r\n\r\n", "Content-Length: 10\r\n\r\n{}",
		strings.Repeat("x", 100_000), "Content-Type: a\r\n\r\n{}", frame(`{"method":"exit"}`),
	} {
		s := &Server{Project: newModels(t)}
		if err := s.Run(t.Context(), strings.NewReader(in), io.Discard); err == nil {
			t.Errorf("%.40q ends well", in)
		}
	}
	var out bytes.Buffer
	s := &Server{Project: newModels(t)}
	in := frame(`{`) + frame(`[]`) + frame(`{"id":1,"method":"initialize"}`) + frame(`{"id":2,"method":"textDocument/hover","params":5}`) + frame(`{"id":3,"method":"shutdown"}`) + frame(`{"method":"exit"}`)
	if err := s.Run(t.Context(), strings.NewReader(in), &out); err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), `"error"`); n != 3 {
		t.Errorf("%d errors in %s", n, out.String())
	}
}

// TestPlaces asks at the mark | for what can stand there.
func TestPlaces(t *testing.T) {
	v := newModels(t).Describe("", nil)
	for text, want := range map[string]string{
		"model: m\n|":                           "decide define stages tests",
		"stages:\n  - |":                        "name labels dwell terminal",
		"stages:\n  - name: a\n    |":           "labels asks target",
		"stages:\n  - {name: a, |":              "labels terminal",
		"stages:\n  - {name: a, target: {|":     "to within share",
		"stages:\n- name: a\n  |":               "labels target",
		"stages:\n  - {name: a, target: {to: |": "new lost",
		"stages:\n  - {name: a, terminal: |":    "true false",
		"of: |":                                 "customer company deal",
		"decide:\n  - |":                        "stage when otherwise",
		"decide:\n  - stage: |":                 "new lost",
		"decide:\n  - otherwise: |":             "new lost stay",
		"decide:\n  - stage: a\n    from: [|":   "new lost",
		"decide:\n  - stage: a\n    when: |":    "count since stage customer regular",
		"decide:\n  - stage: a\n    when: >-\n      ever(\"x\") and |":                       "count since",
		"decide:\n  - stage: a\n    when: count(\"|":                                         "order.paid service any",
		"decide:\n  - stage: a\n    when: stage == \"|":                                      "new lost",
		"decide:\n  - stage: a\n    when: stages.clc == \"|":                                 "active loyal",
		"decide:\n  - stage: a\n    when: stages.|":                                          "clc",
		"decide:\n  - stage: a\n    when: since(\"order.paid\") >= params.|":                 "lost_after",
		"decide:\n  - stage: a\n    when: customer.|":                                        "country tags traits",
		"decide:\n  - stage: a\n    when: count(\"order.paid\", .age < days(3) and .|":       "amount age refunded",
		"decide:\n  - stage: a\n    when: any(tickets, .|":                                   "open open_for subject",
		"decide:\n  - stage: a\n    when: (fields.|":                                         "plan",
		"define:\n  often: |":                                                                "count since",
		"tests:\n  - name: n\n    events:\n      - {at: 2026-01-01, kind: |":                 "order.paid",
		"tests:\n  - name: n\n    events:\n      - |":                                        "at kind amount",
		"tests:\n  - name: n\n    expect:\n      - {at: 2026-01-01T10:00:00Z, stage: |":      "new lost",
		"labels: {en: M}\n\n# a comment\nstages:\n  - name: a\n    labels: {en: A}\n\n    |": "dwell",
	} {
		before, after, _ := strings.Cut(text, "|")
		row := strings.Count(before, "\n")
		column := len([]rune(before[strings.LastIndex(before, "\n")+1:]))
		var labels []string
		for _, item := range newCursor(before+after, position{row, column}, v).complete() {
			labels = append(labels, item.Label)
		}
		for label := range strings.FieldsSeq(want) {
			if !slices.Contains(labels, label) {
				t.Errorf("%q: no %s among %.200v", text, label, labels)
			}
		}
	}
}

// TestHover asks what the word at the mark means.
func TestHover(t *testing.T) {
	v := newModels(t).Describe("", nil)
	for text, want := range map[string]string{
		"dec|ide:":                                   "tried from the top",
		"stages:\n  - {name: a, dw|ell: 3d}":         "no rule leads out",
		"stages:\n  - name: a\n    term|inal: true":  "leads out",
		"decide:\n  - when: co|unt(\"x\") > 1":       "How many events",
		"decide:\n  - when: count(\"order.pa|id\")":  "An event of group sales",
		"decide:\n  - when: any(tickets, .open_f|or": "time since it was opened",
		"decide:\n  - when: customer.coun|try == ":   "country",
		"decide:\n  - when: 日本|":                     "",
	} {
		before, after, _ := strings.Cut(text, "|")
		row := strings.Count(before, "\n")
		column := len([]rune(before[strings.LastIndex(before, "\n")+1:]))
		h := newCursor(before+after, position{row, column}, v).hover()
		switch {
		case want == "" && h != nil:
			t.Errorf("%q: %s", text, h.Contents.Value)
		case want != "" && (h == nil || !strings.Contains(h.Contents.Value, want)):
			t.Errorf("%q: %v, want %s", text, h, want)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(good, 6, 12)
	f.Add("a: {b: [c, {d: \"", 0, 14)
	v := newModels(f).Describe("", nil)
	f.Fuzz(func(t *testing.T, text string, line, character int) {
		c := newCursor(text, position{line, character}, v)
		_, _ = c.complete(), c.hover()
	})
}
