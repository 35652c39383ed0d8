package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/hub"
)

// shopZone is the shop's offset: Shopify writes times with it, in whole seconds.
var shopZone = time.FixedZone("", -5*60*60)

func shopTime(t time.Time) string { return t.In(shopZone).Format("2006-01-02T15:04:05-07:00") }

// shopify plays one shop: customers, orders, checkouts, metafields.
type shopify struct {
	*Sandbox
	customers   map[int64]*shopCustomer
	orders      map[int64]*shopOrder
	checkouts   map[string]*shopCheckout  // by the story's handle
	byHandle    map[string]int64          // orders by the story's handle
	definitions map[string]map[string]any // metafield definitions, by owner/namespace.key
	searchable  *index
	bucket      float64 // cost points left
	bucketAt    time.Time
	bucketMax   float64
}

type shopCustomer struct {
	id                              int64
	email, phone, first, last, note string
	tags                            []string
	metafields                      map[string]metafield // by namespace.key
	created, updated                time.Time
	consent                         string // "subscribed", "unsubscribed", "not_subscribed"
	consentAt                       time.Time
	orders                          int
	spent                           decimal.Decimal
	currency                        string
	deleted                         bool
}

type metafield struct {
	id         int64
	typ, value string
}

// digest is what compareDigest compares.
func (m metafield) digest() string {
	sum := sha256.Sum256([]byte(m.typ + "\x00" + m.value))
	return hex.EncodeToString(sum[:])
}

type shopOrder struct {
	id                   int64
	number               int
	customer             *shopCustomer
	amount               decimal.Decimal
	refunded             decimal.Decimal
	currency, product    string
	financial, reason    string
	created, updated     time.Time
	cancelled, fulfilled time.Time
}

type shopCheckout struct {
	token              string
	customer           *shopCustomer
	amount             decimal.Decimal
	currency, product  string
	created, completed time.Time
}

func newShopify(s *Sandbox) *shopify {
	return &shopify{
		Sandbox: s, customers: map[int64]*shopCustomer{}, orders: map[int64]*shopOrder{}, checkouts: map[string]*shopCheckout{},
		byHandle: map[string]int64{}, definitions: map[string]map[string]any{}, searchable: newIndex(),
	}
}

func (v *shopify) find(email string) *shopCustomer {
	for _, c := range v.customers {
		if !c.deleted && c.email != "" && strings.EqualFold(c.email, email) {
			return c
		}
	}
	return nil
}

// emit queues one webhook: topic as in X-Shopify-Topic, body as the vendor writes it, at in business time.
func (v *shopify) emit(topic string, body map[string]any, at time.Time) {
	v.enqueue(v.hook(topic, encode(body), at, v.serial("hook/shopify")))
}

func (v *shopify) hook(topic string, body []byte, at time.Time, serial string) *hook {
	seed := strconv.FormatUint(v.cfg.Seed, 10)
	id := uuid("delivery", Shopify, seed, serial)
	return &hook{vendor: Shopify, id: id, topic: topic, body: body, header: map[string]string{
		"Content-Type": "application/json", "X-Shopify-Topic": topic, "X-Shopify-Shop-Domain": v.cfg.Accounts[Shopify]["shop"],
		"X-Shopify-API-Version": shopVersions[len(shopVersions)-1], "X-Shopify-Webhook-Id": id, "X-Shopify-Event-Id": uuid("event", Shopify, seed, serial),
		"X-Shopify-Triggered-At": at.UTC().Format("2006-01-02T15:04:05.000000000Z"), "X-Shopify-Name": "stagewire",
	}}
}

// serial numbers webhooks; those of a story and those that echo the API are counted apart, so that a story's ids never
// depend on how fast the hub writes.
func (s *Sandbox) serial(counter string) string {
	if s.echo {
		counter += "/echo"
	}
	return counter + "/" + strconv.FormatInt(s.next(counter), 10)
}

// uuid derives a UUID (version 8, made of a hash) from parts.
func uuid(parts ...string) string {
	h := fmt.Sprintf("%016x%016x", hub.HashKey(append([]string{"a"}, parts...)...), hub.HashKey(append([]string{"b"}, parts...)...))
	return h[:8] + "-" + h[8:12] + "-8" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
}

// play applies one step.
func (v *shopify) play(step Step, at time.Time) error {
	switch step.Do {
	case "customer.created":
		if v.find(step.Customer) != nil {
			return stepErr(step, "the shop knows %s already", step.Customer)
		}
		first, last := splitName(step.Name)
		c := &shopCustomer{
			id: 7012345678900 + v.next("shopify/customer"), email: step.Customer, phone: step.Phone, first: first, last: last,
			metafields: map[string]metafield{}, created: at, updated: at, consent: "not_subscribed", currency: orText(step.Currency, "EUR"),
		}
		v.customers[c.id] = c
		v.index(c)
		v.emit("customers/create", c.body(true), at)
		return nil
	case "shop.uninstalled":
		v.emit("app/uninstalled", map[string]any{
			"id": 65512345678, "name": "Example Shop", "email": "owner@example.com", "domain": "shop.example.com",
			"myshopify_domain": v.cfg.Accounts[Shopify]["shop"], "country_code": "US", "currency": "USD", "iana_timezone": "America/New_York",
			"plan_name": "basic", "created_at": "2024-01-01T00:00:00-05:00", "updated_at": shopTime(at),
		}, at)
		return nil
	case "order.paid", "order.fulfilled", "order.cancelled", "order.refunded":
		return v.playOrder(step, at)
	}
	c := v.find(step.Customer)
	if c == nil {
		return stepErr(step, "the shop knows no %s", step.Customer)
	}
	switch step.Do {
	case "customer.updated":
		if step.Name != "" {
			c.first, c.last = splitName(step.Name)
		}
		if step.Phone != "" {
			c.phone = step.Phone
		}
		if step.Text != "" {
			c.note = step.Text
		}
		v.touch(c, at)
	case "customer.deleted":
		c.deleted, c.updated = true, at
		v.index(c)
		v.emit("customers/delete", map[string]any{"id": c.id, "phone": nil, "addresses": []any{}, "tax_exemptions": []any{}, "admin_graphql_api_id": c.gid()}, at)
	case "customer.erased":
		v.emit("customers/redact", map[string]any{
			"shop_id": 65512345678, "shop_domain": v.cfg.Accounts[Shopify]["shop"],
			"customer": map[string]any{"id": c.id, "email": c.email, "phone": textOrNil(c.phone)}, "orders_to_redact": v.ordersOf(c),
		}, at)
	case "consent.changed":
		c.consent, c.consentAt = orText(step.Value, "subscribed"), at
		v.emit("customers_email_marketing_consent/update", map[string]any{
			"customer_id": c.id, "email_address": c.email,
			"email_marketing_consent": map[string]any{"state": c.consent, "opt_in_level": "single_opt_in", "consent_updated_at": shopTime(at)},
		}, at)
	case "tag.added":
		v.addTags(c, step.Tags, at)
	case "tag.removed":
		v.removeTags(c, step.Tags, at)
	case "order.placed":
		if step.Object == "" || v.byHandle[step.Object] != 0 {
			return stepErr(step, "an order needs an object name of its own, not %q", step.Object)
		}
		amount, err := decimal.Parse(step.Amount)
		if err != nil {
			return stepErr(step, "amount %q", step.Amount)
		}
		n := v.next("shopify/order")
		o := &shopOrder{
			id: 5912345678900 + n, number: 1000 + int(n), customer: c, amount: amount, currency: orText(step.Currency, "EUR"),
			product: orText(step.Subject, "Blue Mug"), financial: "pending", created: at, updated: at,
		}
		v.orders[o.id], v.byHandle[step.Object] = o, o.id
		c.orders++
		v.emit("orders/create", o.body(v.cfg.Accounts[Shopify]["shop"]), at)
	case "cart.updated", "cart.completed":
		return v.playCart(step, c, at)
	default:
		return stepErr(step, "shopify cannot do that")
	}
	return nil
}

func (v *shopify) ordersOf(c *shopCustomer) []any {
	out := []any{}
	for _, id := range slices.Sorted(maps.Keys(v.orders)) {
		if v.orders[id].customer == c {
			out = append(out, id)
		}
	}
	return out
}

func (v *shopify) playOrder(step Step, at time.Time) error {
	o := v.orders[v.byHandle[step.Object]]
	if o == nil {
		return stepErr(step, "the shop has no order %q", step.Object)
	}
	shop := v.cfg.Accounts[Shopify]["shop"]
	o.updated = at
	switch step.Do {
	case "order.paid":
		o.financial = "paid"
		if sum, err := o.customer.spent.Add(o.amount); err == nil {
			o.customer.spent, o.customer.currency = sum, o.currency
		}
		v.emit("orders/paid", o.body(shop), at)
		v.emit("orders/updated", o.body(shop), at)
	case "order.fulfilled":
		o.fulfilled = at
		v.emit("orders/fulfilled", o.body(shop), at)
		v.emit("orders/updated", o.body(shop), at)
	case "order.cancelled":
		o.cancelled, o.reason = at, orText(step.Reason, "customer")
		if o.financial == "paid" {
			o.financial, o.refunded = "refunded", o.amount
		} else {
			o.financial = "voided"
		}
		v.emit("orders/cancelled", o.body(shop), at)
		v.emit("orders/updated", o.body(shop), at)
	case "order.refunded":
		amount := o.amount
		if step.Amount != "" {
			parsed, err := decimal.Parse(step.Amount)
			if err != nil {
				return stepErr(step, "amount %q", step.Amount)
			}
			amount = parsed
		}
		sum, err := o.refunded.Add(amount)
		if err != nil || sum.Cmp(o.amount) > 0 {
			return stepErr(step, "more refunded than the order's %s", o.amount)
		}
		o.refunded, o.financial = sum, "partially_refunded"
		if sum.Cmp(o.amount) == 0 {
			o.financial = "refunded"
		}
		v.emit("refunds/create", o.refund(v.next("shopify/refund"), amount, step.Reason, at), at)
		v.emit("orders/updated", o.body(shop), at)
	}
	return nil
}

func (v *shopify) playCart(step Step, c *shopCustomer, at time.Time) error {
	k, topic := v.checkouts[step.Object], "checkouts/update"
	if k == nil {
		if step.Object == "" {
			return stepErr(step, "a cart needs an object name")
		}
		k, topic = &shopCheckout{token: uuid("checkout", step.Object)[:8] + "example", customer: c, created: at, currency: orText(step.Currency, "EUR")}, "checkouts/create"
		v.checkouts[step.Object] = k
	}
	if step.Amount != "" {
		amount, err := decimal.Parse(step.Amount)
		if err != nil {
			return stepErr(step, "amount %q", step.Amount)
		}
		k.amount = amount
	}
	k.product = orText(step.Subject, orText(k.product, "Blue Mug"))
	if step.Do == "cart.completed" {
		k.completed = at
	}
	v.emit(topic, k.body(v.cfg.Accounts[Shopify]["shop"], at), at)
	return nil
}

// touch records a change of the customer and tells of it.
func (v *shopify) touch(c *shopCustomer, at time.Time) {
	c.updated = at
	v.index(c)
	v.emit("customers/update", c.body(true), at)
}

func (v *shopify) addTags(c *shopCustomer, tags []string, at time.Time) {
	var fresh []string
	for _, t := range tags {
		if t = strings.TrimSpace(t); t != "" && !slices.ContainsFunc(c.tags, func(have string) bool { return strings.EqualFold(have, t) }) {
			fresh = append(fresh, t)
			c.tags = append(c.tags, t)
		}
	}
	if len(fresh) == 0 {
		return
	}
	slices.Sort(c.tags)
	v.emit("customer.tags_added", map[string]any{"customerId": c.gid(), "tags": fresh, "occurredAt": shopTime(at)}, at)
	v.touch(c, at)
}

func (v *shopify) removeTags(c *shopCustomer, tags []string, at time.Time) {
	var gone []string
	c.tags = slices.DeleteFunc(c.tags, func(have string) bool {
		if slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(strings.TrimSpace(t), have) }) {
			gone = append(gone, have)
			return true
		}
		return false
	})
	if len(gone) == 0 {
		return
	}
	v.emit("customer.tags_removed", map[string]any{"customerId": c.gid(), "tags": gone, "occurredAt": shopTime(at)}, at)
	v.touch(c, at)
}

// index makes the customer's searchable fields known, to be seen after the lag.
func (v *shopify) index(c *shopCustomer) {
	if c.deleted {
		v.searchable.put(strconv.FormatInt(c.id, 10), nil, v.cfg.Now())
		return
	}
	v.searchable.put(strconv.FormatInt(c.id, 10), map[string]string{"email": strings.ToLower(c.email), "phone": c.phone, "tag": strings.Join(c.tags, ",")}, v.cfg.Now())
}

func (v *shopify) state() VendorState {
	var out VendorState
	for _, id := range slices.Sorted(maps.Keys(v.customers)) {
		c := v.customers[id]
		fields := map[string]string{}
		for name, m := range c.metafields {
			fields[name] = m.value
		}
		key := strconv.FormatInt(id, 10)
		out.Customers = append(out.Customers, Customer{
			ID: key, Kind: "customer", Email: c.email, Phone: c.phone, Name: strings.TrimSpace(c.first + " " + c.last),
			Tags: notNil(slices.Clone(c.tags)), Fields: fields, Orders: c.orders, CreatedAt: c.created, UpdatedAt: c.updated, Deleted: c.deleted,
		})
		if c.note != "" {
			out.Notes = append(out.Notes, Note{ID: "note/" + key, Text: c.note, Customer: key})
		}
	}
	return out
}
