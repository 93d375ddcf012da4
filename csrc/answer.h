// Answers from few rows, in float64 and from the rows as given: nothing here is in normal form.
#pragma once

#include <cstdint>
#include <vector>

#include "candidate_list.h"
#include "posterior.h"
#include "sums.h"

namespace interp_fast {

// For every query the candidates of its list. Queries are taken together, a stretch of rows at a time.
std::vector<Candidates> refine(const Data& data, const Query* queries, const std::vector<CandidateList>& lists,
                               int threads);

// Logits l_i = log_w_i - c_i / (2 S) relative to the heaviest candidate, -inf for rows of weight 0. Where rounding c_i
// would cost more than is promised of logits, or of the mean of rows of this variance (in normal form), they are exact.
struct RelativeLogits {
  std::vector<double> logits;
  size_t top, nearest;  // positions of the heaviest and of the nearest
  double runner_up;     // largest of the other logits
};
RelativeLogits relative_logits(const Data& data, const Query& query, const Candidates& candidates, double variance = 0);

// Rows and weights of the `top` heaviest candidates; rows that are no candidates follow with weight 0.
void fill_top(const Candidates& candidates, const std::vector<double>& logits, double log_weight_top, int64_t top,
              int64_t* index, double* weight);

// What became of the rows of one query.
struct AnswerInfo {
  int64_t rows;             // of weight above exp(-cut), counted
  size_t copies;            // as far as the heaviest and heavier than every row that is not: what dominates a variance
  double others, variance;  // weight of the rows that are no candidates, and the variance, in normal form
  double nearest;           // squared distance of the nearest candidate
};

// Everything in `out` but dropped and work, for each query, from candidates that hold every row of weight above
// exp(-cut), relative to the heaviest row, or where off-weights count to the second; or, with sums over all `others`,
// from any candidates.
std::vector<AnswerInfo> finish_exact(const Data& data, const Query* queries, const std::vector<Candidates>& candidates,
                                     const std::vector<Sums>& others, const double* u, const Outputs& out, int threads);

}  // namespace interp_fast
