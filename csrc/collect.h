// A pass that only looks: which rows can be among the best of each query.
#pragma once

#include <vector>

#include "dispatch.h"
#include "scan.h"
#include "shortlist.h"

namespace interp_fast {

constexpr int64_t kCollectQueries = 128;  // of a group: there is no second product to share the cache with

// One worker's memory for showing blocks to shortlists.
template <class T>
struct OfferScratch {
  Buffer<T> second;
  Buffer<int32_t> hits;
  explicit OfferScratch(const Plan& plan)
      : second(static_cast<size_t>(plan.width)), hits(static_cast<size_t>(plan.width * plan.block_rows)) {}
};

// Shows the rows of a block to the shortlists (one per lane) and renews the thresholds of the panel.
template <class T>
void offer_block(const PanelKernels<T>& kernels, const Panel<T>& panel, const Block<T>& block, int64_t first,
                 const OfferScratch<T>& scratch, Shortlist* lists, T* thresholds) {
  const int width = kernels.width;
  const auto error = [&](int lane) {
    return (static_cast<double>(panel.slack1[lane]) + panel.slack2[lane] * block.reach) * block.reach +
           panel.slack3[lane] * block.span;
  };
  const auto renew = [&] {
    for (int lane = 0; lane < panel.lanes; lane++) {
      const double limit = lists[lane].threshold();
      T rounded = static_cast<T>(limit);
      if (rounded > limit) rounded = std::nextafter(rounded, static_cast<T>(-INFINITY));
      thresholds[lane] = rounded;
    }
  };
  // Up to two bounds come from the block at large, before any of its rows is taken.
  const size_t k = lists[0].k();
  if (k == 2) kernels.second_best(block, panel, scratch.second.get());
  for (int lane = 0; k <= 2 && lane < panel.lanes; lane++) {
    lists[lane].raise(panel.peak[lane] - error(lane));
    if (k == 2) lists[lane].raise(scratch.second[static_cast<size_t>(lane)] - error(lane));
  }
  if (k <= 2) renew();
  const ptrdiff_t count = kernels.hits(block, panel, scratch.hits.get());
  for (ptrdiff_t i = 0; i < count; i++) {
    const int32_t at = scratch.hits[static_cast<size_t>(i)];
    const int rows = static_cast<int>(block.rows);
    const int row = kernels.single ? at % rows : at / width, lane = kernels.single ? at / rows : at % width;
    if (lane >= panel.lanes || block.n2[row] == static_cast<T>(kNever)) continue;
    const double score = panel.s[at];
    if (k > 2) lists[lane].raise(score - error(lane));
    lists[lane].add(first + row, score, score + error(lane));
  }
  if (k > 2) renew();
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
    std::unique_ptr<OfferScratch<T>> offer;
  };
  std::vector<Worker> workers(static_cast<size_t>(threads));
  const auto start = [&](int64_t group, int64_t slab, int worker, const Scratch<T>& scratch) {
    Worker& mine = workers[static_cast<size_t>(worker)];
    mine.slab = slab, mine.s = scratch.s.get();
    const int64_t first = plan.first_panel(group), open = plan.first_panel(group + 1) - first;
    if (!mine.offer) mine.offer = std::make_unique<OfferScratch<T>>(plan);
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
  const auto visit = [&](int64_t group, int64_t p, const Block<T>& block, int64_t first, ptrdiff_t, int worker) {
    Worker& mine = workers[static_cast<size_t>(worker)];
    T* const thresholds = mine.thresholds.get() + (p - plan.first_panel(group)) * plan.width;
    Panel<T> panel = panels.panel(p);
    panel.s = mine.s;
    panel.peak = mine.peak.get();
    panel.threshold = thresholds;
    if (!panels.kernels->scores(block, panel)) return;
    offer_block(*panels.kernels, panel, block, first, *mine.offer,
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
