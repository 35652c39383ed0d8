package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// paid is a Shopify order with more members, which may repeat those before.
func paid(id, more string) string {
	if more != "" {
		more = ", " + more
	}
	return `{"id": ` + id + `, "name": "#1", "email": "ada@example.com", "total_price": "54.90", "currency": "EUR", "financial_status": "paid",
		"created_at": "2026-03-01T10:00:00Z", "updated_at": "2026-03-01T10:00:00Z", "customer": {"id": 7}, "line_items": []` + more + `}`
}

// What is not genuine, or not for us, is refused with a clear answer, is kept without anything secret, and never reaches the log.
func TestRefused(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *site) {
		r := s.start(t, nil)
		order := shopify("orders/paid", "e1", paid("1", ""))
		now := time.Now()
		const event = `[{"subscriptionType":"contact.creation","objectId":1,"occurredAt":1767225600000}]`
		notify := func(token string) request {
			return request{path: "/hooks/zoho", body: []byte(`{"module":"Contacts","operation":"insert","ids":["1"],"token":"` + token + `"}`), headers: []string{"Content-Type", "application/json"}}
		}
		large := bytes.Repeat([]byte("x"), 2<<20+1)
		forged := []string{"forged-hmac-value", "guessed-key", "somebodys-bearer", "somebodys-session", "guessed-token"}
		cases := []struct {
			name    string
			request request
			status  int
			reason  string // "" where nothing is kept
		}{
			{"wrong signature", order.with("X-Shopify-Hmac-Sha256", forged[0], "Authorization", "Bearer "+forged[2], "Cookie", "sid="+forged[3]), 401, hub.RejectedSignature},
			{"another secret", order.with("X-Shopify-Hmac-Sha256", sign("another", string(order.body))), 401, hub.RejectedSignature},
			{"the secret itself for a signature", order.with("X-Shopify-Hmac-Sha256", shopSecret), 401, hub.RejectedSignature},
			{"another body", request{path: order.path, headers: order.headers, body: []byte(paid("2", ""))}, 401, hub.RejectedSignature},
			{"no signature", order.with("X-Shopify-Hmac-Sha256", ""), 401, hub.RejectedSignature},
			{"HubSpot: another path", hubspot(event, now).with("X-HubSpot-Signature-v3", sign(crmSecret, "POST"+publicURL+"/hooks/shop"+event)), 401, hub.RejectedSignature},
			{"HubSpot: stale", hubspot(event, now.Add(-6*time.Minute)), 401, hub.RejectedStale},
			{"HubSpot: from the future", hubspot(event, now.Add(6*time.Minute)), 401, hub.RejectedStale},
			{"HubSpot: an old scheme", hubspot(event, now).with("X-HubSpot-Signature-v3", "", "X-HubSpot-Signature-Version", "v1", "X-HubSpot-Signature", "ab"), 401, hub.RejectedSignature},
			{"HubSpot: wrong workflow key", request{path: "/hooks/crm", body: []byte(`{"vid":1}`), headers: []string{"Content-Type", "application/json", "X-Hub-Key", forged[1]}}, 401, hub.RejectedSignature},
			{"Zendesk: stale", zendesk(`{"type":"zen:event-type:user.created"}`, now.Add(-6*time.Minute)), 401, hub.RejectedStale},
			{"Zendesk: no time stamp", zendesk(`{}`, now).with("X-Zendesk-Webhook-Signature-Timestamp", ""), 401, hub.RejectedSignature},
			{"Zoho: wrong token", notify(forged[4]), 401, hub.RejectedSignature},
			{"Zoho: no token", notify(""), 401, hub.RejectedSignature},
			{"Zoho: the body of a token cannot be read", request{path: "/hooks/zoho", body: []byte(`{"token":`), headers: []string{"Content-Type", "application/json"}}, 401, hub.RejectedSignature},
			{"Zoho: nested to hide the token", request{path: "/hooks/zoho", body: []byte(strings.Repeat("[", 10_000)), headers: []string{"Content-Type", "application/json"}}, 401, hub.RejectedSignature},
			{"type", order.with("Content-Type", "image/png"), 415, hub.RejectedContentType},
			{"multipart", order.with("Content-Type", "multipart/form-data; boundary=x"), 415, hub.RejectedContentType},
			{"method", request{method: "PUT", path: order.path, headers: order.headers, body: order.body}, 405, hub.RejectedMethod},
			{"too large", request{path: order.path, headers: order.headers, body: large}, 413, hub.RejectedTooLarge},
			{"too large, in chunks", request{path: order.path, headers: order.headers, body: large, chunked: true}, 413, hub.RejectedTooLarge},
			{"unknown connection", request{path: "/hooks/nobody", headers: order.headers, body: order.body}, 404, ""},
			{"a connection's name and NUL", request{path: "/hooks/shop%00", headers: order.headers, body: order.body}, 404, ""},
			{"below a connection", request{path: "/hooks/shop/x", headers: order.headers, body: order.body}, 404, ""},
			{"a 9 KB header", order.with("X-Long", strings.Repeat("x", 9<<10)), 431, ""},
		}
		var want []string
		for _, c := range cases {
			status, header, text := r.send(t, c.request)
			if status != c.status || header.Get("Content-Type") != "application/problem+json" || !strings.Contains(text, `"detail"`) {
				t.Errorf("%s: answered %d %s %s, want a problem with %d", c.name, status, header.Get("Content-Type"), text, c.status)
			}
			if c.reason != "" {
				want = append(want, c.request.path+" "+c.reason)
			}
		}
		var rows []server.Rejected
		eventually(t, "the log of refusals has them all", func() bool {
			rows = get[server.List[server.Rejected]](t, r, "GET", "/rejected?limit=200", nil).Items
			return len(rows) >= len(want)
		})
		var kept []string
		for _, row := range slices.Backward(rows) {
			kept = append(kept, "/hooks/"+row.Connection+" "+row.Reason)
			if row.Detail == "" || row.At == nil || len(row.Headers) == 0 {
				t.Errorf("kept as %+v", row)
			}
		}
		if diff := cmp.Diff(want, kept); diff != "" {
			t.Errorf("log of refusals (-want +got):\n%s", diff)
		}

		// Only now something genuine: it is the first in the log.
		row := r.settled(t, r.accept(t, order))
		if row.Position.Seq != 1 || row.Position.Index != 0 {
			t.Errorf("the first good webhook lies at %+v: something refused was stored", row.Position)
		}
		if page := get[server.List[server.Webhook]](t, r, "GET", "/webhooks", nil); len(page.Items) != 1 {
			t.Errorf("%d webhooks are listed", len(page.Items))
		}
		_, shown := r.api(t, "GET", "/rejected?limit=200", nil)
		r.stop()
		for _, secret := range append(forged, shopSecret, crmSecret, crmKey, deskSecret, zohoToken, sign("another", string(order.body))) {
			if bytes.Contains(shown, []byte(secret)) {
				t.Errorf("the log of refusals tells %q", secret)
			}
			if strings.Contains(r.log.String(), secret) {
				t.Errorf("the hub's own log tells %q", secret)
			}
		}
		files := readAll(t, filepath.Join(s.dir, "data"), append(forged, shopSecret, crmSecret, crmKey, deskSecret, zohoToken)...)
		for secret, file := range files {
			t.Errorf("%s holds %q", file, secret)
		}
	})
}

// readAll returns which of the texts stand in which file below dir.
func readAll(t *testing.T, dir string, texts ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, text := range texts {
			if bytes.Contains(raw, []byte(text)) {
				found[text] = path
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// hostile are webhooks that verify and whose content is meant to hurt. What becomes of each is in testdata/hostile.txt,
// the same for both databases.
func hostile() map[string]request {
	now := time.Now()
	member := func(name, value string) string { return strconv.Quote(name) + ": " + value }
	out := map[string]request{
		"empty body":           shopify("orders/paid", "", ""),
		"null":                 shopify("orders/paid", "", "null"),
		"a list":               shopify("orders/paid", "", "[]"),
		"a text":               shopify("orders/paid", "", `"order"`),
		"cut short":            shopify("orders/paid", "", paid("1", "")[:60]),
		"not JSON":             shopify("orders/paid", "", "<order/>"),
		"two values":           shopify("orders/paid", "", paid("2", "")+"{}"),
		"unknown topic":        shopify("orders/teleported", "", paid("3", "")),
		"topic is not UTF-8":   shopify("orders/\xff\xfe", "", paid("4", "")),
		"no topic":             shopify("", "", paid("5", "")).with("X-Shopify-Topic", ""),
		"event id not UTF-8":   shopify("orders/paid", "\xff\x80", paid("6", "")),
		"byte order mark":      shopify("orders/paid", "", "\uFEFF"+paid("7", "")),
		"invalid UTF-8":        shopify("orders/paid", "", paid("10", member("name", "\"a\xff\xc3\x28b\"")+", "+member("email", "\"bad\xff@example.com\""))),
		"escaped NUL":          shopify("orders/paid", "", paid("11", member("name", `"a\u0000b"`)+", "+member("email", `"nul\u0000@example.com"`)+`, "customer": {"id": "9\u0000", "first_name": "A\u0000da"}`)),
		"lone surrogates":      shopify("orders/paid", "", paid("12", member("name", `"\ud800x\udc00"`))),
		"a raw NUL":            shopify("orders/paid", "", strings.Replace(paid("13", ""), "#1", "#\x001", 1)),
		"id beyond int64":      shopify("orders/paid", "", paid("99999999999999999999", `"customer": {"id": 18446744073709551616}`)),
		"id as a float":        shopify("orders/paid", "", paid("1e3", "")),
		"amount beyond all":    shopify("orders/paid", "", paid("14", member("total_price", "1e400"))),
		"amount of 60 digits":  shopify("orders/paid", "", paid("15", member("total_price", `"`+strings.Repeat("9", 60)+`.99"`))),
		"amount is no number":  shopify("orders/paid", "", paid("16", member("total_price", `"NaN"`))),
		"quantities beyond":    shopify("orders/paid", "", paid("17", `"line_items": [{"quantity": 1e308, "sku": "a"}, {"quantity": 1e308, "sku": "b"}]`)),
		"quantity of a digits": shopify("orders/paid", "", paid("18", `"line_items": [{"quantity": 123456789012345678901234567890}]`)),
		"wrong types":          shopify("orders/paid", "", paid("19", `"email": {"a": 1}, "customer": 5, "line_items": 17, "currency": []`)),
		"a list for an email":  shopify("orders/paid", "", paid("20", `"email": ["x@example.com", "y@example.com"]`)),
		"no id":                shopify("orders/paid", "", paid("null", "")),
		"an object for an id":  shopify("orders/paid", "", paid(`{"a":1}`, "")),
		"time of nonsense":     shopify("orders/paid", "", paid("21", member("updated_at", `"yesterday"`))),
		"time of year 9999":    shopify("orders/paid", "", paid("22", member("updated_at", `"9999-12-31T23:59:59Z"`))),
		"time of year 0":       shopify("orders/paid", "", paid("23", member("updated_at", `"0000-01-01T00:00:00Z"`))),
		"time beyond int64":    shopify("orders/paid", "", paid("24", member("updated_at", "99999999999999999999"))),
		"nested":               shopify("orders/paid", "", paid("25", `"note": `+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000))),
		"nested objects":       shopify("orders/paid", "", paid("26", `"note": `+strings.Repeat(`{"a":`, 10_000)+"1"+strings.Repeat("}", 10_000))),
		"nested, never closed": shopify("orders/paid", "", strings.Repeat("[", 1<<20)),
		"duplicate keys":       shopify("orders/paid", "", paid("27", `"id": 28, "email": "eve@example.com", "total_price": "1.00"`)),
		"1 MB name":            shopify("orders/paid", "", paid("29", member("name", `"`+strings.Repeat("ä", 1<<19)+`"`))),
		"1 MB email":           shopify("orders/paid", "", paid("30", member("email", `"`+strings.Repeat("e", 1<<20)+`@example.com"`))),
		"1 MB id":              shopify("orders/paid", "", paid(`"`+strings.Repeat("7", 1<<20)+`"`, "")),
		"1 MB key":             shopify("orders/paid", "", paid("31", member(strings.Repeat("k", 1<<20), "1"))),
		"300,000 values":       shopify("orders/paid", "", paid("32", `"line_items": [`+strings.Repeat("0,", 300_000)+`0]`)),
		"20,000 lines":         shopify("orders/paid", "", paid("33", `"line_items": [`+strings.Repeat(`{"quantity":1,"sku":"a"},`, 20_000)+`{"quantity":1,"sku":"z"}]`)),
		"control characters":   shopify("customers/create", "", `{"id": 40, "email": "ctrl@example.com", "first_name": "\u001b[31mred", "last_name": "\u202eevil", "created_at": "2026-03-01T10:00:00Z"}`),
		"HubSpot: one bad of three": hubspot(`[{"subscriptionType":"contact.propertyChange","propertyName":"lifecyclestage","propertyValue":"lead","objectId":71,"occurredAt":1772359200000,"eventId":1},
			{"subscriptionType":"contact.propertyChange","propertyName":"lifecyclestage","propertyValue":"lead","objectId":72,"occurredAt":"never","eventId":2},
			{"subscriptionType":"contact.propertyChange","propertyName":"lifecyclestage","propertyValue":"lead","objectId":73,"occurredAt":1772359200000,"eventId":3}]`, now),
		"HubSpot: items of nonsense": hubspot(`[null, 1, "x", [], {}]`, now),
	}
	for name, q := range out {
		if strings.HasPrefix(q.path, "/hooks/shop") && !strings.Contains(name, "event id") {
			out[name] = q.with("X-Shopify-Event-Id", "") // the id then comes of the body
		}
	}
	return out
}

// Whatever a genuine sender puts into a body is taken, gets a clear end, and makes the same events on both databases.
func TestHostileContent(t *testing.T) {
	on(t, func(t *testing.T, s *site) {
		r := s.start(t, nil)
		attacks := hostile()
		ids := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(attacks)) {
			grown := heapGrowth(func() {
				ids[name] = r.accept(t, attacks[name])
				r.settled(t, ids[name])
			})
			if grown > 64<<20 {
				t.Errorf("%s: the heap grew by %d MiB", name, grown>>20)
			}
		}
		events := r.eventsByWebhook(t)
		var text strings.Builder
		for _, name := range slices.Sorted(maps.Keys(attacks)) {
			row := get[server.Webhook](t, r, "GET", "/webhooks/"+ids[name], nil)
			if !bytes.Equal(row.Body, attacks[name].body) {
				t.Errorf("%s: the stored body is another", name)
			}
			fmt.Fprintf(&text, "%s: %s", name, row.State)
			if row.Reason != "" {
				fmt.Fprintf(&text, ", %s", abridged(row.Reason))
			}
			fmt.Fprintf(&text, "\n")
			for _, ev := range events[ids[name]] {
				fmt.Fprintf(&text, "    %s\n", ev)
			}
		}
		golden(t, "hostile.txt", text.String())

		// The hub goes on: everything that lists what came in can be read, and a customer is decided as ever.
		for _, path := range []string{"/customers?limit=200", "/webhooks?limit=200", "/dead-letters?limit=200", "/deliveries", "/transitions", "/connections", "/feed", "/rejected"} {
			get[server.List[any]](t, r, "GET", path, nil)
		}
		for _, letter := range get[server.List[server.DeadLetter]](t, r, "GET", "/dead-letters?limit=200", nil).Items {
			if letter.Of != "webhook" || letter.Reason == "" {
				t.Errorf("dead letter %+v", letter)
			}
		}
		r.stillWorks(t, "after@example.com")
	})
}

// stillWorks sends one good order and waits for the customer's stage.
func (r *running) stillWorks(t testing.TB, email string) {
	t.Helper()
	now := time.Now().UTC().Format(time.RFC3339)
	id := strconv.FormatInt(time.Now().UnixNano(), 10)
	r.accept(t, shopify("orders/paid", "still-"+id, `{"id": `+id+`, "email": "`+email+`", "total_price": "10.00", "currency": "EUR", "updated_at": "`+now+`", "customer": {"id": `+id+`}}`))
	eventually(t, email+" is decided", func() bool {
		page := get[server.List[server.Customer]](t, r, "GET", "/customers?email="+email, nil)
		return len(page.Items) == 1 && page.Items[0].Stages["clc"].Stage == "new"
	})
}

// eventsByWebhook returns a line for every event of every customer, by webhook.
func (r *running) eventsByWebhook(t testing.TB) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	cursor := ""
	for {
		customers, next, err := r.store.Customers(context.Background(), hub.CustomerQuery{Page: hub.Page{Limit: 200, Cursor: cursor}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range customers {
			for _, ev := range get[server.List[server.Event]](t, r, "GET", "/customers/"+c.ID+"/events", nil).Items {
				out[ev.WebhookID] = append(out[ev.WebhookID], eventLine(ev))
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	for _, lines := range out {
		slices.Sort(lines)
	}
	return out
}

func eventLine(ev server.Event) string {
	at := ev.OccurredAt.Format(time.RFC3339)
	if ev.OccurredAt.Truncate(time.Millisecond).Equal(ev.ReceivedAt.Truncate(time.Millisecond)) {
		at = "when received"
	}
	var ids, properties []string
	for _, id := range ev.Identifiers {
		ids = append(ids, id.Kind+"="+abridged(id.Value))
	}
	for _, name := range slices.Sorted(maps.Keys(ev.Properties)) {
		properties = append(properties, name+"="+abridged(fmt.Sprint(ev.Properties[name])))
	}
	return fmt.Sprintf("%s %s %q %q", ev.Kind, at, ids, properties)
}

// abridged keeps goldens short.
func abridged(text string) string {
	if len(text) <= 120 {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:80], ""), len(text))
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// One HubSpot webhook of 10,000 events, of as many people and of one alone: memory stays bounded and every event counts.
func TestTenThousandEventsInOneWebhook(t *testing.T) {
	size := 10_000
	if slow {
		size = 1_500
	}
	on(t, func(t *testing.T, s *site) {
		r := s.start(t, nil)
		for _, c := range []struct {
			name   string
			person func(i int) int
			people int
		}{
			{"as many people", func(i int) int { return 100_000 + i }, size},
			{"one person", func(int) int { return 42 }, 1},
		} {
			t.Run(c.name, func(t *testing.T) {
				var body strings.Builder
				for i := range size {
					fmt.Fprintf(&body, `,{"subscriptionType":"contact.propertyChange","propertyName":"lifecyclestage","propertyValue":"lead","objectId":%d,"occurredAt":%d,"eventId":%d}`, c.person(i), 1772359200000+i, i)
				}
				q := hubspot("["+body.String()[1:]+"]", time.Now())
				began := time.Now()
				var row hub.WebhookRecord
				grown := heapGrowth(func() { row = r.settled(t, r.accept(t, q)) })
				t.Logf("%d bytes, %s, the heap grew by %d MiB", len(q.body), time.Since(began), grown>>20)
				if row.State != hub.WebhookDone || len(row.EventIDs) != size {
					t.Errorf("%s with %d events, %s", row.State, len(row.EventIDs), row.Reason)
				}
				if grown > 192<<20 {
					t.Errorf("the heap grew by %d MiB", grown>>20)
				}
				r.stillWorks(t, strings.ReplaceAll(c.name, " ", "-")+"@example.com")
			})
		}
		counts, err := r.store.StageCounts(t.Context(), "clc")
		if err != nil {
			t.Fatal(err)
		}
		people := 0
		for _, n := range counts {
			people += n
		}
		if people != size+1+2 {
			t.Errorf("%d people have a stage: %v", people, counts)
		}
		page := get[server.List[server.Customer]](t, r, "GET", "/customers?identifier=hubspot_contact:42", nil)
		if len(page.Items) != 1 || page.Items[0].Facts["stage.set"].Count != size {
			t.Errorf("of the one person %d are found, with %+v", len(page.Items), page.Items[0].Facts)
		}
		// One more than the connector takes is refused whole, with a reason.
		q := hubspot("["+strings.Repeat("0,", 10_000)+"0]", time.Now())
		if row := r.settled(t, r.accept(t, q)); row.State != hub.WebhookDead || !strings.Contains(row.Reason, "10001 items are more than 10000") {
			t.Errorf("10,001 items: %s %s", row.State, row.Reason)
		}
	})
}

// Bodies that grow when unpacked, that lie about their length, and that never come: none costs memory, and others are served.
func TestBodiesThatAttackMemory(t *testing.T) {
	s := newSite(t)
	r := s.start(t, nil)
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := zip.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP"} {
		bomb := shopify("orders/paid", "bomb", packed.String()).with("Content-Encoding", encoding)
		grown := heapGrowth(func() {
			if status, _, text := r.send(t, bomb); status != http.StatusUnsupportedMediaType {
				t.Errorf("%s: %d %s", encoding, status, text)
			}
		})
		if grown > 16<<20 {
			t.Errorf("%s: a bomb of %d KiB that unpacks to 200 MiB made the heap grow by %d MiB", encoding, packed.Len()>>10, grown>>20)
		}
	}

	// Large bodies, at once: fasthttp must stop reading at the limit.
	large := shopify("orders/paid", "large", strings.Repeat("x", 16<<20))
	large.chunked = true
	grown := heapGrowth(func() {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if status, _, _, err := r.try(large); err == nil && status != http.StatusRequestEntityTooLarge {
					t.Errorf("16 MiB in chunks: %d", status)
				}
			})
		}
		all.Wait()
	})
	t.Logf("8 times 16 MiB at once: the heap grew by %d MiB", grown>>20)
	if grown > 96<<20 {
		t.Errorf("8 times 16 MiB at once: the heap grew by %d MiB", grown>>20)
	}

	head := "POST /hooks/shop HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct{ text, want string }{
		"a length of 10 GB":    {head + "Content-Length: 10000000000\r\n\r\n" + strings.Repeat("x", 16<<10), "HTTP/1.1 413"},
		"a negative length":    {head + "Content-Length: -1\r\n\r\n", "HTTP/1.1 400"},
		"two lengths":          {head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", "HTTP/1.1 400"},
		"length and chunks":    {head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 4"},
		"a chunk of 10 GB":     {head + "Transfer-Encoding: chunked\r\n\r\n2540be400\r\n" + strings.Repeat("x", 2<<20+1), "HTTP/1.1 413"},
		"a header without end": {"POST /hooks/shop HTTP/1.1\r\nX: " + strings.Repeat("x", 20<<10), "HTTP/1.1 431"},
		"10,000 header lines":  {head + strings.Repeat("a: b\r\n", 10_000) + "\r\n", "HTTP/1.1 431"},
		"a NUL in a header":    {head + "X-Shopify-Topic: a\x00b\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 4"},
		"no HTTP":              {"\x16\x03\x01 hello\r\n\r\n", "HTTP/1.1 400"},
	} {
		line, err := r.raw(t, c.text)
		if err != nil || !strings.HasPrefix(line, c.want) {
			t.Errorf("%s: answered %q, %v; want %s", name, line, err, c.want)
		}
	}

	// Many bodies that never come hold no memory worth mentioning, and nobody else waits for them.
	grown = heapGrowth(func() {
		for range 200 {
			conn, err := net.Dial("tcp", r.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if _, err := io.WriteString(conn, head+"Content-Length: 2000000\r\n\r\n{"); err != nil {
				t.Fatal(err)
			}
		}
		r.stillWorks(t, "beside-slow@example.com")
	})
	t.Logf("200 slow bodies: the heap grew by %d MiB", grown>>20)
	if grown > 64<<20 {
		t.Errorf("200 slow bodies: the heap grew by %d MiB", grown>>20)
	}
}

// A body that comes a byte a second is cut off.
func TestSlowBodyIsCutOff(t *testing.T) {
	if os.Getenv("STAGEWIRE_LONG") == "" {
		t.Skip("STAGEWIRE_LONG is not set: it takes the read time-out, ten seconds")
	}
	t.Parallel()
	r := newSite(t).start(t, nil)
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /hooks/shop HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	answer := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(conn)
		answer <- string(text)
	}()
	for tick := time.NewTicker(time.Second); ; {
		select {
		case text := <-answer:
			tick.Stop()
			t.Logf("after %s: %q", time.Since(began), text)
			if took := time.Since(began); took > 15*time.Second || !strings.HasPrefix(text, "HTTP/1.1 408") {
				t.Errorf("cut off after %s with %q", took, text)
			}
			r.stillWorks(t, "after-slow@example.com")
			return
		case <-tick.C:
			_, _ = conn.Write([]byte("x"))
			if time.Since(began) > 30*time.Second {
				t.Fatal("still taken after 30 s")
			}
		}
	}
}

// The API takes rubbish with a clear answer too, the same on both databases.
func TestHostileQueries(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *site) {
		r := s.start(t, nil)
		r.stillWorks(t, "ada@example.com")
		for path, want := range map[string]int{
			"/customers?q=%00": 200, "/customers?q=%ff%fe": 200, "/customers?q=%25_%27--": 200, "/customers?email=%00": 200, "/customers?email=%ff": 200,
			"/customers?identifier=%00:%00": 200, "/customers?identifier=x": 400, "/customers?tag=%00": 200, "/customers?model=clc&stage=%00": 200,
			"/customers?cursor=%00": 400, "/customers?cursor=AAAA": 400, "/customers?limit=0": 400, "/customers?limit=99999999999999999999": 400, "/customers?nothing=1": 400,
			"/customers/%00": 404, "/customers/%ff": 404, "/customers/cus_none/events": 404, "/customers/%00/explain?model=clc": 404,
			"/webhooks/%00": 404, "/webhooks?connection=%00": 200, "/webhooks?cursor=%00": 400, "/deliveries/%00": 404, "/deliveries?customer=%ff": 200,
			"/deliveries?destination=%00": 200, "/feed?after=-1": 400, "/feed?after=x": 400, "/models/%00": 404, "/rejected?cursor=zzz": 400,
			"/dead-letters?cursor=%00": 400, "/transitions?cursor=9999999999999999999999": 400,
		} {
			if status, text := r.api(t, "GET", path, nil); status != want {
				t.Errorf("GET %s: %d %s, want %d", path, status, text, want)
			}
		}
		for path, body := range map[string]any{
			"/deliveries/redrive": map[string]any{"ids": []string{"\x00", "x"}}, "/webhooks/%00/replay": nil,
		} {
			if status, text := r.api(t, "POST", path, body); status >= 500 {
				t.Errorf("POST %s: %d %s", path, status, text)
			}
		}
		r.stillWorks(t, "eve@example.com")
	})
}
