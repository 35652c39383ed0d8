package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

func newExplainCommand(g *globals) *cobra.Command {
	f := filters{}
	c := &cobra.Command{
		Use: "explain <id, e-mail or name>", Short: "Why a customer is in her stage, and what would move her", GroupID: groupAsk, Args: arguments(cobra.ExactArgs(1)),
		Long: "Shows every line of the model's decide with its conditions taken apart: ✓ holds, ✗ does not, · was not asked or failed, with what was found,\n" +
			"the events behind it and when silence alone will flip it. Below stand the nearest changes that lead to another stage; each was tried on\n" +
			"the model before it is told.\n\n" +
			"--at an instant that is over tells how things stood with what was known then, by the version of the model in force then;\n" +
			"an instant to come tells what silence brings. --transition tells a recorded move as it was decided.",
		Example: "  stagewire explain ada@example.com --model clc\n  stagewire explain ada@example.com --model clc --at 2026-03-01\n  stagewire explain ada@example.com --transition last",
		RunE: func(c *cobra.Command, args []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			id, err := findCustomer(c, a, args[0])
			if err != nil {
				return err
			}
			why, raw, err := ask[server.Explain](c.Context(), a, "GET", "/customers/"+url.PathEscape(id)+"/explain", f.query(), nil)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			return showExplain(c.OutOrStdout(), why)
		},
	}
	f.add(c, "model", "the model; may be left out where there is one")
	f.add(c, "deal", "of a model of deals: which, such as crm:4711; may be left out where there is one")
	f.add(c, "at", "the instant, such as 2026-03-01T10:00:00Z or 2026-03-01; now where not given")
	f.add(c, "transition", "the id of a recorded move, or last: explained as it was decided")
	f.add(c, "lang", "language of the labels, such as zh-Hant")
	return c
}

// line is text for one line of a terminal, not cut: half a sentence would say something else.
func line(text string) string { return strings.Join(strings.Fields(harmless(text)), " ") }

// named is a stage with its label where that says more.
func named(stage, label string) string {
	if label == "" || label == stage {
		return stage
	}
	return stage + " (" + line(label) + ")"
}

func showExplain(w io.Writer, why server.Explain) error {
	var b strings.Builder
	if t := why.Transition; t != nil {
		fmt.Fprintf(&b, "%s: from %s to %s at %s (%s, version %d, decided at %s)\n", why.Model, t.From, t.To, when(t.At), t.Cause.Type, why.Version, when(t.DecidedAt))
	} else {
		fmt.Fprintf(&b, "%s: %s", why.Model, named(why.Stage, why.Label))
		if why.Since != nil {
			fmt.Fprintf(&b, " since %s", when(why.Since))
		}
		fmt.Fprintf(&b, " (version %d, asked at %s)\n", why.Version, when(why.At))
	}
	if why.Subject.Kind == hub.SubjectDeal {
		fmt.Fprintf(&b, "Deal %s\n", line(why.Subject.ID))
	}
	if why.Why != "" {
		fmt.Fprintf(&b, "%s\n", line(why.Why))
	}
	if p := why.Pin; p != nil {
		fmt.Fprintf(&b, "Pinned by %s on %s", line(p.Who), when(p.At))
		if p.Until != nil {
			fmt.Fprintf(&b, " until %s", when(p.Until))
		}
		if p.Why != "" {
			fmt.Fprintf(&b, ", %s", line(p.Why))
		}
		b.WriteString("; the rules below do not count until then\n")
	}
	if len(why.PathDependent) > 0 {
		fmt.Fprintf(&b, "The way to the present stage matters too: %s\n", strings.Join(why.PathDependent, ", "))
	}
	if why.Note != "" {
		fmt.Fprintf(&b, "Note: %s\n", line(why.Note))
	}
	for _, r := range why.Rules {
		writeRule(&b, r)
	}
	b.WriteString("\n")
	switch {
	case why.Transition != nil:
	case why.Next.At == nil:
		b.WriteString("If nothing happens: she stays\n")
	case why.Next.To == nil:
		fmt.Fprintf(&b, "If nothing happens: decided again at %s\n", when(why.Next.At))
	default:
		fmt.Fprintf(&b, "If nothing happens: %s at %s\n", *why.Next.To, when(why.Next.At))
	}
	if len(why.Nearest) > 0 {
		b.WriteString("Nearest changes:\n")
	}
	for _, n := range why.Nearest {
		fmt.Fprintf(&b, "  %s leads to %s\n", line(n.Change), named(n.To, n.Label))
	}
	_, err := io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n")
	return err
}

func writeRule(b *strings.Builder, r server.ExplainRule) {
	text := fmt.Sprintf("%s, line %d: %s", r.Stage, r.Line, line(r.When))
	switch {
	case !r.Reached && r.Closed != "":
		fmt.Fprintf(b, "\n· %s\n    not asked: %s\n", text, r.Closed)
		return
	case !r.Reached:
		fmt.Fprintf(b, "\n· %s\n    not asked: a line above decides\n", text)
		return
	}
	sign := mark(&r.Result)
	if r.Error != nil {
		sign = mark(nil)
	}
	fmt.Fprintf(b, "\n%s %s", sign, text)
	if r.Won {
		b.WriteString("  ← decides")
	}
	b.WriteString("\n")
	if r.Error != nil {
		fmt.Fprintf(b, "    failed and counts as not holding: %s\n", line(*r.Error))
	}
	if r.Waits != nil {
		fmt.Fprintf(b, "    holds, and waits for %s until %s\n", r.Waits.Option, when(r.Waits.Until))
	}
	if len(r.Clauses) == 1 && r.Clauses[0].Op == "" && len(r.Clauses[0].Clauses) == 0 {
		writeFound(b, r.Clauses[0], "    ") // the rule's own line has the text
		return
	}
	writeClauses(b, r.Clauses, "    ")
}

func writeClauses(b *strings.Builder, clauses []server.Clause, indent string) {
	for _, c := range clauses {
		if c.Op == "and" || c.Op == "or" || c.Op == "not" {
			words := map[string]string{"and": "all of", "or": "one of", "not": "not"}
			fmt.Fprintf(b, "%s%s %s\n", indent, mark(c.Result), words[c.Op])
		} else {
			fmt.Fprintf(b, "%s%s %s\n", indent, mark(c.Result), line(c.Text))
		}
		if c.Op == "" {
			writeFound(b, c, indent+"    ")
		}
		writeClauses(b, c.Clauses, indent+"    ")
	}
}

// writeFound tells what a clause came to, when that flips, and what it looked at.
func writeFound(b *strings.Builder, c server.Clause, indent string) {
	var parts []string
	if c.Value != nil {
		found := "found " + line(fmt.Sprint(c.Value))
		if c.Needed != "" {
			found += ", needed " + line(c.Needed)
		}
		parts = append(parts, found)
	}
	if c.Error != nil {
		parts = append(parts, "failed: "+line(*c.Error))
	}
	if c.FlipsAt != nil {
		parts = append(parts, "flips at "+when(c.FlipsAt)+" if nothing happens")
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "%s%s\n", indent, strings.Join(parts, "; "))
	}
	for _, f := range c.Facts {
		fmt.Fprintf(b, "%s%s: %s", indent, line(f.Name), line(fmt.Sprint(f.Value)))
		if len(f.EventIDs) > 0 {
			fmt.Fprintf(b, " (%s)", strings.Join(f.EventIDs, ", "))
		}
		b.WriteString("\n")
	}
}

func mark(result *bool) string {
	switch {
	case result == nil:
		return "·"
	case *result:
		return "✓"
	default:
		return "✗"
	}
}
