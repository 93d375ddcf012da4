#include "accuracy.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "panels.h"

namespace interp_fast {
namespace {

constexpr double kMostInT = 0.5;     // next to more than this a sum of off-weights has its digits in any case
constexpr double kAveraging = 0.25;  // largest weight for which errors of logits count as averaging out
// What a log-normalizer may be off by, in units of that of a small one, grows so fast with it: to some 2^-25 of it in
// float32, where 2e-7 is promised, and to 2^-45 in float64, where that is 1e-12.
constexpr double kSlope = 0x1p-11;

// What the mass of a class may be off by, in errors of logits: those that its rows have in common, as the query is
// rounded, which in many dimensions points elsewhere; and those of each row. The first are up to 4, of classes at
// opposite ends along a query whose numbers are all rounded by the most; half of a promise is asked for, so that 1.8
// stands for 3.6. Of 10^4 to 10^5 random queries in float32 the worst were 3.5 in 9 dimensions, 1.7 in 64, 0.8 in 256
// and 0.2 in 3072, against twice 1.8, 1.8, 0.9 and 0.26; 4 again where a query is next to 0 but in two. Those of each
// row count twice.
constexpr double kInCommon = 1.8, kElsewhere = 8, kOfEach = 2;

// Equal products round alike at each of up to 112 additions: 50 rms errors of a logit were seen, and 17 of others.
constexpr double kAlike = 4;

// What a weight may be off by, in rms errors of a logit, of which a query along its row has more: its products are of
// one sign, and partial sums grow. Half of a promise is asked for, so that 8 stands for 16. A larger one sends more
// weights to float64.
constexpr double kOfWeight = 8;

// What rounding weights to whole numbers takes away of all, or adds to them, rms. Off-weights that are this much more
// are known to 1e-3, also where rows of the lightest make up their entropy.
double rounded_away(const Sums& sums) { return std::sqrt(sums.rounded) / sums.p; }
constexpr double kRoundedAway = 0x1p-15;
// The same of a variance, which a few light rows may be all of, far from the others: four times this, as it is rms, is
// the 1e-3 that is promised.
constexpr double kRoundedOfVariance = 0x1p-12;

// What the squares of weighted sums lose to chains of up to 120 additions next to a sum that is there from the start,
// of weights, rows and their squares: three times sqrt(1 + 2^2 + 1) sqrt(120 / 12) units of 2 roundings.
constexpr double kBesideOne = 48;

// How far the mean of rows of this variance moves with a query.
double displaced(const Query& query, double by, double variance) {
  return by * query.alpha * variance / query.variance;
}

}  // namespace

// With y the query over alpha, a common row is no farther from it than |y| + its norm, and a row of norm n no nearer
// than n - |y|.
double longest_that_counts(const Data& data, const Query& query, int64_t wanted) {
  if (data.common_norm == data.max_norm || query.alpha == 0 || 2 * wanted > data.active) return data.max_norm;
  const double y = std::sqrt(query.x2) / query.alpha, s2 = query.variance / (query.alpha * query.alpha);
  const double common = y + data.common_norm, nats = std::min(query.cut, kUnderflow<double>) + data.log_w_span;
  return std::min(data.max_norm, y + std::sqrt(common * common + 2 * s2 * nats));
}

template <class T>
double logit_error(const Data& data, const Query& query) {
  // Half of e n with e = u |y| / s^2 in normal form (y the query over alpha), where a query near the centre counts as
  // one half way out; and of the stored log-weights.
  const double a = query.alpha, r = query.norm;
  if (query.variance == 0) return INFINITY;
  const double e =
      (kRoundoff<T> + data.value_error) * std::max(a * std::sqrt(query.x2), 0.5 * a * a * r) / query.variance;
  return (query.alike ? kAlike : 1) * 0.5 * e * r + 0.5 * kRoundoff<T> * data.log_w_span +
         raised_by(query, 1 / query.variance) * r * r;
}

double displaced_by_digits(const Data& data, const Query& query) {
  return 0.5 * query.largest / std::abs(data.unit) / kLargest;
}

double logit_off_grid(const Data& data, const Query& query) {
  const double along = std::min(2 * data.quantized->farthest_number(), data.quantized->farthest());
  return query.alpha * std::sqrt(query.x2) * along / query.variance;
}

// Beside the query what 2^x is off by.
constexpr double kOfPower = 2 * kRoundoff<Digits>;

template <>
double logit_error<Digits>(const Data& data, const Query& query) {
  if (query.variance == 0) return INFINITY;
  const double of_query = displaced_by_digits(data, query) * query.alpha * data.max_norm / query.variance;
  return of_query + logit_off_grid(data, query) + kOfPower;
}

double displaced_logit(const Query& query) { return query.alpha * query.norm * query.displacement / query.variance; }

double allowed(const Data& data, const Query& query, const Accuracy& accuracy) {
  const double s = std::sqrt(query.variance) / query.alpha;
  return std::min(accuracy.per_radius * data.radius, accuracy.per_deviation * s);
}

template <class T>
bool summable(const Data& data, const Query& query, const Accuracy& accuracy) {
  return logit_error<T>(data, query) + displaced_logit(query) <= accuracy.logit;
}

bool ill_conditioned(const Data& data, const Query& query, double c, double variance, bool logits) {
  if (query.s2 == 0) return c > 0;
  const double promised = data.rows.type == RowType::f64 ? kNoise64 : kNoise32;
  const double rounding = kRoundoff<double> * c / (2 * query.s2);
  const double deviation = query.alpha * std::sqrt(variance / query.variance);
  return rounding * std::max(logits ? 1.0 : 0.0, deviation) > promised / 4;
}

double largest_error(const Data& data, double c) {
  return static_cast<double>(data.rows.d + 16) * kRoundoff<double> * c;
}

// The reference, and with it the best score, may be one with fewer digits than those that are weighed, which all may
// lie far below it: up to so much squares of weights are numbers in float32.
constexpr double kFarAbove = 0x1p32;

template <class T>
bool ErrorModel<T>::enough(const Query& query, const Sums& sums, double unsure, double error) const {
  const double largest = sums.largest();
  if (!(largest > 0) || !enough_for_mean(query, sums, unsure, variance_at_most(sums))) return false;
  if (off_weights() && !(1 - largest >= least_rest(error))) return false;
  if (out_.ess && !(largest < kFarAbove)) return false;
  if (off_weights() && !(rounded_away(sums) <= kRoundedAway * (1 - largest))) return false;
  if (second_order() && !enough_for_variance(query, sums, 1, sums.variance())) return false;
  const double together = error < sums.logit ? shared(query, unsure) : 1.0;
  if (!enough_for_log_norm(sums.logit, together)) return false;
  double odds = 0;  // the largest share times that of all others
  for (double mass : sums.mass) odds = std::max(odds, mass / sums.p * (1 - mass / sums.p));
  if (out_.mass && !(error_of_mass(sums.logit, together, odds) <= accuracy_.top_weight)) return false;
  return out_.top == 0 || kOfWeight * sums.logit * std::sqrt(together) * std::min(1.0, largest) <= accuracy_.top_weight;
}

template <class T>
bool ErrorModel<T>::enough_in_t(const Query& query, const Sums& sums, double tolerated_weight) const {
  const double largest = sums.largest();
  if constexpr (std::is_same_v<T, Digits>) return enough(query, sums, largest, INFINITY);
  const bool light = largest > 0 && largest <= tolerated_weight;  // 0: the best row has vanished next to rounding
  return (light && !second_order() && enough_beside_mean(sums)) || enough(query, sums, largest, INFINITY);
}

template <class T>
bool ErrorModel<T>::enough_beside(const Query& query, const Sums& remainder, double weight, double variance) const {
  if (weight == 0) return true;
  if (!(weight > 0) || (out_.ess && !(remainder.largest() < kFarAbove))) return false;
  if (!enough_for_mean(query, remainder, remainder.largest() * weight, variance)) return false;
  if (second_order() && !enough_for_variance(query, remainder, weight, variance)) return false;
  if (!enough_for_log_norm(remainder.logit * weight, shared(query, remainder.largest()))) return false;
  return (out_.top == 0 && !out_.mass) || kOfWeight * remainder.logit * weight <= accuracy_.top_weight;
}

// Of logits with such an error, where rows of such a weight have it in common.
template <class T>
bool ErrorModel<T>::enough_for_log_norm(double logit, double together) const {
  return !out_.log_norm || logit * std::sqrt(together) <= accuracy_.log_norm;
}

// Sums that weigh so much in a posterior of this variance.
template <class T>
bool ErrorModel<T>::enough_for_variance(const Query& query, const Sums& sums, double weight, double variance) const {
  const double rounded = rounded_away(sums) * (data_.max_norm * data_.max_norm + sums.second());
  return variance >= weight * accuracy_.variance * moment(query, sums) &&
         weight * rounded <= kRoundedOfVariance * variance;
}

// The part of it that is about the mean alone, and the scatter; `variance` of the posterior.
template <class T>
bool ErrorModel<T>::enough_for_mean(const Query& query, const Sums& sums, double unsure, double variance) const {
  // Errors of logits reach the mean through the deviation of the rows; where many rows share the weight they average
  // (first order, checked against float64). The sum itself and the stored rows add their own roundings.
  const double together = shared(query, unsure), deviation = std::sqrt(data_.active == 1 ? 0.0 : together * variance);
  double error = (together > kAveraging ? 4 : 1) * sums.logit * deviation;
  if constexpr (std::is_same_v<T, Digits>) {
    // Of logits only 2^x is off, also of the heaviest, which are corrected by as much; what is off because the query is
    // another one is below. Weights are rounded up or down, of whatever rows.
    error = 4 * kOfPower * std::sqrt(shared(query, sums.largest()) * variance);
    error += rounded_away(sums) * std::sqrt(data_.max_norm * data_.max_norm + sums.second());
    // Rows of few distinct numbers are off their grid together: nothing averages.
    error += logit_off_grid(data_, query) * std::sqrt(variance) + data_.quantized->farthest();
  }
  error += displaced(query, sums.displacement, variance);
  const double rounding = rounding_of(std::sqrt(sums.second()));
  if (mean() && !(error + rounding <= allowed(data_, query, accuracy_))) return false;
  return !out_.scatter || (error + rounding <= allowed_in_scatter(query) && enough_beside_mean(sums));
}

// A scatter next to the square of the mean that it is a difference of. Where one row is nearly all of the sums, a light
// one is added to it at a time, and each time they are rounded to their last place.
template <class T>
bool ErrorModel<T>::enough_beside_mean(const Sums& sums) const {
  const double of_mean2 = std::max(0.0, sums.second() - sums.variance());
  return !out_.scatter || kBesideOne * kRoundoff<T> * of_mean2 <= accuracy_.scatter * data_.radius * data_.radius;
}

template <class T>
bool ErrorModel<T>::resolved(const Query& query, const Candidates& candidates, double variance) const {
  double c = INFINITY;
  for (double other : candidates.c) c = std::min(c, other);
  const double from_center = data_.unit * data_.unit * query.x2, nearest = c < INFINITY ? c : from_center;
  // The log-normalizer, about the size of the nearest row's logit, is what is left of the centre's, to which also the
  // displacement of the query adds.
  const double moved = data_.unit * data_.unit * query.displacement * (2 * std::sqrt(query.x2) + query.displacement);
  const double lost = 2 * kRoundoff<double> * from_center + moved, of_itself = kSlope * nearest / (2 * query.s2);
  if (out_.log_norm && !(lost <= 2 * query.s2 * accuracy_.log_norm * std::max(1.0, of_itself))) return false;
  const bool logits = out_.off_weights() || out_.top > 0 || out_.mass;
  return !ill_conditioned(data_, query, std::max(nearest, from_center), variance, logits);
}

template <class T>
double ErrorModel<T>::variance_at_most(const Sums& sums) const {
  // With r what the mean may be off by: its square is, where all of that lies along it, by 2 r |mean|, which is no more
  // than 2 r size; the second moment by some r size. They are hardly at their worst together, which would be 3.
  const double size = std::sqrt(sums.second());
  return sums.variance() + 2 * rounding_of(size) * size;
}

template <class T>
double ErrorModel<T>::tolerated_weight(const Query& query) const {
  const double error = logit_error<T>(data_, query), rounding = rounding_of(query.norm);
  double most = INFINITY, weight = second_order() ? kAveraging : off_weights() ? kMostInT : 1.0;
  if (mean()) most = allowed(data_, query, accuracy_) - rounding;
  most -= displaced(query, query.displacement, query.norm * query.norm);
  if (out_.scatter) most = std::min(most, allowed_in_scatter(query) - rounding);
  const double deviations = std::max(0.0, most) / (error * query.norm);
  if (deviations < 4) weight = std::min(weight, std::min(kAveraging, deviations * deviations) / clump(query));
  const double of_log_norm = accuracy_.log_norm / error;
  if (out_.log_norm) weight = std::min(weight, of_log_norm * of_log_norm / clump(query));
  if (out_.mass) {
    const double left = accuracy_.top_weight - error_of_mass(error, 0, 0.25), root = std::max(0.0, left) / error;
    weight = std::min(weight, root * root / clump(query));
  }
  const double top = accuracy_.top_weight / (kOfWeight * error);
  return out_.top > 0 ? std::min(weight, top * top / clump(query)) : weight;
}

template <class T>
bool ErrorModel<T>::dominated(const Query& query, const Sums& sums, double unsure) const {
  return off_weights() && enough_for_mean(query, sums, unsure, variance_at_most(sums));
}

template <class T>
bool ErrorModel<T>::clustered(const Query& query, const Sums& sums) const {
  const double others = 1 - sums.exact / sums.p;
  return second_order() && !(sums.variance() >= others * accuracy_.variance * moment(query, sums));
}

// The weight of rows whose logits have errors in common, where none of them weighs more than `weight`.
template <class T>
double ErrorModel<T>::shared(const Query& query, double weight) const {
  return std::min(1.0, clump(query) * weight);
}

// So many rows may have the errors of their logits in common.
template <class T>
double ErrorModel<T>::clump(const Query& query) const {
  return static_cast<double>(query.alike ? data_.active : data_.clump);
}

// Of a class with such a share times that of all others, where rows of such a weight have the errors of each in common.
template <class T>
double ErrorModel<T>::error_of_mass(double logit, double together, double odds) const {
  const double common = kInCommon * std::min(1.0, kElsewhere / std::sqrt(static_cast<double>(data_.rows.d)));
  return logit * (common * odds + kOfEach * std::sqrt(together * odds));
}

// Of sums over rows of this size, and of those rows: rms, but for few dimensions, where equal rows stand one by one and
// what their sums lose adds up.
template <class T>
double ErrorModel<T>::rounding_of(double size) const {
  return (data_.rows.d <= kLowdim ? 8 : 4) * kRoundoff<T> * size +
         std::sqrt(static_cast<double>(data_.rows.d)) * data_.value_error;
}

// What a variance has to be compared with: the largest second moment about where X is counted from, which also bounds
// what rows beyond the cut may add. About y that is no more than exp(-cut) times some s^2 for each.
template <class T>
double ErrorModel<T>::moment(const Query& query, const Sums& sums) const {
  if (!sums.about_query) return std::max(sums.second(), data_.common_norm * data_.common_norm);
  return std::max(sums.second(), query.variance / (query.alpha * query.alpha));
}

// The smallest sum of off-weights that keeps its digits next to a heaviest row whose logit is off by `error`: as much
// as rounding leaves of the smallest next to an exact one.
template <class T>
double ErrorModel<T>::least_rest(double error) const {
  return std::min(kMostInT, accuracy_.rest * std::max(1.0, error / (4 * kRoundoff<T>)));
}

// What the mean may be off by, so that the scatter is as accurate as promised.
template <class T>
double ErrorModel<T>::allowed_in_scatter(const Query& query) const {
  return accuracy_.scatter * data_.radius * data_.radius / (2 * query.norm);
}

template double logit_error<float>(const Data&, const Query&);
template double logit_error<double>(const Data&, const Query&);
template bool summable<Digits>(const Data&, const Query&, const Accuracy&);
template bool summable<float>(const Data&, const Query&, const Accuracy&);
template bool summable<double>(const Data&, const Query&, const Accuracy&);
template class ErrorModel<Digits>;
template class ErrorModel<float>;
template class ErrorModel<double>;

}  // namespace interp_fast
