#include "quantized_rows.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "dispatch.h"
#include "pool.h"

namespace interp_fast {
namespace {

constexpr int64_t kRows = 64;  // of a task

}  // namespace

void pack_tiles(const char* rows, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t d, ptrdiff_t block_rows,
                uint8_t* tiles) {
  const ptrdiff_t steps = byte_dimensions(d, true) / kTileStep, rest = d % kTileStep;
  for (ptrdiff_t i = 0; i < block_rows; i++) {
    const char* const row = rows + std::min(i, count - 1) * stride;
    uint8_t* const to = tiles + (i / kTileHalf * steps * kTileHalf + i % kTileHalf) * kTileStep;
    const auto step = [&](ptrdiff_t k) { return to + k * kTileHalf * kTileStep; };
    for (ptrdiff_t k = 0; k < d / kTileStep; k++) std::memcpy(step(k), row + k * kTileStep, kTileStep);
    if (rest == 0) continue;
    std::memcpy(step(steps - 1), row + d - rest, static_cast<size_t>(rest));
    std::memset(step(steps - 1) + rest, 0, static_cast<size_t>(kTileStep - rest));
  }
}

void QuantizedRows::make(const NormalRows& data, const Int8Kernels& kernels, int threads) {
  std::call_once(made_, [&] {
    const bool bytes = data.rows.type == RowType::u8;
    offsets_.clear();
    if (bytes || data.grid) {
      scale_ = bytes ? data.inverse : data.grid.a / data.unit;
      for (size_t k = 0; k < data.center.size(); k++) {
        offsets_.push_back(bytes ? data.shift64[k] / data.inverse : -data.grid.byte(data.center[k]));
      }
    }
    if (bytes) {
      first_ = data.rows.data, stride_ = data.rows.stride;
      return;
    }
    make_copy(data.rows, kernels.panel.width);
    if (data.grid && round_to_grid(data, kernels, threads)) return;
    offsets_.clear();
    round_rows(data, kernels, threads);
  });
}

void QuantizedRows::make_copy(const Rows& rows, ptrdiff_t step) {
  const ptrdiff_t padded = (rows.d + step - 1) / step * step;
  copy_ = Buffer<uint8_t>(static_cast<size_t>((rows.n + kTile) * padded));
  std::memset(copy_.get() + rows.n * padded, 0, static_cast<size_t>(kTile * padded));
  first_ = reinterpret_cast<const char*>(copy_.get()), stride_ = padded, padded_ = true;
  residuals_.resize(static_cast<size_t>(rows.n));
}

// Returns whether all rows are on it.
bool QuantizedRows::round_to_grid(const NormalRows& data, const Int8Kernels& kernels, int threads) {
  const int64_t n = data.rows.n, tasks = (n + kRows - 1) / kRows;
  const size_t padded = static_cast<size_t>(stride_);
  std::atomic<bool> on_it = true;
  std::vector<double> offsets = offsets_, farthest(static_cast<size_t>(tasks)), largest(farthest);
  offsets.resize(padded);
  parallel_for(tasks, threads, [&](int64_t task, int) {
    std::vector<double> x(padded);
    Block<double> as_row{};
    as_row.chunk = data.rows.d;
    for (int64_t i = task * kRows; on_it && i < std::min(n, (task + 1) * kRows); i++) {
      active_kernels().f64.decode(data.rows, i, 1, data.inverse, data.shift64.get(), as_row, x.data());
      const RowSums left =
          kernels.quantize_on_grid(x.data(), scale_, offsets.data(), stride_, copy_.get() + i * stride_);
      if (!(left.largest <= Grid::kMostApart * scale_)) on_it = false;
      // Also what float64 and float32 make of scale (byte + offset).
      const double length = std::sqrt(data.n2[i]), apart = 1.001 * std::sqrt(left.left2) + 0x1p-50 * length;
      farthest[task] = std::max(farthest[task], apart), largest[task] = std::max(largest[task], left.largest);
      residuals_[i] = static_cast<float>(1.001 * apart + 0x1p-23 * length);
    }
  });
  if (!on_it) return false;
  farthest_ = *std::max_element(farthest.begin(), farthest.end());
  farthest_number_ = *std::max_element(largest.begin(), largest.end());
  return true;
}

void QuantizedRows::round_rows(const NormalRows& data, const Int8Kernels& kernels, int threads) {
  const int64_t n = data.rows.n;
  scales_.resize(static_cast<size_t>(n));
  parallel_for((n + kRows - 1) / kRows, threads, [&](int64_t task, int) {
    std::vector<float> x(static_cast<size_t>(stride_));
    std::vector<double> exact(data.float64_only ? x.size() : 0);
    Block<float> as_row{};
    Block<double> as_exact_row{};
    as_row.chunk = as_exact_row.chunk = data.rows.d;
    for (int64_t i = task * kRows; i < std::min(n, (task + 1) * kRows); i++) {
      if (exact.empty()) {
        const float inverse = static_cast<float>(data.inverse);
        active_kernels().f32.decode(data.rows, i, 1, inverse, data.shift32.get(), as_row, x.data());
      } else {  // centred before it is rounded
        active_kernels().f64.decode(data.rows, i, 1, data.inverse, data.shift64.get(), as_exact_row, exact.data());
        std::copy(exact.begin(), exact.end(), x.begin());
      }
      float residual;
      kernels.quantize(x.data(), stride_, copy_.get() + i * stride_, &scales_[i], &residual);
      // Also the rounding of X itself, and of the residual.
      residuals_[i] = static_cast<float>(1.001 * residual + 0x1p-22 * std::sqrt(data.n2[i]));
    }
  });
}

}  // namespace interp_fast
