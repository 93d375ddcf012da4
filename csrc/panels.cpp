#include "panels.h"

#include <cmath>
#include <cstring>

#include "arithmetic.h"
#include "dispatch.h"
#include "pool.h"

namespace interp_fast {
namespace {

constexpr int64_t kGemvDims = kGemvTile;   // fewest dimensions of a row there: no vector is wider
constexpr ptrdiff_t kGemvBytes = 1 << 18;  // of a block read as stored: it stays close to the core
constexpr int64_t kShares = 8;             // a slab takes this part of what is left of all groups, ...
// ... but no fewer rows than make up for what a task costs; of few queries, where a slab is a task, half of it.
constexpr int64_t kLeastRows = 960;
// Of scores of panels that meet a chunk of dimensions one after another: half of the smallest second-level caches.
constexpr ptrdiff_t kTogetherBytes = 1 << 17;

// What the weight contributes to the rounding of a score: itself and w rounded, three sums and a comparison.
template <class T>
constexpr double kWeightRoundoff = 6.06 * kRoundoff<T>;

}  // namespace

template <class T>
const PanelKernels<T>& panel_kernels(int64_t queries, ptrdiff_t d) {
  const TypedKernels<T>& kernels = typed<T>(active_kernels());
  if (queries <= std::min(kGemvQueries, kernels.gemv->width) && d >= kGemvDims) return *kernels.gemv;
  return queries <= kernels.narrow->width ? *kernels.narrow : *kernels.wide;
}

template <class T>
Panels<T> make_panels(const Data& data, const PanelKernels<T>& kernels, int64_t queries, int64_t group_queries,
                      int64_t most_rows) {
  Panels<T> panels{};
  panels.d = data.rows.d;
  panels.kernels = &kernels;
  Plan& plan = panels.plan;
  const int64_t n = data.rows.n, d = data.rows.d;
  plan.width = kernels.width;
  plan.gemv = kernels.gemv;
  plan.int8 = kernels.int8;
  plan.tiles = kernels.tiles;
  plan.digits = plan.int8 ? 1 : plan.tiles ? kDigits : 0;
  plan.byte_dims = byte_dimensions(d, plan.tiles);
  plan.tile_rows = plan.gemv ? kGemvTile : plan.digits > 1 ? kTileStep : plan.tiles ? kTileSide : kTile;
  plan.queries = queries;
  plan.panels = (queries + plan.width - 1) / plan.width;
  const int64_t per_group = std::max<int64_t>(1, group_queries / plan.width);
  plan.groups = (plan.panels + per_group - 1) / per_group;
  const int64_t chunks = plan.gemv ? 1 : (d + kChunk - 1) / kChunk;
  plan.chunk = (d + chunks - 1) / chunks;
  // An odd number of cache lines: rows never fall into few cache sets.
  const ptrdiff_t lines = static_cast<ptrdiff_t>(round_to_line<T>(plan.chunk) * sizeof(T) / kLine);
  plan.ld = (lines | 1) * static_cast<ptrdiff_t>(kLine / sizeof(T));
  plan.size = plan.gemv ? plan.queries * plan.ld : plan.width * d;
  plan.block_rows = plan.digits > 1 ? kDigitBlock : plan.tiles ? kTileBlock : kBlock;
  if (plan.gemv) {
    plan.block_rows =
        std::clamp(kGemvBytes / std::max<ptrdiff_t>(1, std::abs(data.rows.stride)), ptrdiff_t{kGemvTile}, kGemvBlock);
    plan.block_rows -= plan.block_rows % kGemvTile;
  }
  const ptrdiff_t scores = plan.block_rows * plan.width * static_cast<ptrdiff_t>(sizeof(T));
  plan.together = chunks == 1 || plan.digits > 0 ? 1 : std::max<int64_t>(1, kTogetherBytes / scores);
  int64_t least = plan.gemv ? 2 * plan.block_rows : plan.int8 || plan.groups > 1 ? kLeastRows : kLeastRows / 2;
  if (plan.groups == 1) least = std::min(least, n / 2);  // a second thread finds something to do
  plan.slab_begin.push_back(0);
  for (int64_t first = 0; first < n; plan.slab_begin.push_back(first)) {
    const int64_t share = std::clamp((n - first) * plan.groups / kShares, std::min(least, most_rows), most_rows);
    const int64_t blocks = std::max<int64_t>(1, share / plan.block_rows), left = n - first - blocks * plan.block_rows;
    const bool all = left <= 0 || (2 * left < least && n - first <= most_rows);  // a small rest is no slab of its own
    first = all ? n : n - left;
  }
  plan.slabs = static_cast<int64_t>(plan.slab_begin.size()) - 1;
  return panels;
}

double normal_factor(const Query& q) { return 1 / (q.alpha * std::sqrt(q.x2) + 0.5 * q.alpha * q.alpha + q.variance); }

double raised_by(const Query& q, double factor) {
  return std::max(0.0, 4 * factor / (kNever * normal_factor(q)) - 0.5 * factor * q.alpha * q.alpha);
}

double logit_factor(const Query& q) { return kLog2e / q.variance; }

// A score is a sum over at most kChunk terms in each of ceil(d / kChunk) chunks, then those; the operands, the norm
// and the weight are rounded a few times more. See Higham, Accuracy and Stability of Numerical Algorithms, ch. 3. The
// value of a byte has been rounded, too: X has a norm of 1/4 or more.
template <class T>
ProductErrors product_errors(const Data& data) {
  const ptrdiff_t d = data.rows.d;
  const double links = static_cast<double>(kChunk + (d + kChunk - 1) / kChunk + 16) * kRoundoff<T>;
  return {.gamma = 1.01 * links / (1 - links) + 8 * std::sqrt(static_cast<double>(d)) * data.value_error};
}

template <class T>
void fill_lane(const LaneFields<T>& to, int lane, const Query& query, double factor, bool weighted,
               const ProductErrors* errors) {
  const double a = query.alpha, w = weighted ? factor * query.variance : 0.0;
  const double h = 0.5 * factor * a * a, raised = raised_by(query, factor);
  // In nats, beyond which T knows no weight.
  const double cut = std::min(query.cut, kUnderflow<T>);
  to.h[lane] = static_cast<T>(h + raised);
  to.w[lane] = static_cast<T>(w);
  to.cut[lane] = static_cast<T>(cut * factor * query.variance);
  if (!errors) return;
  const double of_products = errors->gamma * std::sqrt(query.x2) + query.displacement;
  to.slack1[lane] = static_cast<T>(factor * a * of_products + errors->left);
  to.slack2[lane] = static_cast<T>(errors->gamma * h + raised);
  to.slack3[lane] = static_cast<T>(kWeightRoundoff<T> * w);
  to.slack4[lane] = static_cast<T>(errors->length);
}

template <class T>
void fill_panels(Panels<T>& panels, const Data& data, const Query* queries, const PanelOptions& options, int threads) {
  const Plan& plan = panels.plan;
  const ptrdiff_t d = data.rows.d;
  panels.q = Buffer<T>(static_cast<size_t>(plan.panels * plan.size));
  if (options.directions) panels.u = Buffer<T>(static_cast<size_t>(plan.panels * plan.size));
  panels.lanes = Buffer<T>(static_cast<size_t>(plan.panels * panels.lane_numbers()));
  const ProductErrors errors = product_errors<T>(data);
  const ptrdiff_t step = plan.gemv ? 1 : plan.width;  // between dimensions
  const double* const center = data.center.data();
  const ExactKernels& exact = *active_kernels().exact;
  parallel_by_query(plan.panels, threads, [&](int64_t p) {
    T* const q = panels.q.get() + p * plan.size;
    const bool full = !plan.gemv && plan.lanes(p) == plan.width;  // every number is written
    if (!full) std::memset(q, 0, static_cast<size_t>(plan.size) * sizeof(T));
    const LaneFields<T> lanes = panels.lanes_of(p);
    std::memset(lanes.h, 0, static_cast<size_t>(panels.lane_numbers()) * sizeof(T));
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      const Query& query = queries[p * plan.width + lane];
      fill_lane(lanes, lane, query, options.factor(query), options.weighted, &errors);
    }
    constexpr ptrdiff_t kStretch = 64;  // of dimensions: what is written stays in cache for all lanes
    for (ptrdiff_t k = 0; k < d; k += kStretch) {
      for (int lane = 0; lane < plan.lanes(p); lane++) {
        const Query& query = queries[p * plan.width + lane];
        const double factor = options.factor(query) * query.alpha / data.unit;
        const ptrdiff_t count = std::min(d - k, kStretch);
        double values[kStretch];
        exact.normal_form(query.x + k, center + k, query.alpha, factor, count, values);
        T* const to = q + panels.at(lane, k);
        for (ptrdiff_t j = 0; j < count; j++) to[j * step] = static_cast<T>(values[j]);
      }
    }
    if (!options.directions) return;
    T* const to = panels.u.get() + p * plan.size;
    std::memset(to, 0, static_cast<size_t>(plan.size) * sizeof(T));
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      const Query& query = queries[p * plan.width + lane];
      for (ptrdiff_t k = 0; query.largest_u > 0 && k < d; k++) {
        to[panels.at(lane, k)] = static_cast<T>(query.u[k] / query.largest_u);
      }
    }
  });
}

template const PanelKernels<float>& panel_kernels<float>(int64_t, ptrdiff_t);
template Panels<float> make_panels<float>(const Data&, const PanelKernels<float>&, int64_t, int64_t, int64_t);
template ProductErrors product_errors<float>(const Data&);
template void fill_lane<float>(const LaneFields<float>&, int, const Query&, double, bool, const ProductErrors*);
template void fill_panels<float>(Panels<float>&, const Data&, const Query*, const PanelOptions&, int);
template const PanelKernels<double>& panel_kernels<double>(int64_t, ptrdiff_t);
template Panels<double> make_panels<double>(const Data&, const PanelKernels<double>&, int64_t, int64_t, int64_t);
template ProductErrors product_errors<double>(const Data&);
template void fill_lane<double>(const LaneFields<double>&, int, const Query&, double, bool, const ProductErrors*);
template void fill_panels<double>(Panels<double>&, const Data&, const Query*, const PanelOptions&, int);

}  // namespace interp_fast
