package score

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Table is purchase data as a file holds it: either the histories of customers or their orders.
type Table struct {
	Histories []History // of a summary
	// Orders of a log, each customer's by time, the customers in the order of the file.
	Orders      [][]Order
	First, Last time.Time // of a log: its earliest and latest day
}

// Problem is a mistake in a file, with its place; line and column count from 1. It wraps hub.ErrInvalid.
type Problem struct {
	File         string
	Line, Column int
	Message      string
	Suggestion   string
}

func (p *Problem) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	if p.Suggestion != "" {
		s += " (" + p.Suggestion + ")"
	}
	return s
}

func (p *Problem) Unwrap() error { return hub.ErrInvalid }

const (
	maxProblems = 20        // told of one file
	maxLine     = 64 << 10  // bytes
	maxRows     = 5_000_000 // of a file
	maxWeeks    = 52 * 100
)

// Read reads purchase data; file names it in errors. Two shapes are known:
//
//   - histories: comma-separated with a header that names x, t_x and T (repeat purchases, week of the last one, weeks observed, both
//     from the first purchase) in any order, and whatever else;
//   - a log of orders: columns separated by spaces or tabs: customer, a second number of hers, day (19970118), units, amount.
//
// An error joins the first mistakes of the file, each a *Problem, or says why reading failed.
func Read(file string, r io.Reader) (*Table, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	var (
		table    Table
		problems []error
		header   []string
		columns  [3]int
		row      = logRow
		index    = map[string]int{}
		n        int
		rows     int
	)
	mistake := func(p *Problem) {
		if p.File, p.Line = file, n; len(problems) <= maxProblems {
			problems = append(problems, p)
		}
	}
	for lines.Scan() {
		n++
		text := strings.TrimPrefix(lines.Text(), "\ufeff")
		if strings.TrimSpace(text) == "" {
			continue
		}
		if rows++; rows > maxRows {
			mistake(&Problem{Column: 1, Message: fmt.Sprintf("more than %d lines: fit a sample of the customers", maxRows)})
			break
		}
		if rows == 1 && strings.Contains(text, ",") {
			header = strings.Split(text, ",")
			var p *Problem
			if columns, p = historyColumns(header); p != nil {
				mistake(p)
				break
			}
			continue
		}
		if header != nil {
			h, p := historyRow(text, len(header), columns)
			if p != nil {
				mistake(p)
				continue
			}
			table.Histories = append(table.Histories, h)
			continue
		}
		id, order, p := row(text)
		if p != nil {
			mistake(p)
			if len(problems) == 1 && rows == 1 {
				break // it has another shape: nothing else can be said of it
			}
			continue
		}
		i, known := index[id]
		if !known {
			i = len(table.Orders)
			index[id] = i
			table.Orders = append(table.Orders, nil)
		}
		table.Orders[i] = append(table.Orders[i], order)
		if table.First.IsZero() || order.At.Before(table.First) {
			table.First = order.At
		}
		if order.At.After(table.Last) {
			table.Last = order.At
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		n++
		mistake(&Problem{Column: 1, Message: "a line of more than 64 KiB: this is no table of purchases"})
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(problems) == 0 && rows == 0 || header != nil && len(problems) == 0 && len(table.Histories) == 0 {
		n = max(n, 1)
		mistake(&Problem{Column: 1, Message: "the file holds no purchases"})
	}
	if len(problems) > maxProblems {
		problems[maxProblems] = fmt.Errorf("%s: and more: %w", file, hub.ErrInvalid)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	for _, orders := range table.Orders {
		slices.SortStableFunc(orders, func(a, b Order) int { return a.At.Compare(b.At) })
	}
	return &table, nil
}

const shapes = "give a header naming x, t_x and T with commas, or lines of customer, number, day as 19970118, units and amount with spaces"

// historyColumns finds x, t_x and T in a header.
func historyColumns(header []string) (columns [3]int, p *Problem) {
	for i, want := range []string{"x", "t_x", "T"} {
		at := slices.IndexFunc(header, func(name string) bool { return strings.TrimSpace(name) == want })
		if at < 0 {
			return columns, &Problem{Column: 1, Message: fmt.Sprintf("the header names no column %s", want), Suggestion: shapes}
		}
		columns[i] = at
	}
	return columns, nil
}

// historyRow reads one customer's history.
func historyRow(text string, width int, columns [3]int) (h History, p *Problem) {
	cells := strings.Split(text, ",")
	if len(cells) != width {
		return h, &Problem{Column: 1, Message: fmt.Sprintf("%d columns, the header has %d", len(cells), width)}
	}
	starts := make([]int, len(cells))
	for i := 1; i < len(cells); i++ {
		starts[i] = starts[i-1] + len(cells[i-1]) + 1
	}
	at := func(i int) int { return starts[i] + 1 + len(cells[i]) - len(strings.TrimLeft(cells[i], " \t")) }
	var v [3]float64
	for i, name := range []string{"x", "t_x", "T"} {
		f, err := strconv.ParseFloat(strings.TrimSpace(cells[columns[i]]), 64)
		if err != nil || math.IsNaN(f) || f < 0 || f > maxWeeks {
			return h, &Problem{Column: at(columns[i]), Message: fmt.Sprintf("%s is %q: want a number from 0 to %d", name, clip(cells[columns[i]]), maxWeeks)}
		}
		v[i] = f
	}
	switch {
	case v[0] != math.Trunc(v[0]):
		return h, &Problem{Column: at(columns[0]), Message: "x is the number of repeat purchases: want a whole number"}
	case v[1] > v[2]:
		return h, &Problem{Column: at(columns[1]), Message: fmt.Sprintf("the last purchase is in week %v, after the %v observed", v[1], v[2])}
	case v[0] == 0 && v[1] != 0:
		return h, &Problem{Column: at(columns[1]), Message: "without repeat purchases t_x is 0"}
	case v[0] > 0 && v[1] == 0:
		return h, &Problem{Column: at(columns[1]), Message: "with repeat purchases t_x is above 0", Suggestion: "purchases of the first day are no repeats"}
	}
	return History{Repeats: int(v[0]), Last: v[1], Span: v[2]}, nil
}

// logRow reads one order.
func logRow(text string) (id string, o Order, p *Problem) {
	var cells []string
	var starts []int
	for i := 0; i < len(text); {
		if text[i] == ' ' || text[i] == '\t' {
			i++
			continue
		}
		end := i
		for end < len(text) && text[end] != ' ' && text[end] != '\t' {
			end++
		}
		cells, starts = append(cells, text[i:end]), append(starts, i+1)
		i = end
	}
	if len(cells) != 5 {
		return "", o, &Problem{Column: 1, Message: fmt.Sprintf("%d columns: an order has five", len(cells)), Suggestion: shapes}
	}
	at, err := time.Parse("20060102", cells[2])
	if err != nil || at.Year() < 1900 || at.Year() > 2200 {
		return "", o, &Problem{Column: starts[2], Message: fmt.Sprintf("%q is no day", clip(cells[2])), Suggestion: "write it as 19970118"}
	}
	if _, err := strconv.ParseUint(cells[3], 10, 32); err != nil {
		return "", o, &Problem{Column: starts[3], Message: fmt.Sprintf("%q is no number of units", clip(cells[3]))}
	}
	amount, err := strconv.ParseFloat(cells[4], 64)
	if err != nil || math.IsNaN(amount) || amount < 0 || amount > 1e12 {
		return "", o, &Problem{Column: starts[4], Message: fmt.Sprintf("%q is no amount", clip(cells[4])), Suggestion: "write it as 29.33"}
	}
	return cells[0], Order{At: at, Amount: amount}, nil
}

func clip(text string) string {
	if text = strings.TrimSpace(text); len(text) > 40 {
		return text[:40] + "…"
	}
	return text
}
