// Which rows of a block may be among the best of a query: rows whose score plus its error bound reaches a threshold.
//
// A block is looked at again only when some lane's largest score reaches that lane's threshold, which late in a pass is
// rare; then two vertical passes over the scores serve all lanes of the panel at once.
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
    found |= ~(highest < load(panel.threshold + lane));  // also where a row so long that it overflows gave no number
  }
  return any(found);
}

// sum_n 2^(s_n - peak) of each lane.
template <class T, int V>
void mass(const Block<T>& block, const Panel<T>& panel, T* out) {
  constexpr int W = kWidth<T>;
  Vec<T> total[V] = {}, peak[V];
  for (int v = 0; v < V; v++) peak[v] = load(panel.peak + v * W);
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    for (int v = 0; v < V; v++) total[v] += exp2(load(panel.s + (n * V + v) * W) - peak[v]);
  }
  for (int v = 0; v < V; v++) store(out + v * W, total[v]);
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

// The positions in s of all scores that may reach their lane's threshold; returns how many.
template <class T, int V>
ptrdiff_t hits(const Block<T>& block, const Panel<T>& panel, int32_t* found) {
  constexpr int W = kWidth<T>;
  ptrdiff_t count = 0;
  Vec<T> limit[V];
  for (int v = 0; v < V; v++) limit[v] = load(panel.threshold + v * W) - score_error(block, panel, v * W);
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    for (int v = 0; v < V; v++) {
      const ptrdiff_t at = (n * V + v) * W;
      const auto hit = ~(load(panel.s + at) < limit[v]);
      if (!any(hit)) continue;
      for (int lane = 0; lane < W; lane++) {
        if (hit[lane]) found[count++] = static_cast<int32_t>(at + lane);
      }
    }
  }
  return count;
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
