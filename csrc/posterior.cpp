// The ladder. A query meets its stages in order, each the cheapest way that keeps the promised accuracy where it
// applies; a stage answers what it can and hands on the rest:
//
//   prior       alpha = 0, or all rows equal: the posterior is the weights;
//   lowdim      all rows, where these have few dimensions: exact differences are cheap there;
//   candidates  the few rows that rigorous bounds on the scores leave over (filter.h), refined: in float64 from the
//               rows as given. Where int8 can give the bounds, that is the fastest way as soon as it may succeed;
//   sums        all rows, in the arithmetic of the products, when rounding a logit does not matter but for the
//               heaviest rows, whose weights are then corrected; of bytes, where there are tiles, first by digits.
//
// Off-weights, and a variance, may be made of rows whose share drowns in sums that hold the heaviest ones, too. Those
// few are then excluded: the sums are formed without them, and they are added in float64. So are the many rows of a
// cluster, whose variance drowns in the second moment about the centre: it is looked for only where it does.
//
// Where many rows still count there is one more stage of sums, in float64: of data stored in less than that, for logits
// that need more digits than float32 has, as far as float64 has them, and else beside rows that only candidates showed
// to dominate.
#include "posterior.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "accuracy.h"
#include "arithmetic.h"
#include "by_candidates.h"
#include "dense.h"
#include "digits.h"
#include "lowdim.h"
#include "prior.h"

namespace interp_fast {
namespace {

// Int8 is tried where the cut is at most this share of what is between the nearest row and a common one. Measured on
// images and on a curved sheet in 64 to 3072 dimensions: about the largest at which most attempts succeed.
constexpr double kSharp = 0.35;
// Up to this share the heaviest rows may dominate what off-weights are made of from sums: of images and of a curved
// sheet in 64 dimensions for 4 queries in 100 at 2.1, for half at 1.2, for nearly all at 0.7. They are found before,
// for a tenth of what a pass costs.
constexpr double kDominated = 2.5;

template <class T>
Regime regime_of(const Data& data, const Query& query, const Outputs& out, const Accuracy& accuracy) {
  if (data.radius == 0 || (query.alpha == 0 && !out.jvp)) return Regime::prior;
  if (!summable<T>(data, query, accuracy)) return Regime::late;
  const double radius = query.alpha * data.spread, share = query.cut * query.variance / (radius * radius);
  if (share <= kSharp) return Regime::sharp;
  return out.off_weights() && share <= kDominated ? Regime::dominated : Regime::dense;
}

using Queries = std::vector<Query>;

// Lets a stage answer the queries that it applies to; the rest that it hands back follows the others.
template <class Applies, class Answer>
void stage(Queries& queries, Applies applies, Answer answer) {
  const auto count = std::count_if(queries.begin(), queries.end(), applies);
  if (count == 0) return;
  if (count == static_cast<ptrdiff_t>(queries.size())) {
    queries = answer(queries);
    return;
  }
  Queries taken, others;
  for (Query& query : queries) (applies(query) ? taken : others).push_back(std::move(query));
  append(others, answer(taken));
  queries = std::move(others);
}

template <class T>
void climb(const Data& data, Queries queries, const Outputs& out, int threads) {
  const Accuracy accuracy = sizeof(T) == 8 ? kFloat64 : kFloat32;
  for (Query& query : queries) {
    query.norm = longest_that_counts(data, query, std::max<int64_t>(2, out.top));
    query.regime = regime_of<T>(data, query, out, accuracy);
  }
  const auto any = [](const Query&) { return true; };
  const auto lowdim = [&](const Query&) { return data.rows.d <= kLowdim && !out.mass; };
  const auto once_more = [&](const Query& query) {
    if (query.s2 == 0) return false;  // logits are no numbers: only the nearest rows count
    if (sizeof(T) == 4) return summable<double>(data, query, kFloat32InFloat64);
    return query.excluded && query.regime != Regime::late;
  };
  const auto only = [](Regime wanted) { return [wanted](const Query& query) { return query.regime == wanted; }; };
  const auto summed = [](const Query& query) {
    return query.regime != Regime::late && query.regime != Regime::clustered;
  };
  const auto excluded = [](const Query& query) { return query.excluded != nullptr; };
  // Within the cut are even more rows than could not be excluded from sums; in float64 these need not be.
  const auto filtered = [](const Query& query) { return sizeof(T) == 8 || query.regime != Regime::clustered; };
  const auto candidates = [&](FilterBy by) {
    return [&, by](const Queries& some) { return by_candidates(data, some, out, by, threads); };
  };
  const auto sums = [&](const Queries& some) { return dense_pass<T>(data, some, out, accuracy, threads); };
  const auto beside_clusters = [&](const Queries& some) {
    Queries rest;
    in_batches(some, kListBatch, [&](const Query* first, int64_t count) {
      Queries batch = exclude_clusters(data, {first, first + count}, out, threads);
      stage(batch, excluded, sums);
      append(rest, batch);
    });
    return rest;
  };
  const bool digits = sizeof(T) == 4 && !out.mass;
  const int64_t count = static_cast<int64_t>(queries.size());
  const auto by_digits = [&](const Query& query) {
    return digits && summed(query) && digits_pay(data, count, threads) && summable<Digits>(data, query, accuracy);
  };
  const auto sums_by_digits = [&](const Queries& some) {
    return dense_pass<Digits>(data, some, out, accuracy, threads);
  };
  const auto sums_in_float64 = [&](const Queries& some) {
    return dense_pass<double>(data, some, out, sizeof(T) == 4 ? kFloat32InFloat64 : kFloat64, threads);
  };

  stage(queries, only(Regime::prior), [&](const Queries& some) { return answer_prior(data, some, out, threads); });
  stage(queries, lowdim, [&](const Queries& some) { return lowdim_pass<T>(data, some, out, accuracy, threads); });
  stage(queries, only(Regime::sharp),
        [&](const Queries& some) { return by_int8_where_sharp(data, some, out, threads); });
  stage(queries, only(Regime::dominated),
        [&](const Queries& some) { return exclude_heaviest(data, some, out, accuracy, threads); });
  stage(queries, only(Regime::late), [&](const Queries& some) { return by_int8(data, some, out, threads); });
  stage(queries, by_digits, sums_by_digits);
  stage(queries, summed, sums);
  stage(queries, only(Regime::clustered), beside_clusters);
  stage(queries, filtered, candidates(FilterBy::products));
  stage(queries, once_more, sums_in_float64);
  stage(queries, any, candidates(FilterBy::products_without_limit));
}

}  // namespace

void posterior(const Data& data, const QueryArrays& queries, const Outputs& out, int threads) {
  // Rows that are next to nothing in the data can make all of R. To them a scatter owes its digits as a variance does.
  const double rows = static_cast<double>(data.active) * data.max_norm * data.max_norm;
  Outputs wanted = out;
  if (!out.variance && rows * std::exp(-kUnderflow<float>) > kFloat64.scatter * data.radius * data.radius) {
    wanted.variance = out.scatter;
  }
  // What is made of off-weights needs rows of each part that count for nothing in the whole.
  QueryArrays seen = queries;
  if (wanted.off_weights()) seen.parts = 1;
  (data.float64_only ? climb<double> : climb<float>)(data, normal_form(data, seen, threads), wanted, threads);
}

}  // namespace interp_fast
