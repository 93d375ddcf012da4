// A pass that only looks: which rows can be among the best of each query.
#pragma once

#include <vector>

#include "dispatch.h"
#include "scan.h"
#include "shortlist.h"

namespace interp_fast {

constexpr int64_t kCollectQueries = 128;  // of a group: there is no second product to share the cache with

// Shows the rows of a block to the shortlists (one per lane) and renews the thresholds of the panel.
template <class T>
void offer_block(const Panel<T>& panel, int width, const Block<T>& block, int64_t first, ptrdiff_t count,
                 Shortlist* lists, T* thresholds) {
  for (int lane = 0; lane < panel.lanes; lane++) {
    const double error =
        (static_cast<double>(panel.slack1[lane]) + panel.slack2[lane] * block.reach) * block.reach +
        panel.slack3[lane] * block.span;
    Shortlist& list = lists[lane];
    if (panel.peak[lane] + error < list.threshold()) continue;
    for (ptrdiff_t i = 0; i < count; i++) {
      if (block.n2[i] == static_cast<T>(kNever)) continue;
      list.offer(first + i, static_cast<double>(panel.s[i * width + lane]), error);
    }
    const double limit = list.threshold();
    T rounded = static_cast<T>(limit);
    if (rounded > limit) rounded = std::nextafter(rounded, static_cast<T>(-INFINITY));
    thresholds[lane] = rounded;
  }
}

// Thresholds that let every lane in use pass at first, and no other.
template <class T>
void open_thresholds(const Panel<T>& panel, int width, T* thresholds) {
  for (int lane = 0; lane < width; lane++) {
    thresholds[lane] = static_cast<T>(lane < panel.lanes ? -INFINITY : INFINITY);
  }
}

// For each query the rows whose score may lie within its cut of the k-th best score. Lists of more than `capacity`
// rows are given up. `weighted` false: by distance alone, over all rows and with no cut.
template <class T>
std::vector<Shortlist> collect(const Data& data, const Query* queries, int64_t count, size_t k, bool weighted,
                               size_t capacity, int threads) {
  const KernelTable& table = active_kernels();
  Panels<T> panels = make_panels<T>(data, table, count, kCollectQueries);
  const Plan& plan = panels.plan;
  // Scores below 1 in size: nothing overflows, however far a query and however small its variance.
  const auto scale = [](const Query& q) { return 1 / (q.alpha * std::sqrt(q.x2) + 0.5 * q.alpha * q.alpha + q.variance); };
  fill_panels(panels, data, queries, nullptr, weighted, threads, scale);

  std::vector<std::vector<Shortlist>> lists(static_cast<size_t>(plan.slabs));  // [slab][query]
  for (auto& slab : lists) slab.resize(static_cast<size_t>(count));
  struct Worker {
    int64_t slab;
    T* s;
    Buffer<T> peak, thresholds;
  };
  std::vector<Worker> workers(static_cast<size_t>(threads));
  const auto start = [&](int64_t group, int64_t slab, int worker, const Scratch<T>& scratch) {
    Worker& mine = workers[static_cast<size_t>(worker)];
    mine.slab = slab, mine.s = scratch.s.get();
    const int64_t first = plan.first_panel(group), open = plan.first_panel(group + 1) - first;
    mine.peak = Buffer<T>(static_cast<size_t>(plan.width));
    mine.thresholds = Buffer<T>(static_cast<size_t>(open * plan.width));
    for (int64_t p = first; p < first + open; p++) {
      open_thresholds(panels.panel(p), plan.width, mine.thresholds.get() + (p - first) * plan.width);
      for (int lane = 0; lane < plan.lanes(p); lane++) {
        const Query& query = queries[p * plan.width + lane];
        const double cut = weighted ? std::min(query.cut, kUnderflow<T>) * query.variance * scale(query) : 0.0;
        lists[static_cast<size_t>(slab)][static_cast<size_t>(p * plan.width + lane)] = Shortlist(k, cut, capacity);
      }
    }
  };
  const auto visit = [&](int64_t group, int64_t p, const Block<T>& block, int64_t first, ptrdiff_t rows, int worker) {
    Worker& mine = workers[static_cast<size_t>(worker)];
    T* const thresholds = mine.thresholds.get() + (p - plan.first_panel(group)) * plan.width;
    Panel<T> panel = panels.panel(p);
    panel.s = mine.s;
    panel.peak = mine.peak.get();
    panel.threshold = thresholds;
    if (!panels.kernels->scores(block, panel)) return;
    offer_block(panel, plan.width, block, first, rows,
                &lists[static_cast<size_t>(mine.slab)][static_cast<size_t>(p * plan.width)], thresholds);
  };
  scan(data, table, panels, weighted, threads, start, visit, [](int64_t, int64_t, int) {});

  std::vector<Shortlist> merged = std::move(lists[0]);
  parallel_for(count, threads, [&](int64_t q, int) {
    Shortlist& list = merged[static_cast<size_t>(q)];
    for (int64_t slab = 1; slab < plan.slabs; slab++) {
      list.append(lists[static_cast<size_t>(slab)][static_cast<size_t>(q)]);
    }
    list.filter();
  });
  return merged;
}

}  // namespace interp_fast
