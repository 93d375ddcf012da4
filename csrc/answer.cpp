#include "answer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "accuracy.h"
#include "arithmetic.h"
#include "dispatch.h"
#include "pool.h"
#include "refine.h"
#include "ties.h"

namespace interp_fast {
namespace {

struct RelativeLogits {
  std::vector<double> logits;
  size_t top, nearest;  // positions of the heaviest and of the nearest
  double runner_up;     // largest of the other logits
};

// Weighted sums about one point: the heaviest row of a query, whose weight is not among those, or the mean, and it is.
struct AboutPoint {
  int64_t top_row;
  double p_top;
  std::vector<int64_t> rows;  // the others of weight above 0
  std::vector<double> p;
  std::vector<double> point, shift,
      along;          // mean - point, sum p <delta, u> delta
  double spread = 0;  // sum p |delta|^2
  double unit = 0;    // what the sums over other rows have to be multiplied with
};

// The logits from how much farther each candidate is than one of them.
void fill_logits(const Data& data, const Query& query, const Candidates& candidates, const std::vector<double>& farther,
                 RelativeLogits& out) {
  double least = INFINITY;
  const auto log_w = [&](size_t i) { return data.log_w[candidates.rows[i]]; };
  for (size_t i = 0; i < farther.size(); i++) {
    if (log_w(i) > -INFINITY) least = std::min(least, farther[i]);
  }
  for (size_t i = 0; i < farther.size(); i++) {
    const bool counts = query.s2 > 0 || farther[i] == least;
    out.logits[i] = counts ? log_w(i) - (query.s2 > 0 ? farther[i] / (2 * query.s2) : 0.0) : -INFINITY;
  }
  out.top = std::max_element(out.logits.begin(), out.logits.end()) - out.logits.begin();
  out.runner_up = -INFINITY;
  const double highest = out.logits[out.top];
  for (size_t i = 0; i < farther.size(); i++) {
    out.logits[i] -= highest;
    if (i != out.top) out.runner_up = std::max(out.runner_up, out.logits[i]);
  }
}

// Logits l_i = log_w_i - c_i / (2 S) relative to the heaviest candidate, -inf for rows of weight 0. Where rounding c_i
// would cost more than is promised of logits, or of the mean of rows of this variance (in normal form), they are exact.
RelativeLogits relative_logits(const Data& data, const Query& query, const Candidates& candidates, double variance) {
  const size_t n = candidates.rows.size();
  RelativeLogits out = {.logits = std::vector<double>(n), .top = 0, .nearest = n, .runner_up = -INFINITY};
  // From the nearest row, so that no digits go into what all have in common.
  size_t& nearest = out.nearest;
  std::vector<double> farther(n);
  const auto counts = [&](size_t i) { return data.log_w[candidates.rows[i]] > -INFINITY; };
  for (size_t i = 0; i < n; i++) {
    if (counts(i) && (nearest == n || candidates.c[i] < candidates.c[nearest])) nearest = i;
  }
  const double c = candidates.c[nearest];
  for (size_t i = 0; i < n; i++) farther[i] = candidates.c[i] - c;
  fill_logits(data, query, candidates, farther, out);
  if (!std::isfinite(c) || !ill_conditioned(data, query, c, variance, true)) return out;
  // The rows that count, as far as this tells.
  const double error = largest_error(data, c), depth = std::min(query.cut, kUnderflow<double>);
  const double floor = std::min(0.0, out.runner_up) - depth;
  std::vector<size_t> near;
  std::vector<int64_t> rows;
  for (size_t i = 0; i < n; i++) {
    const double below = query.s2 > 0 ? 2 * query.s2 * (floor - out.logits[i]) : farther[i];
    if (counts(i) && below <= error) near.push_back(i), rows.push_back(candidates.rows[i]);
  }
  if (near.size() < 2) return out;
  // From a row within a nat of the nearest of them: the one that is by distances in float64 may be so far from that
  // that differences leave no digits to the weights. Each time what they may be off by shrinks by 2^40 or more.
  int64_t from = candidates.rows[nearest];
  for (int round = 0; round < 64; round++) {
    const std::vector<double> exact = exact_differences(data, query, rows, from);
    for (size_t i = 0; i < near.size(); i++) farther[near[i]] = exact[i];
    const auto least = std::min_element(exact.begin(), exact.end());
    if (!(std::abs(*least) > 2 * query.s2)) break;
    for (double& one : farther) one -= *least;
    from = rows[static_cast<size_t>(least - exact.begin())];
  }
  fill_logits(data, query, candidates, farther, out);
  return out;
}

// Which candidates lie where one of them does, but for what has no square: not only as far away, which far from all
// rows says little.
std::vector<char> copies_of(const Data& data, const Candidates& candidates, size_t one) {
  const ExactKernels& exact = *active_kernels().exact;
  std::vector<double> first, row(static_cast<size_t>(data.rows.d));
  std::vector<char> out(candidates.rows.size());
  for (size_t i = 0; i < out.size(); i++) {
    out[i] = i == one;
    if (i == one || candidates.c[i] != candidates.c[one]) continue;
    if (first.empty()) {
      first.resize(row.size());
      exact.values(data.rows, candidates.rows[one], first.data());
    }
    exact.values(data.rows, candidates.rows[i], row.data());
    double apart = 0;
    for (size_t k = 0; k < row.size(); k++) apart += (row[k] - first[k]) * (row[k] - first[k]);
    out[i] = apart == 0;
  }
  return out;
}

// Rows and weights of the `top` heaviest candidates; rows that are no candidates follow with weight 0.
void fill_top(const Candidates& candidates, const std::vector<double>& logits, double log_weight_top, int64_t top,
              int64_t* index, double* weight) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto none = [&](size_t i) { return logits[i] == -INFINITY; };
  order.erase(std::remove_if(order.begin(), order.end(), none), order.end());
  const int64_t first = std::min<int64_t>(top, order.size());
  std::partial_sort(order.begin(), order.begin() + first, order.end(),
                    [&](size_t i, size_t j) { return logits[i] != logits[j] ? logits[i] > logits[j] : i < j; });
  int64_t filled = 0;
  for (; filled < first; filled++) {
    const size_t i = order[filled];
    index[filled] = candidates.rows[i];
    weight[filled] = std::exp(log_weight_top + logits[i]);
  }
  if (filled == top) return;
  std::vector<int64_t> taken(index, index + filled);
  std::sort(taken.begin(), taken.end());
  for (int64_t row = 0; filled < top; row++) {
    if (std::binary_search(taken.begin(), taken.end(), row)) continue;
    index[filled] = row, weight[filled] = 0;
    filled++;
  }
}

// What follows from the weights of one query alone; `sums` gets the rows that have any. `remainder`: sums over all
// other rows, or nullptr. `variance`: as far as it is known.
AnswerInfo write_scalars(const Data& data, const Query& query, const Candidates& from, const Sums* remainder,
                         double variance, const Outputs& out, AboutPoint& sums) {
  const RelativeLogits relative = relative_logits(data, query, from, variance);
  const double runner_up = relative.runner_up;
  const size_t rows = from.rows.size();
  // Copies of the heaviest row say nothing about the variance, which is made of the first row that differs. Of equal
  // rows one is counted, as filters do.
  const std::vector<char> is_copy = out.variance || out.jvp ? copies_of(data, from, relative.top) : std::vector<char>{};
  double differing = -INFINITY;
  for (size_t i = 0; i < is_copy.size(); i++) {
    if (!is_copy[i]) differing = std::max(differing, relative.logits[i]);
  }
  size_t copies = 0;
  for (size_t i = 0; i < is_copy.size(); i++) {
    const bool later = data.copies.any() && data.copies.later[static_cast<size_t>(from.rows[i])];
    copies += is_copy[i] && !later && relative.logits[i] >= differing;
  }
  const bool second_order = differing > -INFINITY;
  const double counted_from = second_order ? differing : out.off_weights() ? runner_up : 0.0;
  const double floor = remainder ? -INFINITY : (counted_from > -INFINITY ? counted_from : 0.0) - query.cut;
  // Logits of a unit of the remainder and of all that is in them.
  double unit = -INFINITY, log_remainder = -INFINITY;
  if (remainder && remainder->p > 0) {
    const double top = data.log_w[from.rows[relative.top]] - from.c[relative.top] / (2 * query.s2);
    unit = remainder->reference / kLog2e + remainder->offset + data.log_w_max - top;
    log_remainder = unit + std::log(remainder->p);
  }
  const double level = std::max(runner_up, log_remainder);  // relative to this nothing underflows
  double others = 0, weighted = 0;
  if (log_remainder > -INFINITY) {
    others = std::exp(log_remainder - level);
    weighted = others * (unit + remainder->p_score / (kLog2e * remainder->p));
  }
  int64_t kept = 0;
  for (size_t i = 0; i < rows; i++) {
    const double l = relative.logits[i];
    if (l == -INFINITY || l < floor) continue;
    kept++;
    if (i == relative.top) continue;
    const double weight = std::exp(l - level);
    others += weight, weighted += weight * l;
  }
  const double log_others = others > 0 ? level + std::log(others) : -INFINITY;
  const double odds = std::exp(log_others), log_total = std::log1p(odds), p_top = 1 / (1 + odds);
  const double scale = std::exp(level) * p_top;
  const int64_t m = query.index;
  sums.top_row = from.rows[relative.top], sums.p_top = p_top;
  if (out.log_norm) {
    out.log_norm[m] =
        query.s2 > 0 ? data.log_w[sums.top_row] - from.c[relative.top] / (2 * query.s2) + log_total : -INFINITY;
  }
  if (out.index) out.index[m] = sums.top_row;
  if (out.gap) out.gap[m] = query.s2 == 0 && runner_up > -INFINITY ? 0.0 : -runner_up;
  if (out.log_rest) out.log_rest[m] = log_others - log_total;
  if (out.entropy) out.entropy[m] = log_total - (others > 0 ? scale * weighted : 0.0);
  if (out.top > 0) {
    fill_top(from, relative.logits, -log_total, out.top, out.top_index + m * out.top, out.top_weight + m * out.top);
  }
  sums.unit = std::exp(unit) * p_top;
  double squares = p_top * p_top + (remainder ? sums.unit * sums.unit * remainder->p_p : 0.0);
  for (size_t i = 0; i < rows; i++) {
    if (i == relative.top || relative.logits[i] < floor) continue;
    const double p = std::exp(relative.logits[i]) * p_top;
    squares += p * p;
    if (p > 0) sums.rows.push_back(from.rows[i]), sums.p.push_back(p);
  }
  if (out.ess) out.ess[m] = 1 / squares;
  if (out.mass) {
    double* const mass = out.mass + m * out.classes;
    for (int64_t c = 0; c < out.classes; c++) mass[c] = sums.unit > 0 ? sums.unit * remainder->mass[c] : 0.0;
    mass[out.codes[sums.top_row]] += p_top;
    for (size_t i = 0; i < sums.rows.size(); i++) mass[out.codes[sums.rows[i]]] += sums.p[i];
  }
  return {.rows = kept,
          .copies = copies,
          .remainder = std::exp(log_remainder) * p_top,
          .variance = 0,
          .nearest = from.c[relative.nearest]};
}

// The sums over other rows, which are in normal form, about the centre or the query.
void add_remainder(const Data& data, const Query& query, const Sums& remainder, AboutPoint& to) {
  const double* const u = query.u;
  if (to.unit == 0) return;
  const ptrdiff_t d = data.rows.d;
  double point2 = 0, x_point = 0, u_point = 0, u_x = 0;
  const auto point = [&](ptrdiff_t k) {
    if (!remainder.about_query) return (to.point[k] - data.center[k]) / data.unit;
    return std::fma(query.alpha, to.point[k], -query.x[k]) / (query.alpha * data.unit);
  };
  for (ptrdiff_t k = 0; k < d; k++) {
    const double t = point(k);
    point2 += t * t, x_point += remainder.x[k] * t;
    if (u) u_point += u[k] * t, u_x += u[k] * remainder.x[k];
  }
  const double unit2 = data.unit * data.unit;
  to.spread += to.unit * unit2 * std::max(0.0, remainder.p_n2 - 2 * x_point + remainder.p * point2);
  for (ptrdiff_t k = 0; k < d; k++) {
    const double t = point(k), x = remainder.x[k];
    to.shift[k] += to.unit * data.unit * (x - remainder.p * t);
    // <X - t, u> (X - t)
    if (u)
      to.along[k] += to.unit * unit2 * (query.largest_u * remainder.u_x[k] - t * u_x - u_point * (x - remainder.p * t));
  }
}

// sum p |delta - shift|^2, the variance.
double variance_of(const AboutPoint& sums) {
  const double shift2 = std::inner_product(sums.shift.begin(), sums.shift.end(), sums.shift.begin(), 0.0);
  return std::max(0.0, sums.spread - shift2);
}

// Whether a point is so far from the mean that sums about it lose digits there: an outlier among many rows that count.
bool lose_digits(const AboutPoint& sums) {
  constexpr double kFar = 16;  // squares: at four deviations two bits of a mean are lost, four of a variance
  return sums.spread > kFar * variance_of(sums);
}

// Sums are to be formed anew about the mean that they gave; all rows are others to it.
void move_to_mean(AboutPoint& sums) {
  const auto at = std::lower_bound(sums.rows.begin(), sums.rows.end(), sums.top_row);
  sums.p.insert(sums.p.begin() + (at - sums.rows.begin()), sums.p_top);
  sums.rows.insert(at, sums.top_row);
  for (size_t k = 0; k < sums.point.size(); k++) sums.point[k] += sums.shift[k];
  std::fill(sums.shift.begin(), sums.shift.end(), 0.0);
  std::fill(sums.along.begin(), sums.along.end(), 0.0);
  sums.spread = 0;
}

// About the mean, the matrix like the variance. Returns the variance.
double write_sums(const AboutPoint& from, const Query& query, const Outputs& out) {
  const int64_t m = query.index;
  const ptrdiff_t d = static_cast<ptrdiff_t>(from.point.size());
  double along = 0;
  for (ptrdiff_t k = 0; k < d; k++) {
    if (out.mean) out.mean[m * d + k] = from.point[k] + from.shift[k];
    if (out.jvp) along += from.shift[k] * query.u[k];
  }
  const double variance = variance_of(from);
  if (out.variance) out.variance[m] = variance;
  if (out.scatter) out.scatter[m] = variance;
  for (ptrdiff_t k = 0; out.jvp && k < d; k++) {
    out.jvp[m * d + k] = from.along[k] - along * from.shift[k];
  }
  return variance;
}

}  // namespace

std::vector<AnswerInfo> answer_from_candidates(const Data& data, const Query* queries,
                                               const std::vector<Candidates>& candidates,
                                               const std::vector<Sums>& remainders, const Outputs& out, int threads) {
  const int64_t n = candidates.size();
  const ExactKernels& exact = *active_kernels().exact;
  std::vector<AnswerInfo> info(candidates.size());
  // The sums of queries first, first + 1, ..., about their points.
  const auto add_all = [&](int64_t first, AboutPoint* sums, int64_t count) {
    by_stretches(
        data, count, [&](int64_t q) -> const std::vector<int64_t>& { return sums[q].rows; },
        [&](int64_t q, size_t i) {
          AboutPoint& to = sums[q];
          to.spread += to.p[i] * exact.add(data.rows, to.rows[i], to.point.data(), to.p[i], to.shift.data(),
                                           queries[first + q].u, to.along.data());
        });
    for (int64_t q = 0; q < count && !remainders.empty(); q++) {
      add_remainder(data, queries[first + q], remainders[first + q], sums[q]);
    }
  };
  // Queries first ... first + count - 1, of which `info` has the variance as far as it is known.
  const auto answer = [&](int64_t first, int64_t count) {
    std::vector<AboutPoint> sums(count);
    for (int64_t q = 0; q < count; q++) {
      const int64_t at = first + q;
      AboutPoint& to = sums[q];
      const Sums* const remainder = remainders.empty() ? nullptr : &remainders[at];
      info[at] = write_scalars(data, queries[at], candidates[at], remainder, info[at].variance, out, to);
      if (!out.vectors()) continue;
      const ptrdiff_t d = data.rows.d;
      to.point.resize(d), to.shift.resize(d), to.along.resize(out.jvp ? d : 0);
      exact.values(data.rows, to.top_row, to.point.data());
    }
    if (!out.vectors()) return;
    add_all(first, sums.data(), count);
    for (int64_t q = 0; q < count; q++) {
      if (lose_digits(sums[q])) move_to_mean(sums[q]), add_all(first + q, &sums[q], 1);
      info[first + q].variance = write_sums(sums[q], queries[first + q], out) / (data.unit * data.unit);
    }
  };
  parallel_by_query((n + kRefineTogether - 1) / kRefineTogether, threads, [&](int64_t task) {
    const int64_t first = task * kRefineTogether, last = std::min(n, first + kRefineTogether);
    answer(first, last - first);
    for (int64_t q = first; q < last; q++) {
      const auto ill = [&](double v) { return ill_conditioned(data, queries[q], info[q].nearest, v, true); };
      if (!ill(0) && ill(info[q].variance)) answer(q, 1);
    }
  });
  return info;
}

void correct(const Data& data, const Query& query, const std::vector<double>& scores, const Candidates& candidates,
             const Outputs& out, Sums& sums) {
  const ExactKernels& exact = *active_kernels().exact;
  const ptrdiff_t d = data.rows.d;
  if (candidates.rows.empty()) return;
  std::vector<double> row(static_cast<size_t>(d));
  const double scale = query.largest_u;
  sums.best = -INFINITY;
  for (size_t i = 0; i < candidates.rows.size(); i++) {
    const int64_t n = candidates.rows[i];
    if (data.log_w[n] == -INFINITY) continue;
    const double farther = candidates.c[i] / (data.unit * data.unit) - query.x2;
    const double logit = data.log_w[n] - data.log_w_max - farther / (2 * query.variance);
    const double score = kLog2e * logit - sums.reference;
    const double was = scores[i] - sums.reference;
    const double p = std::exp2(score), old = std::exp2(was), change = p - old;
    sums.best = std::max(sums.best, score + sums.reference);
    sums.exact += p;
    sums += {.p = change, .p_n2 = change * data.n2[n], .p_p = p * p - old * old, .p_score = p * score - old * was};
    if (out.mass) sums.mass[static_cast<size_t>(out.codes[n])] += change;
    if (sums.x.empty()) continue;
    exact.values(data.rows, n, row.data());
    double along = 0;
    for (ptrdiff_t k = 0; k < d; k++) {
      row[k] = (row[k] - data.center[k]) / data.unit;
      sums.x[k] += change * row[k];
      if (scale > 0) along += query.u[k] / scale * row[k];
    }
    for (ptrdiff_t k = 0; scale > 0 && k < d; k++) sums.u_x[k] += change * along * row[k];
  }
  if (!sums.x.empty()) sums.x2 = exact.norm2_of(sums.x.data(), d);
}

void answer_from_sums(const Data& data, const Query& query, const Sums& sums, const Candidates& candidates,
                      const Outputs& out) {
  const int64_t m = query.index;
  const ptrdiff_t d = data.rows.d;
  const double unit = data.unit, scale = unit / sums.p;
  const double log_p = std::log(sums.p);
  const double log_norm = sums.reference / kLog2e + log_p + data.log_w_max + sums.offset;
  if (out.log_norm) out.log_norm[m] = log_norm;
  if (out.ess) out.ess[m] = sums.p * sums.p / sums.p_p;
  if (out.entropy) out.entropy[m] = log_p - sums.p_score / kLog2e / sums.p;
  if (out.variance) out.variance[m] = unit * unit * sums.variance();
  if (out.scatter) out.scatter[m] = unit * unit * sums.variance();
  if (out.mean && sums.about_query) {
    for (ptrdiff_t k = 0; k < d; k++) out.mean[m * d + k] = query.x[k] / query.alpha + scale * sums.x[k];
  } else if (out.mean) {
    active_kernels().exact->add_scaled(data.center.data(), scale, sums.x.data(), d, out.mean + m * d);
  }
  if (out.jvp) {
    double along = 0;
    for (ptrdiff_t k = 0; k < d; k++) along += query.u[k] * (sums.x[k] / sums.p);
    for (ptrdiff_t k = 0; k < d; k++) {
      out.jvp[m * d + k] = unit * unit * (query.largest_u * sums.u_x[k] - along * sums.x[k]) / sums.p;
    }
  }
  for (int64_t c = 0; c < out.classes; c++) {
    out.mass[m * out.classes + c] = std::max(0.0, sums.mass[static_cast<size_t>(c)] / sums.p);
  }
  if (!out.order()) return;
  const RelativeLogits relative = relative_logits(data, query, candidates, 0);
  const int64_t top = candidates.rows[relative.top];
  const double logit = data.log_w[top] - candidates.c[relative.top] / (2 * query.s2);
  const double log_weight = std::min(0.0, logit - log_norm);
  if (out.index) out.index[m] = top;
  if (out.gap) out.gap[m] = -relative.runner_up;
  if (out.log_rest) out.log_rest[m] = std::log(-std::expm1(log_weight));
  if (out.top > 0) {
    fill_top(candidates, relative.logits, log_weight, out.top, out.top_index + m * out.top,
             out.top_weight + m * out.top);
  }
}

}  // namespace interp_fast
