// What rounding treats alike, so that its errors do not average out: rows that lie close to each other, and the numbers
// of a row.
#pragma once

#include <cstddef>
#include <cstdint>

#include "normal_rows.h"

namespace interp_fast {

// A bound on the number of rows of non-zero weight any two of which are closer than 2^-20 of the largest |X|.
int64_t largest_clump(const NormalRows& rows, const double* log_w, double max_norm);

// Whether x - alpha center has few distinct numbers in size; and whether most rows of non-zero weight, of a sample, do.
bool few_numbers(const double* x, const double* center, double alpha, ptrdiff_t d);
bool few_numbers(const NormalRows& rows, const double* log_w);

}  // namespace interp_fast
