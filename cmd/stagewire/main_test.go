package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/connector/connectortest"
	"github.com/stagewire/stagewire/internal/sandbox"
)

func TestMain(m *testing.M) {
	endWithParent()
	testscript.Main(m, map[string]func(){"stagewire": main, "natsd": natsd})
}

// The scripts are the manual of the command line. Beside testscript's own commands they have hub, which starts a real hub on
// stagewire.yaml, reload, which makes it read its files again, vendors, which plays the outside systems at $VENDORS, post, which sends
// the hub a webhook, and eventually, which repeats a command until its output matches.
func TestScripts(t *testing.T) {
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("REPO", repository)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"hub": startHub, "reload": reload, "vendors": vendorsPlayed, "post": post, "eventually": eventually,
		},
		RequireExplicitExec: true,
	})
}

// startHub runs a hub in this process until the script ends.
func startHub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: hub")
	}
	load := func(file string) (*config.Config, *connector.Set, error) {
		cfg, set, _, err := loadSetup(file)
		return cfg, set, err
	}
	cfg, set, err := load(ts.MkAbs("stagewire.yaml"))
	ts.Check(err)
	var log lockedBuffer
	ctx, cancel := context.WithCancel(context.Background())
	hub, err := app.Open(ctx, app.Options{
		Config: cfg, Connectors: set, Load: load, Version: "test", Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		cancel()
	}
	ts.Check(err)
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx) }()
	ts.Setenv("STAGEWIRE_SERVER", "http://"+hub.Addr().String())
	hubs.Store(ts, hub)
	ts.Defer(func() {
		hubs.Delete(ts)
		cancel()
		if err := <-ended; err != nil {
			ts.Logf("hub: %v\n%s", err, log.String())
		}
	})
}

// hubs are the scripts' running hubs: *testscript.TestScript → *app.App.
var hubs sync.Map

// reload makes the script's hub read its files again, as SIGHUP does: reload, or ! reload pattern where it must refuse them.
func reload(ts *testscript.TestScript, neg bool, args []string) {
	hub, ok := hubs.Load(ts)
	if !ok || len(args) > 1 || neg != (len(args) == 1) {
		ts.Fatalf("usage, after hub: reload, or ! reload pattern")
	}
	err := hub.(*app.App).Reload(context.Background())
	if !neg {
		ts.Check(err)
		return
	}
	if pattern := regexp.MustCompile(args[0]); err == nil || !pattern.MatchString(err.Error()) {
		ts.Fatalf("no match for %s in %v", pattern, err)
	}
}

// vendorsPlayed plays the outside systems of stagewire.yaml until the script ends.
func vendorsPlayed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: vendors")
	}
	cfg, _, _, err := loadSetup(ts.MkAbs("stagewire.yaml"))
	ts.Check(err)
	server := httptest.NewServer(sandbox.New(sandbox.Config{Accounts: app.Accounts(cfg), Seed: 1}).Handler())
	ts.Defer(server.Close)
	ts.Setenv("VENDORS", strings.TrimPrefix(server.URL, "http://"))
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// post sends a webhook.http file to the hub and fails unless it is answered as told: post 200 shop $REPO/…/webhook.http
func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: post status connection file")
	}
	w, err := connectortest.ParseWebhook([]byte(ts.ReadFile(args[2])))
	ts.Check(err)
	target, err := url.JoinPath(ts.Getenv("STAGEWIRE_SERVER"), "hooks", args[1])
	ts.Check(err)
	req, err := http.NewRequestWithContext(context.Background(), w.Method, target, bytes.NewReader(w.Body))
	ts.Check(err)
	for _, h := range w.Headers {
		req.Header.Set(h.Name, h.Value)
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if got := resp.Status[:3]; got != args[0] {
		ts.Fatalf("answered %s, want %s", got, args[0])
	}
}

// eventually runs a command until its standard output matches, at most ten seconds: eventually pattern stagewire customers
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually pattern command [args]")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no match for %s, err %v", args[0], err)
		}
	}
}

func TestOverlayHidesWholeFolders(t *testing.T) {
	mine := t.TempDir()
	for name, text := range map[string]string{"shopify/connector.yaml": "name: x\n", "pipely/connector.yaml": pipely} {
		if err := os.MkdirAll(filepath.Join(mine, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(mine, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := loadConnectors(mine, (&config.Config{}).Catalogue())
	found := findings(err)
	if len(found) == 0 {
		t.Fatal("the broken manifest is not used")
	}
	for _, f := range found {
		if f.File != filepath.Join(mine, "shopify/connector.yaml") {
			t.Errorf("%+v names another file", f)
		}
	}
	if err := os.RemoveAll(filepath.Join(mine, "shopify")); err != nil {
		t.Fatal(err)
	}
	set, err := loadConnectors(mine, (&config.Config{}).Catalogue())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipely", "shopify"} {
		if _, ok := set.Get(name); !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

const pipely = `
name: pipely
settings: {client_secret: {secret: true, required: true, about: from the developer console}, region: {one_of: [eu, us], default: eu}}
receive:
  verify: {scheme: hmac, secrets: [client_secret], hash: sha256, encoding: base64, header: X-Pipely-Hmac}
`
