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
// A condition that fails at run time counts as not holding; the error goes to the caller for counting and shows in
// explanations.
package lifecycle
