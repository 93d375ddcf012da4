#include "prior.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "answer.h"
#include "dispatch.h"

namespace interp_fast {

std::vector<Query> answer_prior(const Data& data, const std::vector<Query>& queries, const Outputs& out, int threads) {
  const ptrdiff_t d = data.rows.d;
  std::vector<Candidates> once(1);
  Candidates& all = once.front();
  for (int64_t row = 0; row < data.rows.n; row++) {
    if (data.log_w[row] > -INFINITY) all.rows.push_back(row);
  }
  all.c.assign(all.rows.size(), 0.0);
  double gap, log_rest, ess, entropy;
  int64_t index;
  std::vector<int64_t> top_index(static_cast<size_t>(out.top));
  std::vector<double> top_weight(static_cast<size_t>(out.top)), mass(static_cast<size_t>(out.classes));
  Outputs of_weights{};
  of_weights.gap = &gap, of_weights.log_rest = &log_rest, of_weights.ess = &ess, of_weights.entropy = &entropy;
  of_weights.index = &index;
  of_weights.top = out.top, of_weights.top_index = top_index.data(), of_weights.top_weight = top_weight.data();
  if (out.mass) of_weights.mass = mass.data(), of_weights.codes = out.codes, of_weights.classes = out.classes;
  Query any{};
  any.cut = INFINITY;
  any.s2 = 1;  // for the weights alone; what S = 0 makes of a gap is said of each query below
  answer_from_candidates(data, &any, once, {}, of_weights, threads);
  const auto distance2 = active_kernels().exact->distance2;
  const double radius = data.radius * data.unit;
  for (const Query& query : queries) {
    const int64_t m = query.index;
    // From any row: they are equal, or alpha is 0.
    const double c = distance2(data.rows, all.rows.front(), query.x, query.alpha);
    if (out.mean) std::copy(data.mean.begin(), data.mean.end(), out.mean + m * d);
    if (out.log_norm) out.log_norm[m] = query.s2 > 0 ? -c / (2 * query.s2) : -INFINITY;
    if (out.index) out.index[m] = index;
    if (out.gap) out.gap[m] = query.s2 == 0 && gap < INFINITY ? 0.0 : gap;
    if (out.log_rest) out.log_rest[m] = log_rest;
    if (out.ess) out.ess[m] = ess;
    if (out.entropy) out.entropy[m] = entropy;
    if (out.variance) out.variance[m] = radius * radius;
    if (out.scatter) out.scatter[m] = radius * radius;
    if (out.jvp) std::fill_n(out.jvp + m * d, d, 0.0);
    if (out.dropped) out.dropped[m] = 0;
    if (out.work) out.work[m] = 0;
    if (out.mass) std::copy(mass.begin(), mass.end(), out.mass + m * out.classes);
    if (out.top == 0) continue;
    std::copy(top_index.begin(), top_index.end(), out.top_index + m * out.top);
    std::copy(top_weight.begin(), top_weight.end(), out.top_weight + m * out.top);
  }
  return {};
}

}  // namespace interp_fast
