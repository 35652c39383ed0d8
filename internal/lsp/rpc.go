package lsp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bounds on what a client can send.
const (
	maxFrame     = 8 << 20 // bytes
	maxHeader    = 4 << 10
	maxDocuments = 500
	maxText      = 2 << 20 // bytes of one document
)

// message is a request (with id), a notification (without), or a response.
type message struct {
	JSONRPC string         `json:"jsonrpc"`
	ID      jsontext.Value `json:"id,omitempty"`
	Method  string         `json:"method,omitempty"`
	Params  jsontext.Value `json:"params,omitempty"`
	Result  jsontext.Value `json:"result,omitempty"`
	Error   *responseError `json:"error,omitempty"`
}

type responseError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Codes of JSON-RPC and the protocol.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeMethodNotFound = -32601
	codeInvalidParams  = -32602
	codeNotInitialized = -32002
)

// errFrame says that the stream is not made of frames: nothing can be read from it any more.
var errFrame = errors.New("no frame of the language server protocol")

// readFrame returns the body of the next frame. It gives io.EOF at the end of the stream.
func readFrame(r *bufio.Reader) ([]byte, error) {
	length, header := -1, 0
	for {
		line, err := r.ReadSlice('\n')
		if header += len(line); err != nil || header > maxHeader {
			if errors.Is(err, io.EOF) && header == 0 {
				return nil, io.EOF
			}
			return nil, fmt.Errorf("%w: header of more than %d bytes, or cut off", errFrame, maxHeader)
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			break
		}
		name, value, _ := strings.Cut(text, ":")
		if !strings.EqualFold(strings.TrimSpace(name), "Content-Length") {
			continue
		}
		if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil || length < 0 || length > maxFrame {
			return nil, fmt.Errorf("%w: Content-Length %.40q, at most %d", errFrame, value, maxFrame)
		}
	}
	if length < 0 {
		return nil, fmt.Errorf("%w: Content-Length is missing", errFrame)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("%w: cut off: %w", errFrame, err)
	}
	return body, nil
}

// writer sends frames.
type writer struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *writer) send(m message) error {
	m.JSONRPC = "2.0"
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = fmt.Fprintf(w.w, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return err
}

// answer sends the result of a request.
func (w *writer) answer(id jsontext.Value, result any) error {
	value, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return w.send(message{ID: id, Result: value})
}

func (w *writer) refuse(id jsontext.Value, code int, text string) error {
	if id == nil {
		id = jsontext.Value("null")
	}
	return w.send(message{ID: id, Error: &responseError{code, text}})
}

func (w *writer) notify(method string, params any) error {
	value, err := json.Marshal(params)
	if err != nil {
		return err
	}
	return w.send(message{Method: method, Params: value})
}
