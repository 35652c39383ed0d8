package app

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/stagewire/stagewire/internal/config"
)

// BenchOptions is what a benchmark may be told.
type BenchOptions struct {
	Load    Loader
	Rounds  int    // each measures everything once, interleaved; the median counts
	Orders  int    // webhooks per measurement
	Seconds int    // of the measurement at a tenth of the rate
	Only    string // one part alone; "" for all
	Wakes   int    // customers with a wake-up in the future
	// Executable is this program, for measuring a hub in a process of its own; "" leaves that out.
	Executable string
	Log        *slog.Logger
	Say        func(format string, args ...any)
}

// BenchResult is what `bench --json` prints. Ratios are to the reference of the same round; the median of the rounds counts.
type BenchResult struct {
	Machine   Machine        `json:"machine"`
	Reference BenchReference `json:"reference"`
	Accept    BenchAccept    `json:"accept"`
	Decide    BenchDecide    `json:"decide"`
	Callback  BenchCallback  `json:"callback"`
	Calm      BenchCalm      `json:"calm"`
	Rules     BenchRules     `json:"rules"`
	Wakes     BenchWakes     `json:"wakes"`
	Memory    BenchMemory    `json:"memory"`
	StartMS   float64        `json:"start_ms"`
}

// Machine is where it was measured.
type Machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Go    string `json:"go"`
}

// BenchReference is a bare Fiber handler that reads the body and checks the HMAC.
type BenchReference struct {
	RPS   float64 `json:"rps"`
	CPUus float64 `json:"cpu_us"`
}

// BenchAccept is webhook to durable 2xx.
type BenchAccept struct {
	RPS   float64 `json:"rps"`
	Ratio float64 `json:"ratio"`
	P50ms float64 `json:"p50_ms"`
	P99ms float64 `json:"p99_ms"`
	CPUus float64 `json:"cpu_us"`
}

// BenchDecide is webhook to decided and committed, callbacks' rows written.
type BenchDecide struct {
	EPS   float64 `json:"eps"`
	Ratio float64 `json:"ratio"`
	CPUus float64 `json:"cpu_us"`
}

// BenchCallback is webhook to callback received.
type BenchCallback struct {
	RPS   float64 `json:"rps"`
	Ratio float64 `json:"ratio"`
	CPUus float64 `json:"cpu_us"`
	P50ms float64 `json:"p50_ms"` // at a tenth of the rate
	P99ms float64 `json:"p99_ms"`
}

// BenchCalm is accepting at a tenth of the callback rate.
type BenchCalm struct {
	RPS         float64 `json:"rps"`
	AcceptP50ms float64 `json:"accept_p50_ms"`
	AcceptP99ms float64 `json:"accept_p99_ms"`
}

// BenchWakes is silence: many customers waiting, many due at once.
type BenchWakes struct {
	Customers   int     `json:"customers"`
	IdlePercent float64 `json:"idle_cpu_percent"`
	PollUs      float64 `json:"poll_us"`
	Due         int     `json:"due"`
	DecidedMS   float64 `json:"decided_ms"`
}

const benchConnections = 64

// BenchParts are what BenchOptions.Only can name.
var BenchParts = []string{"accept", "decide", "callback", "calm", "rules", "memory", "wakes"}

type bench struct {
	o      BenchOptions
	dir    string
	next   int // number of the next order, so that none is sent twice
	result BenchResult
}

// Bench measures the hub in this process. Load generator, hub and receiver share the machine, as in the figures it is compared with.
func Bench(ctx context.Context, o BenchOptions) (*BenchResult, error) {
	dir, err := os.MkdirTemp("", "stagewire-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := &bench{o: o, dir: dir}
	b.result.Machine = Machine{CPU: cpuName(), Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if err := b.coldStart(ctx); err != nil {
		return nil, fmt.Errorf("cold start: %w", err)
	}
	var reference, refCPU, accept, acceptRatio, acceptCPU, p50, p99 []float64
	var decide, decideRatio, decideCPU, callback, callbackRatio, callbackCPU []float64
	for round := range o.Rounds {
		ref, err := b.reference(ctx)
		if err != nil {
			return nil, fmt.Errorf("reference: %w", err)
		}
		o.Say("round %d: reference %.0f/s", round+1, ref.rate())
		var acc burst
		var dec, cal passage
		reference, refCPU = append(reference, ref.rate()), append(refCPU, micros(ref.cpu, ref.accepted))
		if b.does("accept") {
			if acc, err = b.accept(ctx); err != nil {
				return nil, fmt.Errorf("accept: %w", err)
			}
			o.Say("round %d: accepted %.0f/s, %.2f of it", round+1, acc.rate(), acc.rate()/ref.rate())
			accept, acceptRatio, acceptCPU = append(accept, acc.rate()), append(acceptRatio, acc.rate()/ref.rate()), append(acceptCPU, micros(acc.cpu, acc.accepted))
			p50, p99 = append(p50, millis(acc.quantile(0.5))), append(p99, millis(acc.quantile(0.99)))
		}
		if b.does("decide") {
			if dec, err = b.whole(ctx, false); err != nil {
				return nil, fmt.Errorf("decide: %w", err)
			}
			o.Say("round %d: decided %.0f/s, %.2f of it", round+1, dec.rate, dec.rate/ref.rate())
			decide, decideRatio, decideCPU = append(decide, dec.rate), append(decideRatio, dec.rate/ref.rate()), append(decideCPU, dec.cpu)
		}
		if b.does("callback") {
			if cal, err = b.whole(ctx, true); err != nil {
				return nil, fmt.Errorf("callback: %w", err)
			}
			o.Say("round %d: callbacks %.0f/s, %.2f of it", round+1, cal.rate, cal.rate/ref.rate())
			callback, callbackRatio, callbackCPU = append(callback, cal.rate), append(callbackRatio, cal.rate/ref.rate()), append(callbackCPU, cal.cpu)
		}
	}
	r := &b.result
	r.Reference = BenchReference{median(reference), median(refCPU)}
	r.Accept = BenchAccept{median(accept), median(acceptRatio), median(p50), median(p99), median(acceptCPU)}
	r.Decide = BenchDecide{median(decide), median(decideRatio), median(decideCPU)}
	r.Callback = BenchCallback{RPS: median(callback), Ratio: median(callbackRatio), CPUus: median(callbackCPU)}
	if b.does("calm") {
		if err := b.calm(ctx); err != nil {
			return nil, fmt.Errorf("calm: %w", err)
		}
	}
	if b.does("rules") {
		if err := b.rules(); err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
	}
	if b.does("memory") && o.Executable != "" {
		if err := b.memory(ctx); err != nil {
			return nil, fmt.Errorf("memory: %w", err)
		}
	}
	if err := b.wakes(ctx); err != nil {
		return nil, fmt.Errorf("wakes: %w", err)
	}
	return r, nil
}

func (b *bench) does(part string) bool { return b.o.Only == "" || b.o.Only == part }

// config writes an installation with one shop and one subscription.
func (b *bench) config(name, receiver, kinds string) (*config.Config, string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	text := "listen: " + listen + "\ndata_dir: ./data\nmin_free_disk: 64MiB\nmodels: [clc]\nlog: {level: warn}\nconnections:\n  shop: {connector: shopify, shop: bench.myshopify.com, webhook_secret: \"${file:secret}\"}\n"
	if receiver != "" {
		text += "subscriptions:\n  - {name: sink, url: \"" + receiver + "\", secret: \"${file:callback}\", kinds: [" + kinds + "], allow_private_addresses: true}\n"
	}
	for file, content := range map[string]string{"stagewire.yaml": text, "secret": benchSecret, "callback": exampleReceiverSecret} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			return nil, "", err
		}
	}
	path := filepath.Join(dir, "stagewire.yaml")
	cfg, _, err := b.o.Load(path)
	return cfg, path, err
}

// start opens and runs a hub until stop is called.
func (b *bench) start(ctx context.Context, name, receiver, kinds string, intakeOnly bool) (a *App, stop func() error, err error) {
	cfg, path, err := b.config(name, receiver, kinds)
	if err != nil {
		return nil, nil, err
	}
	_, set, err := b.o.Load(path)
	if err != nil {
		return nil, nil, err
	}
	a, err = Open(ctx, Options{Config: cfg, Connectors: set, Load: b.o.Load, Log: b.o.Log, Version: "bench", IntakeOnly: intakeOnly})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, func() error { cancel(); return errors.Join(<-done, os.RemoveAll(filepath.Join(b.dir, name))) }, nil
}

func (b *bench) orders(n int) []order {
	list := orders(n, 5000, b.next, time.Now().Add(-24*time.Hour))
	b.next += n
	return list
}

// coldStart measures from nothing to the first accepted webhook.
func (b *bench) coldStart(ctx context.Context) error {
	list := b.orders(1)
	begin := time.Now()
	a, stop, err := b.start(ctx, "cold", "", "", false)
	if err != nil {
		return err
	}
	url := "http://" + a.Addr().String() + "/hooks/shop"
	for time.Since(begin) < 30*time.Second {
		if got := fire(ctx, url, list, 1, 0); got.accepted == 1 {
			break
		}
	}
	b.result.StartMS = millis(time.Since(begin))
	return stop()
}

// reference is a bare Fiber server that checks the same HMAC and stores nothing.
func (b *bench) reference(ctx context.Context) (burst, error) {
	server := fiber.New(fiber.Config{DisableStartupMessage: true, ReadTimeout: 10 * time.Second})
	server.Post("/hooks/shop", func(c *fiber.Ctx) error {
		mac := hmac.New(sha256.New, []byte(benchSecret))
		mac.Write(c.BodyRaw())
		given, err := base64.StdEncoding.DecodeString(c.Get("X-Shopify-Hmac-Sha256"))
		if err != nil || !hmac.Equal(mac.Sum(nil), given) {
			return c.SendStatus(fiber.StatusUnauthorized)
		}
		return c.SendStatus(fiber.StatusOK)
	})
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return burst{}, err
	}
	done := make(chan error, 1)
	go func() { done <- server.Listener(socket) }()
	list := b.orders(b.o.Orders)
	settle()
	got := fire(ctx, "http://"+socket.Addr().String()+"/hooks/shop", list, benchConnections, 0)
	err = server.Shutdown()
	return got, errors.Join(err, <-done)
}

// accept measures receiving and storing alone.
func (b *bench) accept(ctx context.Context) (burst, error) {
	a, stop, err := b.start(ctx, "accept", "", "", true)
	if err != nil {
		return burst{}, err
	}
	list := b.orders(b.o.Orders)
	settle()
	got := fire(ctx, "http://"+a.Addr().String()+"/hooks/shop", list, benchConnections, 0)
	if got.failed > 0 {
		return got, errors.Join(fmt.Errorf("%d webhooks failed", got.failed), stop())
	}
	return got, stop()
}

type passage struct {
	rate float64
	cpu  float64 // µs per event
}

// whole measures from webhook to committed decision, or to callback received: all orders sent until the last is through.
func (b *bench) whole(ctx context.Context, callbacks bool) (passage, error) {
	sink := newSink()
	// What clc decides is owed to nobody who answers: the rows are written and stay due.
	receiver, kinds := "http://127.0.0.1:1/", "stage.entered"
	if callbacks { // one callback for every webhook
		kinds = "order.paid"
		url, closed, err := sink.listen()
		if err != nil {
			return passage{}, err
		}
		defer closed()
		receiver = url
	}
	a, stop, err := b.start(ctx, "whole", receiver, kinds, false)
	if err != nil {
		return passage{}, err
	}
	list := b.orders(b.o.Orders)
	settle()
	begin, cpu := time.Now(), processCPU()
	got := fire(ctx, "http://"+a.Addr().String()+"/hooks/shop", list, benchConnections, 0)
	if got.failed > 0 {
		return passage{}, errors.Join(fmt.Errorf("%d webhooks failed", got.failed), stop())
	}
	for limit := time.Now().Add(2 * time.Minute); ; {
		through := a.pipeline.Counts().Events["shop"]
		if callbacks {
			through = int(sink.count.Load())
		}
		if through >= len(list) {
			break
		}
		if time.Now().After(limit) || ctx.Err() != nil {
			return passage{}, errors.Join(fmt.Errorf("only %d of %d came through", through, len(list)), stop())
		}
		rest(ctx, 2*time.Millisecond)
	}
	p := passage{rate: float64(len(list)) / time.Since(begin).Seconds(), cpu: micros(processCPU()-cpu, len(list))}
	return p, stop()
}

// calm measures latencies at a tenth of the rate at which callbacks came through.
func (b *bench) calm(ctx context.Context) error {
	sink := newSink()
	receiver, closed, err := sink.listen()
	if err != nil {
		return err
	}
	defer closed()
	a, stop, err := b.start(ctx, "calm", receiver, "order.paid", false)
	if err != nil {
		return err
	}
	rate := max(b.result.Callback.RPS/10, 20)
	list := b.orders(int(rate) * b.o.Seconds)
	settle()
	sink.from = time.Now()
	got := fire(ctx, "http://"+a.Addr().String()+"/hooks/shop", list, 16, rate)
	for limit := time.Now().Add(30 * time.Second); int(sink.count.Load()) < len(list) && time.Now().Before(limit); {
		rest(ctx, 5*time.Millisecond)
	}
	waits := sink.latencies(list, got, rate)
	b.result.Calm = BenchCalm{RPS: got.rate(), AcceptP50ms: millis(got.quantile(0.5)), AcceptP99ms: millis(got.quantile(0.99))}
	b.result.Callback.P50ms, b.result.Callback.P99ms = millis(quantile(waits, 0.5)), millis(quantile(waits, 0.99))
	b.o.Say("at %.0f/s: accept p50 %.1f p99 %.1f ms, webhook to callback p50 %.1f p99 %.1f ms", rate, b.result.Calm.AcceptP50ms, b.result.Calm.AcceptP99ms, b.result.Callback.P50ms, b.result.Callback.P99ms)
	return stop()
}

// sink is a receiver of callbacks. Where from is set, it notes when each order's callback came.
type sink struct {
	count atomic.Int64
	from  time.Time
	mu    sync.Mutex
	at    map[string]time.Time // order id
}

func newSink() *sink { return &sink{at: map[string]time.Time{}} }

// listen serves s until closed is called. It is not what is measured, so it is as cheap as the load generator.
func (s *sink) listen() (url string, closed func(), err error) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &fasthttp.Server{Handler: s.take, NoDefaultServerHeader: true, NoDefaultDate: true}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(socket) }()
	return "http://" + socket.Addr().String() + "/", func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // for sockets that the hub keeps open
		defer cancel()
		_ = server.ShutdownWithContext(ctx)
		<-done
	}, nil
}

// take answers one callback.
func (s *sink) take(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	body := ctx.PostBody()
	if bytes.Contains(body, []byte("subscription.test.v1")) {
		return
	}
	if !s.from.IsZero() {
		if _, properties, found := bytes.Cut(body, []byte(`"properties":`)); found {
			if _, id, found := bytes.Cut(properties, []byte(`"id":"`)); found {
				id, _, _ := bytes.Cut(id, []byte(`"`))
				s.mu.Lock()
				s.at[string(id)] = time.Now()
				s.mu.Unlock()
			}
		}
	}
	s.count.Add(1)
}

// latencies returns, sorted, how long each order's callback took from the moment the order was due to be sent.
func (s *sink) latencies(list []order, _ burst, rate float64) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []time.Duration
	for i := range list {
		number, err := strconv.Atoi(strings.TrimPrefix(string(list[i].id), "bench-"))
		if err != nil {
			continue
		}
		if at, ok := s.at[strconv.Itoa(1000000+number)]; ok {
			out = append(out, at.Sub(s.from.Add(time.Duration(float64(i)/rate*float64(time.Second)))))
		}
	}
	slices.Sort(out)
	return out
}

// Print writes the table of the README.
func (r *BenchResult) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%s, %d cores, %s, %s\n\n", r.Machine.CPU, r.Machine.Cores, r.Machine.OS, r.Machine.Go)
	fmt.Fprintln(t, "WHAT\tPER SECOND\tOF REFERENCE\tFLOOR / GOAL\tCPU PER EVENT")
	fmt.Fprintf(t, "bare Fiber handler, HMAC checked\t%.0f\t1\t\t%.0f µs\n", r.Reference.RPS, r.Reference.CPUus)
	row := func(measured float64, format string, args ...any) {
		if measured > 0 {
			fmt.Fprintf(t, format, args...)
		}
	}
	row(r.Accept.RPS, "durable accept\t%.0f\t%.2f\t0.30 / 0.35\t%.0f µs\n", r.Accept.RPS, r.Accept.Ratio, r.Accept.CPUus)
	row(r.Decide.EPS, "webhook to decided and committed\t%.0f\t%.2f\t0.12 / 0.17\t%.0f µs\n", r.Decide.EPS, r.Decide.Ratio, r.Decide.CPUus)
	row(r.Callback.RPS, "webhook to callback received\t%.0f\t%.2f\t0.08 / 0.15\t%.0f µs\n", r.Callback.RPS, r.Callback.Ratio, r.Callback.CPUus)
	row(r.Calm.RPS, "\nat %.0f/s: accept p50 %.1f ms, p99 %.1f ms; webhook to callback p50 %.1f ms, p99 %.1f ms\n", r.Calm.RPS, r.Calm.AcceptP50ms, r.Calm.AcceptP99ms, r.Callback.P50ms, r.Callback.P99ms)
	fmt.Fprintf(t, "cold start to first accepted webhook %.0f ms\n", r.StartMS)
	row(r.Memory.PeakMiB, "a hub in a process of its own: idle %.0f MiB, under load %.0f MiB at most, %.0f µs CPU per callback\n", r.Memory.IdleMiB, r.Memory.PeakMiB, r.Memory.CPUus)
	row(float64(r.Rules.Models), "deciding one customer, facts at hand: %.1f µs CPU by clc, %.1f µs by all %d shipped models of customers\n", r.Rules.OneUs, r.Rules.AllUs, r.Rules.Models)
	if r.Wakes.Customers > 0 {
		fmt.Fprintf(t, "%d customers waiting for their silence: %.2f %% CPU idle, %.0f µs a poll; %d due at once decided within %.0f ms\n", r.Wakes.Customers, r.Wakes.IdlePercent, r.Wakes.PollUs, r.Wakes.Due, r.Wakes.DecidedMS)
	}
	return t.Flush()
}

func micros(d time.Duration, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / 1000 / float64(n)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func cpuName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
