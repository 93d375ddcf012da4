// Equal rows. Filters look at one of them and list them all: copies of the heaviest row are then no reason to look at
// fewer others, nor are lists longer for them.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace interp_fast {

struct Copies {
  int64_t distinct = 0;       // rows of non-zero weight, equal ones as one
  std::vector<char> later;    // (n,): equal to a row of no less weight that stands for it; empty: there are none
  std::vector<int64_t> next;  // (n,): the next row that the same one stands for, or -1

  bool any() const { return !later.empty(); }
};

// Equal to the byte; n2 has to be equal for equal rows.
Copies find_copies(const Rows& rows, const double* log_w, const std::vector<double>& n2);

}  // namespace interp_fast
