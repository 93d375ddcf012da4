#include "data.h"

#include <algorithm>
#include <cmath>

#include "clumps.h"
#include "dispatch.h"
#include "pool.h"

namespace interp_fast {
namespace {

constexpr int kMostExponent = 120;  // of a unit in float32, so that neither it nor its inverse is subnormal

}  // namespace

Data prepare(const Rows& rows, const double* log_w, const Moments& moments, double bandwidth, bool low_memory,
             int threads) {
  Data data{};
  data.rows = rows;
  data.log_w = log_w;
  data.bandwidth = bandwidth;
  const ptrdiff_t d = rows.d;
  data.mean.assign(moments.mean, moments.mean + d);

  // Stored units: the values divided by a. Scaled by the power of two that brings the reach to between 1/2 and 1.
  int exponent = 0;
  if (moments.reach > 0) std::frexp(moments.reach / std::abs(rows.a), &exponent);
  data.inverse = std::ldexp(1.0, -exponent);
  data.float64_only = rows.type == RowType::f64 || std::abs(exponent) > kMostExponent;
  data.unit = rows.a * std::ldexp(1.0, exponent);
  const bool bytes = rows.type == RowType::u8;
  data.value_error = bytes ? 0x1p-52 * (255 * std::abs(rows.a) + std::abs(rows.b)) / std::abs(data.unit) : 0.0;
  data.center.resize(d), data.shift32 = Buffer<float>(d), data.shift64 = Buffer<double>(d);
  for (ptrdiff_t k = 0; k < d; k++) {
    const double stored = (moments.center[k] - rows.b) / rows.a;
    // The same origin whatever the type that decodes it; for bytes a whole number, so that differences are exact.
    const double rounded = data.float64_only ? stored : bytes ? std::nearbyint(stored) : static_cast<float>(stored);
    data.center[k] = rows.a * rounded + rows.b;
    data.shift64[k] = -rounded * data.inverse;
    data.shift32[k] = static_cast<float>(data.shift64[k]);
  }

  data.n2.resize(rows.n);
  const ExactKernels& exact = *active_kernels().exact;
  constexpr int64_t kRows = 256;
  parallel_for((rows.n + kRows - 1) / kRows, threads, [&](int64_t task, int) {
    const int64_t last = std::min(rows.n, (task + 1) * kRows);
    for (int64_t i = task * kRows; i < last; i++) {
      data.n2[i] = exact.norm2(rows, i, data.inverse, data.shift64.get());
    }
  });

  double longest = 0, heaviest = -INFINITY, lightest = INFINITY;
  for (int64_t i = 0; i < rows.n; i++) {
    if (log_w[i] == -INFINITY) continue;
    data.active++;
    longest = std::max(longest, data.n2[i]);
    if (log_w[i] > heaviest) heaviest = log_w[i], data.heaviest = i;
    lightest = std::min(lightest, log_w[i]);
  }
  data.max_norm = std::sqrt(longest);
  data.radius = moments.radius / std::abs(data.unit);
  data.log_w_max = heaviest;
  data.log_w_span = heaviest - lightest;
  data.clump = data.float64_only ? 1 : largest_clump(data, log_w, data.max_norm);
  data.copies.distinct = data.active;
  // Finding them sorts the rows: not for blocks that are prepared anew in every call, with low_memory, nor in few
  // dimensions, whose pass over all rows needs no lists.
  if (!low_memory && rows.d > kLowdim) data.copies = find_copies(rows, log_w, data.n2);
  if (!low_memory || rows.type == RowType::u8) data.quantized = std::make_unique<QuantizedRows>();
  return data;
}

}  // namespace interp_fast
