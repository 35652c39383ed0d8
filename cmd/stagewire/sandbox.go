package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/sandbox"
)

func newSandboxCommand(g *globals) *cobra.Command {
	var (
		listen, story                    string
		duplicates, disorder, pace, rate float64
		compress                         float64
		delay, outage                    time.Duration
		seed                             uint64
	)
	c := &cobra.Command{
		Use:     "sandbox",
		Short:   "Play the vendors: signed webhooks out, their API in",
		GroupID: groupRun,
		Long: "Plays the vendors of the configuration's connections, as strictly as they are. The connections' base_url must lead here.\n" +
			"A story (YAML, a list of steps) is told if one is given; GET /state shows what every vendor holds, POST /control turns the knobs.",
		Args: none,
	}
	c.Flags().StringVar(&listen, "listen", "", "`address` (default: where the connections' base_url leads)")
	c.Flags().StringVar(&story, "story", "", "`file` of a story; the word quickstart tells the built-in one")
	c.Flags().Float64Var(&pace, "pace", 0, "story seconds per second; 0 tells one step after the other")
	c.Flags().Float64Var(&rate, "rate", 0, "besides, send so many paid orders a second")
	c.Flags().Float64Var(&duplicates, "duplicates", 0, "probability that a webhook is sent twice")
	c.Flags().Float64Var(&disorder, "disorder", 0, "probability that a webhook is overtaken by later ones")
	c.Flags().DurationVar(&delay, "delay", 0, "each webhook waits up to this long")
	c.Flags().DurationVar(&outage, "outage", 0, "begin with an outage of the vendors' APIs of this length")
	c.Flags().Float64Var(&compress, "compress", 60, "the vendors' waits between retries are divided by this; 1 is their own schedule")
	c.Flags().Uint64Var(&seed, "seed", 1, "decides every random choice")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, _, _, err := loadSetup(g.config)
		if err != nil {
			return err
		}
		if listen == "" {
			if listen, err = sandboxAddress(cfg); err != nil {
				return err
			}
		}
		paths := map[string]string{}
		for name, conn := range cfg.Connections {
			paths[conn.Connector] = "/hooks/" + name
		}
		knobs := sandbox.Knobs{Duplicates: duplicates, Disorder: disorder, Delay: sandbox.Span(delay), Outage: outage > 0}
		all := map[string]sandbox.Knobs{}
		for _, vendor := range sandbox.Vendors {
			all[vendor] = knobs
		}
		s := sandbox.New(sandbox.Config{
			Hub: "http://" + cfg.Listen, PublicURL: cfg.PublicURL, Paths: paths, Accounts: app.Accounts(cfg), Seed: seed, Knobs: all, Compress: compress,
			Log: newLogger(cfg.Log, c.ErrOrStderr()),
		})
		steps, err := readStory(story)
		if err != nil {
			return err
		}
		socket, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "playing %v at http://%s (state: http://%s/state)\n", sandbox.Vendors, socket.Addr(), socket.Addr())
		group, ctx := errgroup.WithContext(c.Context())
		hub := make(chan struct{}) // closed once the hub is there: what is sent before would only be retried
		group.Go(func() error {
			if !listens(ctx, cfg.Listen) {
				fmt.Fprintf(c.OutOrStdout(), "waiting for the hub at %s\n", cfg.Listen)
				for !listens(ctx, cfg.Listen) {
					if !wait(ctx, 200*time.Millisecond) {
						return nil
					}
				}
			}
			close(hub)
			return s.Run(ctx)
		})
		group.Go(func() error {
			server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
			stop := context.AfterFunc(ctx, func() { server.Close() })
			defer stop()
			if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		for _, sub := range cfg.Subscriptions {
			if err := playReceiver(ctx, group, sub, c.OutOrStdout()); err != nil {
				return err
			}
		}
		if outage > 0 {
			group.Go(func() error {
				if wait(ctx, outage) {
					s.Set("", func(k *sandbox.Knobs) { k.Outage = false })
				}
				return nil
			})
		}
		if rate > 0 {
			group.Go(func() error {
				if !ready(ctx, hub) {
					return nil
				}
				_, err := s.Load(ctx, sandbox.LoadConfig{Rate: rate, Seed: seed, Retry: time.Second})
				return err
			})
		}
		group.Go(func() error {
			if !ready(ctx, hub) {
				return nil
			}
			return playStory(ctx, s, steps, pace)
		})
		if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	return c
}

// playReceiver takes the callbacks of a subscription that leads to this machine, verifies them, and tells each.
func playReceiver(ctx context.Context, group *errgroup.Group, sub config.Subscription, out io.Writer) error {
	u, err := url.Parse(sub.URL)
	if err != nil || u.Scheme != "http" || len(sub.Secrets) == 0 {
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); (ip == nil || !ip.IsLoopback()) && u.Hostname() != "localhost" {
		return nil
	}
	socket, err := net.Listen("tcp", u.Host)
	if err != nil {
		return fmt.Errorf("callbacks of subscription %s: %w", sub.Name, err)
	}
	fmt.Fprintf(out, "taking the callbacks of subscription %s at http://%s\n", sub.Name, socket.Addr())
	receiver := app.NewReceiver(sub.Secrets[0], func(c app.Callback) {
		fmt.Fprintf(out, "callback %s: %s %s → %s\n", c.Subject, c.Model, c.From, c.To)
	})
	group.Go(func() error {
		server := &http.Server{Handler: receiver, ReadHeaderTimeout: 10 * time.Second}
		stop := context.AfterFunc(ctx, func() { server.Close() })
		defer stop()
		if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// listens reports whether somebody listens at address.
func listens(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// ready waits for c, and reports whether it came before ctx ended.
func ready(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

func readStory(name string) ([]sandbox.Step, error) {
	switch name {
	case "":
		return nil, nil
	case "quickstart":
		return sandbox.QuickstartStory(), nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return sandbox.ReadStory(text)
}

// playStory tells the steps, pace story seconds a second, or each when the one before has been taken.
func playStory(ctx context.Context, s *sandbox.Sandbox, steps []sandbox.Step, pace float64) error {
	for i, step := range steps {
		if pace > 0 && i > 0 {
			if !wait(ctx, time.Duration(float64(step.At.Sub(steps[i-1].At))/pace)) {
				return nil
			}
		}
		for pace == 0 && !s.Idle() {
			if !wait(ctx, 10*time.Millisecond) {
				return nil
			}
		}
		if err := s.Play(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// sandboxAddress is where the connections' base_url leads, if they all lead to one loopback address.
func sandboxAddress(cfg *config.Config) (string, error) {
	found := ""
	for name, conn := range cfg.Connections {
		u, err := url.Parse(conn.BaseURL)
		if err != nil || conn.BaseURL == "" {
			continue
		}
		if found != "" && found != u.Host {
			return "", usageError{fmt.Errorf("connection %s leads to %s, another one to %s: choose one with --listen", name, u.Host, found)}
		}
		found = u.Host
	}
	if found == "" {
		return "", usageError{errors.New("no connection has a base_url that leads to a sandbox: give one, or --listen")}
	}
	return found, nil
}

// wait reports whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
