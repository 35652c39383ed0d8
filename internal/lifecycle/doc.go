// Package lifecycle holds the models that decide a customer's stage and the reactions that follow from it, as
// people write them (LANGUAGE.md).
//
// [Compile] reads a model's file and reports every mistake in it at once, each with its place. [Model.Decide] takes
// one decision at one instant; [Model.Advance] chains the decisions that silence alone brings about.
//
// The package is pure: facts, stages and instants are arguments, results are values. Pins, transitions and
// deliveries are the caller's.
//
// # Design
//
// A decision reads the facts, the stages of other models, and (only in a path-dependent model) the present stage and
// since when it holds. Its result is valid until WakesAt, the least instant that any rule evaluated on the way
// recorded: rules below the one that won do not matter while it wins, and before anything above or in it flips that
// flip is WakesAt.
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
