// The dense pass: weights of all rows in the arithmetic of T, and their sums; then the test whether that was enough.
// Where it was not, the weights of the few heaviest rows are replaced by those of float64 distances, and the test is
// made again: the errors of the others average out.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "posterior.h"

namespace interp_fast {

constexpr double kLog2e = 1.4426950408889634074;

// What a sum pass in T has to reach for a result of the promised accuracy.
struct Promise {
  double logit;          // rms error of a logit: of log_norm, and small enough that first order is all that matters
  double per_radius;     // error of the mean in units of the rms radius of the data
  double per_deviation;  // and in units of s = sqrt(S) / alpha, which is what the score sees
  double top_weight;     // error of a single weight
  double rest;           // 1 - the largest weight must exceed this where off-weights are summed
  double variance;       // and the variance this share of reach^2, where it is a difference of second moments
  double scatter;        // error of the scatter in units of the squared rms radius
};

// One query's sums over all rows, in normal form; scores in units of log 2.
struct Total {
  double reference, low;  // the score that has weight 1; the best
  double p, p_n2, p_p, p_score;
  std::vector<double> x, u_x;  // sum p X, sum p <u, X> X (u divided by its largest entry)
  double logit;                // rms error of a logit
  double offset;               // the logit where the score is 0
  double spread2 = INFINITY;   // mean square of what was summed, where that is less than |X|^2: differences from x

  double largest() const { return std::exp2(low - reference) / p; }
  double variance() const {
    double mean2 = 0;
    for (double mean : x) mean2 += mean * mean;
    return std::max(0.0, p_n2 / p - mean2 / (p * p));
  }
};

// rms error of a logit in T from the products of queries with rows.
template <class T>
double logit_error(const Data& data, const Query& query);

// What the mean may be off by, in normal form.
double allowed(const Data& data, const Query& query, const Promise& promise);

// Fills the outputs of a query, none of which is about single rows, if sums in T are enough for it.
template <class T>
bool settle(const Data& data, const Query& query, const Total& total, const Outputs& out, const Promise& promise);

// Whether the scores of a query may be formed in T at all.
template <class T>
bool summable(const Data& data, const Query& query, const Promise& promise);

// Fills the outputs of the queries that pass the test, and returns the others.
template <class T>
std::vector<Query> sum_pass(const Data& data, const std::vector<Query>& queries, const double* u, const Outputs& out,
                            const Promise& promise, int threads);

}  // namespace interp_fast
