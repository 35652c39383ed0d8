package config

import (
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"gopkg.in/yaml.v3"
)

// maxNodes bounds what a file may expand to through YAML aliases.
const maxNodes = 200_000

// decoder walks the nodes of one file and collects everything that is wrong with it.
type decoder struct {
	cfg      *Config
	lookups  Lookups
	problems []Problem
	warnings []Problem
	nodes    int

	connections *yaml.Node // decoded last: their connectors may come from connectors_dir
}

// value is one kind of value: how it is read, and how JSON Schema says it.
type value struct {
	schema map[string]any
	decode func(d *decoder, path string, n *yaml.Node)
}

// field is one key of a mapping.
type field struct {
	key, doc string
	required bool
	value    value
}

func (d *decoder) fail(path string, n *yaml.Node, message, suggestion string) {
	d.problems = append(d.problems, d.problem(path, n, message, suggestion))
}

func (d *decoder) warn(path string, n *yaml.Node, message, suggestion string) {
	d.warnings = append(d.warnings, d.problem(path, n, message, suggestion))
}

func (d *decoder) problem(path string, n *yaml.Node, message, suggestion string) Problem {
	p := Problem{File: d.cfg.File, Path: path, Message: message, Suggestion: suggestion}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
	}
	return p
}

// enter notes where path stands and follows aliases. It gives nil once the file has expanded to too much.
func (d *decoder) enter(path string, n *yaml.Node) *yaml.Node {
	d.nodes++
	if d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.fail(path, n, fmt.Sprintf("the file expands to more than %d values", maxNodes), "use fewer aliases")
		}
		return nil
	}
	d.cfg.places[path] = Place{n.Line, n.Column}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		if isNull(n) {
			return "nothing"
		}
		return "a single value" // not which: it may be a password in the wrong place
	}
}

func shorten(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:57], "") + "…"
	}
	return s
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// pairs calls fn for each key of a mapping, once: a key given twice is a problem. It reports false where n is no mapping.
func (d *decoder) pairs(path string, n *yaml.Node, fn func(key string, k, v *yaml.Node)) bool {
	if isNull(n) {
		return true
	}
	if n.Kind != yaml.MappingNode {
		d.fail(path, n, "want a mapping, have "+describe(n), "")
		return false
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			d.fail(path, n.Content[i], "a key must be a word, have "+describe(k), "")
			continue
		}
		if k.Tag == "!!merge" {
			d.fail(path, k, "merge keys (<<) are not supported", "write the keys out, or use an alias for a whole value")
			continue
		}
		if seen[k.Value] {
			d.fail(child(path, k.Value), k, "is given twice", "")
			continue
		}
		seen[k.Value] = true
		fn(k.Value, n.Content[i], v)
	}
	return true
}

// object is a mapping with exactly these keys.
func object(fields ...field) value {
	properties, required := map[string]any{}, []string{}
	names := make([]string, len(fields))
	for i, f := range fields {
		s := map[string]any{}
		maps.Copy(s, f.value.schema)
		s["description"] = f.doc
		properties[f.key], names[i] = s, f.key
		if f.required {
			required = append(required, f.key)
		}
	}
	schema := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		schema["required"] = required
	}
	return value{schema, func(d *decoder, path string, n *yaml.Node) {
		if n = d.enter(path, n); n == nil {
			return
		}
		found := map[string]bool{}
		ok := d.pairs(path, n, func(key string, k, v *yaml.Node) {
			i := slices.Index(names, key)
			if i < 0 {
				suggestion := Nearest(key, names)
				if suggestion == "" && path != "" {
					suggestion = "known here: " + strings.Join(names, ", ")
				}
				d.fail(child(path, key), k, "unknown key", suggestion)
				return
			}
			found[key] = true
			fields[i].value.decode(d, child(path, key), v)
		})
		for _, name := range required {
			if ok && !found[name] {
				d.fail(child(path, name), n, "is missing", "")
			}
		}
	}}
}

// each is a list whose elements are made by element.
func each[T any](to *[]T, element func(*T) value) value {
	var sample T
	schema := map[string]any{"type": "array", "items": element(&sample).schema}
	return value{schema, func(d *decoder, path string, n *yaml.Node) {
		if n = d.enter(path, n); n == nil || isNull(n) {
			return
		}
		if n.Kind != yaml.SequenceNode {
			d.fail(path, n, "want a list, have "+describe(n), "put a dash and a space before each element")
			return
		}
		list := make([]T, 0, min(len(n.Content), 1024))
		for i, c := range n.Content {
			var t T
			element(&t).decode(d, fmt.Sprintf("%s[%d]", path, i), c)
			list = append(list, t)
		}
		*to = list
	}}
}

// oneOrMany is a list that may be written as its single element.
func oneOrMany[T any](to *[]T, element func(*T) value) value {
	var sample T
	one := element(&sample)
	many := each(to, element)
	schema := map[string]any{"oneOf": []any{one.schema, many.schema}}
	return value{schema, func(d *decoder, path string, n *yaml.Node) {
		at := n
		for at.Kind == yaml.AliasNode {
			at = at.Alias
		}
		if at.Kind == yaml.SequenceNode {
			many.decode(d, path, n)
			return
		}
		var t T
		element(&t).decode(d, path, n)
		*to = []T{t}
	}}
}

// entries is a mapping whose keys are names of the user's own. entry gives the kind of value of one name.
func entries(valueSchema map[string]any, entry func(d *decoder, path, name string, k, v *yaml.Node)) value {
	schema := map[string]any{"type": "object", "additionalProperties": valueSchema}
	return value{schema, func(d *decoder, path string, n *yaml.Node) {
		if n = d.enter(path, n); n == nil {
			return
		}
		d.pairs(path, n, func(name string, k, v *yaml.Node) { entry(d, child(path, name), name, k, v) })
	}}
}

var reference = regexp.MustCompile(`^\$\{(env|file):([^{}]+)\}$`)

// scalar returns a scalar's text with ${env:…} and ${file:…} resolved. It has reported what is wrong where ok is false.
func (d *decoder) scalar(path string, n *yaml.Node) (text string, referred, ok bool) {
	if n = d.enter(path, n); n == nil {
		return "", false, false
	}
	if n.Kind != yaml.ScalarNode {
		d.fail(path, n, "want one value, have "+describe(n), "")
		return "", false, false
	}
	if isNull(n) {
		d.fail(path, n, "has no value", `write "" for an empty one, or leave the key out`)
		return "", false, false
	}
	m := reference.FindStringSubmatch(n.Value)
	if m == nil {
		if strings.Contains(n.Value, "${env:") || strings.Contains(n.Value, "${file:") {
			d.fail(path, n, "a reference must be the whole value", `such as "${env:NAME}" or "${file:/path}"`)
			return "", false, false
		}
		return n.Value, false, true
	}
	if m[1] == "env" {
		text, set := d.lookups.Env(m[2])
		switch {
		case !set:
			d.fail(path, n, "environment variable "+m[2]+" is not set", "set it, or use ${file:/path}")
		case text == "":
			d.fail(path, n, "environment variable "+m[2]+" is empty", "")
		}
		return text, true, set && text != ""
	}
	raw, err := d.lookups.ReadFile(d.cfg.resolve(m[2]))
	if err != nil {
		d.fail(path, n, "file "+m[2]+" cannot be read: "+reason(err), "")
		return "", true, false
	}
	text = strings.TrimRight(string(raw), "\r\n")
	if text == "" {
		d.fail(path, n, "file "+m[2]+" is empty", "")
	}
	return text, true, text != ""
}

// reason is an error of the file system without the path that the message names already.
func reason(err error) string {
	switch {
	case os.IsNotExist(err):
		return "it does not exist"
	case os.IsPermission(err):
		return "permission denied"
	default:
		return err.Error()
	}
}

// check says what is wrong with a text; "" for nothing.
type check func(text string) (message, suggestion string)

func text(to *string, checks ...check) value {
	return parsed(map[string]any{"type": "string"}, func(s string) (string, string) {
		for _, c := range checks {
			if message, suggestion := c(s); message != "" {
				return message, suggestion
			}
		}
		*to = s
		return "", ""
	})
}

// parsed is a scalar that set takes or refuses.
func parsed(schema map[string]any, set check) value {
	return value{schema, func(d *decoder, path string, n *yaml.Node) {
		s, referred, ok := d.scalar(path, n)
		if !ok {
			return
		}
		message, suggestion := set(s)
		if message != "" && referred { // do not show what it refers to
			message, suggestion = "what it refers to is no legal value here", ""
		}
		if message != "" {
			d.fail(path, n, message, suggestion)
		}
	}}
}

func oneOf[T ~string](to *T, allowed ...T) value {
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	return parsed(map[string]any{"enum": names}, func(s string) (string, string) {
		if !slices.Contains(names, s) {
			suggestion := Nearest(s, names)
			return fmt.Sprintf("%q is none of %s", shorten(s), strings.Join(names, ", ")), suggestion
		}
		*to = T(s)
		return "", ""
	})
}

func boolean(to *bool) value {
	return parsed(map[string]any{"type": "boolean"}, func(s string) (string, string) {
		switch s {
		case "true":
			*to = true
		case "false":
			*to = false
		default:
			return fmt.Sprintf("want true or false, have %q", shorten(s)), ""
		}
		return "", ""
	})
}

func integer(to *int, low, high int) value {
	return parsed(map[string]any{"type": "integer", "minimum": low, "maximum": high}, func(s string) (string, string) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return fmt.Sprintf("want a whole number from %d to %d, have %q", low, high, shorten(s)), ""
		}
		*to = n
		return "", ""
	})
}

// durationPattern is the schema's form of ParseDuration.
const durationPattern = `^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$`

var (
	durationForm = regexp.MustCompile(durationPattern)
	durationPart = regexp.MustCompile(`([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)`)
)

// ParseDuration reads "90s", "15m", "1h30m", "30d" or "2w"; a day is 24 hours.
func ParseDuration(s string) (time.Duration, error) {
	if !durationForm.MatchString(s) {
		return 0, fmt.Errorf("want a duration such as 90s, 15m, 1h, 30d or 2w, have %q: %w", shorten(s), hub.ErrInvalid)
	}
	units := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day}
	total := 0.0
	for _, m := range durationPart.FindAllStringSubmatch(s, -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return 0, fmt.Errorf("duration %q: %w: %w", shorten(s), err, hub.ErrInvalid)
		}
		total += n * float64(units[m[2]])
	}
	if total > math.MaxInt64/2 {
		return 0, fmt.Errorf("duration %q is longer than 146 years: %w", shorten(s), hub.ErrInvalid)
	}
	return time.Duration(total), nil
}

func duration(to *time.Duration, low time.Duration) value {
	return parsed(map[string]any{"type": "string", "pattern": durationPattern}, func(s string) (string, string) {
		v, err := ParseDuration(s)
		if err != nil {
			return plain(err), ""
		}
		if v < low {
			return fmt.Sprintf("%s is shorter than the least, %s", s, low), ""
		}
		*to = v
		return "", ""
	})
}

// plain is an error's text without its kind.
func plain(err error) string { return strings.TrimSuffix(err.Error(), ": "+hub.ErrInvalid.Error()) }

var sizeForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?(%|[KMGT]i?B|B)?$`)

func parseSize(s string) (Size, error) {
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return Size{}, fmt.Errorf("want a size such as 512MiB, 1GiB or 5%%, have %q: %w", shorten(s), hub.ErrInvalid)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return Size{}, fmt.Errorf("size %q: %w: %w", shorten(s), err, hub.ErrInvalid)
	}
	if m[2] == "%" {
		if n > 100 {
			return Size{}, fmt.Errorf("%q is more than the whole: %w", s, hub.ErrInvalid)
		}
		return Size{Share: n / 100}, nil
	}
	units := map[string]float64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}
	if n *= units[m[2]]; n > 1<<60 {
		return Size{}, fmt.Errorf("size %q is too large: %w", shorten(s), hub.ErrInvalid)
	}
	return Size{Bytes: int64(n)}, nil
}

func size(to *Size) value {
	return parsed(map[string]any{"type": []string{"string", "integer"}}, func(s string) (string, string) {
		v, err := parseSize(s)
		if err != nil {
			return plain(err), ""
		}
		*to = v
		return "", ""
	})
}

func bytesUpTo(to *int64, low, high int64) value {
	return parsed(map[string]any{"type": []string{"string", "integer"}}, func(s string) (string, string) {
		v, err := parseSize(s)
		if err != nil {
			return plain(err), ""
		}
		if v.Share > 0 || v.Bytes < low || v.Bytes > high {
			return fmt.Sprintf("want a size from %d bytes to %d bytes, have %q", low, high, s), ""
		}
		*to = v.Bytes
		return "", ""
	})
}

var secretSchema = map[string]any{"type": "string"}

// secret is a value that should not stand in the file itself.
func secret(to *hub.Secret) value {
	return value{secretSchema, func(d *decoder, path string, n *yaml.Node) {
		s, referred, ok := d.scalar(path, n)
		if !ok {
			return
		}
		if !referred && s != "" {
			d.warnPlain(path, n)
		}
		*to = hub.NewSecret(s)
	}}
}

func (d *decoder) warnPlain(path string, n *yaml.Node) {
	d.warn(path, n, "a secret stands in the file in plain", `use "${env:NAME}" or "${file:/path}"`)
}

// secretURL is an address that may hold a password. One without is no secret and gets no warning.
func secretURL(to *hub.Secret, schemes ...string) value {
	return value{secretSchema, func(d *decoder, path string, n *yaml.Node) {
		s, referred, ok := d.scalar(path, n)
		if !ok || s == "" {
			return
		}
		for one := range strings.SplitSeq(s, ",") { // a NATS cluster is given as several
			u, message := parseURL(strings.TrimSpace(one), schemes)
			if message != "" {
				d.fail(path, n, message, "")
				return
			}
			if _, has := u.User.Password(); has && !referred {
				d.warnPlain(path, n)
			}
		}
		*to = hub.NewSecret(s)
	}}
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
