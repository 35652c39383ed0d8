package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/app"
)

func newBenchCommand(g *globals) *cobra.Command {
	o := app.BenchOptions{}
	c := &cobra.Command{
		Use:     "bench",
		Short:   "Measure this machine: accept, decide, call back, wake",
		GroupID: groupRun,
		Long: "Measures the hub in this process against a bare HTTP handler in the same run: durable accept, webhook to decision, webhook to\n" +
			"callback, silence of many customers. Ratios travel between machines, rates do not. Takes a few minutes and a gigabyte in TMPDIR.",
		Args: none,
	}
	c.Flags().IntVar(&o.Rounds, "rounds", 3, "interleaved repetitions; the median counts")
	c.Flags().IntVar(&o.Orders, "orders", 20000, "webhooks per measurement")
	c.Flags().IntVar(&o.Seconds, "seconds", 5, "of the measurement at a tenth of the rate")
	c.Flags().StringVar(&o.Only, "only", "", "measure one part alone: accept, decide, callback, calm, rules, memory or wakes")
	c.Flags().IntVar(&o.Wakes, "wakes", 100000, "customers whose silence lies ahead; 0 leaves that part out")
	profile := c.Flags().String("cpuprofile", "", "write a CPU profile of the whole run to this `file`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *profile != "" {
			f, err := os.Create(*profile)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := pprof.StartCPUProfile(f); err != nil {
				return err
			}
			defer pprof.StopCPUProfile()
		}
		if o.Only != "" && !slices.Contains(app.BenchParts, o.Only) {
			return usageError{fmt.Errorf("--only %s: want one of %s", o.Only, strings.Join(app.BenchParts, ", "))}
		}
		var err error
		if o.Executable, err = os.Executable(); err != nil {
			return fmt.Errorf("this program's own file: %w", err)
		}
		o.Load = loadForApp
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
		o.Say = func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...) }
		result, err := app.Bench(c.Context(), o)
		if err != nil {
			return err
		}
		if g.json {
			return printJSON(c.OutOrStdout(), result)
		}
		return result.Print(c.OutOrStdout())
	}
	return c
}
