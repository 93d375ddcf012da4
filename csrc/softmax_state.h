// What a dense pass keeps of its queries while it runs over the rows, and how that of several slabs becomes one.
#pragma once

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>
#include <vector>

#include "candidate_list.h"
#include "panels.h"

namespace interp_fast {

// What runs over rows, of one panel: over those of a slab in T, or in float32, over all in float64.
template <class T, class Sum>
struct SoftmaxState {
  Buffer<T> scores;  // best, reference
  Buffer<WeightSums> sums;
  Buffer<Sum> x, u_x;                // sum p X, sum p <u, X> X
  std::vector<CandidateList> lists;  // one per lane, where heavy rows are wanted
  int64_t dead_rows;

  SoftmaxState(const Plan& plan, bool directions)
      : scores(static_cast<size_t>(2 * plan.width)),
        sums(static_cast<size_t>(plan.width)),
        x(static_cast<size_t>(plan.size)),
        u_x(static_cast<size_t>(directions ? plan.size : 0)) {}

  void clear(const Plan& plan, int64_t panel, bool directions) {
    for (int lane = 0; lane < plan.width; lane++) {  // lanes that are not in use are dead from the start
      const T never = static_cast<T>(lane < plan.lanes(panel) ? -INFINITY : kNever);
      best(lane) = reference(lane, plan) = never;
    }
    std::fill_n(sums.get(), plan.width, WeightSums{});
    std::fill_n(x.get(), plan.size, Sum{});
    if (directions) std::fill_n(u_x.get(), plan.size, Sum{});
    dead_rows = 0;
  }
  T& best(int lane) const { return scores[lane]; }
  T& reference(int lane, const Plan& plan) const { return scores[plan.width + lane]; }
};

// Of one group of panels: what its tasks left behind, merged in the order of its slabs by whoever comes when it is
// their turn.
template <class State>
struct Group {
  std::mutex mutex;
  int64_t next = 0;
  std::vector<std::vector<State>> waiting;  // [slab][panel]
  std::vector<std::vector<State>> spare;    // memory of slabs that are merged
};

// Adds the sums of a slab to those of the slabs before it, both relative to the larger reference of each lane.
template <class T, class Sum>
void merge(SoftmaxState<T, double>& to, SoftmaxState<T, Sum>& from, const Plan& plan, bool directions) {
  const int W = plan.width;
  struct Factors {
    double kept, added;
  };
  std::vector<Factors> factors(static_cast<size_t>(W));
  for (int lane = 0; lane < W; lane++) {
    const T old = to.reference(lane, plan), other = from.reference(lane, plan), reference = std::max(old, other);
    to.reference(lane, plan) = reference;
    to.best(lane) = std::max(to.best(lane), from.best(lane));
    const auto move = [&](WeightSums& sums, T origin) {
      const double by = origin == reference ? 0.0 : static_cast<double>(origin) - reference, f = std::exp2(by);
      rescale(sums, f, by);
      return f;
    };
    factors[lane] = {move(to.sums[lane], old), move(from.sums[lane], other)};
    to.sums[lane] += from.sums[lane];
  }
  const auto add = [&](double* __restrict sum, const Sum* __restrict terms) {
    const ptrdiff_t inner = plan.gemv ? plan.ld : W;
    for (ptrdiff_t at = 0; at < plan.size; at += inner) {
      for (ptrdiff_t j = at; plan.gemv && j < at + inner; j++) {
        const auto [kept, added] = factors[at / inner];
        sum[j] = kept * sum[j] + added * static_cast<double>(terms[j]);
      }
      for (ptrdiff_t j = 0; !plan.gemv && j < inner; j++) {
        const auto [kept, added] = factors[j];
        sum[at + j] = kept * sum[at + j] + added * static_cast<double>(terms[at + j]);
      }
    }
  };
  add(to.x.get(), from.x.get());
  if (directions) add(to.u_x.get(), from.u_x.get());
  to.dead_rows += from.dead_rows;
  if (to.lists.empty()) {
    to.lists = from.lists;
  } else {
    for (size_t lane = 0; lane < from.lists.size(); lane++) to.lists[lane].append(from.lists[lane]);
  }
}

}  // namespace interp_fast
