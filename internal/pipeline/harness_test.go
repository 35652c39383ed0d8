package pipeline_test

import (
	"context"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stagewire/stagewire/internal/bus"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/pipeline"
	"github.com/stagewire/stagewire/internal/store"
	"github.com/stagewire/stagewire/rules"
)

type testStore = *store.Store

// nobody is a configuration without connections: the tests hand events in directly.
type nobody struct{}

func (nobody) Lookup(string) (pipeline.Source, bool) { return pipeline.Source{}, false }
func (nobody) Names() []string                       { return nil }

// idle is streams in which nothing waits.
type idle struct{ oldest time.Time }

func (i *idle) Oldest(context.Context) (time.Time, error) { return i.oldest, nil }

// memory collects published events.
type memory struct{ events []hub.Event }

func (m *memory) PublishEvents(_ context.Context, events []hub.Event) error {
	m.events = append(m.events, events...)
	return nil
}

// newHarness opens a fresh store: SQLite, or PostgreSQL at url.
func newHarness(t testing.TB, url string) *harness {
	t.Helper()
	h := &harness{now: epoch}
	var err error
	h.store, err = store.Open(t.Context(), store.Options{URL: url, Dir: t.TempDir(), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	h.pipeline = h.newPipeline(t, "one")
	return h
}

func (h *harness) newPipeline(t testing.TB, holder string) *pipeline.Pipeline {
	t.Helper()
	h.registry = prometheus.NewRegistry()
	p := pipeline.New(pipeline.Config{
		Registerer: h.registry,
		Store:      h.store, Publisher: &memory{}, Backlog: &idle{}, Connections: nobody{}, Clock: pipeline.WallClock{Now: func() time.Time { return h.now }},
		Now: time.Now, Log: quiet(), Holder: holder, Source: "stagewire/test",
		Encode: bus.EncodeEvent,
	})
	text, ok := rules.Text("clc")
	if !ok {
		t.Fatal("clc is not shipped")
	}
	model, err := lifecycle.Compile("rules/clc.yaml", text, lifecycle.Env{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := h.store.SaveDraft(t.Context(), hub.ModelSet{Hash: model.Hash, Definition: []byte("{}"), Models: []hub.ModelVersion{{Name: model.Name, Hash: model.Hash, Text: string(text)}}})
	if err != nil {
		t.Fatal(err)
	}
	if active, err := h.store.ActiveSet(t.Context()); err != nil || active.Number != set.Number {
		if err := h.store.Publish(t.Context(), set.Number, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	p.Use(pipeline.NewProgram(set.Number, []pipeline.ActiveModel{{Model: model, Version: 1}}, nil, nil,
		[]pipeline.Subscription{{Name: "erp", Kinds: []string{"stage.entered"}}}, nil))
	return p
}

// postgres returns a function that makes an empty schema of that name and gives its URL; it skips the test without a server.
func postgres(t *testing.T) func(schema string) string {
	t.Helper()
	server := os.Getenv("STAGEWIRE_TEST_POSTGRES")
	if server == "" {
		t.Skip("STAGEWIRE_TEST_POSTGRES names no server")
	}
	return func(schema string) string {
		t.Helper()
		run := func(statement string) {
			conn, err := pgx.Connect(context.Background(), server)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if _, err := conn.Exec(context.Background(), statement); err != nil {
				t.Fatal(err)
			}
		}
		run("CREATE SCHEMA " + schema)
		t.Cleanup(func() { run("DROP SCHEMA " + schema + " CASCADE") })
		u, err := url.Parse(server)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set("search_path", schema)
		u.RawQuery = q.Encode()
		return u.String()
	}
}
