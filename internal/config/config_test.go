package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/stagewire/stagewire/internal/hub"
)

// vendors is a set of two connectors with a few keys each.
type vendors struct{}

var vendorKeys = map[string]map[string]bool{ // connector, key, whether it is secret
	"shopify": {"shop": false, "client_id": false, "client_secret": true, "access_token": true},
	"hubspot": {"app_id": false, "client_secret": true, "access_token": true},
}

func (vendors) Names() []string { return sorted(vendorKeys) }

func (vendors) Secret(connector, key string) (secret, known bool) {
	secret, known = vendorKeys[connector][key]
	return secret, known
}

func (vendors) Check(c *hub.Connection) []Problem {
	var problems []Problem
	keys := vendorKeys[c.Connector]
	for _, key := range sorted(c.Settings) {
		if _, ok := keys[key]; !ok {
			problems = append(problems, Problem{Path: key, Message: "unknown key", Suggestion: Nearest(key, sorted(keys))})
		}
	}
	if c.Connector == "shopify" && c.Settings["shop"] == "" {
		problems = append(problems, Problem{Path: "shop", Message: "is missing"})
	}
	return problems
}

func lookups(env map[string]string) Lookups {
	return Lookups{
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(path string) ([]byte, error) {
			if path == "/run/secrets/hubspot" {
				return []byte("from-file\n"), nil
			}
			return nil, os.ErrNotExist
		},
		Models:     []string{"clc", "rfm"},
		Connectors: func(*Config) (Connectors, []Problem) { return vendors{}, nil },
	}
}

const full = `
listen: 0.0.0.0:8080
admin_listen: 127.0.0.1:8081
public_url: https://hub.example.com/
data_dir: ./state
nats: {url: "nats://one:4222,nats://two:4222", replicas: 3}
database: {url: "${env:DATABASE}"}
api: {token: "${env:TOKEN}"}
models:
  - clc
  - {use: rfm, of: company, params: {lost_after: 60d, loyal: 5, share: 0.5, strict: true}}
connections:
  shop: {connector: shopify, shop: acme.myshopify.com, client_id: abc, client_secret: ["${env:NEW}", "${env:OLD}"]}
  crm:
    connector: hubspot
    app_id: 123
    client_secret: "${env:NEW}"
    access_token: "${file:/run/secrets/hubspot}"
    base_url: http://127.0.0.1:9000
    allow_private_addresses: true
    mode: poll
subscriptions:
  - {name: erp, url: "https://erp.example.com/hooks", secret: "${env:ERP}", kinds: [stage.entered, sales], models: [clc], include: [ids.erp, email_sha256], ordered: true, payload: fat}
write:
  crm: {model: clc, field: lifecyclestage, mode: if_ours, by_hand: {pin: 30d}, values: {lost: "1001", new: customer}}
  shop:
    - {model: clc, tag: "stage:${stage}"}
    - {model: rfm, tag: "rfm:${stage}", missing: create}
kinds: {acme.warranty_registered: {sku: text, until: date}}
fields: {plan: {type: text, from: crm.plan__c}}
retention: {webhooks: 60d, kinds: {sales: 800d, page.viewed: forever, acme.warranty_registered: 2w}}
min_free_disk: 5%
hold: 30m
settle: 1h30m
scores: {refit: 12h}
limits: {body: 1MiB, connections: 100}
log: {level: debug, format: json}
`

func TestParseFull(t *testing.T) {
	env := map[string]string{"DATABASE": "postgres://u:p@db/x", "TOKEN": "t", "NEW": "new", "OLD": "old", "ERP": "whsec_x"}
	got, warnings, err := Parse("/etc/stagewire/stagewire.yaml", []byte(full), lookups(env))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, err %v", warnings, err)
	}
	s := hub.NewSecret
	want := &Config{
		File:   "/etc/stagewire/stagewire.yaml",
		Listen: "0.0.0.0:8080", AdminListen: "127.0.0.1:8081", PublicURL: "https://hub.example.com", DataDir: "/etc/stagewire/state",
		NATS:     NATS{URL: s("nats://one:4222,nats://two:4222"), Replicas: 3},
		Database: Database{URL: s("postgres://u:p@db/x")},
		API:      API{Token: s("t")},
		Models: []ModelUse{
			{Use: "clc"},
			{Use: "rfm", Of: hub.SubjectCompany, Params: map[string]string{"lost_after": "60d", "loyal": "5", "share": "0.5", "strict": "true"}},
		},
		Connections: map[string]*hub.Connection{
			"shop": {
				Name: "shop", Connector: "shopify", Mode: "webhook",
				Settings: map[string]string{"shop": "acme.myshopify.com", "client_id": "abc"},
				Secrets:  map[string][]hub.Secret{"client_secret": {s("new"), s("old")}},
			},
			"crm": {
				Name: "crm", Connector: "hubspot", Mode: "poll", BaseURL: "http://127.0.0.1:9000", AllowPrivate: true,
				Settings: map[string]string{"app_id": "123"},
				Secrets:  map[string][]hub.Secret{"client_secret": {s("new")}, "access_token": {s("from-file")}},
			},
		},
		Subscriptions: []Subscription{{
			Name: "erp", URL: "https://erp.example.com/hooks", Secrets: []hub.Secret{s("whsec_x")}, Kinds: []string{"stage.entered", "sales"},
			Models: []string{"clc"}, Include: []string{"ids.erp", "email_sha256"}, Ordered: true, Payload: "fat",
		}},
		Write: []Write{
			{Connection: "crm", Path: "write.crm", Model: "clc", Field: "lifecyclestage", Mode: "if_ours", Missing: "skip", PinByHand: 30 * day, Values: map[string]string{"lost": "1001", "new": "customer"}},
			{Connection: "shop", Path: "write.shop[0]", Model: "clc", Tag: "stage:${stage}", Mode: "if_ours", Missing: "skip"},
			{Connection: "shop", Path: "write.shop[1]", Model: "rfm", Tag: "rfm:${stage}", Mode: "if_ours", Missing: "create"},
		},
		Kinds:  []hub.Kind{{Name: "acme.warranty_registered", Properties: map[string]hub.PropertyType{"sku": hub.Text, "until": hub.Time}}},
		Fields: []Field{{Name: "plan", Type: hub.Text, Connection: "crm", Trait: "plan__c"}},
		Retention: Retention{
			Webhooks: 60 * day, Events: 7 * day, Attempts: 30 * day, Rejected: 30 * day, Feed: 30 * day,
			Kinds: map[string]time.Duration{"attention": 400 * day, "sales": 800 * day, "page.viewed": 0, "acme.warranty_registered": 14 * day},
		},
		MinFreeDisk: Size{Share: 0.05}, Hold: 30 * time.Minute, Settle: 90 * time.Minute, Scores: Scores{Refit: 12 * time.Hour},
		Limits: Limits{Body: 1 << 20, Connections: 100},
		Log:    Log{Level: "debug", Format: "json"},
	}
	got.places = nil
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Config{}, hub.Secret{})); diff != "" {
		t.Error(diff)
	}
}

// Each line that holds a mistake says what is to be reported of it, after "#!".
func TestMistakes(t *testing.T) {
	text := `lissten: 127.0.0.1:8080            #! 1:1: lissten: unknown key (did you mean listen?)
admin_listen: 8081                             #! 2:15: admin_listen: want host:port, have "8081" (such as 127.0.0.1:8080)
public_url: hub.example.com                    #! 3:13: public_url: want an address that starts with http:// or https://
nats: {url: "http://x", replicas: 9}           #! 4:13: nats.url: want an address that starts with nats:// or tls:// or ws:// or wss://  #! 4:35: nats.replicas: want a whole number from 1 to 5, have "9"
database: postgres://u:hunter2@db/x            #! 5:11: database: want a mapping, have a single value
api: {token: "${env:NO_SUCH}"}                 #! 6:14: api.token: environment variable NO_SUCH is not set (set it, or use ${file:/path})
models: [clx, clc, clc, ./none.yaml]           #! 7:10: models[0]: no shipped model is called "clx" (did you mean clc?)  #! 7:20: models[2]: the same model as models[1]  #! 7:25: models[3]: ./none.yaml: it does not exist (paths count from the folder of the file)
hold: 90                                       #! 8:7: hold: want a duration such as 90s, 15m, 1h, 30d or 2w, have "90"
connections:
  shop: {connector: shopfy, shop: x}           #! 10:21: connections.shop.connector: no connector is called "shopfy" (did you mean shopify?)
  two: {connector: shopify, shp: x}            #! 11:29: connections.two.shp: unknown key (did you mean shop?)  #! 11:3: connections.two.shop: is missing
  Three: {connector: shopify, shop: x}         #! 12:3: connections.Three: "Three" is no name: small letters, digits, - and _
  four: {shop: x}                              #! 13:3: connections.four.connector: is missing (which vendor is it? ` + "`stagewire connectors`" + ` lists them)
  crm: {connector: hubspot, mode: pull, access_token: "${file:/none}"}   #! 14:35: connections.crm.mode: "pull" is none of webhook, poll (did you mean poll?)  #! 14:55: connections.crm.access_token: file /none cannot be read: it does not exist
subscriptions:
  - {name: erp, url: ftp://x, kinds: [stage.enterd, order.paid], models: [lost], include: [emial]}  #! 16:22: subscriptions[0].url: want an address that starts with https:// or http://  #! 16:39: subscriptions[0].kinds[0]: no kind or group is called "stage.enterd" (did you mean stage.entered?)  #! 16:92: subscriptions[0].include[0]: "emial" is none of ids.<connection>, traits.<name>, email, email_sha256, phone, name, ids (did you mean email?)  #! 16:5: subscriptions[0]: has no secret, so its callbacks could not be signed (add secret: "${env:NAME}")
  - {url: https://x/, secret: "a ${env:B}"}    #! 17:5: subscriptions[1].name: is missing  #! 17:31: subscriptions[1].secret: a reference must be the whole value (such as "${env:NAME}" or "${file:/path}")
write:
  crn: {model: clc, field: x, mode: allways}   #! 19:37: write.crn.mode: "allways" is none of always, if_empty, if_ours, never (did you mean always?)  #! 19:8: write.crn: no connection is called "crn" (did you mean crm?)
  crm: {model: clc}                            #! 20:3: write.crm: want exactly one of field and tag
kinds: {order.paid: {a: text}, nodot: {}}      #! 21:9: kinds.order.paid: is in the built-in catalogue already (choose another name)  #! 21:32: kinds.nodot: a kind is small letters, digits and _ with a dot between (such as acme.warranty_registered)
fields: {plan: {type: txt, from: crm}}         #! 22:23: fields.plan.type: "txt" is no type: bool, date, money, number, text, texts, time (did you mean text?)  #! 22:34: fields.plan.from: want <connection>.<trait>, have "crm" (such as crm.plan__c)
retention: {kinds: {atention: 400d}}           #! 23:31: retention.kinds.atention: no kind or group is called "atention" (did you mean attention?)
min_free_disk: lots                            #! 24:16: min_free_disk: want a size such as 512MiB, 1GiB or 5%, have "lots"
limits: {body: 3MiB}                           #! 25:16: limits.body: want a size from 1024 bytes to 2097152 bytes, have "3MiB"
log: {level: loud}                             #! 26:14: log.level: "loud" is none of debug, info, warn, error
listen:                                        #! 27:8: listen: has no value (write "" for an empty one, or leave the key out)
people: {a: b}                                 #! 28:1: people: unknown key
settle: 1m
settle: 2m                                     #! 30:1: settle: is given twice
`
	var want []string
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(line, "#! ")
		for problem := range strings.SplitSeq(rest, "#! ") {
			if problem = strings.TrimSpace(problem); problem != "" {
				want = append(want, "x.yaml:"+problem)
			}
		}
	}
	_, _, err := Parse("x.yaml", []byte(text), lookups(nil))
	var got []string
	for _, p := range Problems(err) {
		got = append(got, p.Error())
	}
	less := func(a, b string) bool { return a < b }
	if diff := cmp.Diff(want, got, sortStrings(less)); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Error("a password in the wrong place is shown")
	}
}

// Which other keys a connection has only its connector knows: where that one is misspelt it is what is told.
func TestConnectorMisspelt(t *testing.T) {
	_, _, err := Parse("x.yaml", []byte("connections:\n  shop: {shop: x, conector: shopify}\n"), lookups(nil))
	if want := "x.yaml:2:19: connections.shop.conector: unknown key (did you mean connector?)"; fmt.Sprint(err) != want {
		t.Errorf("have %v, want %s", err, want)
	}
}

func TestSyntaxErrorHasLine(t *testing.T) {
	for text, want := range map[string]string{
		"listen: a:1\n  x: [": "x.yaml:2:1: not YAML: mapping values are not allowed in this context",
		"a: 1\n---\nb: 2\n":   "x.yaml:2:1: the file holds a second document (remove the line ---)",
		"- a":                 "x.yaml:1:1: want a mapping, have a list",
		"listen: \x00":        "x.yaml:1:1: not YAML: control characters are not allowed",
		"nats: &a {url: *a}":  "x.yaml:1:7: nats.url: want one value, have a mapping",
	} {
		_, _, err := Parse("x.yaml", []byte(text), lookups(nil))
		problems := Problems(err)
		if len(problems) == 0 || problems[0].Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestEmptyFileIsDefault(t *testing.T) {
	cfg, warnings, err := Parse("/x/stagewire.yaml", nil, Lookups{})
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if cfg.Listen != DefaultListen || cfg.PublicURL != "http://"+DefaultListen || cfg.DataDir != "/x/data" {
		t.Errorf("listen %s, public_url %s, data_dir %s", cfg.Listen, cfg.PublicURL, cfg.DataDir)
	}
}

func TestPlainSecretsWarn(t *testing.T) {
	text := "api: {token: hunter2}\nnats: {url: \"nats://u:hunter2@x\"}\nconnections:\n  shop: {connector: shopify, shop: x, client_secret: hunter2}\n"
	cfg, warnings, err := Parse("x.yaml", []byte(text), lookups(nil))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, fmt.Sprintf("%d:%d %s", w.Line, w.Column, w.Path))
	}
	if diff := cmp.Diff([]string{"1:14 api.token", "2:13 nats.url", "4:54 connections.shop.client_secret"}, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(fmt.Sprint(warnings), "hunter2") || strings.Contains(fmt.Sprintf("%+v %#v", cfg, cfg), "hunter2") {
		t.Error("the secret shows")
	}
}

func TestMissingFile(t *testing.T) {
	_, _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), Lookups{})
	var p Problem
	if !errors.As(err, &p) || p.Message != "it does not exist" {
		t.Errorf("got %v", err)
	}
}

func TestAtFallsBackToTheNearestParent(t *testing.T) {
	cfg, _, err := Parse("x.yaml", []byte("models:\n  - {use: rfm, params: {a: 1}}\n"), lookups(nil))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Place{
		"models[0].params.a": {2, 28}, "models[0].params.b": {2, 24}, "models[0]": {2, 5}, "write.crm": {1, 1}, "models[7]": {2, 3},
	} {
		if got := cfg.At(path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

func TestAliasBombIsBounded(t *testing.T) {
	text := "models: [clc]\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n"
	for i := 1; i < 9; i++ {
		text += fmt.Sprintf("x%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d, ", i-1), 10), ", "))
	}
	text += "reactions: *x8\n"
	start := time.Now()
	if _, _, err := Parse("x.yaml", []byte(text), lookups(nil)); err == nil {
		t.Error("accepted")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %s", d)
	}
}

func TestSchemaNamesEveryKey(t *testing.T) {
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct {
			Description string `json:"description"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"listen", "connections", "subscriptions", "write", "log"} {
		if schema.Properties[key].Description == "" {
			t.Errorf("%s: no description", key)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2w": 14 * day, "1.5d": 36 * time.Hour, "250ms": 250 * time.Millisecond} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "5", "-1h", "1y", "h", "99999999999d"} {
		if got, err := ParseDuration(s); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%q: got %v, %v", s, got, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("connections: {a: {connector: shopify, shop: [x]}}"))
	f.Add([]byte("models: [{use: clc, params: {a: &x [*x]}}]"))
	f.Add([]byte("write: {a: [{model: b}, 1, null]}\n? [a]\n: b\n<<: {listen: x}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, warnings, err := Parse("x.yaml", text, lookups(map[string]string{"TOKEN": "secret-token"}))
		problems := Problems(err)
		if err != nil && len(problems) == 0 {
			t.Fatalf("an error that is no problem: %v", err)
		}
		for _, p := range append(problems, warnings...) {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("%+v has no place", p)
			}
			if strings.Contains(p.Error(), "secret-token") {
				t.Errorf("%+v shows a secret", p)
			}
		}
	})
}
