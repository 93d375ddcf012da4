#include "sum.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "collect.h"
#include "dispatch.h"
#include "finisher.h"
#include "running.h"

namespace interp_fast {
namespace {

constexpr int64_t kSumQueries = 256;                           // of a group: rows are decoded once for so many
constexpr int64_t kSumRows = 32 * kBlock, kFewSumRows = 1536;  // of a slab: then sums in T go up a level
constexpr int64_t kWaveGroups = 16;                            // groups whose results are held at once
// Rows whose weights may be corrected: up to so many nats below the best, and about so many, if they may weigh more
// than is harmless. What is left has weights below 1/2000 of the largest, or below about 1/32; the errors of those
// average out, and few rows cost little.
constexpr double kHeavy = 8;
constexpr size_t kMostHeavy = 64;
constexpr int64_t kSample = 48;  // about this part of the rows tells where lists start

// Rows that cannot end with more than a harmless weight need no place in the lists: the rows so far and those of this
// block are part of the final sum. Where there are rows so far, the heaviest of the block is enough of it.
template <class T>
void raise_bars(const PanelKernels<T>& kernels, const Block<T>& block, const Panel<T>& panel, const double* harmless,
                T* mass, Shortlist* lists) {
  const bool first = panel.sums[0] == 0;
  if (first) kernels.mass(block, panel, mass);
  for (int lane = 0; lane < panel.lanes; lane++) {
    if (panel.peak[lane] + score_error_of(block, panel, lane) < panel.threshold[lane]) continue;  // nothing to list
    const double reference = panel.reference[lane], peak = panel.peak[lane], level = std::max(reference, peak);
    const double before = panel.sums[lane] * std::exp2(reference - level);
    const double sum = before + (first ? mass[lane] : 1) * std::exp2(peak - level);
    lists[lane].raise_bar(level + std::log2(harmless[lane] * sum));
  }
}

// Rows that are apart never count among the others.
template <class T>
void leave_out(const Plan& plan, const Block<T>& block, const Panel<T>& panel, const Query* queries, int64_t first) {
  for (int lane = 0; lane < panel.lanes; lane++) {
    const std::vector<int64_t>& rows = queries[lane].apart->candidates.rows;
    const auto begin = std::lower_bound(rows.begin(), rows.end(), first);
    const auto end = std::lower_bound(begin, rows.end(), first + block.rows);
    if (begin == end) continue;
    const ptrdiff_t step = plan.single ? 1 : plan.width;
    T* const scores = panel.s + (plan.single ? lane * block.rows : lane);
    for (auto row = begin; row != end; row++) scores[(*row - first) * step] = static_cast<T>(-kNever);
    T peak = static_cast<T>(-INFINITY);
    for (ptrdiff_t n = 0; n < block.rows; n++) peak = std::max(peak, scores[n * step]);
    panel.peak[lane] = peak;
  }
}

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
  const bool apart = queries[0].apart != nullptr;  // then of all, and they are all that is asked of single rows
  const bool doubts = !apart && *std::min_element(harmless.begin(), harmless.end()) < 1;
  const bool listed = !apart && (out.order() || doubts);

  const int64_t sample = kSample * plan.slabs * plan.block_rows / data.rows.n + 1;
  const First known = listed ? first_rows(data, table, panels, k, true, sample, doubts, threads) : First{};

  std::vector<Running<T, double>> merged;
  for (int64_t p = 0; p < plan.panels; p++) merged.emplace_back(plan, directions != nullptr);
  parallel_for(plan.panels, threads, [&](int64_t p, int) { merged[p].clear(plan, p, directions != nullptr); });
  std::vector<Group<T>> groups(static_cast<size_t>(plan.groups));
  for (Group<T>& group : groups) group.waiting.resize(static_cast<size_t>(plan.slabs));
  // A worker's task at hand: its panels, with everything that runs.
  struct Worker {
    std::vector<Running<T, T>> running;
    Buffer<T> thresholds, mass;
  };
  std::vector<Worker> workers(static_cast<size_t>(threads));

  const auto start = [&](int64_t g, int64_t, int worker, Panel<T>* of_group) {
    Worker& mine = workers[worker];
    Group<T>& group = groups[g];
    const int64_t first = plan.first_panel(g), open = plan.first_panel(g + 1) - first;
    {
      std::lock_guard<std::mutex> lock(group.mutex);
      if (!group.spare.empty()) mine.running = std::move(group.spare.back()), group.spare.pop_back();
    }
    while (static_cast<int64_t>(mine.running.size()) < open) mine.running.emplace_back(plan, directions != nullptr);
    mine.thresholds = Buffer<T>(static_cast<size_t>(open * W));
    mine.mass = Buffer<T>(static_cast<size_t>(W));
    for (int64_t i = 0; i < open; i++) {
      const int64_t p = first + i;
      Running<T, T>& running = mine.running[i];
      running.clear(plan, p, directions != nullptr);
      if (listed) running.lists.resize(static_cast<size_t>(plan.lanes(p)));
      for (int lane = 0; listed && lane < plan.lanes(p); lane++) {
        const size_t q = static_cast<size_t>(p * W + lane);
        const double least = out.order() ? 0.0 : -INFINITY, cut = std::min(kHeavy, queries[q].cut);
        Shortlist& list = running.lists[lane];
        list.start(k, kLog2e * cut, least, std::max(kMostHeavy, k), capacity);
        list.start_from(known.bounds[q]);
        list.raise_bar(harmless[q] < 1 ? known.mass[q] + std::log2(harmless[q]) : INFINITY);
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
    Worker& mine = workers[worker];
    Running<T, T>* const running = mine.running.data() + from;
    kernels.scores(block, some, number);
    for (int i = 0; i < number; i++) {
      const int64_t query = (plan.first_panel(g) + from + i) * W;
      if (apart) leave_out(plan, block, some[i], queries + query, first);
      if (!some[i].found) continue;
      Shortlist* const lists = running[i].lists.data();
      if (doubts) raise_bars(kernels, block, some[i], harmless.data() + query, mine.mass.get(), lists);
      offer_block(plan, some[i], block, first, lists, mine.thresholds.get() + (from + i) * W);
    }
    kernels.add(block, some, number, statistics);
    for (int i = 0; i < number; i++) {
      running[i].dead_rows += std::max<ptrdiff_t>(0, rows - some[i].alive_rows);
      if (some[i].alive_rows > 0 && directions) kernels.add_along(block, some[i]);
    }
  };
  const auto finish = [&](int64_t g, int64_t slab, int worker) {
    Group<T>& group = groups[g];
    std::lock_guard<std::mutex> lock(group.mutex);
    group.waiting[slab] = std::move(workers[worker].running);
    for (; group.next < plan.slabs; group.next++) {
      std::vector<Running<T, T>>& next = group.waiting[group.next];
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
    Running<T, double>& from = merged[q / W];
    const int lane = static_cast<int>(q % W);
    const auto sum = [&](int i) { return from.sums[i * W + lane]; };
    Total& total = totals[q];
    total = {static_cast<double>(from.reference(lane, plan)),
             static_cast<double>(from.low(lane)),
             sum(0),
             sum(1),
             sum(2),
             sum(3),
             {},
             {},
             logit_error<T>(data, queries[q]),
             -queries[q].x2 / (2 * queries[q].variance)};
    total.x.resize(static_cast<size_t>(d));
    if (directions) total.u_x.resize(static_cast<size_t>(d));
    for (ptrdiff_t k = 0; k < d; k++) {
      const size_t at = static_cast<size_t>(panels.at(lane, k));
      total.x[k] = from.x[at];
      if (directions) total.u_x[k] = from.u_x[at];
    }
    if (listed) {
      lists[q] = std::move(from.lists[lane]);
      lists[q].filter();
    }
    if (total.reference <= -kNever / 2) total.p = 0;  // there is no row beside those that are apart
    unsettled[q] = apart || !finisher.enough(queries[q], total, harmless[q]);
    if (unsettled[q] || !listed) return;
    lists[q].raise_bar(INFINITY);
    lists[q].filter();
  });
  std::vector<Candidates> candidates =
      listed ? measure(data, queries, lists, threads) : std::vector<Candidates>(static_cast<size_t>(count));
  std::vector<Used> used(static_cast<size_t>(count));
  if (apart) {
    for (int64_t q = 0; q < count; q++) candidates[q] = queries[q].apart->candidates;
    used = finish_exact(data, queries, candidates, totals, u, out, threads);
  }

  // Whether no other row can be heavier than the k best that are apart.
  const auto best_apart = [&](int64_t q) {
    const Panel<T> panel = panels.panel(q / W);
    Block<T> all{};
    all.reach = static_cast<T>(data.reach), all.span = static_cast<T>(data.log_w_span);
    const double error = score_error_of(all, panel, static_cast<int>(q % W));
    const double others = (totals[q].low + 2 * error) / kLog2e + totals[q].offset + data.log_w_max;
    return totals[q].p == 0 || finisher.kth_logit(queries[q], candidates[q], k) >= others;
  };
  std::vector<Query> done(queries, queries + count);
  std::vector<char> passed(static_cast<size_t>(count));
  parallel_for(count, threads, [&](int64_t q, int) {
    const double dead_rows = static_cast<double>(merged[q / W].dead_rows);
    Query& query = done[q];
    const Shortlist& list = lists[q];
    Total& total = totals[q];
    bool settled =
        apart ? finisher.enough(query, total, used[q]) && (query.apart->proven || best_apart(q)) : !unsettled[q];
    if (!settled && listed && !list.overflowed()) {
      const double unsure = std::exp2(list.threshold() - total.reference) / total.p;
      finisher.correct(query, list, candidates[q], total);
      settled = finisher.enough(query, total, unsure, true);
      if (!settled && !candidates[q].rows.empty() && finisher.hidden(query, total, unsure)) {
        query.apart = std::make_shared<const Apart>(Apart{std::move(candidates[q]), true});
      }
    }
    passed[q] = settled && !list.overflowed();
    if (passed[q] && !apart) finisher.write(query, total, candidates[q]);
    if (out.dropped) {
      out.dropped[query.index] = std::min(1.0, dead_rows * std::exp(-query.cut));
    }
    if (out.work && !query.counted) {
      out.work[query.index] = 1 - 0.5 * dead_rows / static_cast<double>(data.rows.n);
    }
    query.counted = true;
  });
  std::vector<Query> rest;
  for (int64_t q = 0; q < count; q++) {
    if (!passed[q]) rest.push_back(std::move(done[q]));
  }
  return rest;
}

}  // namespace

template <class T>
double logit_error(const Data& data, const Query& query) {
  // Half of e n with e = u |y| / s^2 in normal form (y the query over alpha), where a query near the centre counts as
  // one half way out; and of the stored log-weights.
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
  std::vector<Query> tried, plain, apart, rest;
  for (const Query& query : queries) (!query.apart ? plain : query.apart->proven ? apart : tried).push_back(query);
  const auto waves = [&](const std::vector<Query>& of, auto take) {
    const int64_t count = static_cast<int64_t>(of.size()), wave = kWaveGroups * kSumQueries;
    for (int64_t first = 0; first < count; first += wave) {
      take(sum_wave<T>(data, of.data() + first, std::min(wave, count - first), u, out, promise, threads));
    }
  };
  waves(tried, [&](std::vector<Query> failed) {
    for (Query& query : failed) query.apart = nullptr;
    plain.insert(plain.end(), failed.begin(), failed.end());
  });
  waves(plain, [&](const std::vector<Query>& failed) {
    for (const Query& query : failed) (query.apart ? apart : rest).push_back(query);
  });
  waves(apart, [&](const std::vector<Query>& failed) { rest.insert(rest.end(), failed.begin(), failed.end()); });
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
