package lint

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/rules"
)

// TestShippedModels: what ships gives no finding.
func TestShippedModels(t *testing.T) {
	var names []string
	stages := map[string][]string{}
	for _, file := range rules.Names() {
		text, _ := rules.Text(file)
		name, list := lifecycle.Outline(text)
		names = append(names, name)
		stages[name] = list
	}
	if len(names) == 0 {
		t.Fatal("no models")
	}
	for _, name := range rules.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, _ := rules.Text(name)
			m, err := lifecycle.Compile(name+".yaml", text, lifecycle.Env{Models: names, Stages: stages})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range Check(m, text, Options{Retention: config.Default().Retention.Kinds, Stages: stages}) {
				t.Errorf("%s:%d:%d: %s: %s: %s (%s)", f.File, f.Line, f.Column, f.Check, f.Path, f.Message, f.Suggestion)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the expected findings from what comes out; review them like code")

// TestFaults: each faulty model gives exactly the findings beside it.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("%d faulty models, want at least 20", len(files))
	}
	found := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := lifecycle.Compile(filepath.Base(file), text, lifecycle.Env{})
		if err != nil {
			t.Errorf("%s does not compile: %v", file, err)
			continue
		}
		var b strings.Builder
		for _, f := range Check(m, text, Options{Retention: config.Default().Retention.Kinds}) {
			found[f.Check] = true
			fmt.Fprintf(&b, "%d:%d: %s: %s (%s) [%s]\n", f.Line, f.Column, f.Path, f.Message, f.Suggestion, f.Check)
		}
		golden := strings.TrimSuffix(file, ".yaml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() == "" {
			t.Errorf("%s: no finding", file)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	for check := range Checks {
		if !found[check] {
			t.Errorf("no faulty model shows check %s", check)
		}
	}
}

// TestProofsHold makes up models and sends customers through them: no rule that is said to be shadowed, or never to hold, ever wins,
// and below one that is said always to hold none does.
func TestProofsHold(t *testing.T) {
	const seed = 7
	dice := rand.New(rand.NewPCG(seed, 2))
	pick := func(list ...string) string { return list[dice.IntN(len(list))] }
	span := func() string { return pick("days(10)", "days(30)", "hours(48)", "params.quiet") }
	kind := func() string {
		return pick(`"order.paid"`, `"ticket.opened"`, `"service"`, `"any"`, `"page.viewed"`, `"survey.answered"`)
	}
	number := func() string { return pick("0", "1", "2", "3") }
	compare := func() string { return pick(">=", ">", "<", "<=", "==", "!=") }
	var condition func(depth int) string
	condition = func(depth int) string {
		if depth > 0 && dice.IntN(3) > 0 {
			switch dice.IntN(4) {
			case 0:
				return "not (" + condition(depth-1) + ")"
			case 1:
				return "(" + condition(depth-1) + " or " + condition(depth-1) + ")"
			}
			return "(" + condition(depth-1) + " and " + condition(depth-1) + ")"
		}
		switch dice.IntN(11) {
		case 0:
			return fmt.Sprintf("count(%s) %s %s", kind(), compare(), number())
		case 1:
			return fmt.Sprintf("count(%s, %s) %s %s", kind(), span(), compare(), number())
		case 2:
			return fmt.Sprintf("since(%s) %s %s", kind(), compare(), span())
		case 3:
			return fmt.Sprintf("%s(%s)", pick("ever", "never"), kind())
		case 4:
			return fmt.Sprintf("%s(%s, %s)", pick("ever", "never", "within"), kind(), span())
		case 5:
			return fmt.Sprintf("(nps() ?? 5) %s %s", compare(), pick("3", "5", "9"))
		case 6:
			return fmt.Sprintf(`(customer.country ?? "") %s "%s"`, pick("==", "!="), pick("DE", "FR"))
		case 7:
			return `(customer.country ?? "") in ["DE", "AT"]`
		case 8:
			return fmt.Sprintf(`count("order.paid", .age %s %s and .items > %s) %s %s`, compare(), span(), number(), compare(), number())
		case 9:
			return fmt.Sprintf(`%s(tickets, .open and .open_for %s %s)`, pick("any", "none"), compare(), span())
		}
		return pick("busy", `stage == "a"`, `stage in ["b", "c"]`, "stage_age >= days(10)", fmt.Sprintf(`usual_gap("order.paid") %s days(30)`, compare()), fmt.Sprintf(`usual_gap("order.paid") %s days(30)`, compare()))
	}
	proved := 0
	for n := range 600 {
		var b strings.Builder
		b.WriteString("model: m\nparams: {quiet: 20d}\nstages: [{name: a}, {name: b}, {name: c}, {name: d}]\ndefine:\n  busy: " + condition(1) + "\ndecide:\n")
		for _, stage := range []string{"a", "b", "c"} {
			fmt.Fprintf(&b, "  - stage: %s\n    when: >-\n      %s\n", stage, condition(2))
			if dice.IntN(6) == 0 {
				b.WriteString("    from: [b, c]\n")
			}
		}
		b.WriteString("  - otherwise: d\n")
		text := []byte(b.String())
		m, err := lifecycle.Compile("m.yaml", text, lifecycle.Env{})
		if err != nil {
			continue // such as stage asked for in a named condition that reads itself
		}
		l := newLinter(m, text, Options{})
		l.logic()
		var dead []int
		for i, r := range l.rules {
			if r.dead {
				dead = append(dead, i)
			}
		}
		if len(dead) == 0 {
			continue
		}
		proved++
		g := l.generator()
		for range 150 {
			missing := map[int]bool{}
			for _, i := range dead {
				missing[i] = true
			}
			g.customer(missing)
			if len(missing) < len(dead) {
				t.Fatalf("seed %d, model %d: of the rules %v, said never to win, only %v never do\n%s%v", seed, n, dead, missing, text, l.findings)
			}
		}
	}
	if proved < 50 {
		t.Errorf("only %d models have a rule that is proved dead", proved)
	}
	t.Logf("%d models have a rule that is proved dead", proved)
}

// TestImplication: whether a rule is shadowed by the one above it.
func TestImplication(t *testing.T) {
	for _, c := range []struct {
		above, below string
		shadowed     bool
	}{
		{`ever("order.paid")`, `count("order.paid", days(30)) >= 2`, true},
		{`count("order.paid", days(30)) >= 2`, `ever("order.paid")`, false},
		{`since("order.paid") >= days(30)`, `since("order.paid") > days(30)`, true},
		{`since("order.paid") > days(30)`, `since("order.paid") >= days(30)`, false},
		{`since("order.paid") < days(30)`, `within("order.paid", days(30))`, true},
		{`since("order.paid") <= days(30)`, `within("order.paid", days(30))`, true},
		{`within("order.paid", days(30))`, `since("order.paid") <= days(30)`, false},
		{`never("order.paid", days(30))`, `since("order.paid") >= days(31)`, true},
		{`not (since("order.paid") >= days(30))`, `since("order.paid") < days(30)`, true},
		{`since("order.paid") < days(30)`, `not (since("order.paid") >= days(30))`, false}, // she may never have paid
		{`usual_gap("order.paid") < days(30)`, `not (usual_gap("order.paid") >= days(30))`, false},
		{`not (usual_gap("order.paid") >= days(30))`, `usual_gap("order.paid") < days(30)`, true},
		{`ever("service")`, `count("ticket.opened") >= 1`, true},
		{`count("ticket.opened") >= 1`, `ever("service")`, false},
		{`any("order.paid", .items > 2)`, `count("order.paid", .items > 2) >= 3`, true},
		{`ever("order.paid")`, `any("order.paid", .items > 2)`, true},
		{`ever("order.paid")`, `any("order.paid", .refunded)`, false}, // a refunded order is none
		{`ever("order.placed")`, `any("order.placed", .age < days(3) and .items > 2)`, true},
		{`any("order.placed", .age < days(9))`, `any("order.placed", .items > 2 and .age < days(3))`, true},
		{`(nps() ?? 0) >= 7`, `(nps() ?? 0) >= 9`, true},
		{`(nps() ?? 0) >= 9`, `(nps() ?? 10) >= 9`, false},
		{`spent("EUR") >= eur(100)`, `spent("EUR") >= eur(500)`, true},
		{`spent("EUR") >= eur(100)`, `spent("USD") >= usd(500)`, false},
		{`(customer.country ?? "") in ["DE", "AT"]`, `(customer.country ?? "") == "AT"`, true},
		{`(customer.country ?? "") != "DE"`, `(customer.country ?? "") == "AT"`, true},
		{`(customer.country ?? "") != "DE"`, `(customer.country ?? "") in ["DE", "AT"]`, false},
		{`stage == "a" or stage == "b"`, `stage in ["a", "b"]`, true},
		{`any(tickets, .open)`, `count(tickets, .open) >= 2`, true},
		{`ever("order.paid") or ever("form.submitted")`, `ever("form.submitted") and ever("service")`, true},
		{`ever("order.paid") and ever("form.submitted")`, `ever("form.submitted")`, false},
		{`since("order.paid") >= params.long`, `since("order.paid") >= days(200)`, true},
		{`since("order.paid") >= days(200)`, `since("order.paid") >= params.long`, false},
	} {
		text := []byte("model: m\nparams: {long: 180d}\nstages: [{name: a}, {name: b}, {name: c}]\ndecide:\n  - stage: a\n    when: >-\n      " + c.above +
			"\n  - stage: b\n    when: >-\n      " + c.below + "\n  - otherwise: c\n")
		m, err := lifecycle.Compile("m.yaml", text, lifecycle.Env{})
		if err != nil {
			t.Fatal(err)
		}
		l := newLinter(m, text, Options{})
		l.logic()
		if got := l.rules[1].dead; got != c.shadowed {
			t.Errorf("%s above %s: shadowed %v, want %v %v", c.above, c.below, got, c.shadowed, l.findings)
		}
	}
}

// TestHardModels: a model made to be hard is judged in bounded time.
func TestHardModels(t *testing.T) {
	var b strings.Builder
	b.WriteString("model: m\nstages: [{name: a}, {name: b}]\ndecide:\n")
	for i := range 40 {
		var parts []string
		for j := range 25 {
			parts = append(parts, fmt.Sprintf(`(count("order.paid", days(%d)) >= %d or (nps(days(%d)) ?? 0) >= 9)`, 1+(i*7+j)%90, 1+j%5, 1+(i*3+j)%80))
		}
		fmt.Fprintf(&b, "  - stage: %s\n    when: >-\n      %s\n", []string{"a", "b"}[i%2], strings.Join(parts, " and "))
	}
	b.WriteString("  - otherwise: a\n")
	m, err := lifecycle.Compile("m.yaml", []byte(b.String()), lifecycle.Env{})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	Check(m, []byte(b.String()), Options{Customers: 20})
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it takes %s", took)
	}
}
