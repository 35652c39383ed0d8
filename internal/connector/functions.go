package connector

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/hub"
)

// functions are what expressions can call beside expr's own. Some replace expr's: string(nil) is "" and not "<nil>",
// lower takes nil, date reads what vendors send. now is gone, or a replay would not repeat; keys, values and toPairs are
// gone because their order is not fixed.
var functions = []expr.Option{
	expr.DisableBuiltin("now"), expr.DisableBuiltin("keys"), expr.DisableBuiltin("values"), expr.DisableBuiltin("toPairs"),
	expr.DisableBuiltin("toJSON"), expr.DisableBuiltin("repeat"),
	expr.DisableBuiltin("string"), expr.DisableBuiltin("lower"), expr.DisableBuiltin("upper"), expr.DisableBuiltin("date"), expr.DisableBuiltin("trim"),
	function("string", func(p []any) (any, error) { return asText(p[0]) }, new(func(any) string)),
	function("lower", func(p []any) (any, error) { s, err := asText(p[0]); return strings.ToLower(s), err }, new(func(any) string)),
	function("upper", func(p []any) (any, error) { s, err := asText(p[0]); return strings.ToUpper(s), err }, new(func(any) string)),
	function("trim", func(p []any) (any, error) { s, err := asText(p[0]); return strings.TrimSpace(s), err }, new(func(any) string)),
	function("number", func(p []any) (any, error) { return asNumber(p[0]) }, new(func(any) float64)),
	function("date", func(p []any) (any, error) {
		zone := ""
		if len(p) > 1 {
			zone, _ = p[1].(string)
		}
		return asTime(p[0], zone)
	}, new(func(any) time.Time), new(func(any, string) time.Time)),
	function("iso", func(p []any) (any, error) { return timeText(p[0], "2006-01-02T15:04:05.000Z") }, new(func(any) string)),
	function("day", func(p []any) (any, error) {
		t, err := asTime(p[0], "")
		if err != nil || t.IsZero() {
			return "", err
		}
		if len(p) > 1 && p[1] != "" {
			zone, err := time.LoadLocation(p[1].(string))
			if err != nil {
				return "", errors.New("zone is unknown")
			}
			t = t.In(zone)
		}
		return t.Format(time.DateOnly), nil
	}, new(func(any) string), new(func(any, string) string)),
	function("epoch_ms", func(p []any) (any, error) {
		t, err := asTime(p[0], "")
		return t.UnixMilli(), err
	}, new(func(any) int64)),
	function("money", func(p []any) (any, error) { return asMoney(p[0], p[1]) }, new(func(any, any) hub.Money)),
	function("total", func(p []any) (any, error) { return total(p[0]) }, new(func(any) string)),
	function("gid", func(p []any) (any, error) {
		s, err := asText(p[0])
		s, _, _ = strings.Cut(s, "?")
		return s[strings.LastIndexByte(s, '/')+1:], err
	}, new(func(any) string)),
	function("words", func(p []any) (any, error) {
		var out []string
		for _, x := range p {
			s, err := asText(x)
			if err != nil {
				return "", err
			}
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
		return strings.Join(out, " "), nil
	}, new(func(...any) string)),
	function("texts", func(p []any) (any, error) { return asTexts(p[0]) }, new(func(any) []string)),
	function("list", func(p []any) (any, error) {
		switch x := p[0].(type) {
		case nil:
			return []any{}, nil
		case []any:
			return x, nil
		default:
			return []any{x}, nil
		}
	}, new(func(any) []any)),
	function("pairs", func(p []any) (any, error) { return pairs(p[0]) }, new(func(any) []any)),
	function("with", func(p []any) (any, error) {
		m, _ := p[0].(map[string]any)
		name, ok := p[1].(string)
		if !ok {
			return nil, errNotText
		}
		out := make(map[string]any, len(m)+1)
		maps.Copy(out, m)
		out[name] = p[2]
		return out, nil
	}, new(func(any, string, any) map[string]any)),
	function("urlencode", func(p []any) (any, error) { s, err := asText(p[0]); return url.QueryEscape(s), err }, new(func(any) string)),
	function("quote", func(p []any) (any, error) {
		// As SQL-like query languages want a text constant.
		s, err := asText(p[0])
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'", err
	}, new(func(any) string)),
}

// functionNames are for suggestions.
var functionNames = []string{
	"string", "lower", "upper", "trim", "number", "date", "iso", "day", "epoch_ms", "money", "total", "gid", "words", "texts", "list",
	"pairs", "with", "urlencode", "quote", "map", "filter", "find", "any", "all", "none", "one", "count", "sum", "len", "first",
	"last", "join", "split", "replace", "hasPrefix", "hasSuffix", "indexOf", "int", "float", "abs", "round", "min", "max",
}

// ownFunctions are the functions above, for what is evaluated without the VM. Filled while the package's variables are, then only read.
var ownFunctions map[string]func([]any) (any, error)

func function(name string, f func([]any) (any, error), types ...any) expr.Option {
	if ownFunctions == nil {
		ownFunctions = map[string]func([]any) (any, error){}
	}
	ownFunctions[name] = f
	return expr.Function(name, func(p ...any) (any, error) { return f(p) }, types...)
}

var (
	errNotText   = errors.New("is not text")
	errNotNumber = errors.New("is not a number")
	errNotTime   = errors.New("is not a time: want RFC 3339, a date, or seconds or milliseconds since 1970")
	errNotTexts  = errors.New("is not a list of texts")
)

// asText turns what a body holds into text: nil is "", numbers give their digits.
func asText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	case time.Time:
		if v.IsZero() {
			return "", nil
		}
		return v.UTC().Format("2006-01-02T15:04:05.000Z"), nil
	}
	return "", errNotText
}

func asNumber(v any) (float64, error) {
	switch v := v.(type) {
	case int64:
		return float64(v), nil
	case int:
		return float64(v), nil
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) { // a sum of what each was finite
			return 0, errNotNumber
		}
		return v, nil
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return 0, errNotNumber
		}
		return f, nil
	}
	return 0, errNotNumber
}

// asTexts gives the texts of a list; one text is split at its commas, as vendors write tags. nil and "" give none.
func asTexts(v any) ([]string, error) {
	var out []string
	add := func(x any) error {
		s, err := asText(x)
		if err != nil {
			return errNotTexts
		}
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
		return nil
	}
	switch v := v.(type) {
	case nil:
	case string:
		for s := range strings.SplitSeq(v, ",") {
			_ = add(s)
		}
	case []string:
		for _, s := range v {
			_ = add(s)
		}
	case []any:
		for _, x := range v {
			if err := add(x); err != nil {
				return nil, err
			}
		}
	default:
		return nil, errNotTexts
	}
	return out, nil
}

// pairs lists an object as {key, value}, sorted by key.
func pairs(v any) ([]any, error) {
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		return nil, errors.New("is not an object")
	}
	out := make([]any, 0, len(m))
	for _, k := range sortedKeys(m) {
		out = append(out, map[string]any{"key": k, "value": m[k]})
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// layouts of times, most common first. The last ones say no zone: date's second argument names it, else UTC.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 -0700"}

var zoneless = []string{time.DateTime, "2006-01-02T15:04:05", time.DateOnly, "2006-01-02 15:04"}

// asTime reads a time as vendors write it. nil and "" give the zero time. A whole number counts seconds since 1970, or
// milliseconds from twelve digits on (12 digits of seconds would be the year 5138). A time outside the years 0 to 9999, which
// RFC 3339 cannot write, is none.
func asTime(v any, zone string) (time.Time, error) {
	t, err := anyTime(v, zone)
	if year := t.UTC().Year(); err == nil && (year < 0 || year > 9999) {
		return time.Time{}, errNotTime
	}
	return t, err
}

func anyTime(v any, zone string) (time.Time, error) {
	switch v := v.(type) {
	case nil:
		return time.Time{}, nil
	case time.Time:
		return v.UTC(), nil
	case int64:
		return epoch(v)
	case int:
		return epoch(int64(v))
	case float64:
		if v != v || math.Abs(v) > 1e15 {
			return time.Time{}, errNotTime
		}
		if math.Abs(v) >= 1e11 {
			return epoch(int64(v))
		}
		return time.UnixMilli(int64(math.Round(v * 1000))).UTC(), nil
	case string:
		return parseTime(strings.TrimSpace(v), zone)
	}
	return time.Time{}, errNotTime
}

func epoch(n int64) (time.Time, error) {
	switch {
	case n >= 1e15 || n <= -1e15:
		return time.Time{}, errNotTime
	case n >= 1e11 || n <= -1e11:
		return time.UnixMilli(n).UTC(), nil
	default:
		return time.Unix(n, 0).UTC(), nil
	}
}

func parseTime(s, zone string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if len(s) > 8 && strings.IndexByte(s[1:], '-') < 0 { // a date is not tried as a number: that would make an error for each
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return epoch(n)
		}
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil {
			return checkYear(t.UTC())
		}
	}
	location := time.UTC
	if zone != "" {
		l, err := time.LoadLocation(zone)
		if err != nil {
			return time.Time{}, fmt.Errorf("zone %q is unknown", zone)
		}
		location = l
	}
	for _, layout := range zoneless {
		if t, err := time.ParseInLocation(layout, s, location); err == nil {
			return checkYear(t.UTC())
		}
	}
	return time.Time{}, errNotTime
}

// checkYear keeps out what neither database nor RFC 3339 can hold.
func checkYear(t time.Time) (time.Time, error) {
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, errNotTime
	}
	return t, nil
}

func timeText(v any, layout string) (string, error) {
	t, err := asTime(v, "")
	if err != nil || t.IsZero() {
		return "", err
	}
	return t.UTC().Format(layout), nil
}

// asMoney gives an exact amount; nil or "" of either gives none.
func asMoney(amount, currency any) (hub.Money, error) {
	a, err := asText(amount)
	if err != nil {
		return hub.Money{}, errors.New("amount " + err.Error())
	}
	c, err := asText(currency)
	if err != nil {
		return hub.Money{}, errors.New("currency " + err.Error())
	}
	if strings.TrimSpace(a) == "" || strings.TrimSpace(c) == "" {
		return hub.Money{}, nil
	}
	m, err := hub.ParseMoney(a, c)
	if err != nil {
		return hub.Money{}, errors.New("is not an amount and its currency")
	}
	return m, nil
}

// total adds amounts exactly; none give "".
func total(v any) (string, error) {
	list, err := asTexts(v)
	if err != nil || len(list) == 0 {
		return "", err
	}
	var sum decimal.Decimal
	for _, s := range list {
		d, err := decimal.Parse(s)
		if err == nil {
			sum, err = sum.Add(d)
		}
		if err != nil {
			return "", errors.New("is not a list of amounts")
		}
	}
	return sum.String(), nil
}
