package lsp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/go-json-experiment/json"
)

// Diagnostic is one mistake or piece of advice, as check has it.
type Diagnostic struct {
	File         string // "" for the document itself
	Line, Column int    // characters from 1; 0 for the file as a whole
	Message      string
	Code         string // the linter's check, "" for a mistake
	Warning      bool
}

// Project is what the server knows of the files it is asked about.
type Project interface {
	// Check returns what is wrong with the text of the file at path.
	Check(path string, text []byte) []Diagnostic
	// Describe says what the file is and what can stand in it.
	Describe(path string, text []byte) Vocabulary
}

// Server answers one editor. Its zero value needs a Project.
type Server struct {
	Project Project
	Version string

	out         *writer
	documents   map[string]string   // by URI
	published   map[string][]string // by URI of the document: where diagnostics of its check stand
	dirty       []string
	initialized bool
	shutdown    bool
}

// Run serves until the client says exit, the stream ends or ctx does. It returns an error where the stream breaks or the client leaves
// without a shutdown.
func (s *Server) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	s.out, s.documents, s.published = &writer{w: out}, map[string]string{}, map[string][]string{}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	type frame struct {
		body []byte
		err  error
	}
	frames := make(chan frame, 16)
	go func() { // ends with the stream, or with the next frame after Run
		r := bufio.NewReaderSize(in, maxHeader)
		for {
			body, err := readFrame(r)
			select {
			case frames <- frame{body, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		var f frame
		if len(s.dirty) > 0 {
			select {
			case f = <-frames:
			default:
				if err := s.checkNext(); err != nil {
					return err
				}
				continue
			}
		} else {
			select {
			case f = <-frames:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if errors.Is(f.err, io.EOF) {
			if s.shutdown {
				return nil
			}
			return fmt.Errorf("the client left without a shutdown: %w", f.err)
		}
		if f.err != nil {
			return f.err
		}
		var m message
		if err := json.Unmarshal(f.body, &m); err != nil || m.Method == "" && m.ID == nil {
			if err := s.out.refuse(nil, codeParse, "this is no JSON-RPC message"); err != nil {
				return err
			}
			continue
		}
		if m.Method == "exit" {
			if s.shutdown {
				return nil
			}
			return errors.New("the client left without a shutdown")
		}
		if err := s.handle(m); err != nil {
			return err
		}
	}
}

type position struct {
	Line      int `json:"line"`
	Character int `json:"character"`
}

type textRange struct {
	Start position `json:"start"`
	End   position `json:"end"`
}

type documentParams struct {
	TextDocument struct {
		URI  string `json:"uri"`
		Text string `json:"text"`
	} `json:"textDocument"`
	ContentChanges []struct {
		Range *textRange `json:"range"`
		Text  string     `json:"text"`
	} `json:"contentChanges"`
	Position position `json:"position"`
}

// handle answers one message. The error is one of the stream.
func (s *Server) handle(m message) error {
	request := m.ID != nil
	var p documentParams
	if strings.HasPrefix(m.Method, "textDocument/") {
		if err := json.Unmarshal(m.Params, &p); err != nil {
			if request {
				return s.out.refuse(m.ID, codeInvalidParams, "the parameters cannot be read")
			}
			return nil
		}
	}
	switch {
	case m.Method == "":
		return nil // an answer: nothing was asked
	case m.Method == "initialize":
		s.initialized = true
		return s.out.answer(m.ID, map[string]any{
			"capabilities": map[string]any{
				"textDocumentSync":   map[string]any{"openClose": true, "change": 1, "save": true},
				"completionProvider": map[string]any{"triggerCharacters": []string{".", "\"", ":", " ", "("}},
				"hoverProvider":      true,
			},
			"serverInfo": map[string]any{"name": "stagewire", "version": s.Version},
		})
	case !s.initialized && request:
		return s.out.refuse(m.ID, codeNotInitialized, "initialize comes first")
	case s.shutdown && request:
		return s.out.refuse(m.ID, codeInvalidRequest, "after shutdown comes exit")
	}
	switch m.Method {
	case "shutdown":
		s.shutdown = true
		return s.out.answer(m.ID, nil)
	case "textDocument/didOpen":
		s.put(p.TextDocument.URI, p.TextDocument.Text)
	case "textDocument/didChange":
		if n := len(p.ContentChanges); n > 0 && p.ContentChanges[n-1].Range == nil {
			s.put(p.TextDocument.URI, p.ContentChanges[n-1].Text)
		}
	case "textDocument/didSave":
		for uri := range s.documents { // others may name this file
			s.mark(uri)
		}
	case "textDocument/didClose":
		return s.closed(p.TextDocument.URI)
	case "textDocument/completion", "textDocument/hover":
		text, ok := s.documents[p.TextDocument.URI]
		if !ok {
			return s.out.refuse(m.ID, codeInvalidParams, "the document is not open")
		}
		c := newCursor(text, p.Position, s.Project.Describe(pathOf(p.TextDocument.URI), []byte(text)))
		if m.Method == "textDocument/hover" {
			return s.out.answer(m.ID, c.hover())
		}
		return s.out.answer(m.ID, map[string]any{"isIncomplete": false, "items": c.complete()})
	default:
		if request {
			return s.out.refuse(m.ID, codeMethodNotFound, m.Method+" is not supported")
		}
	}
	return nil
}

func (s *Server) put(uri, text string) {
	if _, open := s.documents[uri]; len(text) > maxText || !open && len(s.documents) >= maxDocuments {
		return
	}
	s.documents[uri] = text
	s.mark(uri)
}

func (s *Server) mark(uri string) {
	if !slices.Contains(s.dirty, uri) {
		s.dirty = append(s.dirty, uri)
		slices.Sort(s.dirty)
	}
}

func (s *Server) closed(uri string) error {
	delete(s.documents, uri)
	s.dirty = slices.DeleteFunc(s.dirty, func(u string) bool { return u == uri })
	for _, at := range s.published[uri] {
		if err := s.publish(at, nil); err != nil {
			return err
		}
	}
	delete(s.published, uri)
	return nil
}

type diagnostic struct {
	Range    textRange `json:"range"`
	Severity int       `json:"severity"` // 1 error, 2 warning
	Code     string    `json:"code,omitempty"`
	Source   string    `json:"source"`
	Message  string    `json:"message"`
}

func (s *Server) publish(uri string, list []diagnostic) error {
	if list == nil {
		list = []diagnostic{}
	}
	return s.out.notify("textDocument/publishDiagnostics", map[string]any{"uri": uri, "diagnostics": list})
}

// checkNext checks one document that changed and publishes what is found, of other files that it names too.
func (s *Server) checkNext() error {
	uri := s.dirty[0]
	s.dirty = s.dirty[1:]
	text := s.documents[uri]
	path := pathOf(uri)
	byURI := map[string][]diagnostic{uri: nil}
	for _, at := range s.published[uri] {
		byURI[at] = nil
	}
	for _, d := range s.Project.Check(path, []byte(text)) {
		at, lines := uri, strings.Split(text, "\n")
		if d.File != "" && d.File != path {
			if at = uriOf(d.File); at != uri {
				lines = strings.Split(s.documents[at], "\n")
			}
		}
		severity := 1
		if d.Warning {
			severity = 2
		}
		byURI[at] = append(byURI[at], diagnostic{word(lines, d.Line, d.Column), severity, d.Code, "stagewire", d.Message})
	}
	s.published[uri] = slices.Sorted(maps.Keys(byURI))
	for _, at := range s.published[uri] {
		if err := s.publish(at, byURI[at]); err != nil {
			return err
		}
	}
	return nil
}

// word returns the range of the word, number or text in quotes that begins at a place; of the whole line for column 0.
func word(lines []string, line, column int) textRange {
	line = max(line, 1)
	if line > len(lines) {
		return textRange{position{line - 1, max(0, column-1)}, position{line - 1, max(0, column-1)}}
	}
	text := []rune(strings.TrimRight(lines[line-1], "\r"))
	from := min(max(column-1, 0), len(text))
	to := from
	switch {
	case column == 0:
		to = len(text)
	case from < len(text) && (text[from] == '"' || text[from] == '\''):
		to = len(text)
		if end := slices.Index(text[from+1:], text[from]); end >= 0 {
			to = from + 1 + end + 1
		}
	default:
		for to < len(text) && isWord(text[to]) {
			to++
		}
		to = min(max(to, from+1), len(text))
	}
	return textRange{position{line - 1, units(text[:from])}, position{line - 1, units(text[:to])}}
}

func isWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 127
}

// units is the length in UTF-16, which the protocol counts in.
func units(text []rune) int { return len(utf16.Encode(text)) }

// pathOf returns the path of a file: URI, "" for any other.
func pathOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" {
		return ""
	}
	path := u.Path
	if len(path) > 2 && path[0] == '/' && path[2] == ':' { // /C:/…
		path = path[1:]
	}
	return filepath.FromSlash(path)
}

// uriOf is the reverse.
func uriOf(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}
