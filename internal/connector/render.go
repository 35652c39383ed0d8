package connector

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/hub"
)

// template is text with ${expressions}; everything else in it is literal.
type template struct {
	parts  []templatePart
	escape escape
	place  Problem
}

type templatePart struct {
	text string
	*expression
}

// escape says how the values of a template are made safe where they are put.
type escape int

const (
	plainEscape escape = iota
	pathEscape         // path segments, and query values behind the ?
)

// template reads the scalar at a; nil where it is absent.
func (l *loader) template(a at, env any, esc escape) *template {
	if a.absent() {
		return nil
	}
	text := a.text()
	t := &template{escape: esc, place: Problem{File: a.file, Line: a.node.Line, Column: a.node.Column, Path: a.path}}
	rest, offset := text, 0
	for {
		start := strings.Index(rest, "${")
		if start < 0 {
			if rest != "" {
				t.parts = append(t.parts, templatePart{text: rest})
			}
			return t
		}
		if start > 0 {
			t.parts = append(t.parts, templatePart{text: rest[:start]})
		}
		end := expressionEnd(rest[start+2:])
		if end < 0 {
			a.problem("", "${ is not closed")
			return t
		}
		inner := rest[start+2 : start+2+end]
		if x := a.compile(inner, offset+start+2, env, wantsAny); x != nil {
			t.parts = append(t.parts, templatePart{expression: x})
		}
		offset += start + 2 + end + 1
		rest = rest[start+2+end+1:]
	}
}

// expressionEnd finds the } that closes an expression, stepping over strings and nested braces.
func expressionEnd(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\'', '`':
			for i++; i < len(s) && s[i] != c; i++ {
				if s[i] == '\\' && c != '`' {
					i++
				}
			}
		case '{':
			depth++
		case '}':
			if depth == 0 {
				return i
			}
			depth--
		}
	}
	return -1
}

// text renders t; nil renders "".
func (t *template) text(env any) (string, error) {
	if t == nil {
		return "", nil
	}
	var b strings.Builder
	inQuery := false
	for i := range t.parts {
		p := &t.parts[i]
		if p.expression == nil {
			b.WriteString(p.text)
			inQuery = inQuery || strings.Contains(p.text, "?")
			continue
		}
		s, err := p.string(env)
		if err != nil {
			return "", err
		}
		if t.escape == pathEscape {
			if !inQuery && s == "" {
				return "", p.errorf("a part of the path is empty")
			}
			if inQuery {
				s = url.QueryEscape(s)
			} else {
				s = strings.ReplaceAll(url.PathEscape(s), "..", "%2E%2E") // a value cannot climb the path
			}
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// tree is a body: a YAML tree whose texts (and keys) are templates. A text that is one ${expression} and nothing else gives the value
// itself, typed; where that is nil, its key is left out. A literal null is sent.
type tree struct {
	keys   []*template
	values []*tree
	list   bool
	fixed  any
	value  *expression
	text   *template
}

func (l *loader) tree(a at, env any) *tree {
	if a.node == nil {
		return nil
	}
	switch a.node.Kind {
	case yaml.MappingNode:
		t := &tree{}
		for _, e := range a.entries() {
			t.keys = append(t.keys, l.template(e.keyAt, env, plainEscape))
			t.values = append(t.values, l.tree(e.at, env))
		}
		return t
	case yaml.SequenceNode:
		t := &tree{list: true}
		for _, x := range a.list() {
			t.values = append(t.values, l.tree(x, env))
		}
		return t
	case yaml.ScalarNode:
		return l.leaf(a, env)
	}
	a.problem("", "anchors and aliases are not supported")
	return nil
}

func (l *loader) leaf(a at, env any) *tree {
	if a.node.Tag != "!!str" {
		var v any
		if err := a.node.Decode(&v); err != nil {
			a.problem("", "cannot be read")
		}
		switch x := v.(type) {
		case time.Time: // YAML's own timestamps: keep the text
			v = a.node.Value
		case float64:
			if math.IsInf(x, 0) || math.IsNaN(x) {
				a.problem("", "is not a number JSON has")
				v = nil
			}
		}
		return &tree{fixed: v}
	}
	t := l.template(a, env, plainEscape)
	if t != nil && len(t.parts) == 1 && t.parts[0].expression != nil {
		return &tree{value: t.parts[0].expression}
	}
	return &tree{text: t}
}

// render gives the value to encode. It reports false for a value that is to be left out.
func (t *tree) render(env any) (any, bool, error) {
	switch {
	case t == nil:
		return nil, true, nil
	case t.value != nil:
		v, err := t.value.run(env)
		if err != nil {
			return nil, false, err
		}
		if at, ok := v.(time.Time); ok {
			if at.IsZero() {
				return nil, false, nil
			}
			v = at.UTC().Format("2006-01-02T15:04:05.000Z")
		}
		if m, ok := v.(hub.Money); ok {
			v = m.Amount.String()
		}
		return v, v != nil, nil
	case t.text != nil:
		s, err := t.text.text(env)
		return s, true, err
	case t.list:
		out := make([]any, 0, len(t.values))
		for _, x := range t.values {
			v, ok, err := x.render(env)
			if err != nil {
				return nil, false, err
			}
			if ok {
				out = append(out, v)
			}
		}
		return out, true, nil
	case t.values != nil || t.keys != nil:
		out := make(map[string]any, len(t.values))
		for i, x := range t.values {
			k, err := t.keys[i].text(env)
			if err != nil {
				return nil, false, err
			}
			v, ok, err := x.render(env)
			if err != nil {
				return nil, false, err
			}
			if ok {
				out[k] = v
			}
		}
		return out, true, nil
	default:
		return t.fixed, true, nil
	}
}

// requestTemplate is one HTTP request of the manifest.
type requestTemplate struct {
	method  string
	host    string
	path    *template
	headers []headerTemplate
	body    *tree
}

type headerTemplate struct {
	name string
	*template
}

// requestKeys are the keys of a request, wherever one stands.
var requestKeys = []string{"method", "host", "path", "headers", "body"}

func (l *loader) request(o map[string]at, c *Connector, env any) *requestTemplate {
	r := &requestTemplate{host: o["host"].text(), path: l.template(o["path"], env, pathEscape)}
	if r.path == nil {
		o["path"].problem("", "a request needs a path")
	} else if len(r.path.parts) == 0 || !strings.HasPrefix(r.path.parts[0].text, "/") {
		o["path"].problem("", "a path starts with /")
	}
	host := r.host
	if host == "" {
		host = "api"
	}
	if _, ok := c.hosts[host]; !ok {
		o["host"].problem(suggest(host, sortedKeys(c.hosts)), "%q is not under hosts", host)
	}
	for _, e := range o["headers"].entries() {
		r.headers = append(r.headers, headerTemplate{e.key, l.template(e.at, env, plainEscape)})
	}
	if !o["body"].absent() {
		r.body = l.tree(o["body"], env)
	}
	fallback := "GET"
	if r.body != nil {
		fallback = "POST"
	}
	r.method = o["method"].oneOf(fallback, "GET", "POST", "PUT", "PATCH", "DELETE")
	return r
}

func (r *requestTemplate) render(env any) (Request, error) {
	path, err := r.path.text(env)
	if err != nil {
		return Request{}, err
	}
	req := Request{Method: r.method, Path: path, Host: r.host, Header: map[string]string{}}
	for _, h := range r.headers {
		v, err := h.text(env)
		if err != nil {
			return Request{}, err
		}
		if v = strings.NewReplacer("\r", " ", "\n", " ").Replace(v); v != "" {
			req.Header[h.name] = v
		}
	}
	if r.body == nil {
		return req, nil
	}
	v, _, err := r.body.render(env)
	if err != nil {
		return Request{}, err
	}
	if req.Body, err = json.Marshal(v, json.Deterministic(true)); err != nil {
		return Request{}, fmt.Errorf("%s:%d: %s: the body cannot be encoded: %w", r.path.place.File, r.path.place.Line, r.path.place.Path, hub.ErrInvalid)
	}
	req.ContentType = "application/json"
	return req, nil
}

// retryAfter reads a Retry-After header: seconds or a date, which is measured from the answer's own Date. 0 where
// there is none or it is past.
func retryAfter(resp Response) time.Duration {
	v := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseFloat(v, 64); err == nil {
		if !(n > 0) {
			return 0
		}
		return time.Duration(min(n, 7*86400) * float64(time.Second))
	}
	at, err := time.Parse(time.RFC1123, v)
	if err != nil {
		return 0
	}
	now, err := time.Parse(time.RFC1123, resp.Header.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), 7*24*time.Hour)
}
