#include "dense.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "accuracy.h"
#include "dense_batch.h"

namespace interp_fast {
namespace {

constexpr int64_t kWaveQueries = 4096;  // whose results are held at once

}  // namespace

template <class T>
double logit_error(const Data& data, const Query& query) {
  // Half of e n with e = u |y| / s^2 in normal form (y the query over alpha), where a query near the centre counts as
  // one half way out; and of the stored log-weights.
  const double a = query.alpha, r = data.reach;
  if (query.variance == 0) return INFINITY;
  const double e =
      (kRoundoff<T> + data.value_error) * std::max(a * std::sqrt(query.x2), 0.5 * a * a * r) / query.variance;
  return 0.5 * e * r + 0.5 * kRoundoff<T> * data.log_w_span;
}

double displaced_logit(const Data& data, const Query& query) {
  return query.alpha * data.reach * query.displacement / query.variance;
}

double allowed(const Data& data, const Query& query, const Promise& promise) {
  const double s = std::sqrt(query.variance) / query.alpha;
  return std::min(promise.per_radius * data.radius, promise.per_deviation * s);
}

template <class T>
bool summable(const Data& data, const Query& query, const Promise& promise) {
  return logit_error<T>(data, query) + displaced_logit(data, query) <= promise.logit;
}

template <class T>
std::vector<Query> sum_pass(const Data& data, const std::vector<Query>& queries, const double* u, const Outputs& out,
                            const Promise& promise, int threads) {
  std::vector<Query> tried, plain, apart, rest;
  for (const Query& query : queries) (!query.apart ? plain : query.apart->proven ? apart : tried).push_back(query);
  const auto wave = [&](const Query* some, int64_t count) {
    return SumWave<T>(data, some, count, u, out, promise, threads).run();
  };
  in_waves(tried, kWaveQueries, [&](const Query* some, int64_t count) {
    for (Query& query : wave(some, count)) {
      query.apart = nullptr;
      plain.push_back(std::move(query));
    }
  });
  in_waves(plain, kWaveQueries, [&](const Query* some, int64_t count) {
    for (Query& query : wave(some, count)) (query.apart ? apart : rest).push_back(std::move(query));
  });
  in_waves(apart, kWaveQueries, [&](const Query* some, int64_t count) {
    for (Query& query : wave(some, count)) rest.push_back(std::move(query));
  });
  return rest;
}

template double logit_error<float>(const Data&, const Query&);
template double logit_error<double>(const Data&, const Query&);
template bool summable<float>(const Data&, const Query&, const Promise&);
template bool summable<double>(const Data&, const Query&, const Promise&);
template std::vector<Query> sum_pass<float>(const Data&, const std::vector<Query>&, const double*, const Outputs&,
                                            const Promise&, int);
template std::vector<Query> sum_pass<double>(const Data&, const std::vector<Query>&, const double*, const Outputs&,
                                             const Promise&, int);

}  // namespace interp_fast
