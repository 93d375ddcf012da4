// Scores from products of quantized rows and queries, for passes that only filter.
//
// A row is unsigned bytes times its scale, a query signed bytes; one instruction multiplies four pairs of bytes and
// adds them to an integer, four times what it does in float32. Where there is no such instruction three do the same,
// for queries of smaller bytes: they hold sums of two products in 16 bits on the way. Where there are tiles
// (tiles.cpp), those multiply. All give the same integers, and what is made of them is the same. What quantization
// leaves out of <q, X> is at most
//
//     |<q, X> - scale <q8, bytes + offset>| <= |q8| |residual| + |q - q8| |X|
//
// (Cauchy-Schwarz), which the driver puts into slack4 and slack1. The integers are exact.
#include "filter-inl.h"
#include "math-inl.h"
#include "parts.h"
#include "product-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// sum + the four products of bytes in each lane, those of the query at most kQueryByte in size
#if defined(IF_TILES)
constexpr int kQueryByte = 127;
#elif defined(__AVX512VNNI__)
constexpr int kQueryByte = 127;
IF_INLINE Ints dot4(Ints sum, Ints row, Ints query) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)row, (__m512i)query);
}
#else
constexpr int kQueryByte = 64;  // 2 255 64 < 2^15
IF_INLINE Ints dot4(Ints sum, Ints row, Ints query) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)row, (__m256i)query);
  return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#endif

#if defined(IF_TILES)
constexpr int kInt8Rows = 8, kInt8Vectors = kTileSide / kWidth<float>;  // that scores are formed of together

// As below, of tiles in the first-level cache.
double limit_int8(int64_t rounds) {
  constexpr ptrdiff_t kSteps = 4, kBytes = 2 * kTileHalf * kTileStep * kSteps;
  alignas(64) uint8_t rows[kBytes];
  alignas(64) int8_t queries[kBytes];
  alignas(64) int32_t sums[kTileSide * kTileSide];
  memset(rows, 1, sizeof rows), memset(queries, 1, sizeof queries);
  const int64_t calls = rounds / 16 + 1;
  tile_kernels.begin();
  for (int64_t k = 0; k < calls; k++) tile_kernels.multiply(rows, queries, kSteps, nullptr, sums);
  tile_kernels.end();
  return 2.0 * kTileSide * kTileSide * kTileStep * kSteps * double(calls);
}

// Gives take(n, sum) the integers of the rows of a block, a few from row n on. The next tile is in the making while
// those of one are taken.
template <int V, class Take>
IF_INLINE void over_integers(const Block<float>& block, const Panel<float>& panel, Take take) {
  constexpr int R = kInt8Rows;
  const ptrdiff_t steps = (block.d + kTileStep - 1) / kTileStep;
  // Whatever the tile asks for is fetched at once: there are too few to pace it.
  Ahead ahead(block, panel, 0);
  const ptrdiff_t share = block.ahead_bytes / panel.of / Ahead::kBytes * kTileSide / block.rows;
  alignas(64) int32_t sums[2][kTileSide * kTileSide];
  for (ptrdiff_t n = 0; n <= block.rows; n += kTileSide) {
    if (n < block.rows) {
      for (ptrdiff_t line = 0; line <= share; line++) ahead.step();
      tile_kernels.multiply(block.x8 + n * steps * kTileStep, panel.q8, steps, panel.offset, sums[n / kTileSide % 2]);
    }
    if (n == 0) continue;
    const ptrdiff_t first = n - kTileSide;
    const int32_t* from = sums[first / kTileSide % 2];
    for (ptrdiff_t row = first; row < n; row += R) {
      Ints sum[R][V];
#pragma GCC unroll 8
      for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < V; v++, from += kWidth<float>) memcpy(&sum[i][v], from, sizeof(Ints));
      }
      take(row, sum);
    }
  }
}
#else
constexpr int kInt8Rows = kManyRegisters ? 12 : 4;  // of a tile: what the registers hold; kTile is a multiple
constexpr int kInt8Vectors = 2;

// dot4 in independent chains, as limits-inl.h has multiply-adds. Returns the operations done, two for a pair of bytes.
double limit_int8(int64_t rounds) {
  constexpr int kChains = kManyRegisters ? 24 : 12;
  volatile int32_t ones = 0x01010101;
  const Ints query = Ints{} + ones;
  Ints row = query;
  Ints chain[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; i++) chain[i] = Ints{} + i;
  for (int64_t k = 0; k < rounds; k++) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; i++) {
      asm volatile("" : "+v"(row));  // it may have changed: multiply again
      chain[i] = dot4(chain[i], row, query);
    }
  }
  Ints total = chain[0];
#pragma GCC unroll 24
  for (int i = 1; i < kChains; i++) total ^= chain[i];
  volatile int32_t sink = total[0];
  (void)sink;
  return 2.0 * kChains * kVectorBytes * double(rounds);
}

// The integers of the rows of a tile from row n on.
template <int V>
IF_INLINE void integers_of_tile(const Block<float>& block, const Panel<float>& panel, ptrdiff_t n, Ahead& ahead,
                                Ints (&sum)[kInt8Rows][V]) {
  constexpr int R = kInt8Rows, W = kWidth<float>;
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) memcpy(&sum[i][v], panel.offset + v * W, sizeof(Ints));
  }
  const ptrdiff_t stride = block.x8_stride;
  const uint8_t* pointer[(R + 2) / 3];  // two more rows are within reach of an address with a scaled index
#pragma GCC unroll 4
  for (int i = 0; i < (R + 2) / 3; i++) pointer[i] = block.x8 + (n + 3 * i) * stride;
  const int8_t* q = panel.q8;
  for (ptrdiff_t k = 0; k < block.d; k += 4) {
    ahead.step();
    Ints x[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++, q += kVectorBytes) memcpy(&x[v], q, sizeof(Ints));
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      int32_t four;
      memcpy(&four, pointer[i / 3] + (i % 3) * stride, 4);
      const Ints row = four - Ints{};
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sum[i][v] = dot4(sum[i][v], row, x[v]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; i++) pointer[i] += 4;
  }
}

// Gives take(n, sum) the integers of the rows of a block, a tile from row n on.
template <int V, class Take>
IF_INLINE void over_integers(const Block<float>& block, const Panel<float>& panel, Take take) {
  // A little ahead with every four dimensions.
  Ahead ahead(block, panel, (block.d + 3) / 4 * (block.rows / kInt8Rows));
  for (ptrdiff_t n = 0; n < block.rows; n += kInt8Rows) {
    Ints sum[kInt8Rows][V];
    integers_of_tile<V>(block, panel, n, ahead, sum);
    take(n, sum);
  }
}
#endif

// s[i][v] of the rows of a tile from row n on. Without `Weighted` all weights are equal.
template <int V, bool Weighted>
IF_INLINE void int8_scores_of_tile(const Block<float>& block, const Panel<float>& panel, ptrdiff_t n,
                                   const Ints (&sum)[kInt8Rows][V], Vec<float> (&s)[kInt8Rows][V]) {
  constexpr int R = kInt8Rows, W = kWidth<float>;
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      Vec<float> rest = -load(panel.h + v * W) * block.n2[n + i];
      if (Weighted) rest += load(panel.w + v * W) * block.log_w[n + i];
      s[i][v] = __builtin_convertvector(sum[i][v], Vec<float>) * block.scale[n + i] + rest;
    }
  }
}

template <int V>
void int8_scores_of_panel(const Block<float>& block, Panel<float>& panel) {
  constexpr int W = kWidth<float>;
  Vec<float> peak[V];
  for (int v = 0; v < V; v++) peak[v] = fill(-__builtin_inff());
  over_integers<V>(block, panel, [&](ptrdiff_t n, const Ints(&sum)[kInt8Rows][V]) IF_INLINED {
    Vec<float> s[kInt8Rows][V];
    int8_scores_of_tile<V, true>(block, panel, n, sum, s);
#pragma GCC unroll 12
    for (int i = 0; i < kInt8Rows; i++) {
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) {
        store(panel.s + ((n + i) * V + v) * W, s[i][v]);
        peak[v] = max(s[i][v], peak[v]);
      }
    }
  });
  for (int v = 0; v < V; v++) store(panel.peak + v * W, peak[v]);
  panel.found = reaches_threshold<float, V>(block, panel);
}

template <int V>
void int8_scores(const Block<float>& block, Panel<float>* panels, int count) {
  for (int p = 0; p < count; p++) int8_scores_of_panel<V>(block, panels[p]);
}

// Scores that may reach their thresholds are rare: those of a tile leave its registers only if one of them does.
template <int V, bool Weighted>
ptrdiff_t find_rows(const Block<float>& block, const Panel<float>& panel, int32_t* found, float* score) {
  constexpr int R = kInt8Rows, W = kWidth<float>;
  Vec<float> limit[V];
  for (int v = 0; v < V; v++) limit[v] = load(panel.threshold + v * W) - score_error(block, panel, v * W);
  ptrdiff_t count = 0;
  over_integers<V>(block, panel, [&](ptrdiff_t n, const Ints(&sum)[R][V]) IF_INLINED {
    Vec<float> s[R][V];
    int8_scores_of_tile<V, Weighted>(block, panel, n, sum, s);
    Vec<float> peak[V];
    for (int v = 0; v < V; v++) peak[v] = s[0][v];
#pragma GCC unroll 12
    for (int i = 1; i < R; i++) {
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) peak[v] = max(s[i][v], peak[v]);
    }
    auto reached = ~(peak[0] < limit[0]);
    for (int v = 1; v < V; v++) reached |= ~(peak[v] < limit[v]);
    if (!any(reached)) return;
    alignas(kVectorBytes) float tile[R * V * W];
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) store(tile + (i * V + v) * W, s[i][v]);
    }
    for (int at = 0; at < R * V * W; at += W) {
      over_lanes<float>(~(load(tile + at) < limit[at / W % V]), [&](int lane) IF_INLINED {
        found[count] = static_cast<int32_t>(n * V * W + at + lane);
        score[count++] = tile[at + lane];
      });
    }
  });
  return count;
}

template <int V>
ptrdiff_t int8_find(const Block<float>& block, const Panel<float>& panel, int32_t* found, float* score) {
  return (block.span > 0 ? find_rows<V, true> : find_rows<V, false>)(block, panel, found, score);
}

template <int V>
void integers(const Block<float>& block, const Panel<float>& panel, int32_t* out) {
  over_integers<V>(block, panel, [&](ptrdiff_t n, const Ints(&sum)[kInt8Rows][V]) IF_INLINED {
    memcpy(out + n * V * kWidth<float>, sum, sizeof sum);
  });
}

void quantize(const float* x, ptrdiff_t d, uint8_t* bytes, float* scale, float* residual) {
  constexpr int W = kWidth<float>;
  Vec<float> largest{}, squares{};
  for (ptrdiff_t k = 0; k < d; k += W) {
    const Vec<float> v = load(x + k);
    largest = max(v < 0 ? -v : v, largest);
  }
  const float top = highest<float>(largest);
  const float inverse = 127 / top;
  // All residual: rows too long for float32, which are never left out, and rows too short for their scale.
  const bool too_long = !(top < __builtin_inff());
  if (too_long || !(inverse < __builtin_inff())) {
    for (ptrdiff_t k = 0; k < d; k++) bytes[k] = 128;
    *scale = too_long ? __builtin_inff() : 0;
    *residual = too_long ? __builtin_inff() : top * __builtin_sqrtf(static_cast<float>(d));
    return;
  }
  for (ptrdiff_t k = 0; k < d; k += W) {
    const Vec<float> v = load(x + k), whole = (v * inverse + kWhole32) - kWhole32, left = v * inverse - whole;
    const Ints shifted = __builtin_convertvector(whole, Ints) + 128;
    const auto narrow = __builtin_convertvector(shifted, Several<uint8_t, W>::type);
    memcpy(bytes + k, &narrow, sizeof narrow);
    squares += left * left;
  }
  *scale = top / 127;
  *residual = top / 127 * __builtin_sqrtf(sum<float>(squares));
}

RowSums quantize_on_grid(const double* x, double scale, const double* offsets, ptrdiff_t d, uint8_t* bytes) {
  constexpr int W = kWidth<double>;
  const double inverse = 1 / scale;
  Vec<double> left2 = {}, largest = {};
  for (ptrdiff_t k = 0; k < d; k += W) {
    const Vec<double> v = load(x + k), offset = load(offsets + k);
    const Vec<double> whole = (v * inverse - offset + kWhole64) - kWhole64;
    const Vec<double> byte = -max(-max(whole, fill(0.0)), fill(-255.0)), left = v - scale * (byte + offset);
    const auto wide = __builtin_convertvector(byte, Several<int32_t, W>::type);
    const auto narrow = __builtin_convertvector(wide, Several<uint8_t, W>::type);
    memcpy(bytes + k, &narrow, sizeof narrow);
    left2 += left * left, largest = max(left < 0 ? -left : left, largest);
  }
  return {sum<double>(left2), highest<double>(largest)};
}

QuerySums quantize_query(const double* x, double alpha, const double* center, double steps, const double* offsets,
                         double offset, ptrdiff_t d, int8_t* bytes, ptrdiff_t width) {
  constexpr int W = kWidth<double>;  // a multiple of 4
  Vec<double> left2 = {}, length2 = {}, along = {};
  for (ptrdiff_t k = 0; k < d; k += W) {
    const ptrdiff_t count = d - k < W ? d - k : W;
    const auto some = [&](const double* from) IF_INLINED {
      if (count == W) return load(from + k);
      double padded[W] = {};
      memcpy(padded, from + k, static_cast<size_t>(count) * sizeof(double));
      return load(padded);
    };
    const Vec<double> value = steps * (some(x) - alpha * some(center)), whole = (value + kWhole64) - kWhole64;
    left2 += (value - whole) * (value - whole), length2 += whole * whole;
    along += whole * (offsets ? some(offsets) : fill(offset));
    const auto wide = __builtin_convertvector(whole, Several<int32_t, W>::type);
    const auto narrow = __builtin_convertvector(wide, Several<int8_t, W>::type);
    for (ptrdiff_t j = 0; j < count; j += 4) {
      memcpy(bytes + (k + j) * width, reinterpret_cast<const char*>(&narrow) + j, 4);
    }
  }
  return {sum<double>(left2), sum<double>(length2), sum<double>(along)};
}

}  // namespace

#if defined(IF_TILES)
constexpr const TileKernels* kTileKernels = &tile_kernels;
#else
constexpr const TileKernels* kTileKernels = nullptr;
#endif

const Int8Kernels int8_kernels = {.most = kQueryByte,
                                  .quantize = quantize,
                                  .quantize_on_grid = quantize_on_grid,
                                  .quantize_query = quantize_query,
                                  .panel = {.width = kInt8Vectors * kWidth<float>,
                                            .gemv = false,
                                            .int8 = true,
                                            .tiles = kTileKernels,
                                            .scores = int8_scores<kInt8Vectors>,
                                            .sum_exp = nullptr,
                                            .second_best = second_best<float, kInt8Vectors>,
                                            .find = nullptr,
                                            .add = nullptr,
                                            .add_along = nullptr},
                                  .find = int8_find<kInt8Vectors>,
                                  .integers = integers<kInt8Vectors>,
                                  .limit = limit_int8};

}  // namespace ISA
}  // namespace interp_fast
