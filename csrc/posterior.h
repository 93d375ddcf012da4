// The posterior over rows of many queries; see interp_fast/backends/__init__.py for what each output is.
#pragma once

#include <cstdint>
#include <vector>

#include "data.h"
#include "scan.h"

namespace interp_fast {

// Where results go; nullptr: not wanted. Arrays of M, or (M, d) or (M, top).
struct Outputs {
  double *mean, *log_norm, *gap, *log_rest, *ess, *entropy, *variance, *scatter, *top_weight, *jvp, *dropped, *work;
  int64_t *index, *top_index;
  int64_t top;

  // Made of the rows other than the heaviest one.
  bool off_weights() const { return gap || log_rest || ess || entropy || variance || jvp; }
  // Decided by the order of the heaviest rows.
  bool order() const { return index || gap || log_rest || top > 0; }
};

void posterior(const Data& data, const double* x, int64_t queries, const double* alpha, const double* sigma,
               const double* cut, const double* u, const Outputs& out, int threads);

// The k rows nearest to each query, by |x - alpha x_i|, nearest first and the lowest row at ties.
void nearest(const Data& data, const double* x, int64_t queries, double alpha, int64_t k, int64_t* index,
             double* squared_distance, int threads);

std::vector<Query> normal_form(const Data& data, const double* x, int64_t queries, const double* alpha,
                               const double* sigma, const double* cut, int threads);

}  // namespace interp_fast
