// The ladder. A query meets its stages in order, each the cheapest way that keeps the promised accuracy where it
// applies; a stage answers what it can and hands on the rest:
//
//   prior       alpha = 0, or all rows equal: the posterior is the weights;
//   lowdim      all rows, where these have few dimensions: exact differences are cheap there;
//   candidates  the few rows that rigorous bounds on the scores leave over (filter.h), refined: in float64 from the
//               rows as given. Where int8 can give the bounds, that is the fastest way as soon as it may succeed;
//   sums        all rows, in the arithmetic of the products, when rounding a logit does not matter but for the
//               heaviest rows, whose weights are then corrected.
//
// Off-weights, and a variance, may be made of rows whose share drowns in sums that hold the heaviest ones, too. Those
// few are then excluded: the sums are formed without them, and they are added in float64.
//
// Data stored in less than float64 have one more stage: sums in float64, for queries whose logits need more digits than
// float32 has while many rows still count.
#include "posterior.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "accuracy.h"
#include "by_candidates.h"
#include "dense.h"
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
  const double radius = query.alpha * data.radius, share = query.cut * query.variance / (radius * radius);
  if (share <= kSharp) return Regime::sharp;
  return out.off_weights() && share <= kDominated ? Regime::dominated : Regime::dense;
}

using Queries = std::vector<Query>;

struct Stage {
  std::function<bool(const Query&)> applies;
  std::function<Queries(const Queries&)> answer;  // returns the rest
};

template <class T>
void climb(const Data& data, Queries queries, const Outputs& out, int threads) {
  constexpr const Accuracy& accuracy = sizeof(T) == 8 ? kFloat64 : kFloat32;
  const auto any = [](const Query&) { return true; };
  const auto lowdim = [&](const Query&) { return data.rows.d <= kLowdim; };
  const auto in_float32 = [](const Query&) { return sizeof(T) == 4; };
  const auto only = [](Regime wanted) { return [wanted](const Query& query) { return query.regime == wanted; }; };
  const auto all_but = [](Regime other) { return [other](const Query& query) { return query.regime != other; }; };
  const auto candidates = [&](FilterBy by) {
    return [&, by](const Queries& some) { return by_candidates<T>(data, some, out, by, threads); };
  };
  const Stage ladder[] = {
      {only(Regime::prior), [&](const Queries& some) { return answer_prior(data, some, out, threads); }},
      {lowdim, [&](const Queries& some) { return lowdim_pass<T>(data, some, out, accuracy, threads); }},
      {only(Regime::sharp), [&](const Queries& some) { return by_int8_where_sharp<T>(data, some, out, threads); }},
      {only(Regime::dominated), [&](const Queries& some) { return exclude_heaviest(data, some, out, threads); }},
      {only(Regime::late), [&](const Queries& some) { return by_int8<T>(data, some, out, threads); }},
      {all_but(Regime::late), [&](const Queries& some) { return dense_pass<T>(data, some, out, accuracy, threads); }},
      {any, candidates(FilterBy::products)},
      {in_float32,
       [&](const Queries& some) { return dense_pass<double>(data, some, out, kFloat32InFloat64, threads); }},
      {any, candidates(FilterBy::products_without_limit)},
  };
  for (Query& query : queries) query.regime = regime_of<T>(data, query, out, accuracy);
  for (const Stage& stage : ladder) {
    Queries taken, others;
    for (Query& query : queries) (stage.applies(query) ? taken : others).push_back(std::move(query));
    if (!taken.empty()) append(others, stage.answer(taken));
    queries = std::move(others);
  }
}

}  // namespace

void posterior(const Data& data, const QueryArrays& queries, const Outputs& out, int threads) {
  (data.float64_only ? climb<double> : climb<float>)(data, normal_form(data, queries, threads), out, threads);
}

}  // namespace interp_fast
