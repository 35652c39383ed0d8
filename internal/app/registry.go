package app

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
)

// registry holds the configured connections with their connectors. A reload makes a new table and swaps it; who holds
// an entry finishes with the old settings.
type registry struct{ table atomic.Pointer[table] }

type table struct {
	names   []string
	sources map[string]pipeline.Source
}

// activator gives a connector's manifest the number its events carry as their version.
type activator interface {
	Activate(ctx context.Context, connector, hash string) (int64, error)
}

// use makes the connections the ones in force from now on.
func (r *registry) use(ctx context.Context, connections map[string]*hub.Connection, set *connector.Set, store activator) error {
	t := &table{sources: make(map[string]pipeline.Source, len(connections))}
	activations := map[string]int64{}
	for name, conn := range connections {
		con, ok := set.Get(conn.Connector)
		if !ok {
			return fmt.Errorf("connection %s: there is no connector %q: %w", name, conn.Connector, hub.ErrInvalid)
		}
		number, ok := activations[conn.Connector]
		if !ok {
			var err error
			if number, err = store.Activate(ctx, conn.Connector, con.Hash()); err != nil {
				return fmt.Errorf("activate connector %s: %w", conn.Connector, err)
			}
			activations[conn.Connector] = number
		}
		t.sources[name] = pipeline.Source{Connection: conn, Connector: con, Activation: number}
		t.names = append(t.names, name)
	}
	slices.Sort(t.names)
	r.table.Store(t)
	return nil
}

// Lookup returns a connection with its connector and activation.
func (r *registry) Lookup(name string) (pipeline.Source, bool) {
	t := r.table.Load()
	if t == nil {
		return pipeline.Source{}, false
	}
	s, ok := t.sources[name]
	return s, ok
}

// Names returns the connections, sorted.
func (r *registry) Names() []string {
	if t := r.table.Load(); t != nil {
		return t.names
	}
	return nil
}

// produces tells, per connection, the event kinds its manifest can make.
func (r *registry) produces() map[string][]string {
	out := map[string][]string{}
	for _, name := range r.Names() {
		if s, ok := r.Lookup(name); ok {
			out[name] = s.Connector.Produces()
		}
	}
	return out
}
