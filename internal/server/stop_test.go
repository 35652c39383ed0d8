package server

import (
	"testing"
	"time"
)

// A server that is told to stop while it starts does not serve for ever.
func TestStopWhileStarting(t *testing.T) {
	for range 50 {
		r := start(t, nil)
		ended := make(chan error, 1)
		go func() { ended <- r.stop() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("still serving")
		}
	}
}
