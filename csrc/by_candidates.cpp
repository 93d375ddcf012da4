#include "by_candidates.h"

#include <algorithm>
#include <cmath>

#include "answer.h"
#include "dispatch.h"
#include "int8.h"
#include "pool.h"
#include "refine.h"

namespace interp_fast {
namespace {

constexpr double kDominatedCut = 3;     // nats: lighter rows are no more than others, and ...
constexpr size_t kMostDominating = 16;  // ... so are rows with more than so many like them
constexpr int64_t kProbe = 32;          // queries, or wholes, that show whether it is worth while for the others

// So many of the heaviest rows decide what is asked for.
size_t heaviest_wanted(const Data& data, const Outputs& out) {
  return static_cast<size_t>(std::min(data.copies.distinct, std::max<int64_t>(out.off_weights() ? 2 : 1, out.top)));
}

// One float64 difference costs some three times what the row costs in a float64 sum of all, and much more than to look
// at it in int8: there lists of 256 rows are worth it among many, and no more than an eighth of few.
double worth_beside_int8(const Data& data) {
  const double n = static_cast<double>(data.rows.n);
  return std::max(n / 32, std::min(256.0, n / 8 + 16));
}

// How many rows the lists of so many queries hold, if no more are worth it.
size_t room(double worth, size_t k, int64_t queries) {
  const double most = kListBytes / (sizeof(CandidateList::Entry) * static_cast<double>(queries));
  return std::max(k, static_cast<size_t>(std::min(worth, most)));
}

// Queries that look for rows within so many nats alone.
std::vector<Query> within(double nats, std::vector<Query> queries) {
  for (Query& query : queries) query.cut = std::min(query.cut, nats);
  return queries;
}

// The mean squared distance of some rows to their mean, in normal form.
double variance_of(const Data& data, const std::vector<int64_t>& rows) {
  const ExactKernels& exact = *active_kernels().exact;
  std::vector<double> first(static_cast<size_t>(data.rows.d)), shift(first.size());
  exact.values(data.rows, rows.front(), first.data());
  double spread = 0, shift2 = 0;
  for (int64_t row : rows) spread += exact.add(data.rows, row, first.data(), 1, shift.data(), nullptr, nullptr);
  for (double k : shift) shift2 += k * k;
  const double n = static_cast<double>(rows.size()), unit2 = data.unit * data.unit;
  return (spread - shift2 / n) / (n * unit2);
}

// As by_candidates, within the cut of the k-th heaviest row.
std::vector<Query> by_candidates_within(const Data& data, const std::vector<Query>& queries, const Outputs& out,
                                        size_t k, FilterBy by, int threads) {
  std::vector<Query> rest;
  const double worth = by == FilterBy::int8 ? worth_beside_int8(data) : static_cast<double>(data.rows.n) / 4 + 64;
  const auto capacity = [&](int64_t count) { return room(worth, k, count); };
  const FilterOptions options = {.k = k, .weighted = true};
  filter_in_batches(data, queries, by, options, threads, capacity, [&](const Query* some, int64_t count, auto lists) {
    std::vector<Query> kept, overflowed;
    std::vector<CandidateList> kept_lists, overflowed_lists;
    for (int64_t q = 0; q < count; q++) {
      Query query = some[q];
      if (out.work && !query.counted) out.work[query.index] = 0.5;
      query.counted = true;
      if (lists[q].overflowed()) {
        overflowed.push_back(query);
        overflowed_lists.push_back(std::move(lists[q]));
      } else {
        kept.push_back(query);
        kept_lists.push_back(std::move(lists[q]));
      }
    }
    if (out.off_weights()) exclude(data, overflowed.data(), overflowed_lists, true, threads);
    append(rest, overflowed);
    const std::vector<Candidates> candidates = refine(data, kept.data(), kept_lists, threads);
    const std::vector<AnswerInfo> info = answer_from_candidates(data, kept.data(), candidates, {}, out, threads);
    std::vector<Query> flat;
    size_t copies = 0;
    for (size_t q = 0; q < kept.size(); q++) {
      const double left_out = static_cast<double>(data.active - info[q].rows);
      if (out.dropped) out.dropped[kept[q].index] = std::min(1.0, left_out * std::exp(-kept[q].cut));
      const bool all = static_cast<int64_t>(candidates[q].rows.size()) == data.active;
      if ((out.variance || out.jvp) && info[q].copies >= k && !all && kept[q].s2 > 0) {
        flat.push_back(kept[q]), copies = std::max(copies, info[q].copies);
      }
    }
    if (flat.empty()) return;
    // Copies of the heaviest row dominated the rows that make the variance: look beyond them.
    const size_t beyond = std::min(static_cast<size_t>(data.copies.distinct), copies + 1);
    append(rest, by_candidates_within(data, flat, out, beyond, by, threads));
  });
  return rest;
}

// Whether a query has few candidates is decided by its noise above all, so that a few tell up to where it is worth
// while to try.
std::vector<Query> probed(const Data& data, std::vector<Query> queries, const Outputs& out, int threads) {
  const int64_t count = static_cast<int64_t>(queries.size());
  const size_t k = heaviest_wanted(data, out);
  const auto noise = [](const Query& query) { return query.s2 / (query.alpha * query.alpha); };
  std::sort(queries.begin(), queries.end(), [&](const Query& a, const Query& b) {
    if (noise(a) != noise(b)) return noise(a) < noise(b);
    return a.whole != b.whole ? a.whole < b.whole : a.index < b.index;
  });
  // Queries that see parts of one whole go together.
  const auto new_whole = [&](int64_t q) {
    return q == 0 || queries[q].whole < 0 || queries[q].whole != queries[q - 1].whole;
  };
  int64_t wholes = 0, whole = -1;
  for (int64_t q = 0; q < count; q++) wholes += new_whole(q);
  std::vector<Query> probe, others;
  for (int64_t q = 0; q < count; q++) {
    whole += new_whole(q);
    const bool first = wholes <= 2 * kProbe || whole * kProbe / wholes != (whole + 1) * kProbe / wholes;
    (first ? probe : others).push_back(queries[q]);
  }
  std::vector<Query> rest = by_candidates_within(data, probe, out, k, FilterBy::int8, threads);
  // Up to the noise below which most succeed; an attempt in vain costs a fraction of what one that succeeds saves.
  double limit = -1;
  int64_t balance = 0, best = 0;
  for (size_t q = 0; q < probe.size(); q++) {
    const auto same = [&](const Query& failed) { return failed.index == probe[q].index; };
    balance += std::any_of(rest.begin(), rest.end(), same) ? -1 : 1;
    const bool last_of_noise = q + 1 == probe.size() || noise(probe[q + 1]) > noise(probe[q]);
    if (last_of_noise && balance > best) best = balance, limit = noise(probe[q]);
  }
  const auto beyond = std::partition(others.begin(), others.end(), [&](const Query& q) { return noise(q) <= limit; });
  rest.insert(rest.end(), beyond, others.end());
  others.erase(beyond, others.end());
  append(rest, by_candidates_within(data, others, out, k, FilterBy::int8, threads));
  return rest;
}

}  // namespace

std::vector<Query> by_candidates(const Data& data, const std::vector<Query>& queries, const Outputs& out, FilterBy by,
                                 int threads) {
  return by_candidates_within(data, queries, out, heaviest_wanted(data, out), by, threads);
}

std::vector<Query> by_int8(const Data& data, const std::vector<Query>& queries, const Outputs& out, int threads) {
  if (!int8_pays(data, static_cast<int64_t>(queries.size()))) return queries;
  return by_candidates(data, queries, out, FilterBy::int8, threads);
}

std::vector<Query> by_int8_where_sharp(const Data& data, const std::vector<Query>& queries, const Outputs& out,
                                       int threads) {
  std::vector<Query> rest =
      int8_pays(data, static_cast<int64_t>(queries.size())) ? probed(data, queries, out, threads) : queries;
  for (Query& query : rest) {
    query.regime = out.off_weights() && !query.excluded ? Regime::dominated : Regime::dense;
  }
  return rest;
}

std::vector<Query> exclude_heaviest(const Data& data, std::vector<Query> queries, const Outputs& out,
                                    const Accuracy& accuracy, int threads) {
  if (!int8_pays(data, static_cast<int64_t>(queries.size()))) return queries;
  const std::vector<Query> near = within(kDominatedCut, queries);
  const size_t k = heaviest_wanted(data, out);
  const FilterOptions options = {.k = k,
                                 .weighted = true,
                                 .capacity = 1024 + 4 * k,
                                 .trim_above = std::max(kMostDominating, 2 * k),
                                 .bounds = false};
  in_batches(near, kListBatch, [&](const Query* some, int64_t count) {
    const std::vector<CandidateList> lists = filter_by_int8(data, some, count, options, threads);
    Query* const to = queries.data() + (some - near.data());
    exclude(data, to, lists, false, threads);
    if (!out.variance && !out.jvp) return;
    parallel_by_query(count, threads, [&](int64_t q) {
      if (!lists[q].trimmed() || !to[q].excluded) return;
      const double variance = variance_of(data, to[q].excluded->candidates.rows);
      if (variance >= accuracy.variance * data.common_norm * data.common_norm) return;
      to[q].excluded = nullptr, to[q].regime = Regime::clustered;
    });
  });
  return queries;
}

std::vector<Query> exclude_clusters(const Data& data, std::vector<Query> queries, const Outputs& out, int threads) {
  const std::vector<Query> near = within(kDominatedCut, queries);
  const bool int8 = int8_pays(data, static_cast<int64_t>(queries.size()));
  const FilterOptions options = {.k = heaviest_wanted(data, out), .weighted = true};
  const double worth = data.float64_only ? INFINITY : worth_beside_int8(data);  // else there are sums in float64
  const auto capacity = [&](int64_t count) { return room(worth, options.k, count); };
  filter_in_batches(data, near, int8 ? FilterBy::int8 : FilterBy::products, options, threads, capacity,
                    [&](const Query* some, int64_t count, auto lists) {
                      for (int64_t q = 0; q < count; q++) {
                        if (lists[q].overflowed()) lists[q] = {};
                      }
                      exclude(data, queries.data() + (some - near.data()), lists, true, threads);
                    });
  return queries;
}

}  // namespace interp_fast
