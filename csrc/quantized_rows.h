// Rows quantized to bytes, which is all that products of bytes read: X_i = scale_i (byte + offset) + residual_i.
#pragma once

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "buffer.h"
#include "normal_rows.h"

namespace interp_fast {

// The dimensions of rows and queries of bytes, with what fills them up.
inline ptrdiff_t byte_dimensions(ptrdiff_t d, bool in_tiles) {
  const ptrdiff_t step = in_tiles ? kTileStep : 4;
  return (d + step - 1) / step * step;
}

// Copies `count` rows of d bytes into the tiles of a block of so many rows; the last one stands in for those that fill
// it up, and 0 for dimensions.
void pack_tiles(const char* rows, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t d, ptrdiff_t block_rows, uint8_t* tiles);

class QuantizedRows {
 public:
  // Makes the bytes where that has not been done: rows of bytes serve as they are, others are quantized in a copy: to
  // their grid if they are all on it. Whoever multiplies bytes calls this first.
  void make(const NormalRows& data, const Int8Kernels& kernels, int threads);

  float scale(int64_t row) const { return scales_.empty() ? static_cast<float>(scale_) : scales_[row]; }
  float residual(int64_t row) const { return residuals_.empty() ? 0 : residuals_[row]; }
  const double* offsets() const { return offsets_.empty() ? nullptr : offsets_.data(); }  // nullptr: all are
  static constexpr double offset() { return -128; }
  // Where all rows have one scale, and each dimension an offset that is a whole number: that scale, the largest
  // |residual|, beside what float32 makes of the scale, and the largest number of a residual.
  bool one_scale() const { return !offsets_.empty(); }
  double scale() const { return scale_; }
  double farthest() const { return farthest_; }
  double farthest_number() const { return farthest_number_; }
  const char* row(int64_t row) const { return first_ + row * stride_; }
  ptrdiff_t stride() const { return stride_; }

  // The bytes of a block, `memory` being room for whole tiles of rows.
  template <class T>
  void place(Block<T>& block, int64_t first, ptrdiff_t count, bool in_tiles, uint8_t* memory) const {
    block.x8 = reinterpret_cast<const uint8_t*>(row(first)), block.x8_stride = stride_;
    if (in_tiles) {
      pack_tiles(row(first), stride_, count, block.d, block.rows, memory);
      block.x8 = memory;
      return;
    }
    if (padded_ || (count == block.rows && block.d % 4 == 0)) return;
    const ptrdiff_t stride = byte_dimensions(block.d, false);
    for (ptrdiff_t i = 0; i < block.rows; i++) {
      std::memcpy(memory + i * stride, row(first + std::min(i, count - 1)), static_cast<size_t>(block.d));
      std::memset(memory + i * stride + block.d, 0, static_cast<size_t>(stride - block.d));
    }
    block.x8 = memory, block.x8_stride = stride;
  }

 private:
  void make_copy(const Rows& rows, ptrdiff_t step);
  bool round_to_grid(const NormalRows& data, const Int8Kernels& kernels, int threads);
  void round_rows(const NormalRows& data, const Int8Kernels& kernels, int threads);

  std::once_flag made_;
  const char* first_ = nullptr;
  ptrdiff_t stride_ = 0;
  bool padded_ = false;  // there is something to read after each row and after the last one
  Buffer<uint8_t> copy_;
  double scale_ = 0, farthest_ = 0, farthest_number_ = 0;
  std::vector<float> scales_, residuals_;
  std::vector<double> offsets_;
};

}  // namespace interp_fast
