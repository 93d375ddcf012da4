// The refinement of filter and refine: squared distances in float64, from the rows as given.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "candidate_list.h"
#include "pool.h"
#include "query.h"

namespace interp_fast {

constexpr int64_t kRefineTogether = 8;  // queries of a task

// visit(query, position in its list) for all lists, a stretch of rows that stays in cache at a time.
template <class Rows, class Visit>
void by_stretches(const Data& data, int64_t lists, Rows rows, Visit visit) {
  const int64_t stretch = std::max<int64_t>(8, (int64_t{1} << 18) / std::max<int64_t>(1, std::abs(data.rows.stride)));
  std::vector<size_t> cursor(lists);
  for (;;) {
    int64_t first = data.rows.n;
    for (int64_t q = 0; q < lists; q++) {
      const std::vector<int64_t>& list = rows(q);
      const size_t next = cursor[q];
      if (next < list.size()) first = std::min(first, list[next]);
    }
    if (first == data.rows.n) return;
    checkpoint();
    for (int64_t q = 0; q < lists; q++) {
      const std::vector<int64_t>& list = rows(q);
      size_t& next = cursor[q];
      for (; next < list.size() && list[next] < first + stretch; next++) visit(q, next);
    }
  }
}

// The candidates of the lists of so many queries, which are taken together, a stretch of rows at a time.
void refine_together(const Data& data, const Query* queries, const CandidateList* lists, int64_t count,
                     Candidates* out);

// The same of any number of queries.
std::vector<Candidates> refine(const Data& data, const Query* queries, const std::vector<CandidateList>& lists,
                               int threads);

// Sums are to be formed without the rows of these lists.
void exclude(const Data& data, Query* queries, const std::vector<CandidateList>& lists, bool exact_top, int threads);

}  // namespace interp_fast
