#include "sum.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "collect.h"
#include "dispatch.h"
#include "exact.h"

namespace interp_fast {
namespace {

constexpr int64_t kSumQueries = 256;  // of a group: rows are decoded once for so many
constexpr int64_t kSumRows = 32 * kBlock, kFewSumRows = 1536;  // of a slab: then sums in T go up a level
constexpr int64_t kWaveGroups = 16;   // groups whose results are held at once
// Rows whose weights may be corrected: up to so many nats below the best, and about so many, if they may weigh more than
// is harmless. What is left has weights below 1/2000 of the largest, or below about 1/32; the errors of those average
// out, and few rows cost little.
constexpr double kHeavy = 8;
constexpr size_t kMostHeavy = 64;
constexpr double kMostInT = 0.5;  // largest weight formed in T whose complement still has its digits
constexpr double kCrowded = 0.25;  // largest weight for which errors of logits count as averaging out

// What runs over rows, of one panel: over those of a slab in T, over all in float64.
template <class T, class Sum>
struct Running {
  Buffer<T> scores;              // low, reference
  Buffer<double> sums;           // as in Panel
  Buffer<Sum> x, u_x;            // sum p X, sum p <u, X> X
  std::vector<Shortlist> lists;  // one per lane, where heavy rows are wanted
  int64_t dead_rows;

  Running(const Plan& plan, bool directions)
      : scores(static_cast<size_t>(2 * plan.width)), sums(static_cast<size_t>(4 * plan.width)),
        x(static_cast<size_t>(plan.size)), u_x(static_cast<size_t>(directions ? plan.size : 0)) {}

  void clear(const Plan& plan, int64_t panel, bool directions) {
    for (int lane = 0; lane < plan.width; lane++) {  // lanes that are not in use are dead from the start
      const T never = static_cast<T>(lane < plan.lanes(panel) ? -INFINITY : kNever);
      low(lane) = reference(lane, plan) = never;
    }
    std::fill_n(sums.get(), 4 * plan.width, 0.0);
    std::fill_n(x.get(), plan.size, Sum{});
    if (directions) std::fill_n(u_x.get(), plan.size, Sum{});
    lists.clear();
    dead_rows = 0;
  }
  T& low(int lane) const { return scores[static_cast<size_t>(lane)]; }
  T& reference(int lane, const Plan& plan) const { return scores[static_cast<size_t>(plan.width + lane)]; }
};

// Of one group of panels: what its tasks left behind, merged in the order of its slabs by whoever comes when it is their
// turn.
template <class T>
struct Group {
  std::mutex mutex;
  int64_t next = 0;
  std::vector<std::vector<Running<T, T>>> waiting;  // [slab][panel]
  std::vector<std::vector<Running<T, T>>> spare;    // memory of slabs that are merged
};

// Rows that cannot end with more than a harmless weight need no place in the lists: the rows so far and those of this
// block are part of the final sum.
template <class T>
void raise_bars(const PanelKernels<T>& kernels, const Block<T>& block, const Panel<T>& panel, const double* harmless,
                const OfferScratch<T>& scratch, Shortlist* lists) {
  T* const mass = scratch.second.get();
  kernels.mass(block, panel, mass);
  for (int lane = 0; lane < panel.lanes; lane++) {
    const double reference = panel.reference[lane], peak = panel.peak[lane], level = std::max(reference, peak);
    const double sum = panel.sums[lane] * std::exp2(reference - level) + mass[lane] * std::exp2(peak - level);
    lists[lane].raise_bar(level + std::log2(harmless[lane] * sum));
  }
}

// Adds the sums of a slab to those of the slabs before it, both relative to the larger reference of each lane.
template <class T>
void merge(Running<T, double>& to, Running<T, T>& from, const Plan& plan, bool directions) {
  const int W = plan.width;
  struct Factors {
    double kept, added;
  };
  std::vector<Factors> factors(static_cast<size_t>(W));
  for (int lane = 0; lane < W; lane++) {
    const T old = to.reference(lane, plan), other = from.reference(lane, plan), reference = std::max(old, other);
    to.reference(lane, plan) = reference;
    to.low(lane) = std::max(to.low(lane), from.low(lane));
    double sums[4] = {};
    const auto move = [&](const double* s, T origin) {  // as the kernels do it where the reference moves
      const double up = origin == reference ? 0.0 : static_cast<double>(reference) - origin, f = std::exp2(-up);
      sums[0] += f * s[0], sums[1] += f * s[W], sums[2] += f * f * s[2 * W];
      if (f > 0) sums[3] += f * (s[3 * W] - up * s[0]);
      return f;
    };
    factors[static_cast<size_t>(lane)] = {move(to.sums.get() + lane, old), move(from.sums.get() + lane, other)};
    for (int i = 0; i < 4; i++) to.sums[static_cast<size_t>(i * W + lane)] = sums[i];
  }
  const auto add = [&](double* __restrict sum, const T* __restrict terms) {
    const ptrdiff_t inner = plan.single ? plan.ld : W;
    for (ptrdiff_t at = 0; at < plan.size; at += inner) {
      for (ptrdiff_t j = at; plan.single && j < at + inner; j++) {
        const auto [kept, added] = factors[static_cast<size_t>(at / inner)];
        sum[j] = kept * sum[j] + added * static_cast<double>(terms[j]);
      }
      for (ptrdiff_t j = 0; !plan.single && j < inner; j++) {
        const auto [kept, added] = factors[static_cast<size_t>(j)];
        sum[at + j] = kept * sum[at + j] + added * static_cast<double>(terms[at + j]);
      }
    }
  };
  add(to.x.get(), from.x.get());
  if (directions) add(to.u_x.get(), from.u_x.get());
  to.dead_rows += from.dead_rows;
  if (to.lists.empty()) to.lists.swap(from.lists);
  for (size_t lane = 0; lane < from.lists.size(); lane++) to.lists[lane].append(std::move(from.lists[lane]));
}

template <class T>
class Finisher {
 public:
  Finisher(const Data& data, const Outputs& out, const Promise& promise, const double* u)
      : data_(data), out_(out), promise_(promise), u_(u) {}

  // Whether sums in T are enough for this query. `unsure` is the largest weight whose logit was formed in T: the heavier
  // ones are exact, and with `exact` the heaviest is among them.
  bool enough(const Query& query, const Total& total, double unsure, bool exact) const {
    const double largest = total.largest();
    const double second = std::min(total.p_n2 / total.p, total.spread2), variance = total.variance();
    // Errors of logits reach the mean through the deviation of the rows; where many rows share the weight they average
    // (first order, checked against float64). The sum itself and the stored rows add their own roundings.
    const double deviation = std::sqrt(data_.active == 1 ? 0.0 : std::min(1.0, unsure) * variance);
    const double error = (unsure > kCrowded ? 4 : 1) * total.logit * deviation;
    const double rounding = 4 * kRoundoff<T> * std::sqrt(second);
    if (mean() && !(error + rounding <= allowed(data_, query, promise_))) return false;
    if (out_.scatter && !(error + rounding <= allowed_in_scatter())) return false;
    if (off_weights() && largest > (exact ? 1 - promise_.rest : kMostInT)) return false;
    if ((out_.variance || out_.jvp) && variance < promise_.variance * data_.reach * data_.reach) return false;
    const double known = exact ? std::sqrt(unsure) : 1.0;
    return out_.top == 0 || 2 * total.logit * known * std::min(1.0, largest) <= promise_.top_weight;
  }

  // The same for sums that are wholly in T.
  bool enough(const Query& query, const Total& total, double harmless) const {
    const double largest = total.largest();
    return (largest <= harmless && !(out_.variance || out_.jvp)) || enough(query, total, largest, false);
  }

  // The largest weight whose logit may be formed in T whatever the posterior: what the tests let pass.
  double harmless(const Query& query) const {
    const double error = logit_error<T>(data_, query), rounding = 4 * kRoundoff<T> * data_.reach;
    double most = INFINITY, weight = off_weights() ? kMostInT : 1.0;
    if (mean()) most = allowed(data_, query, promise_) - rounding;
    if (out_.scatter) most = std::min(most, allowed_in_scatter() - rounding);
    const double deviations = std::max(0.0, most) / (error * data_.reach);
    if (deviations < 4) weight = std::min({weight, kCrowded, deviations * deviations});
    const double top = promise_.top_weight / (2 * error);
    return out_.top > 0 ? std::min(weight, top * top) : weight;
  }

  // Gives the rows of a list the weights that they have in float64.
  void correct(const Query& query, const Shortlist& list, const Candidates& candidates, Total& total) const {
    const ExactKernels& exact = active_kernels().exact;
    const ptrdiff_t d = data_.rows.d;
    std::vector<double> row(static_cast<size_t>(d));
    const double* const u = u_ ? u_ + query.index * d : nullptr;
    double scale = 0;
    for (ptrdiff_t k = 0; u && k < d; k++) scale = std::max(scale, std::abs(u[k]));
    if (!candidates.rows.empty()) total.low = -INFINITY;
    for (size_t i = 0; i < candidates.rows.size(); i++) {
      const int64_t n = candidates.rows[i];
      if (data_.log_w[n] == -INFINITY) continue;
      const double farther = candidates.c[i] / (data_.unit * data_.unit) - query.x2;
      const double logit = data_.log_w[n] - data_.log_w_max - farther / (2 * query.variance);
      const double score = kLog2e * logit - total.reference;
      const double was = list.entries()[i].score - total.reference;
      const double p = std::exp2(score), old = std::exp2(was), change = p - old;
      total.low = std::max(total.low, score + total.reference);
      total.p += change, total.p_n2 += change * data_.n2[static_cast<size_t>(n)];
      total.p_p += p * p - old * old, total.p_score += p * score - old * was;
      exact.values(data_.rows, n, row.data());
      double along = 0;
      for (ptrdiff_t k = 0; k < d; k++) {
        const size_t j = static_cast<size_t>(k);
        row[j] = (row[j] - data_.center[j]) / data_.unit;
        total.x[j] += change * row[j];
        if (scale > 0) along += u[k] / scale * row[j];
      }
      for (ptrdiff_t k = 0; scale > 0 && k < d; k++) {
        total.u_x[static_cast<size_t>(k)] += change * along * row[static_cast<size_t>(k)];
      }
    }
  }

  void write(const Query& query, const Total& total, const Candidates& candidates) const {
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
      out_.mean[m * d + k] = data_.center[static_cast<size_t>(k)] + unit * (total.x[static_cast<size_t>(k)] / total.p);
    }
    if (out_.jvp) {
      const double* const u = u_ + m * d;
      double largest = 0, along = 0;
      for (ptrdiff_t k = 0; k < d; k++) largest = std::max(largest, std::abs(u[k]));
      for (ptrdiff_t k = 0; k < d; k++) along += u[k] * (total.x[static_cast<size_t>(k)] / total.p);
      for (ptrdiff_t k = 0; k < d; k++) {
        const size_t j = static_cast<size_t>(k);
        out_.jvp[m * d + k] = unit * unit * (largest * total.u_x[j] - along * total.x[j]) / total.p;
      }
    }
    if (!out_.order()) return;
    const Relative relative = relative_logits(data_, query, candidates);
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
  // What the mean may be off by, so that the scatter keeps its promise.
  double allowed_in_scatter() const { return promise_.scatter * data_.radius * data_.radius / (2 * data_.reach); }
  bool mean() const { return out_.mean || out_.jvp || out_.variance; }
  bool off_weights() const { return out_.log_rest || out_.entropy || out_.variance || out_.jvp; }

  const Data& data_;
  const Outputs& out_;
  const Promise& promise_;
  const double* u_;
};

template <class T>
std::vector<Query> sum_wave(const Data& data, const Query* queries, int64_t count, const double* u, const Outputs& out,
                            const Promise& promise, int threads) {
  const KernelTable& table = active_kernels();
  const PanelKernels<T>& kernels = kernels_for<T>(table, count, data.rows.d);
  Panels<T> panels = make_panels(data, kernels, count, kSumQueries, kernels.single ? kFewSumRows : kSumRows);
  const Plan& plan = panels.plan;
  const ptrdiff_t d = data.rows.d;
  const int W = plan.width;
  const double* const directions = out.jvp ? u : nullptr;
  fill_panels(panels, data, queries, directions, true, threads, [](const Query& q) { return kLog2e / q.variance; });
  const size_t k = static_cast<size_t>(std::min(data.active, std::max<int64_t>(out.gap ? 2 : 1, out.top)));
  const size_t capacity = std::max<size_t>(1024, 4 * k);
  const bool statistics = out.ess || out.entropy;
  const Finisher<T> finisher(data, out, promise, u);
  std::vector<double> harmless(static_cast<size_t>(count));
  std::transform(queries, queries + count, harmless.begin(), [&](const Query& q) { return finisher.harmless(q); });
  const bool doubts = *std::min_element(harmless.begin(), harmless.end()) < 1, listed = out.order() || doubts;

  std::vector<Running<T, double>> merged;
  for (int64_t p = 0; p < plan.panels; p++) merged.emplace_back(plan, directions != nullptr);
  parallel_for(plan.panels, threads, [&](int64_t p, int) {
    merged[static_cast<size_t>(p)].clear(plan, p, directions != nullptr);
  });
  std::vector<Group<T>> groups(static_cast<size_t>(plan.groups));
  for (Group<T>& group : groups) group.waiting.resize(static_cast<size_t>(plan.slabs));
  // A worker's task at hand: its panels, with everything that runs.
  struct Worker {
    std::vector<Running<T, T>> running;
    Buffer<T> thresholds;
    std::unique_ptr<OfferScratch<T>> offer;
  };
  std::vector<Worker> workers(static_cast<size_t>(threads));

  const auto start = [&](int64_t g, int64_t, int worker, Panel<T>* of_group) {
    Worker& mine = workers[static_cast<size_t>(worker)];
    Group<T>& group = groups[static_cast<size_t>(g)];
    const int64_t first = plan.first_panel(g), open = plan.first_panel(g + 1) - first;
    {
      std::lock_guard<std::mutex> lock(group.mutex);
      if (!group.spare.empty()) mine.running = std::move(group.spare.back()), group.spare.pop_back();
    }
    while (static_cast<int64_t>(mine.running.size()) < open) mine.running.emplace_back(plan, directions != nullptr);
    mine.thresholds = Buffer<T>(static_cast<size_t>(open * W));
    if (listed && !mine.offer) mine.offer = std::make_unique<OfferScratch<T>>(plan);
    for (int64_t i = 0; i < open; i++) {
      const int64_t p = first + i;
      Running<T, T>& running = mine.running[static_cast<size_t>(i)];
      running.clear(plan, p, directions != nullptr);
      for (int lane = 0; listed && lane < plan.lanes(p); lane++) {
        const double least = out.order() ? 0.0 : -INFINITY, cut = std::min(kHeavy, queries[p * W + lane].cut);
        running.lists.emplace_back(k, kLog2e * cut, least, std::max(kMostHeavy, k), capacity);
        if (harmless[static_cast<size_t>(p * W + lane)] >= 1) running.lists.back().raise_bar(INFINITY);
      }
      Panel<T>& panel = of_group[i];
      panel.low = running.scores.get(), panel.reference = running.scores.get() + W;
      panel.sums = running.sums.get();
      panel.acc = running.x.get();
      if (directions) panel.acc_u = running.u_x.get();
      if (listed) {
        open_thresholds(panel, W, mine.thresholds.get() + i * W);
        panel.threshold = mine.thresholds.get() + i * W;
      }
    }
  };
  const auto visit = [&](int64_t g, int64_t from, Panel<T>* some, int number, const Block<T>& block, int64_t first,
                         ptrdiff_t rows, int worker) {
    Worker& mine = workers[static_cast<size_t>(worker)];
    Running<T, T>* const running = mine.running.data() + from;
    kernels.scores(block, some, number);
    for (int i = 0; i < number; i++) {
      if (!some[i].found) continue;
      Shortlist* const lists = running[i].lists.data();
      const int64_t query = (plan.first_panel(g) + from + i) * W;
      if (doubts) raise_bars(kernels, block, some[i], harmless.data() + query, *mine.offer, lists);
      offer_block(kernels, some[i], block, first, *mine.offer, lists, mine.thresholds.get() + (from + i) * W);
    }
    kernels.add(block, some, number, statistics);
    for (int i = 0; i < number; i++) {
      running[i].dead_rows += std::max<ptrdiff_t>(0, rows - some[i].alive_rows);
      if (some[i].alive_rows > 0 && directions) kernels.add_along(block, some[i]);
    }
  };
  const auto finish = [&](int64_t g, int64_t slab, int worker) {
    Group<T>& group = groups[static_cast<size_t>(g)];
    std::lock_guard<std::mutex> lock(group.mutex);
    group.waiting[static_cast<size_t>(slab)] = std::move(workers[static_cast<size_t>(worker)].running);
    for (; group.next < plan.slabs; group.next++) {
      std::vector<Running<T, T>>& next = group.waiting[static_cast<size_t>(group.next)];
      if (next.empty()) return;
      for (size_t i = 0; i < next.size(); i++) {
        merge(merged[static_cast<size_t>(plan.first_panel(g)) + i], next[i], plan, directions != nullptr);
      }
      group.spare.push_back(std::move(next));
    }
    group.spare.clear();
  };
  scan(data, table, panels, true, threads, start, visit, finish);

  std::vector<Shortlist> lists(static_cast<size_t>(count));
  std::vector<Total> totals(static_cast<size_t>(count));
  std::vector<char> unsettled(static_cast<size_t>(count));
  parallel_for(count, threads, [&](int64_t q, int) {
    Running<T, double>& from = merged[static_cast<size_t>(q / W)];
    const int lane = static_cast<int>(q % W);
    const auto sum = [&](int i) { return from.sums[static_cast<size_t>(i * W + lane)]; };
    Total& total = totals[static_cast<size_t>(q)];
    total = {static_cast<double>(from.reference(lane, plan)), static_cast<double>(from.low(lane)),
             sum(0), sum(1), sum(2), sum(3), {}, {},
             logit_error<T>(data, queries[q]), -queries[q].x2 / (2 * queries[q].variance)};
    total.x.resize(static_cast<size_t>(d));
    if (directions) total.u_x.resize(static_cast<size_t>(d));
    for (ptrdiff_t k = 0; k < d; k++) {
      const size_t at = static_cast<size_t>(panels.at(lane, k));
      total.x[static_cast<size_t>(k)] = from.x[at];
      if (directions) total.u_x[static_cast<size_t>(k)] = from.u_x[at];
    }
    if (listed) {
      lists[static_cast<size_t>(q)] = std::move(from.lists[static_cast<size_t>(lane)]);
      lists[static_cast<size_t>(q)].filter();
    }
    unsettled[static_cast<size_t>(q)] = !finisher.enough(queries[q], total, harmless[static_cast<size_t>(q)]);
    if (unsettled[static_cast<size_t>(q)] || !listed) return;
    lists[static_cast<size_t>(q)].raise_bar(INFINITY);
    lists[static_cast<size_t>(q)].filter();
  });
  const std::vector<Candidates> candidates =
      listed ? measure(data, queries, lists, threads) : std::vector<Candidates>(static_cast<size_t>(count));

  std::vector<char> passed(static_cast<size_t>(count));
  parallel_for(count, threads, [&](int64_t q, int) {
    const double dead_rows = static_cast<double>(merged[static_cast<size_t>(q / W)].dead_rows);
    const Query& query = queries[q];
    const Shortlist& list = lists[static_cast<size_t>(q)];
    Total& total = totals[static_cast<size_t>(q)];
    bool settled = !unsettled[static_cast<size_t>(q)];
    if (!settled && listed && !list.overflowed()) {
      const double unsure = std::exp2(list.threshold() - total.reference) / total.p;
      finisher.correct(query, list, candidates[static_cast<size_t>(q)], total);
      settled = finisher.enough(query, total, unsure, true);
    }
    passed[static_cast<size_t>(q)] = settled && !list.overflowed();
    if (passed[static_cast<size_t>(q)]) finisher.write(query, total, candidates[static_cast<size_t>(q)]);
    if (out.dropped) {
      out.dropped[query.index] = std::min(1.0, dead_rows * std::exp(-query.cut));
    }
    if (out.work && !query.counted) {
      out.work[query.index] = 1 - 0.5 * dead_rows / static_cast<double>(data.rows.n);
    }
  });
  std::vector<Query> rest;
  for (int64_t q = 0; q < count; q++) {
    if (passed[static_cast<size_t>(q)]) continue;
    rest.push_back(queries[q]);
    rest.back().counted = true;
  }
  return rest;
}

}  // namespace

template <class T>
double logit_error(const Data& data, const Query& query) {
  // Half of e n with e = u |y| / s^2 in normal form (y the query over alpha), where a query near the centre counts as one
  // half way out; and of the stored log-weights.
  const double a = query.alpha, r = data.reach;
  if (query.variance == 0) return INFINITY;
  const double e = kRoundoff<T> * std::max(a * std::sqrt(query.x2), 0.5 * a * a * r) / query.variance;
  return 0.5 * e * r + 0.5 * kRoundoff<T> * data.log_w_span;
}

double allowed(const Data& data, const Query& query, const Promise& promise) {
  const double s = std::sqrt(query.variance) / query.alpha;
  return std::min(promise.per_radius * data.radius, promise.per_deviation * s);
}

template <class T>
bool settle(const Data& data, const Query& query, const Total& total, const Outputs& out, const Promise& promise) {
  const Finisher<T> finisher(data, out, promise, nullptr);
  if (!(total.p > 0 && total.logit <= promise.logit)) return false;  // nor where the sums are no numbers
  if (!finisher.enough(query, total, total.largest(), false)) return false;
  finisher.write(query, total, {});
  return true;
}

template <class T>
bool summable(const Data& data, const Query& query, const Promise& promise) {
  return logit_error<T>(data, query) <= promise.logit;
}

template <class T>
std::vector<Query> sum_pass(const Data& data, const std::vector<Query>& queries, const double* u, const Outputs& out,
                            const Promise& promise, int threads) {
  std::vector<Query> rest;
  const int64_t count = static_cast<int64_t>(queries.size()), wave = kWaveGroups * kSumQueries;
  for (int64_t first = 0; first < count; first += wave) {
    const std::vector<Query> failed =
        sum_wave<T>(data, queries.data() + first, std::min(wave, count - first), u, out, promise, threads);
    rest.insert(rest.end(), failed.begin(), failed.end());
  }
  return rest;
}

template double logit_error<float>(const Data&, const Query&);
template double logit_error<double>(const Data&, const Query&);
template bool settle<float>(const Data&, const Query&, const Total&, const Outputs&, const Promise&);
template bool settle<double>(const Data&, const Query&, const Total&, const Outputs&, const Promise&);
template bool summable<float>(const Data&, const Query&, const Promise&);
template bool summable<double>(const Data&, const Query&, const Promise&);
template std::vector<Query> sum_pass<float>(const Data&, const std::vector<Query>&, const double*, const Outputs&,
                                            const Promise&, int);
template std::vector<Query> sum_pass<double>(const Data&, const std::vector<Query>&, const double*, const Outputs&,
                                             const Promise&, int);

}  // namespace interp_fast
