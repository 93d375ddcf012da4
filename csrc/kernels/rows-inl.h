// Reading rows as given, and putting them into normal form for the block kernels.
//
// decode streams count * d stored numbers from memory, or from cache when they were fetched ahead, and writes them to
// cache. All differences are one fused multiply-add where the target has it.
#pragma once

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

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

// kWidth<T> of them from memory at once. The compiler is not trusted with steps from narrow lanes to wide ones: it
// takes them in halves, some over the stack.
template <class In, int N>
IF_INLINE void widen_integers(const In* in, typename Several<int32_t, N>::type& out) {
  constexpr bool kBytes = sizeof(In) == 1;
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    // Masked by all ones, because the plain ones start from something undefined, at which compilers warn.
    const __m512i wide =
        kBytes ? _mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(in)))
               : _mm512_maskz_cvtepu16_epi32(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
    memcpy(&out, &wide, sizeof out);
    return;
  }
#endif
#if defined(__AVX2__)
  if constexpr (N == 8) {
    const __m256i wide = kBytes ? _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in)))
                                : _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
    memcpy(&out, &wide, sizeof out);
    return;
  }
#endif
#if defined(__SSE4_1__)
  if constexpr (N == 4) {
    int64_t bits = 0;
    memcpy(&bits, in, N * sizeof(In));
    const __m128i narrow = _mm_cvtsi64_si128(bits);
    const __m128i wide = kBytes ? _mm_cvtepu8_epi32(narrow) : _mm_cvtepu16_epi32(narrow);
    memcpy(&out, &wide, sizeof out);
    return;
  }
#endif
  for (int i = 0; i < N; i++) out[i] = in[i];
}
IF_INLINE Vec<float> widen_floats(const Vec<float>& v, float) { return v; }
IF_INLINE Vec<double> widen_floats(const typename Several<float, kWidth<double>>::type& v, double) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtps_pd(0xFF, v);
#elif defined(__AVX__)
  return _mm256_cvtps_pd(v);
#else
  return __builtin_convertvector(v, Vec<double>);
#endif
}
template <class T>
IF_INLINE Vec<T> widen_all(const float* in) {
  typename Several<float, kWidth<T>>::type v;
  memcpy(&v, in, sizeof v);
  return widen_floats(v, T{});
}
template <class T>
IF_INLINE Vec<T> widen_all(const double* in) {
  typename Several<double, kWidth<T>>::type v;
  memcpy(&v, in, sizeof v);
  return __builtin_convertvector(v, Vec<T>);
}
template <class T>
IF_INLINE Vec<T> widen_all(const uint8_t* in) {
  typename Several<int32_t, kWidth<T>>::type bits;
  widen_integers<uint8_t, kWidth<T>>(in, bits);
  return __builtin_convertvector(bits, Vec<T>);
}
template <class T>
IF_INLINE Vec<T> widen_all(const Half* in) {
#if defined(__F16C__)
  typename Several<float, kWidth<T>>::type v;
  if constexpr (kWidth<T> == 16) {
    v = _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
  } else if constexpr (kWidth<T> == 8) {
    v = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
  } else {
    v = _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in)));
  }
  return widen_floats(v, T{});
#else
  typename Several<int32_t, kWidth<T>>::type bits;
  widen_integers<uint16_t, kWidth<T>>(&in->bits, bits);
  bits = (bits & 0x7FFF) << 13 | (bits & 0x8000) << 16;
  return widen_floats((typename Several<float, kWidth<T>>::type)bits * 0x1p112f, T{});
#endif
}
template <class T>
IF_INLINE Vec<T> widen_all(const Brain* in) {
  typename Several<int32_t, kWidth<T>>::type bits;
  widen_integers<uint16_t, kWidth<T>>(&in->bits, bits);
  return widen_floats((typename Several<float, kWidth<T>>::type)(bits << 16), T{});
}

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

// Calls f with a number of the stored type.
template <class F>
IF_INLINE auto with_type(RowType type, F f) {
  switch (type) {
    case RowType::f32: return f(float{});
    case RowType::f64: return f(double{});
    case RowType::u8: return f(uint8_t{});
    case RowType::f16: return f(Half{});
    case RowType::bf16: break;
  }
  return f(Brain{});
}

template <class T>
void decode(const Rows& rows, int64_t first, ptrdiff_t count, T inverse, const T* shift, const Block<T>& block, T* x) {
  with_type(rows.type, [&](auto stored) { decode_as<decltype(stored)>(rows, first, count, inverse, shift, block, x); });
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
