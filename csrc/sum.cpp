#include "sum.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "collect.h"
#include "dispatch.h"
#include "exact.h"

namespace interp_fast {
namespace {

constexpr int64_t kSumQueries = 64;   // of a group
constexpr int64_t kWaveGroups = 64;   // groups whose partial results are held at once
// Rows whose weights may be corrected: up to so many nats below the best, and about so many, if they may weigh more than
// is harmless. What is left has weights below 1/2000 of the largest, or below about 1/32; the errors of those average
// out, and few rows cost little.
constexpr double kHeavy = 8;
constexpr size_t kMostHeavy = 64;
constexpr double kMostInT = 0.5;  // largest weight formed in T whose complement still has its digits
constexpr double kCrowded = 0.25;  // largest weight for which errors of logits count as averaging out

// What a task leaves behind for each of its panels.
template <class T>
struct Partial {
  Buffer<T> running;             // low, reference
  Buffer<double> sums, total, total_u;
  std::vector<Shortlist> lists;  // one per lane, where the order of the heaviest rows is wanted
  int64_t dead_rows = 0;
};

template <class T>
Buffer<T> zeros(int64_t count) {
  Buffer<T> buffer(static_cast<size_t>(count));
  std::memset(buffer.get(), 0, static_cast<size_t>(count) * sizeof(T));
  return buffer;
}

template <class T>
void flush(T* from, double* to, ptrdiff_t size) {
  for (ptrdiff_t i = 0; i < size; i++) to[i] += static_cast<double>(from[i]), from[i] = 0;
}

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

// All slabs of one panel in one place: relative to the largest reference of each lane.
template <class T>
void merge(std::vector<Partial<T>>& slabs, const Plan& plan, ptrdiff_t outer, ptrdiff_t inner) {
  Partial<T>& to = slabs[0];
  const int W = plan.width;
  std::vector<double> factor(static_cast<size_t>(W));
  std::vector<T> reference(to.running.get() + W, to.running.get() + 2 * W);
  for (const Partial<T>& slab : slabs) {
    for (int lane = 0; lane < W; lane++) {
      reference[static_cast<size_t>(lane)] = std::max(reference[static_cast<size_t>(lane)], slab.running[static_cast<size_t>(W + lane)]);
      to.running[static_cast<size_t>(lane)] = std::max(to.running[static_cast<size_t>(lane)], slab.running[static_cast<size_t>(lane)]);
    }
  }
  for (size_t s = 0; s < slabs.size(); s++) {
    Partial<T>& from = slabs[s];
    for (int lane = 0; lane < W; lane++) {
      const double up = static_cast<double>(reference[static_cast<size_t>(lane)]) - from.running[static_cast<size_t>(W + lane)];
      const double f = factor[static_cast<size_t>(lane)] = up == 0 ? 1.0 : std::exp2(-up);
      double* const sums = from.sums.get() + lane;
      const double moved[] = {f * sums[0], f * sums[W], f * f * sums[2 * W], f > 0 ? f * (sums[3 * W] - up * sums[0]) : 0.0};
      for (int i = 0; i < 4; i++) to.sums[static_cast<size_t>(i * W + lane)] = (s ? to.sums[static_cast<size_t>(i * W + lane)] : 0.0) + moved[i];
    }
    const auto scaled = [&](const double* add, double* sum) {
      for (ptrdiff_t i = 0; i < outer; i++) {
        for (ptrdiff_t j = 0; j < inner; j++) {
          const double f = factor[static_cast<size_t>(plan.single ? i : j)];
          const ptrdiff_t at = i * inner + j;
          sum[at] = (s ? sum[at] : 0.0) + f * add[at];
        }
      }
    };
    scaled(from.total.get(), to.total.get());
    if (to.total_u.get()) scaled(from.total_u.get(), to.total_u.get());
    if (s == 0) continue;
    to.dead_rows += from.dead_rows;
    for (size_t lane = 0; lane < to.lists.size(); lane++) to.lists[lane].append(std::move(from.lists[lane]));
  }
  for (int lane = 0; lane < W; lane++) to.running[static_cast<size_t>(W + lane)] = reference[static_cast<size_t>(lane)];
  for (Shortlist& list : to.lists) list.filter();
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

  // The largest weight whose logit may be formed in T whatever the posterior: what the test above lets pass.
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
      const double score = kLog2e * (data_.log_w[n] - data_.log_w_max - farther / (2 * query.variance)) - total.reference;
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
  Panels<T> panels = make_panels(data, kernels_for<T>(table, count, data.rows.d), count, kSumQueries);
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

  std::vector<std::vector<Partial<T>>> partials(static_cast<size_t>(plan.panels));  // [panel][slab]
  for (auto& slabs : partials) slabs.resize(static_cast<size_t>(plan.slabs));
  // A worker's task at hand: its panels, with everything that runs.
  struct Worker {
    Buffer<T> acc, acc_u, lanes;
    std::vector<Panel<T>> panels;
    std::vector<Partial<T>*> partials;
    std::vector<int> unflushed;
    std::unique_ptr<OfferScratch<T>> offer;
  };
  std::vector<Worker> workers(static_cast<size_t>(threads));

  const auto start = [&](int64_t group, int64_t slab, int worker, const Scratch<T>& scratch) {
    Worker& mine = workers[static_cast<size_t>(worker)];
    const int64_t first = plan.first_panel(group), open = plan.first_panel(group + 1) - first;
    mine.acc = zeros<T>(open * plan.size);
    if (directions) mine.acc_u = zeros<T>(open * plan.size);
    mine.lanes = Buffer<T>(static_cast<size_t>((open + 1) * W));  // thresholds, and the peak
    if (listed && !mine.offer) mine.offer = std::make_unique<OfferScratch<T>>(plan);
    mine.panels.clear(), mine.partials.clear();
    mine.unflushed.assign(static_cast<size_t>(open), 0);
    for (int64_t i = 0; i < open; i++) {
      const int64_t p = first + i;
      Partial<T>& partial = partials[static_cast<size_t>(p)][static_cast<size_t>(slab)];
      partial.running = Buffer<T>(static_cast<size_t>(2 * W));
      for (int lane = 0; lane < W; lane++) {  // lanes that are not in use are dead from the start
        const T never = static_cast<T>(lane < plan.lanes(p) ? -INFINITY : kNever);
        partial.running[static_cast<size_t>(lane)] = partial.running[static_cast<size_t>(W + lane)] = never;
      }
      partial.sums = zeros<double>(4 * W);
      partial.total = zeros<double>(plan.size);
      if (directions) partial.total_u = zeros<double>(plan.size);
      for (int lane = 0; listed && lane < plan.lanes(p); lane++) {
        const double least = out.order() ? 0.0 : -INFINITY, cut = std::min(kHeavy, queries[p * W + lane].cut);
        partial.lists.emplace_back(k, kLog2e * cut, least, std::max(kMostHeavy, k), capacity);
        if (harmless[static_cast<size_t>(p * W + lane)] >= 1) partial.lists.back().raise_bar(INFINITY);
      }
      Panel<T> panel = panels.panel(p);
      panel.s = scratch.s.get();
      panel.su = scratch.su.get();
      panel.peak = mine.lanes.get() + open * W;
      panel.low = partial.running.get(), panel.reference = partial.running.get() + W;
      panel.sums = partial.sums.get();
      panel.acc = mine.acc.get() + i * plan.size, panel.total = partial.total.get();
      if (directions) panel.acc_u = mine.acc_u.get() + i * plan.size, panel.total_u = partial.total_u.get();
      if (listed) {
        open_thresholds(panel, W, mine.lanes.get() + i * W);
        panel.threshold = mine.lanes.get() + i * W;
      }
      mine.panels.push_back(panel), mine.partials.push_back(&partial);
    }
  };
  const auto flush_panel = [&](Panel<T>& panel) {
    flush(panel.acc, panel.total, plan.size);
    if (directions) flush(panel.acc_u, panel.total_u, plan.size);
  };
  const auto visit = [&](int64_t group, int64_t p, const Block<T>& block, int64_t first, ptrdiff_t rows, int worker) {
    Worker& mine = workers[static_cast<size_t>(worker)];
    const size_t i = static_cast<size_t>(p - plan.first_panel(group));
    Panel<T>& panel = mine.panels[i];
    if (panels.kernels->scores(block, panel)) {
      Shortlist* const lists = mine.partials[i]->lists.data();
      if (doubts) raise_bars(*panels.kernels, block, panel, &harmless[static_cast<size_t>(p * W)], *mine.offer, lists);
      offer_block(*panels.kernels, panel, block, first, *mine.offer, lists,
                  mine.lanes.get() + static_cast<ptrdiff_t>(i) * W);
    }
    const ptrdiff_t alive = panels.kernels->add(block, panel, statistics);
    mine.partials[i]->dead_rows += std::max<ptrdiff_t>(0, rows - alive);
    if (alive == 0) return;
    if (directions) panels.kernels->add_along(block, panel);
    if (++mine.unflushed[i] == plan.flush_blocks) flush_panel(panel), mine.unflushed[i] = 0;
  };
  const auto finish = [&](int64_t, int64_t, int worker) {
    for (Panel<T>& panel : workers[static_cast<size_t>(worker)].panels) flush_panel(panel);
  };
  scan(data, table, panels, true, threads, start, visit, finish);

  const ptrdiff_t outer = plan.single ? plan.lanes(0) : d, inner = plan.single ? plan.ld : W;
  std::vector<Shortlist> lists(static_cast<size_t>(count));
  parallel_for(plan.panels, threads, [&](int64_t p, int) {
    std::vector<Partial<T>>& slabs = partials[static_cast<size_t>(p)];
    merge(slabs, plan, outer, inner);
    for (size_t lane = 0; lane < slabs[0].lists.size(); lane++) {
      lists[static_cast<size_t>(p * W) + lane] = std::move(slabs[0].lists[lane]);
    }
  });
  std::vector<Total> totals(static_cast<size_t>(count));
  std::vector<char> unsettled(static_cast<size_t>(count));
  parallel_for(count, threads, [&](int64_t q, int) {
    const Partial<T>& merged = partials[static_cast<size_t>(q / W)][0];
    const int lane = static_cast<int>(q % W);
    const auto sum = [&](int i) { return merged.sums[static_cast<size_t>(i * W + lane)]; };
    Total& total = totals[static_cast<size_t>(q)];
    total = {static_cast<double>(merged.running[static_cast<size_t>(W + lane)]),
             static_cast<double>(merged.running[static_cast<size_t>(lane)]),
             sum(0), sum(1), sum(2), sum(3), {}, {},
             logit_error<T>(data, queries[q]), -queries[q].x2 / (2 * queries[q].variance)};
    total.x.resize(static_cast<size_t>(d));
    if (directions) total.u_x.resize(static_cast<size_t>(d));
    for (ptrdiff_t k = 0; k < d; k++) {
      const size_t at = static_cast<size_t>(panels.at(lane, k));
      total.x[static_cast<size_t>(k)] = merged.total[at];
      if (directions) total.u_x[static_cast<size_t>(k)] = merged.total_u[at];
    }
    unsettled[static_cast<size_t>(q)] = !finisher.enough(queries[q], total, total.largest(), false);
    if (unsettled[static_cast<size_t>(q)] || !listed) return;
    lists[static_cast<size_t>(q)].raise_bar(INFINITY);
    lists[static_cast<size_t>(q)].filter();
  });
  const std::vector<Candidates> candidates =
      listed ? measure(data, queries, lists, threads) : std::vector<Candidates>(static_cast<size_t>(count));

  std::vector<char> passed(static_cast<size_t>(count));
  parallel_for(count, threads, [&](int64_t q, int) {
    const Partial<T>& merged = partials[static_cast<size_t>(q / W)][0];
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
      const double bound = static_cast<double>(merged.dead_rows) * std::exp(-query.cut);
      out.dropped[query.index] = std::min(1.0, bound);
    }
    if (out.work && !query.counted) {
      out.work[query.index] = 1 - 0.5 * static_cast<double>(merged.dead_rows) / static_cast<double>(data.rows.n);
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
  if (!(total.p > 0 && total.logit <= promise.logit) || !finisher.enough(query, total, total.largest(), false)) return false;
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
