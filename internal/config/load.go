package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/yamlfault"
	"gopkg.in/yaml.v3"
)

// Lookups is what the file is checked against. The zero value checks names against nothing and reads secrets from the
// process's environment and files.
type Lookups struct {
	Env      func(name string) (string, bool)  // nil: os.LookupEnv
	ReadFile func(path string) ([]byte, error) // nil: os.ReadFile
	Models   []string                          // names of the shipped models; nil: not checked
	// Connectors returns the connectors that the configuration can use. It is called once, when everything but the
	// connections is decoded, so that ConnectorsDir and Kinds are known. Problems are added to those of the file. Nil, or a nil
	// Connectors, leaves connections unchecked.
	Connectors func(*Config) (Connectors, []Problem)
}

// Connectors is what config needs to know of a set of connectors.
type Connectors interface {
	Names() []string
	// Secret reports whether connector's key holds a secret, and whether the connector has that key at all.
	Secret(connector, key string) (secret, known bool)
	// Check returns what is wrong with a decoded connection: missing and unknown keys, bad values. The last part of a
	// problem's Path is the key; file and place are filled in by this package.
	Check(*hub.Connection) []Problem
}

// Load reads the file at path. The warnings do not keep it from being used; err joins all Problems that do. Where err is not nil the
// Config holds what could be decoded, good enough to find out where a running hub listens and for nothing else.
func Load(path string, lookups Lookups) (*Config, []Problem, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Default(), nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	read := lookups.ReadFile
	if read == nil {
		read = os.ReadFile
	}
	text, err := read(abs)
	if err != nil {
		cfg := Default()
		cfg.File = path
		return cfg, nil, Problem{File: path, Message: reason(err), Suggestion: "`stagewire init` writes one"}
	}
	return Parse(path, text, lookups)
}

// Parse is Load for a text that was read already; relative paths count from path's folder.
func Parse(path string, text []byte, lookups Lookups) (*Config, []Problem, error) {
	if lookups.Env == nil {
		lookups.Env = os.LookupEnv
	}
	if lookups.ReadFile == nil {
		lookups.ReadFile = os.ReadFile
	}
	cfg := Default()
	cfg.File = path
	if abs, err := filepath.Abs(path); err == nil {
		cfg.File = abs
	}
	d := &decoder{cfg: cfg, lookups: lookups}
	if root := d.parse(text); root != nil {
		form(cfg).decode(d, "", root)
	}
	d.decodeConnections()
	d.validate()
	cfg.DataDir = cfg.resolve(cfg.DataDir)
	if cfg.PublicURL == "" {
		cfg.PublicURL = "http://" + cfg.Listen
	}
	for i := range d.problems {
		d.problems[i].File = shown(path, cfg.File, d.problems[i].File)
	}
	for i := range d.warnings {
		d.warnings[i].File = shown(path, cfg.File, d.warnings[i].File)
	}
	return cfg, d.warnings, join(d.problems)
}

// shown names the file as the user did.
func shown(given, absolute, file string) string {
	if file == absolute || file == "" {
		return given
	}
	return file
}

// parse returns the file's one document, or nil for an empty or broken one.
func (d *decoder) parse(text []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := decodeYAML(dec, &doc); err != nil {
		if !errors.Is(err, io.EOF) {
			d.syntax(text, err)
		}
		return nil
	}
	var second yaml.Node
	if err := decodeYAML(dec, &second); err == nil {
		d.fail("", &second, "the file holds a second document", "remove the line ---")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(text, err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil
	}
	return doc.Content[0]
}

// decodeYAML reads one document. The library panics on some broken ones.
func decodeYAML(dec *yaml.Decoder, to *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	return dec.Decode(to)
}

// syntax turns the YAML library's error into a problem with a place.
func (d *decoder) syntax(text []byte, err error) {
	fault := yamlfault.Explain(string(text), err)
	d.problems = append(d.problems, Problem{
		File: d.cfg.File, Line: fault.Line, Column: fault.Column, Message: "not YAML: " + fault.Message, Suggestion: fault.Suggestion,
	})
}

// secretKey tells secrets by their name where no connector says which keys hold one.
var secretKey = regexp.MustCompile(`(^|_)(secret|token|password|passphrase|private_key|api_key)$`)

func (d *decoder) decodeConnections() {
	var known Connectors
	if d.lookups.Connectors != nil {
		var problems []Problem
		known, problems = d.lookups.Connectors(d.cfg)
		d.problems = append(d.problems, problems...)
	}
	if d.connections == nil {
		return
	}
	n := d.enter("connections", d.connections)
	if n == nil {
		return
	}
	d.pairs("connections", n, func(connection string, k, v *yaml.Node) {
		path := child("connections", connection)
		if message, suggestion := name(connection); message != "" {
			d.fail(path, k, message, suggestion)
			return
		}
		if connection == hub.OwnConnection {
			d.fail(path, k, "this name is the hub's own", "choose another")
			return
		}
		d.connection(path, connection, k, v, known)
	})
}

func (d *decoder) connection(path, connection string, k, n *yaml.Node, known Connectors) {
	if n = d.enter(path, n); n == nil {
		return
	}
	c := &hub.Connection{Name: connection, Mode: "webhook", Settings: map[string]string{}, Secrets: map[string][]hub.Secret{}}
	keys := map[string]*yaml.Node{}
	var own []string // the connector's keys, in the order of the file
	before := len(d.problems)
	if !d.pairs(path, n, func(key string, k, v *yaml.Node) {
		at := child(path, key)
		keys[key] = k
		switch key {
		case "connector":
			keys["connector="] = v
			text(&c.Connector, notEmpty).decode(d, at, v)
		case "mode":
			oneOf(&c.Mode, "webhook", "poll").decode(d, at, v)
		case "base_url":
			text(&c.BaseURL, func(s string) (string, string) {
				_, message := parseURL(s, []string{"https", "http"})
				return message, ""
			}).decode(d, at, v)
		case "allow_private_addresses":
			boolean(&c.AllowPrivate).decode(d, at, v)
		default:
			own = append(own, key)
			keys[key+"="] = v
		}
	}) {
		return
	}
	if c.Connector == "" {
		if keys["connector"] != nil {
			return
		}
		for _, key := range own {
			if meant := Nearest(key, []string{"connector"}); meant != "" {
				d.fail(child(path, key), keys[key], "unknown key", meant)
				return
			}
		}
		d.fail(child(path, "connector"), k, "is missing", "which vendor is it? `stagewire connectors` lists them")
		return
	}
	exists := known == nil
	if known != nil {
		for _, name := range known.Names() {
			exists = exists || name == c.Connector
		}
		if !exists {
			d.fail(child(path, "connector"), keys["connector="], fmt.Sprintf("no connector is called %q", shorten(c.Connector)), Nearest(c.Connector, known.Names()))
		}
	}
	for _, key := range own {
		d.connectionKey(c, child(path, key), key, keys[key+"="], known)
	}
	d.cfg.Connections[connection] = c
	if known == nil || !exists || len(d.problems) > before {
		return // the connector would only say again that a broken value is missing
	}
	for _, p := range known.Check(c) {
		key := lastPart(p.Path)
		at := keys[key]
		if at == nil {
			at = k
		}
		where := path
		if key != "" {
			where = child(path, key)
		}
		d.fail(where, at, p.Message, p.Suggestion)
	}
}

func lastPart(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' {
			return path[i+1:]
		}
	}
	return path
}

// connectionKey decodes one of the connector's own keys into Settings or Secrets.
func (d *decoder) connectionKey(c *hub.Connection, path, key string, v *yaml.Node, known Connectors) {
	isSecret := secretKey.MatchString(key)
	if known != nil {
		if s, ok := known.Secret(c.Connector, key); ok {
			isSecret = s
		}
	}
	if isSecret {
		var secrets []hub.Secret
		oneOrMany(&secrets, secret).decode(d, path, v)
		c.Secrets[key] = secrets
		return
	}
	var setting string
	text(&setting).decode(d, path, v)
	c.Settings[key] = setting
}
