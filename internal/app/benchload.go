package app

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/stagewire/stagewire/internal/server"
)

// benchSecret signs the benchmark's webhooks.
const benchSecret = "stagewire-bench"

// orderBytes is a little more than an order takes.
const orderBytes = 2300

// order is a signed Shopify order, ready to be sent.
type order struct {
	body      []byte
	signature []byte
	id        []byte
}

// orders makes n signed orders/paid webhooks of about 2 KB, spread over customers. from makes series differ, so that no
// order is a duplicate of an earlier series.
func orders(n, customers, from int, at time.Time) []order {
	out := make([]order, n)
	all := make([]byte, 0, n*orderBytes) // one piece, so that the collector has nothing to look at
	padding := bytes.Repeat([]byte("stagewire "), 60)
	for i := range out {
		number := from + i
		customer := number % customers
		when := at.Add(time.Duration(i) * time.Millisecond).Format(time.RFC3339)
		begin := len(all)
		all = fmt.Appendf(all, `{"id":%d,"admin_graphql_api_id":"gid://shopify/Order/%d","app_id":580111,"buyer_accepts_marketing":true,`+
			`"cancel_reason":null,"cancelled_at":null,"confirmed":true,"contact_email":"c%d@example.com","created_at":%q,"currency":"EUR",`+
			`"current_subtotal_price":"49.90","current_total_price":"54.90","current_total_price_set":{"shop_money":{"amount":"54.90","currency_code":"EUR"},`+
			`"presentment_money":{"amount":"54.90","currency_code":"EUR"}},"discount_codes":[],"email":"c%d@example.com","financial_status":"paid",`+
			`"fulfillment_status":null,"name":"#%d","note":%q,"order_number":%d,"phone":null,"processed_at":%q,"source_name":"web","subtotal_price":"49.90",`+
			`"tags":"","test":false,"total_discounts":"0.00","total_price":"54.90","total_tax":"0.00","total_weight":500,"updated_at":%q,`+
			`"billing_address":{"first_name":"Ada","last_name":"Example","address1":"1 Test Street","city":"Springfield","country":"Germany","zip":"12345","country_code":"DE"},`+
			`"customer":{"id":%d,"created_at":%q,"updated_at":%q,"first_name":"Ada","last_name":"Example %d","email":"c%d@example.com","phone":null,"currency":"EUR"},`+
			`"line_items":[{"id":1,"title":"Blue Mug","quantity":2,"price":"24.95","sku":"MUG-BLUE","product_id":8212345678901}]}`,
			1000000+number, 1000000+number, customer, when, customer, number, padding, number, when, when, 500000+customer, when, when, customer, customer)
		signature := len(all)
		mac := hmac.New(sha256.New, []byte(benchSecret))
		mac.Write(all[begin:signature])
		all = base64.StdEncoding.AppendEncode(all, mac.Sum(nil))
		id := len(all)
		all = fmt.Appendf(all, "bench-%d", number)
		end := len(all)
		out[i] = order{body: all[begin:signature:signature], signature: all[signature:id:id], id: all[id:end:end]}
	}
	return out
}

// burst is what a series of requests came to.
type burst struct {
	sent, accepted, busy, failed int
	took                         time.Duration
	latencies                    []time.Duration // sorted
	cpu                          time.Duration   // of the whole process: hub, load generator and receivers
}

func (b burst) rate() float64 { return float64(b.accepted) / b.took.Seconds() }

func (b burst) quantile(q float64) time.Duration {
	if len(b.latencies) == 0 {
		return 0
	}
	return b.latencies[min(len(b.latencies)-1, int(q*float64(len(b.latencies))))]
}

// fire posts the orders over connections kept open, as fast as they are answered or at rate a second where rate is not
// zero. An order that is refused for want of room is sent again, as a vendor would.
func fire(ctx context.Context, url string, list []order, connections int, rate float64) burst {
	client := &fasthttp.Client{MaxConnsPerHost: connections, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, NoDefaultUserAgentHeader: true}
	var next atomic.Int64
	var mu sync.Mutex
	var total burst
	start, cpu := time.Now(), processCPU()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(res)
			var mine burst
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= len(list) {
					break
				}
				if rate > 0 {
					due := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
					if wait := time.Until(due); wait > 0 {
						time.Sleep(wait)
					}
				}
				for ctx.Err() == nil {
					req.Reset()
					req.Header.SetMethod(fasthttp.MethodPost)
					req.SetRequestURI(url)
					req.Header.SetContentType("application/json")
					req.Header.Set("X-Shopify-Topic", "orders/paid")
					req.Header.Set("X-Shopify-Shop-Domain", "bench.myshopify.com")
					req.Header.SetBytesV("X-Shopify-Webhook-Id", list[i].id)
					req.Header.SetBytesV("X-Shopify-Event-Id", list[i].id)
					req.Header.SetBytesV("X-Shopify-Hmac-Sha256", list[i].signature)
					req.SetBodyRaw(list[i].body)
					sent := time.Now()
					mine.sent++
					if err := client.Do(req, res); err != nil {
						mine.failed++
						break
					}
					if code := res.StatusCode(); code == fasthttp.StatusServiceUnavailable || code == fasthttp.StatusTooManyRequests {
						mine.busy++
						time.Sleep(5 * time.Millisecond)
						continue
					} else if code < 200 || code > 299 {
						mine.failed++
						break
					}
					mine.accepted++
					mine.latencies = append(mine.latencies, time.Since(sent))
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.sent += mine.sent
			total.accepted += mine.accepted
			total.busy += mine.busy
			total.failed += mine.failed
			total.latencies = append(total.latencies, mine.latencies...)
		})
	}
	wg.Wait()
	total.took, total.cpu = time.Since(start), processCPU()-cpu
	slices.Sort(total.latencies)
	client.CloseIdleConnections()
	return total
}

// processCPU is the user and system time this process has used.
func processCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// settle begins a measurement with nothing left of the one before: its hub, which the server's idle workers hold for a moment, and what of
// its files is still on its way to the disk.
func settle() {
	syscall.Sync()
	time.Sleep(server.IdleWorkers + server.IdleWorkers/10)
	runtime.GC()
}
