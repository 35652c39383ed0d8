package lifecycle

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
)

func reactionEnv(t testing.TB) ReactionEnv {
	return ReactionEnv{
		Models: map[string]*Model{"clc": clc(t)},
		Connections: map[string]func(string) bool{
			"crm":  func(a string) bool { return a != "remove_tag" },
			"shop": func(a string) bool { return a == "add_tag" },
		},
	}
}

func TestReaction(t *testing.T) {
	list, err := CompileReactions("r.yaml", []byte(`
reactions:
  - name: win back
    enter: clc.lost
    if: clc.regular and count("order.paid") >= 2 and stages.clc == "lost"
    do:
      - create_task:
          via: crm
          subject: "Win back ${customer.name}"
          note: "${explanation}"
          due: 2d
          key: win-back-${stage}
      - create_task: {via: crm, subject: Call, due: {business_days: 2, at: "17:00", zone: Europe/Berlin}}
      - add_tag: {via: shop, tag: "stage:${stage}"}
      - set_fields: {via: crm, fields: {orders: '${count("order.paid")}', lost: true, score: 3}}
      - create_note: {via: crm, note: gone}
`), reactionEnv(t))
	if err != nil {
		t.Fatal(err)
	}
	r := list[0]
	if model, stage := r.Enters(); model != "clc" || stage != "lost" || r.Name != "win back" {
		t.Errorf("%s.%s %s", model, stage, r.Name)
	}
	named := paid(1)
	named.Traits = []hub.Trait{{Name: "name", Value: "Ada", At: day(1)}}
	stages := map[string]string{"clc": "lost"}
	got, matched, err := r.Actions(facts(t, paid(0), named), stages, "because", day(200))
	if err != nil || !matched {
		t.Fatal(matched, err)
	}
	want := []Planned{
		{Step: 0, Via: "crm", Key: "win-back-lost", Action: hub.Action{Name: "create_task", Params: map[string]any{
			"subject": "Win back Ada", "note": "because", "due": map[string]any{"days": 2.0},
		}}},
		{Step: 1, Via: "crm", Action: hub.Action{Name: "create_task", Params: map[string]any{
			"subject": "Call", "due": map[string]any{"business_days": 2.0, "at": "17:00", "zone": "Europe/Berlin"},
		}}},
		{Step: 2, Via: "shop", Action: hub.Action{Name: "add_tag", Params: map[string]any{"tag": "stage:lost"}}},
		{Step: 3, Via: "crm", Action: hub.Action{Name: "set_fields", Params: map[string]any{
			"fields": map[string]any{"orders": "2", "lost": true, "score": 3.0},
		}}},
		{Step: 4, Via: "crm", Action: hub.Action{Name: "create_note", Params: map[string]any{"text": "gone"}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, matched, _ := r.Actions(facts(t, paid(0)), stages, "", day(200)); matched {
		t.Error("matched with one order")
	}
}

func TestReactionProblems(t *testing.T) {
	_, err := CompileReactions("r.yaml", []byte(`reactions:
  - name: a
    enter: clc.lots
    wait: {for: 14d}
    do:
      - create_task: {via: crn, subject: "Hi ${customer.nmae}", sumject: x}
      - create_tsk: {via: crm}
      - notify: {via: slack, text: x}
      - add_tag: {via: shop}
      - remove_tag: {via: crm, tag: x}
        as: y
  - name: a
    event: order.paid
    if: count("order.piad") > 1
    do: []
  - enter: ccl.lost
    do:
      - create_note: {via: crm, text: "${x"}
      - create_task: {via: crm, subject: x, assign: {to: owner}, due: soon}
`), reactionEnv(t))
	var got []string
	for _, p := range Problems(err) {
		got = append(got, p.Error())
	}
	want := []string{
		`r.yaml:3:12: reactions[0].enter: unknown stage of clc lots (did you mean lost?)`,
		`r.yaml:4:11: reactions[0].wait: wait is not supported yet`,
		`r.yaml:6:28: reactions[0].do[0].create_task.via: unknown connection crn (did you mean crm?)`,
		`r.yaml:6:57: reactions[0].do[0].create_task.subject: unknown field of customer: nmae (did you mean name?)`,
		`r.yaml:6:65: reactions[0].do[0].create_task: unknown key sumject (did you mean subject?)`,
		`r.yaml:7:9: reactions[0].do[1]: unknown action create_tsk (did you mean create_task?)`,
		`r.yaml:8:9: reactions[0].do[2]: notify is not supported yet`,
		`r.yaml:9:9: reactions[0].do[3].add_tag: tag is missing (tag: the tag)`,
		"r.yaml:10:27: reactions[0].do[4].remove_tag.via: crm cannot remove_tag (`stagewire connectors` shows who can)",
		`r.yaml:11:9: reactions[0].do[4]: as is not supported yet`,
		`r.yaml:12:5: reactions[1].name: reaction "a" is there twice`,
		`r.yaml:12:5: reactions[1]: do is missing: a list of actions (do:, and below it an action: - create_task: {via: crm, subject: …})`,
		`r.yaml:13:12: reactions[1].event: event is not supported yet`,
		`r.yaml:14:15: reactions[1].if: unknown event kind order.piad (did you mean order.paid?)`,
		`r.yaml:16:5: reactions[2]: a reaction needs a name (write name: and a few words)`,
		`r.yaml:16:12: reactions[2].enter: unknown model ccl (did you mean clc?)`,
		`r.yaml:18:40: reactions[2].do[0].create_note.text: ${ is not closed (write ${customer.name})`,
		`r.yaml:19:53: reactions[2].do[1].create_task.assign: assign is not supported yet`,
		`r.yaml:19:71: reactions[2].do[1].create_task.due: "soon" is not a duration (write 90d, 12h, 30m)`,
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
