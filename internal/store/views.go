package store

// View is one of the SQL views that other programs read: Tableau, Metabase, Excel. Names and columns stay; more may come.
type View struct {
	Name    string       `json:"name"`
	About   string       `json:"about"`
	Columns []ViewColumn `json:"columns"`
}

// ViewColumn is one column of a view. Type is text, integer, timestamp or date, in UTC; SQLite has no types for the last two and gives
// them as text, 2026-03-01T10:00:00.000Z and 2026-03-01. What may be missing is null.
type ViewColumn struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	About string `json:"about"`
}

// Views documents the views of both databases, in the order in which somebody new to them reads them. Personal data is in
// stagewire_customers_personal alone, so that rights can be given to the others.
func Views() []View {
	customer := ViewColumn{"customer_id", "text", "id of the customer; of those who were merged the survivor's"}
	kind := ViewColumn{"subject_kind", "text", "whose stage it is: customer, company or deal"}
	subject := ViewColumn{"subject_id", "text", "id of the customer, company or deal"}
	model := ViewColumn{"model", "text", "name of the model"}
	adopted := ViewColumn{"adopted", "integer", "1: the model found her there when it was published, so that it is not known since when she was"}
	return []View{
		{"stagewire_stage_counts", "How many stand in each stage now.", []ViewColumn{
			model, kind, {"stage", "text", "name of the stage"}, {"customers", "integer", "how many stand in it"},
		}},
		{"stagewire_stages_now", "Who stands where now: one row for each subject and model.", []ViewColumn{
			customer, kind, subject, model,
			{"model_version", "integer", "the model's version that decided"},
			{"stage", "text", "name of the stage"},
			{"since", "timestamp", "when she came into the stage, in business time"},
			{"decided_by", "text", "rule, pin or initial"},
			{"in_model_since", "timestamp", "when she came into the model"},
			adopted,
			{"wakes_at", "timestamp", "when silence alone may change the stage; null for never"},
		}},
		{"stagewire_flow_daily", "How many went from stage to stage on each day, in business time. Of several moves at one instant each counts.", []ViewColumn{
			{"day", "date", "the day"},
			model, kind,
			{"from_stage", "text", "the stage left"},
			{"to_stage", "text", "the stage entered"},
			{"moves", "integer", "how often"},
			{"customers", "integer", "how many different ones"},
		}},
		{"stagewire_stays", "Every stay in a stage. Of several moves at one instant each has a row, those before the last with 0 seconds; `stagewire funnel` counts the last alone.", []ViewColumn{
			customer, kind, subject, model,
			{"stage", "text", "name of the stage"},
			{"entered_at", "timestamp", "begin of the stay, in business time"},
			{"left_at", "timestamp", "its end; null while it lasts"},
			{"next_stage", "text", "where she went; null while it lasts"},
			{"seconds", "integer", "how long it took; null while it lasts"},
			adopted,
			{"at_once", "integer", "1: the first stage, which her first event led her out of at once; leave it out of averages"},
		}},
		{"stagewire_transitions", "Every recorded change of stage.", []ViewColumn{
			{"transition_id", "text", "id, as in callbacks"},
			customer, kind, subject, model,
			{"model_version", "integer", "the model's version that decided"},
			{"from_stage", "text", "the stage left"},
			{"to_stage", "text", "the stage entered"},
			{"at", "timestamp", "when, in business time"},
			{"day", "date", "the day of at"},
			{"decided_at", "timestamp", "when the hub decided it"},
			{"cause", "text", "event, wake, pin, publish, late, merge, …"},
			{"passing", "integer", "1: another change followed in the same go; nobody was told of this one"},
		}},
		{"stagewire_customers", "Living customers and companies, without personal data.", []ViewColumn{
			{"customer_id", "text", "id"},
			{"kind", "text", "customer or company"},
			{"first_event_at", "timestamp", "her first event, in business time"},
			{"created_at", "timestamp", "when the hub first heard of her"},
			{"updated_at", "timestamp", "when the hub last changed anything of hers"},
		}},
		{"stagewire_customers_personal", "Personal data of living customers and companies. Give rights to it with care.", []ViewColumn{
			{"customer_id", "text", "id"}, {"name", "text", "name"}, {"email", "text", "e-mail address"}, {"tags", "text", "JSON list of tags; empty for none"},
		}},
	}
}
