// Rows that lie so close to each other that rounding treats them alike: errors of their logits do not average out.
#pragma once

#include <cstdint>

#include "normal_rows.h"

namespace interp_fast {

// A bound on the number of rows of non-zero weight any two of which are closer than 2^-20 of the largest |X|.
int64_t largest_clump(const NormalRows& rows, const double* log_w, double max_norm);

}  // namespace interp_fast
