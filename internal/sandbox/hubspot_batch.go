package sandbox

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// batch works on at most 100 inputs. Reads and upserts answer 207 where some inputs fail; a create or update with a bad input
// answers 207 only where every input has a trace id, else fails as a whole.
func (v *hubspot) batch(r *request, t *hubType, verb string, notFound response) response {
	if !slices.Contains([]string{"read", "create", "update", "upsert", "archive"}, verb) {
		return notFound
	}
	var in struct {
		Properties            []string   `json:"properties"`
		PropertiesWithHistory []string   `json:"propertiesWithHistory"`
		IDProperty            string     `json:"idProperty"`
		Inputs                []hubInput `json:"inputs"`
	}
	if err := decode(r, &in); err != nil {
		return v.invalid("Invalid input JSON: " + err.Error())
	}
	if len(in.Inputs) == 0 || len(in.Inputs) > 100 {
		return v.invalid(fmt.Sprintf("A batch takes 1 to 100 inputs, not %d", len(in.Inputs)))
	}
	seen := map[string]bool{}
	traced := true
	for _, input := range in.Inputs {
		if input.ID != "" && seen[input.ID] {
			return v.invalid("Duplicate IDs found in batch input: [" + input.ID + "]. IDs must be unique")
		}
		seen[input.ID] = true
		traced = traced && input.Trace != ""
		if verb != "create" && input.ID == "" {
			return v.invalid("Invalid input: id is required")
		}
	}
	results, errs := []any{}, []any{}
	if verb == "create" && !traced { // all or nothing
		for _, input := range in.Inputs {
			if _, problem := v.validate(t, input.Properties, nil); problem != nil {
				return *problem
			}
		}
	}
	for _, input := range in.Inputs {
		result, res := v.batchOne(t, verb, in.IDProperty, in.Properties, input, r.business)
		if res == nil {
			if result != nil {
				results = append(results, result)
			}
			continue
		}
		var e map[string]any
		_ = json.Unmarshal(res.body, &e)
		delete(e, "correlationId")
		context := map[string]any{}
		if input.Trace != "" {
			context["objectWriteTraceId"] = []any{input.Trace}
		}
		if verb == "read" {
			e["message"], context["ids"] = "Could not get some "+strings.ToUpper(t.name)+" objects, they may be deleted or not exist. Check that ids are valid.", []any{input.ID}
		}
		e["context"] = context
		errs = append(errs, e)
	}
	status := http.StatusOK
	body := map[string]any{"status": "COMPLETE", "results": results, "startedAt": hubTime(r.wire), "completedAt": hubTime(r.wire)}
	if verb == "create" {
		status = http.StatusCreated
	}
	if verb == "archive" {
		return response{status: http.StatusNoContent}
	}
	if len(errs) > 0 {
		status = http.StatusMultiStatus
		body["numErrors"], body["errors"] = len(errs), errs
	}
	return answer(status, body)
}

func (v *hubspot) batchOne(t *hubType, verb, idProperty string, properties []string, in hubInput, at time.Time) (map[string]any, *response) {
	by := orText(in.IDProperty, idProperty)
	switch verb {
	case "create":
		rec, res := v.createInput(t, in, at)
		if res != nil {
			return nil, res
		}
		return v.json(t, rec, nil, nil), nil
	case "upsert":
		if by == "" {
			res := v.invalid("idProperty is required")
			return nil, &res
		}
		rec, _ := v.lookup(t, in.ID, by)
		if rec == nil {
			if p := t.properties[by]; p == nil || !p.unique {
				res := v.invalid(by + " is not a unique property")
				return nil, &res
			}
			if in.Properties == nil {
				in.Properties = map[string]any{}
			}
			in.Properties[by] = in.ID
			rec, res := v.createInput(t, in, at)
			if res != nil {
				return nil, res
			}
			out := v.json(t, rec, nil, nil)
			out["new"] = true
			return out, nil
		}
		props, res := v.validate(t, in.Properties, rec)
		if res != nil {
			return nil, res
		}
		v.write(t, rec, props, v.app(), at, true)
		out := v.json(t, rec, nil, nil)
		out["new"] = false
		return out, nil
	}
	rec, res := v.lookup(t, in.ID, by)
	if verb == "archive" {
		if rec != nil {
			v.archive(t, rec, v.app(), at)
		}
		return nil, nil
	}
	if res != nil {
		return nil, res
	}
	if verb == "update" {
		props, res := v.validate(t, in.Properties, rec)
		if res != nil {
			return nil, res
		}
		v.write(t, rec, props, v.app(), at, true)
		return v.json(t, rec, nil, nil), nil
	}
	if properties == nil {
		properties = []string{}
	}
	return v.json(t, rec, properties, nil), nil
}

// search sees writes after the lag.
func (v *hubspot) search(r *request, t *hubType) response {
	var in struct {
		FilterGroups []struct {
			Filters []struct {
				PropertyName string   `json:"propertyName"`
				Operator     string   `json:"operator"`
				Value        string   `json:"value"`
				Values       []string `json:"values"`
			} `json:"filters"`
		} `json:"filterGroups"`
		Sorts      []any    `json:"sorts"`
		Query      string   `json:"query"`
		Properties []string `json:"properties"`
		Limit      int      `json:"limit"`
		After      any      `json:"after"`
	}
	if err := decode(r, &in); err != nil {
		return v.invalid("Invalid input JSON: " + err.Error())
	}
	if in.Limit == 0 {
		in.Limit = 10
	}
	if in.Limit < 0 || in.Limit > 200 || len(in.FilterGroups) > 5 {
		return v.invalid("limit must be 1 to 200, filterGroups at most 5")
	}
	for _, g := range in.FilterGroups {
		for _, f := range g.Filters {
			if t.properties[f.PropertyName] == nil {
				return v.fail(http.StatusBadRequest, "VALIDATION_ERROR", "There was a problem with the request: property "+f.PropertyName+" does not exist")
			}
			if !slices.Contains([]string{"EQ", "NEQ", "IN", "HAS_PROPERTY", "NOT_HAS_PROPERTY", "GT", "GTE", "LT", "LTE", "CONTAINS_TOKEN"}, f.Operator) {
				return v.invalid("Invalid operator " + f.Operator)
			}
		}
	}
	ids := t.searchable.find(r.wire, v.knobs[HubSpot].searchLag(), func(fields map[string]string) bool {
		if in.Query != "" && !slices.ContainsFunc(slices.Collect(maps.Values(fields)), func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(in.Query)) }) {
			return false
		}
		return len(in.FilterGroups) == 0 || slices.ContainsFunc(in.FilterGroups, func(g struct {
			Filters []struct {
				PropertyName string   `json:"propertyName"`
				Operator     string   `json:"operator"`
				Value        string   `json:"value"`
				Values       []string `json:"values"`
			} `json:"filters"`
		},
		) bool {
			for _, f := range g.Filters {
				if !hubMatch(t.properties[f.PropertyName], fields[f.PropertyName], f.Operator, f.Value, f.Values) {
					return false
				}
			}
			return true
		})
	})
	start, _ := strconv.Atoi(fmt.Sprint(in.After))
	results := []any{}
	for i, id := range ids {
		n, _ := strconv.ParseInt(id, 10, 64)
		if rec := t.records[n]; rec != nil && !rec.archived && i >= start && len(results) < in.Limit {
			results = append(results, v.json(t, rec, in.Properties, nil))
		}
	}
	body := map[string]any{"total": len(ids), "results": results}
	if start+in.Limit < len(ids) {
		body["paging"] = map[string]any{"next": map[string]any{"after": strconv.Itoa(start + in.Limit)}}
	}
	return answer(http.StatusOK, body)
}

func hubMatch(p *hubProperty, have, operator, want string, values []string) bool {
	if p.typ == "datetime" && want != "" {
		want = normalTime(want)
	}
	compare := strings.Compare(have, want)
	if p.typ == "number" {
		a, _ := strconv.ParseFloat(have, 64)
		b, _ := strconv.ParseFloat(want, 64)
		compare = int(a*1000) - int(b*1000)
	}
	switch operator {
	case "EQ":
		return strings.EqualFold(have, want)
	case "NEQ":
		return !strings.EqualFold(have, want)
	case "IN":
		return slices.ContainsFunc(values, func(s string) bool { return strings.EqualFold(have, s) })
	case "HAS_PROPERTY":
		return have != ""
	case "NOT_HAS_PROPERTY":
		return have == ""
	case "CONTAINS_TOKEN":
		return strings.Contains(strings.ToLower(have), strings.ToLower(strings.Trim(want, "*")))
	case "GT":
		return have != "" && compare > 0
	case "GTE":
		return have != "" && compare >= 0
	case "LT":
		return have != "" && compare < 0
	}
	return have != "" && compare <= 0
}
