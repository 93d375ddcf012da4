// Vectors of T as GCC and Clang vector extensions, and 2^x. kVectorBytes is this target's register size.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

#define IF_INLINED __attribute__((always_inline))
#define IF_INLINE inline IF_INLINED

namespace interp_fast {
namespace ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr bool kManyRegisters = true;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
constexpr bool kManyRegisters = false;
#else
constexpr int kVectorBytes = 16;
#if defined(__aarch64__)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif
#endif

template <class T>
struct Lanes {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
typedef int32_t Ints __attribute__((vector_size(kVectorBytes)));
template <class T>
using Vec = typename Lanes<T>::type;
template <class T>
constexpr int kWidth = kVectorBytes / sizeof(T);

template <class T>
IF_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
IF_INLINE void store(T* p, Vec<T> v) {
  memcpy(p, &v, sizeof v);
}
template <class T>
IF_INLINE Vec<T> fill(T x) {
  return x - Vec<T>{};
}
// b where a is NaN: the instruction, which compilers do not see in a choice.
IF_INLINE Vec<float> max(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(0xFFFF, a, b);
#elif defined(__AVX__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE4_1__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
IF_INLINE Vec<double> max(Vec<double> a, Vec<double> b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_pd(0xFF, a, b);
#elif defined(__AVX__)
  return _mm256_max_pd(a, b);
#elif defined(__SSE4_1__)
  return _mm_max_pd(a, b);
#else
  return a > b ? a : b;
#endif
}
// Whether any lane of a comparison's result holds.
template <class M>
IF_INLINE bool any(M mask) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX__)
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#elif defined(__SSE4_1__)
  return !_mm_testz_si128((__m128i)mask, (__m128i)mask);
#else
  uint64_t parts[sizeof mask / 8];
  memcpy(parts, &mask, sizeof mask);
  uint64_t all = 0;
  for (uint64_t part : parts) all |= part;
  return all != 0;
#endif
}
#if defined(__AVX__)
// A bit for each lane where the result of a comparison of floats holds.
IF_INLINE uint32_t bits(Ints mask) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask((__m512i)mask);
#else
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask));
#endif
}
#endif
// Calls f with the number of each lane where the result of a comparison of numbers T holds, in order.
template <class T, class M, class F>
IF_INLINE void over_lanes(M mask, F f) {
#if defined(__AVX__)
  if constexpr (sizeof(T) == sizeof(float)) {
    for (uint32_t left = bits(mask); left; left &= left - 1) f(__builtin_ctz(left));
    return;
  }
#endif
  for (int lane = 0; lane < kWidth<T>; lane++) {
    if (mask[lane]) f(lane);
  }
}
// Whether a >= b in any lane.
IF_INLINE bool any_reaches(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ) != 0;
#else
  return any(a >= b);
#endif
}
IF_INLINE bool any_reaches(Vec<double> a, Vec<double> b) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask(a, b, _CMP_GE_OQ) != 0;
#else
  return any(a >= b);
#endif
}
template <int N>
struct Constant {
  static constexpr int value = N;
};
template <class E, int N>
struct Several {
  typedef E type __attribute__((vector_size(N * sizeof(E))));
};
// The sums of every Mth of N numbers.
template <class E, int N, int M>
IF_INLINE typename Several<E, M>::type fold(typename Several<E, N>::type v) {
  if constexpr (N == M) {
    return v;
  } else {
    typename Several<E, N / 2>::type half[2];
    memcpy(half, &v, sizeof v);
    return fold<E, N / 2, M>(half[0] + half[1]);
  }
}
template <class T>
IF_INLINE T sum(Vec<T> v) {
  return fold<T, kWidth<T>, 1>(v)[0];
}

template <class T, int N = kWidth<T>>
IF_INLINE T highest(typename Several<T, N>::type v) {
  if constexpr (N == 1) {
    return v[0];
  } else {
    typename Several<T, N / 2>::type half[2];
    memcpy(half, &v, sizeof v);
    return highest<T, N / 2>(half[0] > half[1] ? half[0] : half[1]);
  }
}

// 3/2 2^23 and 3/2 2^52: their last place is 1, so that adding and subtracting them rounds to whole numbers.
constexpr float kWhole32 = 12582912.0f;
constexpr double kWhole64 = 6755399441055744.0;

// While it lives, results below the normal range are 0: weights that far down do not count, and on some processors such
// numbers cost a hundred cycles each.
class [[maybe_unused]] FlushSubnormals {
#if defined(__SSE4_1__)
 public:
  FlushSubnormals() { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON); }
  ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  const unsigned before_ = _mm_getcsr();
#endif
};

#if defined(__AVX512F__)
// 2^x for x below the overflow threshold, 0 at -inf: x = n + r with r >= 0 and n whole (float64: a multiple of 1/16,
// whose fraction indexes a table), then a minimax polynomial of 2^r (relative error 8e-8 and 8e-18) times 2^n. Where x
// is -inf and r is NaN, scaling by 2^x still gives 0.
IF_INLINE Vec<float> exp2(Vec<float> x) {
  const Vec<float> r = x - _mm512_maskz_roundscale_ps(0xFFFF, x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  Vec<float> p = fill(0.001867131544f);
  p = p * r + 0.009017027888f;
  p = p * r + 0.05579991382f;
  p = p * r + 0.2401644505f;
  p = p * r + 0.6931513117f;
  p = p * r + 1.0f;
  return _mm512_maskz_scalef_ps(0xFFFF, p, x);
}

IF_INLINE Vec<double> exp2(Vec<double> x) {
  // clang-format off
  const Vec<double> lower = {1.0,                1.0442737824274138, 1.0905077326652577, 1.1387886347566916,
                             1.189207115002721,  1.241857812073484,  1.2968395546510096, 1.3542555469368927};
  const Vec<double> upper = {1.4142135623730951, 1.4768261459394993, 1.5422108254079407, 1.6104903319492543,
                             1.681792830507429,  1.7562521603732995, 1.8340080864093424, 1.9152065613971474};
  // clang-format on
  const Vec<double> r = x - _mm512_maskz_roundscale_pd(0xFF, x, 4 << 4 | _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  // The last four bits of this sum count sixteenths.
  const __m512d sixteenths =
      _mm512_maskz_add_round_pd(0xFF, x, fill(0x1.8p48), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  const __m512d step = _mm512_permutex2var_pd(lower, _mm512_castpd_si512(sixteenths), upper);
  Vec<double> p = fill(1.573628285455842e-4);
  p = p * r + 1.333074224522485e-3;
  p = p * r + 9.618140803086094e-3;
  p = p * r + 5.550410841954199e-2;
  p = p * r + 0.2402265069614633;
  p = p * r + 0.6931471805599377;
  p = p * r + 1.0;
  return _mm512_maskz_scalef_pd(0xFF, p * step, x);
}
#else
// 2^x for x below the overflow threshold, exactly 0 below 2^-126 (2^-1022): x = n + r with |r| <= 1/2 by adding and
// subtracting a number whose unit in the last place is 1, then a minimax polynomial of 2^r (relative error 9e-8 and
// 3e-17) times 2^n put together from its bits; n is kept from going below the exponent whose bits are 0. Beyond the
// overflow threshold, and of NaN, it is some number.
IF_INLINE Vec<float> exp2(Vec<float> x) {
  typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  const Vec<float> magic = fill(kWhole32);
  x = max(x, fill(-127.0f));
  const Vec<float> z = x + magic;
  const Vec<float> r = x - (z - magic);
  Vec<float> p = fill(0.001326465239f);
  p = p * r + 0.009671511324f;
  p = p * r + 0.05550733963f;
  p = p * r + 0.2402224212f;
  p = p * r + 0.6931469775f;
  p = p * r + 1.0f;
  return p * (Vec<float>)(((Bits)z << 23) + 0x3F800000u);
}

IF_INLINE Vec<double> exp2(Vec<double> x) {
  typedef uint64_t Bits __attribute__((vector_size(kVectorBytes)));
  const Vec<double> magic = fill(kWhole64);
  x = max(x, fill(-1023.0));
  const Vec<double> z = x + magic;
  const Vec<double> r = x - (z - magic);
  Vec<double> p = fill(4.4352818921179420508e-10);
  p = p * r + 7.0741056134994288393e-9;
  p = p * r + 1.0178198027112659334e-7;
  p = p * r + 1.321543308967195582e-6;
  p = p * r + 1.5252733489975452922e-5;
  p = p * r + 1.5403530462514451054e-4;
  p = p * r + 1.3333558146789935436e-3;
  p = p * r + 9.6181291075883352218e-3;
  p = p * r + 5.5504108664819921544e-2;
  p = p * r + 0.24022650695910156204;
  p = p * r + 0.69314718055994533046;
  p = p * r + 1.0;
  return p * (Vec<double>)(((Bits)z << 52) + 0x3FF0000000000000u);
}
#endif

// p log2 p of p = 2^x; 0 where p is, also of scores that overflow, as of rows that must never count next to a small S:
// below -2^11 neither type holds any 2^x.
IF_INLINE Vec<float> times_log2(Vec<float> p, Vec<float> x) { return p * max(x, fill(-0x1p11f)); }
IF_INLINE Vec<double> times_log2(Vec<double> p, Vec<double> x) { return p * max(x, fill(-0x1p11)); }

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
