package bus

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	published  *prometheus.CounterVec   // frames by stream and outcome
	records    *prometheus.CounterVec   // records in stored frames
	publishing *prometheus.HistogramVec // seconds from the first attempt to the ack
	retries    *prometheus.CounterVec
	frames     *prometheus.CounterVec   // handled frames by stream and outcome
	handling   *prometheus.HistogramVec // seconds in the handler
	relayed    *prometheus.CounterVec
	oldest     prometheus.Gauge
	restarts   prometheus.Counter
	free       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	seconds := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &metrics{
		published:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stagewire_frames_published_total", Help: "Frames published, by stream and outcome."}, []string{"stream", "outcome"}),
		records:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stagewire_records_published_total", Help: "Records in stored frames, by stream."}, []string{"stream"}),
		publishing: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "stagewire_publish_duration_seconds", Help: "Time until a frame was acknowledged.", Buckets: seconds}, []string{"stream"}),
		retries:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stagewire_publish_retries_total", Help: "Publishes that got no answer."}, []string{"stream"}),
		frames:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stagewire_frames_handled_total", Help: "Frames handled, by stream and outcome."}, []string{"stream", "outcome"}),
		handling:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "stagewire_frame_duration_seconds", Help: "Time a frame's handler took.", Buckets: seconds}, []string{"stream"}),
		relayed:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stagewire_relayed_total", Help: "Outbox rows published, by stream."}, []string{"stream"}),
		oldest:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "stagewire_log_oldest_seconds", Help: "Age of the oldest webhook or event that waits in the log; 0 when none does."}),
		restarts:   prometheus.NewCounter(prometheus.CounterOpts{Name: "stagewire_nats_restarts_total", Help: "Restarts in place of the embedded NATS server."}),
		free:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "stagewire_disk_free_bytes", Help: "Free space of data_dir."}),
	}
	for _, stream := range []string{streamWebhooks, streamEvents} {
		for _, outcome := range []string{"stored", "failed"} {
			m.published.WithLabelValues(stream, outcome)
		}
		for _, outcome := range []string{outcomeDone, outcomeFailed, outcomeDead, outcomeMoved} {
			m.frames.WithLabelValues(stream, outcome)
		}
		m.records.WithLabelValues(stream)
		m.publishing.WithLabelValues(stream)
		m.retries.WithLabelValues(stream)
		m.handling.WithLabelValues(stream)
	}
	for _, stream := range []string{streamStages, streamEvents} {
		m.relayed.WithLabelValues(stream)
	}
	reg.MustRegister(m.published, m.records, m.publishing, m.retries, m.frames, m.handling, m.relayed, m.oldest, m.restarts, m.free)
	return m
}
