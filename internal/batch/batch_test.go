package batch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stagewire/stagewire/internal/batch"
)

func one(int) (int, int) { return 1, 1 }

func start[T, R any](t *testing.T, b *batch.Batch[T, R]) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// One write is under way while others queue; the next write takes them all.
func TestFlushWhenFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes [][]int
		b := batch.New(batch.Config{Records: 3, Bytes: 100, Queue: 10}, one, func(_ context.Context, items []int) ([]int, error) {
			writes = append(writes, slices.Clone(items))
			time.Sleep(time.Second)
			return items, nil
		})
		stop := start(t, b)
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				got, err := b.Do(t.Context(), i)
				if err != nil || got != i {
					t.Errorf("Do(%d) = %d, %v", i, got, err)
				}
			})
			synctest.Wait()
		}
		began := time.Now()
		all.Wait()
		stop()
		if want := [][]int{{0}, {1, 2, 3}, {4, 5}}; fmt.Sprint(writes) != fmt.Sprint(want) {
			t.Errorf("writes %v, want %v", writes, want)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v, want 3s: nothing may wait for a timer", took)
		}
	})
}

func TestBytesBoundAWriteButNotOneItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes [][]int
		b := batch.New(batch.Config{Records: 100, Bytes: 10, Queue: 10}, func(n int) (int, int) { return 1, n },
			func(_ context.Context, items []int) ([]int, error) {
				writes = append(writes, slices.Clone(items))
				return items, nil
			})
		for _, n := range []int{4, 6, 1, 25, 2} {
			if _, err := b.Offer(n); err != nil {
				t.Fatal(err)
			}
		}
		start(t, b)()
		if want := [][]int{{4, 6}, {1}, {25}, {2}}; fmt.Sprint(writes) != fmt.Sprint(want) {
			t.Errorf("writes %v, want %v", writes, want)
		}
	})
}

func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := batch.New(batch.Config{Records: 1, Bytes: 1, Queue: 2}, one, func(_ context.Context, items []int) ([]int, error) { return items, nil })
		for i := range 2 {
			if _, err := b.Offer(i); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Do(t.Context(), 3); !errors.Is(err, batch.ErrBusy) {
			t.Errorf("Do on a full queue: %v, want ErrBusy", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Put(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put on a full queue: %v, want the deadline", err)
		}
		waited := make(chan error, 1)
		go func() {
			ticket, err := b.Put(t.Context(), 4)
			if err == nil {
				_, err = ticket.Wait(t.Context())
			}
			waited <- err
		}()
		synctest.Wait()
		stop := start(t, b)
		if err := <-waited; err != nil {
			t.Errorf("Put with room made: %v", err)
		}
		stop()
		if _, err := b.Do(t.Context(), 5); !errors.Is(err, batch.ErrClosed) {
			t.Errorf("Do after Run: %v, want ErrClosed", err)
		}
		if _, err := b.Put(t.Context(), 5); !errors.Is(err, batch.ErrClosed) {
			t.Errorf("Put after Run: %v, want ErrClosed", err)
		}
	})
}

func TestErrorsReachEverybody(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, write := range map[string]func(context.Context, []int) ([]int, error){
		"error":       func(context.Context, []int) ([]int, error) { return nil, broken },
		"panic":       func(context.Context, []int) ([]int, error) { panic("ouch") },
		"too few":     func(_ context.Context, items []int) ([]int, error) { return items[1:], nil },
		"nil results": func(context.Context, []int) ([]int, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := batch.New(batch.Config{Records: 8, Bytes: 8, Queue: 8}, one, write)
				stop := start(t, b)
				var all sync.WaitGroup
				for i := range 5 {
					all.Go(func() {
						if _, err := b.Do(t.Context(), i); err == nil || name == "error" && !errors.Is(err, broken) {
							t.Errorf("Do: %v", err)
						}
					})
				}
				all.Wait()
				stop()
			})
		})
	}
}

// What was accepted before the end is written, under a context that still lives.
func TestEndWritesWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		b := batch.New(batch.Config{Records: 2, Bytes: 9, Queue: 9}, one, func(ctx context.Context, items []int) ([]int, error) {
			time.Sleep(time.Second)
			written += len(items)
			return items, ctx.Err()
		})
		stop := start(t, b)
		var tickets []*batch.Ticket[int, int]
		for i := range 7 {
			ticket, err := b.Offer(i)
			if err != nil {
				t.Fatal(err)
			}
			tickets = append(tickets, ticket)
		}
		synctest.Wait()
		stop()
		for i, ticket := range tickets {
			if got, err := ticket.Wait(t.Context()); err != nil || got != i {
				t.Errorf("item %d: %d, %v", i, got, err)
			}
		}
		if written != 7 {
			t.Errorf("%d written, want 7", written)
		}
	})
}

// FuzzNoWaiterIsLost lets many callers come, give up and go while the batch is stopped at any moment: everybody gets an
// answer, and everybody who is told "written" was written exactly once.
func FuzzNoWaiterIsLost(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(4), uint8(20))
	f.Add(uint64(2), uint8(1), uint8(1), uint8(200))
	f.Add(uint64(3), uint8(255), uint8(255), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, records, queue, stopAfter uint8) {
		synctest.Test(t, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 1))
			written := map[int]int{}
			b := batch.New(batch.Config{Records: int(records) + 1, Bytes: 40, Queue: int(queue) + 1},
				func(n int) (int, int) { return 1 + n%3, 1 + n%7 },
				func(_ context.Context, items []int) ([]int, error) {
					time.Sleep(time.Duration(len(items)) * time.Millisecond)
					for _, n := range items {
						if written[n]++; n%11 == 0 {
							return nil, errors.New("bad day")
						}
					}
					return items, nil
				})
			stop := start(t, b)
			told := make(chan int, 300)
			var callers sync.WaitGroup
			for n := range 300 {
				delay, patience := time.Duration(dice.IntN(100))*time.Millisecond, time.Duration(1+dice.IntN(300))*time.Millisecond
				callers.Go(func() {
					time.Sleep(delay)
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					got, err := 0, error(nil)
					if n%2 == 0 {
						got, err = b.Do(ctx, n)
					} else if ticket, e := b.Put(ctx, n); e != nil {
						err = e
					} else {
						got, err = ticket.Wait(context.Background()) // must be answered: it was let in
					}
					if err == nil {
						if got != n {
							t.Errorf("result %d for item %d", got, n)
						}
						told <- n
					}
				})
			}
			time.Sleep(time.Duration(stopAfter) * time.Millisecond)
			stop()
			callers.Wait()
			close(told)
			for n := range told {
				if written[n] != 1 {
					t.Errorf("item %d told written, was written %d times", n, written[n])
				}
			}
			if b.Len() != 0 {
				t.Errorf("%d items left behind", b.Len())
			}
		})
	})
}

func BenchmarkDo(b *testing.B) {
	group := batch.New(batch.Config{Records: 256, Bytes: 1 << 20, Queue: 4096}, one, func(_ context.Context, items []int) ([]int, error) { return items, nil })
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- group.Run(ctx) }()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := group.Do(b.Context(), 1); err != nil {
				b.Error(err)
				return
			}
		}
	})
	cancel()
	<-ended
}

// Callers who come back as soon as they are answered settle into two halves that take turns. A lone caller waits for nobody, and those
// who were many a moment ago wait for at most half a write.
func TestHalvesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, rounds = 64, 20
		var writes []int
		b := batch.New(batch.Config{Records: 1000, Bytes: 1000, Queue: 100, Halves: true}, one, func(_ context.Context, items []int) ([]int, error) {
			writes = append(writes, len(items))
			time.Sleep(time.Second)
			return items, nil
		})
		stop := start(t, b)
		do := func() {
			if _, err := b.Do(t.Context(), 0); err != nil {
				t.Error(err)
			}
		}
		began := time.Now()
		for range 3 {
			do()
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("three writes of a lone caller took %v", took)
		}
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				for range rounds {
					do()
					time.Sleep(time.Duration(i+1) * time.Millisecond) // they come back one after the other
				}
			})
		}
		all.Wait()
		crowd := writes[3:]
		for i, n := range crowd[4 : len(crowd)-2] {
			if n < callers/4 || n > callers*3/4 {
				t.Errorf("write %d of the crowd is of %d: %v", i+4, n, crowd)
				break
			}
		}
		began = time.Now()
		do()
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("one who is left alone waited %v", took)
		}
		stop()
	})
}

// A ticket tells its result to everybody who asks, as often as they do; one whose Do has returned serves the next.
func TestTicketsTellTheirResultAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := batch.New(batch.Config{Records: 10, Bytes: 10, Queue: 10}, one, func(_ context.Context, items []int) ([]int, error) {
			time.Sleep(time.Second)
			return items, nil
		})
		stop := start(t, b)
		defer stop()
		ticket, err := b.Offer(7)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() {
				for range 3 {
					if got, err := ticket.Wait(t.Context()); got != 7 || err != nil {
						t.Errorf("the ticket says %d, %v", got, err)
					}
					if got, err := b.Do(t.Context(), 10+i); got != 10+i || err != nil {
						t.Errorf("Do(%d) = %d, %v", 10+i, got, err)
					}
				}
			})
		}
		for n := range 3 { // given up: its result must not reach whoever comes next
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if _, err := b.Do(ctx, 100+n); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Do(%d): %v, want the deadline", 100+n, err)
			}
			cancel()
			if got, err := b.Do(t.Context(), 200+n); got != 200+n || err != nil {
				t.Errorf("Do(%d) = %d, %v", 200+n, got, err)
			}
		}
		all.Wait()
	})
}
