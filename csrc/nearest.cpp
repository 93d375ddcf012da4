#include "nearest.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "filter.h"
#include "int8.h"
#include "refine.h"

namespace interp_fast {
namespace {

// Filtered by products in T. Queries whose lists overflow come back.
template <class T>
std::vector<Query> nearest_by(const Data& data, const std::vector<Query>& queries, const Nearest& out, FilterBy by,
                              int threads) {
  const int64_t k = out.k;
  const auto capacity = [&](int64_t count) {
    const size_t room = static_cast<size_t>(kListBytes / sizeof(CandidateList::Entry)) / static_cast<size_t>(count);
    return std::max(static_cast<size_t>(4 * k + 256), room);
  };
  std::vector<Query> rest;
  const FilterOptions options = {.k = static_cast<size_t>(k), .weighted = false};
  filter_in_batches<T>(data, queries, by, options, threads, capacity,
                       [&](const Query* some, int64_t count, auto lists) {
                         const std::vector<Candidates> candidates = refine(data, some, lists, threads);
                         for (int64_t q = 0; q < count; q++) {
                           if (lists[q].overflowed()) {
                             rest.push_back(some[q]);
                             continue;
                           }
                           const Candidates& found = candidates[q];
                           std::vector<std::pair<double, int64_t>> order;
                           for (size_t i = 0; i < found.rows.size(); i++) order.emplace_back(found.c[i], found.rows[i]);
                           std::partial_sort(order.begin(), order.begin() + k, order.end());
                           for (int64_t i = 0; i < k; i++) {
                             out.squared_distance[some[q].index * k + i] = order[i].first;
                             out.index[some[q].index * k + i] = order[i].second;
                           }
                         }
                       });
  return rest;
}

template <class T>
void nearest_in(const Data& data, std::vector<Query> queries, const Nearest& out, int threads) {
  if (int8_pays(data, static_cast<int64_t>(queries.size()))) {
    queries = nearest_by<T>(data, queries, out, FilterBy::int8, threads);
  }
  queries = nearest_by<T>(data, queries, out, FilterBy::products, threads);
  nearest_by<T>(data, queries, out, FilterBy::products_without_limit, threads);
}

}  // namespace

void nearest(const Data& data, const double* x, int64_t count, double alpha, const Nearest& out, int threads) {
  const std::vector<double> alphas(static_cast<size_t>(count), alpha), zeros(static_cast<size_t>(count), 0.0);
  const QueryArrays arrays = {
      .count = count, .x = x, .alpha = alphas.data(), .sigma = zeros.data(), .cut = zeros.data(), .u = nullptr};
  std::vector<Query> queries = normal_form(data, arrays, threads);
  for (Query& query : queries) query.s2 = query.variance = 0;
  (data.float64_only ? nearest_in<double> : nearest_in<float>)(data, std::move(queries), out, threads);
}

}  // namespace interp_fast
