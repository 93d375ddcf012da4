// A prepared training set.
#pragma once

#include <memory>
#include <vector>

#include "copies.h"
#include "normal_rows.h"
#include "quantized_rows.h"

namespace interp_fast {

// What one pass over the values tells: plain and weighted mean (d,), weighted rms distance to the latter, and about the
// largest distance to the former.
struct Moments {
  const double *center, *mean;
  double radius, reach;
};

struct Data : NormalRows {
  const double* log_w;  // (n,), -inf for weight 0
  double bandwidth;
  std::vector<double> mean;  // weighted
  // In units of `unit`: weighted rms distance to the mean, and the largest |X| of a row of non-zero weight.
  double radius, max_norm;
  // Where rows are longer by far than half of all: what that half is no longer than, and the rms |X| but for a few of
  // the longest; else the same two.
  double common_norm, spread;
  double n2_sum;  // of |X|^2 of the rows of non-zero weight
  double log_w_max, log_w_span;
  int64_t active;    // rows of non-zero weight
  int64_t heaviest;  // one of the largest weight
  // At most so many rows lie so close to each other that roundings of their float32 logits are much the same.
  int64_t clump;
  bool few_numbers;  // most rows have few distinct ones in size: sums of products with queries that do round alike
  Copies copies;
  std::unique_ptr<QuantizedRows> quantized;  // nullptr: not to be kept
};

// One parallel pass over the rows, for their norms. With `low_memory` no copy of the rows is made, now or later.
Data prepare(const Rows& rows, const double* log_w, const Moments& moments, double bandwidth, bool low_memory,
             int threads);

}  // namespace interp_fast
