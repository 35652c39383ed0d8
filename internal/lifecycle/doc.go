// Package lifecycle holds the models that decide a customer's stage and the reactions that follow from it, as
// people write them (LANGUAGE.md).
//
// [Compile] reads a model's file and reports every mistake in it at once, each with its place. [Model.Decide] takes
// one decision at one instant; [Model.Advance] chains the decisions that silence alone brings about.
//
// The package is pure: facts, stages and instants are arguments, results are values. Pins, transitions and
// deliveries are the caller's.
//
// # Tests
//
// A model's file carries tests, which [RunTests] runs: what happens to one customer, and what is expected of the model.
// Their clock is their own, and silence passes by itself.
//
//	tests:
//	  - name: a customer's life
//	    events:
//	      - {at: 2026-01-01T10:00:00Z, kind: order.paid, amount: 40 EUR, expect: new}
//	      - {at: +20d, kind: order.paid, amount: 40 EUR, expect: active}
//	      - {at: +1d, kind: page.viewed, times: 5, every: 12h}
//	    expect:
//	      - {at: +10d, stage: active, next: {at: +169d, to: lost}}
//	      - {at: 2026-07-20T10:00:00Z, from: active, to: lost, because: 180 days}
//	    walk: [prospect, new, active, lost]
//
// An instant is a date, a time, or a span after the line above: +3d, +12h, +179d 23h 59m, +180d -1ms. The first line of
// events counts from start (2026-01-01T00:00:00Z where it is not given), the first of expect and until from the last
// event, the first of transitions, pins and stages from the first event; wakes_at and next count from their own line, a
// pin's until from the pin, a time among an event's properties from the event.
//
// What happens, all optional:
//
//	params: {lost_after: 60d}                 the model's parameters in this test; what a configuration overrides does not count here
//	start: 2026-01-01                         where the clock stands at first
//	traits: {plan: pro, tags: [vip]}          known of the customer from her first event on
//	stages: {m4: decline}                     where she is in another model, throughout
//	stages: {m4: [{stage: acquisition}, {at: +30d, stage: decline}]}
//	scores: {active: 0.8, value: 120 EUR}     throughout; or a list by time, as for stages
//	identifiers: {email: ada@example.com}     what identifies her
//	pins: [{at: +5d, stage: loyal, until: +30d, by: lena, why: promised}, {at: +9d, release: true}]
//	events: [{at, kind, connection, traits, …}]   … are the properties of the kind
//	        times: 5, every: 7d               five of them, a week apart
//	        late: 2d                          it became known only that long after it happened
//	        of another customer: {at, kind: referred.moved, id: ben, model: clc, stage: active}, likewise company.moved
//	        expect: active                    or {stage, because, …}: what is expected right after it and all else of that instant
//	until: +400d                              how long the test looks on: else to the last instant that it names
//
// What is expected, at least one of expect (or expect beside an event), transitions and walk:
//
//	{at, stage: lost}                         the stage at an instant
//	{at, from: active, to: lost}              a move at that very instant; one of both is enough
//	{at, wakes_at: +10d}                      when the model is asked again by silence alone, or never
//	{at, next: {at: +10d, to: lost}}          the next move by silence alone; next: lost, next: never
//	{at, because: text}                       the sentence that says why she is in the stage, or moved, has the text
//	{at, nearest: "active: one more order.paid"}   one of the nearest changes that explain tells
//	{at, clauses: {regular: true}}            what a defined condition, or a part of a condition as it is written, comes to
//	transitions: [{at, from, to, because}]    all moves and no others; only to is needed; [] for none
//	walk: [prospect, new, lost]               the stages passed with the first, and no others
//
// The package modeltest tells what tests leave open: coverage, and whether they notice changes of the model.
//
// # Design
//
// A decision reads the facts, the stages of other models, and (only in a path-dependent model) the present stage and
// since when it holds. Its result is valid until WakesAt, the least instant that any rule evaluated on the way
// recorded: rules below the one that won do not matter while it wins, and before anything above or in it flips that
// flip is WakesAt.
//
// # Explanations
//
// [Model.Explain] takes every condition apart at and, or, not and named conditions, evaluates each part by itself, and names the
// events that it looked at ([expression.Clause.Looks]). [Model.Why] says in one sentence what made the line hold that decides.
//
// The nearest changes are searched for, not reasoned out: a clause suggests things to change (one more event of a kind it names, with
// the values it asks for; a score, a trait, an amount, a refund; a stage in another model; silence up to where it flips), those that
// make it hold or fail are followed from clause to clause up to the condition, and every change that is told was played on the
// model, event by event, and led to the stage it names. The search is bounded by the events it looks at; what it does not find may
// exist all the same. A change's end ("before …") is found by playing it at the instants at which some clause flips by silence.
//
// A past decision is explained by the version of the model that took it, over the versions of events that were known at its
// sequence; [Model.Recollect] gathers from the recorded moves what a path-dependent model remembered then.
//
// # Path options
//
// A stage's dwell keeps every rule from leading out for that long after Since, but to a stage in yields_to; what was postponed is
// decided anew when it is over. A rule with from is asked only in those stages; terminal closes all others in its stage.
//
// after: the rule wins at an instant t only if its condition held at every instant from t-after through t. The past is what is known
// of it now: the condition is asked at each earlier instant over the facts up to that instant, so an event that is told late and
// breaks the stretch counts, and one that is told late may begin it in the past. Nothing counts before the subject's first
// event. A condition that reads stage, stage_age or stages.x takes them as they were then, from the log in State.Path; before the
// log begins (a model that has just been published) it counts as not holding. The rule is due at the stretch's start + after,
// or when the condition flips by silence, whichever comes first. Which rules are closed by from meanwhile does not matter.
//
// cooldown: while less than that has passed since the rule's stage was last left, however it had been entered, the rule does not lead
// into it and the search goes on; it still confirms a subject who is in the stage. When stages were left is kept in State.Path;
// what a pin moves counts too.
//
// State.Path is versioned and bounded, and nil for all models but those with cooldown or with after on a condition that reads
// stages. It survives a new version of the model as far as that has the same stages.
//
// A condition that fails at run time counts as not holding; the error goes to the caller for counting and shows in
// explanations.
package lifecycle
