// Queries: where they come from, what is asked of them, and what becomes known of them on their way.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "data.h"

namespace interp_fast {

// Where results go; nullptr: not wanted. Arrays of M, or (M, d) or (M, top).
struct Outputs {
  double *mean, *log_norm, *gap, *log_rest, *ess, *entropy, *variance, *scatter, *top_weight, *jvp, *dropped, *work;
  double* rounding;  // beside a mean: written where a bound on it is known
  int64_t *index, *top_index;
  int64_t top;
  // What the rows of each class weigh, (M, classes), and the classes of the rows; without `mass` there are none.
  double* mass;
  const int64_t* codes;
  int64_t classes;
  // The mean of the rows of one class for each query, (M, d), written where sums over all rows tell it as well; the
  // classes, (M,); and rows class by class, nullptr where that is how they lie.
  double* class_mean;
  const int64_t *class_of, *by_class;

  // Made of the rows other than the heaviest one.
  bool off_weights() const { return gap || log_rest || ess || entropy || variance || jvp; }
  // Made of weighted sums of rows.
  bool vectors() const { return mean || variance || scatter || jvp || class_mean; }
  // Made of sums over weights and their logarithms that a mean needs none of.
  bool statistics() const { return ess || entropy; }
  // Decided by the order of the heaviest rows.
  bool order() const { return index || gap || log_rest || top > 0; }
};

// Some rows in increasing order, and |x - alpha x_row|^2 of each.
struct Candidates {
  std::vector<int64_t> rows;
  std::vector<double> c;
};

// Rows that are left out of sums, for they dominate the others, and added in float64. `exact_top`: no other row is
// heavier than the lightest that is asked for.
struct Excluded {
  Candidates candidates;
  bool exact_top;
};

// What decides where a query starts on the ladder of posterior.cpp.
enum class Regime {
  prior,      // the posterior is the weights
  sharp,      // few rows are likely to count
  dominated,  // the heaviest rows may hide what off-weights are made of from sums
  clustered,  // so many lie so close to each other that sums about the centre lose their variance
  dense,      // neither
  late,       // scores have too few digits for sums
};

struct Query {
  int64_t index;    // row of the arrays below and of the outputs
  const double* x;  // (d,), as given
  const double* u;  // (d,), a direction where products with the Jacobian are wanted, else nullptr
  double largest_u;
  double alpha;
  double s2;       // S = sigma^2 + alpha^2 bandwidth^2
  double cut;      // nats
  double largest;  // of the numbers of x - alpha center, in size
  // In normal form: x~ = (x - alpha center) / unit, |x~|^2, S / unit^2, and the length of what rounding leaves out of
  // x~.
  double x2, variance, displacement;
  bool alike;   // rounding treats the products with all rows much alike
  double norm;  // longer rows count for nothing: they weigh less than exp(-cut) times every common row
  // What it sees a part of: of all parts no row counts that is more than the cut below the heaviest of them. -1: it
  // sees the whole.
  int64_t whole = -1;
  Regime regime;
  bool counted;                              // its share of the work is known
  std::shared_ptr<const Excluded> excluded;  // or nullptr
};

// Arrays over queries as they come: x and u (count, d), u or nullptr, and (count,). Of `parts`, where these are more
// than one, the queries are about as many parts of a whole, those about one after those about another.
struct QueryArrays {
  int64_t count;
  const double *x, *alpha, *sigma, *cut, *u;
  int64_t parts = 1;
};

std::vector<Query> normal_form(const Data& data, const QueryArrays& arrays, int threads);

inline void append(std::vector<Query>& to, const std::vector<Query>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// take(the first of some queries, how many), so many at a time.
template <class Take>
void in_batches(const std::vector<Query>& queries, int64_t most, Take take) {
  const int64_t count = static_cast<int64_t>(queries.size());
  for (int64_t first = 0; first < count; first += most) take(queries.data() + first, std::min(most, count - first));
}

}  // namespace interp_fast
