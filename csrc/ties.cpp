// Compiled without contraction of its own: a sum of two numbers and what it leaves out must be what they say.
#include "ties.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"

namespace interp_fast {
namespace {

constexpr double kPromise32 = 1e-4, kPromise64 = 1e-10;  // of float32 and float64 results, in the noise prediction

// A number with what it leaves out.
struct Twofold {
  double high, low;
};

// a + b, exactly (Knuth).
Twofold two_sum(double a, double b) {
  const double sum = a + b, of_b = sum - a;
  return {sum, (a - (sum - of_b)) + (b - of_b)};
}

// a b, exactly.
Twofold two_product(double a, double b) {
  const double product = a * b;
  return {product, std::fma(a, b, -product)};
}

// |x - alpha row|^2 with twice the digits (Ogita, Rump and Oishi 2005).
Twofold distance2(const double* x, double alpha, const double* row, size_t d) {
  Twofold total = {0, 0};
  for (size_t k = 0; k < d; k++) {
    const Twofold product = two_product(alpha, row[k]), difference = two_sum(x[k], -product.high);
    const double low = difference.low - product.low;
    const Twofold square = two_product(difference.high, difference.high), sum = two_sum(total.high, square.high);
    total.high = sum.high;
    total.low += sum.low + (square.low + (2 * difference.high + low) * low);
  }
  return total;
}

}  // namespace

bool ill_conditioned(const Data& data, const Query& query, double c, double variance, bool logits) {
  if (query.s2 == 0) return c > 0;
  const double promise = data.rows.type == RowType::f64 ? kPromise64 : kPromise32;
  const double rounding = kRoundoff<double> * c / (2 * query.s2);
  const double deviation = query.alpha * std::sqrt(variance / query.variance);
  return rounding * std::max(logits ? 1.0 : 0.0, deviation) > promise / 4;
}

double largest_error(const Data& data, double c) {
  return static_cast<double>(data.rows.d + 16) * kRoundoff<double> * c;
}

std::vector<double> exact_differences(const Data& data, const Query& query, const std::vector<int64_t>& rows,
                                      int64_t first) {
  const size_t d = static_cast<size_t>(data.rows.d);
  std::vector<double> row(d), differences;
  const auto measure = [&](int64_t i) {
    active_kernels().exact->values(data.rows, i, row.data());
    return distance2(query.x, query.alpha, row.data(), d);
  };
  const Twofold from = measure(first);
  const double least = 0x1p-103 * static_cast<double>(d) * from.high;
  for (int64_t i : rows) {
    const Twofold to = measure(i);
    const double difference = (to.high - from.high) + (to.low - from.low);
    differences.push_back(std::abs(difference) < least ? 0.0 : difference);
  }
  return differences;
}

}  // namespace interp_fast
