// What a dense pass does with the scores of a block before they become weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "candidate_list.h"
#include "query.h"
#include "scan.h"

namespace interp_fast {

// Rows that cannot end with more than a tolerated weight need no place in the lists: the rows so far and those of this
// block are part of the final sum. Where there are rows so far, the heaviest of the block is enough of it.
template <class T>
void raise_bars(const PanelKernels<T>& kernels, const Block<T>& block, const Panel<T>& panel,
                const double* tolerated_weight, T* sum_exp, CandidateList* lists) {
  const bool first = panel.sums[0].p == 0;
  if (first) kernels.sum_exp(block, panel, sum_exp);
  for (int lane = 0; lane < panel.lanes; lane++) {
    if (panel.peak[lane] + score_error_of(block, panel, lane) < panel.threshold[lane]) continue;  // nothing to list
    const double reference = panel.reference[lane], peak = panel.peak[lane], level = std::max(reference, peak);
    const double before = panel.sums[lane].p * std::exp2(reference - level);
    const double sum = before + (first ? sum_exp[lane] : 1) * std::exp2(peak - level);
    lists[lane].raise_bar(level + std::log2(tolerated_weight[lane] * sum));
  }
}

// Excluded rows never count among the others.
template <class T>
void leave_out(const Plan& plan, const Block<T>& block, const Panel<T>& panel, const Query* queries, int64_t first) {
  for (int lane = 0; lane < panel.lanes; lane++) {
    const std::vector<int64_t>& rows = queries[lane].excluded->candidates.rows;
    const auto begin = std::lower_bound(rows.begin(), rows.end(), first);
    const auto end = std::lower_bound(begin, rows.end(), first + block.rows);
    if (begin == end) continue;
    const ptrdiff_t step = plan.gemv ? 1 : plan.width;
    T* const scores = panel.s + (plan.gemv ? lane * block.rows : lane);
    for (auto row = begin; row != end; row++) scores[(*row - first) * step] = static_cast<T>(-kNever);
    T peak = static_cast<T>(-INFINITY);
    for (ptrdiff_t n = 0; n < block.rows; n++) peak = std::max(peak, scores[n * step]);
    panel.peak[lane] = peak;
  }
}

// Where rows have errors of their own, a lower bound on the best score that the error of longer rows does not spoil.
template <class T>
void raise_best(const Plan& plan, const Visit<T>& visit, const Panel<T>& panel) {
  const Block<T>& block = visit.block;
  if (visit.errors.of_all(block)) return;
  const ptrdiff_t step = plan.gemv ? 1 : plan.width;
  for (int lane = 0; lane < panel.lanes; lane++) {
    const T* score = panel.s + (plan.gemv ? lane * block.rows : lane);
    T& best = panel.best[lane];
    for (ptrdiff_t row = 0; row < block.rows; row++, score += step) {
      if (*score > best) best = std::max(best, *score - visit.errors.of(block, panel, lane, row));
    }
  }
}

}  // namespace interp_fast
