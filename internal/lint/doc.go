// Package lint finds what compiles and is still not meant: a rule that an earlier one shadows, a stage that nobody leaves, days
// where hours were meant.
//
// [Check] looks at one compiled model and its text. A finding is advice with a place, the name of the check that made it, and what
// to do about it. A comment on the line, or alone on the line above, silences a check there:
//
//	when: since("order.paid") > days(90)     # lint:ignore silence
//
// A comment that names no known check, or silences nothing, is a finding itself.
//
// # Design
//
// Conditions are read as formulas over terms: how many events of a kind are younger than a length of time, a number, a text, true or
// false. since("k") >= d says "there is one, and none is younger than d", so silence and windows are one theory: a longer
// window holds no fewer events than a shorter one, a group no fewer than its kinds. Whether a rule can win at all is then a question
// of intervals: its condition and the negations of all above it, taken apart into alternatives, each of which must be contradictory
// for the rule to be proved shadowed. What the theory does not know is a term of its own, equal only to the same text, so a
// proof never claims too much.
//
// Where nothing is proved, customers made up from the model's own words (its kinds, thresholds, texts and lengths of time) are
// sent through it. A rule that none of them reaches is reported as such, with their number; the dice are fixed.
//
// Values that may be never (a time since what did not happen) keep that possibility through negation: not (x >= d) does not
// say x < d.
package lint
