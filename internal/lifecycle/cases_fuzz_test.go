package lifecycle

import "testing"

// FuzzTests reads and runs whatever stands below tests: of a model. What is accepted must run, and give the same result twice.
func FuzzTests(f *testing.F) {
	for _, seed := range []string{
		`
  - name: n
    events: [{at: 2026-01-01, kind: order.paid, times: 3, every: 1d, late: 2h, traits: {plan: gold}, expect: {stage: new, because: x}}]
    expect: [{at: +1d -1ms, from: a, to: lost, wakes_at: never, next: {at: +1d, to: vip}, clauses: {frequent: true}, nearest: "vip: "}]
    walk: [start]
    transitions: [{at: +1d, from: start, to: new, because: [a, b]}]
    until: +40d`,
		`
  - {name: n, start: 2026-01-01, params: {often: 1}, traits: {tags: [a]}, stages: {other: [{stage: low}, {at: +1d, stage: top}]},
     scores: [{active: 0.5}, {at: +1d, value: 3 EUR, recency: 2}], identifiers: {email: a}, pins: [{at: +1d, stage: vip, until: +2d}, {at: +2d, release: true}], walk: [start]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Compile("f.yaml", append([]byte(ladder), text...), ladderEnv)
		if err != nil {
			if len(Problems(err)) == 0 {
				t.Fatalf("an error without problems: %v", err)
			}
			return
		}
		for i := range m.Tests {
			if x := &m.Tests[i]; len(x.Events) > 200 {
				return
			}
		}
		first, second := RunTests(m), RunTests(m)
		for i := range first {
			if len(first[i].Failures) != len(second[i].Failures) || len(first[i].Failures) != len(first[i].Details) {
				t.Fatalf("%+v\n%+v", first[i], second[i])
			}
		}
	})
}
