// The dense pass over rows of bytes by exact products: queries and weights are numbers of three balanced digits of base
// 256, the highest last, so that a product with bytes is three products of bytes, put together in float64.
//
//     scores   s = grain (65536 c2 + 256 c1 + c0) - h |X|^2 + w log_w     c_j = <digit j of q, byte - centre>, exact
//     sums     acc += unit (65536 c2 + 256 c1 + c0 - centre P) / bytes    c_j = <digit j of p, byte>, exact
//
// A weight is p = unit (a whole number up to kLargest), where unit is a power of two for each block and lane, over
// kLargest. It is rounded up or down: see `evenly`. All sums are of the rounded weights, so that nothing but those and
// 2^x is off; and the query, which is another one nearby.
//
// Multiply-adds are spelled out, and the compiler fuses no others: every target gives the same bits.
#include "filter-inl.h"
#include "math-inl.h"
#include "parts.h"

namespace interp_fast {
namespace ISA {
namespace {

constexpr int kLanes = kTileSide, W = kWidth<double>, V = kLanes / W, F = kWidth<float>;
constexpr int kSums = kTileSide * kTileSide;
constexpr ptrdiff_t kQuad = 4 * kTileHalf;  // bytes of four rows, or dimensions, and half of the lanes
typedef Several<int32_t, W>::type SomeInts;
typedef Several<float, W>::type SomeFloats;
typedef Several<uint8_t, kVectorBytes>::type Bytes;

IF_INLINE ptrdiff_t padded(ptrdiff_t d, ptrdiff_t step) { return (d + step - 1) / step * step; }

// a b + c
IF_INLINE Vec<double> fused(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#else
  return _mm256_fmadd_pd(a, b, c);
#endif
}
IF_INLINE Vec<float> fused(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#else
  return _mm256_fmadd_ps(a, b, c);
#endif
}
// Every 16 bytes of the result are the first (or last) 8 of a and of b there, in turn.
IF_INLINE Bytes first_in_turn(Bytes a, Bytes b) {
#if defined(__AVX512F__)
  return (Bytes)_mm512_unpacklo_epi8((__m512i)a, (__m512i)b);
#else
  return (Bytes)_mm256_unpacklo_epi8((__m256i)a, (__m256i)b);
#endif
}
IF_INLINE Bytes last_in_turn(Bytes a, Bytes b) {
#if defined(__AVX512F__)
  return (Bytes)_mm512_unpackhi_epi8((__m512i)a, (__m512i)b);
#else
  return (Bytes)_mm256_unpackhi_epi8((__m256i)a, (__m256i)b);
#endif
}
IF_INLINE Vec<double> widen(SomeInts v) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtepi32_pd(0xFF, (__m256i)v);
#else
  return _mm256_cvtepi32_pd((__m128i)v);
#endif
}
// Halves of vectors, and what they are halves of.
IF_INLINE SomeInts lower(Ints v) {
#if defined(__AVX512F__)
  return (SomeInts)_mm512_maskz_extracti32x8_epi32(0xFF, (__m512i)v, 0);
#else
  return (SomeInts)_mm256_castsi256_si128((__m256i)v);
#endif
}
IF_INLINE SomeInts upper(Ints v) {
#if defined(__AVX512F__)
  return (SomeInts)_mm512_maskz_extracti32x8_epi32(0xFF, (__m512i)v, 1);
#else
  return (SomeInts)_mm256_extracti128_si256((__m256i)v, 1);
#endif
}
IF_INLINE Vec<float> both(SomeFloats a, SomeFloats b) {
#if defined(__AVX512F__)
  return _mm512_maskz_insertf32x8(0xFFFF, _mm512_castps256_ps512(a), b, 1);
#else
  return _mm256_insertf128_ps(_mm256_castps128_ps256(a), b, 1);
#endif
}
IF_INLINE SomeFloats narrow(Vec<double> v) { return __builtin_convertvector(v, SomeFloats); }

// kLargest 2^x for -60 <= x <= 0, then rounded up or down; `up` between 0 and 1 decides. Relative error of 2^x below
// 1.9e-7: 1.1e-7 is the polynomial's, the rest its roundings.
IF_INLINE Ints rounded_weight(Vec<float> x, float up, Vec<float>& squares) {
  const Vec<float> magic = fill(kWhole32), z = x + magic, r = x - (z - magic);
  Vec<float> p = fused(fill(0.001326465239f), r, fill(0.009671511324f));
  p = fused(p, r, fill(0.05550733963f));
  p = fused(p, r, fill(0.2402224212f));
  p = fused(p, r, fill(0.6931469775f));
  p = fused(p, r, fill(1.0f));
  p = (Vec<float>)((Ints)p + ((Ints)z << 23));
  const Vec<float> largest = fill(static_cast<float>(kLargest));
  const Ints rounded = __builtin_convertvector(fused(p, largest, fill(up)), Ints);
  const Vec<float> left = fused(p, largest, -__builtin_convertvector(rounded, Vec<float>));
  squares = fused(left, left, squares);
  return rounded;
}

// 2^n of a whole number; 0 where that is not normal.
double power_of_two(double n) {
  if (!(n >= -1022)) return 0;
  const uint64_t bits = static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52;
  double power;
  memcpy(&power, &bits, sizeof power);
  return power;
}

// A vector of bytes, or the first ones and 0.
IF_INLINE Bytes first_bytes(const char* from, ptrdiff_t count) {
  alignas(kVectorBytes) char bytes[kVectorBytes];
  if (count < kVectorBytes) {
    memset(bytes, 0, sizeof bytes);
    if (count > 0) memcpy(bytes, from, static_cast<size_t>(count));
    from = bytes;
  }
  Bytes v;
  memcpy(&v, from, sizeof v);
  return v;
}

void pack(const char* rows, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t d, ptrdiff_t block_rows, uint8_t* tiles,
          uint8_t* across) {
  constexpr ptrdiff_t kVector = kVectorBytes, kSixteen = kTileHalf;
  const ptrdiff_t steps = padded(d, kTileStep) / kTileStep, row_steps = block_rows / kTileStep;
  const ptrdiff_t dims = padded(d, kTileSide);
  for (ptrdiff_t i = 0; i < block_rows; i += kSixteen) {
    for (ptrdiff_t k = 0; k < steps * kTileStep; k += kVector) {
      uint8_t* const tile = tiles + (i * steps + k / kTileStep * kSixteen) * kTileStep + k % kTileStep;
      Bytes v[2][kSixteen];
#pragma GCC unroll 16
      for (ptrdiff_t r = 0; r < kSixteen; r++) {
        const char* const row = rows + (i + r < count ? i + r : count - 1) * stride;
        v[0][r] = first_bytes(row + k, d - k);
        memcpy(tile + r * kTileStep, &v[0][r], sizeof(Bytes));
      }
      // Four times every vector of the first half and its counterpart in turn: 16 x 16 bytes are transposed.
#pragma GCC unroll 4
      for (int turn = 0; turn < 4; turn++) {
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
          const Bytes a = v[turn % 2][r], b = v[turn % 2][r + 8];
          v[1 - turn % 2][2 * r] = first_in_turn(a, b), v[1 - turn % 2][2 * r + 1] = last_in_turn(a, b);
        }
      }
      for (ptrdiff_t q = 0; q < kVector && k + q < dims; q += kSixteen) {
        uint8_t* const to = across + ((k + q) * row_steps + i / kTileStep * kSixteen) * kTileStep + i % kTileStep;
#pragma GCC unroll 16
        for (ptrdiff_t j = 0; j < kSixteen; j++) {
          memcpy(to + j * kTileStep, reinterpret_cast<const char*>(&v[0][j]) + q, kSixteen);
        }
      }
    }
  }
}

// 65536 c2 + 256 c1 + c0
IF_INLINE Vec<double> whole(const int32_t (&c)[kDigits][kSums], int at) {
  Vec<double> total{};
  for (int j = kDigits - 1; j >= 0; j--) {
    SomeInts digit;
    memcpy(&digit, c[j] + at, sizeof digit);
    total = j == kDigits - 1 ? widen(digit) : fused(total, fill(256.0), widen(digit));
  }
  return total;
}

// take(n, v, start + <a_n, b>) of the rows n of some tiles and each vector v of lanes, where b are digits; no start: 0.
// Both units have work: while the digits of a tile are multiplied, what was made of the one before is taken.
template <class Take>
IF_INLINE void over_products(const uint8_t* a, ptrdiff_t tiles, const int8_t* b, ptrdiff_t steps, const int32_t* start,
                             Take take) {
  alignas(64) int32_t c[2][kDigits][kSums];
  const ptrdiff_t bytes = kTileSide * kTileStep * steps;  // of a tile, and of a digit
  for (ptrdiff_t t = 0; t <= tiles; t++) {
    for (int j = 0; j < kDigits; j++) {
      if (t < tiles) {
        tile_kernels.multiply(a + t * bytes, b + j * bytes, steps, start ? start + j * kLanes : nullptr, c[t % 2][j]);
      }
      const int last = t > 0 ? kTileSide * (j + 1) / kDigits : 0;
      for (int i = kTileSide * j / kDigits; i < last; i++) {
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) take((t - 1) * kTileSide + i, v, whole(c[(t - 1) % 2], i * kLanes + v * W));
      }
    }
  }
}

// The same of all rows of a block.
template <class Take>
IF_INLINE void over_rows(const Block<double>& block, const int8_t* q8, const int32_t* start, Take take) {
  over_products(block.x8, block.rows / kTileSide, q8, padded(block.d, kTileStep) / kTileStep, start, take);
}

void scores_of_panel(const Block<double>& block, Panel<double>& panel) {
  Vec<double> grain[V], h[V], w[V], peak[V];
  for (int v = 0; v < V; v++) {
    grain[v] = load(panel.grain + v * W), h[v] = -load(panel.h + v * W), w[v] = load(panel.w + v * W);
    peak[v] = fill(-__builtin_inf());
  }
  over_rows(block, panel.q8, panel.offset, [&](ptrdiff_t n, int v, Vec<double> t) IF_INLINED {
    const Vec<double> rest = fused(h[v], fill(block.n2[n]), w[v] * block.log_w[n]);
    const Vec<double> score = fused(t, grain[v], rest);
    store(panel.s + n * kLanes + v * W, score);
    peak[v] = max(score, peak[v]);
  });
  for (int v = 0; v < V; v++) store(panel.peak + v * W, peak[v]);
  panel.found = reaches_threshold<double, V>(block, panel);
}

void scores(const Block<double>& block, Panel<double>* panels, int count) {
  for (int p = 0; p < count; p++) scores_of_panel(block, panels[p]);
}

// Whole numbers up to kLargest in size, of four rows in the lanes of vectors, as digits into the tiles of the second
// product: kDigits of them, so many bytes apart.
IF_INLINE void store_digits(const Ints (&p)[4], ptrdiff_t row, int lane, ptrdiff_t apart, int8_t* to) {
  typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  constexpr uint32_t kLow = 0xFFFF, kEven = 0x00FF00FF;
  Bits shifted[4];  // the lower digits are unsigned, then
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++) shifted[r] = (Bits)(p[r] + 0x8080);
  // Two bytes of rows 0 and 2, of rows 1 and 3, then one of each.
  const auto pair = [&](int r) IF_INLINED { return (shifted[r] & kLow) | shifted[r + 2] << 16; };
  const Bits a = pair(0), b = pair(1);
  const Bits high_a = shifted[0] >> 16 | (shifted[2] & ~kLow), high_b = shifted[1] >> 16 | (shifted[3] & ~kLow);
  const Bits flip = Bits{} + 0x80808080;
  const Bits word[kDigits] = {((a & kEven) | (b & kEven) << 8) ^ flip, ((a >> 8 & kEven) | (b & ~kEven)) ^ flip,
                              (high_a & kEven) | (high_b & kEven) << 8};
  to += lane / kTileHalf * kTileHalf * (apart / kLanes) + row / 4 * kQuad + lane % kTileHalf * 4;
#pragma GCC unroll 3
  for (int j = 0; j < kDigits; j++) memcpy(to + j * apart, &word[j], sizeof word[j]);
}

// acc[k][lane] += factor[lane] (sum_n byte[n][k] p[n][lane] - centre[k] total[lane])
IF_INLINE void add_rows(const Block<double>& block, const int8_t* p, const double* total, const double* factor,
                        float* acc) {
  const uint8_t* const across = block.x8 + block.rows * padded(block.d, kTileStep);
  const ptrdiff_t d = block.d;
  over_products(across, padded(d, kTileSide) / kTileSide, p, block.rows / kTileStep, nullptr,
                [&](ptrdiff_t k, int v, Vec<double> t) IF_INLINED {
                  if (k >= d) return;
                  const Vec<double> sum = fused(fill(block.shift[k]), load(total + v * W), t);
                  float* const to = acc + k * kLanes + v * W;
                  SomeFloats at;
                  memcpy(&at, to, sizeof at);
                  at += narrow(sum * load(factor + v * W));
                  memcpy(to, &at, sizeof at);
                });
}

// Moves the references of lanes whose scores have left them behind.
void follow(Panel<double>& panel, const double* top) {
  alignas(64) float factor[kLanes];
  bool moved = false;
  for (int lane = 0; lane < kLanes; lane++) {
    double& reference = panel.reference[lane];
    factor[lane] = 1;
    if (!(top[lane] > reference + kRescale)) continue;
    const double f = power_of_two(reference - top[lane]);
    factor[lane] = static_cast<float>(f);
    rescale(panel.sums[lane], f, reference - top[lane]);
    reference = top[lane], moved = true;
  }
  for (ptrdiff_t k = 0; moved && k < panel.d * kLanes; k += F) {
    const Vec<float> f = load(factor + k % kLanes);
    store(panel.acc32 + k, load(panel.acc32 + k) * f);
    if (panel.acc_u32) store(panel.acc_u32 + k, load(panel.acc_u32 + k) * f);
  }
}

bool alive(const Block<double>& block, Panel<double>& panel) {
  auto any_alive = Vec<double>{} != Vec<double>{};
  for (int lane = 0; lane < kLanes; lane += W) {
    const Vec<double> peak = load(panel.peak + lane), error = score_error(block, panel, lane);
    any_alive |= peak + error >= load(panel.best + lane) - load(panel.cut + lane);
    store(panel.best + lane, max(load(panel.best + lane), peak - error));
  }
  return any(any_alive);
}

// What decides in which direction the numbers of each row of a block are rounded.
struct UpOrDown {
  alignas(64) float up[kDigitBlock];

  explicit UpOrDown(const Block<double>& block) {
    for (ptrdiff_t n = 0; n < block.rows; n++) {
      up[n] = static_cast<float>(static_cast<int32_t>(evenly(block.first + n))) * 0x1p-24f;
    }
  }
};

// What rows make of the lanes of one vector.
struct LaneSums {
  Ints p{};              // unsigned
  Vec<float> rounded{};  // the squares of what rounding them left out
  Vec<double> n2[2] = {}, p_p[2] = {}, p_score[2] = {};
};

// s - top -> the weights of the rows of a block in some lanes, as digits and summed; and s where they are to be kept.
template <bool Statistics, bool Keep>
LaneSums weigh_lanes(const Block<double>& block, const Panel<double>& panel, int lane, const double* top,
                     const double* unit, const float* up, int8_t* digits) {
  LaneSums sums;
  Vec<double> peak[2], scale[2], reference[2];
  for (int i = 0; i < 2; i++) {
    peak[i] = load(top + lane + i * W), scale[i] = load(unit + lane + i * W);
    reference[i] = load(panel.reference + lane + i * W);
  }
  for (ptrdiff_t n = 0; n < block.rows; n += 4) {
    Ints p[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
      double* const s = panel.s + (n + r) * kLanes + lane;
      const Vec<double> score[2] = {load(s), load(s + W)};
      const Vec<float> below = both(narrow(score[0] - peak[0]), narrow(score[1] - peak[1]));
      p[r] = rounded_weight(max(below, fill(-60.0f)), up[n + r], sums.rounded);
      sums.p += p[r];
      const Vec<double> value[2] = {widen(lower(p[r])), widen(upper(p[r]))}, n2 = fill(block.n2[n + r]);
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        sums.n2[i] = fused(value[i], n2, sums.n2[i]);
        if (Statistics) {
          sums.p_p[i] = fused(value[i], value[i], sums.p_p[i]);
          sums.p_score[i] = fused(value[i], score[i] - reference[i], sums.p_score[i]);
        }
        if (Keep) store(s + i * W, value[i] * scale[i]);
      }
    }
    store_digits(p, n, lane, kLanes * block.rows, digits);
  }
  return sums;
}

void add_panel(const Block<double>& block, Panel<double>& panel, const float* up, bool statistics) {
  panel.alive_rows = 0;
  if (!alive(block, panel)) return;
  panel.alive_rows = block.rows;
  alignas(64) double top[kLanes], unit[kLanes], factor[kLanes], p_sum[kLanes];
  for (int lane = 0; lane < kLanes; lane++) top[lane] = __builtin_ceil(panel.peak[lane]);
  follow(panel, top);
  for (int lane = 0; lane < kLanes; lane++) {
    unit[lane] = power_of_two(top[lane] - panel.reference[lane]) * (1 / kLargest);
    factor[lane] = unit[lane] * block.inverse;
  }
  alignas(64) int8_t digits[kDigits * kLanes * kDigitBlock];
  static_assert(kDigitBlock * (kLargest + 1) < 0x1p32);  // sums of weights
  for (int lane = 0; lane < kLanes; lane += F) {
    const auto weigh = panel.u8     ? weigh_lanes<true, true>
                       : statistics ? weigh_lanes<true, false>
                                    : weigh_lanes<false, false>;
    const LaneSums sums = weigh(block, panel, lane, top, unit, up, digits);
    for (int i = 0; i < F; i++) {
      const double u = unit[lane + i], total = static_cast<double>(static_cast<uint32_t>(sums.p[i]));
      p_sum[lane + i] = total;
      panel.sums[lane + i] += {.p = u * total,
                               .p_n2 = u * sums.n2[i / W][i % W],
                               .p_p = u * u * sums.p_p[i / W][i % W],
                               .p_score = u * sums.p_score[i / W][i % W],
                               .units = u * u * static_cast<double>(block.rows),
                               .rounded = u * u * static_cast<double>(sums.rounded[i])};
    }
  }
  add_rows(block, digits, p_sum, factor, panel.acc32);
}

void add(const Block<double>& block, Panel<double>* panels, int count, bool statistics) {
  const FlushSubnormals flush;
  const UpOrDown rounding(block);
  for (int p = 0; p < count; p++) add_panel(block, panels[p], rounding.up, statistics);
}

// The weights p <u, X> have signs, and a unit of their own.
void add_along(const Block<double>& block, Panel<double>& panel) {
  const FlushSubnormals flush;
  const UpOrDown rounding(block);
  const Vec<double> grain = fill(block.inverse / kLargest);
  Vec<double> most[V] = {};
  over_rows(block, panel.u8, panel.u_offset, [&](ptrdiff_t n, int v, Vec<double> t) IF_INLINED {
    const Vec<double> along = t * grain * load(panel.s + n * kLanes + v * W);
    store(panel.su + n * kLanes + v * W, along);
    most[v] = max(along < 0 ? -along : along, most[v]);
  });
  alignas(64) double inverse[kLanes], factor[kLanes], total[kLanes];
  for (int lane = 0; lane < kLanes; lane++) {
    const double largest = most[lane / W][lane % W];
    inverse[lane] = largest > 0 ? kLargest / largest : 0, factor[lane] = largest / kLargest * block.inverse;
    if (!(inverse[lane] < __builtin_inf())) inverse[lane] = factor[lane] = 0;
  }
  alignas(64) int8_t digits[kDigits * kLanes * kDigitBlock];
  for (int lane = 0; lane < kLanes; lane += F) {
    Vec<double> sum[2] = {};
    for (ptrdiff_t n = 0; n < block.rows; n += 4) {
      Ints p[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; r++) {
        SomeInts part[2];
        const double up = static_cast<double>(rounding.up[n + r]) - 0.5;
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
          const Vec<double> along = load(panel.su + (n + r) * kLanes + lane + i * W);
          const Vec<double> rounded = (along * load(inverse + lane + i * W) + up + kWhole64) - kWhole64;
          part[i] = __builtin_convertvector(rounded, SomeInts);
          sum[i] += rounded;
        }
        memcpy(&p[r], part, sizeof part);
      }
      store_digits(p, n, lane, kLanes * block.rows, digits);
    }
    store(total + lane, sum[0]), store(total + lane + W, sum[1]);
  }
  add_rows(block, digits, total, factor, panel.acc_u32);
}

}  // namespace

const DigitKernels digit_kernels = {.pack = pack,
                                    .panel = {.width = kLanes,
                                              .gemv = false,
                                              .int8 = false,
                                              .tiles = &tile_kernels,
                                              .scores = scores,
                                              .sum_exp = sum_exp<double, V>,
                                              .second_best = second_best<double, V>,
                                              .find = find<double, V>,
                                              .add = add,
                                              .add_along = add_along}};

}  // namespace ISA
}  // namespace interp_fast
