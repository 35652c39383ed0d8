package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/sandbox"
)

// Whatever is killed at whatever moment: what was acknowledged is an event, stages are what the events say, every task and
// every callback exists once, and work goes on soon. These are promises 1 to 3.

// TestCrashShortly is the same in small, without a vendor to write to: after a crash a write in doubt waits a minute.
func TestCrashShortly(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a hub three times")
	}
	c := newCrash(t, settings{})
	c.between, c.waves = 2*time.Second, crowd{customers: 10, orders: 250, rate: 150}
	c.run(2)
}

func TestCrashSQLite(t *testing.T) {
	long(t)
	c := newCrash(t, settings{crm: true})
	c.run(25)
}

func TestCrashPostgres(t *testing.T) {
	long(t)
	c := newCrash(t, settings{crm: true, database: freshDatabase(t)})
	c.run(5)
}

func TestCrashCluster(t *testing.T) {
	long(t)
	cluster := newCluster(t)
	c := newCrash(t, settings{crm: true, nats: cluster.url()})
	c.atEach = cluster.crashOne
	c.between = 8 * time.Second
	c.limit += 9*time.Second + time.Second // NATS elects another leader within 4 to 9 s; until then nobody is given anything
	c.run(5)
}

// nextDelivery is how long a restarted hub may wait for its first frame: AckWait and three heartbeats.
const nextDelivery = 5*time.Second + 3*time.Second

// crowd is one wave of orders.
type crowd struct {
	customers, orders int
	rate              float64
}

type crash struct {
	*world
	chance  *rand.Rand
	seed    uint64
	between time.Duration // a life of the hub is at most that long
	waves   crowd
	limit   time.Duration    // of the time to the next delivery
	atEach  func(*rand.Rand) // what else breaks
	orders  orders
}

const crashReactions = `reactions:
  - name: care
    enter: clc.active
    do:
      - create_task: {via: crm, subject: "Call ${customer.name}", note: "${explanation}", key: care}
`

const crashWrites = `write:
  shop: {model: clc, tag: "stage:${stage}"}
  crm: {model: clc, field: lifecyclestage, mode: if_ours, values: {prospect: lead, new: customer, active: customer, loyal: evangelist, lost: other}}
reactions: [reactions.yaml]`

func newCrash(t *testing.T, s settings) *crash {
	t.Helper()
	chance, seed := seeded(t)
	s.kinds, s.settle = "[stage.entered, order.paid]", 2*time.Second
	s.sandbox = sandbox.Config{Seed: seed, Compress: 600, Knobs: map[string]sandbox.Knobs{
		sandbox.HubSpot: {SearchLag: sandbox.Span(2 * time.Second), Duplicates: 0.1, Disorder: 0.1},
		sandbox.Shopify: {Duplicates: 0.1, Disorder: 0.1},
	}}
	if s.crm {
		s.config = crashWrites
	}
	c := &crash{world: newWorld(t, s), chance: chance, seed: seed, between: 4 * time.Second, limit: nextDelivery, waves: crowd{customers: 4, orders: 300, rate: 75}}
	if err := os.WriteFile(filepath.Join(c.dir, "reactions.yaml"), []byte(crashReactions), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.crm {
		c.provision("crm")
		c.world.sandbox.Set(sandbox.HubSpot, func(k *sandbox.Knobs) { k.LoseAnswers = 0.05 })
	}
	return c
}

// provision makes the fields the hub needs at a vendor, before the first life.
func (w *world) provision(connection string) {
	w.Helper()
	cfg, set, err := loadForApp(w.file())
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	a, err := app.Open(ctx, app.Options{Config: cfg, Connectors: set, Load: loadForApp, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	if _, err := a.Provision(ctx, connection, true); err != nil {
		w.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		w.Fatal(err)
	}
}

// run kills the hub so many times under load, lets everything come to rest, and compares.
func (c *crash) run(kills int) {
	c.Helper()
	c.start()
	c.ready()
	ctx, stopWaves := context.WithCancel(c.Context())
	var crowds sync.WaitGroup
	var number sync.Mutex
	wave := uint64(0)
	for range 2 {
		crowds.Go(func() {
			for ctx.Err() == nil {
				number.Lock()
				wave++
				n := wave
				number.Unlock()
				cfg := sandbox.LoadConfig{
					Rate: c.waves.rate, Workers: 8, Customers: c.waves.customers, Orders: c.waves.orders, Seed: c.seed%1_000_000_007*1000 + n,
					Retry: 50 * time.Millisecond, Duplicates: 0.05,
				}
				if c.settings.crm {
					cfg.Also = []string{sandbox.HubSpot}
				}
				if n%3 == 0 { // people who order once or twice
					cfg.Customers, cfg.Orders = 2*c.waves.customers, 4*c.waves.customers
				}
				c.load(c.Context(), &c.orders, cfg)
			}
		})
	}
	var worst time.Duration // from a kill to the next webhook that is acknowledged
	for range kills {
		c.pass(time.Duration(c.chance.Int64N(int64(c.between))))
		if c.atEach != nil {
			c.atEach(c.chance)
		}
		c.crash()
		killed := time.Now()
		c.start()
		if c.chance.IntN(2) == 0 { // else perhaps before it is up
			c.until(time.Minute, func() string {
				if !c.orders.since().After(killed) {
					return "a webhook acknowledged after the kill"
				}
				return ""
			})
			worst = max(worst, time.Since(killed))
		}
	}
	stopWaves()
	done := make(chan struct{})
	go func() { crowds.Wait(); close(done) }()
	c.until(time.Minute, func() string {
		select {
		case <-done:
			return ""
		default:
			return "the end of the load"
		}
	})
	took := c.quiet(9 * time.Minute)
	c.stop()
	c.Logf("%d kills, %d orders acknowledged (at most %d attempts), worst time from a kill to the next acknowledged %v, quiet %v after the load",
		kills, c.orders.count(), c.orders.worst, worst.Round(time.Millisecond), took.Round(time.Millisecond))
	c.deliveryTimes()
	c.compare()
}

// deliveryTimes takes from the hub's own log how long each life waited for its first frame.
func (c *crash) deliveryTimes() {
	worst, seen := map[string]time.Duration{}, map[string]int{}
	for _, life := range c.lives {
		for _, line := range c.log(life) {
			if line.Message == "time to next delivery" {
				worst[line.Stream] = max(worst[line.Stream], time.Duration(line.Took))
				seen[line.Stream]++
			}
		}
	}
	for _, stream := range []string{"WEBHOOKS", "EVENTS"} {
		c.Logf("time to next delivery of %s: at most %v in %d of %d lives", stream, worst[stream].Round(time.Millisecond), seen[stream], len(c.lives))
		if seen[stream] == 0 || worst[stream] > c.limit {
			c.Errorf("time to next delivery of %s: %v, limit %v", stream, worst[stream], c.limit)
		}
	}
}

// freshDatabase makes a database of the test's own on the server of STAGEWIRE_TEST_POSTGRES.
func freshDatabase(t *testing.T) string {
	t.Helper()
	server := os.Getenv("STAGEWIRE_TEST_POSTGRES")
	if server == "" {
		t.Skip("needs PostgreSQL: set STAGEWIRE_TEST_POSTGRES")
	}
	name := "stagewire_crash_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	run := func(query string) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, query); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE DATABASE " + name)
	t.Cleanup(func() { run("DROP DATABASE " + name + " WITH (FORCE)") })
	own, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	own.Path = "/" + name
	return own.String()
}

// cluster is three NATS servers, each in a process of its own.
type cluster struct {
	t       *testing.T
	dir     string
	clients [3]string
	routes  [3]string
	servers [3]*process
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir()}
	for i := range c.servers {
		c.clients[i], c.routes[i] = freeAddress(t), freeAddress(t)
	}
	for i := range c.servers {
		c.start(i)
	}
	for _, address := range c.clients { // the hub may start before its cluster has a leader, not before anybody listens
		for limit := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(limit) {
				t.Fatal(err)
			}
		}
	}
	return c
}

func (c *cluster) url() string {
	return "nats://" + strings.Join(c.clients[:], ",nats://")
}

func (c *cluster) start(i int) {
	name := fmt.Sprintf("n%d", i)
	c.servers[i] = spawn(c.t, filepath.Join(c.dir, name+".log"), "natsd", name, filepath.Join(c.dir, name), c.clients[i], c.routes[i], strings.Join(c.routes[:], ","))
}

// crashOne kills one of the servers, whoever leads, and starts it again.
func (c *cluster) crashOne(chance *rand.Rand) {
	i := chance.IntN(len(c.servers))
	c.servers[i].kill()
	c.start(i)
}

// natsd is a NATS server as an operator would run it: natsd name folder client-address cluster-address routes.
func natsd() {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) != 6 {
		fail(fmt.Errorf("natsd: %d arguments", len(os.Args)))
	}
	port := func(address string) (string, int) {
		host, text, _ := strings.Cut(address, ":")
		n, err := strconv.Atoi(text)
		if err != nil {
			fail(err)
		}
		return host, n
	}
	o := &server.Options{ServerName: os.Args[1], StoreDir: os.Args[2], JetStream: true, MaxPayload: 8 << 20}
	o.Host, o.Port = port(os.Args[3])
	o.Cluster.Name = "stagewire"
	o.Cluster.Host, o.Cluster.Port = port(os.Args[4])
	o.RoutesStr = "nats://" + strings.ReplaceAll(os.Args[5], ",", ",nats://")
	o.Routes = server.RoutesFromStr(o.RoutesStr)
	s, err := server.NewServer(o)
	if err != nil {
		fail(err)
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
}
