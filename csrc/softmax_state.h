// What a dense pass keeps of its queries while it runs over the rows, and how that of several slabs becomes one.
#pragma once

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>
#include <vector>

#include "candidate_list.h"
#include "dispatch.h"
#include "panels.h"
#include "sums.h"

namespace interp_fast {

// How long the sums of a panel are, beside those of weights.
struct Lengths {
  ptrdiff_t x, u_x, mass;
};

// What runs over rows, of one panel: over those of a slab in T, or in float32, over all in float64.
template <class T, class Sum>
struct SoftmaxState {
  Buffer<T> scores;  // best, reference, and the reference of mass
  Buffer<WeightSums> sums;
  Buffer<Sum> x, u_x;                // sum p X, sum p <u, X> X
  Buffer<double> mass;               // p of the rows of each class, class after class; of a slab of those it has
  std::vector<CandidateList> lists;  // one per lane, where heavy rows are wanted
  int64_t dead_rows;

  SoftmaxState(const Plan& plan, const Lengths& lengths)
      : scores(static_cast<size_t>(3 * plan.width)),
        sums(static_cast<size_t>(plan.width)),
        x(static_cast<size_t>(lengths.x)),
        u_x(static_cast<size_t>(lengths.u_x)),
        mass(static_cast<size_t>(lengths.mass)) {}

  void clear(const Plan& plan, int64_t panel, const Lengths& lengths) {
    for (int lane = 0; lane < plan.width; lane++) {  // lanes that are not in use are dead from the start
      const T never = static_cast<T>(lane < plan.lanes(panel) ? -INFINITY : kNever);
      best(lane) = reference(lane, plan) = reference_of_mass(lane, plan) = never;
    }
    std::fill_n(sums.get(), plan.width, WeightSums{});
    std::fill_n(x.get(), lengths.x, Sum{});
    std::fill_n(u_x.get(), lengths.u_x, Sum{});
    std::fill_n(mass.get(), lengths.mass, 0.0);
    dead_rows = 0;
  }
  T& best(int lane) const { return scores[lane]; }
  T& reference(int lane, const Plan& plan) const { return scores[plan.width + lane]; }
  T& reference_of_mass(int lane, const Plan& plan) const { return scores[2 * plan.width + lane]; }

  // After the weights of a block, of which so many rows have classes in these places.
  void add_mass(const Plan& plan, const Lengths& lengths, const Panel<T>& panel, const Block<T>& block,
                const int32_t* places, ptrdiff_t rows) {
    const int W = plan.width;
    for (int lane = 0; lane < W; lane++) {
      const T old = std::exchange(reference_of_mass(lane, plan), reference(lane, plan));
      if (old == reference(lane, plan)) continue;
      const double factor = std::exp2(static_cast<double>(old) - reference(lane, plan));
      for (ptrdiff_t at = lane; at < lengths.mass; at += W) mass[at] *= factor;
    }
    for (int lane = 0; plan.gemv && lane < panel.lanes; lane++) {
      const T* const p = panel.s + lane * block.rows;
      for (ptrdiff_t row = 0; row < rows; row++) mass[places[row] * W + lane] += static_cast<double>(p[row]);
    }
    for (ptrdiff_t i = 0; !plan.gemv && i < panel.alive_rows; i++) {
      if (panel.alive[i] >= rows) break;
      const T* const p = panel.s + i * W;
      double* const to = mass.get() + places[panel.alive[i]] * W;
      for (int lane = 0; lane < W; lane++) to[lane] += static_cast<double>(p[lane]);
    }
  }
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

// The sums of the first slab, without its lists and masses.
template <class T, class Sum>
void start(SoftmaxState<T, double>& to, const SoftmaxState<T, Sum>& from, const Plan& plan, const Lengths& lengths) {
  std::copy_n(from.scores.get(), 2 * plan.width, to.scores.get());
  std::copy_n(from.sums.get(), plan.width, to.sums.get());
  std::copy_n(from.x.get(), lengths.x, to.x.get());
  std::copy_n(from.u_x.get(), lengths.u_x, to.u_x.get());
  to.dead_rows = from.dead_rows;
}

// Adds the sums of a slab to those of the slabs before it, both relative to the larger reference of each lane: of all
// lanes, or of some.
template <class T, class Sum>
void merge(SoftmaxState<T, double>& to, const SoftmaxState<T, Sum>& from, const Plan& plan, const Lengths& lengths,
           const char* members = nullptr) {
  const int W = plan.width;
  struct Factors {
    double kept, added;
  };
  std::vector<Factors> factors(static_cast<size_t>(W));
  for (int lane = 0; lane < W; lane++) {
    factors[lane] = {1, 0};
    if (members && !members[lane]) continue;
    const T old = to.reference(lane, plan), other = from.reference(lane, plan), reference = std::max(old, other);
    to.reference(lane, plan) = reference;
    to.best(lane) = std::max(to.best(lane), from.best(lane));
    const auto move = [&](WeightSums& sums, T origin) {
      const double by = origin == reference ? 0.0 : static_cast<double>(origin) - reference, f = std::exp2(by);
      rescale(sums, f, by);
      return f;
    };
    WeightSums more = from.sums[lane];
    factors[lane] = {move(to.sums[lane], old), move(more, other)};
    to.sums[lane] += more;
  }
  // So many numbers, of which those of a lane lie together or side by side with those of the others.
  const auto add = [&](double* __restrict sum, const auto* __restrict terms, ptrdiff_t length, bool together) {
    const ptrdiff_t inner = together ? plan.ld : W;
    for (ptrdiff_t at = 0; at < length; at += inner) {
      for (ptrdiff_t j = at; together && j < at + inner; j++) {
        const auto [kept, added] = factors[at / inner];
        sum[j] = kept * sum[j] + added * static_cast<double>(terms[j]);
      }
      for (ptrdiff_t j = 0; !together && j < inner; j++) {
        const auto [kept, added] = factors[j];
        sum[at + j] = kept * sum[at + j] + added * static_cast<double>(terms[at + j]);
      }
    }
  };
  add(to.x.get(), from.x.get(), lengths.x, plan.gemv);
  add(to.u_x.get(), from.u_x.get(), lengths.u_x, plan.gemv);
  to.dead_rows += from.dead_rows;
}

template <class T, class Sum>
void merge_lists(SoftmaxState<T, double>& to, SoftmaxState<T, Sum>& from) {
  if (to.lists.empty()) {
    to.lists = std::move(from.lists);
  } else {
    for (size_t lane = 0; lane < from.lists.size(); lane++) to.lists[lane].append(from.lists[lane]);
  }
}

// Adds the mass of a slab to those classes that it has. There may be many others: the reference of these sums follows
// that of the slabs only where that is higher by far.
template <class T, class Sum>
void merge_mass(SoftmaxState<T, double>& to, const SoftmaxState<T, Sum>& from, const Plan& plan,
                const std::vector<int64_t>& classes, ptrdiff_t length) {
  constexpr T kFar = 64;
  const int W = plan.width;
  std::vector<double> kept(static_cast<size_t>(W), 1), added(static_cast<size_t>(W));
  bool moved = false;
  for (int lane = 0; lane < W; lane++) {
    T& reference = to.reference_of_mass(lane, plan);
    const T other = from.reference_of_mass(lane, plan);
    if (other == -static_cast<T>(INFINITY)) continue;  // nothing has a weight
    if (other > reference + kFar) {
      const T old = std::exchange(reference, other);
      if (old > -static_cast<T>(INFINITY)) kept[lane] = std::exp2(static_cast<double>(old) - other), moved = true;
    }
    added[lane] = std::exp2(static_cast<double>(other) - reference);
  }
  for (ptrdiff_t at = 0; moved && at < length; at += W) {
    for (int lane = 0; lane < W; lane++) to.mass[at + lane] *= kept[lane];
  }
  const double* terms = from.mass.get();
  for (int64_t c : classes) {
    double* const sum = to.mass.get() + c * W;
    for (int lane = 0; lane < W; lane++) sum[lane] += added[lane] * terms[lane];
    terms += W;
  }
}

// What a panel's queries have of weights and classes, and of rows, whose sums may still be those of its only slab.
template <class T, class Sum>
void take_sums(const SoftmaxState<T, double>& from, const Buffer<Sum>& sums_x, const Buffer<Sum>& sums_u_x,
               const Panels<T>& panels, int lanes, const Lengths& lengths, Sums* all) {
  const Plan& plan = panels.plan;
  const ptrdiff_t x = lengths.x > 0 ? panels.d : 0, u_x = lengths.u_x > 0 ? panels.d : 0;
  const ptrdiff_t classes = lengths.mass / plan.width;
  std::vector<double> unit(static_cast<size_t>(lanes));  // of mass
  for (int lane = 0; lane < lanes; lane++) {
    Sums& sums = all[lane];
    static_cast<WeightSums&>(sums) = from.sums[lane];
    sums.reference = from.reference(lane, plan), sums.best = from.best(lane);
    if (sums.reference <= -kNever / 2) sums.p = 0;  // there is no row but the excluded ones
    sums.x.resize(static_cast<size_t>(x)), sums.u_x.resize(static_cast<size_t>(u_x));
    sums.mass.resize(static_cast<size_t>(classes));
    const T of_mass = from.reference_of_mass(lane, plan);
    if (of_mass > -static_cast<T>(INFINITY)) unit[lane] = std::exp2(static_cast<double>(of_mass) - sums.reference);
  }
  constexpr ptrdiff_t kStretch = kLine / sizeof(double);  // of dimensions or classes: a line of each query's sums
  for (ptrdiff_t k = 0; k < x; k += kStretch) {
    for (int lane = 0; lane < lanes; lane++) {
      for (ptrdiff_t j = k; j < std::min(x, k + kStretch); j++) {
        all[lane].x[j] = sums_x[panels.at(lane, j)];
        if (u_x > 0) all[lane].u_x[j] = sums_u_x[panels.at(lane, j)];
      }
    }
  }
  const auto norm2_of = active_kernels().exact->norm2_of;
  for (int lane = 0; lane < lanes; lane++) all[lane].x2 = norm2_of(all[lane].x.data(), x);
  for (ptrdiff_t c = 0; c < classes; c += kStretch) {
    for (int lane = 0; lane < lanes; lane++) {
      for (ptrdiff_t j = c; j < std::min(classes, c + kStretch); j++) {
        all[lane].mass[j] = unit[lane] * from.mass[j * plan.width + lane];
      }
    }
  }
}

}  // namespace interp_fast
