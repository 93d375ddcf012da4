#include "int8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "dispatch.h"
#include "pool.h"

namespace interp_fast {
namespace {

constexpr ptrdiff_t kLeastDimensions = 24;      // below, what follows a product takes longer than the product
constexpr ptrdiff_t kMostDimensions = 1 << 15;  // integers hold sums of so many products of bytes
// The largest entry of a query of which little more than 0 is known stands for this: scores stay in the range of float.
constexpr double kFinest = 0x1p-20;

}  // namespace

bool int8_pays(const Data& data, int64_t queries) {
  const ptrdiff_t d = data.rows.d;
  return data.quantized && queries > kGemvQueries && d >= kLeastDimensions && d <= kMostDimensions && active_int8();
}

void fill_int8_panels(Panels<float>& panels, const Data& data, const Query* queries, const Int8Options& options,
                      int threads) {
  const Plan& plan = panels.plan;
  const ptrdiff_t d = data.rows.d;
  panels.q8 = Buffer<int8_t>(static_cast<size_t>(plan.panels * plan.bytes()));
  panels.offset = Buffer<int32_t>(static_cast<size_t>(plan.panels * plan.width));
  panels.lanes = Buffer<float>(static_cast<size_t>(plan.panels * panels.lane_numbers()));
  const double gamma = product_errors<float>(data).gamma;
  const double* const offsets = data.quantized->offsets();
  parallel_by_query(plan.panels, threads, [&](int64_t p) {
    int8_t* const q8 = panels.q8.get() + p * plan.bytes();
    int32_t* const offset = panels.offset.get() + p * plan.width;
    const LaneFields<float> lanes = panels.lanes_of(p);
    std::memset(q8, 0, static_cast<size_t>(plan.bytes()));
    std::memset(offset, 0, static_cast<size_t>(plan.width) * sizeof(int32_t));
    std::memset(lanes.h, 0, static_cast<size_t>(panels.lane_numbers()) * sizeof(float));
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      const Query& query = queries[p * plan.width + lane];
      const double a = query.alpha, factor = normal_factor(query);
      const double normal = factor * a / data.unit;
      const double scale = std::max(std::abs(normal) * query.largest, kFinest) / options.kernels.most;
      const QuerySums sums =
          options.kernels.quantize_query(query.x, a, data.center.data(), normal / scale, offsets,
                                         QuantizedRows::offset(), d, q8 + plan.first_byte(lane), plan.bytes_apart());
      offset[lane] = static_cast<int32_t>(std::nearbyint(sums.offset));  // what is lost is the same for all rows
      const ProductErrors errors = {
          .gamma = gamma, .left = 1.001 * std::sqrt(sums.left2), .length = 1.001 * std::sqrt(sums.length2)};
      fill_lane(lanes, lane, query, factor / scale, options.weighted, options.bounds ? &errors : nullptr);
    }
  });
}

void integers(const Rows& rows, const int8_t* queries, const int32_t* offsets, int64_t count, int32_t* out) {
  const PanelKernels<float>& kernels = active_int8()->panel;
  const ptrdiff_t d = rows.d, width = kernels.width, tile = kernels.tiles ? kTileSide : kTile;
  Plan plan{};
  plan.width = kernels.width, plan.tiles = kernels.tiles;
  plan.digits = 1, plan.byte_dims = byte_dimensions(d, kernels.tiles);
  Block<float> block{};
  block.x8_stride = byte_dimensions(d, false), block.d = d, block.rows = (rows.n + tile - 1) / tile * tile;
  Buffer<uint8_t> bytes(static_cast<size_t>(block.rows * byte_dimensions(d, true)));
  if (plan.tiles) {
    pack_tiles(rows.data, rows.stride, rows.n, d, block.rows, bytes.get());
    plan.tiles->begin();
  } else {
    std::memset(bytes.get(), 0, static_cast<size_t>(block.rows * block.x8_stride));
    for (int64_t i = 0; i < rows.n; i++) {
      std::memcpy(bytes.get() + i * block.x8_stride, rows.data + i * rows.stride, static_cast<size_t>(d));
    }
  }
  block.x8 = bytes.get();
  Buffer<int8_t> q8(static_cast<size_t>(plan.bytes()));
  Buffer<int32_t> offset(static_cast<size_t>(width)), sums(static_cast<size_t>(block.rows * width));
  for (int64_t first = 0; first < count; first += width) {
    const int lanes = static_cast<int>(std::min<int64_t>(width, count - first));
    std::memset(q8.get(), 0, static_cast<size_t>(plan.bytes()));
    std::memset(offset.get(), 0, static_cast<size_t>(width) * sizeof(int32_t));
    for (int lane = 0; lane < lanes; lane++) {
      offset[lane] = offsets[first + lane];
      for (ptrdiff_t k = 0; k < d; k++) {
        q8[plan.first_byte(lane) + k / 4 * 4 * plan.bytes_apart() + k % 4] = queries[(first + lane) * d + k];
      }
    }
    Panel<float> panel{};
    panel.q8 = q8.get(), panel.offset = offset.get(), panel.of = 1;
    active_int8()->integers(block, panel, sums.get());
    for (int64_t i = 0; i < rows.n; i++) {
      for (int lane = 0; lane < lanes; lane++) out[i * count + first + lane] = sums[i * width + lane];
    }
  }
  if (plan.tiles) plan.tiles->end();
}

}  // namespace interp_fast
