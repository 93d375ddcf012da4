#include "int8.h"

#include "dispatch.h"

namespace interp_fast {
namespace {

constexpr ptrdiff_t kLeastDimensions = 24;      // below, what follows a product takes longer than the product
constexpr ptrdiff_t kMostDimensions = 1 << 15;  // integers hold sums of so many products of bytes
// The largest entry of a query of which little more than 0 is known stands for this: scores stay in the range of float.
constexpr double kFinest = 0x1p-20;

}  // namespace

const Int8Kernels* int8_for(const Data& data, int64_t queries) {
  const ptrdiff_t d = data.rows.d;
  const bool pays = data.quantized && queries > kGemvQueries && d >= kLeastDimensions && d <= kMostDimensions;
  return pays ? active_int8() : nullptr;
}

void fill_int8_panels(Panels<float>& panels, const Data& data, const Query* queries, const Int8Kernels& kernels,
                      bool weighted, bool bounds, int threads) {
  const Plan& plan = panels.plan;
  const ptrdiff_t d = data.rows.d;
  panels.q8 = Buffer<int8_t>(static_cast<size_t>(plan.panels * plan.size));
  panels.offset = Buffer<int32_t>(static_cast<size_t>(plan.panels * plan.width));
  panels.lanes = Buffer<float>(static_cast<size_t>(plan.panels * kLaneFields * plan.width));
  const double gamma = score_roundoff<float>(data);
  const double* const offsets = data.quantized->offsets();
  parallel_for(plan.panels, threads, [&](int64_t p, int) {
    int8_t* const bytes = panels.q8.get() + p * plan.size;
    int32_t* const offset = panels.offset.get() + p * plan.width;
    float* const lanes = panels.lanes_of(p);
    std::memset(bytes, 0, static_cast<size_t>(plan.size));
    std::memset(offset, 0, static_cast<size_t>(plan.width) * sizeof(int32_t));
    std::memset(lanes, 0, static_cast<size_t>(kLaneFields * plan.width) * sizeof(float));
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      const Query& query = queries[p * plan.width + lane];
      const double a = query.alpha, scale = normal_scale(query);
      const double normal = scale * a / data.unit;
      const double step = std::max(std::abs(normal) * query.largest, kFinest) / kernels.most;
      const QuerySums sums = kernels.quantize_query(query.x, a, data.center.data(), normal / step, offsets,
                                                    QuantizedRows::offset(), d, bytes + 4 * lane, plan.width);
      offset[lane] = static_cast<int32_t>(std::nearbyint(sums.offset));  // what is lost is the same for all rows
      fill_lane(lanes, plan.width, lane, query, scale / step, gamma, weighted, 1.001 * std::sqrt(sums.left2),
                1.001 * std::sqrt(sums.length2), bounds);
    }
  });
}

}  // namespace interp_fast
