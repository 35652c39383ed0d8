package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// TestLanguageServer opens a model, a file of reactions, a configuration and a foreign file in an editor's words.
func TestLanguageServer(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	var in strings.Builder
	send := func(format string, args ...any) {
		body := fmt.Sprintf(format, args...)
		fmt.Fprintf(&in, "Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	uri := func(name string) string { return "file://" + filepath.ToSlash(filepath.Join(dir, name)) }
	open := func(name, text string) {
		quoted, err := jsontext.AppendQuote(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		send(`{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{"uri":%q,"text":%s}}}`, uri(name), quoted)
	}
	send(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`)
	open("silent.yaml", "model: silent\nstages:\n  - {name: new}\n  - {name: lost}\ndecide:\n  - stage: lost\n    when: since(\"order.paid\") > days(180)\n  - otherwise: new\n")
	open("calls.yaml", "reactions:\n  - name: call\n    enter: clc.lots\n    do:\n      - create_task: {via: crm, subject: Call}\n")
	open("stagewire.yaml", "models: [clk]\n")
	open("compose.yaml", "services: {db: {image: x}}\n")
	send(`{"jsonrpc":"2.0","id":2,"method":"textDocument/completion","params":{"textDocument":{"uri":%q},"position":{"line":2,"character":11}}}`, uri("calls.yaml"))
	send(`{"jsonrpc":"2.0","id":3,"method":"textDocument/completion","params":{"textDocument":{"uri":%q},"position":{"line":0,"character":9}}}`, uri("stagewire.yaml"))
	send(`{"jsonrpc":"2.0","id":4,"method":"textDocument/completion","params":{"textDocument":{"uri":%q},"position":{"line":7,"character":15}}}`, uri("silent.yaml"))
	// The server checks what changed once nothing else waits: the client says goodbye when four documents have been told of.
	from, to := io.Pipe()
	out := &notices{client: to, want: 4}
	go func() {
		if _, err := io.WriteString(to, in.String()); err != nil {
			t.Error(err)
		}
	}()
	var errs bytes.Buffer
	if code := run(t.Context(), []string{"check", "--lsp"}, from, out, &errs); code != exitOK {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	for _, want := range []string{
		`"severity":2,"code":"silence","source":"stagewire"`,
		`unknown stage of clc lots (did you mean lost?)`,
		`no shipped model is called \"clk\" (did you mean clc?)`,
		`"label":"clc.lost"`, `"label":"clc"`, `"label":"stay"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "services") {
		t.Errorf("a foreign file is checked:\n%s", out.String())
	}
}

// notices is an editor that leaves when it has been told of so many documents.
type notices struct {
	bytes.Buffer
	client io.WriteCloser
	want   int
}

func (n *notices) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("publishDiagnostics")) {
		if n.want--; n.want == 0 {
			go func() { // the server does not read while it writes
				for _, body := range []string{`{"jsonrpc":"2.0","id":9,"method":"shutdown"}`, `{"jsonrpc":"2.0","method":"exit"}`} {
					fmt.Fprintf(n.client, "Content-Length: %d\r\n\r\n%s", len(body), body)
				}
			}()
		}
	}
	return n.Buffer.Write(b)
}
