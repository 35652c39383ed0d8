package main

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/sandbox"
)

// An outage, ours or theirs, never makes customers look silent, and nothing of it is lost. Half a year of silence is shortened to
// lostAfter here, so that the outages, longer than that, would show everybody as lost.
const lostAfter = 20 * time.Second

// shortSilence is the shipped model with that parameter.
const shortSilence = "[{use: clc, params: {lost_after: 20s}}]"

// outage is a world with people who keep ordering and people who stop.
type outage struct {
	*world
	seed   uint64
	orders orders
	waves  sync.WaitGroup
	next   uint64
}

func newOutage(t *testing.T, s settings) *outage {
	t.Helper()
	_, seed := seeded(t)
	s.sandbox.Seed = seed
	if s.models == "" {
		s.models = shortSilence
	}
	s.kinds = "[stage.entered]"
	return &outage{world: newWorld(t, s), seed: seed}
}

// crowd lets people order until the returned function is called: each of them every second or so, at rate orders a second in all.
func (o *outage) crowd(people int, rate float64) (stop func()) {
	ctx, cancel := context.WithCancel(o.Context())
	o.next++
	cfg := sandbox.LoadConfig{Customers: people, Rate: rate, Workers: 32, Seed: o.seed%1_000_000_007*1000 + o.next, Retry: 200 * time.Millisecond}
	o.waves.Go(func() { o.load(ctx, &o.orders, cfg) })
	return func() { cancel(); o.waves.Wait() }
}

// once lets so many people order once.
func (o *outage) once(people int) {
	for range people {
		o.next++
		o.load(o.Context(), &o.orders, sandbox.LoadConfig{Customers: 1, Orders: 1, Workers: 1, Seed: o.seed%1_000_000_007*1000 + o.next, Retry: 200 * time.Millisecond})
	}
}

// losses are the instants at which somebody became lost, as her orders say it, up to until. An order in the very second in which
// silence would end may come before or after: maybe has those.
func losses(list []sandbox.LoadedOrder, until time.Time) (sure, maybe []time.Time) {
	for i, one := range list {
		at := one.OccurredAt.Add(lostAfter)
		next := until.Truncate(time.Second)
		if i+1 < len(list) {
			next = list[i+1].OccurredAt
		}
		switch {
		case next.After(at):
			sure = append(sure, at)
		case next.Equal(at):
			maybe = append(maybe, at)
		}
	}
	return sure, maybe
}

// judge holds every customer's losses against her orders: none by mistake, none missing, each at the exact instant. stopped is when
// the hub was told to end. It returns how many losses there were.
func (o *outage) judge(h *history, customers map[string][]sandbox.LoadedOrder, stopped time.Time) int {
	o.Helper()
	count := 0
	for _, email := range slices.Sorted(maps.Keys(customers)) {
		list := customers[email]
		sure, maybe := losses(list, stopped.Add(-3*time.Second))
		_, open := losses(list[len(list)-1:], stopped) // the last silence may just have ended
		open = append(open, list[len(list)-1].OccurredAt.Add(lostAfter))
		var had []time.Time
		for _, t := range h.transitions[h.survivor(customerOf(list[0].CustomerID))] {
			if t.Model == "clc" && t.To == "lost" {
				had = append(had, t.At)
			}
		}
		count += len(had)
		for _, at := range had {
			if !slices.ContainsFunc(append(slices.Clone(sure), append(maybe, open...)...), at.Equal) {
				o.fault("lost by mistake", "%s at %v; she ordered at %v", email, at, times(list))
			}
		}
		for _, at := range sure {
			if !slices.ContainsFunc(had, at.Equal) {
				o.fault("not lost", "%s at %v, but %v; she ordered at %v", email, at, had, times(list))
			}
		}
	}
	return count
}

func times(list []sandbox.LoadedOrder) []string {
	var out []string
	for _, one := range list[max(0, len(list)-4):] {
		out = append(out, one.OccurredAt.Format("15:04:05"))
	}
	return out
}

// nothingLost holds the events against the orders.
func (o *outage) nothingLost(h *history, customers map[string][]sandbox.LoadedOrder) {
	o.Helper()
	for email, list := range customers {
		for _, one := range list {
			if _, ok := h.events[eventOf(one)]; !ok {
				o.fault("lost order", "%s of %s at %v", one.OrderID, email, one.OccurredAt)
			}
		}
	}
}

// TestOutagePostgres stops the database for a while that is longer than the silence after which a customer is lost.
func TestOutagePostgres(t *testing.T) {
	long(t)
	pg := newPostgres(t)
	o := newOutage(t, settings{settle: 3 * time.Second, database: pg.url()})
	o.databaseAway(pg.stop, pg.start, true)
}

// TestOutageSQLite lets somebody else hold the database's lock as long: every write fails.
func TestOutageSQLite(t *testing.T) {
	long(t)
	o := newOutage(t, settings{settle: 3 * time.Second})
	var db *sql.DB
	o.databaseAway(func() {
		var err error
		if db, err = sql.Open("sqlite", "file:"+filepath.Join(o.data(), "stagewire.db")+"?_pragma=busy_timeout(30000)&_txlock=immediate"); err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
			t.Fatal(err)
		}
	}, func() {
		if _, err := db.ExecContext(t.Context(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		db.Close()
	}, false)
}

// databaseAway takes the database away under load and gives it back.
func (o *outage) databaseAway(away, back func(), noticed bool) {
	o.Helper()
	const rate, length = 100, 2*lostAfter + 5*time.Second
	o.start()
	o.ready()
	o.once(10) // who stop
	stopCrowd := o.crowd(40, rate)
	o.pass(5 * time.Second)

	away()
	began, before := time.Now(), o.orders.count()
	longest := o.watchAcks(length)
	during := o.orders.count() - before
	status, body, err := o.get("/readyz")
	if noticed && (err != nil || status != http.StatusServiceUnavailable) {
		o.Errorf("ready without a database: %d %v %s", status, err, body)
	}
	back()
	lasted, returned := time.Since(began), time.Now()
	owed := o.orders.count()
	applied := func() float64 {
		n, err := o.metric(`stagewire_events_total{connection="shop",kind="order.paid"}`)
		if err != nil {
			o.Fatal(err)
		}
		return n
	}
	behind := float64(owed) - applied()
	if behind < rate*length.Seconds()/2 {
		o.Errorf("%v orders behind: the database was not away", behind)
	}
	if longest > 3*time.Second || during < rate*int(length.Seconds())/2 {
		o.Errorf("while the database was away %d webhooks were acknowledged, at most %v apart", during, longest)
	}

	recovery := o.until(2*time.Minute, func() string { // while the orders go on
		if n := applied(); n < float64(owed) {
			return fmt.Sprintf("%v of %d orders applied", n, owed)
		}
		return ""
	})
	o.until(30*time.Second, func() string { return o.stageHas("clc", "lost", 10) })
	silence := time.Since(returned)
	stopCrowd()
	o.quiet(time.Minute)
	stopped := time.Now()
	o.stop()

	h, customers := o.readHistory(), o.orders.byCustomer()
	o.nothingLost(h, customers)
	count := o.judge(h, customers, stopped)
	o.Logf("database away for %v: %d webhooks acknowledged meanwhile, at most %v apart; after its return %.0f orders worked off in %v (%.0f a second, beside new ones); %d times somebody was lost, the silent ones %v after the return",
		lasted.Round(time.Millisecond), during, longest.Round(time.Millisecond), behind, recovery.Round(time.Millisecond), behind/recovery.Seconds(),
		count, silence.Round(time.Millisecond))
	if len(o.orders.lost) > 40 { // what was on its way when the crowd went home
		o.Errorf("%d orders were not acknowledged", len(o.orders.lost))
	}
}

// watchAcks waits and returns the longest time without an acknowledged webhook.
func (o *outage) watchAcks(d time.Duration) time.Duration {
	o.Helper()
	longest := time.Duration(0)
	for began := time.Now(); time.Since(began) < d; {
		o.pass(50 * time.Millisecond)
		longest = max(longest, time.Since(o.orders.since()))
	}
	return longest
}

// stageHas says what is missing until a stage has so many customers.
func (w *world) stageHas(model, stage string, want int) string {
	w.Helper()
	n, err := w.count(fmt.Sprintf("customers?model=%s&stage=%s&limit=200", model, stage))
	if err != nil || n < want {
		return fmt.Sprintf("%d of %d in %s %s, %v", n, want, model, stage, err)
	}
	return ""
}

// postgresCluster is a PostgreSQL of the test's own.
type postgresCluster struct {
	t         *testing.T
	dir, port string
	control   []string // pg_ctl, perhaps as another user
}

func newPostgres(t *testing.T) *postgresCluster {
	t.Helper()
	bin := ""
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			bin = filepath.Dir(path)
		}
	} else if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		bin = filepath.Dir(found[len(found)-1])
	}
	if bin == "" {
		t.Skip("PostgreSQL (initdb, pg_ctl) is not installed")
	}
	dir, err := os.MkdirTemp("", "stagewire-outage-") //nolint:usetesting // another user must be able to reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	_, port, _ := strings.Cut(freeAddress(t), ":")
	c := &postgresCluster{t: t, dir: dir, port: port}
	var as []string
	if os.Getuid() == 0 { // PostgreSQL refuses to be root
		as = []string{"runuser", "-u", "postgres", "--"}
		if out, err := exec.CommandContext(t.Context(), "chown", "postgres", dir).CombinedOutput(); err != nil {
			t.Skipf("there is no user postgres to run it as: %s", out)
		}
	}
	c.control = append(slices.Clone(as), filepath.Join(bin, "pg_ctl"), "-D", filepath.Join(dir, "data"), "-w", "-t", "60")
	c.run(append(as, filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"))
	t.Cleanup(func() { _ = exec.Command(c.control[0], append(c.control[1:], "-m", "immediate", "stop")...).Run() }) // it may be stopped
	c.start()
	return c
}

func (c *postgresCluster) run(command []string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), command[0], command[1:]...)
	cmd.Dir = c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

func (c *postgresCluster) url() string {
	return "postgres://postgres@127.0.0.1:" + c.port + "/postgres?sslmode=disable"
}

func (c *postgresCluster) start() {
	c.t.Helper()
	options := fmt.Sprintf("-c listen_addresses=127.0.0.1 -c port=%s -c unix_socket_directories=%s -c max_connections=100", c.port, c.dir)
	c.run(append(slices.Clone(c.control), "-l", filepath.Join(c.dir, "log"), "-o", options, "start"))
}

func (c *postgresCluster) stop() {
	c.t.Helper()
	c.run(append(slices.Clone(c.control), "-m", "immediate", "stop"))
}

// TestOutageOfTheHub has the hub away while people order. Their webhooks come by the shop's own retries, a minute being a second.
func TestOutageOfTheHub(t *testing.T) {
	long(t)
	const settle = 20 * time.Second
	o := newOutage(t, settings{settle: settle, sandbox: sandbox.Config{Compress: 60}})
	o.start()
	o.ready()
	shop := func(step sandbox.Step) {
		t.Helper()
		step.Vendor = sandbox.Shopify
		if err := o.sandbox.Play(t.Context(), step); err != nil {
			t.Fatal(err)
		}
	}
	orders, placed := map[string][]time.Time{}, 0
	order := func(who string) {
		t.Helper()
		placed++
		name, at := fmt.Sprintf("o%d", placed), time.Now().UTC().Truncate(time.Second)
		for _, do := range []string{"order.placed", "order.paid"} {
			shop(sandbox.Step{Do: do, Customer: who, Object: name, Amount: "20.00", At: at})
		}
		orders[who] = append(orders[who], at)
	}
	var returning, silent []string
	for i := range 20 {
		who := fmt.Sprintf("person-%d@example.com", i)
		shop(sandbox.Step{Do: "customer.created", Customer: who, Name: fmt.Sprintf("Person %d", i)})
		order(who)
		if i%2 == 0 {
			returning = append(returning, who)
		} else {
			silent = append(silent, who)
		}
	}
	o.pass(8 * time.Second)
	o.crash()
	down := time.Now()
	wait := time.NewTicker(time.Second)
	defer wait.Stop()
	for i := range 20 { // twenty minutes of the shop's time
		<-wait.C
		if i/2 < len(returning) && i%2 == 0 { // each once, 9 to 27 s after the order before: some of them only just in time
			if who := returning[i/2]; time.Since(orders[who][0]) < lostAfter-2*time.Second {
				order(who)
			}
		}
	}
	o.start()
	o.ready()
	up := time.Now()
	o.until(time.Minute, func() string {
		if !o.sandbox.Idle() {
			return "the shop's retries"
		}
		return ""
	})
	retried := time.Since(up)
	if retried > settle {
		t.Fatalf("the last retry came after %v: the test says nothing", retried)
	}
	gap := false
	for _, line := range o.log(o.lives[len(o.lives)-1]) {
		gap = gap || strings.HasPrefix(line.Message, "intake gap opened")
	}
	if !gap {
		t.Error("no intake gap was opened")
	}
	if n, err := o.count("customers?model=clc&stage=lost&limit=200"); err != nil || n > 0 && time.Since(up) < settle-3*time.Second {
		t.Errorf("%d are lost before the gap is settled, %v", n, err)
	}
	o.until(settle+15*time.Second, func() string { return o.stageHas("clc", "lost", len(silent)) })
	settled := time.Since(up)
	o.quiet(time.Minute)
	o.stop()
	stats := o.sandbox.Stats(sandbox.Shopify)
	if stats.Lost > 0 || stats.Retries == 0 {
		t.Errorf("the shop's webhooks: %+v", stats)
	}

	h := o.readHistory()
	count, known := 0, 0
	for who, list := range orders {
		rec := o.customerByEmail(who)
		var had []time.Time
		for _, tr := range h.transitions[rec] {
			if tr.To != "lost" {
				continue
			}
			had = append(had, tr.At)
			if tr.DecidedAt.Before(up.Add(settle - 3*time.Second)) {
				o.fault("too early", "%s decided at %v, the hub came back at %v", who, tr.DecidedAt, up)
			}
		}
		count += len(had)
		for _, at := range had {
			for _, ordered := range list {
				if ordered.After(at.Add(-lostAfter)) && !ordered.After(at) {
					o.fault("lost by mistake", "%s at %v, ordered at %v", who, at, list)
				}
			}
		}
		if want := list[len(list)-1].Add(lostAfter); len(list) == 1 && (len(had) != 1 || !had[0].Equal(want)) {
			o.fault("not lost", "%s at %v, want %v", who, had, want)
		}
		for _, a := range h.events {
			if a.customer == rec {
				known++
			}
		}
	}
	if known < 3*placed { // placed, paid and updated of each
		t.Errorf("%d events of %d orders", known, placed)
	}
	t.Logf("away for %v: %d orders, %d webhooks retried, the last %v after the return; %d lost, the silent ones %v after the return (settle %v)",
		up.Sub(down).Round(time.Millisecond), placed, stats.Retries, retried.Round(time.Millisecond), count, settled.Round(time.Millisecond), settle)
}

// TestOutageOfAVendor has the CRM answer 503 to every read for longer than the silence of both models: the shop's customers turn in
// time, those whose facts the CRM holds back wait for it.
func TestOutageOfAVendor(t *testing.T) {
	long(t)
	o := newOutage(t, settings{crm: true, settle: 3 * time.Second, models: "[{use: clc, params: {lost_after: 20s}}, deals.yaml]", sandbox: sandbox.Config{Compress: 60}})
	if err := os.WriteFile(filepath.Join(o.dir, "deals.yaml"), []byte(dealsModel), 0o600); err != nil {
		t.Fatal(err)
	}
	o.start()
	o.ready()
	deals := map[string][]time.Time{}
	crm := func(do, who string) {
		t.Helper()
		at := time.Now().UTC().Truncate(time.Millisecond)
		step := sandbox.Step{Vendor: sandbox.HubSpot, Do: do, Customer: who, Name: "Some Body", At: at}
		if do == "deal.created" {
			deals[who] = append(deals[who], at)
			step.Object, step.Subject, step.Amount = fmt.Sprintf("%s-%d", who, len(deals[who])), "Deal", "100"
		}
		if err := o.sandbox.Play(t.Context(), step); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		who := fmt.Sprintf("lead-%d@example.com", i)
		crm("customer.created", who)
		crm("deal.created", who)
	}
	o.once(10)
	o.until(30*time.Second, func() string { return o.stageHas("deals", "warm", 20) })

	o.sandbox.Set(sandbox.HubSpot, func(k *sandbox.Knobs) { k.Hydration = true })
	sick := time.Now()
	for i := range 10 {
		crm("deal.created", fmt.Sprintf("lead-%d@example.com", i)) // unknown until the CRM answers again
	}
	o.until(lostAfter+15*time.Second, func() string { return o.stageHas("clc", "lost", 10) })
	o.pass(2*lostAfter - time.Since(sick) + 5*time.Second)
	if n, err := o.count("customers?model=deals&stage=cold&limit=200"); err != nil || n > 0 {
		t.Errorf("%d are cold although the CRM says nothing, %v", n, err)
	}
	o.sandbox.Set(sandbox.HubSpot, func(k *sandbox.Knobs) { k.Hydration = false })
	well := time.Now()
	o.until(4*time.Minute, func() string { return o.stageHas("deals", "cold", 20) })
	recovery := time.Since(well)
	o.quiet(time.Minute)
	o.stop()

	h, customers := o.readHistory(), o.orders.byCustomer()
	o.nothingLost(h, customers)
	slowest := time.Duration(0)
	for email, list := range customers {
		for _, tr := range h.transitions[h.survivor(customerOf(list[0].CustomerID))] {
			if tr.To == "lost" {
				slowest = max(slowest, tr.DecidedAt.Sub(tr.At))
				if want := list[0].OccurredAt.Add(lostAfter); !tr.At.Equal(want) {
					o.fault("wrong instant", "%s lost at %v, want %v", email, tr.At, want)
				}
			}
		}
	}
	if slowest > 3*time.Second {
		t.Errorf("the shop's customers were lost up to %v after their instant: the sick CRM held them", slowest)
	}
	for who, list := range deals {
		var had []time.Time
		for _, tr := range h.transitions[o.customerByEmail(who)] {
			if tr.Model == "deals" && tr.To == "cold" {
				had = append(had, tr.At)
				if tr.DecidedAt.Before(well) {
					o.fault("too early", "%s cold at %v, decided at %v", who, tr.At, tr.DecidedAt)
				}
			}
		}
		if want := list[len(list)-1].Add(lostAfter); len(had) != 1 || !had[0].Equal(want) {
			o.fault("wrong instant", "%s with deals at %v: cold at %v, want %v", who, list, had, want)
		}
	}
	t.Logf("reads of the CRM failed for %v; the shop's customers were lost at most %v after their instant; %d deals were fetched and decided upon %v after the CRM's return",
		well.Sub(sick).Round(time.Millisecond), slowest.Round(time.Millisecond), 10, recovery.Round(time.Millisecond))
}

const dealsModel = `model: deals
of: customer
params:
  cold_after: 20s
stages:
  - name: none
  - name: warm
  - name: cold
decide:
  - stage: cold
    when: since("deal.created") >= params.cold_after
  - stage: warm
    when: ever("deal.created")
  - otherwise: none
`

// customerByEmail finds the one living customer of an address in a stopped hub.
func (w *world) customerByEmail(email string) string {
	w.Helper()
	s := w.open()
	defer s.Close()
	found, _, err := s.Customers(w.Context(), hub.CustomerQuery{Email: email})
	if err != nil || len(found) != 1 {
		w.Fatalf("%s: %d customers, %v", email, len(found), err)
	}
	return found[0].ID
}
