// The dense pass: weights of all rows in the arithmetic of T, and their sums; then the test whether that was enough.
// Where it was not, the weights of the few heaviest rows are replaced by those of float64 distances, and the test is
// made again: the errors of the others average out. Where those rows dominate the others altogether, the pass is
// repeated without them.
#pragma once

#include <vector>

#include "posterior.h"
#include "sums.h"

namespace interp_fast {

// What a dense pass in T has to reach for a result of the promised accuracy.
struct Accuracy {
  double logit;          // rms error of a logit: of log_norm, and small enough that first order is all that matters
  double per_radius;     // error of the mean in units of the rms radius of the data
  double per_deviation;  // and in units of s = sqrt(S) / alpha, which is what the score sees
  double top_weight;     // error of a single weight
  double rest;           // 1 - the largest weight must exceed this where off-weights are summed
  double variance;       // and the variance this share of the second moment that it is a difference of
  double scatter;        // error of the scatter in units of the squared rms radius
};

// rms error of a logit in T from the products of queries with rows.
template <class T>
double logit_error(const Data& data, const Query& query);

// What a logit is off by because the query is displaced: all of them together.
double displaced_logit(const Data& data, const Query& query);

// What the mean may be off by, in normal form.
double allowed(const Data& data, const Query& query, const Accuracy& accuracy);

// Whether the scores of a query may be formed in T at all.
template <class T>
bool summable(const Data& data, const Query& query, const Accuracy& accuracy);

// Fills the outputs of the queries that pass the test, and returns the others. Queries may come, and come back, with
// excluded rows.
template <class T>
std::vector<Query> dense_pass(const Data& data, const std::vector<Query>& queries, const double* u, const Outputs& out,
                              const Accuracy& accuracy, int threads);

}  // namespace interp_fast
