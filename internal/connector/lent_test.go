package connector_test

import (
	"bytes"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/connector/connectortest"
	"github.com/stagewire/stagewire/internal/hub"
)

// What Normalize returns is its caller's for good: neither the webhook's memory nor the maps its body was decoded to, which are used
// again, are part of it.
func TestNormalizedIsItsCallersOwn(t *testing.T) {
	type sample struct {
		k    *connectortest.Case
		w    *hub.Webhook
		want string
	}
	var samples []sample
	for _, vendor := range []string{"shopify", "hubspot", "zendesk", "zoho-crm"} {
		c, dir := shipped(t, vendor), "../../connectors/"+vendor
		files, err := filepath.Glob(dir + "/testdata/*/webhook.http")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no webhooks: %v", vendor, err)
		}
		for _, file := range files {
			k := connectortest.Open(t, c, dir, filepath.Dir(file))
			w := k.Webhook(t)
			made, _ := c.Normalize(w, k.Connection)
			samples = append(samples, sample{k, w, string(connectortest.Encode(t, made))})
		}
	}
	var all sync.WaitGroup
	results := make([][]connector.Normalized, 4)
	for worker := range results {
		results[worker] = make([]connector.Normalized, len(samples))
		all.Go(func() {
			for n := range samples {
				i := (n + 7*worker) % len(samples)
				w := *samples[i].w
				w.Body = bytes.Clone(w.Body)
				results[worker][i], _ = samples[i].k.Connector.Normalize(&w, samples[i].k.Connection)
				clear(w.Body)
			}
		})
	}
	all.Wait()
	for _, made := range results {
		for i, s := range samples {
			if diff := cmp.Diff(s.want, string(connectortest.Encode(t, made[i]))); diff != "" {
				t.Errorf("%s changed after it was returned: %s", s.k.Dir, diff)
			}
		}
	}
}
