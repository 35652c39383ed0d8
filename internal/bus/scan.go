package bus

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// scanner walks JSON in memory. It does what a general decoder does at half the cost, because it knows what comes: every
// byte of EVENTS passes through it. Texts must be valid UTF-8 without NUL, which PostgreSQL could not keep.
type scanner struct {
	data    []byte
	at      int
	scratch []byte
}

const maxDepth = 64 // of members that are skipped

var errCutOff = errors.New("cut off")

// peek returns the first byte of what comes next, 0 at the end.
func (s *scanner) peek() byte {
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) expect(c byte) error {
	if got := s.peek(); got != c {
		return s.unexpected(string(c))
	}
	s.at++
	return nil
}

func (s *scanner) unexpected(wanted string) error {
	if s.at >= len(s.data) {
		return errCutOff
	}
	return fmt.Errorf("%q where %s was expected, at byte %d", s.data[s.at], wanted, s.at)
}

// end returns an error unless nothing comes next.
func (s *scanner) end() error {
	if s.peek(); s.at < len(s.data) {
		return fmt.Errorf("data after the end, at byte %d", s.at)
	}
	return nil
}

// more is called after '{' or '[' with first set and after each element: it reports whether another one comes, and takes
// the comma or the closing byte.
func (s *scanner) more(first bool, closing byte) (bool, error) {
	c := s.peek()
	switch {
	case c == closing:
		s.at++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.at++
		return true, nil
	}
	return false, s.unexpected("a comma")
}

// quoted returns the unescaped bytes of the string that comes next, valid until the next call.
func (s *scanner) quoted() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.unexpected("a string")
	}
	start := s.at
	ascii := true
	for i := start + 1; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.at = i + 1
			text := s.data[start+1 : i]
			if !ascii && !utf8.Valid(text) {
				return nil, fmt.Errorf("invalid UTF-8 at byte %d", start)
			}
			return text, nil
		case c == '\\':
			return s.escaped(start, i)
		case c < 0x20:
			return nil, fmt.Errorf("control character in a string, at byte %d", i)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, errCutOff
}

// escaped finishes a string that starts at start and has its first backslash at i.
func (s *scanner) escaped(start, i int) ([]byte, error) {
	for ; i < len(s.data); i++ {
		switch s.data[i] {
		case '\\':
			i++
		case '"':
			s.at = i + 1
			var err error
			if s.scratch, err = jsontext.AppendUnquote(s.scratch[:0], s.data[start:s.at]); err != nil {
				return nil, fmt.Errorf("string at byte %d: %w", start, err)
			}
			if bytes.IndexByte(s.scratch, 0) >= 0 {
				return nil, fmt.Errorf("a text holds NUL, at byte %d", start)
			}
			return s.scratch, nil
		}
	}
	return nil, errCutOff
}

// number returns the bytes of the number that comes next.
func (s *scanner) number() ([]byte, error) {
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		return nil, s.unexpected("a number")
	}
	start := s.at
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
		default:
			return s.data[start:s.at], nil
		}
	}
	return s.data[start:s.at], nil
}

// literal takes exactly word.
func (s *scanner) literal(word string) error {
	if s.peek(); !bytes.HasPrefix(s.data[s.at:], []byte(word)) {
		return s.unexpected(word)
	}
	s.at += len(word)
	return nil
}

func (s *scanner) truth(into *bool) error {
	if s.peek() == 't' {
		*into = true
		return s.literal("true")
	}
	*into = false
	return s.literal("false")
}

// skip passes over the value that comes next.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested too deeply, at byte %d", s.at)
	}
	switch c := s.peek(); c {
	case '"':
		_, err := s.quoted()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	case '{', '[':
		s.at++
		for first := true; ; first = false {
			more, err := s.more(first, c+2) // '}' and ']' lie two after their openings
			if !more || err != nil {
				return err
			}
			if c == '{' {
				if _, err := s.quoted(); err != nil {
					return err
				}
				if err := s.expect(':'); err != nil {
					return err
				}
			}
			if err := s.skip(depth + 1); err != nil {
				return err
			}
		}
	}
	_, err := s.number()
	return err
}

// appendTime appends t, which is UTC and of a year from 0 to 9999, as timeLayout does, several times faster.
func appendTime(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	two := func(n int) { dst = append(dst, byte('0'+n/10), byte('0'+n%10)) }
	two(year / 100)
	two(year % 100)
	dst = append(dst, '-')
	two(int(month))
	dst = append(dst, '-')
	two(day)
	dst = append(dst, 'T')
	two(hour)
	dst = append(dst, ':')
	two(minute)
	dst = append(dst, ':')
	two(second)
	millisecond := t.Nanosecond() / 1e6
	dst = append(dst, '.', byte('0'+millisecond/100))
	two(millisecond % 100)
	return append(dst, 'Z')
}

// parseOurTime reads what appendTime writes; ok is false for anything else.
func parseOurTime(b []byte) (t time.Time, ok bool) {
	if len(b) != len(timeLayout) || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[19] != '.' || b[23] != 'Z' {
		return time.Time{}, false
	}
	ok = true
	digits := func(from, to int) (n int) {
		for _, c := range b[from:to] {
			if c < '0' || c > '9' {
				ok = false
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := digits(0, 4), digits(5, 7), digits(8, 10)
	hour, minute, second, millisecond := digits(11, 13), digits(14, 16), digits(17, 19), digits(20, 23)
	if !ok || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	t = time.Date(year, time.Month(month), day, hour, minute, second, millisecond*1e6, time.UTC)
	return t, t.Day() == day // a 30th of February has moved on
}
