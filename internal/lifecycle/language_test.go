package lifecycle

import (
	"os"
	"testing"
	"time"
)

// TestTheModelOfTheLanguage compiles the model that the language is explained with, word for word, and runs its tests.
func TestTheModelOfTheLanguage(t *testing.T) {
	text, err := os.ReadFile("testdata/language/model.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Compile("model.yaml", text, Env{Params: map[string]string{}})
	if err != nil {
		t.Fatal(err)
	}
	results := RunTests(m)
	if len(results) != 1 {
		t.Errorf("%d tests ran", len(results))
	}
	for _, r := range results {
		if len(r.Failures) > 0 {
			t.Errorf("%s: %v", r.Name, r.Failures)
		}
	}
	if path, why := m.PathDependent(); path {
		t.Errorf("it depends on %v", why)
	}
	if s := m.Stage("new"); s == nil || s.Target == nil || s.Target.To != "active" || s.Target.Within != 60*24*time.Hour || s.Target.Share != 0.3 || s.Label("zh") != "新客户" {
		t.Errorf("stage new: %+v", s)
	}
	if s := m.Stage("prospect"); s == nil || s.Asks != "Make first contact worth their time" {
		t.Errorf("stage prospect: %+v", s)
	}
	// The parameters are overridden where the model is used.
	short, err := Compile("model.yaml", text, Env{Params: map[string]string{"lost_after": "60d"}})
	if err != nil {
		t.Fatal(err)
	}
	f := facts(t, paid(0))
	for at, want := range map[time.Time]string{day(60): "lost", day(60).Add(-time.Millisecond): "new"} {
		if st, _ := short.Decide(f, nil, short.Initial(day(-1)), at); st.Stage != want {
			t.Errorf("with lost_after: 60d at %s: %s", at, st.Stage)
		}
	}
}
