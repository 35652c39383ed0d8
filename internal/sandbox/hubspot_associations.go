package sandbox

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// typeOf finds an object type by its plural, its singular or its id.
func (v *hubspot) typeOf(name string) *hubType {
	for _, t := range v.types {
		if t.name == name || singular[t.name] == name || t.id == name {
			return t
		}
	}
	return nil
}

// labels are the association types from one object type to another, as version 4 shows them.
func labels(from, to *hubType) []any {
	return []any{map[string]any{"category": "HUBSPOT_DEFINED", "typeId": associationTypes[[2]string{from.name, to.name}], "label": nil}}
}

// associations answers the association endpoints of versions 3 and 4, below /crm: reading in batches and singly, and the
// default association of two records.
func (v *hubspot) associations(r *request, p []string) (response, bool) {
	switch {
	// POST v3|v4/associations/{from}/{to}/batch/read
	case len(p) == 6 && p[1] == "associations" && p[4] == "batch" && p[5] == "read" && r.method == http.MethodPost:
		from, to := v.typeOf(p[2]), v.typeOf(p[3])
		var in struct {
			Inputs []struct {
				ID    string `json:"id"`
				After string `json:"after"`
			} `json:"inputs"`
		}
		if err := decode(r, &in); err != nil || from == nil || to == nil {
			return v.invalid("Invalid input JSON or object type"), true
		}
		if len(in.Inputs) == 0 || len(in.Inputs) > 1000 {
			return v.invalid("A batch takes 1 to 1000 inputs"), true
		}
		results, errs := []any{}, []any{}
		for _, input := range in.Inputs {
			rec, _ := v.lookup(from, input.ID, "")
			if rec == nil || len(rec.assoc[to.name]) == 0 {
				errs = append(errs, map[string]any{
					"status": "error", "category": "OBJECT_NOT_FOUND", "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
					"message": "No " + singular[to.name] + " is associated with " + singular[from.name] + " " + input.ID + ".", "context": map[string]any{"fromObjectId": []any{input.ID}},
				})
				continue
			}
			list := []any{}
			for _, id := range rec.assoc[to.name] {
				if p[0] == "v3" {
					list = append(list, map[string]any{"id": strconv.FormatInt(id, 10), "type": singular[from.name] + "_to_" + singular[to.name]})
				} else {
					list = append(list, map[string]any{"toObjectId": id, "associationTypes": labels(from, to)})
				}
			}
			results = append(results, map[string]any{"from": map[string]any{"id": input.ID}, "to": list})
		}
		body := map[string]any{"status": "COMPLETE", "results": results, "startedAt": hubTime(r.wire), "completedAt": hubTime(r.wire)}
		status := http.StatusOK
		if len(errs) > 0 {
			status = http.StatusMultiStatus
			body["numErrors"], body["errors"] = len(errs), errs
		}
		return answer(status, body), true
	// GET v3|v4/objects/{from}/{id}/associations/{to}
	case len(p) == 6 && p[1] == "objects" && p[4] == "associations" && r.method == http.MethodGet:
		from, to := v.typeOf(p[2]), v.typeOf(p[5])
		if from == nil || to == nil {
			return v.invalid("Unable to infer object type"), true
		}
		rec, res := v.lookup(from, p[3], "")
		if res != nil {
			return *res, true
		}
		list := []any{}
		for _, id := range rec.assoc[to.name] {
			if p[0] == "v3" {
				list = append(list, map[string]any{"id": strconv.FormatInt(id, 10), "type": singular[from.name] + "_to_" + singular[to.name]})
			} else {
				list = append(list, map[string]any{"toObjectId": id, "associationTypes": labels(from, to)})
			}
		}
		return answer(http.StatusOK, map[string]any{"results": list}), true
	// PUT v4/objects/{from}/{id}/associations/default/{to}/{toId}
	case len(p) == 8 && p[0] == "v4" && p[1] == "objects" && p[4] == "associations" && p[5] == "default" && r.method == http.MethodPut:
		from, to := v.typeOf(p[2]), v.typeOf(p[6])
		if from == nil || to == nil {
			return v.invalid("Unable to infer object type"), true
		}
		a, res := v.lookup(from, p[3], "")
		if res != nil {
			return *res, true
		}
		b, res := v.lookup(to, p[7], "")
		if res != nil {
			return *res, true
		}
		fresh := !slices.Contains(a.assoc[to.name], b.id)
		v.associate(from, a, to, b)
		if fresh {
			kind := strings.ToUpper(singular[from.name] + "_TO_" + singular[to.name])
			v.emit(from, "associationChange", a.id, v.app(), map[string]any{
				"associationType": kind, "fromObjectId": a.id, "toObjectId": b.id, "associationRemoved": false,
				"isPrimaryAssociation": false,
			}, r.business)
		}
		return answer(http.StatusOK, map[string]any{"status": "COMPLETE", "results": []any{map[string]any{
			"from": map[string]any{"id": p[3]}, "to": map[string]any{"id": p[7]},
			"associationSpec": map[string]any{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": associationTypes[[2]string{from.name, to.name}]},
		}}}), true
	}
	return response{}, false
}
