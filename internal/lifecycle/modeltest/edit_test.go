package modeltest

import (
	"slices"
	"testing"
)

func TestEdits(t *testing.T) {
	for text, want := range map[string][]string{
		`since("order.paid") >= days(90)`: {
			`since("order.paid") > days(90)`, `since("order.paid") < days(90)`, `since("order.paid") >= days(91)`, `since("order.paid") >= days(89)`,
			`since("order.paid") >= days(181)`, `since("order.paid") >= days(45)`,
		},
		`not regular`:    {` regular`},
		`a and (b or c)`: {`a or (b or c)`, `(b or c)`, `a`, `a and (b and c)`, `a and (c)`, `a and (b)`},
		`a or b and c`:   {`a and b and c`, `b and c`, `a`, `a or b or c`, `a or c`, `a or b`},
		`a && b || !c`:   {`a || b || !c`, `b || !c`, `a || !c`, `a && b && !c`, `!c`, `a && b`, `a && b || c`},
		`any(tickets, .open and .type == "x and 3")`: {
			`none(tickets, .open and .type == "x and 3")`, `any(tickets, .open or .type == "x and 3")`, `any(tickets, .type == "x and 3")`,
			`any(tickets, .open)`, `any(tickets, .open and .type != "x and 3")`,
		},
		`x.any ?? 0.5`:          {`x.any ?? 0.55`, `x.any ?? 0.45`, `x.any ?? 1`, `x.any ?? 0.25`},
		`money("10 CNY")`:       {`money("11 CNY")`, `money("9 CNY")`, `money("21 CNY")`, `money("5 CNY")`},
		`date('2026-03-01')`:    {`date("2026-03-02")`, `date("2026-02-28")`, `date("2027-03-01")`},
		`x in ["1", "and"]`:     nil,
		`never("order.paid")`:   {`ever("order.paid")`},
		`a ? b and c : d`:       {`a ? b or c : d`, `a ? c : d`, `a ? b : d`},
		`x not in [1]`:          {`x  in [1]`, `x not in [2]`, `x not in [0]`, `x not in [3]`},
		`count("日本", 1..3) > a`: {`count("日本", 2..3) > a`, `count("日本", 0..3) > a`, `count("日本", 3..3) > a`, `count("日本", 1..4) > a`, `count("日本", 1..2) > a`, `count("日本", 1..7) > a`, `count("日本", 1..1) > a`, `count("日本", 1..3) >= a`, `count("日本", 1..3) <= a`},
	} {
		var got []string
		for _, e := range edits(text) {
			got = append(got, e.apply(text))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\ngot  %q\nwant %q", text, got, want)
		}
	}
}

func TestValues(t *testing.T) {
	for text, want := range map[string][]string{
		"180d": {"181d", "179d", "361d", "90d"}, "5": {"6", "4", "11", "2"}, "0.3": {"0.33", "0.27", "0.6", "0.15"}, "40 EUR": {"41 EUR", "39 EUR", "81 EUR", "20 EUR"},
		"true": {"false"}, "Mo-Fr": nil, "1d": {"2d", "3d"}, "2026-03-01": {"2026-03-02", "2026-02-28", "2027-03-01"}, "at 3": nil,
	} {
		if got := values(text); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
