// With weights w_i of mean D and exact ones t_i, in whatever scale, of mean E: sum w (X - D) = 0 = sum t (X - E), so
//
//     D - E = sum_i (w_i - t_i) (X_i - D) / sum_i t_i.
//
// A weight of a sum is w = t exp(e) + r, where r is what rounding it to a whole number has left out, so that
//
//     |w - t| <= (|r| + w |e|) exp(most),  |e| <= most.
//
// By Cauchy-Schwarz r and |X - D| come to no more than sqrt(sum r^2), which is measured, times sqrt(sum |X - D|^2) over
// all rows. Of the query e = <q' - q, X - D>, if t is scaled so that there is none at D; then exact logits are off by
// <q' - q, D>. If t is not scaled, e = <q' - q, X> and exact logits are exact. In both ways sum w |e| |X - D| is
// bounded by the variance and what e comes to, by Cauchy-Schwarz once more. Where bytes stand for rows that are near
// them, a score is off by |q'| times as much as the row, and the mean by no more than the farthest row.
#include "rounding.h"

#include <algorithm>
#include <cmath>

#include "arithmetic.h"
#include "digits.h"

namespace interp_fast {
namespace {

// What 2^x in float32 is off by, as a share.
constexpr double kOfPower = 1.9e-7;
// Before, -60 <= x <= 0 is rounded to float32, which is the share x kOfExponent; the largest x^2 2^x is kMostExponent.
constexpr double kOfExponent = 0x1p-24 / kLog2e, kLeast = 60, kMostExponent = 1.13;
// The logarithms of weights as given, and of their sum.
constexpr double kOfWeights = 0x1p-40;
// In the sums of a slab each block is rounded to float32 once, and all but the first are added in float32.
constexpr double kOfBlock = 0x1p-24;
// Of the variance what those leave, in units of the square of the longest row. Of a mean what float64 does, and float32
// where it comes to its smallest numbers.
constexpr double kOfVariance = 0x1p-18, kOfFloat64 = 0x1p-45;

double square(double x) { return x * x; }

// A logit in float64 from a squared distance, and one from |x~|^2, which sums are about.
double of_exact_logits(const Data& data, const Query& query) {
  const double d = static_cast<double>(data.rows.d), farthest = std::sqrt(query.x2) + query.alpha * data.max_norm;
  const double of_values = 2 * query.alpha * std::sqrt(d) * data.value_error;
  const double relative = 2 * (d + 32) * kRoundoff<double>;
  return farthest * (relative * farthest + query.displacement + of_values) / query.variance;
}

}  // namespace

double rounding_of_mean(const Data& data, const Query& query, const Sums& sums, const ScoreErrors& errors,
                        const Posterior& posterior, const double* mean) {
  const double n = static_cast<double>(data.active), d = static_cast<double>(data.rows.d), longest = data.max_norm;
  double mean2 = 0;
  for (ptrdiff_t k = 0; k < data.rows.d; k++) mean2 += square((mean[k] - data.center[k]) / data.unit);
  const double size = std::sqrt(mean2), second = sums.second();
  const double blocks_of_slab = std::ceil(static_cast<double>(std::min(data.rows.n, kDigitRows)) / kDigitBlock);
  const double off_grid = 1.001 * data.quantized->farthest();
  const double variance = posterior.variance + kOfVariance * square(longest) + 2 * off_grid * longest;

  const double left = errors.left / kLog2e;
  // Weights in units of those of the best of each block add up to no more than all of them do.
  const double share = posterior.share / sums.p;
  const auto root = [&](double squares) { return 1.001 * std::sqrt(squares + n * 0x1p-1000); };  // those may vanish
  const double blocks = share * kLargest * std::sqrt(n) * root(sums.units);
  const double of_exponents = kOfExponent * std::sqrt(kMostExponent * blocks);
  double others = errors.others / kLog2e + kOfPower + kOfWeights + of_exponents;
  if (posterior.exact > 0) others += of_exact_logits(data, query);
  const double most = 2 * left * longest + others + kLeast * kOfExponent;
  const double of_query = left * std::min(variance + size * std::sqrt(posterior.exact * variance),
                                          std::sqrt(posterior.share * second * variance));

  const double rounded = share * root(sums.rounded);
  const double of_units = rounded * (std::sqrt(data.n2_sum) + std::sqrt(n) * size);
  const double at_least = 1 - rounded * std::sqrt(n);  // of sum t exp(most)
  if (!(at_least > 0)) return INFINITY;

  const double of_weights = (of_units + of_query + others * std::sqrt(variance)) / at_least;
  const double of_sums = posterior.share * (kOfBlock * blocks_of_slab * std::sqrt(second) + off_grid);
  const double of_values = 8 * std::sqrt(d) * data.value_error + kOfFloat64 * longest;
  const double bound = std::abs(data.unit) * (std::exp(3 * most) * (of_weights + of_sums) + of_values);
  return bound < INFINITY ? bound : INFINITY;
}

}  // namespace interp_fast
