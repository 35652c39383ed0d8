package sandbox

import (
	"context"
	"testing"
)

// BenchmarkLoad measures what the load generator costs by itself: one signed 3 kB order sent to a server that keeps nothing.
func BenchmarkLoad(b *testing.B) {
	r := newReceiver(b)
	r.keep = false
	s := newBench(b, func(c *Config) { c.Hub = r.url })
	b.ResetTimer()
	report, err := s.Load(context.Background(), LoadConfig{Orders: b.N, Workers: 16})
	if err != nil || len(report.Acknowledged) != b.N {
		b.Fatalf("%v: %d of %d", err, len(report.Acknowledged), b.N)
	}
	b.ReportMetric(float64(b.N)/report.Duration.Seconds(), "webhooks/s")
}
