package expression

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
)

// Function is one entry of the library: what rule authors read about it, and how it is checked.
type Function struct {
	Name      string
	Group     string
	Signature string
	Doc       string
	Example   string // compiles as it stands
	check     func(c *checker, at ast.Node, args []ast.Node) term
}

// Functions returns the library, by group and name.
func Functions() []Function {
	out := slices.Collect(maps.Values(library))
	slices.SortFunc(out, func(a, b Function) int {
		if d := strings.Compare(a.Group, b.Group); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

var library = map[string]Function{}

func init() {
	for _, f := range []Function{
		{
			Group: "history", Name: "count", Signature: `count(kind [, window or predicate])`, Example: `count("order.paid", days(365)) >= 5`,
			Doc:   "How many events of a kind, group or \"any\" there are: ever, younger than the window, or those the predicate holds for. Of a list: how many items.",
			check: (*checker).count,
		},
		{
			Group: "history", Name: "any", Signature: `any(kind or list, predicate)`, Example: `any(tickets, .open and .open_for >= hours(48))`,
			Doc: "Whether the predicate holds for at least one.", check: quantifier("any"),
		},
		{
			Group: "history", Name: "none", Signature: `none(kind or list, predicate)`, Example: `none("ticket.opened", .age < days(30))`,
			Doc: "Whether the predicate holds for none.", check: quantifier("none"),
		},
		{
			Group: "history", Name: "all", Signature: `all(kind or list, predicate)`, Example: `all(orders, .paid)`,
			Doc: "Whether the predicate holds for all; true without any.", check: quantifier("all"),
		},
		{
			Group: "history", Name: "one", Signature: `one(kind or list, predicate)`, Example: `one(deals, .open)`,
			Doc: "Whether the predicate holds for exactly one.", check: quantifier("one"),
		},
		{
			Group: "history", Name: "find", Signature: `find(kind or list, predicate)`, Example: `(find("order.paid", .amount >= eur(50))?.amount ?? eur(0)) >= eur(80)`,
			Doc: "The first the predicate holds for; may be missing.", check: finder("find"),
		},
		{
			Group: "history", Name: "findLast", Signature: `findLast(kind or list, predicate)`, Example: `findLast("order.paid", .amount >= eur(50)).age <= days(30)`,
			Doc: "The last the predicate holds for; may be missing.", check: finder("findLast"),
		},
		{
			Group: "history", Name: "filter", Signature: `filter(kind or list, predicate)`, Example: `count(filter(orders, .open)) >= 2`,
			Doc: "Those the predicate holds for.", check: (*checker).filter,
		},
		{
			Group: "history", Name: "map", Signature: `map(kind or list, expression)`, Example: `max(map("order.paid", .amount)) >= eur(100)`,
			Doc: "The expression's value for each.", check: (*checker).mapping,
		},
		{
			Group: "history", Name: "ever", Signature: `ever(kind [, window])`, Example: `ever("order.paid")`,
			Doc: "Whether it happened at all, or within the window.", check: presence("$ever", "$within"),
		},
		{
			Group: "history", Name: "never", Signature: `never(kind [, window])`, Example: `never("service", days(90))`,
			Doc: "Whether it did not happen at all, or not within the window.", check: presence("$never", "$without"),
		},
		{
			Group: "history", Name: "within", Signature: `within(kind, window)`, Example: `within("attention", days(30))`,
			Doc: "Whether it happened within the window.", check: (*checker).within,
		},
		{
			Group: "history", Name: "first", Signature: `first(kind [, window])`, Example: `first("order.paid").age <= days(60)`,
			Doc: "The first event, or the first within the window; may be missing. Of a list: the first item.", check: ends("$first", "$firstin", 0),
		},
		{
			Group: "history", Name: "last", Signature: `last(kind [, window])`, Example: `(last("order.paid")?.amount ?? eur(0)) >= eur(50)`,
			Doc: "The last event, or the last within the window; may be missing. Of a list: the last item.", check: ends("$last", "$lastin", -1),
		},
		{
			Group: "history", Name: "since", Signature: `since(kind or point in time)`, Example: `since("order.paid") >= days(90)`,
			Doc: "The time since the last event, or since a point in time. Only to be compared; every comparison is false if it never happened.", check: (*checker).since,
		},
		{
			Group: "history", Name: "events", Signature: `events(kind [, window])`, Example: `sum(events("order.paid", days(90)), .amount) >= eur(200)`,
			Doc: "The events themselves as a list, oldest first.", check: (*checker).events,
		},
		{
			Group: "history", Name: "usual_gap", Signature: `usual_gap(kind)`, Example: `since("order.paid") > 2 * usual_gap("order.paid")`,
			Doc: "The median time from one event to the next; never with fewer than two.", check: (*checker).gap,
		},
		{
			Group: "history", Name: "trend", Signature: `trend(kind, window)`, Example: `(trend("order.paid", days(90)) ?? 1) < 0.5`,
			Doc: "How many within the window, as a multiple of how many in the window before it; missing if there were none then.", check: (*checker).trend,
		},
		{
			Group: "numbers", Name: "sum", Signature: `sum(kind or list, expression)`, Example: `sum("points.changed", .points) >= 100`,
			Doc: "The sum over events or items; those without the value are left out.", check: (*checker).sum,
		},
		{Group: "numbers", Name: "min", Signature: `min(list) or min(a, b, …)`, Example: `min(map("order.paid", .amount)) >= eur(10)`, Doc: "The least.", check: aggregated("min")},
		{Group: "numbers", Name: "max", Signature: `max(list) or max(a, b, …)`, Example: `max(map("order.paid", .amount)) >= eur(100)`, Doc: "The greatest.", check: aggregated("max")},
		{Group: "numbers", Name: "mean", Signature: `mean(list) or mean(a, b, …)`, Example: `mean(map("order.paid", .items)) > 2`, Doc: "The average.", check: aggregated("mean")},
		{Group: "numbers", Name: "median", Signature: `median(list) or median(a, b, …)`, Example: `median(map("order.paid", .amount)) >= eur(30)`, Doc: "The middle value.", check: aggregated("median")},
		{Group: "numbers", Name: "len", Signature: `len(list or text)`, Example: `len(customer.tags) > 0`, Doc: "How many items or characters.", check: (*checker).length},
		{Group: "numbers", Name: "abs", Signature: `abs(number)`, Example: `abs(-2) == 2`, Doc: "Without its sign.", check: plain("abs", Number, Number)},
		{Group: "numbers", Name: "ceil", Signature: `ceil(number)`, Example: `ceil(1.2) == 2`, Doc: "Rounded up.", check: plain("ceil", Number, Number)},
		{Group: "numbers", Name: "floor", Signature: `floor(number)`, Example: `floor(1.8) == 1`, Doc: "Rounded down.", check: plain("floor", Number, Number)},
		{Group: "numbers", Name: "round", Signature: `round(number)`, Example: `round(1.5) == 2`, Doc: "Rounded to the nearest whole number.", check: plain("round", Number, Number)},
		{Group: "texts", Name: "lower", Signature: `lower(text)`, Example: `lower(customer.country ?? "") == "de"`, Doc: "In small letters.", check: plain("lower", Text, Text)},
		{Group: "texts", Name: "upper", Signature: `upper(text)`, Example: `upper(customer.country ?? "") == "DE"`, Doc: "In capitals.", check: plain("upper", Text, Text)},
		{Group: "texts", Name: "trim", Signature: `trim(text)`, Example: `trim(customer.name ?? "") != ""`, Doc: "Without space at the ends.", check: plain("trim", Text, Text)},
		{Group: "texts", Name: "string", Signature: `string(number)`, Example: `string(2) == "2"`, Doc: "As a text.", check: (*checker).text},
		{
			Group: "money", Name: "spent", Signature: `spent(currency [, window])`, Example: `spent("EUR", days(730)) >= eur(500)`,
			Doc: "What was paid in that currency, without cancelled orders and less refunds.", check: (*checker).spent,
		},
		{Group: "money", Name: "money", Signature: `money("amount currency")`, Example: `spent("CNY") >= money("15000 CNY")`, Doc: "An amount of money.", check: (*checker).money},
		{Group: "money", Name: "eur", Signature: `eur(number)`, Example: `spent("EUR") >= eur(50)`, Doc: "An amount in euros.", check: currency("EUR")},
		{Group: "money", Name: "usd", Signature: `usd(number)`, Example: `spent("USD") >= usd(50)`, Doc: "An amount in US dollars.", check: currency("USD")},
		{Group: "money", Name: "cny", Signature: `cny(number)`, Example: `spent("CNY") >= cny(50)`, Doc: "An amount in yuan.", check: currency("CNY")},
		{Group: "voice", Name: "nps", Signature: `nps([window])`, Example: `(nps() ?? 10) >= 7`, Doc: "The latest NPS score, 0 to 10; missing when never given.", check: metric("nps")},
		{Group: "voice", Name: "csat", Signature: `csat([window])`, Example: `(csat(days(90)) ?? 5) <= 2`, Doc: "The latest satisfaction score; missing when never given.", check: metric("csat")},
		{Group: "voice", Name: "ces", Signature: `ces([window])`, Example: `(ces() ?? 1) >= 5`, Doc: "The latest effort score; missing when never given.", check: metric("ces")},
		{Group: "time", Name: "minutes", Signature: `minutes(number)`, Example: `since("chat.started") < minutes(30)`, Doc: "That many minutes.", check: unit(time.Minute)},
		{Group: "time", Name: "hours", Signature: `hours(number)`, Example: `since("cart.updated") >= hours(12)`, Doc: "That many hours.", check: unit(time.Hour)},
		{Group: "time", Name: "days", Signature: `days(number)`, Example: `since("order.paid") >= days(90)`, Doc: "That many times 24 hours.", check: unit(24 * time.Hour)},
		{Group: "time", Name: "weeks", Signature: `weeks(number)`, Example: `within("any", weeks(2))`, Doc: "That many times 7 days.", check: unit(7 * 24 * time.Hour)},
		{Group: "time", Name: "months", Signature: `months(number)`, Example: `since("order.paid") >= months(6)`, Doc: "That many twelfths of 365 days.", check: unit(month)},
		{Group: "time", Name: "date", Signature: `date("2026-03-01")`, Example: `last("order.paid").at >= date("2026-03-01")`, Doc: "The first instant of a day in UTC, or a time such as date(\"2026-03-01T10:00:00Z\").", check: (*checker).date},
		{Group: "time", Name: "weekday", Signature: `weekday([zone])`, Example: `weekday() in ["sat", "sun"]`, Doc: "The day of the week, mon to sun, by the clocks of the model's zone, or of the one named; \"customer\" is the customer's own.", check: face("weekday")},
		{Group: "time", Name: "hour", Signature: `hour([zone])`, Example: `hour("Europe/Berlin") >= 9 and hour("Europe/Berlin") < 17`, Doc: "The hour of the day, 0 to 23, by the clocks of the model's zone, or of the one named.", check: face("hour")},
		{Group: "time", Name: "business_hours", Signature: `business_hours(number [, calendar])`, Example: `any(tickets, .open and .open_for >= business_hours(8))`, Doc: "That many hours in which business goes on, by the model's calendar or the one named. Only the time since something compares with it.", check: (*checker).businessHours},
		{Group: "the customer", Name: "reachable", Signature: `reachable(channel)`, Example: `reachable("sms")`, Doc: "Whether there is an address for the channel, and nothing says that the customer does not want to be reached there.", check: (*checker).reachable},
		{Group: "the customer", Name: "shared", Signature: `shared("address")`, Example: `not shared("address")`, Doc: "Whether another customer has the same address, phone, email or device.", check: (*checker).shared},
	} {
		library[f.Name] = f
	}
}

const month = 365 * 24 * time.Hour / 12
