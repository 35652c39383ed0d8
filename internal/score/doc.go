// Package score holds the purchase and value models: how probable it is that a customer is still active, how many orders
// and how much money to expect of her, and how she stands among all customers by recency, frequency and money (rfm.go).
//
// Purchases follow the BG/NBD model: while active, a customer orders at a rate of her own, and after each repeat order she may
// drop out for good, with a probability of her own. Rates are gamma distributed over the customers, drop-out probabilities
// beta distributed. Spending follows the Gamma-Gamma model: what a customer spends at a time varies about her own mean, and the
// means vary over the customers, whatever their rates. The parameters of both are fitted by maximum likelihood (fit.go); what is
// expected of one customer follows from them and her own history in closed form, so it is computed when it is
// asked for and never stored.
//
// Everything here is pure: it reads no clock, no file and no database.
//
// # Design
//
// Time is in weeks, as in the papers. A history counts purchase occasions, which are days: two orders of one day are one
// occasion, for a parcel that was split says nothing about how often somebody buys. The first order is where the history begins and
// is not counted; nor is its amount, because first orders are known to differ (vouchers) and the papers leave it out too.
//
// In a BG/NBD model nobody drops out before the second order, so the probability of a customer with one order is 1
// for ever. Rules that mean such customers ask since("order.paid").
//
// Without another order all three values only fall as time passes. That is why the instant at which a comparison
// with one of them flips can be found by bisection (silence.go).
//
// # Sources
//
//   - P. Fader, B. Hardie, K. L. Lee, "Counting Your Customers" the Easy Way: An Alternative to the Pareto/NBD Model, Marketing
//     Science 24 (2005) 275-284: likelihood (6), P(X(t)=x) (8), E[X(t)] (9), conditional expectation (10), table 2.
//   - P. Fader, B. Hardie, Computing P(alive) Using the BG/NBD Model, brucehardie.com/notes/021.
//   - P. Fader, B. Hardie, Overcoming the BG/NBD Model's #NUM! Error Problem, brucehardie.com/notes/027: why the sum of
//     the two terms of the likelihood is taken in logarithms.
//   - P. Fader, B. Hardie, The Gamma-Gamma Model of Monetary Value, brucehardie.com/notes/025: likelihood (1a),
//     conditional expectation (5).
//   - M. Abramowitz, I. Stegun, Handbook of Mathematical Functions, 15.1.1 and 15.3.3 for the hypergeometric function.
package score
