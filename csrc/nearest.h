// The nearest rows.
#pragma once

#include <cstdint>

#include "data.h"

namespace interp_fast {

// Where k rows of each query go, nearest first and the lowest row at ties: arrays of (count, k).
struct Nearest {
  int64_t k;
  int64_t* index;
  double* squared_distance;
};

// By |x - alpha x_i|, for x of (count, d).
void nearest(const Data& data, const double* x, int64_t count, double alpha, const Nearest& out, int threads);

}  // namespace interp_fast
