// Package modeltest judges the tests that a model's file carries: what they cover, and whether they would notice if the
// model were another.
//
// [Cover] tells which rules won, which parts of conditions were seen both true and false, and which stages were entered
// and left, and by what. [Check] makes many small changes to the model (mutants), runs the tests on each, and tells two
// things: changes that no test notices, and tests that notice none, which therefore cannot fail. [WriteJUnit] writes
// results in the form that build servers read.
//
// The package is pure and deterministic: one model gives one report, whatever the machine.
//
// # Design
//
// A mutant is the model's file with one place changed and compiled again: what does not compile is none. So a mutant is
// exactly what an author could have written by mistake, and whatever the language learns is covered as soon as it
// compiles.
//
// A change that no test notices may be no change at all: count(…) >= 5 under a rule that asks for count(…) >= 5 already.
// Whether two models are equal cannot be decided, so surviving mutants are compared with the model over generated
// histories, made of the kinds, properties, thresholds and durations that the model itself names, with instants on and
// around those durations. A mutant that behaves equally in all of them is left out of the report and only counted. One
// that does not is reported together with the shortest history found that tells them apart, written as a test.
package modeltest
