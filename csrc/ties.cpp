// Compiled without contraction of its own: a sum of two numbers and what it leaves out must be what they say.
#include "ties.h"

#include <cmath>
#include <numeric>

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

// A sum of which nothing is rounded, in numbers that have no digits in common (Shewchuk 1997).
class Sum {
 public:
  void add(double term) {
    size_t kept = 0;
    for (double part : parts_) {
      const DoubleDouble sum = two_sum(term, part);
      if (sum.lo != 0) parts_[kept++] = sum.lo;
      term = sum.hi;
    }
    parts_.resize(kept);
    parts_.push_back(term);
  }

  // Plus or minus (x - alpha v)^2: of three numbers, whose products are pairs.
  void add_square(double sign, double x, double alpha, double v) {
    const DoubleDouble scaled = two_product(alpha, v), away = two_sum(x, -scaled.hi);
    const DoubleDouble low = two_sum(away.lo, -scaled.lo);
    const double parts[] = {away.hi, low.hi, low.lo};
    for (int i = 0; i < 3; i++) {
      for (int j = i; j < 3; j++) {
        const DoubleDouble term = two_product((i == j ? sign : 2 * sign) * parts[i], parts[j]);
        add(term.lo), add(term.hi);
      }
    }
  }

  double rounded() const { return std::accumulate(parts_.rbegin(), parts_.rend(), 0.0); }

 private:
  std::vector<double> parts_;  // smallest first
};

// |x - alpha row|^2 - |x - alpha first|^2 = alpha (first - row) . (2 x - alpha (first + row)) with twice the digits
// (Ogita, Rump and Oishi 2005): not the difference of two sums, which far from all rows are as good as equal. Where
// these do not tell it, and that may be more than `harmless`, exactly.
double difference2(const double* x, double alpha, const double* row, const double* first, size_t d, double harmless) {
  DoubleDouble total = {0, 0};
  double size = 0, rounded = 0;
  for (size_t k = 0; k < d; k++) {
    const DoubleDouble apart = two_sum(first[k], -row[k]), both = two_sum(first[k], row[k]);
    const DoubleDouble scaled = product({alpha, 0}, both), twice = two_sum(2 * x[k], -scaled.hi);
    const DoubleDouble moved = product({alpha, 0}, apart);
    const DoubleDouble term = product(moved, {twice.hi, twice.lo - scaled.lo});
    const DoubleDouble sum = two_sum(total.hi, term.hi);
    total.hi = sum.hi, total.lo += sum.lo + term.lo;
    size += std::abs(moved.hi) * (2 * std::abs(x[k]) + std::abs(scaled.hi));  // between two rows these cancel
    for (DoubleDouble one : {apart, both, scaled, twice, moved, term, sum}) rounded += std::abs(one.lo);
  }
  // Some products and sums of a term, each good to 2^-104 or so of what it is the product of, and the sum over all; of
  // whole numbers nothing is rounded.
  const double difference = total.hi + total.lo, error = 0x1p-98 * static_cast<double>(d) * size;
  if (rounded == 0 || error <= harmless || std::abs(difference) > 0x1p40 * error) return difference;
  Sum exact;
  for (size_t k = 0; k < d; k++) {
    if (row[k] != first[k]) exact.add_square(1, x[k], alpha, row[k]), exact.add_square(-1, x[k], alpha, first[k]);
  }
  return exact.rounded();
}

}  // namespace

std::vector<double> exact_differences(const Data& data, const Query& query, const std::vector<int64_t>& rows,
                                      int64_t first) {
  const size_t d = static_cast<size_t>(data.rows.d);
  std::vector<double> from(d), row(d), differences;
  active_kernels().exact->values(data.rows, first, from.data());
  for (int64_t i : rows) {
    active_kernels().exact->values(data.rows, i, row.data());
    differences.push_back(difference2(query.x, query.alpha, row.data(), from.data(), d, 0x1p-36 * 2 * query.s2));
  }
  return differences;
}

}  // namespace interp_fast
