// The dense pass: weights of all rows in the arithmetic of T, and their sums; then the test whether that was enough.
// Where it was not, the weights of the few heaviest rows are replaced by those of float64 distances, and the test is
// made again: the errors of the others average out. Where those rows dominate the others altogether, the pass is
// repeated without them.
#pragma once

#include <vector>

#include "accuracy.h"
#include "query.h"

namespace interp_fast {

// Fills the outputs of the queries that pass the test, and returns the others. Queries may come, and come back, with
// excluded rows. T: float, double, or Digits.
template <class T>
std::vector<Query> dense_pass(const Data& data, const std::vector<Query>& queries, const Outputs& out,
                              const Accuracy& accuracy, int threads);

}  // namespace interp_fast
