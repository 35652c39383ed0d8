package bus

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// held runs hold and returns how long it held, in virtual time.
func held(ctx context.Context, p *pace, full <-chan struct{}) time.Duration {
	began := time.Now()
	p.hold(ctx, full)
	return time.Since(began)
}

func TestPace(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(p *pace)
		want    time.Duration
	}{
		"nothing waits": {func(*pace) {}, 0},
		"few wait":      {func(p *pace) { p.done(1, time.Now()); p.stored(paceAhead - 1) }, 0},
		"many wait":     {func(p *pace) { p.done(1, time.Now()); p.stored(paceAhead) }, paceLimit},
		"some are handled meanwhile": {func(p *pace) {
			p.done(1, time.Now())
			p.stored(paceAhead + 9)
			go func() {
				for range 3 { // the third makes room
					time.Sleep(paceLimit / 5)
					p.done(5, time.Now())
				}
			}()
		}, paceLimit / 5 * 2},
		"nobody has ever handled any": {func(p *pace) { p.stored(10 * paceAhead) }, 0},
		"nobody handles any more": {func(p *pace) {
			p.done(1, time.Now())
			p.stored(10 * paceAhead)
			time.Sleep(paceAlive + 1)
		}, 0},
		"more are handled than were stored": {func(p *pace) { p.done(5000, time.Now()); p.stored(paceAhead) }, paceLimit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pace{}
				test.prepare(p)
				if got := held(t.Context(), p, nil); got != test.want {
					t.Errorf("held for %v, want %v", got, test.want)
				}
				time.Sleep(paceLimit) // for who still handles some
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := &pace{}
		p.done(1, time.Now())
		p.stored(2 * paceAhead)
		full := make(chan struct{})
		go func() { time.Sleep(time.Millisecond); close(full) }()
		if got := held(t.Context(), p, full); got != time.Millisecond {
			t.Errorf("a whole frame waited %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		defer cancel()
		if got := held(ctx, p, nil); got != 2*time.Millisecond {
			t.Errorf("held for %v after its context ended", got)
		}
	})
}
