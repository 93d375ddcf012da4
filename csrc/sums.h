// One query's sums over rows, in normal form; scores in units of log 2.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/kernels.h"

namespace interp_fast {

struct Sums : WeightSums {
  double reference, best;  // the score that has weight 1; the best
  std::vector<double> x,
      u_x;                   // sum p X, sum p <u, X> X (u divided by its largest entry); empty where nobody asks
  double x2 = 0;             // |sum p X|^2, for whoever changes that to keep
  std::vector<double> mass;  // p of the rows of each class
  double logit;              // rms error of a logit
  double offset;             // the logit where the score is 0
  bool about_query;          // X in these sums is counted from x / alpha, else from the centre
  double displacement;       // of the query, in normal form: length of what rounding leaves out of it
  double exact = 0;          // of p, what has been corrected to float64

  double largest() const { return std::exp2(best - reference) / p; }
  double second() const { return p_n2 / p; }
  double variance() const { return std::max(0.0, second() - x2 / (p * p)); }
};

}  // namespace interp_fast
