package connector

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds of a decoded body. A vendor's real bodies stay far below all of them.
const (
	maxDepth  = 64
	maxValues = 200_000
)

// decodeJSON reads one JSON value as expressions see it: objects are map[string]any, lists []any, integers int64,
// other numbers float64, and a number that neither holds exactly keeps its digits as a string. So ids never pass
// through a float64.
//
// What strangers send is made harmless here, once, for both databases: NUL, invalid UTF-8 and lone surrogates become
// U+FFFD; of a name given twice in one object the last value wins; deeper than maxDepth or longer than maxValues is ErrInvalid.
//
// keep, if not nil, names the members worth keeping: others are checked and skipped, which is most of the work saved on a
// large order. The result shares no memory with body. Its objects are lent by lender where there is one.
func decodeJSON(body []byte, keep members, lender *objects) (any, error) {
	d := decoder{s: bytes.TrimPrefix(body, []byte("\uFEFF")), keep: keep, lender: lender}
	open := fields.Get().(*[]field)
	d.open = (*open)[:0]
	v, err := d.value(0, true)
	clear(d.open) // after an error some are left
	if *open = d.open[:0]; cap(*open) <= maxFields {
		fields.Put(open)
	}
	if err != nil {
		return nil, err
	}
	d.space()
	if d.i < len(d.s) {
		return nil, d.fail("text follows the value")
	}
	return v, nil
}

// members are names of members, each under itself.
type members map[string]string

// fields keeps the decoders' lists for reuse.
var fields = sync.Pool{New: func() any { return new([]field) }}

const maxFields = 1024 // of a list that is kept

// noMembers is the object of which nothing was kept, noElements the empty list; nobody writes to decoded values.
var (
	noMembers      = map[string]any{}
	noElements any = []any{}
)

type decoder struct {
	s      []byte
	i      int
	values int
	keep   members
	open   []field // of the objects that are being read, so that each becomes a map of the right size
	lender *objects
	texts  strings.Builder
}

type field struct {
	name  string
	value any
}

func (d *decoder) fail(what string) error {
	return fmt.Errorf("body is not JSON we take: %s at byte %d: %w", what, d.i, hub.ErrInvalid)
}

func (d *decoder) space() {
	for d.i < len(d.s) {
		switch d.s[d.i] {
		case ' ', '\n', '\t', '\r':
			d.i++
		default:
			return
		}
	}
}

// value reads one value; with want false it is checked and thrown away.
func (d *decoder) value(depth int, want bool) (any, error) {
	if want {
		if d.values++; d.values > maxValues {
			return nil, d.fail("more than " + strconv.Itoa(maxValues) + " values")
		}
	}
	d.space()
	if d.i >= len(d.s) {
		return nil, d.fail("it ends early")
	}
	switch c := d.s[d.i]; c {
	case '{':
		return d.object(depth+1, want)
	case '[':
		return d.array(depth+1, want)
	case '"':
		b, err := d.text(want)
		if err != nil || !want {
			return nil, err
		}
		return d.keepText(b), nil
	case 't':
		return true, d.word("true")
	case 'f':
		return false, d.word("false")
	case 'n':
		return nil, d.word("null")
	default:
		return d.number(want)
	}
}

func (d *decoder) word(w string) error {
	if end := d.i + len(w); end > len(d.s) || string(d.s[d.i:end]) != w {
		return d.fail("a word is misspelt")
	}
	d.i += len(w)
	return nil
}

func (d *decoder) object(depth int, want bool) (any, error) {
	if depth > maxDepth {
		return nil, d.fail("nested deeper than " + strconv.Itoa(maxDepth))
	}
	d.i++
	d.space()
	if d.i < len(d.s) && d.s[d.i] == '}' {
		d.i++
		return noMembers, nil
	}
	outer := len(d.open)
	for {
		d.space()
		if d.i >= len(d.s) || d.s[d.i] != '"' {
			return nil, d.fail("a name is missing")
		}
		name, err := d.text(true)
		if err != nil {
			return nil, err
		}
		key, kept := d.member(name, want)
		d.space()
		if d.i >= len(d.s) || d.s[d.i] != ':' {
			return nil, d.fail("a colon is missing")
		}
		d.i++
		v, err := d.value(depth, kept)
		if err != nil {
			return nil, err
		}
		if kept {
			d.open = append(d.open, field{key, v})
		}
		more, err := d.next('}')
		if err != nil {
			return nil, err
		}
		if !more {
			return d.close(outer), nil
		}
	}
}

// member returns the name of a member, and whether that is kept.
func (d *decoder) member(name []byte, want bool) (string, bool) {
	switch {
	case !want:
		return "", false
	case d.keep == nil:
		return d.keepText(name), true
	}
	key, ok := d.keep[string(name)]
	return key, ok
}

// close makes an object of the fields read since outer.
func (d *decoder) close(outer int) any {
	own := d.open[outer:]
	if len(own) == 0 {
		return noMembers
	}
	m := d.lender.make(len(own))
	for _, f := range own {
		m[f.name] = f.value
	}
	clear(own)
	d.open = d.open[:outer]
	return m
}

func (d *decoder) array(depth int, want bool) (any, error) {
	if depth > maxDepth {
		return nil, d.fail("nested deeper than " + strconv.Itoa(maxDepth))
	}
	d.i++
	d.space()
	if d.i < len(d.s) && d.s[d.i] == ']' {
		d.i++
		return noElements, nil
	}
	var list []any
	for {
		v, err := d.value(depth, want)
		if err != nil {
			return nil, err
		}
		if want {
			list = append(list, v)
		}
		more, err := d.next(']')
		if err != nil {
			return nil, err
		}
		switch {
		case more:
		case want:
			return list, nil
		default:
			return nil, nil
		}
	}
}

// next reads what stands between two members: a comma or the end.
func (d *decoder) next(end byte) (more bool, err error) {
	d.space()
	if d.i >= len(d.s) {
		return false, d.fail("it ends early")
	}
	switch d.s[d.i] {
	case ',':
		d.i++
		return true, nil
	case end:
		d.i++
		return false, nil
	}
	return false, d.fail("a comma is missing")
}

// text reads a string; what it returns is valid until the next one is read. The common case, plain ASCII without escapes, is a piece of
// the body itself.
func (d *decoder) text(want bool) ([]byte, error) {
	d.i++
	start := d.i
	d.i = plain(d.s, start)
	if d.i >= len(d.s) {
		return nil, d.fail("a string does not end")
	}
	switch c := d.s[d.i]; {
	case c == '"':
		b := d.s[start:d.i]
		d.i++
		return b, nil
	case c < ' ':
		return nil, d.fail("a control character stands in a string")
	}
	return d.longText(start, want)
}

// What is kept of the texts of a body lies together in pieces of keptTexts bytes: one allocation instead of one for each, and what an
// event keeps for long holds on to little else. A text above longText bytes has memory of its own.
const (
	keptTexts = 512
	longText  = keptTexts / 4
)

// keepText returns b for good.
func (d *decoder) keepText(b []byte) string {
	if len(b) > longText {
		return string(b)
	}
	if d.texts.Cap()-d.texts.Len() < len(b) {
		room := len(d.s) - d.i + len(b)
		if d.keep != nil {
			room = min(room, keptTexts)
		}
		d.texts.Reset() // what was given out of it stays
		d.texts.Grow(room)
	}
	from := d.texts.Len()
	d.texts.Write(b)
	return d.texts.String()[from:]
}

// plain returns where the printable ASCII without quotes and backslashes that starts at i ends. It looks at eight bytes at a time; of the
// bytes that the arithmetic marks, the first is always right (Warren, Hacker's Delight, 6-1).
func plain(s []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quote, escape := w^('"'*ones), w^('\\'*ones)
		if stop := ((quote-ones)&^quote | (escape-ones)&^escape | (w-' '*ones)&^w | w) & tops; stop != 0 {
			return i + bits.TrailingZeros64(stop)/8
		}
	}
	for i < len(s) && s[i] >= ' ' && s[i] < utf8.RuneSelf && s[i] != '"' && s[i] != '\\' {
		i++
	}
	return i
}

func (d *decoder) longText(start int, want bool) ([]byte, error) {
	var b []byte
	if want {
		b = append(make([]byte, 0, d.i-start+32), d.s[start:d.i]...)
	}
	for d.i < len(d.s) {
		c := d.s[d.i]
		switch {
		case c == '"':
			d.i++
			return b, nil
		case c < ' ':
			return nil, d.fail("a control character stands in a string")
		case c == '\\':
			r, err := d.escape()
			if err != nil {
				return nil, err
			}
			if want {
				b = utf8.AppendRune(b, r)
			}
		case c < utf8.RuneSelf:
			if want {
				b = append(b, c)
			}
			d.i++
		default:
			r, n := utf8.DecodeRune(d.s[d.i:]) // invalid bytes give U+FFFD, one each
			if want {
				b = utf8.AppendRune(b, r)
			}
			d.i += n
		}
	}
	return nil, d.fail("a string does not end")
}

// escape reads one escape. NUL and lone surrogates become U+FFFD.
func (d *decoder) escape() (rune, error) {
	d.i++
	if d.i >= len(d.s) {
		return 0, d.fail("a string does not end")
	}
	c := d.s[d.i]
	d.i++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, err := d.hex4()
		if err != nil {
			return 0, err
		}
		if utf16.IsSurrogate(r) {
			back := d.i
			if bytes.HasPrefix(d.s[d.i:], []byte(`\u`)) {
				d.i += 2
				low, err := d.hex4()
				if err != nil {
					return 0, err
				}
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					return pair, nil
				}
				d.i = back // the second is a character of its own
			}
			return utf8.RuneError, nil
		}
		if r == 0 {
			return utf8.RuneError, nil
		}
		return r, nil
	}
	return 0, d.fail("an escape is unknown")
}

func (d *decoder) hex4() (rune, error) {
	if d.i+4 > len(d.s) {
		return 0, d.fail("an escape is cut short")
	}
	n, err := strconv.ParseUint(string(d.s[d.i:d.i+4]), 16, 32)
	if err != nil {
		return 0, d.fail("an escape is not hexadecimal")
	}
	d.i += 4
	return rune(n), nil
}

func (d *decoder) number(want bool) (any, error) {
	start := d.i
	digits := func() bool {
		from := d.i
		for d.i < len(d.s) && d.s[d.i] >= '0' && d.s[d.i] <= '9' {
			d.i++
		}
		return d.i > from
	}
	if d.s[d.i] == '-' {
		d.i++
	}
	first := d.i
	if !digits() {
		return nil, d.fail("a value is missing")
	}
	if d.s[first] == '0' && d.i > first+1 {
		return nil, d.fail("a number starts with zero")
	}
	whole := true
	if d.i < len(d.s) && d.s[d.i] == '.' {
		whole = false
		d.i++
		if !digits() {
			return nil, d.fail("a number ends with its point")
		}
	}
	if d.i < len(d.s) && (d.s[d.i] == 'e' || d.s[d.i] == 'E') {
		whole = false
		d.i++
		if d.i < len(d.s) && (d.s[d.i] == '+' || d.s[d.i] == '-') {
			d.i++
		}
		if !digits() {
			return nil, d.fail("a number ends with its exponent")
		}
	}
	if !want {
		return nil, nil
	}
	digitsOf := d.s[start:d.i]
	if n, ok := exactNumber(string(digitsOf), whole); ok {
		return n, nil
	}
	return d.keepText(digitsOf), nil
}

// exactNumber returns int64 or float64 where it holds the digits exactly.
func exactNumber(text string, whole bool) (any, bool) {
	if whole {
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, false
	}
	significant := 0
	for i := range len(text) {
		if c := text[i]; c == 'e' || c == 'E' {
			break
		} else if c >= '0' && c <= '9' && (significant > 0 || c != '0') {
			significant++
		}
	}
	return f, significant <= 15
}

// cleanText makes text from outside the body (headers, forms, queries) as harmless as decodeJSON does.
func cleanText(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cutText returns at most limit bytes of s, ending at a character's end.
func cutText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return strings.Clone(s[:limit]) // do not hold on to a megabyte for its first page
}
