#include "refine.h"

#include <utility>

#include "dispatch.h"
#include "pool.h"

namespace interp_fast {

void refine_together(const Data& data, const Query* queries, const CandidateList* lists, int64_t count,
                     Candidates* out) {
  const ExactKernels& exact = *active_kernels().exact;
  for (int64_t q = 0; q < count; q++) {
    out[q].rows.reserve(lists[q].entries().size());
    for (const CandidateList::Entry& entry : lists[q].entries()) out[q].rows.push_back(entry.row);
    out[q].c.resize(out[q].rows.size());
  }
  by_stretches(
      data, count, [&](int64_t q) -> const std::vector<int64_t>& { return out[q].rows; },
      [&](int64_t q, size_t i) {
        out[q].c[i] = exact.distance2(data.rows, out[q].rows[i], queries[q].x, queries[q].alpha);
      });
}

std::vector<Candidates> refine(const Data& data, const Query* queries, const std::vector<CandidateList>& lists,
                               int threads) {
  std::vector<Candidates> out(lists.size());
  const int64_t n = lists.size();
  parallel_by_query((n + kRefineTogether - 1) / kRefineTogether, threads, [&](int64_t task) {
    const int64_t first = task * kRefineTogether, count = std::min(kRefineTogether, n - first);
    refine_together(data, queries + first, lists.data() + first, count, out.data() + first);
  });
  return out;
}

void exclude(const Data& data, Query* queries, const std::vector<CandidateList>& lists, bool exact_top, int threads) {
  std::vector<Candidates> candidates = refine(data, queries, lists, threads);
  for (size_t q = 0; q < lists.size(); q++) {
    if (candidates[q].rows.empty()) continue;
    Excluded excluded = {.candidates = std::move(candidates[q]), .exact_top = exact_top};
    queries[q].excluded = std::make_shared<const Excluded>(std::move(excluded));
  }
}

}  // namespace interp_fast
