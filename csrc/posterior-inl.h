// One block of rows against one panel of queries: scores, the online softmax, and the weighted sums.
//
// The running state of a lane is a reference score r (weight 1 means score r), the sums of weights and the weighted sum
// of rows, all relative to r. r follows the best score only when that has moved by more than kSlack, so that the sums
// are rescaled a few times in a whole pass. A block is dead when every score in it, with its rounding bound, lies more
// than `cut` below a lower bound on the best: then neither exponentials nor the second product are done.
//
// Scores are in units of log 2 here. Traffic: s (15 kB) is written, read, rewritten and read in the first-level cache.
#pragma once

#include "few-inl.h"
#include "kernels.h"
#include "math-inl.h"
#include "product-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

constexpr int kSlack = 8;  // weights stay below 2^8

// s <- s - h |X|^2 + w log_w; peak = maxima over the block.
template <class T, int V>
void finish_scores(const Block<T>& block, Panel<T>& panel) {
  constexpr int W = kWidth<T>;
  Vec<T> h[V], w[V], peak[V];
  for (int v = 0; v < V; v++) {
    h[v] = load(panel.h + v * W), w[v] = load(panel.w + v * W);
    peak[v] = fill(-static_cast<T>(__builtin_inf()));
  }
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    for (int v = 0; v < V; v++) {
      T* to = panel.s + (n * V + v) * W;
      const Vec<T> s = load(to) - h[v] * block.n2[n] + w[v] * block.log_w[n];
      store(to, s);
      peak[v] = max(s, peak[v]);
    }
  }
  for (int v = 0; v < V; v++) store(panel.peak + v * W, peak[v]);
}

// The bound on the rounding error of a score of this block, for the lanes of one vector.
template <class T>
IF_INLINE Vec<T> score_error(const Block<T>& block, const Panel<T>& panel, int lane) {
  const Vec<T> by_reach = load(panel.slack1 + lane) + load(panel.slack2 + lane) * block.reach;
  return by_reach * block.reach + load(panel.slack3 + lane) * block.span;
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

template <class T, int V, bool Single>
bool scores(const Block<T>& block, Panel<T>& panel) {
  Single ? multiply_few(block, panel, panel.q, panel.s) : multiply<T, V>(block, panel.q, panel.s);
  finish_scores<T, V>(block, panel);
  return reaches_threshold<T, V>(block, panel);
}

// Every running sum of the lanes times `factor`.
template <class T, int V, bool Single>
void rescale(Panel<T>& panel, const T* factor) {
  constexpr ptrdiff_t W = V * kWidth<T>;
  for (int lane = 0; lane < W; lane++) {
    double* sums = panel.sums + lane;
    const double f = static_cast<double>(factor[lane]);
    // The reference moves up by -log2 f: sum p (s - r) loses that much for each p.
    if (f > 0) sums[3 * W] += sums[0] * __builtin_log2(f);
    sums[0] *= f, sums[W] *= f, sums[2 * W] *= f * f, sums[3 * W] *= f;
  }
  const ptrdiff_t outer = Single ? panel.lanes : panel.d, inner = Single ? panel.ld : W;
  for (ptrdiff_t i = 0; i < outer; i++) {
    for (ptrdiff_t j = 0; j < inner; j++) {
      const T f = factor[Single ? i : j];
      const ptrdiff_t at = i * inner + j;
      panel.acc[at] *= f, panel.total[at] *= f;
      if (panel.acc_u) panel.acc_u[at] *= f, panel.total_u[at] *= f;
    }
  }
}

template <class T, int V, bool Statistics>
void exponentiate(const Block<T>& block, Panel<T>& panel) {
  constexpr int W = kWidth<T>;
  Vec<T> reference[V], total[V][4] = {};
  for (int v = 0; v < V; v++) reference[v] = load(panel.reference + v * W);
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    for (int v = 0; v < V; v++) {
      T* at = panel.s + (n * V + v) * W;
      const Vec<T> score = load(at) - reference[v];
      const Vec<T> p = exp2(score);
      store(at, p);
      total[v][0] += p;
      total[v][1] += p * block.n2[n];
      if (Statistics) {
        total[v][2] += p * p;
        total[v][3] += p * score;
      }
    }
  }
  for (int i = 0; i < (Statistics ? 4 : 2); i++) {
    for (int v = 0; v < V; v++) {
      T part[W];
      store(part, total[v][i]);
      for (int lane = 0; lane < W; lane++) panel.sums[(i * V + v) * W + lane] += static_cast<double>(part[lane]);
    }
  }
}

template <class T, int V, bool Single>
bool weights(const Block<T>& block, Panel<T>& panel, bool statistics) {
  constexpr int W = kWidth<T>;
  auto alive = Vec<T>{} != Vec<T>{}, moved = alive;
  for (int lane = 0; lane < V * W; lane += W) {
    const Vec<T> peak = load(panel.peak + lane), error = score_error(block, panel, lane);
    alive |= peak + error >= load(panel.low + lane) - load(panel.cut + lane);
    store(panel.low + lane, max(load(panel.low + lane), peak - error));
    moved |= peak > load(panel.reference + lane) + static_cast<T>(kSlack);
  }
  if (!any(alive)) return false;
  if (any(moved)) {
    alignas(kVectorBytes) T factor[V * W];
    for (int lane = 0; lane < V * W; lane += W) {
      const Vec<T> old = load(panel.reference + lane), peak = load(panel.peak + lane);
      const Vec<T> now = peak > old + static_cast<T>(kSlack) ? peak : old;
      store(factor + lane, exp2(old - now));
      store(panel.reference + lane, now);
    }
    rescale<T, V, Single>(panel, factor);
  }
  statistics ? exponentiate<T, V, true>(block, panel) : exponentiate<T, V, false>(block, panel);
  return true;
}

template <class T, int V, bool Single>
void accumulate(const Block<T>& block, Panel<T>& panel) {
  Single ? add_few(block, panel, panel.s, panel.acc) : multiply_transposed<T, V>(block, panel.s, panel.acc);
}

template <class T, int V, bool Single>
void accumulate_u(const Block<T>& block, Panel<T>& panel) {
  constexpr int W = kWidth<T>;
  Single ? multiply_few(block, panel, panel.u, panel.su) : multiply<T, V>(block, panel.u, panel.su);
  for (ptrdiff_t i = 0; i < block.rows * V * W; i += W) store(panel.su + i, load(panel.su + i) * load(panel.s + i));
  Single ? add_few(block, panel, panel.su, panel.acc_u) : multiply_transposed<T, V>(block, panel.su, panel.acc_u);
}

template <class T, int V, bool Single>
constexpr PanelKernels<T> kPanelKernels = {V * kWidth<T>,           Single,
                                           scores<T, V, Single>,     weights<T, V, Single>,
                                           accumulate<T, V, Single>, accumulate_u<T, V, Single>};

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
