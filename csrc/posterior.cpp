// Every query ends in one of four ways, each the cheapest that keeps the promised accuracy where it applies:
//
//   the prior   alpha = 0, or all rows equal: the posterior is the weights;
//   sums        all rows, in the arithmetic of the products (dense.h), when rounding a logit does not matter but for
//               the heaviest rows, whose weights are then corrected;
//   candidates  the few rows that rigorous bounds on the scores leave over (filter.h), refined: in float64 from the
//               rows as given. Where int8 can give the bounds (int8-inl.h), that is the fastest way as soon as it may
//               succeed;
//   lowdim      all rows, where these have few dimensions (lowdim.h): exact differences are cheap there.
//
// Off-weights, and a variance, may be made of rows whose share drowns in sums that hold the heaviest ones, too. Those
// few are then excluded: the sums are formed without them, and they are added in float64.
//
// Data stored in less than float64 have one more way between sums and candidates: sums in float64, for queries whose
// logits need more digits than float32 has while many rows still count.
#include "posterior.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "answer.h"
#include "dense.h"
#include "dispatch.h"
#include "filter.h"
#include "lowdim.h"

namespace interp_fast {
namespace {

// What float32 and float64 results promise, with a margin; in float64 sums of float32 data rounding is no concern. The
// shares of off-weights and of the variance are what leaves 1e-3 (1e-9) of differences whose terms are off by some
// 2^-22 (2^-51).
constexpr Accuracy kFloat32 = {0x1p-13, 0x1p-19, 0x1p-16, 5e-6, 0x1p-8, 0x1p-8, 0x1p-16};
constexpr Accuracy kFloat64 = {0x1p-32, 0x1p-35, 0x1p-36, 5e-11, 0x1p-16, 0x1p-16, 0x1p-36};
constexpr Accuracy kFloat32InFloat64 = {0x1p-13, 0x1p-19, 0x1p-16, 5e-6, 0x1p-20, 0x1p-26, 0x1p-16};

constexpr double kListBytes = 0x1p28;  // most memory for lists of rows
// Int8 is tried where the cut is at most this share of what is between the nearest row and a common one. Measured on
// images and on a curved sheet in 64 to 3072 dimensions: about the largest at which most attempts succeed.
constexpr double kSharp = 0.35;
// Up to this share the heaviest rows may dominate what off-weights are made of from sums: of images and of a curved
// sheet in 64 dimensions for 4 queries in 100 at 2.1, for half at 1.2, for nearly all at 0.7. They are found before,
// for a tenth of what a pass costs.
constexpr double kDominated = 2.5;
constexpr double kDominatedCut = 3;     // nats: lighter rows are no more than others, and ...
constexpr size_t kMostDominating = 16;  // ... so are rows with more than so many like them
constexpr int64_t kBatch = 1 << 13;     // queries that have lists at once
constexpr int64_t kProbe = 32;          // queries that show whether it is worth while for the others

// The posterior is the weights, whatever the query.
void write_prior(const Data& data, const std::vector<Query>& queries, const Outputs& out, int threads) {
  if (queries.empty()) return;
  const ptrdiff_t d = data.rows.d;
  Candidates all;
  for (int64_t row = 0; row < data.rows.n; row++) {
    if (data.log_w[row] > -INFINITY) all.rows.push_back(row);
  }
  all.c.assign(all.rows.size(), 0.0);
  const std::vector<Candidates> once(1, std::move(all));
  double gap, log_rest, ess, entropy;
  int64_t index;
  std::vector<int64_t> top_index(static_cast<size_t>(out.top));
  std::vector<double> top_weight(static_cast<size_t>(out.top));
  Outputs of_weights{};
  of_weights.gap = &gap, of_weights.log_rest = &log_rest, of_weights.ess = &ess, of_weights.entropy = &entropy;
  of_weights.index = &index;
  of_weights.top = out.top, of_weights.top_index = top_index.data(), of_weights.top_weight = top_weight.data();
  Query any{};
  any.cut = INFINITY;
  any.s2 = queries[0].s2;
  finish_exact(data, &any, once, {}, nullptr, of_weights, threads);
  const double radius = data.radius * data.unit;
  for (const Query& query : queries) {
    const int64_t m = query.index;
    double c = 0;
    for (ptrdiff_t k = 0; k < d; k++) {
      const double difference = query.x[k] - query.alpha * data.mean[k];
      c += difference * difference;
    }
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
    if (out.top == 0) continue;
    std::copy(top_index.begin(), top_index.end(), out.top_index + m * out.top);
    std::copy(top_weight.begin(), top_weight.end(), out.top_weight + m * out.top);
  }
}

// Sums are to be formed without the rows of these lists.
void exclude(const Data& data, Query* queries, const std::vector<CandidateList>& lists, bool exact_top, int threads) {
  std::vector<Candidates> rows = refine(data, queries, lists, threads);
  for (size_t q = 0; q < lists.size(); q++) {
    if (rows[q].rows.empty()) continue;
    queries[q].excluded = std::make_shared<const Excluded>(Excluded{std::move(rows[q]), exact_top});
  }
}

// Excludes rows that are the heaviest as far as int8 tells; the sums will tell whether they are.
void exclude_heaviest(const Data& data, std::vector<Query>& queries, const Int8Kernels& int8, size_t k, int threads) {
  std::vector<Query> near = queries;
  for (Query& query : near) query.cut = std::min(query.cut, kDominatedCut);
  const FilterOptions wanted = {k, true, 1024 + 4 * k, std::max(kMostDominating, 2 * k), false};
  const int64_t count = static_cast<int64_t>(queries.size());
  for (int64_t first = 0; first < count; first += kBatch) {
    const int64_t size = std::min(kBatch, count - first);
    const auto lists = filter_by_int8(data, int8, near.data() + first, size, wanted, threads);
    exclude(data, queries.data() + first, lists, false, threads);
  }
}

// How candidates are found: by int8 or, nullptr, by products in T; and whether however many they are.
struct FilterBy {
  const Int8Kernels* int8;
  bool always;
};
constexpr FilterBy kProducts = {nullptr, false}, kAlways = {nullptr, true};

// Queries by their candidates: the rows within the cut of the `heaviest` heaviest, and the top rows asked for. Those
// with too many come back, unless `always`.
template <class T>
std::vector<Query> by_candidates(const Data& data, const std::vector<Query>& queries, const double* u,
                                 const Outputs& out, int64_t heaviest, FilterBy by, int threads) {
  const bool always = by.always;
  std::vector<Query> rest;
  const double row_bytes = sizeof(CandidateList::Entry), n = static_cast<double>(data.rows.n);
  const int64_t count = static_cast<int64_t>(queries.size());
  const int64_t batch = always ? std::max<int64_t>(1, static_cast<int64_t>(kListBytes / (row_bytes * n))) : kBatch;
  const size_t k = static_cast<size_t>(std::min(data.active, std::max(heaviest, out.top)));
  for (int64_t first = 0; first < count; first += batch) {
    const int64_t size = std::min(batch, count - first);
    // One float64 difference costs some three times what the row costs in a float64 sum of all, and much more than to
    // look at it in int8.
    const double worth = by.int8 ? n / 32 : n / 4 + 64;
    const double most = std::min(worth, kListBytes / (row_bytes * static_cast<double>(size)));
    const size_t capacity = always ? SIZE_MAX : std::max<size_t>(256, static_cast<size_t>(most));
    const Query* const from = queries.data() + first;
    const FilterOptions wanted = {k, true, capacity};
    std::vector<CandidateList> lists = by.int8 ? filter_by_int8(data, *by.int8, from, size, wanted, threads)
                                               : filter<T>(data, from, size, wanted, threads);
    std::vector<Query> kept, overflowed;
    std::vector<CandidateList> kept_lists, overflowed_lists;
    for (int64_t q = 0; q < size; q++) {
      Query query = queries[first + q];
      if (out.work && !query.counted) out.work[query.index] = 0.5;
      query.counted = true;
      const bool all = !lists[q].overflowed();
      (all ? kept : overflowed).push_back(query), (all ? kept_lists : overflowed_lists).push_back(std::move(lists[q]));
    }
    if (out.off_weights()) exclude(data, overflowed.data(), overflowed_lists, true, threads);
    rest.insert(rest.end(), overflowed.begin(), overflowed.end());
    const std::vector<Candidates> candidates = refine(data, kept.data(), kept_lists, threads);
    const std::vector<AnswerInfo> used = finish_exact(data, kept.data(), candidates, {}, u, out, threads);
    std::vector<Query> flat;
    size_t copies = 0;
    for (size_t q = 0; q < kept.size(); q++) {
      const double left_out = static_cast<double>(data.active - used[q].rows);
      if (out.dropped) out.dropped[kept[q].index] = std::min(1.0, left_out * std::exp(-kept[q].cut));
      const bool all = static_cast<int64_t>(candidates[q].rows.size()) == data.active;
      if ((out.variance || out.jvp) && used[q].copies >= k && !all && kept[q].s2 > 0) {
        flat.push_back(kept[q]), copies = std::max(copies, used[q].copies);
      }
    }
    // Copies of the heaviest row dominated the rows that make the variance: look beyond them.
    if (!flat.empty()) by_candidates<T>(data, flat, u, out, static_cast<int64_t>(copies) + 1, kAlways, threads);
  }
  return rest;
}

// Queries by the candidates that int8 leaves over; those with too many come back. Whether it has few is decided by
// its noise above all, so that a few tell up to where it is worth while to try.
template <class T>
std::vector<Query> by_int8_candidates(const Data& data, std::vector<Query> queries, const double* u, const Outputs& out,
                                      int64_t heaviest, int threads) {
  const int64_t count = static_cast<int64_t>(queries.size());
  const FilterBy by = {int8_for(data, count), false};
  if (!by.int8) return queries;
  const auto noise = [](const Query& query) { return query.s2 / (query.alpha * query.alpha); };
  std::sort(queries.begin(), queries.end(), [&](const Query& a, const Query& b) {
    return noise(a) != noise(b) ? noise(a) < noise(b) : a.index < b.index;
  });
  std::vector<Query> probe, others;
  for (int64_t q = 0; q < count; q++) {
    const bool first = count <= 2 * kProbe || q * kProbe / count != (q + 1) * kProbe / count;
    (first ? probe : others).push_back(queries[q]);
  }
  std::vector<Query> rest = by_candidates<T>(data, probe, u, out, heaviest, by, threads);
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
  const std::vector<Query> failed = by_candidates<T>(data, others, u, out, heaviest, by, threads);
  rest.insert(rest.end(), failed.begin(), failed.end());
  return rest;
}

// Everything, by products in T.
template <class T>
void posterior_in(const Data& data, const std::vector<Query>& queries, const double* u, const Outputs& out,
                  int threads) {
  constexpr bool kFloat64Only = sizeof(T) == 8;
  constexpr Accuracy kAccuracy = kFloat64Only ? kFloat64 : kFloat32;
  const int64_t heaviest = out.off_weights() ? 2 : 1;
  std::vector<Query> prior, left, dense, dominated, sharp, late;
  for (const Query& query : queries) {
    const bool is_prior = data.radius == 0 || (query.alpha == 0 && !out.jvp);
    (is_prior ? prior : left).push_back(query);
  }
  write_prior(data, prior, out, threads);
  if (data.rows.d <= kLowdim) left = lowdim_pass<T>(data, left, u, out, kAccuracy, threads);
  for (const Query& query : left) {
    const bool sums = summable<T>(data, query, kAccuracy);
    const double radius = query.alpha * data.radius, share = query.cut * query.variance / (radius * radius);
    const bool dominates = out.off_weights() && share <= kDominated;
    (!sums ? late : share <= kSharp ? sharp : dominates ? dominated : dense).push_back(query);
  }
  const auto add = [](std::vector<Query>& to, const std::vector<Query>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  for (const Query& query : by_int8_candidates<T>(data, std::move(sharp), u, out, heaviest, threads)) {
    (out.off_weights() && !query.excluded ? dominated : dense).push_back(query);
  }
  if (const Int8Kernels* int8 = int8_for(data, static_cast<int64_t>(dominated.size()))) {
    exclude_heaviest(data, dominated, *int8, static_cast<size_t>(std::min(data.active, std::max(heaviest, out.top))),
                     threads);
  }
  add(dense, dominated);
  // Where float32 does not tell logits apart, few rows count.
  if (const Int8Kernels* int8 = int8_for(data, static_cast<int64_t>(late.size()))) {
    late = by_candidates<T>(data, late, u, out, heaviest, {int8, false}, threads);
  }
  add(late, dense_pass<T>(data, dense, u, out, kAccuracy, threads));
  std::vector<Query> overflowed = by_candidates<T>(data, late, u, out, heaviest, kProducts, threads);
  if (!kFloat64Only) overflowed = dense_pass<double>(data, overflowed, u, out, kFloat32InFloat64, threads);
  by_candidates<T>(data, overflowed, u, out, heaviest, kAlways, threads);
}

// Fills in |x~|^2, `largest` and `displacement`, in several chains; differences are rounded as those that panels are
// filled with.
void measure_query(const Data& data, Query& query) {
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
  query.displacement = kRoundoff<double> * std::sqrt(std::accumulate(rounded, rounded + kChains, 0.0)) / data.unit;
  query.largest = *std::max_element(largest, largest + kChains);
}

}  // namespace

std::vector<Query> normal_form(const Data& data, const double* x, int64_t queries, const double* alpha,
                               const double* sigma, const double* cut, int threads) {
  std::vector<Query> out(static_cast<size_t>(queries));
  const ptrdiff_t d = data.rows.d;
  parallel_for(queries, queries * d < (1 << 15) ? 1 : threads, [&](int64_t m, int) {
    Query& query = out[m];
    query.index = m;
    query.x = x + m * d;
    query.alpha = alpha[m];
    query.cut = cut[m];
    query.s2 = sigma[m] * sigma[m] + (alpha[m] * data.bandwidth) * (alpha[m] * data.bandwidth);
    query.variance = query.s2 / (data.unit * data.unit);
    measure_query(data, query);
  });
  return out;
}

void posterior(const Data& data, const double* x, int64_t queries, const double* alpha, const double* sigma,
               const double* cut, const double* u, const Outputs& out, int threads) {
  if (data.in_float64) {
    posterior_in<double>(data, normal_form(data, x, queries, alpha, sigma, cut, threads), u, out, threads);
  } else {
    posterior_in<float>(data, normal_form(data, x, queries, alpha, sigma, cut, threads), u, out, threads);
  }
}

void nearest(const Data& data, const double* x, int64_t queries, double alpha, int64_t k, int64_t* index,
             double* squared_distance, int threads) {
  const std::vector<double> alphas(static_cast<size_t>(queries), alpha), zeros(static_cast<size_t>(queries), 0.0);
  std::vector<Query> all = normal_form(data, x, queries, alphas.data(), zeros.data(), zeros.data(), threads);
  for (Query& query : all) query.s2 = query.variance = 0;
  const auto pass = [&](const std::vector<Query>& some, FilterBy by) {
    const bool always = by.always;
    std::vector<Query> rest;
    const double bytes = sizeof(CandidateList::Entry) * static_cast<double>(data.rows.n);
    const int64_t count = static_cast<int64_t>(some.size());
    const int64_t batch = always ? std::max<int64_t>(1, static_cast<int64_t>(kListBytes / bytes)) : kBatch;
    for (int64_t first = 0; first < count; first += batch) {
      const int64_t size = std::min(batch, count - first);
      const size_t capacity = always ? SIZE_MAX
                                     : std::max<size_t>(static_cast<size_t>(4 * k + 256),
                                                        static_cast<size_t>(kListBytes / sizeof(CandidateList::Entry)) /
                                                            static_cast<size_t>(size));
      const Query* const from = some.data() + first;
      const FilterOptions wanted = {static_cast<size_t>(k), false, capacity};
      const std::vector<CandidateList> lists = by.int8 ? filter_by_int8(data, *by.int8, from, size, wanted, threads)
                                               : data.in_float64 ? filter<double>(data, from, size, wanted, threads)
                                                                 : filter<float>(data, from, size, wanted, threads);
      const std::vector<Candidates> candidates = refine(data, from, lists, threads);
      for (int64_t q = 0; q < size; q++) {
        if (lists[q].overflowed()) {
          rest.push_back(from[q]);
          continue;
        }
        const Candidates& found = candidates[q];
        std::vector<std::pair<double, int64_t>> order;
        for (size_t i = 0; i < found.rows.size(); i++) order.emplace_back(found.c[i], found.rows[i]);
        std::partial_sort(order.begin(), order.begin() + k, order.end());
        for (int64_t i = 0; i < k; i++) {
          squared_distance[from[q].index * k + i] = order[i].first;
          index[from[q].index * k + i] = order[i].second;
        }
      }
    }
    return rest;
  };
  if (const Int8Kernels* int8 = int8_for(data, queries)) all = pass(all, {int8, false});
  pass(pass(all, kProducts), kAlways);
}

}  // namespace interp_fast
