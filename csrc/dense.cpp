#include "dense.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "accuracy.h"
#include "dense_batch.h"

namespace interp_fast {
namespace {

constexpr int64_t kDenseBatch = 4096;  // whose results are held at once

}  // namespace

template <class T>
double logit_error(const Data& data, const Query& query) {
  // Half of e n with e = u |y| / s^2 in normal form (y the query over alpha), where a query near the centre counts as
  // one half way out; and of the stored log-weights.
  const double a = query.alpha, r = data.max_norm;
  if (query.variance == 0) return INFINITY;
  const double e =
      (kRoundoff<T> + data.value_error) * std::max(a * std::sqrt(query.x2), 0.5 * a * a * r) / query.variance;
  return 0.5 * e * r + 0.5 * kRoundoff<T> * data.log_w_span;
}

double displaced_logit(const Data& data, const Query& query) {
  return query.alpha * data.max_norm * query.displacement / query.variance;
}

double allowed(const Data& data, const Query& query, const Accuracy& accuracy) {
  const double s = std::sqrt(query.variance) / query.alpha;
  return std::min(accuracy.per_radius * data.radius, accuracy.per_deviation * s);
}

template <class T>
bool summable(const Data& data, const Query& query, const Accuracy& accuracy) {
  return logit_error<T>(data, query) + displaced_logit(data, query) <= accuracy.logit;
}

template <class T>
std::vector<Query> dense_pass(const Data& data, const std::vector<Query>& queries, const double* u, const Outputs& out,
                              const Accuracy& accuracy, int threads) {
  std::vector<Query> tried, plain, excluded, rest;
  for (const Query& query : queries)
    (!query.excluded ? plain : query.excluded->exact_top ? excluded : tried).push_back(query);
  const auto batch = [&](const Query* some, int64_t count) {
    return DenseBatch<T>(data, some, count, u, out, accuracy, threads).run();
  };
  in_batches(tried, kDenseBatch, [&](const Query* some, int64_t count) {
    for (Query& query : batch(some, count)) {
      query.excluded = nullptr;
      plain.push_back(std::move(query));
    }
  });
  in_batches(plain, kDenseBatch, [&](const Query* some, int64_t count) {
    for (Query& query : batch(some, count)) (query.excluded ? excluded : rest).push_back(std::move(query));
  });
  in_batches(excluded, kDenseBatch, [&](const Query* some, int64_t count) {
    for (Query& query : batch(some, count)) rest.push_back(std::move(query));
  });
  return rest;
}

template double logit_error<float>(const Data&, const Query&);
template double logit_error<double>(const Data&, const Query&);
template bool summable<float>(const Data&, const Query&, const Accuracy&);
template bool summable<double>(const Data&, const Query&, const Accuracy&);
template std::vector<Query> dense_pass<float>(const Data&, const std::vector<Query>&, const double*, const Outputs&,
                                              const Accuracy&, int);
template std::vector<Query> dense_pass<double>(const Data&, const std::vector<Query>&, const double*, const Outputs&,
                                               const Accuracy&, int);

}  // namespace interp_fast
