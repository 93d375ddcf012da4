#include "dense.h"

#include <utility>

#include "dense_batch.h"

namespace interp_fast {
namespace {

constexpr int64_t kDenseBatch = 4096;  // queries whose results are held at once

}  // namespace

template <class T>
std::vector<Query> dense_pass(const Data& data, const std::vector<Query>& queries, const Outputs& out,
                              const Accuracy& accuracy, int threads) {
  std::vector<Query> tried, plain, excluded, rest;
  plain.reserve(queries.size());
  for (const Query& query : queries) {
    (!query.excluded ? plain : query.excluded->exact_top ? excluded : tried).push_back(query);
  }
  const auto batch = [&](const Query* some, int64_t count) {
    return DenseBatch<T>(data, some, count, out, accuracy, threads).run();
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
  in_batches(excluded, kDenseBatch, [&](const Query* some, int64_t count) { append(rest, batch(some, count)); });
  return rest;
}

template std::vector<Query> dense_pass<Digits>(const Data&, const std::vector<Query>&, const Outputs&, const Accuracy&,
                                               int);
template std::vector<Query> dense_pass<float>(const Data&, const std::vector<Query>&, const Outputs&, const Accuracy&,
                                              int);
template std::vector<Query> dense_pass<double>(const Data&, const std::vector<Query>&, const Outputs&, const Accuracy&,
                                               int);

}  // namespace interp_fast
