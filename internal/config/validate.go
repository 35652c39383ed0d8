package config

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// internalKinds can be subscribed to though no connector makes them (API.md, callback contract).
var internalKinds = []string{"stage.entered", "customer.merged", "customer.unmerged", "customer.erased", "pin.set", "pin.released"}

// Catalogue returns the built-in kinds and those of the configuration.
func (c *Config) Catalogue() *hub.Kinds { return hub.Catalogue.With(c.Kinds...) }

// validate checks what no single key can see.
func (d *decoder) validate() {
	c := d.cfg
	fail := func(path, message, suggestion string) {
		d.problems = append(d.problems, c.Problem(path, message, suggestion))
	}
	warn := func(path, message, suggestion string) {
		d.warnings = append(d.warnings, c.Problem(path, message, suggestion))
	}
	if c.AdminListen != "" && c.AdminListen == c.Listen {
		fail("admin_listen", "is the same address as listen", "leave it out to serve both there")
	}
	if c.PublicURL == "" && len(c.Connections) > 0 && !loopback(c.Listen) {
		warn("listen", "public_url is not set, so signatures over the URL are checked against http://"+c.Listen, "set public_url to what vendors call")
	}
	if c.NATS.URL.IsZero() && c.NATS.Replicas > 1 {
		fail("nats.replicas", "the embedded server keeps one copy", "set nats.url to use a cluster")
	}

	models := d.validateModels(fail)
	kinds := c.Catalogue()
	d.validateSubscriptions(fail, warn, kinds, models)
	connections := sorted(c.Connections)
	targets := map[string]string{}
	for i := range c.Write {
		w := &c.Write[i]
		if c.Connections[w.Connection] == nil {
			fail("write."+w.Connection, fmt.Sprintf("no connection is called %q", w.Connection), Nearest(w.Connection, connections))
		}
		if message, suggestion := unknownModel(w.Model, models); message != "" {
			fail(w.Path+".model", message, suggestion)
		}
		target := w.Connection + "." + w.Field + "#" + w.Tag
		if other := targets[target]; other != "" {
			fail(w.Path, "writes the same field as "+other, "one field shows one model")
		}
		targets[target] = w.Path
	}
	for _, f := range c.Fields {
		if f.Connection != "" && c.Connections[f.Connection] == nil {
			fail("fields."+f.Name+".from", fmt.Sprintf("no connection is called %q", f.Connection), Nearest(f.Connection, connections))
		}
	}
	words := append(slices.Clone(hub.Groups), kindNames(kinds)...)
	for _, kind := range sorted(c.Retention.Kinds) {
		if !slices.Contains(words, kind) {
			fail("retention.kinds."+kind, fmt.Sprintf("no kind or group is called %q", kind), Nearest(kind, words))
		}
	}
}

// validateModels returns the names that models can be referred to by; nil where that is not known: a path's model
// names itself in its file.
func (d *decoder) validateModels(fail func(path, message, suggestion string)) []string {
	var names []string
	paths := false
	seen := map[string]int{}
	for i, m := range d.cfg.Models {
		path := fmt.Sprintf("models[%d]", i)
		if m.Use == "" {
			paths = true // reported already; do not report what refers to it
			continue
		}
		if first, twice := seen[m.Use]; twice {
			fail(path, fmt.Sprintf("the same model as models[%d]", first), "")
		}
		seen[m.Use] = i
		if m.Path {
			paths = true
			continue
		}
		if d.lookups.Models != nil && !slices.Contains(d.lookups.Models, m.Use) {
			suggestion := Nearest(m.Use, d.lookups.Models)
			if suggestion == "" {
				suggestion = "shipped are " + strings.Join(d.lookups.Models, ", ") + "; a file's path holds a slash or a dot"
			}
			fail(path, fmt.Sprintf("no shipped model is called %q", shorten(m.Use)), suggestion)
		}
		names = append(names, m.Use)
	}
	if paths {
		return nil
	}
	return append([]string{}, names...)
}

func unknownModel(model string, models []string) (message, suggestion string) {
	if model == "" || models == nil || slices.Contains(models, model) {
		return "", ""
	}
	suggestion = Nearest(model, models)
	if suggestion == "" {
		suggestion = "add it to models"
	}
	return fmt.Sprintf("no model in use is called %q", shorten(model)), suggestion
}

func (d *decoder) validateSubscriptions(fail, warn func(path, message, suggestion string), kinds *hub.Kinds, models []string) {
	words := append(slices.Clone(hub.Groups), kindNames(kinds)...)
	words = append(words, internalKinds...)
	seen := map[string]bool{}
	for i := range d.cfg.Subscriptions {
		s := &d.cfg.Subscriptions[i]
		path := fmt.Sprintf("subscriptions[%d]", i)
		if s.Name != "" && seen[s.Name] {
			fail(path+".name", fmt.Sprintf("a second subscription is called %q", s.Name), "")
		}
		seen[s.Name] = true
		if len(s.Secrets) == 0 && s.Name != "" {
			fail(path, "has no secret, so its callbacks could not be signed", `add secret: "${env:NAME}"`)
		}
		if strings.HasPrefix(s.URL, "http://") && !s.AllowPrivate {
			warn(path+".url", "callbacks go out unencrypted", "use https")
		}
		for j, kind := range s.Kinds {
			if kind != "" && !slices.Contains(words, kind) {
				fail(fmt.Sprintf("%s.kinds[%d]", path, j), fmt.Sprintf("no kind or group is called %q", shorten(kind)), Nearest(kind, words))
			}
		}
		for j, model := range s.Models {
			if message, suggestion := unknownModel(model, models); message != "" {
				fail(fmt.Sprintf("%s.models[%d]", path, j), message, suggestion)
			}
		}
	}
}

func kindNames(kinds *hub.Kinds) []string {
	all := kinds.All()
	names := make([]string, len(all))
	for i, k := range all {
		names[i] = k.Name
	}
	return names
}

func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
