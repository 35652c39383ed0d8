package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/stagewire/stagewire/internal/app"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
)

func newServeCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "serve",
		Short:   "Run the hub",
		GroupID: groupRun,
		Long: "Runs the hub of the configuration until it is told to stop (SIGINT, SIGTERM); it then finishes or hands back what is in flight.\n" +
			"A changed configuration file, or SIGHUP, reloads connections and subscriptions; a bad file changes nothing and says why.",
		Args: none,
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return serve(c.Context(), g.config, c.ErrOrStderr()) }
	return c
}

// loadForApp is loadSetup as the app calls it. The error joins every problem.
func loadForApp(file string) (*config.Config, *connector.Set, error) {
	cfg, set, _, err := loadSetup(file)
	if err == nil && set == nil {
		err = errors.New("the connectors do not compile")
	}
	return cfg, set, err
}

func serve(ctx context.Context, file string, errs io.Writer) error {
	cfg, set, warnings, err := loadSetup(file)
	if err == nil {
		_, _, err = app.Compile(cfg, set)
	}
	if err != nil {
		return err
	}
	log := newLogger(cfg.Log, errs)
	for _, w := range warnings {
		log.Warn("configuration", "problem", w.Error())
	}
	hub, err := app.Open(ctx, app.Options{Config: cfg, Connectors: set, Load: loadForApp, Log: log, Version: buildVersion()})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := config.Watch(ctx, cfg.File, log, func() {
			if err := hub.Reload(ctx); err != nil {
				for _, p := range config.Problems(err) {
					log.Error("configuration not reloaded", "problem", p.Error())
				}
				log.Error("configuration not reloaded, the old one stays", "error", err)
			}
		})
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
	group.Go(func() error {
		err := hub.Run(ctx)
		if err == nil {
			err = context.Canceled // ends the watch
		}
		return err
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// newLogger makes the hub's own log, to stderr: text for people, JSON for machines.
func newLogger(cfg config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
