// Reading rows as given: into normal form for the block kernels, and in float64 for everything that decides an answer.
//
// decode streams count * d stored numbers from memory, or from cache when they were fetched ahead, and writes them to
// cache; the float64 kernels read one row.
// All differences are one fused multiply-add where the target has it.
#pragma once

#include "kernels.h"
#include "math-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// Stored numbers, widened exactly. Half-precision bits go through float32: shifted into place, a half is that float
// times 2^-112, also when it is subnormal; bfloat16 is the upper half of a float32.
struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};
IF_INLINE float widen(float v) { return v; }
IF_INLINE double widen(double v) { return v; }
IF_INLINE float widen(uint8_t v) { return v; }
IF_INLINE float from_bits(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}
IF_INLINE float widen(Half v) {
  const uint32_t bits = v.bits;
  return from_bits((bits & 0x7FFF) << 13 | (bits & 0x8000) << 16) * 0x1p112f;
}
IF_INLINE float widen(Brain v) { return from_bits(uint32_t{v.bits} << 16); }

template <class S>
IF_INLINE const S* row_of(const Rows& rows, int64_t row) {
  return reinterpret_cast<const S*>(rows.data + row * rows.stride);
}

template <class S, class T>
void decode_as(const Rows& rows, int64_t first, ptrdiff_t count, T inverse, const T* shift, const Block<T>& block,
               T* x) {
  for (ptrdiff_t i = 0; i < count; i++) {
    const S* __restrict in = row_of<S>(rows, first + i);
    T* out = x + i * block.ld;
    for (ptrdiff_t k = 0; k < rows.d; k += block.chunk, out += block.chunk_stride) {
      const ptrdiff_t width = rows.d - k < block.chunk ? rows.d - k : block.chunk;
      const T* __restrict by = shift + k;
      T* __restrict to = out;
      for (ptrdiff_t j = 0; j < width; j++) to[j] = inverse * static_cast<T>(widen(in[k + j])) + by[j];
    }
  }
}

template <class T>
void decode(const Rows& rows, int64_t first, ptrdiff_t count, T inverse, const T* shift, const Block<T>& block, T* x) {
  switch (rows.type) {
    case RowType::f32: return decode_as<float>(rows, first, count, inverse, shift, block, x);
    case RowType::f64: return decode_as<double>(rows, first, count, inverse, shift, block, x);
    case RowType::u8: return decode_as<uint8_t>(rows, first, count, inverse, shift, block, x);
    case RowType::f16: return decode_as<Half>(rows, first, count, inverse, shift, block, x);
    case RowType::bf16: return decode_as<Brain>(rows, first, count, inverse, shift, block, x);
  }
}

// sum_k f(k, value)^2 in kWidth chains; f also does what else is to be done with dimension k.
constexpr int kStrip = 64 / sizeof(double);

template <class F>
IF_INLINE double sum_over(ptrdiff_t d, F term) {
  double chain[kStrip] = {};
  ptrdiff_t k = 0;
  for (; k + kStrip <= d; k += kStrip) {
    for (int i = 0; i < kStrip; i++) chain[i] += term(k + i);
  }
  for (int i = 0; k < d; k++, i++) chain[i] += term(k);
  for (int half = kStrip / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) chain[i] += chain[i + half];
  }
  return chain[0];
}

// Calls f with the row as a pointer to its stored type.
template <class F>
IF_INLINE auto with_row(const Rows& rows, int64_t row, F f) {
  switch (rows.type) {
    case RowType::f32: return f(row_of<float>(rows, row));
    case RowType::f64: return f(row_of<double>(rows, row));
    case RowType::u8: return f(row_of<uint8_t>(rows, row));
    case RowType::f16: return f(row_of<Half>(rows, row));
    case RowType::bf16: break;
  }
  return f(row_of<Brain>(rows, row));
}

void values(const Rows& rows, int64_t row, double* __restrict out) {
  with_row(rows, row, [&](const auto* in) {
    for (ptrdiff_t k = 0; k < rows.d; k++) out[k] = rows.a * static_cast<double>(widen(in[k])) + rows.b;
  });
}

double distance2(const Rows& rows, int64_t row, const double* x, double alpha) {
  return with_row(rows, row, [&](const auto* in) {
    return sum_over(rows.d, [&](ptrdiff_t k) {
      const double value = rows.a * static_cast<double>(widen(in[k])) + rows.b;
      const double difference = x[k] - alpha * value;
      return difference * difference;
    });
  });
}

double norm2(const Rows& rows, int64_t row, double inverse, const double* shift) {
  return with_row(rows, row, [&](const auto* in) {
    return sum_over(rows.d, [&](ptrdiff_t k) {
      const double difference = inverse * static_cast<double>(widen(in[k])) + shift[k];
      return difference * difference;
    });
  });
}

double add(const Rows& rows, int64_t row, const double* ref, double t, double* __restrict sum, const double* u,
           double* __restrict sum_u) {
  return with_row(rows, row, [&](const auto* in) {
    const auto delta = [&](ptrdiff_t k) { return rows.a * static_cast<double>(widen(in[k])) + rows.b - ref[k]; };
    if (u) {
      const double along = t * sum_over(rows.d, [&](ptrdiff_t k) { return delta(k) * u[k]; });
      for (ptrdiff_t k = 0; k < rows.d; k++) sum_u[k] += along * delta(k);
    }
    for (ptrdiff_t k = 0; k < rows.d; k++) sum[k] += t * delta(k);
    return sum_over(rows.d, [&](ptrdiff_t k) { return delta(k) * delta(k); });
  });
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
