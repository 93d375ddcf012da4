// The dense pass over rows of bytes by exact products: queries and weights are numbers of three balanced digits of base
// 256, the highest first, so that a product with bytes is three products of bytes, put together in float64.
//
//     scores   s = grain (65536 c2 + 256 c1 + c0) - h |X|^2 + w log_w     c_j = <digit j of q, byte - centre>, exact
//     sums     acc += unit (65536 c2 + 256 c1 + c0 - centre P) / bytes    c_j = <digit j of p, byte>, exact
//
// A weight is p = unit (a whole number up to kLargest), where unit is a power of two for each block and lane. It is
// rounded up or down by a sequence without bias: to nearest, all light rows of a block would be left out together. All
// sums are of the rounded weights, so that nothing but those and 2^x is off; and the query, which is another one
// nearby.
#include "filter-inl.h"
#include "math-inl.h"
#include "parts.h"

namespace interp_fast {
namespace ISA {
namespace {

constexpr int kLanes = kTileSide, W = kWidth<double>, V = kLanes / W;
constexpr int kSums = kTileSide * kTileSide;
constexpr ptrdiff_t kQuad = 4 * kTileHalf;  // bytes of four rows, or dimensions, and half of the lanes
typedef Several<int32_t, W>::type SomeInts;

IF_INLINE ptrdiff_t padded(ptrdiff_t d, ptrdiff_t step) { return (d + step - 1) / step * step; }

// The three products of a tile with digits that lie so many bytes apart; no start: 0.
IF_INLINE void multiply_digits(const uint8_t* a, const int8_t* b, ptrdiff_t apart, ptrdiff_t steps,
                               const int32_t* start, int32_t (&c)[kDigits][kSums]) {
  for (int j = kDigits - 1; j >= 0; j--) {
    tile_kernels.multiply(a, b + j * apart, steps, start ? start + j * kLanes : nullptr, c[j]);
  }
}

// 65536 c2 + 256 c1 + c0
IF_INLINE Vec<double> whole(const int32_t (&c)[kDigits][kSums], int at) {
  Vec<double> total{};
  for (int j = kDigits - 1; j >= 0; j--) {
    SomeInts digit;
    memcpy(&digit, c[j] + at, sizeof digit);
    total = total * 256 + __builtin_convertvector(digit, Vec<double>);
  }
  return total;
}

// take(n, v, <q, byte - centre> / last place of q) of every row n and vector v of lanes
template <class Take>
IF_INLINE void over_products(const Block<double>& block, const int8_t* q8, const int32_t* start, Take take) {
  const ptrdiff_t dims = padded(block.d, kTileStep);
  alignas(64) int32_t c[kDigits][kSums];
  for (ptrdiff_t n = 0; n < block.rows; n += kTileSide) {
    multiply_digits(block.x8 + n * dims, q8, kLanes * dims, dims / kTileStep, start, c);
    for (int i = 0; i < kTileSide; i++) {
      for (int v = 0; v < V; v++) take(n + i, v, whole(c, i * kLanes + v * W));
    }
  }
}

void scores(const Block<double>& block, Panel<double>* panels, int count) {
  for (Panel<double>* panel = panels; panel < panels + count; panel++) {
    Vec<double> grain[V], h[V], w[V], peak[V];
    for (int v = 0; v < V; v++) {
      grain[v] = load(panel->grain + v * W), h[v] = load(panel->h + v * W), w[v] = load(panel->w + v * W);
      peak[v] = fill(-__builtin_inf());
    }
    over_products(block, panel->q8, panel->offset, [&](ptrdiff_t n, int v, Vec<double> t) IF_INLINED {
      const Vec<double> score = t * grain[v] - h[v] * block.n2[n] + w[v] * block.log_w[n];
      store(panel->s + n * kLanes + v * W, score);
      peak[v] = max(score, peak[v]);
    });
    for (int v = 0; v < V; v++) store(panel->peak + v * W, peak[v]);
    panel->found = reaches_threshold<double, V>(block, *panel);
  }
}

// Whole numbers up to kLargest in size, of four rows in the lanes of a vector of Ints, as digits into the tiles of the
// second product: kDigits of them, so many bytes apart.
IF_INLINE void store_digits(const Ints (&p)[4], ptrdiff_t row, int lane, ptrdiff_t apart, int8_t* to) {
  Ints word[kDigits] = {};
  for (int r = 0; r < 4; r++) {
    const Ints shifted = p[r] + 0x8080;  // the lower digits are unsigned, then
    for (int j = 0; j < kDigits; j++) word[j] |= ((shifted >> 8 * j) & 255) << 8 * r;
  }
  to += lane / kTileHalf * kTileHalf * (apart / kLanes) + row / 4 * kQuad + lane % kTileHalf * 4;
  for (int j = 0; j < kDigits; j++) {
    const Ints flipped = j < kDigits - 1 ? word[j] ^ static_cast<int32_t>(0x80808080) : word[j];
    memcpy(to + j * apart, &flipped, sizeof flipped);
  }
}

// acc[k][lane] += factor[lane] (sum_n byte[n][k] p[n][lane] - centre[k] total[lane])
IF_INLINE void add_rows(const Block<double>& block, const int8_t* p, const double* total, const double* factor,
                        double* acc) {
  const ptrdiff_t steps = block.rows / kTileStep, apart = kLanes * block.rows;
  const uint8_t* across = block.x8 + block.rows * padded(block.d, kTileStep);
  alignas(64) int32_t c[kDigits][kSums];
  for (ptrdiff_t k = 0; k < block.d; k += kTileSide, across += kTileSide * block.rows) {
    multiply_digits(across, p, apart, steps, nullptr, c);
    const int rows = static_cast<int>(block.d - k < kTileSide ? block.d - k : kTileSide);
    for (int i = 0; i < rows; i++) {
      // The shift is minus the centre, in units that make it a whole number of bytes.
      const double shift = block.shift[k + i] / block.inverse;
      double* const to = acc + (k + i) * kLanes;
      for (int v = 0; v < V; v++) {
        const Vec<double> sum = whole(c, i * kLanes + v * W) + shift * load(total + v * W);
        store(to + v * W, load(to + v * W) + sum * load(factor + v * W));
      }
    }
  }
}

// Moves the references of lanes whose scores have left them behind.
void follow(Panel<double>& panel, const double* top) {
  alignas(64) double factor[kLanes];
  bool moved = false;
  for (int lane = 0; lane < kLanes; lane++) {
    double& reference = panel.reference[lane];
    factor[lane] = 1;
    if (!(top[lane] > reference + kRescale)) continue;
    factor[lane] = exp2(fill(reference - top[lane]))[0];
    rescale(panel.sums[lane], factor[lane], reference - top[lane]);
    reference = top[lane], moved = true;
  }
  for (ptrdiff_t k = 0; moved && k < panel.d * kLanes; k += W) {
    const Vec<double> f = load(factor + k % kLanes);
    store(panel.acc + k, load(panel.acc + k) * f);
    if (panel.acc_u) store(panel.acc_u + k, load(panel.acc_u + k) * f);
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

void add_panel(const Block<double>& block, Panel<double>& panel, bool statistics) {
  panel.alive_rows = 0;
  if (!alive(block, panel)) return;
  panel.alive_rows = block.rows;
  constexpr int F = kWidth<float>;
  alignas(64) double top[kLanes], unit[kLanes];
  for (int lane = 0; lane < kLanes; lane++) top[lane] = __builtin_ceil(panel.peak[lane]);
  follow(panel, top);
  for (int lane = 0; lane < kLanes; lane += W) {
    store(unit + lane, exp2(load(top + lane) - load(panel.reference + lane)) * (1 / kLargest));
  }
  alignas(64) int8_t digits[kDigits * kLanes * kDigitBlock];
  alignas(64) double p_sum[kLanes] = {}, n2_sum[kLanes] = {}, p_p[kLanes] = {}, p_score[kLanes] = {};
  for (ptrdiff_t n = 0; n < block.rows; n += 4) {
    for (int lane = 0; lane < kLanes; lane += F) {
      Ints p[4];
      for (int r = 0; r < 4; r++) {
        double* const s = panel.s + (n + r) * kLanes + lane;
        alignas(64) float x[F];
        for (int i = 0; i < F; i++) x[i] = static_cast<float>(s[i] - top[lane + i]);
        // A sequence that fills (0, 1) evenly, the same for all lanes.
        const float up = static_cast<float>(static_cast<uint32_t>(n + r + 1) * 2654435769u >> 8) * 0x1p-24f;
        p[r] = __builtin_convertvector(exp2(load(x)) * static_cast<float>(kLargest) + up, Ints);
        for (int i = 0; i < F; i++) {
          const double value = p[r][i];
          p_sum[lane + i] += value, n2_sum[lane + i] += value * block.n2[n + r];
          if (statistics) {
            p_p[lane + i] += value * value;
            p_score[lane + i] += value > 0 ? value * (s[i] - panel.reference[lane + i]) : 0.0;
          }
          if (panel.u8) s[i] = value * unit[lane + i];
        }
      }
      store_digits(p, n, lane, kLanes * block.rows, digits);
    }
  }
  alignas(64) double factor[kLanes];
  for (int lane = 0; lane < kLanes; lane++) {
    const double u = unit[lane], rows = static_cast<double>(block.rows);
    factor[lane] = u * block.inverse;
    panel.sums[lane] += {.p = u * p_sum[lane],
                         .p_n2 = u * n2_sum[lane],
                         .p_p = u * u * p_p[lane],
                         .p_score = u * p_score[lane],
                         .rounded = u * u * rows};
  }
  add_rows(block, digits, p_sum, factor, panel.acc);
}

void add(const Block<double>& block, Panel<double>* panels, int count, bool statistics) {
  const FlushSubnormals flush;
  for (int p = 0; p < count; p++) add_panel(block, panels[p], statistics);
}

// The weights p <u, X> have signs, and a unit of their own.
void add_along(const Block<double>& block, Panel<double>& panel) {
  const FlushSubnormals flush;
  const double grain = block.inverse / kLargest;
  Vec<double> most[V] = {};
  over_products(block, panel.u8, panel.u_offset, [&](ptrdiff_t n, int v, Vec<double> t) IF_INLINED {
    const Vec<double> along = t * grain * load(panel.s + n * kLanes + v * W);
    store(panel.su + n * kLanes + v * W, along);
    most[v] = max(along < 0 ? -along : along, most[v]);
  });
  alignas(64) double inverse[kLanes], factor[kLanes], total[kLanes] = {};
  for (int lane = 0; lane < kLanes; lane++) {
    const double largest = most[lane / W][lane % W];
    inverse[lane] = largest > 0 ? kLargest / largest : 0, factor[lane] = largest / kLargest * block.inverse;
    if (!(inverse[lane] < __builtin_inf())) inverse[lane] = factor[lane] = 0;
  }
  alignas(64) int8_t digits[kDigits * kLanes * kDigitBlock];
  constexpr int F = kWidth<float>;
  for (ptrdiff_t n = 0; n < block.rows; n += 4) {
    for (int lane = 0; lane < kLanes; lane += F) {
      Ints p[4];
      for (int r = 0; r < 4; r++) {
        for (int i = 0; i < F; i++) {
          const double value = panel.su[(n + r) * kLanes + lane + i] * inverse[lane + i];
          const double rounded = (value + kWhole64) - kWhole64;
          p[r][i] = static_cast<int32_t>(rounded), total[lane + i] += rounded;
        }
      }
      store_digits(p, n, lane, kLanes * block.rows, digits);
    }
  }
  add_rows(block, digits, total, factor, panel.acc_u);
}

}  // namespace

const PanelKernels<double> digit_kernels = {.width = kLanes,
                                            .gemv = false,
                                            .int8 = false,
                                            .tiles = &tile_kernels,
                                            .scores = scores,
                                            .sum_exp = sum_exp<double, V>,
                                            .second_best = second_best<double, V>,
                                            .add = add,
                                            .add_along = add_along};

}  // namespace ISA
}  // namespace interp_fast
