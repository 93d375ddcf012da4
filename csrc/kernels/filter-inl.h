// Which rows of a block may be among the best of a query: rows whose score plus its error bound reaches a threshold.
//
// A block is read again only when some lane's largest score reaches that lane's threshold, which late in a pass is
// rare.
#pragma once

#include "kernels.h"
#include "math-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// The same for the lanes of one vector.
template <class T>
IF_INLINE Vec<T> score_error(const Block<T>& block, const Panel<T>& panel, int lane) {
  return score_error(block, load(panel.slack1 + lane), load(panel.slack2 + lane), load(panel.slack3 + lane),
                     load(panel.slack4 + lane));
}

template <class T, int V>
bool reaches_threshold(const Block<T>& block, const Panel<T>& panel) {
  if (!panel.threshold) return false;
  auto found = Vec<T>{} != Vec<T>{};
  for (int lane = 0; lane < V * kWidth<T>; lane += kWidth<T>) {
    const Vec<T> highest = load(panel.peak + lane) + score_error(block, panel, lane);
    found |= ~(highest < load(panel.threshold + lane));  // also where a row so long that it overflows gave NaN
  }
  return any(found);
}

// sum_n 2^(s_n - peak) of each lane.
template <class T, int V>
void sum_exp(const Block<T>& block, const Panel<T>& panel, T* out) {
  constexpr int W = kWidth<T>;
  Vec<T> total[V] = {}, peak[V];
  for (int v = 0; v < V; v++) peak[v] = load(panel.peak + v * W);
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    for (int v = 0; v < V; v++) total[v] += exp2(load(panel.s + (n * V + v) * W) - peak[v]);
  }
  for (int v = 0; v < V; v++) store(out + v * W, total[v]);
}

// The places, row * width + lane, of scores that reach the limits of their lanes, or are NaN; returns how many. NaN of
// closed lanes, whose limits are infinite, are there too: leaving those out here would cost every vector a comparison.
template <class T, int V>
ptrdiff_t find(const Block<T>& block, const Panel<T>& panel, const T* limits, int32_t* places) {
  constexpr int W = kWidth<T>;
  ptrdiff_t count = 0;
  for (ptrdiff_t at = 0; at < block.rows * V * W; at += W) {
    const auto reached = ~(load(panel.s + at) < load(limits + at % (V * W)));
    if (!any(reached)) continue;
    over_lanes<T>(reached, [&](int lane) IF_INLINED { places[count++] = static_cast<int32_t>(at + lane); });
  }
  return count;
}

// The second largest score of each lane.
template <class T, int V>
void second_best(const Block<T>& block, const Panel<T>& panel, T* out) {
  constexpr int W = kWidth<T>;
  Vec<T> first[V], second[V];
  for (int v = 0; v < V; v++) first[v] = second[v] = fill(-static_cast<T>(__builtin_inf()));
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    for (int v = 0; v < V; v++) {
      const Vec<T> s = load(panel.s + (n * V + v) * W);
      second[v] = max(s < first[v] ? s : first[v], second[v]);
      first[v] = max(s, first[v]);
    }
  }
  for (int v = 0; v < V; v++) store(out + v * W, second[v]);
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
