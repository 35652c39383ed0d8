package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/stagewire/stagewire/internal/sandbox"
)

// A shop tells a hub about a new customer.
func ExampleSandbox() {
	told := make(chan string, 1)
	hub := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- fmt.Sprint(r.URL.Path, " ", r.Header.Get("X-Shopify-Topic"), ", signed: ", r.Header.Get("X-Shopify-Hmac-Sha256") != "", ", bytes: ", len(body) > 1000)
	}))
	defer hub.Close()

	s := sandbox.New(sandbox.Config{Hub: hub.URL, Seed: 1})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()

	step := sandbox.Step{At: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), Vendor: sandbox.Shopify, Do: "customer.created", Customer: "ada@example.com", Name: "Ada Example"}
	if err := s.Play(ctx, step); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-told)
	cancel()
	<-done
	fmt.Println(s.State()[sandbox.Shopify].Customers[0].Name)
	// Output:
	// /hooks/shop customers/create, signed: true, bytes: true
	// Ada Example
}
