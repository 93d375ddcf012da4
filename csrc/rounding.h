// A rigorous bound on the rounding of a mean that was made of sums by digits.
#pragma once

#include "query.h"
#include "sums.h"

namespace interp_fast {

// What a score is off by, in units of log 2: `left` |X|, as a score of another query, nearby; and others.
struct ScoreErrors {
  double left, others;
};

// What a mean was made of: `share` of all weight is in sums, `exact` are logits in float64; the variance is in normal
// form.
struct Posterior {
  double share, exact, variance;
};

// A bound on |mean - exact mean|, in the units of the rows; INFINITY where there is none.
double rounding_of_mean(const Data& data, const Query& query, const Sums& sums, const ScoreErrors& errors,
                        const Posterior& posterior, const double* mean);

}  // namespace interp_fast
