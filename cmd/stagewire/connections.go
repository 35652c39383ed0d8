package main

import (
	"cmp"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/server"
)

func newConnectionsCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use: "connections", Short: "Configured accounts and how they do", GroupID: groupAsk, Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			return list(c, g, "/connections", nil, "name connector receives state webhook delivery problem", func(n server.Connection) []string {
				problem := ""
				if len(n.Problems) > 0 {
					problem = n.Problems[0].Message + "; " + n.Problems[0].Mend
				}
				return []string{n.Name, n.Connector, n.Receives, n.State, when(n.LastWebhookAt), when(n.LastDeliveryAt), problem}
			})
		},
	}
	c.AddCommand(newProvisionCommand(g), newDoctorCommand(g))
	return c
}

func newProvisionCommand(g *globals) *cobra.Command {
	apply := false
	c := &cobra.Command{
		Use: "provision [connection]", Short: "The fields the hub needs at vendors: what is there and what is missing", Args: arguments(cobra.MaximumNArgs(1)),
		Long: "Looks, at one connection's vendor or at all, which of the fields that the hub writes are there. Nothing is changed unless --apply is\n" +
			"given: then what is missing is made. Applying twice is harmless. It exits 1 while something is missing or could not be looked at.",
		RunE: func(c *cobra.Command, args []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			names, err := connectionNames(c, a, args)
			if err != nil {
				return err
			}
			out, err := provisioned(c, a, names, apply)
			if err != nil {
				return err
			}
			return reportProvisioned(c, g, out, apply)
		},
	}
	c.Flags().BoolVar(&apply, "apply", false, "make what is missing")
	return c
}

// connectionNames returns the connection that is named, or all.
func connectionNames(c *cobra.Command, a *api, args []string) ([]string, error) {
	if len(args) == 1 {
		return args, nil
	}
	page, _, err := ask[server.List[server.Connection]](c.Context(), a, "GET", "/connections", nil, nil)
	var names []string
	for _, n := range page.Items {
		names = append(names, n.Name)
	}
	return names, err
}

func provisioned(c *cobra.Command, a *api, names []string, apply bool) (server.List[server.Provisioned], error) {
	out := server.List[server.Provisioned]{Items: []server.Provisioned{}}
	for _, name := range names {
		p, _, err := ask[server.Provisioned](c.Context(), a, "POST", "/connections/"+url.PathEscape(name)+"/provision", nil, server.ProvisionRequest{Apply: apply})
		if err != nil {
			return out, fmt.Errorf("%s: %w", name, err)
		}
		out.Items = append(out.Items, p)
	}
	return out, nil
}

func reportProvisioned(c *cobra.Command, g *globals, out server.List[server.Provisioned], apply bool) error {
	var rows [][]string
	missing, failed := 0, 0
	for _, p := range out.Items {
		for _, item := range p.Items {
			rows = append(rows, []string{p.Connection, item.Name, item.State, cmp.Or(item.Error, item.Detail)})
			switch item.State {
			case connector.PlannedMissing:
				missing++
			case connector.PlannedFailed:
				failed++
			}
		}
		if p.Error != "" {
			failed++
			rows = append(rows, []string{p.Connection, "", "unknown", p.Error})
		}
	}
	if g.json {
		if err := printJSON(c.OutOrStdout(), out); err != nil {
			return err
		}
	} else if len(rows) == 0 {
		if _, err := fmt.Fprintln(c.ErrOrStderr(), "nothing is needed there"); err != nil {
			return err
		}
	} else if err := table(c.OutOrStdout(), "connection what state detail", rows); err != nil {
		return err
	}
	if missing > 0 && !apply {
		if _, err := fmt.Fprintf(c.ErrOrStderr(), "%d missing: --apply makes what can be made\n", missing); err != nil {
			return err
		}
	}
	if missing+failed > 0 {
		return errSaid
	}
	return nil
}

// finding of doctor.
type ailment struct {
	Connection string `json:"connection"`
	Message    string `json:"message"`
	Mend       string `json:"mend"`
}

func newDoctorCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "What is wrong with the connections, and how to mend it", Args: none,
		Long: "Asks the hub how its connections do and each vendor whether the hub's credentials work and its fields are there. Nothing is\n" +
			"changed. It exits 1 where something is wrong.",
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			page, _, err := ask[server.List[server.Connection]](c.Context(), a, "GET", "/connections", nil, nil)
			if err != nil {
				return err
			}
			found := server.List[ailment]{Items: []ailment{}}
			for _, n := range page.Items {
				for _, p := range n.Problems {
					found.Items = append(found.Items, ailment{n.Name, p.Message, p.Mend})
				}
				p, err := provisioned(c, a, []string{n.Name}, false)
				if err != nil {
					return err
				}
				found.Items = append(found.Items, unprovisioned(p.Items[0])...)
			}
			if g.json {
				err = printJSON(c.OutOrStdout(), found)
			} else if len(found.Items) == 0 {
				_, err = fmt.Fprintf(c.OutOrStdout(), "good: %s\n", plural(len(page.Items), "connection"))
			} else {
				err = printPage(c, found, "connection problem mend", func(f ailment) []string { return []string{f.Connection, f.Message, f.Mend} })
			}
			if err == nil && len(found.Items) > 0 {
				err = errSaid
			}
			return err
		},
	}
}

// unprovisioned says what a plan finds wrong.
func unprovisioned(p server.Provisioned) []ailment {
	var out []ailment
	for _, item := range p.Items {
		if item.State == connector.PlannedMissing {
			out = append(out, ailment{p.Connection, "missing at the vendor: " + item.Name, "`stagewire connections provision " + p.Connection + " --apply`"})
		}
	}
	if p.Error != "" {
		out = append(out, ailment{p.Connection, "the vendor could not be asked: " + p.Error, "check the credentials and their scopes, and that the vendor can be reached"})
	}
	return out
}
