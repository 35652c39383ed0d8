package fact

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds on what one entry keeps. Rules compare statuses, channels and plans, not essays; the event table keeps all of it.
const (
	maxText  = 1024 // bytes of one text, cut at a character
	maxTexts = 64   // texts of one list
)

// Type bytes of an encoded value.
const (
	tagText   = 't'
	tagNumber = 'n'
	tagBool   = 'b'
	tagTime   = 'i'
	tagMoney  = 'm'
	tagTexts  = 'l'
	tagNil    = '0' // a trait that was cleared
)

// appendValue appends type byte, payload length and payload. It reports false for a Go type that facts do not hold.
func appendValue(b []byte, v any) ([]byte, bool) {
	var scratch [64]byte
	p := scratch[:0]
	var tag byte
	switch v := v.(type) {
	case nil:
		tag = tagNil
	case string:
		tag, p = tagText, append(p, cut(v)...)
	case float64:
		tag, p = tagNumber, binary.LittleEndian.AppendUint64(p, math.Float64bits(v))
	case int:
		return appendValue(b, float64(v))
	case int64:
		return appendValue(b, float64(v))
	case bool:
		tag = tagBool
		if v {
			p = append(p, 1)
		} else {
			p = append(p, 0)
		}
	case time.Time:
		tag, p = tagTime, binary.AppendVarint(p, v.UnixMilli())
	case hub.Money:
		tag = tagMoney
		if v.IsZero() || len(v.Currency) != 3 {
			return b, false
		}
		sign := byte(v.Amount.Scale()) << 1
		if v.Amount.IsNeg() {
			sign |= 1
		}
		p = append(append(p, v.Currency...), sign)
		p = binary.AppendUvarint(p, v.Amount.Coef())
	case []string:
		tag = tagTexts
		v = v[:min(len(v), maxTexts)]
		p = binary.AppendUvarint(p, uint64(len(v)))
		for _, s := range v {
			p = appendString(p, cut(s))
		}
	case []any:
		texts := make([]string, 0, len(v))
		for _, e := range v {
			if s, ok := e.(string); ok {
				texts = append(texts, s)
			}
		}
		return appendValue(b, texts)
	default:
		return b, false
	}
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...), true
}

// cut shortens s to maxText bytes without splitting a character.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// value is one encoded value: its type byte and payload.
type value struct {
	tag byte
	raw string
}

func (v value) text() (string, bool) { return v.raw, v.tag == tagText }

func (v value) number() (float64, bool) {
	if v.tag != tagNumber || len(v.raw) != 8 {
		return 0, false
	}
	var bits uint64
	for i := 7; i >= 0; i-- {
		bits = bits<<8 | uint64(v.raw[i])
	}
	return math.Float64frombits(bits), true
}

func (v value) bool() (bool, bool) {
	if v.tag != tagBool || len(v.raw) != 1 {
		return false, false
	}
	return v.raw[0] == 1, true
}

func (v value) millis() (int64, bool) {
	if v.tag != tagTime {
		return 0, false
	}
	u, n := uvarint(v.raw)
	if n <= 0 {
		return 0, false
	}
	ms := int64(u >> 1)
	if u&1 != 0 {
		ms = ^ms
	}
	return ms, true
}

func (v value) money() (hub.Money, bool) {
	if v.tag != tagMoney || len(v.raw) < 5 {
		return hub.Money{}, false
	}
	coef, n := uvarint(v.raw[4:])
	if n <= 0 {
		return hub.Money{}, false
	}
	scale, neg := int(v.raw[3]>>1), v.raw[3]&1 != 0
	var d decimal.Decimal
	var err error
	if coef <= math.MaxInt64 {
		d, err = decimal.New(int64(coef), scale)
	} else if d, err = decimal.Parse(strconv.FormatUint(coef, 10)); err == nil && scale > 0 {
		// Nineteen digits do not fit int64: shift the point by parsing the text with its scale.
		s := strconv.FormatUint(coef, 10)
		if scale >= len(s) {
			return hub.Money{}, false
		}
		d, err = decimal.Parse(s[:len(s)-scale] + "." + s[len(s)-scale:])
	}
	if err != nil {
		return hub.Money{}, false
	}
	if neg {
		d = d.Neg()
	}
	return hub.Money{Amount: d, Currency: v.raw[:3]}, true
}

func (v value) texts() ([]string, bool) {
	if v.tag != tagTexts {
		return nil, false
	}
	n, used := uvarint(v.raw)
	if used <= 0 || n > maxTexts {
		return nil, false
	}
	rest, out := v.raw[used:], make([]string, 0, n)
	for range n {
		s, r, ok := cutString(rest)
		if !ok {
			return nil, false
		}
		out, rest = append(out, s), r
	}
	return out, true
}

// any returns the value in the Go type the catalogue names for it, nil for a cleared or damaged one.
func (v value) any() any {
	switch v.tag {
	case tagText:
		return v.raw
	case tagNumber:
		if n, ok := v.number(); ok {
			return n
		}
	case tagBool:
		if b, ok := v.bool(); ok {
			return b
		}
	case tagTime:
		if ms, ok := v.millis(); ok {
			return time.UnixMilli(ms).UTC()
		}
	case tagMoney:
		if m, ok := v.money(); ok {
			return m
		}
	case tagTexts:
		if l, ok := v.texts(); ok {
			return l
		}
	}
	return nil
}

// appendProperties encodes properties sorted by name, so that equal maps give equal bytes.
func appendProperties(b []byte, properties map[string]any) []byte {
	var few [16]string
	names := few[:0]
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v := properties[name]
		if v == nil {
			continue
		}
		before := len(b)
		b = appendString(b, name)
		var ok bool
		if b, ok = appendValue(b, v); !ok {
			b = b[:before]
		}
	}
	return b
}

// nextProperty reads one name and value off the front of raw.
func nextProperty(raw string) (name string, v value, rest string, ok bool) {
	if name, rest, ok = cutString(raw); !ok || rest == "" {
		return "", value{}, "", false
	}
	v.tag = rest[0]
	v.raw, rest, ok = cutString(rest[1:])
	return name, v, rest, ok
}

func cutString(s string) (head, rest string, ok bool) {
	n, used := uvarint(s)
	if used <= 0 || n > uint64(len(s)-used) {
		return "", "", false
	}
	return s[used : used+int(n)], s[used+int(n):], true
}

// uvarint is binary.Uvarint over a string.
func uvarint(s string) (uint64, int) {
	var x uint64
	var shift uint
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		c := s[i]
		if c < 0x80 {
			if i == binary.MaxVarintLen64-1 && c > 1 {
				return 0, -1
			}
			return x | uint64(c)<<shift, i + 1
		}
		x |= uint64(c&0x7f) << shift
		shift += 7
	}
	return 0, 0
}
