package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

func waiting(connection, id, webhook string) hub.HydrationRecord {
	return hub.HydrationRecord{Connection: connection, Object: "contact", ID: id, WebhookID: webhook, State: "due", ReceivedAt: time.Now(), DueAt: time.Now()}
}

func (m *memory) wait(rows ...hub.HydrationRecord) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rows {
		m.hydration = append(m.hydration, &hydrating{HydrationRecord: r})
	}
}

func (m *memory) left(connection string) (waiting, dead int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.hydration {
		if h.Connection == connection && h.State == "dead" {
			dead++
		} else if h.Connection == connection {
			waiting++
		}
	}
	return waiting, dead
}

// fetcher is a vendor that knows every record but those whose id says otherwise.
func fetcher(batch int) (*vendor, *[][]string) {
	var mu sync.Mutex
	var asked [][]string
	v := &vendor{batch: batch}
	v.fetch = func(_ context.Context, _ connector.Call, rows []hub.HydrationRecord) ([]connector.Fetched, error) {
		var ids []string
		var out []connector.Fetched
		for _, row := range rows {
			ids = append(ids, row.ID)
			f := connector.Fetched{Row: row, Body: []byte(`{"id":"` + row.ID + `"}`)}
			switch {
			case strings.HasPrefix(row.ID, "gone"):
				f = connector.Fetched{Row: row, Gone: true}
			case strings.HasPrefix(row.ID, "bad"):
				f = connector.Fetched{Row: row, Err: fmt.Errorf("status 400: %w", hub.ErrInvalid)}
			case strings.HasPrefix(row.ID, "forgotten"):
				continue
			}
			out = append(out, f)
		}
		mu.Lock()
		asked = append(asked, ids)
		mu.Unlock()
		return out, nil
	}
	v.events = func(row hub.HydrationRecord, body []byte, gone bool) (connector.Normalized, error) {
		if strings.HasPrefix(row.ID, "unmappable") {
			return connector.Normalized{}, fmt.Errorf("no person in it: %w", hub.ErrInvalid)
		}
		n := connector.Normalized{Events: []hub.Event{{ID: "evt_" + row.ID + row.WebhookID, Kind: "customer.updated", Connection: row.Connection, WebhookID: row.WebhookID}}}
		if gone {
			n.Events[0].Properties = map[string]any{"reason": "gone"}
		}
		if row.ID == "deal" {
			more := row
			more.ID, more.Object = "7", "person"
			n.Hydrate = []hub.HydrationRecord{more}
		}
		return n, nil
	}
	return v, &asked
}

func TestHydrates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		v, asked := fetcher(3)
		b.connect("crm", v)
		b.store.wait(
			waiting("crm", "1", "w1"), waiting("crm", "1", "w2"), waiting("crm", "2", "w3"), waiting("crm", "gone1", "w4"), waiting("crm", "bad1", "w5"),
			waiting("crm", "unmappable", "w6"), waiting("crm", "3", "w7"), waiting("crm", "unwritable", "w9"), waiting("crm", "deal", "w8"))
		b.Wake()
		settle(time.Second)
		var ids []string
		for _, ev := range b.published.events {
			ids = append(ids, ev.ID)
			if ev.Version != (hub.Version{Activation: 4}) {
				t.Errorf("%s has version %+v", ev.ID, ev.Version)
			}
			if (ev.Properties["reason"] == "gone") != (ev.WebhookID == "w4") {
				t.Errorf("%s: %+v", ev.ID, ev.Properties)
			}
		}
		slices.Sort(ids)
		want := "evt_1w1 evt_1w2 evt_2w3 evt_3w7 evt_7w8 evt_dealw8 evt_gone1w4"
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("published %s\nwant      %s", got, want)
		}
		if waiting, dead := b.store.left("crm"); waiting != 0 || dead != 3 {
			t.Errorf("%d rows wait, %d are dead", waiting, dead)
		}
		if len(b.store.fetched) != 7 || b.store.fetched["contact/1"] != `{"id":"1"}` {
			t.Errorf("stored %v", b.store.fetched)
		}
		for _, ids := range *asked {
			if len(ids) > 3 || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(ids) {
				t.Errorf("asked for %v at once", ids)
			}
		}
		for _, h := range b.store.ended {
			if h.Done && (len(h.EventIDs) != 1 || len(h.Kinds) != 1) {
				t.Errorf("ended without its events: %+v", h)
			}
		}
	})
}

// A vendor that is down holds up nobody else; everything is fetched when it is back; what is older than three days is dead.
func TestVendorDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, rarely)
		down, _ := fetcher(10)
		up, _ := fetcher(10)
		var requests atomic.Int32
		var works atomic.Bool
		good := down.fetch
		down.fetch = func(ctx context.Context, call connector.Call, rows []hub.HydrationRecord) ([]connector.Fetched, error) {
			requests.Add(1)
			if works.Load() {
				return good(ctx, call, rows)
			}
			time.Sleep(10 * time.Second)
			var out []connector.Fetched
			for _, row := range rows {
				out = append(out, connector.Fetched{Row: row, Err: fmt.Errorf("status 503: %w", hub.ErrTransient)})
			}
			return out, nil
		}
		b.connect("down", down)
		b.connect("up", up)
		for i := range 500 {
			b.store.wait(waiting("down", fmt.Sprint(i), "w"))
		}
		settle(time.Minute)
		began := time.Now()
		b.store.wait(waiting("up", "1", "w"))
		b.Wake()
		settle(time.Second)
		if waiting, _ := b.store.left("up"); waiting != 0 {
			t.Errorf("a healthy vendor still waits after %s", time.Since(began))
		}
		settle(10 * time.Hour)
		if requests := requests.Load(); requests > 400 {
			t.Errorf("%d requests in ten hours of outage", requests)
		}
		if waiting, dead := b.store.left("down"); waiting != 500 || dead != 0 {
			t.Errorf("%d rows wait, %d are dead", waiting, dead)
		}
		works.Store(true)
		settle(20 * time.Minute)
		if waiting, dead := b.store.left("down"); waiting != 0 || dead != 0 {
			t.Errorf("after the outage %d rows wait, %d are dead", waiting, dead)
		}
		works.Store(false)
		b.store.wait(waiting("down", "late", "w"))
		settle(73 * time.Hour)
		if _, dead := b.store.left("down"); dead != 1 {
			t.Error("not dead after three days")
		}
	})
}

// Where the events cannot be published the rows stay, and the attempt is not counted.
func TestPublishFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		v, _ := fetcher(10)
		b.connect("crm", v)
		b.published.fail = fmt.Errorf("disk full: %w", hub.ErrTransient)
		b.store.wait(waiting("crm", "1", "w"), waiting("crm", "forgotten", "w2"))
		settle(time.Minute)
		if waiting, _ := b.store.left("crm"); waiting != 2 {
			t.Fatalf("%d rows wait", waiting)
		}
		b.store.mu.Lock()
		if n := b.store.hydration[0].Attempts; n != 0 {
			t.Errorf("%d attempts counted", n)
		}
		b.store.mu.Unlock()
		b.published.mu.Lock()
		b.published.fail = nil
		b.published.mu.Unlock()
		settle(5 * time.Second)
		if waiting, _ := b.store.left("crm"); waiting != 1 || len(b.published.events) != 1 {
			t.Errorf("%d rows wait, published %+v", waiting, b.published.events)
		}
	})
}

func TestHydrationOfConnectionGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, rarely)
		v, _ := fetcher(10)
		b.store.wait(waiting("crm", "1", "w"))
		settle(time.Hour)
		if waiting, dead := b.store.left("crm"); waiting != 1 || dead != 0 {
			t.Errorf("%d rows wait, %d are dead", waiting, dead)
		}
		b.connect("crm", v)
		settle(2 * time.Minute)
		if waiting, _ := b.store.left("crm"); waiting != 0 {
			t.Error("not fetched after the connection came back")
		}
	})
}

func TestHydrationIsThrottledAndTripped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		v, _ := fetcher(10)
		good, free, requests := v.fetch, time.Now().Add(time.Minute), 0
		b.calls = func(context.Context, connector.Request) (connector.Response, error) {
			return connector.Response{}, notSent{time.Until(free)}
		}
		v.fetch = func(ctx context.Context, call connector.Call, rows []hub.HydrationRecord) ([]connector.Fetched, error) {
			requests++
			if time.Now().Before(free) {
				_, err := call(ctx, connector.Request{})
				return []connector.Fetched{{Row: rows[0], Err: err}}, nil
			}
			return good(ctx, call, rows)
		}
		b.connect("crm", v)
		b.store.wait(waiting("crm", "1", "w"))
		settle(time.Minute + time.Second)
		if waiting, _ := b.store.left("crm"); waiting != 0 || requests != 2 || b.store.ended[0].Attempts != 0 {
			t.Errorf("%d rows wait after %d requests: %+v", waiting, requests, b.store.ended)
		}
	})
}
