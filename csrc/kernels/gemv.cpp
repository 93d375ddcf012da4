// The online softmax of softmax.cpp for a few queries: one query after another, lanes over rows.
//
// Differs in nothing but the layout, and in that a block is dead or not as a whole.
#include "gemv-inl.h"
#include "math-inl.h"
#include "parts.h"

namespace interp_fast {
namespace ISA {
namespace {

// b where a is NaN.
template <class T>
IF_INLINE T larger(T a, T b) {
  return a > b ? a : b;
}

template <class T>
void gemv_scores(const Block<T>& block, Panel<T>* panels, int) {
  constexpr int W = kWidth<T>;
  Panel<T>& panel = *panels;  // the only one
  gemv_multiply(block, panel, panel.q, panel.s);
  panel.found = false;
  for (int lane = 0; lane < panel.lanes; lane++) {
    T* const s = panel.s + lane * block.rows;
    const Vec<T> h = fill(panel.h[lane]), w = fill(panel.w[lane]);
    Vec<T> peak = fill(-static_cast<T>(__builtin_inf()));
    for (ptrdiff_t n = 0; n < block.rows; n += W) {
      const Vec<T> score = load(s + n) - h * load(block.n2 + n) + w * load(block.log_w + n);
      store(s + n, score);
      peak = max(score, peak);
    }
    panel.peak[lane] = highest<T>(peak);
    // Not below: also where a row so long that it overflows gave NaN.
    panel.found |= panel.threshold && !(panel.peak[lane] + score_error_of(block, panel, lane) < panel.threshold[lane]);
  }
}

template <class T>
void gemv_sum_exp(const Block<T>& block, const Panel<T>& panel, T* out) {
  constexpr int W = kWidth<T>;
  for (int lane = 0; lane < panel.lanes; lane++) {
    Vec<T> total = {};
    for (ptrdiff_t n = 0; n < block.rows; n += W) {
      total += exp2(load(panel.s + lane * block.rows + n) - fill(panel.peak[lane]));
    }
    out[lane] = sum<T>(total);
  }
}

// Every running sum of a lane times f.
template <class T>
void gemv_rescale(Panel<T>& panel, int lane, T f) {
  const double factor = static_cast<double>(f);
  rescale(panel.sums[lane], factor, __builtin_log2(factor));
  for (ptrdiff_t k = lane * panel.ld; panel.acc && k < (lane + 1) * panel.ld; k++) {
    panel.acc[k] *= f;
    if (panel.acc_u) panel.acc_u[k] *= f;
  }
}

template <class T, bool Statistics>
void gemv_exponentiate(const Block<T>& block, Panel<T>& panel, int lane) {
  constexpr int W = kWidth<T>;
  T* const s = panel.s + lane * block.rows;
  const Vec<T> reference = fill(panel.reference[lane]);
  Vec<T> total[4] = {};
  for (ptrdiff_t n = 0; n < block.rows; n += W) {
    const Vec<T> score = load(s + n) - reference, p = exp2(score);
    store(s + n, p);
    total[0] += p;
    total[1] += p * load(block.n2 + n);
    if (Statistics) {
      total[2] += p * p;
      total[3] += times_log2(p, score);
    }
  }
  WeightSums& sums = panel.sums[lane];
  sums.p += static_cast<double>(sum<T>(total[0]));
  sums.p_n2 += static_cast<double>(sum<T>(total[1]));
  if (!Statistics) return;
  sums.p_p += static_cast<double>(sum<T>(total[2]));
  sums.p_score += static_cast<double>(sum<T>(total[3]));
}

template <class T>
ptrdiff_t gemv_find(const Block<T>& block, const Panel<T>& panel, const T* limits, int32_t* places) {
  constexpr int W = kWidth<T>;
  ptrdiff_t count = 0;
  for (int lane = 0; lane < panel.lanes; lane++) {
    if (limits[lane] == static_cast<T>(__builtin_inf())) continue;  // of a closed lane no row is looked for
    const Vec<T> limit = fill(limits[lane]);
    for (ptrdiff_t at = lane * block.rows; at < (lane + 1) * block.rows; at += W) {
      const auto reached = ~(load(panel.s + at) < limit);
      if (!any(reached)) continue;
      over_lanes<T>(reached, [&](int i) IF_INLINED { places[count++] = static_cast<int32_t>(at + i); });
    }
  }
  return count;
}

template <class T>
void gemv_add_block(const Block<T>& block, Panel<T>* panels, int, bool statistics) {
  const FlushSubnormals flush;
  Panel<T>& panel = *panels;
  bool alive = false;
  for (int lane = 0; lane < panel.lanes; lane++) {
    const T peak = panel.peak[lane], error = score_error_of(block, panel, lane);
    alive |= peak + error >= panel.best[lane] - panel.cut[lane];
    panel.best[lane] = larger(peak - error, panel.best[lane]);
  }
  panel.alive_rows = alive ? block.rows : 0;
  if (!alive) return;
  for (int lane = 0; lane < panel.lanes; lane++) {
    T& reference = panel.reference[lane];
    if (panel.peak[lane] > reference + static_cast<T>(kRescale)) {
      gemv_rescale(panel, lane, exp2(fill(reference - panel.peak[lane]))[0]);
      reference = panel.peak[lane];
    }
    statistics ? gemv_exponentiate<T, true>(block, panel, lane) : gemv_exponentiate<T, false>(block, panel, lane);
  }
  if (panel.acc) gemv_multiply_transposed(block, panel, panel.s, panel.acc);
}

template <class T>
void gemv_add_along(const Block<T>& block, Panel<T>& panel) {
  gemv_multiply(block, panel, panel.u, panel.su);
  for (ptrdiff_t at = 0; at < panel.lanes * block.rows; at++) panel.su[at] *= panel.s[at];
  gemv_multiply_transposed(block, panel, panel.su, panel.acc_u);
}

template <class T>
constexpr PanelKernels<T> kGemvKernels = {.width = kWidth<T>,
                                          .gemv = true,
                                          .int8 = false,
                                          .tiles = nullptr,
                                          .scores = gemv_scores<T>,
                                          .sum_exp = gemv_sum_exp<T>,
                                          .second_best = nullptr,
                                          .find = gemv_find<T>,
                                          .add = gemv_add_block<T>,
                                          .add_along = gemv_add_along<T>};

}  // namespace

const PanelKernels<float> gemv_f32 = kGemvKernels<float>;
const PanelKernels<double> gemv_f64 = kGemvKernels<double>;

}  // namespace ISA
}  // namespace interp_fast
