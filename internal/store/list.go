package store

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// list builds a filtered, keyset-paged SELECT over one descending integer key: the newest first, and a page costs the same
// however deep it lies.
type list struct {
	text  string
	key   string
	where []string
	args  []any
	limit int
	err   error
}

const (
	defaultLimit = 50
	maxLimit     = 200
)

func pageLimit(p hub.Page) int {
	if p.Limit <= 0 {
		return defaultLimit
	}
	return min(p.Limit, maxLimit)
}

func newList(text, key string, p hub.Page) *list {
	l := &list{text: text, key: key, limit: pageLimit(p)}
	if p.Cursor != "" {
		parts, err := decodeCursor(p.Cursor, 1)
		if err != nil {
			l.err = err
			return l
		}
		before, err := strconv.ParseInt(parts[0], 10, 64)
		if err != nil {
			l.err = errCursor
			return l
		}
		l.and(key+" < ?", before)
	}
	return l
}

// and adds a condition; each ? stands for the next argument.
func (l *list) and(condition string, args ...any) {
	for _, arg := range args {
		l.args = append(l.args, arg)
		condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(l.args)), 1)
	}
	l.where = append(l.where, condition)
}

// equal filters where value is not "".
func (l *list) equal(column, value string) {
	if value != "" {
		l.and(column+" = ?", value)
	}
}

// run calls scan for each row, which appends it and gives its key, and returns the cursor of the next page. One row
// more than the limit may be scanned: the caller cuts it off.
func (l *list) run(ctx context.Context, q querier, scan func(scan func(...any) error, key *int64) error) (string, error) {
	if l.err != nil {
		return "", l.err
	}
	for _, arg := range l.args {
		if s, ok := arg.(string); ok && clean("", s) != nil {
			return "", nil // nothing stored holds such text
		}
	}
	text := l.text
	if len(l.where) > 0 {
		text += " WHERE " + strings.Join(l.where, " AND ")
	}
	text += " ORDER BY " + l.key + " DESC LIMIT " + strconv.Itoa(l.limit+1)
	n, last := 0, int64(0)
	err := each(ctx, q, text, l.args, func(columns func(...any) error) error {
		var key int64
		if err := scan(columns, &key); err != nil {
			return err
		}
		if n++; n <= l.limit {
			last = key
		}
		return nil
	})
	if err != nil || n <= l.limit {
		return "", err
	}
	return encodeCursor(strconv.FormatInt(last, 10)), nil
}

var errCursor = fmt.Errorf("cursor is not one that was given out: %w", hub.ErrInvalid)

func encodeCursor(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "\x1f")))
}

func decodeCursor(cursor string, parts int) ([]string, error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, errCursor
	}
	list := strings.Split(string(text), "\x1f")
	if len(list) != parts || clean("cursor", string(text)) != nil {
		return nil, errCursor
	}
	return list, nil
}

func notFound(what, id string) error {
	return fmt.Errorf("%s %s: %w", what, printable(id), hub.ErrNotFound)
}

func compareText(a, b any) int { return strings.Compare(a.(string), b.(string)) }
