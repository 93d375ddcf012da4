// Rows quantized to bytes, which is all that the int8 products read: X_i = scale_i (byte + offset) + residual_i.
#pragma once

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "buffer.h"
#include "normal_rows.h"

namespace interp_fast {

class QuantizedRows {
 public:
  // Makes the bytes where that has not been done: rows of bytes serve as they are, others are quantized in a copy.
  // Whoever filters by int8 calls this first.
  void make(const NormalRows& data, const Int8Kernels& kernels, int threads);

  float scale(int64_t row) const { return scales_.empty() ? scale_ : scales_[row]; }
  float residual(int64_t row) const { return residuals_.empty() ? 0 : residuals_[row]; }
  const double* offsets() const { return offsets_.empty() ? nullptr : offsets_.data(); }  // nullptr: all are
  static constexpr double offset() { return -128; }
  const char* row(int64_t row) const { return first_ + row * stride_; }
  ptrdiff_t stride() const { return stride_; }

  // The bytes of a block, `memory` being room for whole tiles of rows: dimensions come by four.
  template <class T>
  void place(Block<T>& block, int64_t first, ptrdiff_t count, uint8_t* memory) const {
    block.x8 = reinterpret_cast<const uint8_t*>(row(first)), block.x8_stride = stride_;
    if (padded_ || (count == block.rows && block.d % 4 == 0)) return;
    const ptrdiff_t stride = (block.d + 3) / 4 * 4;
    for (ptrdiff_t i = 0; i < block.rows; i++) {
      std::memcpy(memory + i * stride, row(first + std::min(i, count - 1)), static_cast<size_t>(block.d));
      std::memset(memory + i * stride + block.d, 0, static_cast<size_t>(stride - block.d));
    }
    block.x8 = memory, block.x8_stride = stride;
  }

 private:
  void round_rows(const NormalRows& data, const Int8Kernels& kernels, int threads);

  std::once_flag made_;
  const char* first_ = nullptr;
  ptrdiff_t stride_ = 0;
  bool padded_ = false;  // there is something to read after each row and after the last one
  Buffer<uint8_t> copy_;
  float scale_ = 0;
  std::vector<float> scales_, residuals_;
  std::vector<double> offsets_;
};

}  // namespace interp_fast
