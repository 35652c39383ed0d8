package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// BenchMemory is the resident set of a hub in a process of its own, which the load comes to from this one.
type BenchMemory struct {
	IdleMiB float64 `json:"idle_mib"`
	PeakMiB float64 `json:"peak_mib"` // while orders came as fast as they were accepted, until the last callback was received
	RPS     float64 `json:"rps"`      // callbacks received meanwhile
	CPUus   float64 `json:"cpu_us"`   // of the hub alone, per order with its callback
}

// memory measures a hub that shares nothing with the load generator but the machine.
func (b *bench) memory(ctx context.Context) error {
	sink := newSink()
	receiver, closed, err := sink.listen()
	if err != nil {
		return err
	}
	defer closed()
	cfg, path, err := b.config("memory", receiver, "order.paid")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hub := exec.CommandContext(ctx, b.o.Executable, "serve", "--config", path)
	hub.Cancel = func() error { return hub.Process.Signal(syscall.SIGTERM) }
	hub.WaitDelay = 20 * time.Second
	hub.Stderr = os.Stderr
	if err := hub.Start(); err != nil {
		return fmt.Errorf("start a hub: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- hub.Wait() }()
	url := "http://" + cfg.Listen
	if err := ready(ctx, url); err != nil {
		return errors.Join(err, stopped(cancel, done))
	}
	rest(ctx, 5*time.Second)
	process := "/proc/" + strconv.Itoa(hub.Process.Pid)
	m := &b.result.Memory
	m.IdleMiB = statusMiB(process, "VmRSS:")
	list := b.orders(b.o.Orders)
	begin, cpu := time.Now(), ticks(process)
	got := fire(ctx, url+"/hooks/shop", list, benchConnections, 0)
	for limit := time.Now().Add(2 * time.Minute); got.failed == 0 && int(sink.count.Load()) < len(list) && time.Now().Before(limit) && ctx.Err() == nil; {
		rest(ctx, 5*time.Millisecond)
	}
	m.PeakMiB, m.RPS = statusMiB(process, "VmHWM:"), float64(len(list))/time.Since(begin).Seconds()
	m.CPUus = micros(ticks(process)-cpu, len(list))
	if n := int(sink.count.Load()); n < len(list) {
		err = fmt.Errorf("only %d of %d came through, %d webhooks failed", n, len(list), got.failed)
	}
	b.o.Say("a hub by itself: idle %.0f MiB, under load %.0f MiB at most, %.0f callbacks/s, %.0f µs CPU each", m.IdleMiB, m.PeakMiB, m.RPS, m.CPUus)
	return errors.Join(err, stopped(cancel, done))
}

// stopped ends the hub and waits for it.
func stopped(cancel context.CancelFunc, done <-chan error) error {
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the hub's end: %w", err)
	}
	return nil
}

// ready waits until the hub takes webhooks.
func ready(ctx context.Context, url string) error {
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit) && ctx.Err() == nil; rest(ctx, 20*time.Millisecond) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	return errors.New("the hub is not ready within 30 s")
}

// statusMiB reads a size from a process's status (proc(5)), 0 where there is none.
func statusMiB(process, key string) float64 {
	text, err := os.ReadFile(process + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// ticks reads the user and system time of a process from its stat (proc(5)), which counts hundredths of a second.
func ticks(process string) time.Duration {
	text, err := os.ReadFile(process + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ") // after the name, which may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
