#include "data.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "clumps.h"
#include "dispatch.h"
#include "pool.h"

namespace interp_fast {
namespace {

constexpr int kMostExponent = 120;        // of a unit in float32, so that neither it nor its inverse is subnormal
constexpr double kLeastRadius = 0x1p-80;  // of the reach: a smaller R is made of weights that float32 does not know
constexpr double kLong = 8;               // times as long as common rows: by far; no normal rows are
constexpr int64_t kFew = 16;              // the longest row of so many says nothing about the others
constexpr double kShortest = 0x1p-40;     // of common rows, in units of the longest: float32 holds the squares of both
// The power of two that brings a length to between 1/2 and 1. Stored units: the values divided by a.
void scale_to(Data& data, const Moments& moments, double reach) {
  const Rows& rows = data.rows;
  int exponent = 0;
  if (reach > 0) std::frexp(reach / std::abs(rows.a), &exponent);
  data.inverse = std::ldexp(1.0, -exponent);
  data.float64_only =
      rows.type == RowType::f64 || std::abs(exponent) > kMostExponent || moments.radius < kLeastRadius * moments.reach;
  data.unit = rows.a * std::ldexp(1.0, exponent);
  const bool bytes = rows.type == RowType::u8;
  data.value_error = bytes ? 0x1p-52 * (255 * std::abs(rows.a) + std::abs(rows.b)) / std::abs(data.unit) : 0.0;
  data.radius = moments.radius / std::abs(data.unit);
}

// Puts the origin there, as exactly as stored numbers allow, and measures the rows from it.
void center_on(Data& data, const double* center, int threads) {
  const Rows& rows = data.rows;
  const size_t d = static_cast<size_t>(rows.d);
  data.center.resize(d), data.shift32 = Buffer<float>(d), data.shift64 = Buffer<double>(d);
  for (size_t k = 0; k < d; k++) {
    const double stored = (center[k] - rows.b) / rows.a;
    // The same origin whatever the type that decodes it; for bytes a whole number, so that differences are exact.
    const double on_grid = data.grid ? data.grid.value(data.grid.byte(stored)) : stored;
    const double rounded = data.float64_only          ? stored
                           : rows.type == RowType::u8 ? std::nearbyint(stored)
                                                      : static_cast<float>(on_grid);
    data.center[k] = rows.a * rounded + rows.b;
    data.shift64[k] = -rounded * data.inverse;
    data.shift32[k] = static_cast<float>(data.shift64[k]);
  }
  data.n2.resize(static_cast<size_t>(rows.n));
  const ExactKernels& exact = *active_kernels().exact;
  constexpr int64_t kRows = 256;
  parallel_for((rows.n + kRows - 1) / kRows, threads, [&](int64_t task, int) {
    const int64_t last = std::min(rows.n, (task + 1) * kRows);
    for (int64_t i = task * kRows; i < last; i++) {
      data.n2[i] = exact.norm2(rows, i, data.inverse, data.shift64.get());
    }
  });
  std::vector<double> n2;
  for (int64_t i = 0; i < rows.n; i++) {
    if (data.log_w[i] > -INFINITY) n2.push_back(data.n2[i]);
  }
  data.n2_sum = std::accumulate(n2.begin(), n2.end(), 0.0);
  const double longest = *std::max_element(n2.begin(), n2.end());
  data.max_norm = data.common_norm = std::sqrt(longest), data.spread = data.radius;
  if (rows.d <= kLowdim) return;  // there differences bound rounding, not lengths
  // The common rows, if they are short: half of all.
  const auto far = std::partition(n2.begin(), n2.end(), [&](double x) { return x * kLong * kLong < longest; });
  if (2 * (far - n2.begin()) <= data.active) return;
  const auto middle = n2.begin() + data.active / 2;
  std::nth_element(n2.begin(), middle, far);
  data.common_norm = std::max(std::sqrt(*middle), kShortest * data.max_norm);
  const auto most = n2.begin() + (data.active - data.active / kFew);
  std::nth_element(n2.begin(), most, n2.end());
  data.spread = std::min(data.radius, std::sqrt(std::accumulate(n2.begin(), most, 0.0) / (most - n2.begin())));
}

// The mean of the common rows.
std::vector<double> common_center(const Data& data, int threads) {
  constexpr int64_t kRows = 4096;
  const int64_t tasks = (data.rows.n + kRows - 1) / kRows;
  std::vector<std::vector<double>> sums(static_cast<size_t>(tasks), std::vector<double>(data.center.size()));
  std::vector<int64_t> counts(static_cast<size_t>(tasks));
  parallel_for(tasks, threads, [&](int64_t task, int) {
    for (int64_t i = task * kRows; i < std::min(data.rows.n, (task + 1) * kRows); i++) {
      if (data.log_w[i] == -INFINITY || std::sqrt(data.n2[i]) > data.common_norm) continue;
      active_kernels().exact->add(data.rows, i, data.center.data(), 1, sums[task].data(), nullptr, nullptr);
      counts[task]++;
    }
  });
  const double count = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  std::vector<double> center = data.center;
  for (const std::vector<double>& sum : sums) {
    for (size_t k = 0; k < center.size(); k++) center[k] += sum[k] / count;
  }
  return center;
}

}  // namespace

Data prepare(const Rows& rows, const double* log_w, const Moments& moments, double bandwidth, bool low_memory,
             int threads) {
  Data data{};
  data.rows = rows;
  data.log_w = log_w;
  data.bandwidth = bandwidth;
  const ptrdiff_t d = rows.d;
  data.mean.assign(moments.mean, moments.mean + d);

  double heaviest = -INFINITY, lightest = INFINITY;
  for (int64_t i = 0; i < rows.n; i++) {
    if (log_w[i] == -INFINITY) continue;
    data.active++;
    if (log_w[i] > heaviest) heaviest = log_w[i], data.heaviest = i;
    lightest = std::min(lightest, log_w[i]);
  }
  data.log_w_max = heaviest;
  data.log_w_span = heaviest - lightest;
  scale_to(data, moments, moments.reach);
  if (!low_memory && !data.float64_only && rows.d > kLowdim) data.grid = find_grid(rows);
  center_on(data, moments.center, threads);
  if (data.common_norm < data.max_norm) {
    // Longer rows would pull the mean of all away from the common ones, and leave these few digits of a unit.
    const std::vector<double> center = common_center(data, threads);
    scale_to(data, moments, data.common_norm * std::abs(data.unit));
    center_on(data, center.data(), threads);
  }
  data.clump = data.float64_only ? 1 : largest_clump(data, log_w, data.common_norm);
  data.few_numbers = few_numbers(data, log_w);
  data.copies.distinct = data.active;
  // Finding them sorts the rows: not for blocks that are prepared anew in every call, with low_memory, nor in few
  // dimensions, whose pass over all rows needs no lists.
  if (!low_memory && rows.d > kLowdim) data.copies = find_copies(rows, log_w, data.n2);
  if (!low_memory || rows.type == RowType::u8) data.quantized = std::make_unique<QuantizedRows>();
  return data;
}

}  // namespace interp_fast
