// Command stagewire is the hub and its tool in one binary: it serves, checks configuration, models and connectors, and asks a
// running hub what it knows. Each verb is one file; verbs that look at live data go through the API of the hub.
//
// It exits 0 when all is well, 1 when the answer is no or something failed, 2 when it was called the wrong way.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // zones of calendars and rules, also where the machine has none

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitMisuse = 2
)

// run is main without the process around it.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	command, err := root.ExecuteContextC(ctx)
	var misuse usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.As(err, &misuse):
		fmt.Fprintf(errs, "stagewire: %v\nSee `%s --help`.\n", err, command.CommandPath())
		return exitMisuse
	default:
		fmt.Fprintf(errs, "stagewire: %v\n", err)
		return exitFailed
	}
}

// usageError is a call that makes no sense, as opposed to one that failed.
type usageError struct{ error }

// errSaid ends a verb whose output has said already what is wrong.
var errSaid = errors.New("failed")

// globals are the flags every verb takes.
type globals struct {
	config string
	server string
	token  string
	json   bool
}

func newRootCommand() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "stagewire",
		Short: "Webhooks of your systems in, one view of each customer, updates and tasks out",
		Long: "Stagewire receives the webhooks of shops, helpdesks and CRMs, keeps one view of each customer, decides her stage by\n" +
			"your rules, and sends updates, tasks and signed callbacks to the systems and people who need them.",
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.ArbitraryArgs, RunE: needVerb,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVar(&g.config, "config", "stagewire.yaml", "configuration `file`")
	flags.StringVar(&g.server, "server", "", "`address` of the running hub (default: where the configuration says it listens; also STAGEWIRE_SERVER)")
	flags.StringVar(&g.token, "token", "", "bearer `token` (default: STAGEWIRE_TOKEN, else the configuration's, else data_dir/token)")
	flags.BoolVar(&g.json, "json", false, "print JSON, in the shapes of the API")
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run the hub:"},
		&cobra.Group{ID: groupAsk, Title: "Ask a running hub:"},
		&cobra.Group{ID: groupWrite, Title: "Write rules and connectors:"},
	)
	root.AddCommand(
		newQuickstartCommand(g),
		newInitCommand(g),
		newServeCommand(g),
		newSandboxCommand(g),
		newBenchCommand(g),
		newHealthzCommand(g),

		newCustomersCommand(g),
		newExplainCommand(g),
		newModelsCommand(g),
		newFunnelCommand(g),
		newPublishCommand(g),
		newConnectionsCommand(g),
		newWebhooksCommand(g),
		newRejectedCommand(g),
		newDeliveriesCommand(g),
		newRedriveCommand(g),
		newReplayCommand(g),

		newCheckCommand(g),
		newTestCommand(g),
		newEventsCommand(g),
		newConnectorsCommand(g),
		newSchemaCommand(g),

		newVersionCommand(g),
	)
	return root
}

// Groups of verbs in the help.
const (
	groupRun   = "run"
	groupAsk   = "ask"
	groupWrite = "write"
)

// needVerb prints the help of a command that only holds others, or says which of them was meant.
func needVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	message := fmt.Sprintf("unknown command %q", args[0])
	c.SuggestionsMinimumDistance = 2 // cobra sets it only for its own message
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		message += ", did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{errors.New(message)}
}

// arguments makes a wrong number of arguments a usageError.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

var none = arguments(cobra.NoArgs)

// buildVersion is the module's version, or the commit it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = "-" + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	return "devel" + revision + modified
}
