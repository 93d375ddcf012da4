#include "refine.h"

#include <utility>

#include "dispatch.h"
#include "pool.h"

namespace interp_fast {

std::vector<Candidates> refine(const Data& data, const Query* queries, const std::vector<CandidateList>& lists,
                               int threads) {
  std::vector<Candidates> out(lists.size());
  const ExactKernels& exact = *active_kernels().exact;
  const int64_t n = lists.size();
  parallel_for((n + kRefineTogether - 1) / kRefineTogether, threads, [&](int64_t task, int) {
    const int64_t first = task * kRefineTogether, count = std::min(kRefineTogether, n - first);
    for (int64_t q = first; q < first + count; q++) {
      Candidates& to = out[q];
      for (const CandidateList::Entry& entry : lists[q].entries()) to.rows.push_back(entry.row);
      to.c.resize(to.rows.size());
    }
    Candidates* const local = out.data() + first;
    by_stretches(
        data, count, [&](int64_t q) -> const std::vector<int64_t>& { return local[q].rows; },
        [&](int64_t q, size_t i) {
          local[q].c[i] = exact.distance2(data.rows, local[q].rows[i], queries[first + q].x, queries[first + q].alpha);
        });
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
