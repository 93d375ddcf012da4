// The side of the queries of dense passes by exact products of bytes; see kernels/digits.cpp.
#pragma once

#include "accuracy.h"
#include "panels.h"

namespace interp_fast {

// Whether these are the fastest way to sums over the rows: of bytes, for many queries, where there are tiles.
bool digits_pay(const Data& data, int64_t queries);

// As fill_panels, with queries, and directions, in digits.
void fill_digit_panels(Panels<double>& panels, const Data& data, const Query* queries, bool directions, int threads);

}  // namespace interp_fast
