#include "quantized_rows.h"

#include <cmath>

#include "dispatch.h"
#include "pool.h"

namespace interp_fast {

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
    if (data.rows.type != RowType::u8) return round_rows(data, kernels, threads);
    first_ = data.rows.data, stride_ = data.rows.stride;
    scale_ = static_cast<float>(data.inverse);
    std::vector<double> offsets;
    for (size_t k = 0; k < data.center.size(); k++) offsets.push_back(data.shift64[k] / data.inverse);
    offsets_ = std::move(offsets);
  });
}

void QuantizedRows::round_rows(const NormalRows& data, const Int8Kernels& kernels, int threads) {
  const int64_t n = data.rows.n;
  const size_t d = static_cast<size_t>(data.rows.d), step = static_cast<size_t>(kernels.panel.width);
  const size_t padded = (d + step - 1) / step * step, rows = static_cast<size_t>(n);
  Buffer<uint8_t> copy((rows + kTile) * padded);
  std::vector<float> scales(rows), residuals(rows);
  std::memset(copy.get() + rows * padded, 0, kTile * padded);
  constexpr int64_t kRows = 64;
  parallel_for((n + kRows - 1) / kRows, threads, [&](int64_t task, int) {
    std::vector<float> x(padded);
    std::vector<double> exact(data.float64_only ? padded : 0);
    Block<float> as_row{};
    Block<double> as_exact_row{};
    as_row.chunk = as_exact_row.chunk = data.rows.d;
    for (int64_t i = task * kRows; i < std::min(n, (task + 1) * kRows); i++) {
      const size_t row = static_cast<size_t>(i);
      if (exact.empty()) {
        const float inverse = static_cast<float>(data.inverse);
        active_kernels().f32.decode(data.rows, i, 1, inverse, data.shift32.get(), as_row, x.data());
      } else {  // centred before it is rounded
        active_kernels().f64.decode(data.rows, i, 1, data.inverse, data.shift64.get(), as_exact_row, exact.data());
        std::copy(exact.begin(), exact.end(), x.begin());
      }
      float residual;
      kernels.quantize(x.data(), static_cast<ptrdiff_t>(padded), copy.get() + row * padded, &scales[row], &residual);
      // Also the rounding of X itself, and of the residual.
      residuals[row] = static_cast<float>(1.001 * residual + 0x1p-22 * std::sqrt(data.n2[row]));
    }
  });
  first_ = reinterpret_cast<const char*>(copy.get()), stride_ = static_cast<ptrdiff_t>(padded), padded_ = true;
  copy_ = std::move(copy), scales_ = std::move(scales), residuals_ = std::move(residuals);
}

}  // namespace interp_fast
