package app

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/server"
)

const impatient = `model: impatient
stages: [{name: none}, {name: there}, {name: gone}]
params: {patience: 3s}
decide:
  - stage: gone
    when: since("order.paid") >= params.patience
  - stage: there
    when: ever("order.paid")
  - otherwise: none
`

// Silence ends at its very instant, also where the hub was restarted in between: a clean restart is no gap.
func TestSilenceAcrossARestart(t *testing.T) {
	t.Parallel()
	on(t, silenceAcrossARestart)
}

func silenceAcrossARestart(t *testing.T, s *site) {
	s.edit(t, "stagewire.yaml", "models: [clc]", "models: [impatient.yaml]")
	s.write(t, "impatient.yaml", impatient)
	r := s.start(t, nil)
	at := time.Now().UTC().Truncate(time.Second)
	body := strings.ReplaceAll(paid("1", ""), "2026-03-01T10:00:00Z", at.Format(time.RFC3339))
	r.settled(t, r.accept(t, shopify("orders/paid", "e1", body)))
	r.stop()
	r = s.start(t, nil)
	var move *server.Transition
	eventually(t, "the customer is gone", func() bool {
		list := get[server.List[server.Customer]](t, r, "GET", "/customers?email=ada@example.com", nil)
		if len(list.Items) != 1 || list.Items[0].Stages["impatient"].Stage != "gone" {
			return false
		}
		for _, e := range get[server.List[server.Entry]](t, r, "GET", "/customers/"+list.Items[0].ID+"/timeline", nil).Items {
			if e.Transition != nil && e.Transition.To == "gone" {
				move = e.Transition
			}
		}
		return move != nil
	})
	if want := at.Add(3 * time.Second); move.At == nil || !move.At.Equal(want) || move.Cause.Type != "wake" {
		t.Errorf("%+v, want at %v", move, want)
	}
	t.Logf("decided %v after the instant", move.DecidedAt.Sub(*move.At))
}

// Told to stop before it began, a hub gives its address up: the next process needs it.
func TestStoppedBeforeItBegan(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *site) {
		cfg, set, err := load(s.file)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		a, err := Open(ctx, Options{Config: cfg, Connectors: set, Load: load, Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		address := a.Addr().String()
		cancel()
		if err := a.Run(ctx); err != nil {
			t.Errorf("ended with %v", err)
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatalf("the address is still taken: %v", err)
		}
		l.Close()
	})
}
