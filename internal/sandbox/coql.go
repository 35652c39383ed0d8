package sandbox

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
)

// coqlQuery is the subset of Zoho's query language that looking up a record needs:
//
//	select f, f from Module where Field = 'x' [and Field = 'y'] [order by Field [asc|desc]] limit n
var (
	coqlQuery = regexp.MustCompile(`(?is)^\s*select\s+(.+?)\s+from\s+(\w+)\s+where\s+(.+?)(?:\s+order\s+by\s+(\w+)(?:\s+(asc|desc))?)?(?:\s+limit\s+(\d+)(?:\s*,\s*(\d+))?)?\s*$`)
	coqlTerm  = regexp.MustCompile(`(?is)^\s*\(?\s*([\w.]+)\s*(=|!=|>=|<=|>|<|in|is not null|is null)\s*(\(.*\)|'(?:[^'\\]|\\.)*'|[\w.:+-]*)\s*\)?\s*$`)
	coqlAnd   = regexp.MustCompile(`(?i)\s+and\s+`)
)

// coql reads records consistently: no index, no lag.
func (v *zoho) coql(r *request) response {
	var in struct {
		Query string `json:"select_query"`
	}
	if err := json.Unmarshal(r.body, &in, json.RejectUnknownMembers(true)); err != nil || in.Query == "" {
		return zohoError(http.StatusBadRequest, "MANDATORY_NOT_FOUND", "required field not found", map[string]any{"api_name": "select_query", "json_path": "$.select_query"})
	}
	q := coqlQuery.FindStringSubmatch(in.Query)
	if q == nil {
		return zohoError(http.StatusBadRequest, "SYNTAX_ERROR", "error occured while parsing the query", map[string]any{"near": strings.SplitN(in.Query, " ", 2)[0]})
	}
	m := v.modules[q[2]]
	if m == nil {
		return zohoError(http.StatusBadRequest, "INVALID_QUERY", "invalid module name given", map[string]any{"module": q[2]})
	}
	invalid := func(field string) response {
		return zohoError(http.StatusBadRequest, "INVALID_QUERY", "column given seems to be invalid", map[string]any{"column_name": field})
	}
	fields := csv([]string{q[1]})
	if len(fields) > 50 {
		return zohoError(http.StatusBadRequest, "LIMIT_EXCEEDED", "select column limit exceeded", map[string]any{"limit": 50})
	}
	for _, f := range fields {
		if m.fields[f] == nil {
			return invalid(f)
		}
	}
	type term struct{ field, operator, value string }
	var terms []term
	for _, part := range coqlAnd.Split(q[3], -1) {
		t := coqlTerm.FindStringSubmatch(part)
		if t == nil {
			return zohoError(http.StatusBadRequest, "SYNTAX_ERROR", "error occured while parsing the query", map[string]any{"near": part})
		}
		if m.fields[strings.TrimSuffix(t[1], ".id")] == nil {
			return invalid(t[1])
		}
		terms = append(terms, term{t[1], strings.ToLower(t[2]), t[3]})
	}
	limit, offset := 200, 0
	if q[6] != "" {
		limit, _ = strconv.Atoi(q[6])
	}
	if q[7] != "" { // limit offset, count
		offset = limit
		limit, _ = strconv.Atoi(q[7])
	}
	if limit < 1 || limit > 2000 {
		return zohoError(http.StatusBadRequest, "LIMIT_EXCEEDED", "limit must be 1 to 2000", map[string]any{"limit": 2000})
	}
	var found []map[string]any
	for _, id := range m.order {
		rec := m.records[id]
		if rec.deleted || rec.converted {
			continue
		}
		row := rec.json(m, nil)
		if !slices.ContainsFunc(terms, func(t term) bool { return !coqlHolds(row, t.field, t.operator, t.value) }) {
			out := map[string]any{"id": rec.id}
			for _, f := range fields {
				out[f] = row[f]
			}
			found = append(found, out)
		}
	}
	if q[4] != "" {
		if m.fields[q[4]] == nil {
			return invalid(q[4])
		}
		slices.SortStableFunc(found, func(a, b map[string]any) int {
			c := strings.Compare(fmt.Sprint(a[q[4]]), fmt.Sprint(b[q[4]]))
			if strings.EqualFold(q[5], "desc") {
				return -c
			}
			return c
		})
	}
	start := min(offset, len(found))
	end := min(start+limit, len(found))
	if start == end {
		return zohoNone
	}
	return answer(http.StatusOK, map[string]any{"data": found[start:end], "info": map[string]any{"count": end - start, "more_records": end < len(found)}})
}

func coqlHolds(row map[string]any, field, operator, literal string) bool {
	value := row[strings.TrimSuffix(field, ".id")]
	if object, ok := value.(map[string]any); ok {
		value = object["id"] // a lookup compares by its id, said or not
	}
	have := ""
	if value != nil {
		have = fmt.Sprint(value)
	}
	unquote := func(s string) string {
		s = strings.TrimSpace(s)
		if strings.HasPrefix(s, "'") {
			s = strings.ReplaceAll(strings.Trim(s, "'"), `\'`, "'")
		}
		return s
	}
	want := unquote(literal)
	switch operator {
	case "=":
		return value != nil && strings.EqualFold(have, want)
	case "!=":
		return !strings.EqualFold(have, want)
	case "in":
		for item := range strings.SplitSeq(strings.Trim(literal, "()"), ",") {
			if value != nil && strings.EqualFold(have, unquote(item)) {
				return true
			}
		}
		return false
	case "is null":
		return value == nil
	case "is not null":
		return value != nil
	}
	c := strings.Compare(have, want)
	switch operator {
	case ">":
		return value != nil && c > 0
	case ">=":
		return value != nil && c >= 0
	case "<":
		return value != nil && c < 0
	}
	return value != nil && c <= 0
}
