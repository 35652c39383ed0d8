// Package expression compiles and runs the conditions of models and reactions (LANGUAGE.md).
//
// The syntax and the virtual machine are those of github.com/expr-lang/expr. Between its parser and its compiler
// stands a checker of our own: it knows event kinds with their fields, groups, objects, stages, parameters, money
// and time, reports every mistake of an expression with its place and a suggestion, and rewrites what it understood
// into calls of the functions in run.go.
//
// Evaluating an expression at an instant also tells the next instant at which it could give something else
// though nothing happens in between.
//
// # Design
//
// Why not expr's own checker: it stops at the first mistake, cannot type a predicate by the kind named beside it,
// and lets a pointer that may be nil through to run time. Overriding a builtin such as count breaks count(list,
// predicate) as well, so calls whose first argument is a kind are rewritten instead.
//
// Time. Nothing in an expression gives the present instant itself. What depends on it is one of three:
// a span since an instant (since, .age, .open_for), which can only be compared; a windowed count, of which a comparison
// records when that comparison flips and any other use when the count changes; and lists over a window, which record
// when their oldest entry leaves. Let next be the least of the instants recorded during an evaluation at t. On
// [t, next) every time primitive that was evaluated keeps its value, hence the evaluation takes the same path and
// gives the same result. So short-circuiting is safe: a branch that was not evaluated matters only after one that
// was has flipped.
//
// A window of length w holds the entries younger than w: count(kind, w) drops an entry at the very instant at which
// since(kind) >= w turns true. An entry later than the instant of evaluation counts as of age zero.
//
// Clocks. weekday() and hour() show what the clocks of a zone show. A comparison of them records the instant at which its answer
// changes, which is a full hour, a midnight or a change of the clocks; any other use records when what they show changes.
// business_hours(n) is no duration: how long it is depends on where it begins. So only the time since something compares with
// it, and the comparison records the instant by which that much business time has passed. An hour that the clocks show twice
// counts from the first time, one that they skip begins when they are put forward.
//
// Others. What a rule knows of other customers (customer.referred, customer.companies, shared) are events of the hub's own
// that were told of them; "any" leaves those out, for they are nothing that this customer did. Scores and identifiers are
// given to the facts by whoever evaluates (fact.Known). Program.Needs says what of all this an expression asks for, so that
// models that do not ask cost nothing.
//
// Never. since of something that did not happen, usual_gap of one event, an absent date: these are values of which every comparison is
// false. What else may be missing (nps(), traits, the last entry) has an optional type and does not compile without
// ?? or a check for nil.
package expression
