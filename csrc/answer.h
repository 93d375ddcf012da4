// What is written for a query: from few rows, in float64 and as given, from sums over all rows, or from both. Nothing
// but the sums is in normal form.
#pragma once

#include <cstdint>
#include <vector>

#include "candidate_list.h"
#include "query.h"
#include "sums.h"

namespace interp_fast {

// What became of the rows of one query.
struct AnswerInfo {
  int64_t rows;      // of weight above exp(-cut), counted
  size_t copies;     // as far as the heaviest and heavier than every row that is not: what dominates a variance
  double remainder;  // weight of the rows that are no candidates
  double variance;   // of the posterior, in normal form
  double nearest;    // squared distance of the nearest candidate
};

// Everything in `out` but dropped and work, for each query, from candidates that hold every row of weight above
// exp(-cut), relative to the heaviest row, or where off-weights count to the second; or, with sums over all other rows,
// from any candidates.
std::vector<AnswerInfo> answer_from_candidates(const Data& data, const Query* queries,
                                               const std::vector<Candidates>& candidates,
                                               const std::vector<Sums>& remainders, const Outputs& out, int threads);

// Gives rows, which have these scores in the sums, the weights that they have in float64.
void correct(const Data& data, const Query& query, const std::vector<double>& scores, const Candidates& candidates,
             const Outputs& out, Sums& sums);

// The same outputs from sums over all rows, and what is decided by the order of the heaviest from those.
void answer_from_sums(const Data& data, const Query& query, const Sums& sums, const Candidates& candidates,
                      const Outputs& out);

}  // namespace interp_fast
