#include "int8.h"

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
  panels.q8 = Buffer<int8_t>(static_cast<size_t>(plan.panels * plan.size));
  panels.offset = Buffer<int32_t>(static_cast<size_t>(plan.panels * plan.width));
  panels.lanes = Buffer<float>(static_cast<size_t>(plan.panels * panels.lane_numbers()));
  const double gamma = product_errors<float>(data).gamma;
  const double* const offsets = data.quantized->offsets();
  parallel_for(plan.panels, threads, [&](int64_t p, int) {
    int8_t* const q8 = panels.q8.get() + p * plan.size;
    int32_t* const offset = panels.offset.get() + p * plan.width;
    const LaneFields<float> lanes = panels.lanes_of(p);
    std::memset(q8, 0, static_cast<size_t>(plan.size));
    std::memset(offset, 0, static_cast<size_t>(plan.width) * sizeof(int32_t));
    std::memset(lanes.h, 0, static_cast<size_t>(panels.lane_numbers()) * sizeof(float));
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      const Query& query = queries[p * plan.width + lane];
      const double a = query.alpha, factor = normal_factor(query);
      const double normal = factor * a / data.unit;
      const double scale = std::max(std::abs(normal) * query.largest, kFinest) / options.kernels.most;
      const QuerySums sums = options.kernels.quantize_query(query.x, a, data.center.data(), normal / scale, offsets,
                                                            QuantizedRows::offset(), d, q8 + 4 * lane, plan.width);
      offset[lane] = static_cast<int32_t>(std::nearbyint(sums.offset));  // what is lost is the same for all rows
      const ProductErrors errors = {
          .gamma = gamma, .left = 1.001 * std::sqrt(sums.left2), .length = 1.001 * std::sqrt(sums.length2)};
      fill_lane(lanes, lane, query, factor / scale, options.weighted, options.bounds ? &errors : nullptr);
    }
  });
}

}  // namespace interp_fast
