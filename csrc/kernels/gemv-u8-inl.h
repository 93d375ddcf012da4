// The two products of gemv-inl.h for rows of bytes, in integers.
//
// The centre of byte rows is made of whole numbers, so that X = inverse (byte - centre) is exact. The other factor, a
// query or the weights of a block, is rounded to two digits of 16 bits,
//
//     y = (hi + lo / 2^bits) / scale    with scale a power of two,
//
// and then every sum is exact: what it is off by is the rounding of y, some 2^-26 of the largest entry, and that of the
// final conversion. Multiplying pairs of 16-bit numbers takes half the instructions of converting bytes to floats.
// Integers wrap around on their way, but not at its end: |sum hi (byte - centre)| <= |hi| |byte - centre| < 2^31.
#pragma once

#include <math.h>

#include "kernels.h"
#include "math-inl.h"
#include "rows-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

#if defined(__SSE4_1__)
typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
typedef int16_t Shorts __attribute__((vector_size(kVectorBytes)));
typedef int16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));  // as many as Words
constexpr int kWords = kVectorBytes / 4, kShorts = kVectorBytes / 2;
constexpr ptrdiff_t kU8Dims = 64;     // fewest numbers of a row: at least a vector
constexpr ptrdiff_t kU8Chunk = 2048;  // of dimensions whose sum of products fits
// Integer work takes so many instructions for a cache line that the processor cannot see far enough ahead by itself.
constexpr ptrdiff_t kU8Ahead = 16384;
constexpr int kQueryLoBits = 12, kWeightLoBits = 15;

IF_INLINE Shorts widen_u8(const uint8_t* in) {
#if defined(__AVX512BW__)
  return (Shorts)_mm512_maskz_cvtepu8_epi16(~__mmask32{}, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
#elif defined(__AVX2__)
  return (Shorts)_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
#else
  return (Shorts)_mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in)));
#endif
}
// sum[i] + a[2i] b[2i] + a[2i + 1] b[2i + 1]
IF_INLINE Words add_products(Words sum, Shorts a, Shorts b) {
#if defined(__AVX512BW__)
  return sum + (Words)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return sum + (Words)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
  return sum + (Words)_mm_madd_epi16((__m128i)a, (__m128i)b);
#endif
}
// Numbers of a and b in turn: from the first and the second half of every 16 bytes.
IF_INLINE void interleave(Shorts a, Shorts b, Shorts (&out)[2]) {
#if defined(__AVX512BW__)
  out[0] = (Shorts)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b);
  out[1] = (Shorts)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  out[0] = (Shorts)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b);
  out[1] = (Shorts)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b);
#else
  out[0] = (Shorts)_mm_unpacklo_epi16((__m128i)a, (__m128i)b);
  out[1] = (Shorts)_mm_unpackhi_epi16((__m128i)a, (__m128i)b);
#endif
}

// What sums over interleaved numbers are in the order of those.
IF_INLINE void put_in_order([[maybe_unused]] Words (&sums)[2]) {
#if defined(__AVX512F__)
  const __m512i a = (__m512i)sums[0], b = (__m512i)sums[1];
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  sums[0] = (Words)_mm512_permutex2var_epi32(a, first, b), sums[1] = (Words)_mm512_permutex2var_epi32(a, second, b);
#elif defined(__AVX2__)
  const __m256i a = (__m256i)sums[0], b = (__m256i)sums[1];
  sums[0] = (Words)_mm256_permute2x128_si256(a, b, 0x20), sums[1] = (Words)_mm256_permute2x128_si256(a, b, 0x31);
#endif
}
// The sums of a and of b.
IF_INLINE void sum_both(Words a, Words b, uint32_t* to) {
  Words both;
#if defined(__AVX512F__)
  both = (Words)_mm512_maskz_unpacklo_epi32(0xFFFF, (__m512i)a, (__m512i)b) +
         (Words)_mm512_maskz_unpackhi_epi32(0xFFFF, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  both = (Words)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b) + (Words)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b);
#else
  both = (Words)_mm_unpacklo_epi32((__m128i)a, (__m128i)b) + (Words)_mm_unpackhi_epi32((__m128i)a, (__m128i)b);
#endif
  const auto pair = fold<uint32_t, kWords, 2>(both);
  memcpy(to, &pair, sizeof pair);
}

// The centre of some dimensions in bytes, from their shifts.
IF_INLINE Words u8_centers(const Block<float>& block, Vec<float> shift) {
  return (Words) __builtin_convertvector(shift * (-1 / block.inverse), Ints);
}

// The largest n with 2^n v <= 2^bits for which 2^n is a float.
IF_INLINE int scale_to(float v, int bits) {
  int exponent = 0;
  if (v > 0) frexpf(v, &exponent);
  return bits - exponent < 127 ? bits - exponent : 127;
}

// f(k, the numbers from k on), with zeros after the last.
template <class F>
IF_INLINE void by_vectors(const float* y, ptrdiff_t count, F f) {
  ptrdiff_t k = 0;
  for (; k + kWords <= count; k += kWords) f(k, load(y + k));
  if (k == count) return;
  float rest[kWords] = {};
  memcpy(rest, y + k, static_cast<size_t>(count - k) * sizeof(float));
  f(k, load(rest));
}

// y scale in digits.
IF_INLINE void split(Vec<float> y, float scale, int lo_bits, Ints& hi, Ints& lo) {
  const Vec<float> magic = fill(kWhole32);
  const Vec<float> whole = (y * scale + magic) - magic;
  const Vec<float> rest = ((y * scale - whole) * static_cast<float>(1 << lo_bits) + magic) - magic;
  hi = __builtin_convertvector(whole, Ints);
  lo = __builtin_convertvector(rest, Ints);
}
IF_INLINE void store_digits(int16_t* to, Ints digits) {
  const auto narrow = __builtin_convertvector(digits, Narrow);
  memcpy(to, &narrow, sizeof narrow);
}

// A stretch of a query in digits, as rows meet it: by whole vectors, and then the vector that ends with the row, in
// which numbers that were in the others are 0.
struct U8Query {
  alignas(kVectorBytes) int16_t hi[kU8Chunk + kShorts], lo[kU8Chunk + kShorts];
  uint32_t hi_center, lo_center;  // their sums of products with the centre
  float hi_unit, lo_unit;         // what they are worth in a score

  void fill(const Block<float>& block, const float* q, ptrdiff_t first, ptrdiff_t count) {
    Vec<float> largest = {}, norm2 = {};
    by_vectors(q + first, count, [&](ptrdiff_t, Vec<float> y) IF_INLINED {
      largest = max(largest, max(y, -y));
      norm2 += y * y;
    });
    const float farthest = block.max_norm / block.inverse;
    const int by_sum = scale_to(1.01f * __builtin_sqrtf(sum<float>(norm2)) * farthest, 30);
    const int by_size = scale_to(highest<float>(largest), 14);
    const float scale = ldexpf(1, by_sum < by_size ? by_sum : by_size);
    hi_unit = block.inverse / scale, lo_unit = hi_unit / static_cast<float>(1 << kQueryLoBits);
    Words hi_sum = {}, lo_sum = {};
    by_vectors(q + first, count, [&](ptrdiff_t k, Vec<float> y) IF_INLINED {
      Ints a, b;
      split(y, scale, kQueryLoBits, a, b);
      store_digits(hi + k, a), store_digits(lo + k, b);
      float shift[kWords] = {};
      const ptrdiff_t left = count - k < kWords ? count - k : kWords;
      memcpy(shift, block.shift + first + k, static_cast<size_t>(left) * sizeof(float));
      const Words center = u8_centers(block, load(shift));
      hi_sum += center * (Words)a, lo_sum += center * (Words)b;
    });
    hi_center = sum<uint32_t>(hi_sum), lo_center = sum<uint32_t>(lo_sum);
    const ptrdiff_t rest = count % kShorts;
    const auto move = [&](int16_t* end) {
      memmove(end + kShorts - rest, end, static_cast<size_t>(rest) * sizeof(int16_t));
      memset(end, 0, static_cast<size_t>(kShorts - rest) * sizeof(int16_t));
    };
    if (rest > 0) move(hi + count - rest), move(lo + count - rest);
  }
};

// s[n] (+)= <q, X[n]>
__attribute__((noinline)) void u8_dot(const Block<float>& block, const float* q, float* s) {
  U8Query query;
  uint32_t digits[2 * kGemvBlock];  // of the products of each row
  for (ptrdiff_t first = 0; first < block.d; first += kU8Chunk) {
    const ptrdiff_t count = block.d - first < kU8Chunk ? block.d - first : kU8Chunk;
    const ptrdiff_t whole = count / kShorts * kShorts;
    query.fill(block, q, first, count);
    for (ptrdiff_t n = 0; n < block.rows; n++) {
      const uint8_t* const x = reinterpret_cast<const uint8_t*>(block.stored[n]) + first;
      Words hi[2] = {}, lo[2] = {};
      const auto step = [&](ptrdiff_t k, ptrdiff_t digit, int chain) IF_INLINED {
        Shorts a, b;
        memcpy(&a, query.hi + digit, sizeof a);
        memcpy(&b, query.lo + digit, sizeof b);
        const Shorts row = widen_u8(x + k);
        hi[chain] = add_products(hi[chain], row, a);
        lo[chain] = add_products(lo[chain], row, b);
      };
      ptrdiff_t k = 0;
      for (; k + 2 * kShorts <= count; k += 2 * kShorts) {
        for (int line = 0; line < 2 * kShorts; line += 64) __builtin_prefetch(x + k + line + kU8Ahead, 0, 2);
        step(k, k, 0), step(k + kShorts, k + kShorts, 1);
      }
      __builtin_prefetch(x + count - 1 + kU8Ahead, 0, 2);  // no line is left out, or all would wait for that one
      if (k < whole) step(k, k, 0);
      if (whole < count) step(count - kShorts, whole, 1);
      sum_both(hi[0] + hi[1], lo[0] + lo[1], digits + 2 * n);
    }
    for (ptrdiff_t n = 0; n < block.rows; n++) {
      const int32_t hi = static_cast<int32_t>(digits[2 * n] - query.hi_center);
      const int32_t lo = static_cast<int32_t>(digits[2 * n + 1] - query.lo_center);
      const float score = query.hi_unit * static_cast<float>(hi) + query.lo_unit * static_cast<float>(lo);
      s[n] = first > 0 ? s[n] + score : score;
    }
  }
}

// acc[k] += sum_n p[n] X[n][k]
__attribute__((noinline)) void u8_add(const Block<float>& block, const float* p, float* acc) {
  // Rows whose weight is not 0, in pairs, with the digits of their weights.
  const uint8_t* x[kGemvBlock + 1];
  int16_t hi[kGemvBlock + 1], lo[kGemvBlock + 1];
  Vec<float> largest = {};
  for (ptrdiff_t n = 0; n < block.rows; n += kWords) largest = max(largest, max(load(p + n), -load(p + n)));
  const float scale = ldexpf(1, scale_to(highest<float>(largest), 14));
  Words hi_sum = {}, lo_sum = {};
  for (ptrdiff_t n = 0; n < block.rows; n += kWords) {
    Ints a, b;
    split(load(p + n), scale, kWeightLoBits, a, b);
    store_digits(hi + n, a), store_digits(lo + n, b);
    hi_sum += (Words)a, lo_sum += (Words)b;
  }
  const uint32_t hi_total = sum<uint32_t>(hi_sum), lo_total = sum<uint32_t>(lo_sum);
  ptrdiff_t rows = 0;
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    x[rows] = reinterpret_cast<const uint8_t*>(block.stored[n]);
    hi[rows] = hi[n], lo[rows] = lo[n];
    rows += (hi[n] | lo[n]) != 0;
  }
  if (rows == 0) return;
  if (rows % 2 != 0) x[rows] = x[0], hi[rows] = lo[rows] = 0, rows++;
  const float hi_unit = block.inverse / scale, lo_unit = hi_unit / static_cast<float>(1 << kWeightLoBits);
  const auto columns = [&](ptrdiff_t k, auto vectors, ptrdiff_t skipped) IF_INLINED {
    constexpr int V = vectors.value;
    Words a[V][2] = {}, b[V][2] = {};
    for (ptrdiff_t n = 0; n < rows; n += 2) {
      uint32_t hi_pair, lo_pair;
      memcpy(&hi_pair, hi + n, sizeof hi_pair);
      memcpy(&lo_pair, lo + n, sizeof lo_pair);
      const Shorts by_hi = (Shorts)(hi_pair - Words{}), by_lo = (Shorts)(lo_pair - Words{});
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) {
        Shorts pairs[2];
        interleave(widen_u8(x[n] + k + v * kShorts), widen_u8(x[n + 1] + k + v * kShorts), pairs);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
          a[v][i] = add_products(a[v][i], pairs[i], by_hi);
          b[v][i] = add_products(b[v][i], pairs[i], by_lo);
        }
      }
    }
    for (int v = 0; v < V; v++) {
      put_in_order(a[v]), put_in_order(b[v]);
      float sums[kShorts];
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        const Words center = u8_centers(block, load(block.shift + k + v * kShorts + i * kWords));
        const auto hi_sums = __builtin_convertvector((Ints)(a[v][i] - center * hi_total), Vec<float>);
        const auto lodim_sums = __builtin_convertvector((Ints)(b[v][i] - center * lo_total), Vec<float>);
        store(sums + i * kWords, hi_unit * hi_sums + lo_unit * lodim_sums);
      }
      for (ptrdiff_t at = skipped; at < kShorts; at++) acc[k + v * kShorts + at] += sums[at];
    }
  };
  ptrdiff_t k = 0;
  for (; k + 2 * kShorts <= block.d; k += 2 * kShorts) columns(k, Constant<2>{}, 0);
  if (k + kShorts <= block.d) columns(k, Constant<1>{}, 0), k += kShorts;
  if (k < block.d) columns(block.d - kShorts, Constant<1>{}, kShorts - (block.d - k));
}
#endif

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
