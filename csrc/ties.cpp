// Compiled without contraction of its own: a sum of two numbers and what it leaves out must be what they say.
#include "ties.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"

namespace interp_fast {
namespace {

// A number as an unevaluated sum: what is rounded, and what that leaves out.
struct DoubleDouble {
  double hi, lo;
};

// a + b, exactly (Knuth).
DoubleDouble two_sum(double a, double b) {
  const double sum = a + b, of_b = sum - a;
  return {sum, (a - (sum - of_b)) + (b - of_b)};
}

// a b, exactly.
DoubleDouble two_product(double a, double b) {
  const double product = a * b;
  return {product, std::fma(a, b, -product)};
}

// |x - alpha row|^2 with twice the digits (Ogita, Rump and Oishi 2005).
DoubleDouble distance2(const double* x, double alpha, const double* row, size_t d) {
  DoubleDouble total = {0, 0};
  for (size_t k = 0; k < d; k++) {
    const DoubleDouble product = two_product(alpha, row[k]), difference = two_sum(x[k], -product.hi);
    const double lo = difference.lo - product.lo;
    const DoubleDouble square = two_product(difference.hi, difference.hi), sum = two_sum(total.hi, square.hi);
    total.hi = sum.hi;
    total.lo += sum.lo + (square.lo + (2 * difference.hi + lo) * lo);
  }
  return total;
}

}  // namespace

std::vector<double> exact_differences(const Data& data, const Query& query, const std::vector<int64_t>& rows,
                                      int64_t first) {
  const size_t d = static_cast<size_t>(data.rows.d);
  std::vector<double> row(d), differences;
  const auto measure = [&](int64_t i) {
    active_kernels().exact->values(data.rows, i, row.data());
    return distance2(query.x, query.alpha, row.data(), d);
  };
  const DoubleDouble from = measure(first);
  const double least = 0x1p-103 * static_cast<double>(d) * from.hi;
  for (int64_t i : rows) {
    const DoubleDouble to = measure(i);
    const double difference = (to.hi - from.hi) + (to.lo - from.lo);
    differences.push_back(std::abs(difference) < least ? 0.0 : difference);
  }
  return differences;
}

}  // namespace interp_fast
