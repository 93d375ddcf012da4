// Sums over rows of few dimensions: differences in T are cheap there, and exact where queries are close to rows. So one
// pass does at all times, without lists; a second one where a few rows dominate what off-weights are made of. The best
// rows are looked for where the best scores have been seen.
#pragma once

#include <vector>

#include "accuracy.h"
#include "query.h"

namespace interp_fast {

// Fills the outputs of the queries for which these sums are enough, and returns the others. For at most kLowdim
// dimensions.
template <class T>
std::vector<Query> lowdim_pass(const Data& data, const std::vector<Query>& queries, const Outputs& out,
                               const Accuracy& accuracy, int threads);

}  // namespace interp_fast
