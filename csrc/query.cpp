#include "query.h"

#include <cmath>

#include "arithmetic.h"
#include "clumps.h"
#include "dispatch.h"
#include "pool.h"

namespace interp_fast {
namespace {

// Fills in |x~|^2, `largest` and `displacement`; differences are rounded as those that panels are filled with.
void measure(const Data& data, Query& query) {
  const Measured of = active_kernels().exact->measure(query.x, data.center.data(), query.alpha, data.rows.d);
  query.x2 = of.squares / (data.unit * data.unit);
  query.displacement = kRoundoff<double> * std::sqrt(of.products) / std::abs(data.unit);
  query.largest = of.largest;
  query.alike = data.few_numbers && few_numbers(query.x, data.center.data(), query.alpha, data.rows.d);
}

}  // namespace

std::vector<Query> normal_form(const Data& data, const QueryArrays& arrays, int threads) {
  std::vector<Query> out(static_cast<size_t>(arrays.count));
  const ptrdiff_t d = data.rows.d;
  parallel_by_query(arrays.count, arrays.count * d < (1 << 15) ? 1 : threads, [&](int64_t m) {
    const double a = arrays.alpha[m], pull = a * data.bandwidth;
    Query& query = out[m];
    query.index = m;
    query.x = arrays.x + m * d;
    query.alpha = a;
    query.cut = arrays.cut[m];
    query.s2 = arrays.sigma[m] * arrays.sigma[m] + pull * pull;
    query.variance = query.s2 / (data.unit * data.unit);
    if (arrays.parts > 1) query.whole = m % (arrays.count / arrays.parts);
    measure(data, query);
    if (!arrays.u) return;
    query.u = arrays.u + m * d;
    for (ptrdiff_t k = 0; k < d; k++) query.largest_u = std::max(query.largest_u, std::abs(query.u[k]));
  });
  return out;
}

}  // namespace interp_fast
