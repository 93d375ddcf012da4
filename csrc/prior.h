// Queries whose posterior is the weights of the rows: alpha = 0, or all rows equal.
#pragma once

#include <vector>

#include "query.h"

namespace interp_fast {

// Leaves no rest.
std::vector<Query> answer_prior(const Data& data, const std::vector<Query>& queries, const Outputs& out, int threads);

}  // namespace interp_fast
