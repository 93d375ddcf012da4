// A block of rows against panels of queries: scores, the online softmax, and the weighted sums.
//
// The running state of a lane is a reference score r (weight 1 means score r), the sums of weights and the weighted sum
// of rows, all relative to r. r follows the best score only when that has moved by more than kRescale, so that the sums
// are rescaled a few times in a whole pass. A row is dead when its scores in all lanes, with their rounding bounds, lie
// more than `cut` below a lower bound on the best: it gets neither exponentials nor a share in the second product.
//
// Scores are in units of log 2 here.
#include "filter-inl.h"
#include "math-inl.h"
#include "parts.h"
#include "product-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// s = <q, X> - h |X|^2 + w log_w, and its largest value of each lane.
template <class T, int V>
void scores(const Block<T>& block, Panel<T>* panels, int count) {
  constexpr int W = kWidth<T>;
  Ahead ahead = ahead_of<T, V>(block, panels[0]);
  over_chunks(block, [&](ptrdiff_t k) IF_INLINED {
    for (Panel<T>* panel = panels; panel < panels + count; panel++) {
      T* const s = panel->s;
      T* const peak = panel->peak;
      for (int v = 0; v < V; v++) store(peak + v * W, fill(-static_cast<T>(__builtin_inf())));
      // The maxima are in memory between tiles: a product needs all registers.
      const auto finish = [&](ptrdiff_t n, const Tile<T, V>& product) IF_INLINED {
        const T *const n2 = block.n2 + n, *const log_w = block.log_w + n;
        Vec<T> h[V], w[V], highest[V];
        for (int v = 0; v < V; v++) {
          h[v] = load(panel->h + v * W), w[v] = load(panel->w + v * W), highest[v] = load(peak + v * W);
        }
        over_tile<kTileRows<V>, V>([&](int i, int v) IF_INLINED {
          const Vec<T> score = product[i][v] - h[v] * n2[i] + w[v] * log_w[i];
          store(s + ((n + i) * V + v) * W, score);
          highest[v] = max(score, highest[v]);
        });
        for (int v = 0; v < V; v++) store(peak + v * W, highest[v]);
      };
      const bool turn = panel + 1 == panels + count;
      const T* const next = turn ? following<T, V>(block, k, panels->q) : panel[1].q + k * V * W;
      multiply<T, V>(block, k, panel->q, next, s, ahead, finish);
    }
  });
  for (int p = 0; p < count; p++) panels[p].found = reaches_threshold<T, V>(block, panels[p]);
}

// Every running sum of the lanes times `factor`.
template <class T, int V>
void rescale_panel(Panel<T>& panel, const T* factor) {
  constexpr ptrdiff_t W = V * kWidth<T>;
  for (int lane = 0; lane < W; lane++) {
    const double f = static_cast<double>(factor[lane]);
    rescale(panel.sums[lane], f, __builtin_log2(f));
  }
  for (ptrdiff_t k = 0; panel.acc && k < panel.d; k++) {
    for (ptrdiff_t lane = 0; lane < W; lane++) {
      const T f = factor[lane];
      const ptrdiff_t at = k * W + lane;
      panel.acc[at] *= f;
      if (panel.acc_u) panel.acc_u[at] *= f;
    }
  }
}

// s -> p = 2^(s - reference) of the rows that are alive, one after another, and the sums of the lanes.
template <class T, int V, bool Statistics>
void exponentiate(const Block<T>& block, Panel<T>& panel) {
  constexpr int W = kWidth<T>;
  constexpr int kChain = 16;  // weights next to a heavy one would be lost to a long chain one by one
  constexpr int kSums = Statistics ? 4 : 2;
  Vec<T> reference[V], floor[V], chain[V][kSums] = {}, total[V][kSums] = {};
  const auto end_chain = [&] {
    for (int v = 0; v < V; v++) {
      for (int i = 0; i < kSums; i++) total[v][i] += chain[v][i], chain[v][i] = Vec<T>{};
    }
  };
  for (int v = 0; v < V; v++) {
    reference[v] = load(panel.reference + v * W);
    floor[v] = load(panel.best + v * W) - load(panel.cut + v * W) - score_error(block, panel, v * W);
  }
  panel.alive_rows = 0;
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    if (!panel.u) {  // with directions every row keeps its place
      auto counts = load(panel.s + n * V * W) >= floor[0];
      for (int v = 1; v < V; v++) counts |= load(panel.s + (n * V + v) * W) >= floor[v];
      if (!any(counts)) continue;
    }
    const ptrdiff_t to = panel.alive_rows++;
    if (to % kChain == 0) end_chain();
    panel.alive[to] = static_cast<int32_t>(n);
    for (int v = 0; v < V; v++) {
      const Vec<T> score = load(panel.s + (n * V + v) * W) - reference[v];
      const Vec<T> p = exp2(score);
      store(panel.s + (to * V + v) * W, p);
      chain[v][0] += p;
      chain[v][1] += p * block.n2[n];
      if constexpr (Statistics) {
        chain[v][2] += p * p;
        chain[v][3] += times_log2(p, score);
      }
    }
  }
  end_chain();
  for (int v = 0; v < V; v++) {
    T part[kSums][W];
    for (int i = 0; i < kSums; i++) store(part[i], total[v][i]);
    for (int lane = 0; lane < W; lane++) {
      WeightSums& sums = panel.sums[v * W + lane];
      sums.p += static_cast<double>(part[0][lane]);
      sums.p_n2 += static_cast<double>(part[1][lane]);
      if constexpr (Statistics) {
        sums.p_p += static_cast<double>(part[2][lane]);
        sums.p_score += static_cast<double>(part[3][lane]);
      }
    }
  }
}

// s -> p where the block is alive.
template <class T, int V>
void weigh(const Block<T>& block, Panel<T>& panel, bool statistics) {
  constexpr int W = kWidth<T>;
  auto alive = Vec<T>{} != Vec<T>{}, moved = alive;
  for (int lane = 0; lane < V * W; lane += W) {
    const Vec<T> peak = load(panel.peak + lane), error = score_error(block, panel, lane);
    alive |= peak + error >= load(panel.best + lane) - load(panel.cut + lane);
    store(panel.best + lane, max(load(panel.best + lane), peak - error));
    moved |= peak > load(panel.reference + lane) + static_cast<T>(kRescale);
  }
  panel.alive_rows = 0;
  if (!any(alive)) return;
  if (any(moved)) {
    alignas(kVectorBytes) T factor[V * W];
    for (int lane = 0; lane < V * W; lane += W) {
      const Vec<T> old = load(panel.reference + lane), peak = load(panel.peak + lane);
      const Vec<T> now = peak > old + static_cast<T>(kRescale) ? peak : old;
      store(factor + lane, exp2(old - now));
      store(panel.reference + lane, now);
    }
    rescale_panel<T, V>(panel, factor);
  }
  statistics ? exponentiate<T, V, true>(block, panel) : exponentiate<T, V, false>(block, panel);
}

template <class T, int V>
void add(const Block<T>& block, Panel<T>* panels, int count, bool statistics) {
  const FlushSubnormals flush;
  for (int p = 0; p < count; p++) weigh<T, V>(block, panels[p], statistics);
  over_chunks(block, [&](ptrdiff_t k) IF_INLINED {
    for (const Panel<T>* panel = panels; panel < panels + count; panel++) {
      if (panel->alive_rows == 0 || !panel->acc) continue;
      multiply_transposed<T, V>(block, k, {panel->alive, panel->alive_rows}, panel->s, panel->acc);
    }
  });
}

template <class T, int V>
void add_along(const Block<T>& block, Panel<T>& panel) {
  constexpr int W = kWidth<T>;
  Ahead ahead = ahead_of<T, V>(block, panel);
  const auto finish = [&](ptrdiff_t n, const Tile<T, V>& along) IF_INLINED {
    over_tile<kTileRows<V>, V>([&](int i, int v) IF_INLINED {
      const ptrdiff_t at = ((n + i) * V + v) * W;
      store(panel.su + at, along[i][v] * load(panel.s + at));
    });
  };
  over_chunks(block, [&](ptrdiff_t k) IF_INLINED {
    multiply<T, V>(block, k, panel.u, following<T, V>(block, k, panel.u), panel.su, ahead, finish);
  });
  over_chunks(block, [&](ptrdiff_t k) IF_INLINED {
    multiply_transposed<T, V>(block, k, {nullptr, block.rows}, panel.su, panel.acc_u);
  });
}

template <class T, int V>
constexpr PanelKernels<T> kPanelKernels = {.width = V * kWidth<T>,
                                           .gemv = false,
                                           .int8 = false,
                                           .tiles = nullptr,
                                           .scores = scores<T, V>,
                                           .sum_exp = sum_exp<T, V>,
                                           .second_best = second_best<T, V>,
                                           .find = find<T, V>,
                                           .add = add<T, V>,
                                           .add_along = add_along<T, V>};

}  // namespace

const PanelKernels<float> wide_f32 = kPanelKernels<float, 2>, narrow_f32 = kPanelKernels<float, 1>;
const PanelKernels<double> wide_f64 = kPanelKernels<double, 2>, narrow_f64 = kPanelKernels<double, 1>;

}  // namespace ISA
}  // namespace interp_fast
