// A prepared training set: the rows as given, and what puts them into normal form block by block.
#pragma once

#include <memory>
#include <vector>

#include "buffer.h"
#include "kernels/kernels.h"
#include "quantized_rows.h"

namespace interp_fast {

struct Data {
  Rows rows;
  const double* log_w;  // (n,), -inf for weight 0
  double bandwidth;
  std::vector<double> mean;  // weighted

  // Normal form X = (x - center) / unit = inverse * stored + shift. `inverse` is a power of two, so that the one
  // rounding of X is that of the difference; center is what the rounded shift makes it.
  std::vector<double> center;
  double unit, inverse;
  bool in_float64;  // of float64, or of a size that float32 has no unit for: all work is in float64
  Buffer<float> shift32;
  Buffer<double> shift64;
  double value_error;      // what rounding may move the value of a byte, as a number of X
  std::vector<double> n2;  // |X_i|^2
  // In units of `unit`: weighted rms distance to the mean, and the largest |X| of a row of non-zero weight.
  double radius, max_norm;
  double log_w_max, log_w_span;
  int64_t active;                            // rows of non-zero weight
  int64_t heaviest;                          // one of the largest weight
  std::unique_ptr<QuantizedRows> quantized;  // nullptr: not to be kept

  template <class T>
  const T* shift() const;
};

template <>
inline const float* Data::shift<float>() const {
  return shift32.get();
}
template <>
inline const double* Data::shift<double>() const {
  return shift64.get();
}

// One parallel pass over the rows, for their norms. `center`, `mean` (d,) and `radius` are those of the values. With
// `low_memory` no copy of the rows is made, now or later.
Data prepare(const Rows& rows, const double* log_w, const double* center, const double* mean, double radius,
             double reach, double bandwidth, bool low_memory, int threads);

}  // namespace interp_fast
