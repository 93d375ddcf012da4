#include "lowdim.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "lowdim_batch.h"

namespace interp_fast {
namespace {

constexpr int64_t kLowdimBatch = 1 << 14;  // queries whose states are held at once

// All queries by scores of one form; those with excluded rows come last.
template <class T>
std::vector<Query> lowdim_sums(const Data& data, const std::vector<Query>& queries, bool direct, const Outputs& out,
                               const Accuracy& accuracy, int threads) {
  std::vector<Query> excluded, rest;
  const auto batch = [&](const Query* some, int64_t count) {
    return LowdimBatch<T>(data, some, count, direct, out, accuracy, threads).run();
  };
  in_batches(queries, kLowdimBatch, [&](const Query* some, int64_t count) {
    for (Query& query : batch(some, count)) (query.excluded ? excluded : rest).push_back(std::move(query));
  });
  in_batches(excluded, kLowdimBatch, [&](const Query* some, int64_t count) {
    for (Query& query : batch(some, count)) rest.push_back(std::move(query));
  });
  return rest;
}

}  // namespace

template <class T>
std::vector<Query> lowdim_pass(const Data& data, const std::vector<Query>& queries, const Outputs& out,
                               const Accuracy& accuracy, int threads) {
  std::vector<Query> far, near, rest;
  for (const Query& query : queries) {
    // Products for queries whose mean they cannot spoil, whatever the posterior.
    const double of_logit = logit_error<T>(data, query) + displaced_logit(query);
    const double worst = 4 * query.norm * (of_logit + kRoundoff<T>);
    const double a2 = query.alpha * query.alpha;
    const bool finite = query.x2 < kNever * a2 && a2 < kNever * query.variance &&
                        lowdim_h(query) >= static_cast<double>(std::numeric_limits<T>::min());  // divided by there
    const bool products = query.alpha > 0 && worst <= allowed(data, query, accuracy);
    (products ? far : finite ? near : rest).push_back(query);
  }
  for (const bool direct : {false, true}) {
    const std::vector<Query> failed = lowdim_sums<T>(data, direct ? near : far, direct, out, accuracy, threads);
    rest.insert(rest.end(), failed.begin(), failed.end());
  }
  return rest;
}

template std::vector<Query> lowdim_pass<float>(const Data&, const std::vector<Query>&, const Outputs&, const Accuracy&,
                                               int);
template std::vector<Query> lowdim_pass<double>(const Data&, const std::vector<Query>&, const Outputs&, const Accuracy&,
                                                int);

}  // namespace interp_fast
