package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
	"github.com/stagewire/stagewire/internal/sandbox"
)

// QuickstartOptions is what a quickstart may be told.
type QuickstartOptions struct {
	Dir     string    // where its files go; "" for a temporary folder that is removed in the end
	Example string    // whose files and story; "" for the built-in one
	Once    bool      // end after the story
	Listen  string    // of the hub; "" for a free port
	Account io.Writer // the live account; nil for none
	Log     *slog.Logger
	Version string
	Seed    uint64
	Load    Loader
}

// Connections of the quickstart, by vendor.
var quickstartConnections = map[string]string{
	sandbox.Shopify: "shop", sandbox.Zendesk: "desk", sandbox.HubSpot: "crm", sandbox.Zoho: "zoho",
}

// together is how close steps of the story may lie to be told at once, so that duplicates and disorder mean something.
const together = 5 * time.Minute

// settleTimeout bounds how long the story waits for everything to come to rest.
const settleTimeout = 60 * time.Second

// Quickstart runs hub, sandbox and callback receiver in this process and lets the story happen. It returns the summary once the
// story is told; unless Once is set it goes on running until ctx ends, and calls told first.
func Quickstart(ctx context.Context, o QuickstartOptions, told func(*Summary, *Running)) (*Summary, error) {
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "stagewire-quickstart-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Account == nil {
		o.Account = io.Discard
	}
	start := time.Now()
	q := &quickstart{o: o, steps: sandbox.QuickstartStory(), out: &account{w: o.Account}}
	if o.Example != "" {
		if err := q.read(o.Example); err != nil {
			return nil, err
		}
	}
	q.clock = NewStoryClock(q.steps[0].At.Add(-time.Hour), time.Now)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group, ctx := errgroup.WithContext(ctx)
	if err := q.open(ctx); err != nil {
		return nil, err
	}
	group.Go(func() error { return q.hub.Run(ctx) })
	group.Go(func() error { return q.sandbox.Run(ctx) })
	group.Go(func() error { return serveHTTP(ctx, q.sandboxSocket, q.sandbox.Handler()) })
	group.Go(func() error { return serveHTTP(ctx, q.receiverSocket, q.receiver) })
	var summary *Summary
	errDone := errors.New("the story is told")
	group.Go(func() error {
		var err error
		if err = q.provision(ctx); err == nil {
			err = q.tell(ctx)
		}
		if err != nil {
			return err
		}
		if summary, err = q.summarize(ctx, time.Since(start)); err != nil {
			return err
		}
		if told != nil {
			told(summary, q.running())
		}
		if o.Once {
			cancel(errDone)
		}
		return nil
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err == nil && summary == nil {
		err = context.Cause(ctx)
	}
	return summary, err
}

// Running says where the parts of a quickstart are.
type Running struct {
	Hub, Sandbox, Receiver string
	Token                  hub.Secret
	Config                 string
}

type quickstart struct {
	o              QuickstartOptions
	steps          []sandbox.Step
	expected       map[string]map[string]string // of an example: e-mail address → model → stage
	clock          *StoryClock
	out            *account
	hub            *App
	sandbox        *sandbox.Sandbox
	receiver       *Receiver
	sandboxSocket  net.Listener
	receiverSocket net.Listener
	config         string
}

func (q *quickstart) running() *Running {
	return &Running{
		Hub: "http://" + q.hub.Addr().String(), Sandbox: "http://" + q.sandboxSocket.Addr().String(),
		Receiver: "http://" + q.receiverSocket.Addr().String(), Token: q.hub.Token, Config: q.config,
	}
}

// read takes the story of an example, and where it is to lead.
func (q *quickstart) read(example string) error {
	root, err := exampleFolder(example)
	if err != nil {
		return err
	}
	story, err := fs.ReadFile(root, "story.yaml")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the built-in story is its story
	}
	if err == nil {
		q.steps, err = sandbox.ReadStory(story)
	}
	if err != nil {
		return fmt.Errorf("example %s: %w", example, err)
	}
	expected, err := fs.ReadFile(root, "expected.yaml")
	if err == nil {
		err = yaml.Unmarshal(expected, &q.expected)
	}
	if err == nil && len(q.expected) == 0 {
		err = errors.New("expected.yaml expects nothing")
	}
	if err != nil {
		return fmt.Errorf("example %s: %w", example, err)
	}
	return nil
}

// open writes the files of `init` with free ports in them and opens all parts.
func (q *quickstart) open(ctx context.Context) (err error) {
	var sockets []net.Listener
	defer func() {
		if err != nil {
			for _, s := range sockets {
				s.Close()
			}
		}
	}()
	for range 2 {
		s, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		sockets = append(sockets, s)
	}
	q.sandboxSocket, q.receiverSocket = sockets[0], sockets[1]
	listen := q.o.Listen
	if listen == "" {
		if listen, err = freeAddress(); err != nil {
			return err
		}
	}
	if q.config, err = Init(q.o.Dir, InitOptions{Example: q.o.Example, Listen: listen, Sandbox: q.sandboxSocket.Addr().String(), Receiver: q.receiverSocket.Addr().String()}); err != nil {
		return err
	}
	cfg, connectors, err := q.o.Load(q.config)
	if err != nil {
		return err
	}
	cfg.Settle, cfg.MinFreeDisk = time.Second, config.Size{Bytes: 64 << 20}
	q.sandbox = sandbox.New(sandbox.Config{
		Hub: "http://" + listen, PublicURL: cfg.PublicURL, Business: q.clock.Business, Seed: q.o.Seed, Log: q.o.Log, Compress: 3600,
		Accounts: Accounts(cfg),
		Knobs: map[string]sandbox.Knobs{
			sandbox.Shopify: {Duplicates: 0.3, Disorder: 0.3, Overtake: sandbox.Span(50 * time.Millisecond), SearchLag: sandbox.Span(2 * time.Second)},
			sandbox.Zendesk: {Duplicates: 0.3, Disorder: 0.2, Overtake: sandbox.Span(50 * time.Millisecond)},
			sandbox.HubSpot: {Duplicates: 0.3, Disorder: 0.2, Overtake: sandbox.Span(50 * time.Millisecond)},
			sandbox.Zoho:    {Duplicates: 0.3, Disorder: 0.2, Overtake: sandbox.Span(50 * time.Millisecond)},
		},
	})
	q.receiver = NewReceiver(cfg.Subscriptions[0].Secrets[0], q.out.callback)
	q.hub, err = Open(ctx, Options{
		Config: cfg, Connectors: connectors, Load: q.o.Load, Log: q.o.Log, Version: q.o.Version, Clock: q.clock, Observe: q.out.observe,
	})
	return err
}

// provision makes the fields the hub writes, at every vendor that must have them first.
func (q *quickstart) provision(ctx context.Context) error {
	for _, name := range q.hub.registry.Names() {
		planned, err := q.hub.Provision(ctx, name, true)
		if err != nil {
			return fmt.Errorf("provision %s: %w", name, err)
		}
		for _, p := range planned {
			q.out.printf("           %-6s %s: %s\n", name, p.Name, p.State)
		}
	}
	return nil
}

// tell plays the story, group by group; the clock goes on only when everything has come to rest.
func (q *quickstart) tell(ctx context.Context) error {
	for i := 0; i < len(q.steps); {
		end := i + 1
		for end < len(q.steps) && q.steps[end].At.Sub(q.steps[i].At) <= together {
			end++
		}
		if err := q.settle(ctx); err != nil {
			return err
		}
		q.clock.Advance(q.steps[i].At)
		if err := q.settle(ctx); err != nil { // what silence brings until then
			return err
		}
		for _, step := range q.steps[i:end] {
			q.clock.Advance(step.At)
			q.out.step(step)
			if err := q.sandbox.Play(ctx, step); err != nil {
				return err
			}
		}
		i = end
	}
	return q.settle(ctx)
}

// settle waits until nothing is under way: no webhook, no event, no fetch, no delivery, no echo, and the horizon has come up to
// the story's clock. It must be seen twice in a row, since things move on while one looks.
func (q *quickstart) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTimeout, errors.New("the story did not come to rest"))
	defer cancel()
	for quiet := 0; quiet < 2; {
		still, what, err := q.quiet(ctx)
		if err != nil {
			return err
		}
		if still {
			quiet++
			continue
		}
		quiet = 0
		rest(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

func (q *quickstart) quiet(ctx context.Context) (still bool, what string, err error) {
	if !q.sandbox.Idle() {
		return false, "webhooks to be taken", nil
	}
	oldest, err := q.hub.bus.Oldest(ctx)
	if err != nil || !oldest.IsZero() {
		return false, "webhooks and events in the streams", err
	}
	pending, err := q.hub.store.Pending(ctx, time.Now())
	if err != nil {
		return false, "", err
	}
	switch {
	case pending.Hydrations > 0:
		return false, "records to be fetched", nil
	case pending.DeliveriesOpen > 0:
		return false, fmt.Sprintf("%d deliveries", pending.DeliveriesOpen), nil
	case pending.Outbox > 0:
		return false, "the outbox", nil
	}
	return q.hub.pipeline.Rest(ctx)
}

// account prints what happens.
type account struct {
	mu sync.Mutex
	w  io.Writer
}

func (a *account) printf(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.w, format, args...)
}

func (a *account) step(s sandbox.Step) {
	a.printf("%s %s\n", s.At.Format("2006-01-02"), strings.TrimSpace(strings.Join([]string{s.Account, parenthesis(s.Vendor)}, " ")))
}

func parenthesis(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

func (a *account) observe(o pipeline.Observation) {
	name := o.Customer.Name
	if name == "" {
		name = o.Customer.Email
	}
	if name == "" {
		name = o.Customer.ID
	}
	if o.Echo {
		a.printf("           %-14s our own write came back from %s: recognised\n", name, o.Event.Connection)
	}
	for _, t := range o.Transitions {
		by := ""
		if t.Cause.Type == hub.CauseWake {
			by = " by silence alone"
		}
		a.printf("           %-14s %s: %s → %s on %s%s — %s\n", name, t.Model, t.From, t.To, t.At.UTC().Format("2006-01-02 15:04"), by, t.Why)
	}
}

func (a *account) callback(c Callback) {
	a.printf("           %-14s callback received: %s %s → %s\n", "", c.Model, c.From, c.To)
}

// freeAddress finds a loopback port that nobody listens on, among those that systems do not hand out by themselves.
func freeAddress() (string, error) {
	first := rand.IntN(10000)
	for i := range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 21000+(first+i)%10000)
		l, err := net.Listen("tcp", address)
		if err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port between 21000 and 31000")
}

// serveHTTP serves h on l until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if s.Shutdown(end) != nil {
			s.Close()
		}
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Accounts tells the sandbox the vendors' accounts as the configuration knows them.
func Accounts(cfg *config.Config) map[string]map[string]string {
	out := sandbox.DefaultAccounts()
	names := make([]string, 0, len(cfg.Connections))
	for name := range cfg.Connections {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		conn := cfg.Connections[name]
		account := out[conn.Connector]
		if account == nil {
			continue
		}
		maps.Copy(account, conn.Settings)
		for key, secrets := range conn.Secrets {
			if len(secrets) > 0 {
				account[key] = secrets[0].Reveal()
			}
		}
	}
	return out
}
