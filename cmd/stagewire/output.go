package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/server"
)

// printJSON prints v, indented, with a line end.
func printJSON(w io.Writer, v any) error {
	raw, ok := v.(jsontext.Value)
	if !ok {
		var err error
		if raw, err = json.Marshal(v, json.Deterministic(true)); err != nil {
			return err
		}
	}
	if err := raw.Indent(jsontext.WithIndent("  ")); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s\n", raw)
	return err
}

// nothing is a cell that stays empty, where one without a value shows a dash.
const nothing = "\x00"

// table prints rows under a head, in columns. Cells come from outside systems, so control characters do not reach the terminal.
func table(w io.Writer, head string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, strings.ReplaceAll(strings.ToUpper(head), " ", "\t")) // the writer keeps its error for Flush
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = visible(cell); row[i] == "" && cell != nothing {
				row[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// visible is text without what would move the cursor, at most 100 characters of it.
func visible(text string) string {
	text = harmless(text)
	if runes := []rune(text); len(runes) > 100 {
		text = string(runes[:99]) + "…"
	}
	return strings.TrimSpace(text)
}

// harmless is text without what would move the cursor.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, text)
}

func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// filters are flags that become query parameters of the same name.
type filters map[string]*string

// add makes a flag.
func (f filters) add(c *cobra.Command, name, about string, values ...string) {
	f[name] = c.Flags().String(name, "", about)
	if len(values) > 0 {
		_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	}
}

// page adds the flags of paging.
func (f filters) page(c *cobra.Command) {
	f.add(c, "limit", "items on a page, 1 to 200")
	f.add(c, "cursor", "the page after this one, as printed below it")
}

func (f filters) query() url.Values {
	q := url.Values{}
	for name, value := range f {
		if *value != "" {
			q.Set(name, *value)
		}
	}
	return q
}

// list asks for a page and prints it as a table.
func list[T any](c *cobra.Command, g *globals, path string, query url.Values, head string, row func(T) []string) error {
	a, err := g.api()
	if err != nil {
		return err
	}
	page, raw, err := ask[server.List[T]](c.Context(), a, "GET", path, query, nil)
	if err != nil {
		return err
	}
	if g.json {
		return printJSON(c.OutOrStdout(), raw)
	}
	return printPage(c, page, head, row)
}

func printPage[T any](c *cobra.Command, page server.List[T], head string, row func(T) []string) error {
	out := c.OutOrStdout()
	if len(page.Items) == 0 {
		_, err := fmt.Fprintln(c.ErrOrStderr(), "nothing found")
		return err
	}
	rows := make([][]string, len(page.Items))
	for i, item := range page.Items {
		rows[i] = row(item)
	}
	if err := table(out, head, rows); err != nil {
		return err
	}
	if page.Next != nil {
		_, err := fmt.Fprintf(c.ErrOrStderr(), "more: --cursor %s\n", *page.Next)
		return err
	}
	return nil
}

// facts prints names and values below each other.
func facts(w io.Writer, pairs ...string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := visible(pairs[i+1]); value != "" {
			_, _ = fmt.Fprintf(t, "%s\t%s\n", pairs[i], value) // the writer keeps its error for Flush
		}
	}
	return t.Flush()
}
