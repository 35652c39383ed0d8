package sandbox

import (
	"strconv"
	"strings"
	"time"

	"github.com/govalues/decimal"
)

// The bodies of Shopify's webhooks, API version 2026-10, in the shapes of its samples.

func (c *shopCustomer) gid() string { return "gid://shopify/Customer/" + strconv.FormatInt(c.id, 10) }

func (o *shopOrder) gid() string { return "gid://shopify/Order/" + strconv.FormatInt(o.id, 10) }

func textOrNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orText(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

func timeOrNil(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return shopTime(t)
}

func splitName(name string) (first, last string) {
	first, last, _ = strings.Cut(strings.TrimSpace(name), " ")
	return first, last
}

// cents writes an amount with two decimals.
func cents(d decimal.Decimal) string {
	return d.Rescale(2).String()
}

// bag is an amount in shop and buyer currency, which are the same here.
func bag(amount, currency string) map[string]any {
	money := map[string]any{"amount": amount, "currency_code": currency}
	return map[string]any{"shop_money": money, "presentment_money": money}
}

func (c *shopCustomer) address() map[string]any {
	return map[string]any{
		"id": c.id + 1_100_000_000_000, "customer_id": c.id, "first_name": c.first, "last_name": c.last, "company": nil, "address1": "1 Test Street", "address2": nil,
		"city": "Springfield", "province": "Illinois", "country": "United States", "zip": "62701", "phone": textOrNil(c.phone),
		"name": strings.TrimSpace(c.first + " " + c.last), "province_code": "IL", "country_code": "US", "country_name": "United States", "default": true,
	}
}

// body is a customer; since API version 2025-01 without tags, consent and sums. Those inside orders have no list of addresses.
func (c *shopCustomer) body(addresses bool) map[string]any {
	b := map[string]any{
		"id": c.id, "created_at": shopTime(c.created), "updated_at": shopTime(c.updated), "first_name": c.first, "last_name": c.last, "state": "disabled",
		"note": textOrNil(c.note), "verified_email": true, "multipass_identifier": nil, "tax_exempt": false, "email": textOrNil(c.email), "phone": textOrNil(c.phone),
		"currency": c.currency, "tax_exemptions": []any{}, "admin_graphql_api_id": c.gid(), "default_address": c.address(),
	}
	if addresses {
		b["addresses"] = []any{c.address()}
	}
	return b
}

func (o *shopOrder) body(shop string) map[string]any {
	c := o.customer
	total := cents(o.amount)
	outstanding, current, closed := "0.00", total, any(nil)
	if o.financial == "pending" {
		outstanding = total
	}
	if left, err := o.amount.Sub(o.refunded); err == nil {
		current = cents(left)
	}
	fulfilments, fulfilment := []any{}, any(nil)
	id := strconv.FormatInt(o.id, 10)
	name := "#" + strconv.Itoa(o.number)
	line := o.id + 7_200_000_000_000
	if !o.fulfilled.IsZero() {
		fulfilment, closed = "fulfilled", shopTime(o.fulfilled)
		fulfilments = append(fulfilments, map[string]any{
			"id": o.id - 1_200_000_000_000, "admin_graphql_api_id": "gid://shopify/Fulfillment/" + strconv.FormatInt(o.id-1_200_000_000_000, 10),
			"created_at": shopTime(o.fulfilled), "updated_at": shopTime(o.fulfilled), "location_id": 65512345678, "name": name + "-F1", "order_id": o.id,
			"service": "manual", "shipment_status": nil, "status": "success", "tracking_company": "Example Post", "tracking_number": "EX" + id[len(id)-3:],
			"tracking_numbers": []any{"EX" + id[len(id)-3:]}, "line_items": []any{map[string]any{"id": line, "quantity": 1, "sku": "SKU-1", "title": o.product}},
		})
	}
	if !o.cancelled.IsZero() {
		closed, current = shopTime(o.cancelled), "0.00"
	}
	billing := c.address()
	for _, k := range []string{"id", "customer_id", "company", "address2", "country_name", "default"} {
		delete(billing, k)
	}
	return map[string]any{
		"id": o.id, "admin_graphql_api_id": o.gid(), "app_id": 580111, "browser_ip": "192.0.2.10", "buyer_accepts_marketing": c.consent == "subscribed",
		"cancel_reason": textOrNil(o.reason), "cancelled_at": timeOrNil(o.cancelled), "cart_token": "hWN" + id + "example", "checkout_token": "35ed" + id + "example",
		"client_details": map[string]any{"accept_language": "en-US", "browser_ip": "192.0.2.10", "user_agent": "Mozilla/5.0"}, "closed_at": closed,
		"confirmation_number": "SW" + id[len(id)-6:] + "X", "confirmed": true, "contact_email": textOrNil(c.email), "created_at": shopTime(o.created), "currency": o.currency,
		"current_subtotal_price": current, "current_subtotal_price_set": bag(current, o.currency), "current_total_discounts": "0.00",
		"current_total_price": current, "current_total_price_set": bag(current, o.currency), "current_total_tax": "0.00", "customer_locale": "en", "discount_codes": []any{},
		"email": textOrNil(c.email), "estimated_taxes": false, "financial_status": o.financial, "fulfillment_status": fulfilment, "landing_site": "/",
		"merchant_of_record_app_id": nil, "name": name, "note": nil, "note_attributes": []any{}, "number": o.number - 1000, "order_number": o.number,
		"order_status_url": "https://" + shop + "/orders/redacted", "payment_gateway_names": []any{"bogus"}, "phone": nil, "po_number": nil,
		"presentment_currency": o.currency, "processed_at": shopTime(o.created), "reference": nil, "referring_site": "", "source_name": "web", "subtotal_price": total,
		"tags": "", "tax_exempt": false, "taxes_included": false, "test": false, "token": "f2b0" + id + "example", "total_discounts": "0.00", "total_line_items_price": total,
		"total_outstanding": outstanding, "total_price": total, "total_price_set": bag(total, o.currency), "total_shipping_price_set": bag("0.00", o.currency),
		"total_tax": "0.00", "total_weight": 500, "updated_at": shopTime(o.updated), "user_id": nil, "billing_address": billing, "customer": c.body(false),
		"fulfillments": fulfilments, "line_items": []any{map[string]any{
			"id": line, "admin_graphql_api_id": "gid://shopify/LineItem/" + strconv.FormatInt(line, 10), "current_quantity": 1, "fulfillable_quantity": 1,
			"fulfillment_status": fulfilment, "gift_card": false, "grams": 500, "name": o.product, "price": total, "price_set": bag(total, o.currency), "product_exists": true,
			"product_id": 8212345678901, "quantity": 1, "requires_shipping": true, "sku": "SKU-1", "taxable": true, "title": o.product, "total_discount": "0.00",
			"variant_id": 44212345678901, "variant_title": nil, "vendor": "Example",
		}},
		"refunds": []any{}, "returns": []any{}, "shipping_address": nil,
		"shipping_lines": []any{map[string]any{"id": o.id - 1_100_000_000_000, "code": "Standard", "price": "0.00", "title": "Standard"}},
	}
}

// refund is the n-th refund of the shop. It names the order and nobody: the customer must be looked up.
func (o *shopOrder) refund(n int64, amount decimal.Decimal, reason string, at time.Time) map[string]any {
	id, transaction := 950012345600+n, 7312345678900+n
	money := cents(amount)
	return map[string]any{
		"id": id, "admin_graphql_api_id": "gid://shopify/Refund/" + strconv.FormatInt(id, 10), "order_id": o.id, "created_at": shopTime(at), "note": textOrNil(reason),
		"user_id": nil, "processed_at": shopTime(at), "restock": false, "duties": []any{}, "order_adjustments": []any{},
		"refund_line_items": []any{map[string]any{
			"id": 390012345600 + n, "line_item_id": o.id + 7_200_000_000_000, "quantity": 1, "restock_type": "no_restock",
			"subtotal": money, "subtotal_set": bag(money, o.currency), "total_tax": "0.00",
		}},
		"transactions": []any{map[string]any{
			"id": transaction, "admin_graphql_api_id": "gid://shopify/OrderTransaction/" + strconv.FormatInt(transaction, 10),
			"amount": money, "created_at": shopTime(at), "currency": o.currency, "gateway": "bogus", "kind": "refund", "order_id": o.id, "parent_id": transaction - 100,
			"processed_at": shopTime(at), "status": "success", "test": false,
		}},
	}
}

// body is a checkout; since API version 2026-04 its token is its only id.
func (k *shopCheckout) body(shop string, at time.Time) map[string]any {
	total := cents(k.amount)
	return map[string]any{
		"token": k.token, "cart_token": "hWN" + k.token, "email": textOrNil(k.customer.email), "gateway": nil, "buyer_accepts_marketing": k.customer.consent == "subscribed",
		"created_at": k.created.UTC().Format("2006-01-02T15:04:05+00:00"), "updated_at": shopTime(at), "completed_at": timeOrNil(k.completed), "closed_at": nil,
		"landing_site": "/", "note": nil, "note_attributes": []any{}, "referring_site": "", "currency": k.currency, "presentment_currency": k.currency, "customer_locale": "en",
		"name": "#" + k.token, "abandoned_checkout_url": "https://" + shop + "/checkouts/redacted/recover", "source_name": "web", "phone": nil,
		"subtotal_price": total, "total_price": total, "total_tax": "0.00", "total_discounts": "0.00", "total_line_items_price": total, "discount_codes": []any{},
		"line_items": []any{map[string]any{
			"key": "1", "title": k.product, "quantity": 1, "price": total, "sku": "SKU-1", "product_id": 8212345678901,
			"variant_id": 44212345678901, "line_price": total,
		}},
		"customer": k.customer.body(false), "shipping_address": nil,
	}
}
