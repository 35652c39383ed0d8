package delivery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// plainPoster is the same net/http transport as the client's, which this package may not import.
type plainPoster struct{ transport *http.Transport }

func (p plainPoster) Post(ctx context.Context, url string, header http.Header, body []byte, _ bool) (int, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Header = header
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, 0, err
}

// BenchmarkCallbacks is one callback from the due row to the recorded outcome, with a receiver on loopback in the same process:
// claim, sign, send, log line, finish. cpu-us/op is user and system time of everything, the receiver's half included.
func BenchmarkCallbacks(b *testing.B) {
	var got atomic.Int64
	done := make(chan struct{})
	target := int64(b.N) + 1 // the test event
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if got.Add(1) == target {
			close(done)
		}
	}))
	defer server.Close()
	store := newMemory(time.Now)
	store.fast = true
	body := fmt.Appendf(nil, `{"specversion":"1.0","id":"stg_%026d","source":"stagewire/acme","type":"stagewire.stage.entered.v1","subject":"cus_1","data":{"model":"clc","from":"active","to":"lost","pad":"%0400d"}}`, 1, 1)
	claims := make([]hub.Claimed, b.N)
	for i := range claims {
		claims[i] = hub.Claimed{Delivery: hub.Delivery{ID: fmt.Sprint(i), Destination: SubscriptionPrefix + "erp", Action: "callback", Body: body}}
	}
	store.add(claims...)
	d := New(Config{
		Store: store, Poster: plainPoster{&http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}},
		Connection: func(string) (*hub.Connection, Connector, bool) { return nil, nil, false },
		Call:       func(*hub.Connection, Connector) connector.Call { return nil },
		Subscription: func(name string) (Subscription, bool) {
			return Subscription{Name: name, URL: server.URL, Secrets: []hub.Secret{hub.NewSecret("whsec_dGVzdC1zZWNyZXQtc3RhbmRhcmQtd2ViaG9va3MhISE=")}}, true
		},
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	before := cpu()
	b.ResetTimer()
	go func() { _ = d.Run(ctx); close(ended) }()
	<-done
	cancel()
	<-ended
	b.StopTimer()
	b.ReportMetric(float64(cpu()-before)/float64(b.N)/1e3, "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "callbacks/s")
	b.ReportMetric(float64(b.N)/float64(max(1, store.finishes)), "per-finish")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
