package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"gopkg.in/yaml.v3"
)

// The form of the file. The order here is the order in the docs and the schema.
func form(c *Config) value {
	return object(
		field{key: "listen", doc: "Address of /hooks, and of API and metrics unless admin_listen is set.", value: text(&c.Listen, hostPort)},
		field{key: "admin_listen", doc: "Address that API and metrics move to, away from /hooks.", value: text(&c.AdminListen, orEmpty(hostPort))},
		field{key: "public_url", doc: "How vendors reach listen. Signatures over the URL use it, never the Host header.", value: parsed(map[string]any{"type": "string", "format": "uri"}, func(s string) (string, string) {
			u, message := parseURL(s, []string{"http", "https"})
			if s != "" && message != "" {
				return message, ""
			}
			if s != "" && (u.RawQuery != "" || u.Fragment != "" || u.User != nil) {
				return "want scheme, host and perhaps a path alone", ""
			}
			c.PublicURL = strings.TrimRight(s, "/")
			return "", ""
		})},
		field{key: "data_dir", doc: "Folder of the embedded log and database, of token and key. Relative to this file.", value: text(&c.DataDir, notEmpty)},
		field{key: "nats", doc: "The log.", value: object(
			field{key: "url", doc: "Addresses of an external cluster; empty for the embedded server.", value: secretURL(&c.NATS.URL, "nats", "tls", "ws", "wss")},
			field{key: "replicas", doc: "Copies of each stream on an external cluster.", value: integer(&c.NATS.Replicas, 1, 5)},
		)},
		field{key: "database", doc: "The state.", value: object(
			field{key: "url", doc: "postgres://…; empty for SQLite in data_dir.", value: secretURL(&c.Database.URL, "postgres", "postgresql")},
		)},
		field{key: "api", doc: "Who may use the API.", value: object(
			field{key: "token", doc: "The fixed admin token; without it one is made at first start, in data_dir/token.", value: secret(&c.API.Token)},
		)},
		field{key: "models", doc: "Stage models: a shipped model's name, a path, or {use, params, of}.", value: each(&c.Models, func(m *ModelUse) value { return modelUse(c, m) })},
		field{key: "reactions", doc: "Files and folders of reactions.", value: each(&c.Reactions, func(p *string) value { return existing(c, p) })},
		field{key: "connections", doc: "Accounts of outside systems, by name; each receives at /hooks/<name>.", value: connections()},
		field{key: "subscriptions", doc: "Third parties that are called back.", value: each(&c.Subscriptions, subscription)},
		field{key: "write", doc: "How a model's stage looks in a system, by connection.", value: writes(c)},
		field{key: "kinds", doc: "Event kinds of your own: property names and types, by kind.", value: kinds(c)},
		field{key: "fields", doc: "Typed fields of customers of your own.", value: fields(c)},
		field{key: "zone", doc: "Time zone of weekday(), hour() and business_hours() in rules: Europe/Berlin, or customer for each customer's own (the trait timezone); UTC without it.", value: text(&c.Zone, zoneName)},
		field{key: "calendars", doc: "When business goes on, by name. business_hours(8) counts by the one called office, business_hours(8, \"late\") by another.", value: calendars(c)},
		field{key: "retention", doc: "How long what is processed stays.", value: object(
			field{key: "webhooks", doc: "Webhooks, byte for byte.", value: duration(&c.Retention.Webhooks, day)},
			field{key: "events", doc: "Events in the log (SQL keeps them longer).", value: duration(&c.Retention.Events, day)},
			field{key: "attempts", doc: "Attempts of deliveries.", value: duration(&c.Retention.Attempts, day)},
			field{key: "rejected", doc: "Refused requests.", value: duration(&c.Retention.Rejected, day)},
			field{key: "feed", doc: "The feed of the API.", value: duration(&c.Retention.Feed, day)},
			field{key: "kinds", doc: "Events in SQL, by kind or group; the word forever keeps them.", value: retentionKinds(c)},
		)},
		field{key: "min_free_disk", doc: "Below this much free disk webhooks are answered 503: 1GiB, 5%.", value: size(&c.MinFreeDisk)},
		field{key: "hold", doc: "How long waiting for an outside system may hold wake-ups back.", value: duration(&c.Hold, 0)},
		field{key: "settle", doc: "After which an intake gap counts as closed where nothing can fill it.", value: duration(&c.Settle, 0)},
		field{key: "scores", doc: "What score.… and rfm.… in rules go by.", value: object(
			field{key: "refit", doc: "How often they are fitted to the hub's own orders anew.", value: duration(&c.Scores.Refit, time.Hour)},
		)},
		field{key: "limits", doc: "What strangers can make the hub do.", value: object(
			field{key: "body", doc: "Largest webhook body, at most 2MiB.", value: bytesUpTo(&c.Limits.Body, 1<<10, MaxBody)},
			field{key: "connections", doc: "Open HTTP connections.", value: integer(&c.Limits.Connections, 16, 1<<18)},
		)},
		field{key: "connectors_dir", doc: "Folder of connectors of your own, which win over the shipped ones.", value: existing(c, &c.ConnectorsDir)},
		field{key: "log", doc: "How the hub tells about itself.", value: object(
			field{key: "level", doc: "Least level.", value: oneOf(&c.Log.Level, "debug", "info", "warn", "error")},
			field{key: "format", doc: "Form of the lines.", value: oneOf(&c.Log.Format, "text", "json")},
		)},
	)
}

var (
	nameForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	kindForm      = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)
	shippedForm   = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)
	propertyForm  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	includeForm   = regexp.MustCompile(`^(ids|traits)\.[A-Za-z0-9_-]+$`)
	fieldFromForm = regexp.MustCompile(`^([a-z0-9][a-z0-9_-]*)\.(.+)$`)
)

// includes are the words of a subscription's include beside ids.<connection> and traits.<name>.
var includes = []string{"email", "email_sha256", "phone", "name", "ids"}

func modelUse(c *Config, m *ModelUse) value {
	use := parsed(map[string]any{"type": "string"}, func(s string) (string, string) {
		if shippedForm.MatchString(s) {
			m.Use = s
			return "", ""
		}
		m.Path = true
		return exists(c, s, &m.Use)
	})
	full := object(
		field{key: "use", doc: "A shipped model's name, or a path.", required: true, value: use},
		field{key: "of", doc: "Whose stage it is, where that is not what the model says.", value: oneOf(&m.Of, hub.SubjectCustomer, hub.SubjectCompany, hub.SubjectDeal)},
		field{key: "params", doc: "Values for the model's params.", value: entries(map[string]any{"type": []string{"string", "number", "boolean"}},
			func(d *decoder, path, name string, _, v *yaml.Node) {
				to, _, ok := d.scalar(path, v)
				if !ok {
					return
				}
				if m.Params == nil {
					m.Params = map[string]string{}
				}
				m.Params[name] = to
			})},
	)
	return value{map[string]any{"oneOf": []any{use.schema, full.schema}}, func(d *decoder, path string, n *yaml.Node) {
		if at := follow(n); at.Kind == yaml.MappingNode {
			full.decode(d, path, n)
			return
		}
		use.decode(d, path, n)
	}}
}

func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func subscription(s *Subscription) value {
	s.Payload = "thin"
	secrets := oneOrMany(&s.Secrets, secret)
	return object(
		field{key: "name", doc: "Its name; deliveries go to subscription:<name>.", required: true, value: text(&s.Name, name)},
		field{key: "url", doc: "Where callbacks go.", required: true, value: text(&s.URL, func(t string) (string, string) {
			_, message := parseURL(t, []string{"https", "http"})
			return message, ""
		})},
		field{key: "secret", doc: "Standard Webhooks secret (whsec_…); several while one is being rotated, newest first.", value: secrets},
		field{key: "secrets", doc: "The same as secret.", value: secrets},
		field{key: "kinds", doc: "Event kinds and groups it is told; stage.entered where none is given.", value: each(&s.Kinds, func(t *string) value { return text(t, notEmpty) })},
		field{key: "models", doc: "Models whose stages it is told; all where none is given.", value: each(&s.Models, func(t *string) value { return text(t, notEmpty) })},
		field{key: "include", doc: "Personal data it is told: ids.<connection>, traits.<name>, email, email_sha256, phone, name.", value: each(&s.Include, func(t *string) value {
			return text(t, func(w string) (string, string) {
				if slices.Contains(includes, w) || includeForm.MatchString(w) {
					return "", ""
				}
				return fmt.Sprintf("%q is none of ids.<connection>, traits.<name>, %s", shorten(w), strings.Join(includes, ", ")), Nearest(w, includes)
			})
		})},
		field{key: "ordered", doc: "Hold a customer's later callbacks until the earlier one is delivered or dead.", value: boolean(&s.Ordered)},
		field{key: "payload", doc: "thin: ids and the stage; fat: with the customer's facts.", value: oneOf(&s.Payload, "thin", "fat")},
		field{key: "allow_private_addresses", doc: "Let callbacks go to private and loopback addresses.", value: boolean(&s.AllowPrivate)},
	)
}

func writes(c *Config) value {
	one := func(w *Write) value {
		w.Mode, w.Missing = "if_ours", "skip"
		return object(
			field{key: "model", doc: "The model.", required: true, value: text(&w.Model, notEmpty)},
			field{key: "field", doc: "The field that shows the stage.", value: text(&w.Field, notEmpty)},
			field{key: "tag", doc: "The tag that shows the stage: stage:${stage}.", value: text(&w.Tag, func(t string) (string, string) {
				if !strings.Contains(t, "${stage}") {
					return "a tag must hold ${stage}", `such as "stage:${stage}"`
				}
				return "", ""
			})},
			field{key: "mode", doc: "When the hub may write it.", value: oneOf(&w.Mode, "always", "if_empty", "if_ours", "never")},
			field{key: "missing", doc: "What to do where the customer has no record there.", value: oneOf(&w.Missing, "skip", "create")},
			field{key: "by_hand", doc: "What a stage set by hand there does.", value: object(
				field{key: "pin", doc: "Pins the customer for this long.", value: duration(&w.PinByHand, 0)},
			)},
			field{key: "values", doc: "The field's value for each stage.", value: entries(map[string]any{"type": "string"},
				func(d *decoder, path, stage string, _, v *yaml.Node) {
					var to string
					text(&to, notEmpty).decode(d, path, v)
					if w.Values == nil {
						w.Values = map[string]string{}
					}
					w.Values[stage] = to
				})},
		)
	}
	var sample []Write
	return entries(oneOrMany(&sample, one).schema, func(d *decoder, path, connection string, k, v *yaml.Node) {
		var list []Write
		oneOrMany(&list, one).decode(d, path, v)
		many := follow(v).Kind == yaml.SequenceNode
		for i := range list {
			w := &list[i]
			w.Connection, w.Path = connection, path
			if many {
				w.Path = fmt.Sprintf("%s[%d]", path, i)
			}
			if (w.Field == "") == (w.Tag == "") && w.Model != "" {
				d.fail(w.Path, k, "want exactly one of field and tag", "")
			}
			c.Write = append(c.Write, *w)
		}
	})
}

// propertyTypes are the words for types in kinds and fields.
var propertyTypes = map[string]hub.PropertyType{
	"text": hub.Text, "number": hub.Number, "bool": hub.Bool, "date": hub.Time, "time": hub.Time, "money": hub.Amount, "texts": hub.Texts,
}

func propertyType(to *hub.PropertyType) value {
	names := sorted(propertyTypes)
	return parsed(map[string]any{"enum": names}, func(s string) (string, string) {
		t, ok := propertyTypes[s]
		if !ok {
			return fmt.Sprintf("%q is no type: %s", shorten(s), strings.Join(names, ", ")), Nearest(s, names)
		}
		*to = t
		return "", ""
	})
}

func kinds(c *Config) value {
	schema := map[string]any{"type": "object", "additionalProperties": propertyType(new(hub.PropertyType)).schema}
	return entries(schema, func(d *decoder, path, kind string, k, v *yaml.Node) {
		if !kindForm.MatchString(kind) {
			d.fail(path, k, "a kind is small letters, digits and _ with a dot between", "such as acme.warranty_registered")
		}
		_, taken := hub.Catalogue.Lookup(kind)
		if taken {
			d.fail(path, k, "is in the built-in catalogue already", "choose another name")
		}
		properties := map[string]hub.PropertyType{}
		entries(nil, func(d *decoder, path, property string, k, v *yaml.Node) {
			if !propertyForm.MatchString(property) {
				d.fail(path, k, "a property is small letters, digits and _", "")
			}
			var t hub.PropertyType
			propertyType(&t).decode(d, path, v)
			properties[property] = t
		}).decode(d, path, v)
		if !taken { // else every connector would be found wanting
			c.Kinds = append(c.Kinds, hub.Kind{Name: kind, Properties: properties})
		}
	})
}

func fields(c *Config) value {
	one := func(f *Field, from *string) value {
		return object(
			field{key: "type", doc: "Its type.", required: true, value: propertyType(&f.Type)},
			field{key: "from", doc: "The trait it is filled from: <connection>.<trait>.", required: true, value: text(from, func(s string) (string, string) {
				if !fieldFromForm.MatchString(s) {
					return fmt.Sprintf("want <connection>.<trait>, have %q", shorten(s)), "such as crm.plan__c"
				}
				return "", ""
			})},
		)
	}
	return entries(one(&Field{}, new(string)).schema, func(d *decoder, path, key string, k, v *yaml.Node) {
		f, from := Field{Name: key}, ""
		if !propertyForm.MatchString(key) {
			d.fail(path, k, "a field is small letters, digits and _", "")
		}
		one(&f, &from).decode(d, path, v)
		if m := fieldFromForm.FindStringSubmatch(from); m != nil {
			f.Connection, f.Trait = m[1], m[2]
		}
		c.Fields = append(c.Fields, f)
	})
}

func zoneName(s string) (string, string) {
	if s == hub.CustomerZone {
		return "", ""
	}
	if _, err := hub.LoadZone(s); err != nil {
		return plain(err), "or the word customer, for the customer's own"
	}
	return "", ""
}

func calendars(c *Config) value {
	one := func(to *hub.Calendar, days *[]string) value {
		return object(
			field{key: "zone", doc: "The zone of its clocks, or customer; that of the rule where it is left out.", value: text(&to.Zone, zoneName)},
			field{key: "days", doc: "The days that are open: mon-fri, or a list.", value: oneOrMany(days, func(d *string) value {
				return text(d, func(s string) (string, string) {
					if _, err := hub.ParseDays(s); err != nil {
						return plain(err), "such as mon-fri, or [mon, thu]"
					}
					return "", ""
				})
			})},
			field{key: "hours", doc: "The hours that are open: 09:00-17:30, or a list.", value: oneOrMany(&to.Hours, func(h *hub.Hours) value {
				return parsed(map[string]any{"type": "string"}, func(s string) (string, string) {
					var err error
					if *h, err = hub.ParseHours(s); err != nil {
						return plain(err), ""
					}
					return "", ""
				})
			})},
			field{key: "holidays", doc: "Days that are closed all the same: [2026-12-25].", value: each(&to.Holidays, func(h *string) value {
				return text(h, func(s string) (string, string) {
					if _, err := time.Parse(time.DateOnly, s); err != nil {
						return fmt.Sprintf("%q is no date", shorten(s)), "such as 2026-12-25"
					}
					return "", ""
				})
			})},
		)
	}
	return entries(one(&hub.Calendar{}, new([]string)).schema, func(d *decoder, path, key string, k, v *yaml.Node) {
		calendar, days, before := hub.OfficeHours(""), []string(nil), len(d.problems)
		if !nameForm.MatchString(key) {
			d.fail(path, k, "a calendar is small letters, digits, - and _", "")
		}
		one(&calendar, &days).decode(d, path, v)
		if len(days) > 0 {
			calendar.Days, _ = hub.ParseDays(strings.Join(days, ","))
		}
		if len(d.problems) == before {
			if err := calendar.Check(); err != nil {
				d.fail(path, v, plain(err), "")
			}
		}
		if c.Calendars == nil {
			c.Calendars = map[string]hub.Calendar{}
		}
		c.Calendars[key] = calendar
	})
}

func retentionKinds(c *Config) value {
	return entries(map[string]any{"type": "string"}, func(d *decoder, path, kind string, _, v *yaml.Node) {
		parsed(nil, func(s string) (string, string) {
			if s == "forever" {
				c.Retention.Kinds[kind] = 0
				return "", ""
			}
			t, err := ParseDuration(s)
			if err != nil {
				return plain(err), "or forever"
			}
			if t < day {
				return s + " is shorter than a day", ""
			}
			c.Retention.Kinds[kind] = t
			return "", ""
		}).decode(d, path, v)
	})
}

// connections remembers the node; its connections are decoded when the connectors are known.
func connections() value {
	schema := map[string]any{"type": "object", "additionalProperties": map[string]any{
		"type": "object", "required": []string{"connector"},
		"properties": map[string]any{
			"connector":               map[string]any{"type": "string", "description": "Name of the connector; `stagewire connectors` lists them. The other keys are the connector's own."},
			"mode":                    map[string]any{"enum": []string{"webhook", "poll"}, "description": "How facts come in; poll needs no public URL."},
			"base_url":                map[string]any{"type": "string", "description": "Points outbound calls elsewhere: the sandbox, a proxy."},
			"allow_private_addresses": map[string]any{"type": "boolean", "description": "Let outbound calls reach private and loopback addresses."},
		},
	}}
	return value{schema, func(d *decoder, _ string, n *yaml.Node) { d.connections = n }}
}

func notEmpty(s string) (string, string) {
	if strings.TrimSpace(s) == "" {
		return "must not be empty", ""
	}
	return "", ""
}

func orEmpty(c check) check {
	return func(s string) (string, string) {
		if s == "" {
			return "", ""
		}
		return c(s)
	}
}

func name(s string) (string, string) {
	if !nameForm.MatchString(s) {
		return fmt.Sprintf("%q is no name: small letters, digits, - and _", shorten(s)), ""
	}
	return "", ""
}

func hostPort(s string) (string, string) {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Sprintf("want host:port, have %q", shorten(s)), "such as 127.0.0.1:8080"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return fmt.Sprintf("port %q is not a number up to 65535", shorten(port)), ""
	}
	return "", ""
}

// parseURL refuses what is no absolute URL with one of schemes. Its message never holds the URL: it may hold a password.
func parseURL(s string, schemes []string) (*url.URL, string) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		return nil, "want an address that starts with " + strings.Join(schemes, ":// or ") + "://"
	}
	return u, ""
}

// existing is the path of a file or folder that must be there.
func existing(c *Config, to *string) value {
	return parsed(map[string]any{"type": "string"}, func(s string) (string, string) { return exists(c, s, to) })
}

func exists(c *Config, s string, to *string) (string, string) {
	if message, suggestion := notEmpty(s); message != "" {
		return message, suggestion
	}
	path := c.resolve(s)
	if _, err := os.Stat(path); err != nil {
		return shorten(s) + ": " + reason(err), "paths count from the folder of the file"
	}
	*to = path
	return "", ""
}
