#include "query.h"

#include <cmath>
#include <numeric>

#include "arithmetic.h"
#include "pool.h"

namespace interp_fast {
namespace {

// Fills in |x~|^2, `largest` and `displacement`, in several chains; differences are rounded as those that panels are
// filled with.
void measure(const Data& data, Query& query) {
  constexpr ptrdiff_t kChains = 8;
  const ptrdiff_t d = data.rows.d;
  double squares[kChains] = {}, largest[kChains] = {}, rounded[kChains] = {};
  for (ptrdiff_t k = 0; k < d; k += kChains) {
    for (ptrdiff_t i = 0; i < std::min(kChains, d - k); i++) {
      const double product = query.alpha * data.center[static_cast<size_t>(k + i)];
      const double difference = query.x[k + i] - product, size = std::abs(difference);
      squares[i] += difference * difference, rounded[i] += product * product;
      largest[i] = size > largest[i] ? size : largest[i];
    }
  }
  query.x2 = std::accumulate(squares, squares + kChains, 0.0) / (data.unit * data.unit);
  query.displacement =
      kRoundoff<double> * std::sqrt(std::accumulate(rounded, rounded + kChains, 0.0)) / std::abs(data.unit);
  query.largest = *std::max_element(largest, largest + kChains);
}

}  // namespace

std::vector<Query> normal_form(const Data& data, const QueryArrays& arrays, int threads) {
  std::vector<Query> out(static_cast<size_t>(arrays.count));
  const ptrdiff_t d = data.rows.d;
  parallel_for(arrays.count, arrays.count * d < (1 << 15) ? 1 : threads, [&](int64_t m, int) {
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
