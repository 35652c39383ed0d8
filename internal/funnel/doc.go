// Package funnel counts what models do to customers: how many stand in each stage, now and over time, who went from where to
// where and how long that took, how many of those who came into a stage ever reached another, what became of those who came in the
// same month, and whether each stage meets its own target. It is pure: histories come in, numbers go out. It knows no
// SQL and no clock.
//
// # Design
//
// All is counted in business time, from whole histories (hub.History), in two passes of nothing but additions: Add takes one history
// at a time and keeps durations, Result sorts them once for the medians. A million stays take a few tenths of a second.
//
// The window is half open: From belongs to it, To does not, so that months put side by side count everything once. What
// came into a stage within the window is followed up to At, which may lie later.
//
// Two things are told apart from others, because they would make every median and every share a lie:
//
//   - Whom her first event moves on at once stood in the first stage for no time (hub.Resolution). She is counted as having come
//     and gone (Stage.AtOnce says how many), and in flows, but not in medians, conversions and targets: who arrives as a buyer
//     is no prospect that was won.
//   - Whom a model found when it was published (adopted) did not come into her first stage then. She is not counted as
//     having entered it, and how long she had been there is not in any median.
package funnel
