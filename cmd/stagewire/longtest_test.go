package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/sandbox"
	"github.com/stagewire/stagewire/internal/store"
)

// envLong switches on the tests that take minutes: a real hub in a process of its own, killed and cut off.
const envLong = "STAGEWIRE_LONG"

// envParent holds the process id of the test for the processes it starts.
const envParent = "STAGEWIRE_TEST_PARENT"

func long(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Getenv(envLong) == "" {
		t.Skip("takes minutes: set " + envLong + "=1")
	}
	t.Parallel()
}

// endWithParent ends this process when the test that started it is gone, however that ended.
func endWithParent() {
	parent, err := strconv.Atoi(os.Getenv(envParent))
	if err != nil {
		return
	}
	go func() {
		for os.Getppid() == parent {
			time.Sleep(time.Second)
		}
		os.Exit(3)
	}()
}

// seeded returns a source of chance whose seed is in the log.
func seeded(t *testing.T) (*rand.Rand, uint64) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1)), seed
}

// settings are what one world differs in from another.
type settings struct {
	config   string // lines of stagewire.yaml beside the connections
	database string
	nats     string // with replicas
	crm      bool   // HubSpot beside the shop
	models   string // default [clc]
	kinds    string // of the subscription
	settle   time.Duration
	sandbox  sandbox.Config
}

// callbackSecret signs callbacks in these tests.
const callbackSecret = "whsec_Y3Jhc2hlcy1hbmQtb3V0YWdlcw=="

// world is a hub in a process of its own, and in this process everything around it.
type world struct {
	*testing.T
	dir      string
	listen   string
	settings settings
	sandbox  *sandbox.Sandbox
	receiver *app.Receiver
	client   *http.Client
	hub      *process
	lives    []string // logs of the hub's lives
	wrong    map[string]int
}

// fault tells of something wrong: the first few of each kind in full, then only their number counts.
func (w *world) fault(kind, format string, args ...any) {
	w.Helper()
	if w.wrong == nil {
		w.wrong = map[string]int{}
	}
	switch w.wrong[kind]++; {
	case w.wrong[kind] <= 3:
		w.Errorf(kind+": "+format, args...)
	case w.wrong[kind] == 4:
		w.Logf("more of %s are only counted", kind)
	}
}

func newWorld(t *testing.T, s settings) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), listen: freeAddress(t), settings: s, client: &http.Client{Timeout: 10 * time.Second}}
	s.sandbox.Hub = "http://" + w.listen
	w.sandbox = sandbox.New(s.sandbox)
	vendors := httptest.NewServer(w.sandbox.Handler())
	w.receiver = app.NewReceiver(hub.NewSecret(callbackSecret), nil)
	subscriber := httptest.NewServer(w.receiver)
	ctx, cancel := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	sending.Go(func() { _ = w.sandbox.Run(ctx) }) // always nil
	t.Cleanup(func() {
		cancel()
		sending.Wait()
		for _, server := range []*httptest.Server{vendors, subscriber} {
			server.CloseClientConnections()
			server.Close()
		}
		w.client.CloseIdleConnections()
		if t.Failed() {
			w.keepLogs()
		}
	})
	if err := os.WriteFile(w.file(), []byte(w.configuration(vendors.URL, subscriber.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) file() string { return filepath.Join(w.dir, "stagewire.yaml") }

func (w *world) data() string { return filepath.Join(w.dir, "data") }

func (w *world) configuration(vendors, subscriber string) string {
	s := &w.settings
	account := sandbox.DefaultAccounts()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("listen: %s", w.listen)
	line("data_dir: data")
	line("min_free_disk: 64MiB")
	line("settle: %s", s.settle)
	line("log: {level: info, format: json}")
	if s.models == "" {
		s.models = "[clc]"
	}
	line("models: %s", s.models)
	if s.database != "" {
		line("database: {url: %q}", s.database)
	}
	if s.nats != "" {
		line("nats: {url: %q, replicas: 3}", s.nats)
	}
	shop, crm := account[sandbox.Shopify], account[sandbox.HubSpot]
	line("connections:")
	line("  shop: {connector: shopify, shop: %s, client_id: %s, client_secret: %q, base_url: %s/shopify, allow_private_addresses: true}",
		shop["shop"], shop["client_id"], shop["client_secret"], vendors)
	if s.crm {
		line("  crm: {connector: hubspot, app_id: %q, client_id: %s, client_secret: %q, refresh_token: %q, base_url: %s/hubspot, allow_private_addresses: true}",
			crm["app_id"], crm["client_id"], crm["client_secret"], crm["refresh_token"], vendors)
	}
	line("subscriptions:")
	line("  - {name: erp, url: %s/hooks, secret: %q, kinds: %s, allow_private_addresses: true}", subscriber, callbackSecret, s.kinds)
	line("%s", s.config)
	return b.String()
}

// keepLogs puts what the last lives of the hub said where a person finds it after the test's folder is gone.
func (w *world) keepLogs() {
	kept, err := os.MkdirTemp("", "stagewire-failed-") //nolint:usetesting // it is to outlive the test
	if err != nil {
		return
	}
	for _, from := range append(slices.Clone(w.lives), w.file(), filepath.Join(w.data(), "stagewire.db"), filepath.Join(w.data(), "stagewire.db-wal")) {
		if text, err := os.ReadFile(from); err == nil {
			_ = os.WriteFile(filepath.Join(kept, filepath.Base(from)), text, 0o600)
		}
	}
	w.Logf("logs of the hub: %s", kept)
}

// nextPort walks the ports that systems do not hand out by themselves: a port that stays free while a process is away must not
// become the local end of somebody's connection.
var nextPort atomic.Int32

func init() { nextPort.Store(20000 + rand.Int32N(10000)) }

// freeAddress finds a loopback address that nobody listens on, and that no other test of this run is given.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+nextPort.Add(1)%12000)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return ""
}

// process is a child of the test: this test's own binary under another name.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended is closed
}

// spawn starts one of the commands of TestMain.
func spawn(t *testing.T, log string, args ...string) *process {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := &process{ended: make(chan struct{}), cmd: &exec.Cmd{
		Path: binary, Args: args, Stdout: out, Stderr: out, Env: append(os.Environ(), envParent+"="+strconv.Itoa(os.Getpid())),
	}}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process the hard way and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

// start starts the hub. It does not wait until it answers.
func (w *world) start() {
	w.Helper()
	log := filepath.Join(w.dir, fmt.Sprintf("hub-%03d.log", len(w.lives)))
	w.lives = append(w.lives, log)
	w.hub = spawn(w.T, log, "stagewire", "serve", "--config", w.file())
}

// crash kills the hub. A hub that was dead already ended by itself, which it never may.
func (w *world) crash() {
	w.Helper()
	w.alive()
	w.hub.kill()
}

func (w *world) alive() {
	w.Helper()
	select {
	case <-w.hub.ended:
		w.Fatalf("the hub ended by itself: %v\n%s", w.hub.err, tail(w.lives[len(w.lives)-1]))
	default:
	}
}

// stop tells the hub to end, which it does in order and without an error.
func (w *world) stop() {
	w.Helper()
	w.alive()
	if err := w.hub.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.Fatal(err)
	}
	select {
	case <-w.hub.ended:
	case <-time.After(30 * time.Second):
		w.Fatalf("the hub did not stop within 30 s\n%s", tail(w.lives[len(w.lives)-1]))
	}
	if w.hub.err != nil {
		w.Errorf("the hub stopped with %v\n%s", w.hub.err, tail(w.lives[len(w.lives)-1]))
	}
}

// tail returns the last lines of a file.
func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

// pass waits while the hub lives.
func (w *world) pass(d time.Duration) {
	w.Helper()
	select {
	case <-w.hub.ended:
		w.alive()
	case <-time.After(d):
	}
}

// until waits for what check wants: "" when it is there, else what is missing.
func (w *world) until(within time.Duration, check func() string) time.Duration {
	w.Helper()
	began := time.Now()
	for {
		missing := check()
		if missing == "" {
			return time.Since(began)
		}
		if time.Since(began) > within {
			w.Fatalf("not within %v: %s", within, missing)
		}
		w.pass(100 * time.Millisecond)
	}
}

// ready waits until the hub answers and all it needs is there.
func (w *world) ready() {
	w.Helper()
	w.until(60*time.Second, func() string {
		status, body, err := w.get("/readyz")
		if err != nil || status != http.StatusOK {
			return fmt.Sprintf("ready: %d %v %s", status, err, body)
		}
		return ""
	})
}

func (w *world) get(path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, "http://"+w.listen+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if token, err := os.ReadFile(filepath.Join(w.data(), "token")); err == nil {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	res, err := w.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// count returns how many a list of the API has on its page.
func (w *world) count(path string) (int, error) {
	status, body, err := w.get("/api/v1/" + path)
	if err != nil {
		return 0, err
	}
	var list struct {
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("%s: %d %w", path, status, err)
	}
	return len(list.Items), nil
}

// open opens the database of a hub that has stopped.
func (w *world) open() *store.Store {
	w.Helper()
	s, err := store.Open(w.Context(), store.Options{URL: w.settings.database, Dir: w.data()})
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// metric returns the value of a metric without labels.
func (w *world) metric(name string) (float64, error) {
	_, body, err := w.get("/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(body), "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// busy says what is under way, "" for nothing.
func (w *world) busy() string {
	if n := w.sandbox.Outstanding(); n > 0 {
		return fmt.Sprintf("%d webhooks of the sandbox", n)
	}
	for _, path := range []string{
		"webhooks?state=queued&limit=1", "webhooks?state=hydrating&limit=1", "deliveries?state=due&limit=1", "deliveries?state=sending&limit=1",
		"deliveries?state=retrying&limit=1", "deliveries?state=held&limit=1", "deliveries?state=parked&limit=1",
	} {
		if n, err := w.count(path); err != nil {
			return err.Error()
		} else if n > 0 {
			return path
		}
	}
	if age, err := w.metric("stagewire_log_oldest_seconds"); err != nil || age > 0 {
		return fmt.Sprintf("the log: %v s, %v", age, err)
	}
	return ""
}

// quiet waits until nothing is under way, seen some times in a row because things move on while one looks.
func (w *world) quiet(within time.Duration) time.Duration {
	w.Helper()
	seen := 0
	return w.until(within, func() string {
		what := w.busy()
		if what != "" {
			seen = 0
			return what
		}
		if seen++; seen < 10 {
			return "quiet for a second"
		}
		return ""
	})
}

// said is one line of the hub's log.
type said struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"msg"`
	Error   string    `json:"error"`
	Stream  string    `json:"stream"`
	Took    int64     `json:"took"` // nanoseconds
}

// log returns what the hub said in one life. A line that a kill cut off is left out.
func (w *world) log(life string) []said {
	w.Helper()
	f, err := os.Open(life)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	var all []said
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one said
		if json.Unmarshal(lines.Bytes(), &one) == nil {
			all = append(all, one)
		}
	}
	return all
}

// orders are the paid orders the hub acknowledged. It is safe for concurrent use.
type orders struct {
	mu     sync.Mutex
	all    []sandbox.LoadedOrder
	newest time.Time // when the last was acknowledged
	worst  int       // attempts
	lost   []sandbox.LoadedOrder
}

func (o *orders) add(one sandbox.LoadedOrder) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, one)
	o.newest = time.Now()
	o.worst = max(o.worst, one.Attempts)
}

func (o *orders) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all)
}

func (o *orders) since() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.newest
}

// byCustomer returns the orders of each e-mail address, in order of time and event id.
func (o *orders) byCustomer() map[string][]sandbox.LoadedOrder {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string][]sandbox.LoadedOrder{}
	for _, one := range o.all {
		out[one.Email] = append(out[one.Email], one)
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b sandbox.LoadedOrder) int {
			if d := a.OccurredAt.Compare(b.OccurredAt); d != 0 {
				return d
			}
			return strings.Compare(eventOf(a), eventOf(b))
		})
	}
	return out
}

// eventOf is the id of the event that an order's webhook makes.
func eventOf(o sandbox.LoadedOrder) string {
	return hub.EventID("shop", "order/"+o.OrderID, "order.paid")
}

// load sends orders until all are acknowledged or ctx ends; what ctx cut off is neither acknowledged nor expected.
func (w *world) load(ctx context.Context, into *orders, cfg sandbox.LoadConfig) {
	cfg.Acknowledged = into.add
	report, err := w.sandbox.Load(ctx, cfg)
	if err != nil && !errors.Is(err, context.Canceled) {
		w.Errorf("load: %v", err)
		return
	}
	into.mu.Lock()
	defer into.mu.Unlock()
	into.lost = append(append(into.lost, report.Unknown...), report.Refused...)
}
