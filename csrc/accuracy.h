// From the sums of a query to its answer: whether sums in T are enough, the weights of the heaviest rows put right, and
// the outputs.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "answer.h"
#include "candidate_list.h"
#include "dense.h"
#include "dispatch.h"
#include "ties.h"

namespace interp_fast {

constexpr double kMostInT = 0.5;     // next to more than this a sum of off-weights has its digits in any case
constexpr double kAveraging = 0.25;  // largest weight for which errors of logits count as averaging out

template <class T>
class ErrorModel {
 public:
  ErrorModel(const Data& data, const Outputs& out, const Accuracy& accuracy, const double* u)
      : data_(data), out_(out), accuracy_(accuracy), u_(u) {}

  // Whether sums in T are enough for this query. `unsure` is the largest weight whose logit was formed in T: the
  // heavier ones are exact. The logit of the heaviest is off by no more than `error`.
  bool enough(const Query& query, const Sums& total, double unsure, double error) const {
    const double largest = total.largest(), variance = total.variance();
    if (!enough_for_mean(query, total, unsure, variance)) return false;
    if (off_weights() && 1 - largest < least_rest(error)) return false;
    if (second_order() && variance < accuracy_.variance * moment(query, total)) return false;
    const double known = error < total.logit ? std::sqrt(unsure) : 1.0;
    return out_.top == 0 || 2 * total.logit * known * std::min(1.0, largest) <= accuracy_.top_weight;
  }

  // The part of it that is about the mean alone, and the scatter; `variance` of the posterior.
  bool enough_for_mean(const Query& query, const Sums& total, double unsure, double variance) const {
    // Errors of logits reach the mean through the deviation of the rows; where many rows share the weight they average
    // (first order, checked against float64). The sum itself and the stored rows add their own roundings.
    const double deviation = std::sqrt(data_.active == 1 ? 0.0 : std::min(1.0, unsure) * variance);
    double error = (unsure > kAveraging ? 4 : 1) * total.logit * deviation;
    error += displaced(query, total.displacement, variance);
    const double rounding = rounding_of(std::sqrt(total.second()));
    if (mean() && !(error + rounding <= allowed(data_, query, accuracy_))) return false;
    return !out_.scatter || error + rounding <= allowed_in_scatter();
  }

  // The same where the heaviest rows are excluded from the sums.
  bool enough(const Query& query, const Sums& total, const AnswerInfo& used) const {
    const double variance = used.variance;
    if (used.others == 0) return true;
    if (!enough_for_mean(query, total, total.largest() * used.others, variance)) return false;
    const double least = used.others * accuracy_.variance * moment(query, total);
    if (second_order() && !(variance >= least)) return false;
    return out_.top == 0 || 2 * total.logit * used.others <= accuracy_.top_weight;
  }

  // The same for sums that are wholly in T.
  bool enough_in_t(const Query& query, const Sums& total, double tolerated_weight) const {
    const double largest = total.largest();
    return (largest <= tolerated_weight && !second_order()) || enough(query, total, largest, INFINITY);
  }

  // Whether distances in float64 resolve the candidates: tell them from each other, and from those in sums about the
  // centre.
  bool resolved(const Query& query, const Candidates& candidates, double variance) const {
    double c = INFINITY;
    for (double other : candidates.c) c = std::min(c, other);
    const double from_center = data_.unit * data_.unit * query.x2;
    c = c < INFINITY ? std::max(c, from_center) : from_center;
    return !ill_conditioned(data_, query, c, variance, out_.off_weights() || out_.top > 0);
  }

  // The largest weight whose logit may be formed in T whatever the posterior: what the tests let pass.
  double tolerated_weight(const Query& query) const {
    const double error = logit_error<T>(data_, query), rounding = rounding_of(data_.max_norm);
    double most = INFINITY, weight = second_order() ? kAveraging : off_weights() ? kMostInT : 1.0;
    if (mean()) most = allowed(data_, query, accuracy_) - rounding;
    most -= displaced(query, query.displacement, data_.max_norm * data_.max_norm);
    if (out_.scatter) most = std::min(most, allowed_in_scatter() - rounding);
    const double deviations = std::max(0.0, most) / (error * data_.max_norm);
    if (deviations < 4) weight = std::min({weight, kAveraging, deviations * deviations});
    const double top = accuracy_.top_weight / (2 * error);
    return out_.top > 0 ? std::min(weight, top * top) : weight;
  }

  // The k-th best of the logits of these candidates; -inf if there are fewer.
  double kth_logit(const Query& query, const Candidates& candidates, size_t k) const {
    std::vector<double> logits;
    for (size_t i = 0; i < candidates.rows.size(); i++) {
      logits.push_back(data_.log_w[candidates.rows[i]] - candidates.c[i] / (2 * query.s2));
    }
    if (logits.size() < k) return -INFINITY;
    const auto kth = logits.begin() + static_cast<ptrdiff_t>(k - 1);
    std::nth_element(logits.begin(), kth, logits.end(), std::greater<>());
    return *kth;
  }

  // Whether it is what a few rows dominate that is not known well enough.
  bool dominated(const Query& query, const Sums& total, double unsure) const {
    return off_weights() && enough_for_mean(query, total, unsure, total.variance());
  }

  // Gives the rows of a list the weights that they have in float64.
  void correct(const Query& query, const CandidateList& list, const Candidates& candidates, Sums& total) const {
    const ExactKernels& exact = *active_kernels().exact;
    const ptrdiff_t d = data_.rows.d;
    std::vector<double> row(static_cast<size_t>(d));
    const double* const u = u_ ? u_ + query.index * d : nullptr;
    double scale = 0;
    for (ptrdiff_t k = 0; u && k < d; k++) scale = std::max(scale, std::abs(u[k]));
    if (!candidates.rows.empty()) total.best = -INFINITY;
    for (size_t i = 0; i < candidates.rows.size(); i++) {
      const int64_t n = candidates.rows[i];
      if (data_.log_w[n] == -INFINITY) continue;
      const double farther = candidates.c[i] / (data_.unit * data_.unit) - query.x2;
      const double logit = data_.log_w[n] - data_.log_w_max - farther / (2 * query.variance);
      const double score = kLog2e * logit - total.reference;
      const double was = list.entries()[i].score - total.reference;
      const double p = std::exp2(score), old = std::exp2(was), change = p - old;
      total.best = std::max(total.best, score + total.reference);
      total.p += change, total.p_n2 += change * data_.n2[n];
      total.p_p += p * p - old * old, total.p_score += p * score - old * was;
      exact.values(data_.rows, n, row.data());
      double along = 0;
      for (ptrdiff_t k = 0; k < d; k++) {
        row[k] = (row[k] - data_.center[k]) / data_.unit;
        total.x[k] += change * row[k];
        if (scale > 0) along += u[k] / scale * row[k];
      }
      for (ptrdiff_t k = 0; scale > 0 && k < d; k++) {
        total.u_x[k] += change * along * row[k];
      }
    }
  }

  void write(const Query& query, const Sums& total, const Candidates& candidates) const {
    const int64_t m = query.index;
    const ptrdiff_t d = data_.rows.d;
    const double unit = data_.unit;
    const double log_p = std::log(total.p);
    const double log_norm = total.reference / kLog2e + log_p + data_.log_w_max + total.offset;
    if (out_.log_norm) out_.log_norm[m] = log_norm;
    if (out_.ess) out_.ess[m] = total.p * total.p / total.p_p;
    if (out_.entropy) out_.entropy[m] = log_p - total.p_score / kLog2e / total.p;
    if (out_.variance) out_.variance[m] = unit * unit * total.variance();
    if (out_.scatter) out_.scatter[m] = unit * unit * total.variance();
    for (ptrdiff_t k = 0; out_.mean && k < d; k++) {
      const double origin = total.about_query ? query.x[k] / query.alpha : data_.center[k];
      out_.mean[m * d + k] = origin + unit * (total.x[k] / total.p);
    }
    if (out_.jvp) {
      const double* const u = u_ + m * d;
      double largest = 0, along = 0;
      for (ptrdiff_t k = 0; k < d; k++) largest = std::max(largest, std::abs(u[k]));
      for (ptrdiff_t k = 0; k < d; k++) along += u[k] * (total.x[k] / total.p);
      for (ptrdiff_t k = 0; k < d; k++) {
        out_.jvp[m * d + k] = unit * unit * (largest * total.u_x[k] - along * total.x[k]) / total.p;
      }
    }
    if (!out_.order()) return;
    const RelativeLogits relative = relative_logits(data_, query, candidates);
    const int64_t top = candidates.rows[relative.top];
    const double logit = data_.log_w[top] - candidates.c[relative.top] / (2 * query.s2);
    const double log_weight = std::min(0.0, logit - log_norm);
    if (out_.index) out_.index[m] = top;
    if (out_.gap) out_.gap[m] = -relative.runner_up;
    if (out_.log_rest) out_.log_rest[m] = std::log(-std::expm1(log_weight));
    if (out_.top > 0) {
      fill_top(candidates, relative.logits, log_weight, out_.top, out_.top_index + m * out_.top,
               out_.top_weight + m * out_.top);
    }
  }

 private:
  // Of sums over rows of this size, and of those rows.
  double rounding_of(double size) const {
    return 4 * kRoundoff<T> * size + std::sqrt(static_cast<double>(data_.rows.d)) * data_.value_error;
  }
  // What a variance has to be compared with: the largest second moment about where X is counted from, which also bounds
  // what rows beyond the cut may add. About y that is no more than exp(-cut) times some s^2 for each.
  double moment(const Query& query, const Sums& total) const {
    if (!total.about_query) return data_.max_norm * data_.max_norm;
    return std::max(total.second(), query.variance / (query.alpha * query.alpha));
  }
  // The smallest sum of off-weights that keeps its digits next to a heaviest row whose logit is off by `error`: as much
  // as rounding leaves of the smallest next to an exact one.
  double least_rest(double error) const {
    return std::min(kMostInT, accuracy_.rest * std::max(1.0, error / (4 * kRoundoff<T>)));
  }
  // How far the mean of rows of this variance moves with a query.
  static double displaced(const Query& query, double by, double variance) {
    return by * query.alpha * variance / query.variance;
  }
  // What the mean may be off by, so that the scatter is as accurate as promised.
  double allowed_in_scatter() const { return accuracy_.scatter * data_.radius * data_.radius / (2 * data_.max_norm); }
  bool second_order() const { return out_.variance || out_.jvp; }
  bool mean() const { return out_.mean || out_.jvp || out_.variance; }
  bool off_weights() const { return out_.log_rest || out_.entropy || out_.variance || out_.jvp; }

  const Data& data_;
  const Outputs& out_;
  const Accuracy& accuracy_;
  const double* u_;
};

}  // namespace interp_fast
