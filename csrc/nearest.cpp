#include "nearest.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "dispatch.h"
#include "filter.h"
#include "int8.h"
#include "pool.h"
#include "refine.h"

namespace interp_fast {
namespace {

// Rows of no weight may be longer than the unit by more than passes have numbers for: next to these no row may count
// for less than one that must never count.
constexpr double kLongest2 = 1e-6 * kNever;

// The k nearest of some rows; equal distances by their order.
void write_nearest(const Candidates& found, int64_t index, const Nearest& out) {
  std::vector<std::pair<double, int64_t>> order;
  for (size_t i = 0; i < found.rows.size(); i++) order.emplace_back(found.c[i], found.rows[i]);
  std::partial_sort(order.begin(), order.begin() + out.k, order.end());
  for (int64_t i = 0; i < out.k; i++) {
    out.squared_distance[index * out.k + i] = order[i].first;
    out.index[index * out.k + i] = order[i].second;
  }
}

// Every row is measured.
void nearest_of_all(const Data& data, const std::vector<Query>& queries, const Nearest& out, int threads) {
  const ExactKernels& exact = *active_kernels().exact;
  parallel_by_query(static_cast<int64_t>(queries.size()), threads, [&](int64_t q) {
    Candidates all;
    for (int64_t row = 0; row < data.rows.n; row++) {
      if (row % 4096 == 0) checkpoint();
      all.rows.push_back(row);
      all.c.push_back(exact.distance2(data.rows, row, queries[q].x, queries[q].alpha));
    }
    write_nearest(all, queries[q].index, out);
  });
}

// Queries whose lists overflow come back.
std::vector<Query> nearest_by(const Data& data, const std::vector<Query>& queries, const Nearest& out, FilterBy by,
                              int threads) {
  const int64_t k = out.k;
  const auto capacity = [&](int64_t count) {
    const size_t room = static_cast<size_t>(kListBytes / sizeof(CandidateList::Entry)) / static_cast<size_t>(count);
    return std::max(static_cast<size_t>(4 * k + 256), room);
  };
  std::vector<Query> rest;
  const FilterOptions options = {.k = static_cast<size_t>(k), .weighted = false};
  filter_in_batches(data, queries, by, options, threads, capacity, [&](const Query* some, int64_t count, auto lists) {
    const std::vector<Candidates> candidates = refine(data, some, lists, threads);
    for (int64_t q = 0; q < count; q++) {
      if (lists[q].overflowed()) {
        rest.push_back(some[q]);
        continue;
      }
      write_nearest(candidates[q], some[q].index, out);
    }
  });
  return rest;
}

}  // namespace

void nearest(const Data& data, const double* x, int64_t count, double alpha, const Nearest& out, int threads) {
  const std::vector<double> alphas(static_cast<size_t>(count), alpha), zeros(static_cast<size_t>(count), 0.0);
  const QueryArrays arrays = {
      .count = count, .x = x, .alpha = alphas.data(), .sigma = zeros.data(), .cut = zeros.data(), .u = nullptr};
  std::vector<Query> queries = normal_form(data, arrays, threads);
  for (Query& query : queries) query.s2 = query.variance = 0;
  if (*std::max_element(data.n2.begin(), data.n2.end()) > kLongest2) return nearest_of_all(data, queries, out, threads);
  if (int8_pays(data, count)) queries = nearest_by(data, queries, out, FilterBy::int8, threads);
  queries = nearest_by(data, queries, out, FilterBy::products, threads);
  nearest_by(data, queries, out, FilterBy::products_without_limit, threads);
}

}  // namespace interp_fast
