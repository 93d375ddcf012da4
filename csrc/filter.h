// The filter of filter and refine, a pass of scores alone: which rows can be among the best of each query.
#pragma once

#include <vector>

#include "candidate_list.h"
#include "dispatch.h"
#include "int8.h"
#include "scan.h"

namespace interp_fast {

constexpr int64_t kFilterQueries = 128;  // of a group: there is no second product to share the cache with

// One worker's memory for what the int8 kernels find in a block.
template <class T>
struct Int8Hits {
  Buffer<T> scores;
  Buffer<int32_t> places;
  explicit Int8Hits(const Plan& plan)
      : scores(static_cast<size_t>(plan.width * plan.block_rows)),
        places(static_cast<size_t>(plan.width * plan.block_rows)) {}
};

template <class T>
T rounded_down(double x) {
  const T y = static_cast<T>(x);
  return y > x ? std::nextafter(y, static_cast<T>(-INFINITY)) : y;
}

// Shows the rows of a block to the shortlists (one per lane) and renews the thresholds of the panel. Late in a pass a
// row concerns one lane or two, if any.
template <class T>
void offer_block(const Plan& plan, const Panel<T>& panel, const Block<T>& block, int64_t first, CandidateList* lists,
                 T* thresholds) {
  const ptrdiff_t step = plan.gemv ? 1 : plan.width;
  for (int lane = 0; lane < panel.lanes; lane++) {
    const T error = score_error_of(block, panel, lane);
    if (panel.peak[lane] + error < thresholds[lane]) continue;
    CandidateList& list = lists[lane];
    if (list.k() == 1) list.raise(static_cast<double>(panel.peak[lane]) - error);
    T limit = rounded_down<T>(list.threshold()) - error;
    const T* score = panel.s + (plan.gemv ? lane * block.rows : lane);
    for (ptrdiff_t row = 0; row < block.rows; row++, score += step) {
      if (*score < limit || block.n2[row] == static_cast<T>(kNever)) continue;
      if (list.k() > 1) list.raise(static_cast<double>(*score) - error);
      list.add(first + row, *score, static_cast<double>(*score) + error);
      limit = rounded_down<T>(list.threshold()) - error;
    }
    thresholds[lane] = rounded_down<T>(list.threshold());
  }
}

// The same for rows found by int8 products.
template <class T>
void offer_hits(const Panel<T>& panel, const Block<T>& block, int width, int64_t first, ptrdiff_t count,
                const Int8Hits<T>& found, CandidateList* lists, T* thresholds) {
  for (ptrdiff_t i = 0; i < count; i++) {
    const int32_t at = found.places[i];
    const int row = at / width, lane = at % width;
    if (lane >= panel.lanes || block.n2[row] == static_cast<T>(kNever)) continue;
    const double score = found.scores[i], error = score_error_of(block, panel, lane);
    lists[lane].raise(score - error);
    lists[lane].add(first + row, score, score + error);
    thresholds[lane] = rounded_down<T>(lists[lane].threshold());
  }
}

// Thresholds that let every lane in use pass at first, and no other.
template <class T>
void open_thresholds(const Panel<T>& panel, int width, T* thresholds) {
  for (int lane = 0; lane < width; lane++) {
    thresholds[lane] = static_cast<T>(lane < panel.lanes ? -INFINITY : INFINITY);
  }
}

// What a sample of rows, the first of some slabs, tells of each query, so that no slab starts from nothing: fewer rows
// are taken that will be left out in the end.
struct Pilot {
  std::vector<double> bounds;   // a lower bound on the k-th best score
  std::vector<double> sum_exp;  // the sum of 2^score over those rows, as a score
};

// Of every `sample`-th slab; its two best are looked at for the bounds. `sum_exp` where it is wanted; a few queries
// wait for memory, not for lists: of them nothing is told, nor from fewer slabs than one in `sample`.
template <class T>
Pilot pilot_pass(const Data& data, const KernelTable& table, const Panels<T>& panels, size_t k, bool weighted,
                 int64_t sample, bool sum_exp, int threads) {
  const Plan& plan = panels.plan;
  const size_t queries = static_cast<size_t>(plan.queries), slabs = static_cast<size_t>(plan.slabs);
  Pilot pilot = {std::vector<double>(queries, -INFINITY), std::vector<double>(queries, -INFINITY)};
  const size_t taken = std::min<size_t>(k, 2);
  if ((k > taken * slabs && !sum_exp) || plan.gemv || sample > plan.slabs) return pilot;
  struct Slab {
    double best[2] = {-INFINITY, -INFINITY}, sum_exp = -INFINITY;
  };
  std::vector<Slab> of_slabs(queries * slabs);  // [query][slab]
  struct Worker {
    size_t slab;
    Buffer<T> second, sum_exp;
  };
  std::vector<Worker> workers(static_cast<size_t>(threads));
  const size_t width = static_cast<size_t>(plan.width);
  const auto start = [&](int64_t, int64_t slab, int worker, Panel<T>*) {
    workers[worker] = {static_cast<size_t>(slab), Buffer<T>(width), Buffer<T>(width)};
  };
  const auto visit = [&](int64_t group, int64_t from, Panel<T>* some, int number, const Block<T>& block, int64_t,
                         ptrdiff_t, int worker) {
    const Worker& mine = workers[worker];
    panels.kernels->scores(block, some, number);
    for (int i = 0; i < number; i++) {
      const Panel<T>& panel = some[i];
      if (taken == 2) panels.kernels->second_best(block, panel, mine.second.get());
      if (sum_exp) panels.kernels->sum_exp(block, panel, mine.sum_exp.get());
      for (int lane = 0; lane < panel.lanes; lane++) {
        const size_t q = static_cast<size_t>((plan.first_panel(group) + from + i) * plan.width + lane);
        const double peak = panel.peak[lane], error = score_error_of(block, panel, lane);
        Slab& to = of_slabs[q * slabs + mine.slab];
        to.best[0] = peak - error;
        if (taken == 2) to.best[1] = static_cast<double>(mine.second[lane]) - error;
        if (sum_exp) to.sum_exp = peak + std::log2(static_cast<double>(mine.sum_exp[lane]));
      }
    }
  };
  scan(data, table, panels, weighted, threads, start, visit, [](int64_t, int64_t, int) {}, sample);
  std::vector<double> best(taken * slabs);
  for (size_t q = 0; q < queries; q++) {
    const Slab* const from = of_slabs.data() + q * slabs;
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < slabs; i++) {
      for (size_t j = 0; j < taken; j++) {
        const double lower = from[i].best[j];
        best[i * taken + j] = std::isnan(lower) ? -INFINITY : lower;
      }
      if (sum_exp) largest = std::max(largest, from[i].sum_exp);
    }
    if (k <= best.size()) {
      const auto kth = best.begin() + static_cast<ptrdiff_t>(k - 1);
      std::nth_element(best.begin(), kth, best.end(), std::greater<>());
      pilot.bounds[q] = *kth;
    }
    for (size_t i = 0; largest > -INFINITY && i < slabs; i++) sum += std::exp2(from[i].sum_exp - largest);
    pilot.sum_exp[q] = largest + std::log2(sum);
  }
  return pilot;
}

// Which rows of a query are looked for: those whose score may lie within its cut of the k-th best score.
struct FilterOptions {
  size_t k;
  bool weighted;                 // false: by distance alone, over all rows and with no cut
  size_t capacity;               // lists of more rows overflow
  size_t trim_above = SIZE_MAX;  // longer lists keep the best rows alone
  bool bounds = true;            // false: scores are taken as if they were exact
};

template <class T>
std::vector<CandidateList> filter(const Data& data, const KernelTable& table, const Panels<T>& panels,
                                  const Int8Kernels* int8, const FilterOptions& wanted, int threads) {
  const size_t k = wanted.k;
  const bool weighted = wanted.weighted;
  const Plan& plan = panels.plan;
  const int64_t count = plan.queries;
  const std::vector<double> floors = pilot_pass(data, table, panels, k, weighted, 1, false, threads).bounds;
  std::vector<std::vector<CandidateList>> lists(static_cast<size_t>(plan.slabs));  // [slab][query]
  for (auto& slab : lists) slab.resize(static_cast<size_t>(count));
  struct Worker {
    int64_t slab;
    Buffer<T> thresholds;
    std::unique_ptr<Int8Hits<T>> found;
  };
  std::vector<Worker> workers(static_cast<size_t>(threads));
  const auto start = [&](int64_t group, int64_t slab, int worker, Panel<T>* of_group) {
    Worker& mine = workers[worker];
    mine.slab = slab;
    const int64_t first = plan.first_panel(group), open = plan.first_panel(group + 1) - first;
    if (int8 && !mine.found) mine.found = std::make_unique<Int8Hits<T>>(plan);
    mine.thresholds = Buffer<T>(static_cast<size_t>(open * plan.width));
    for (int64_t p = first; p < first + open; p++) {
      Panel<T>& panel = of_group[p - first];
      T* const thresholds = mine.thresholds.get() + (p - first) * plan.width;
      panel.threshold = thresholds;
      open_thresholds(panel, plan.width, thresholds);
      for (int lane = 0; lane < plan.lanes(p); lane++) {
        const double cut = weighted ? static_cast<double>(panel.cut[lane]) : 0.0;
        const size_t q = static_cast<size_t>(p * plan.width + lane);
        lists[slab][q].start(k, cut, 0, wanted.trim_above, wanted.capacity);
        lists[slab][q].start_from(floors[q]);
        thresholds[lane] = rounded_down<T>(lists[slab][q].threshold());
      }
    }
  };
  const auto visit = [&](int64_t group, int64_t from, Panel<T>* some, int number, const Block<T>& block, int64_t first,
                         ptrdiff_t, int worker) {
    const Worker& mine = workers[worker];
    if (!int8) panels.kernels->scores(block, some, number);
    for (int i = 0; i < number; i++) {
      T* const thresholds = mine.thresholds.get() + (from + i) * plan.width;
      const int64_t query = (plan.first_panel(group) + from + i) * plan.width;
      CandidateList* const into = &lists[mine.slab][query];
      if constexpr (sizeof(T) == sizeof(float)) {
        if (int8) {
          const ptrdiff_t count = int8->find(block, some[i], mine.found->places.get(), mine.found->scores.get());
          offer_hits(some[i], block, plan.width, first, count, *mine.found, into, thresholds);
          continue;
        }
      }
      if (some[i].found) offer_block(plan, some[i], block, first, into, thresholds);
    }
  };
  scan(data, table, panels, weighted, threads, start, visit, [](int64_t, int64_t, int) {});

  std::vector<CandidateList> merged = std::move(lists[0]);
  parallel_for(count, threads, [&](int64_t q, int) {
    CandidateList& list = merged[q];
    for (int64_t slab = 1; slab < plan.slabs; slab++) {
      list.append(lists[slab][q]);
    }
    list.prune();
    if (!list.overflowed() && list.entries().size() < k) list.take_all(data.rows.n);
  });
  return merged;
}

template <class T>
std::vector<CandidateList> filter(const Data& data, const Query* queries, int64_t count, const FilterOptions& wanted,
                                  int threads) {
  const KernelTable& table = active_kernels();
  Panels<T> panels = make_panels(data, panel_kernels<T>(table, count, data.rows.d), count, kFilterQueries);
  fill_panels(panels, data, queries, nullptr, wanted.weighted, threads, normal_scale);
  return filter(data, table, panels, nullptr, wanted, threads);
}

// The same from int8 products: as rigorous, and longer where rows lie closer than those can tell.
inline std::vector<CandidateList> filter_by_int8(const Data& data, const Int8Kernels& kernels, const Query* queries,
                                                 int64_t count, const FilterOptions& wanted, int threads) {
  data.quantized->make(data, kernels, threads);
  Panels<float> panels = make_panels<float>(data, kernels.panel, count, kFilterQueries);
  fill_int8_panels(panels, data, queries, kernels, wanted.weighted, wanted.bounds, threads);
  return filter(data, active_kernels(), panels, &kernels, wanted, threads);
}

}  // namespace interp_fast
