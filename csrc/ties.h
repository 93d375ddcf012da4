// Ties of far rows. A logit carries roundings of its whole exponent |x - alpha x_i|^2 / 2 S: next to nothing where rows
// are near, and more than is promised where a query at little noise is as far from one row as from another. Those few
// differences are then formed anew, with twice the digits or all of them.
#pragma once

#include <cstdint>
#include <vector>

#include "query.h"

namespace interp_fast {

// |x - alpha x_i|^2 - |x - alpha x_first|^2 of some rows i, for the numbers as given: rounded once or so, or such that
// logits are known to 2^-36.
std::vector<double> exact_differences(const Data& data, const Query& query, const std::vector<int64_t>& rows,
                                      int64_t first);

}  // namespace interp_fast
