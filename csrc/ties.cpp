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

DoubleDouble product(DoubleDouble a, DoubleDouble b) {
  const DoubleDouble high = two_product(a.hi, b.hi);
  return {high.hi, high.lo + (a.hi * b.lo + a.lo * b.hi)};
}

// |x - alpha row|^2 - |x - alpha first|^2 = alpha (first - row) . (2 x - alpha (first + row)) with twice the digits
// (Ogita, Rump and Oishi 2005): not the difference of two sums, which far from all rows are as good as equal.
double difference2(const double* x, double alpha, const double* row, const double* first, size_t d) {
  DoubleDouble total = {0, 0};
  double size = 0;
  for (size_t k = 0; k < d; k++) {
    const DoubleDouble apart = two_sum(first[k], -row[k]), both = two_sum(first[k], row[k]);
    const DoubleDouble scaled = product({alpha, 0}, both), twice = two_sum(2 * x[k], -scaled.hi);
    const DoubleDouble term = product(product({alpha, 0}, apart), {twice.hi, twice.lo - scaled.lo});
    const DoubleDouble sum = two_sum(total.hi, term.hi);
    total.hi = sum.hi, total.lo += sum.lo + term.lo;
    size += std::abs(term.hi);
  }
  // Five products and sums of a term, each good to 2^-104 or so of it, and the sum over all: less is rounding alone.
  const double difference = total.hi + total.lo;
  return std::abs(difference) < 0x1p-98 * static_cast<double>(d) * size ? 0.0 : difference;
}

}  // namespace

std::vector<double> exact_differences(const Data& data, const Query& query, const std::vector<int64_t>& rows,
                                      int64_t first) {
  const size_t d = static_cast<size_t>(data.rows.d);
  std::vector<double> from(d), row(d), differences;
  active_kernels().exact->values(data.rows, first, from.data());
  for (int64_t i : rows) {
    active_kernels().exact->values(data.rows, i, row.data());
    differences.push_back(difference2(query.x, query.alpha, row.data(), from.data(), d));
  }
  return differences;
}

}  // namespace interp_fast
