package bus

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A hub that starts beside its cluster waits until the cluster has enough servers and a leader.
func TestClusterThatIsNotReady(t *testing.T) {
	t.Parallel()
	var routes, clients []string
	// Ports that systems do not hand out by themselves: one that is free now must not become the end of somebody's connection.
	for port := 12000 + rand.IntN(4000); len(routes) < 6; port++ {
		if port > 19999 {
			t.Fatal("no six free ports up to 19999")
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		routes = append(routes, l.Addr().String())
		l.Close()
	}
	routes, clients = routes[:3], routes[3:]
	start := func(i int) {
		host, port := hostPort(t, clients[i])
		o := &server.Options{ServerName: fmt.Sprintf("n%d", i), Host: host, Port: port, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true}
		o.Cluster.Name = "test"
		o.Cluster.Host, o.Cluster.Port = hostPort(t, routes[i])
		o.Routes = server.RoutesFromStr("nats://" + strings.Join(routes, ",nats://"))
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	}
	start(0)
	deadline := time.Now().Add(5 * time.Second)
	for { // until its port is open
		c, err := net.Dial("tcp", clients[0])
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	opened := make(chan error, 1)
	go func() {
		b, err := Open(t.Context(), Config{URL: "nats://" + strings.Join(clients, ",nats://"), Replicas: 3})
		if err == nil {
			err = b.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("one of three servers is no cluster: %v", err)
	case <-time.After(time.Second):
	}
	start(1)
	start(2)
	select {
	case err := <-opened:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(startWithin):
		t.Fatal("still waiting")
	}
}

func hostPort(t *testing.T, address string) (string, int) {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a.IP.String(), a.Port
}
