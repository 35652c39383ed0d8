package connector

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func TestDecodeJSON(t *testing.T) {
	for body, want := range map[string]any{
		`null`: nil, `true`: true, ` false `: false, `""`: "", `0`: int64(0), `-0`: int64(0), `-7`: int64(-7), `1.5`: 1.5, `1e3`: 1000.0, `1E-2`: 0.01,
		`9223372036854775807`: int64(9223372036854775807), `9223372036854775808`: "9223372036854775808", `-9223372036854775809`: "-9223372036854775809",
		`0.1234567890123456`: "0.1234567890123456", `0.000000123456789012345`: 0.000000123456789012345, `1e400`: "1e400",
		`[]`: []any{}, `{}`: map[string]any{}, `[1,"a",{"b":[null]}]`: []any{int64(1), "a", map[string]any{"b": []any{nil}}},
		`{"a":1,"a":2}`: map[string]any{"a": int64(2)}, `{"a":{"b":1},"a":{"c":2}}`: map[string]any{"a": map[string]any{"c": int64(2)}},
		`"\"\\\/\b\f\n\r\tü€"`: "\"\\/\b\f\n\r\tü€", `"😀"`: "😀", `"\ud83d"`: "\uFFFD", `"\ud83dA"`: "\uFFFDA", `"\udc00\ud83d"`: "\uFFFD\uFFFD",
		`"\u0000"`: "\uFFFD", "\"\x7f\"": "\x7f", "\"a\xc3\"": "a\uFFFD", "\uFEFF1": int64(1), "{\"k\xff\":1}": map[string]any{"k\uFFFD": int64(1)},
	} {
		got, err := decodeJSON([]byte(body), nil, nil)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v, want %#v", body, got, err, want)
		}
	}
	for _, body := range []string{"", " ", "{", "[", `{"a"}`, `{"a":}`, `{"a":1,}`, `[1,]`, `[1 2]`, `01`, `1.`, `.5`, `1e`, `+1`, `-`, `nul`, `tru`, `"`, `"\x"`, `"\u12"`, "\"\n\"", `{a:1}`, `'a'`, `1 2`, `NaN`, "\x00"} {
		if v, err := decodeJSON([]byte(body), nil, nil); err == nil {
			t.Errorf("%q is taken for %#v", body, v)
		}
	}
}

func TestDecodeJSONKeeps(t *testing.T) {
	got, err := decodeJSON([]byte(`{"a":{"skip":[1,{"a":2}],"b":[{"a":"x","c":"y"}]},"skip":{"a":1}}`), members{"a": "a", "b": "b"}, nil)
	want := map[string]any{"a": map[string]any{"b": []any{map[string]any{"a": "x"}}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v %v", got, err)
	}
	if _, err := decodeJSON([]byte(`{"skip":{"a":tru}}`), members{"a": "a"}, nil); err == nil {
		t.Error("what is skipped is not checked")
	}
}

// FuzzDecodeJSON compares with a strict library: we accept what it accepts (but for our bounds) and understand the same.
func FuzzDecodeJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x\u0041",null,true],"b":{}}`, `"\ud83d\ude00"`, `[1e5,-0.0,12345678901234567890]`, "\"\xff\"", `{"a":1,"a":2}`, ` [ ] `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodeJSON(body, nil, nil)
		if _, skip := decodeJSON(body, members{}, nil); (err == nil) != (skip == nil) {
			if !strings.Contains(fmt.Sprint(err), "values") {
				t.Fatalf("keeping %v, skipping %v", err, skip)
			}
		}
		var lender objects
		for range 2 { // into maps that are used again
			if lent, again := decodeJSON(body, nil, &lender); fmt.Sprint(err) != fmt.Sprint(again) || !reflect.DeepEqual(lent, got) {
				t.Fatalf("%v, %v; lent %v, %v", got, err, lent, again)
			}
			lender.small.back()
			lender.large.back()
		}
		body = []byte(strings.TrimPrefix(string(body), "\uFEFF"))
		var want any
		valid := jsontext.Value(body).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
		lib := json.Unmarshal(body, &want, jsontext.AllowInvalidUTF8(true),
			json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, v *any) error {
				if d.PeekKind() != '0' {
					return errors.ErrUnsupported
				}
				raw, err := d.ReadValue()
				*v = number(string(raw))
				return err
			})))
		if err != nil {
			if valid && !strings.Contains(err.Error(), "nested deeper") && !strings.Contains(err.Error(), "values") {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if !valid {
			t.Fatalf("taken, but %v", lib)
		}
		if lib != nil {
			return // doubled names, which the library merges
		}
		if !same(got, want) {
			t.Fatalf("got %#v\nwant %#v", got, want)
		}
	})
}

// number marks what the library read as one, by its digits.
type number string

// same reports whether got is the library's want, made harmless, with exact numbers.
func same(got, want any) bool {
	switch want := want.(type) {
	case number:
		switch got := got.(type) {
		case string:
			return got == string(want)
		case int64:
			n, err := strconv.ParseInt(string(want), 10, 64)
			return err == nil && n == got
		default:
			f, err := strconv.ParseFloat(string(want), 64)
			return err == nil && f == got
		}
	case string:
		return got == cleanText(want)
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return false
		}
		for i := range list {
			if !same(list[i], want[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok {
			return false
		}
		names := map[string]bool{}
		for k := range want {
			names[cleanText(k)] = true
		}
		if len(names) != len(want) {
			return true // names that only differ in what is not text
		}
		for k, x := range want {
			if v, ok := m[cleanText(k)]; !ok || !same(v, x) {
				return false
			}
		}
		return len(m) == len(want)
	}
	return got == want
}

func BenchmarkDecodeJSON(b *testing.B) {
	body := []byte(`{"id":5912345678901,"email":"ada@example.com","customer":{"id":7012345678901,"first_name":"Ada"},"line_items":[` +
		strings.TrimSuffix(strings.Repeat(`{"id":13112345678901,"name":"Blue Mug","price":"24.95","price_set":{"shop_money":{"amount":"24.95","currency_code":"USD"}},"quantity":2,"taxable":true,"variant_title":null},`, 11), ",") + `]}`)
	for name, keep := range map[string]members{"all": nil, "some": {"id": "id", "email": "email", "customer": "customer"}, "none": {}} {
		b.Run(fmt.Sprintf("%s_%dB", name, len(body)), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := decodeJSON(body, keep, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// plain ends where looking at each byte ends.
func TestPlain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20_000 {
		text := []byte(strings.Repeat("a", r.IntN(40)))
		for i := range text {
			if r.IntN(20) == 0 {
				text[i] = byte(r.IntN(256))
			}
		}
		from := r.IntN(len(text) + 1)
		want := from
		for want < len(text) && text[want] >= ' ' && text[want] < 0x80 && text[want] != '"' && text[want] != '\\' {
			want++
		}
		if got := plain(text, from); got != want {
			t.Fatalf("%q from %d: %d, want %d", text, from, got, want)
		}
	}
}

// Lists of fields are used again: what one body left in them is in no other.
func TestDecodersShareNothing(t *testing.T) {
	for range 3 {
		if _, err := decodeJSON([]byte(`{"secret":"s","inner":{"secret":"s","list":[{"secret":"s"},`), nil, nil); err == nil {
			t.Error("half an object was taken")
		}
		v, err := decodeJSON([]byte(`{"a":{},"b":{"c":{"d":1}},"a":[{"e":2},{}]}`), nil, nil)
		want := map[string]any{"a": []any{map[string]any{"e": int64(2)}, map[string]any{}}, "b": map[string]any{"c": map[string]any{"d": int64(1)}}}
		if err != nil || !reflect.DeepEqual(v, want) {
			t.Errorf("got %v, %v", v, err)
		}
	}
}
