// Rows of few dimensions in normal form, dimension after dimension: widened one after another into cache, unless they
// are stored as that already, and then transposed.
#pragma once

#include "kernels.h"
#include "rows-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

constexpr ptrdiff_t kStripRows = 256;  // that are widened at a time

// What follows the last number of `out` is written to, up to a whole vector.
template <class T, class S>
IF_INLINE void widen_line(const S* in, ptrdiff_t count, T* out) {
  constexpr ptrdiff_t W = kWidth<T>;
  ptrdiff_t i = 0;
  for (; i + W <= count; i += W) store(out + i, widen_all<T>(in + i));
  S last[W] = {};
  memcpy(last, in + i, static_cast<size_t>(count - i) * sizeof(S));
  store(out + i, widen_all<T>(last));
}

// N bytes of each row.
template <ptrdiff_t N>
IF_INLINE void copy_column(const char* rows, ptrdiff_t stride, ptrdiff_t count, char* out, ptrdiff_t bytes) {
  for (ptrdiff_t i = 0; i < count; i++) memcpy(out + i * bytes, rows + i * stride, N);
}
// Puts rows of so many bytes side by side.
__attribute__((noinline)) void gather_rows(const char* rows, ptrdiff_t stride, ptrdiff_t count, char* out,
                                           ptrdiff_t bytes) {
  ptrdiff_t k = 0;
  for (; k + 16 <= bytes; k += 16) copy_column<16>(rows + k, stride, count, out + k, bytes);
  if (bytes & 8) copy_column<8>(rows + k, stride, count, out + k, bytes), k += 8;
  if (bytes & 4) copy_column<4>(rows + k, stride, count, out + k, bytes), k += 4;
  if (bytes & 2) copy_column<2>(rows + k, stride, count, out + k, bytes), k += 2;
  if (bytes & 1) copy_column<1>(rows + k, stride, count, out + k, bytes);
}

template <class T>
__attribute__((noinline)) void widen_rows(const Rows& rows, int64_t first, ptrdiff_t count, T* out) {
  with_type(rows.type, [&](auto stored) IF_INLINED {
    using S = decltype(stored);
    const ptrdiff_t bytes = rows.d * static_cast<ptrdiff_t>(sizeof(S));
    const S* line = row_of<S>(rows, first);
    S gathered[kStripRows * kLowdim];
    if (rows.stride != bytes) {
      gather_rows(reinterpret_cast<const char*>(line), rows.stride, count, reinterpret_cast<char*>(gathered), bytes);
      line = gathered;
    }
    widen_line(line, count * rows.d, out);
  });
}

// x[k * ld + i] = inverse * rows[i * D + k] + shift[k]; the compiler makes shuffles of it.
template <class T, int D>
__attribute__((noinline)) void transpose(const T* rows, ptrdiff_t count, T inverse, const T* shift, T* x,
                                         ptrdiff_t ld) {
  for (int k = 0; k < D; k++) {
    T* __restrict out = x + k * ld;
    for (ptrdiff_t i = 0; i < count; i++) out[i] = inverse * rows[i * D + k] + shift[k];
  }
}

template <class T>
void square_norms(const T* x, ptrdiff_t ld, ptrdiff_t d, ptrdiff_t count, T* __restrict n2) {
  for (ptrdiff_t i = 0; i < count; i++) n2[i] = x[i] * x[i];
  for (ptrdiff_t k = 1; k < d; k++) {
    for (ptrdiff_t i = 0; i < count; i++) n2[i] += x[k * ld + i] * x[k * ld + i];
  }
}

template <class T>
void decode_lowdim(const Rows& rows, int64_t first, ptrdiff_t count, T inverse, const T* shift, T* x, ptrdiff_t ld,
                   T* n2) {
  using Transpose = void (*)(const T*, ptrdiff_t, T, const T*, T*, ptrdiff_t);
  constexpr Transpose by_dimensions[kLowdim] = {transpose<T, 1>, transpose<T, 2>, transpose<T, 3>, transpose<T, 4>,
                                                transpose<T, 5>, transpose<T, 6>, transpose<T, 7>, transpose<T, 8>};
  constexpr RowType kOwn = sizeof(T) == 4 ? RowType::f32 : RowType::f64;
  const Transpose transposed = by_dimensions[rows.d - 1];
  if (rows.type == kOwn && rows.stride == rows.d * static_cast<ptrdiff_t>(sizeof(T))) {
    transposed(row_of<T>(rows, first), count, inverse, shift, x, ld);
  } else {
    T strip[kStripRows * kLowdim + kWidth<T>];
    for (ptrdiff_t i = 0; i < count; i += kStripRows) {
      const ptrdiff_t some = count - i < kStripRows ? count - i : kStripRows;
      if (rows.type == kOwn) {
        gather_rows(reinterpret_cast<const char*>(row_of<T>(rows, first + i)), rows.stride, some,
                    reinterpret_cast<char*>(strip), rows.d * static_cast<ptrdiff_t>(sizeof(T)));
      } else {
        widen_rows(rows, first + i, some, strip);
      }
      transposed(strip, some, inverse, shift, x + i, ld);
    }
  }
  if (n2) square_norms(x, ld, rows.d, count, n2);
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
