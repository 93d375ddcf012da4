// The side of the queries of dense passes by exact products of bytes; see kernels/digits.cpp.
#pragma once

#include "accuracy.h"
#include "panels.h"

namespace interp_fast {

constexpr int64_t kDigitRows = 4 * kDigitBlock;  // most of a slab, in whose sums float32 counts

// Whether these are the fastest way to sums over the rows: of bytes, or of what is near enough to a grid of them, for
// many queries, where there are tiles. Makes the bytes where it has to look at them.
bool digits_pay(const Data& data, int64_t queries, int threads);

// As fill_panels, with queries, and directions, in digits.
void fill_digit_panels(Panels<double>& panels, const Data& data, const Query* queries, bool directions, int threads);

}  // namespace interp_fast
