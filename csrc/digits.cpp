#include "digits.h"

#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "dispatch.h"
#include "pool.h"

namespace interp_fast {
namespace {

// Below these there is no gain on float32, by the count of instructions: what follows a product takes as long, and
// lanes are empty.
constexpr ptrdiff_t kLeastDimensions = 48;
constexpr int64_t kLeastQueries = kTileHalf + 1;
constexpr ptrdiff_t kMostDimensions = 1 << 15;  // integers hold sums of so many products of bytes
// The largest number of a query of which little more than 0 is known stands for this: neither it nor its inverse is
// subnormal.
constexpr double kFinest = 0x1p-200;
constexpr double kFarthest = 0x1p-21;  // that rows may be from bytes, in radii: a quarter of what a mean may be off by
constexpr double kWhole = 0x3p51;      // its last place is 1

// Where the digits of a lane go, and what the centre of the rows comes to in each.
struct Lane {
  const Plan& plan;
  int lane;
  int8_t* bytes;
  int32_t* offset;
};

// value(k), of up to kLargest, as whole numbers, in digits. Returns the squares of what is left out.
template <class Value>
double write_digits(const Lane& to, const double* offsets, ptrdiff_t d, Value value) {
  const ptrdiff_t apart = to.plan.bytes() / kDigits;
  double left2 = 0;
  int64_t offset[kDigits] = {};
  for (ptrdiff_t k = 0; k < d; k++) {
    const double exact = value(k), shift = 0x1p-24 * evenly(k) - 0.5;
    const double whole = (exact + shift + kWhole) - kWhole;  // rounded up or down
    left2 += (exact - whole) * (exact - whole);
    int8_t* const at = to.bytes + to.plan.first_byte(to.lane) + k / 4 * 4 * to.plan.bytes_apart() + k % 4;
    const int32_t shifted = static_cast<int32_t>(whole) + 0x8080;  // the lower digits are unsigned, then
    for (int j = 0; j < kDigits; j++) {
      const int32_t digit = j < kDigits - 1 ? (shifted >> 8 * j & 255) - 128 : shifted >> 8 * j;
      at[j * apart] = static_cast<int8_t>(digit);
      offset[j] += digit * static_cast<int64_t>(offsets[k]);
    }
  }
  for (int j = 0; j < kDigits; j++) to.offset[j * to.plan.width + to.lane] = static_cast<int32_t>(offset[j]);
  return left2;
}

}  // namespace

bool digits_pay(const Data& data, int64_t queries, int threads) {
  const ptrdiff_t d = data.rows.d;
  const bool bytes = data.rows.type == RowType::u8 || data.grid;
  if (!bytes || data.float64_only || queries < kLeastQueries || d < kLeastDimensions || d > kMostDimensions ||
      !active_kernels().digits) {
    return false;
  }
  data.quantized->make(data, *active_int8(), threads);
  return data.quantized->one_scale() && data.quantized->farthest() <= kFarthest * data.radius;
}

void fill_digit_panels(Panels<double>& panels, const Data& data, const Query* queries, bool directions, int threads) {
  const Plan& plan = panels.plan;
  const ptrdiff_t d = data.rows.d;
  const size_t bytes = static_cast<size_t>(plan.panels * plan.bytes());
  const size_t offsets = static_cast<size_t>(plan.panels * kDigits * plan.width);
  const auto clear = [](auto& buffer, size_t count) {
    buffer = std::decay_t<decltype(buffer)>(count);
    std::memset(buffer.get(), 0, count * sizeof(buffer[0]));
  };
  clear(panels.q8, bytes), clear(panels.offset, offsets);
  if (directions) clear(panels.u8, bytes), clear(panels.u_offset, offsets);
  clear(panels.lanes, static_cast<size_t>(plan.panels * panels.lane_numbers()));
  panels.left.resize(static_cast<size_t>(plan.queries));
  const double gamma = product_errors<double>(data).gamma;
  parallel_by_query(plan.panels, threads, [&](int64_t p) {
    const LaneFields<double> lanes = panels.lanes_of(p);
    const auto place = [&](int lane, const Buffer<int8_t>& of, const Buffer<int32_t>& offset) -> Lane {
      return {plan, lane, of.get() + p * plan.bytes(), offset.get() + p * kDigits * plan.width};
    };
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      const Query& query = queries[p * plan.width + lane];
      const double factor = logit_factor(query), normal = factor * query.alpha / data.unit;
      const double grain = std::max(std::abs(normal) * query.largest, kFinest) / kLargest;
      const double left2 =
          write_digits(place(lane, panels.q8, panels.offset), data.quantized->offsets(), d,
                       [&](ptrdiff_t k) { return normal / grain * (query.x[k] - query.alpha * data.center[k]); });
      const double left = 1.001 * grain * std::sqrt(left2), length = 1.001 * factor * query.alpha * std::sqrt(query.x2);
      const ProductErrors errors = {.gamma = gamma, .left = left, .length = length + left};
      panels.left[static_cast<size_t>(p * plan.width + lane)] = errors.left;
      fill_lane(lanes, lane, query, factor, true, &errors);
      lanes.grain[lane] = grain * data.quantized->scale();
      if (!directions || !(query.largest_u > 0)) continue;
      write_digits(place(lane, panels.u8, panels.u_offset), data.quantized->offsets(), d,
                   [&](ptrdiff_t k) { return query.u[k] / query.largest_u * kLargest; });
    }
  });
}

}  // namespace interp_fast
