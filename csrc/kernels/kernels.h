// What the block kernels of every instruction set take and give; the whole contract between them and the driver.
//
// Inside, rows and queries live in a normal form: with c the centre of the rows and `unit` about the largest distance
// to it, X_i = (x_i - c) / unit. A panel holds as many queries as a few vectors have lanes. The score of row i under a
// query is
//
//     s_i = <q, X_i> - h |X_i|^2 + w log_w_i,
//     (q, h, w) proportional to (alpha x~, alpha^2 / 2, S),   x~ = (x - alpha c) / unit
//
// which is the logit up to a constant of the query, in whatever scale the caller puts into q, h and w.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace interp_fast {

enum class RowType { f32, f64, u8, f16, bf16 };

// The rows as given: N rows of d stored numbers, `stride` bytes apart. The value of a byte is a * byte + b, of any
// other number (a = 1, b = 0) itself.
struct Rows {
  const char* data;
  ptrdiff_t stride;
  int64_t n;
  ptrdiff_t d;
  RowType type;
  double a, b;
};

constexpr int kTile = 12;                         // rows of a block come in multiples of this
constexpr int kGemvTile = 16;                     // and of this in the `gemv` kernels: vectors of rows are whole
constexpr ptrdiff_t kGemvBlock = 16 * kGemvTile;  // most rows of a block there
constexpr ptrdiff_t kBlock = 10 * kTile;          // most rows of a block: also the longest chain of additions over rows
constexpr ptrdiff_t kChunk = 112;                 // longest chain of additions over dimensions
constexpr int kRescale = 8;                       // a reference follows once the best score is this much higher
constexpr double kNever = 1e30;                   // |X|^2 and -log_w of a row that must never count
constexpr int kTileSide = 32;                     // rows, and lanes, of a product of bytes in tiles
constexpr int kTileHalf = kTileSide / 2;          // which lie together
constexpr ptrdiff_t kTileStep = 64;               // and dimensions, that they come in multiples of
constexpr ptrdiff_t kTileBlock = 4 * kTileSide;   // most rows of a block there
constexpr int kDigits = 3;                        // signed bytes of a number, of base 256, the highest last
constexpr double kLargest = 127 * 65536.0;        // such a number
constexpr ptrdiff_t kDigitBlock = 512;            // most rows of a block, where both products are of digits

// The nth number, in units of 2^-24, of a sequence that fills the range from 0 to 1 evenly, and so does any part of it.
// It decides which numbers are rounded up and which down: such errors cancel in sums over whatever they belong to,
// where those of the nearest whole numbers need not: all light rows would be left out together.
static inline uint32_t evenly(int64_t n) { return static_cast<uint32_t>(n + 1) * 2654435769u >> 8; }

// Consecutive rows. For many queries they are decoded into cache in normal form: chunk after chunk of dimensions, so
// that what is used together lies together; rows of weight 0 and those that fill up a tile are all zero. For few
// queries they are read as stored, and in place of rows that never count stands one that does. The int8 kernels read
// quantized rows, one after another or in tiles. The digit kernels read rows of bytes in tiles, and behind those the
// same across, dimensions in place of rows: (up to kTileSide dimensions / kTileHalf, rows / kTileStep, kTileHalf,
// kTileStep); X = inverse (byte + shift[k]) + residual there, with shifts that are whole numbers.
template <class T>
struct Block {
  int64_t first;  // row of all
  const T* x;     // x[c * chunk_stride + n * ld + j] is dimension c * chunk + j of row n; nullptr: as stored
  const char* const* stored;  // each row as given: X = inverse * stored + shift[k]
  RowType type;
  T inverse;
  const T* shift;       // (d,)
  const uint8_t* x8;    // row n starts at n * x8_stride; X = scale[n] (byte + an offset of the query) + residual
  ptrdiff_t x8_stride;  // or, in tiles: (rows / kTileHalf, steps, kTileHalf, kTileStep) bytes
  const T* scale;
  T residual;  // largest |residual|
  ptrdiff_t chunk, chunk_stride, ld, d;
  ptrdiff_t rows;     // a multiple of kTile or kGemvTile
  const char* ahead;  // what will be decoded next: `ahead_bytes` to be fetched while this block is worked on
  ptrdiff_t ahead_bytes;
  const T *n2, *log_w;
  T max_norm, span;  // largest |X| and |log_w| of the rows that count
};

// Sums over rows of weights p = 2^(score - reference).
struct WeightSums {
  double p, p_n2, p_p, p_score;  // of p, p |X|^2, p^2, p (score - reference)
  // Where weights are whole numbers of a unit, of the squares of that, and of what rounding left out.
  double units = 0, rounded = 0;
};

static inline __attribute__((always_inline)) void operator+=(WeightSums& sums, const WeightSums& more) {
  sums.p += more.p, sums.p_n2 += more.p_n2, sums.p_p += more.p_p, sums.p_score += more.p_score;
  sums.units += more.units, sums.rounded += more.rounded;
}

// Relative to a reference that is higher by -log2 f.
static inline __attribute__((always_inline)) void rescale(WeightSums& sums, double f, double log2_f) {
  if (f > 0) sums.p_score += sums.p * log2_f;
  sums.p *= f, sums.p_n2 *= f, sums.p_p *= f * f, sums.p_score *= f;
  sums.units *= f * f, sums.rounded *= f * f;
}

// What a panel knows of each of its lanes.
template <class T>
struct LaneFields {
  T *h, *w;
  // |error of a score| <= slack1 max_norm + slack2 max_norm^2 + slack3 span + slack4 residual
  T *slack1, *slack2, *slack3, *slack4;
  T* cut;    // blocks whose scores all lie more than this below the best are dead
  T* grain;  // of a product of digits: what a unit of it adds to the score
};

// One panel of queries: everything is an array of `width` lanes unless it says more.
template <class T>
struct Panel : LaneFields<T> {
  // The queries. q is (d, width), or (width, ld) in the `gemv` kernels. In its place the int8 kernels have q8, four
  // dimensions together: (d / 4, width, 4), in tiles (width / kTileHalf, d / 4, kTileHalf, 4), and what the offset of
  // the rows comes to. The digit kernels have one after another of each, the lowest digit first.
  const T* q;
  const int8_t* q8;
  const int32_t* offset;
  const T* threshold;  // `scores` tells whether a row may reach it; nullptr: nobody asks
  // Of the block at hand: scores, then weights, (rows, width), or (lanes, rows) in the `gemv` kernels; their maxima;
  // whether some lane has a row whose score may reach its threshold; and the rows that got weights, of which there are
  // `alive_rows`, 0 if the block is dead.
  T *s, *peak;
  bool found;
  int32_t* alive;
  ptrdiff_t alive_rows;
  // Running: a lower bound on the best score; the score that has weight 1.
  T *best, *reference;
  WeightSums* sums;
  // sum p X, laid out like q, or nullptr: not wanted.
  T* acc;
  // For Jacobian products: directions u laid out like q, scratch like s, and sum p <u, X> X.
  const T* u;
  const int8_t* u8;  // or digits, as above, of u kLargest
  const int32_t* u_offset;
  T *su, *acc_u;
  float *acc32, *acc_u32;  // these sums over a slab in the digit kernels, to which a block adds once
  ptrdiff_t ld, d;
  int lanes;       // queries in the panel; the other lanes never count
  int number, of;  // its place among the panels that share a block
};

// A bound on the error of a score of a block, from the slacks of a lane or of a vector of lanes.
template <class T, class V>
static inline __attribute__((always_inline)) V score_error(const Block<T>& block, V slack1, V slack2, V slack3,
                                                           V slack4) {
  return (slack1 + slack2 * block.max_norm) * block.max_norm + slack3 * block.span + slack4 * block.residual;
}
template <class T>
static inline __attribute__((always_inline)) T score_error_of(const Block<T>& block, const Panel<T>& panel, int lane) {
  return score_error(block, panel.slack1[lane], panel.slack2[lane], panel.slack3[lane], panel.slack4[lane]);
}

// The product of bytes, c[i][q] = start[q] + sum_k a[i][k] b[k][q], exact in 32 bits, of kTileSide rows and lanes; no
// start: 0. a and b lie as rows and queries in tiles do: (2, steps, kTileHalf, kTileStep) unsigned and
// (2, steps, kTileStep / 4, kTileHalf, 4) signed bytes.
struct TileKernels {
  // The registers belong to a thread, which must not keep them in use: around a task.
  void (*begin)();
  void (*end)();
  void (*multiply)(const uint8_t* a, const int8_t* b, ptrdiff_t steps, const int32_t* start, int32_t* c);
};

template <class T>
struct PanelKernels {
  int width;
  bool gemv;                 // lanes lie over dimensions and blocks are as stored: for a few queries, at most 8
  bool int8;                 // queries and rows are quantized: scores only
  const TileKernels* tiles;  // what multiplies bytes in tiles, else nullptr
  // Fills s, peak and found of some panels; of one, where these are `gemv`.
  void (*scores)(const Block<T>&, Panel<T>*, int count);
  // Of each lane the sum of 2^(score - peak), and the second largest score.
  void (*sum_exp)(const Block<T>&, const Panel<T>&, T* out);
  void (*second_best)(const Block<T>&, const Panel<T>&, T* out);
  // Places in s of scores that reach the limits of their lanes, or are NaN, of each lane in the order of rows; returns
  // how many. Of lanes that are closed, by an infinite limit, there may be NaN or not.
  ptrdiff_t (*find)(const Block<T>&, const Panel<T>&, const T* limits, int32_t* places);
  // s -> weights p of the rows that are alive, their sums, and acc += sum_n p_n X_n.
  void (*add)(const Block<T>&, Panel<T>*, int count, bool statistics);
  // After add: acc_u += sum_n p_n <u, X_n> X_n.
  void (*add_along)(const Block<T>&, Panel<T>&);
};

constexpr ptrdiff_t kLowdim = 8;         // rows of at most so many dimensions are summed for one query at a time
constexpr ptrdiff_t kLowdimStep = 4;     // vectors of rows that are read together
constexpr ptrdiff_t kLowdimRows = 2048;  // most rows of a call
// Longest chain of additions of vectors. Equal rows are summed one by one here, and what a sum of equal terms loses it
// loses every time: up to a quarter of a rounding for each term.
constexpr ptrdiff_t kLowdimChain = 8 * kLowdimStep;

// What the score of a row is: log_w + <q, X> - h |X|^2; the same with its last term in log_w; or
// log_w - h |X - q - rest|^2.
enum class LowdimForm { norms, folded, direct };
enum class LowdimSums { mean, moments, along };

// Where the running sums of a query lie, of d dimensions: p, p t, p |t|^2, p^2, p (score - reference), p <u, t> t with
// t = X or X - q - rest.
struct LowdimPlaces {
  int d;
  static constexpr int p = 0, x = 1;
  __attribute__((always_inline)) constexpr int n2() const { return d + 1; }
  __attribute__((always_inline)) constexpr int p_p() const { return d + 2; }
  __attribute__((always_inline)) constexpr int p_score() const { return d + 3; }
  __attribute__((always_inline)) constexpr int along() const { return d + 4; }
  __attribute__((always_inline)) constexpr int count() const { return 2 * d + 4; }
};

// Rows of few dimensions, dimension after dimension.
template <class T>
struct LowdimRows {
  const T* x;           // x[k * ld + n] is dimension k of row n: in normal form, or (direct) that less the shift
  const T* n2;          // |X|^2, where the form uses it
  const T* log_w;       // log2 of the weights, below -2 kNever where a row must never count
  bool weighted;        // not all of these are 0
  ptrdiff_t ld, count;  // count: a multiple of kLowdimStep vectors
};

template <class T>
struct LowdimQuery {
  T q[kLowdim], rest[kLowdim], h;
  T cut;              // rows whose scores lie more than this below the best are dead
  T slack;            // sqrt(h) |rest|
  T best, reference;  // best score so far; the score that has weight 1; at first -2 kNever
  bool sparse;        // most rows of late are dead; at first true
  int64_t dead_rows;
  // Running sums of weights p, a vector each: see LowdimPlaces.
  T* sums;
  T u[kLowdim];
  // Where best rows are wanted, else nullptr: the best score in each lane so far, and the best of the rows at hand.
  T* lanes;
  T peak;
};

// How far a score this far below 0 may be off where the query lacks its second part.
template <class T>
static inline T split_error(const LowdimQuery<T>& query, T depth) {
  return query.slack * (4 * (depth > 0 ? static_cast<T>(__builtin_sqrt(depth)) : 0) + query.slack);
}

template <class T>
struct LowdimKernels {
  int width;
  // Adds the rows to the sums of some queries; [form][which]. All sums; or not those along u; or only p and p t and, in
  // the direct form, p |t|^2: then norms may be folded.
  void (*add[3][3])(const LowdimRows<T>&, LowdimQuery<T>*, ptrdiff_t count);
  // The rows whose scores reach `floor`, in order: their places among these and their scores; returns how many. [form]
  ptrdiff_t (*find[3])(const LowdimRows<T>&, const LowdimQuery<T>&, T floor, int32_t* places, T* scores);
};

template <class T>
struct TypedKernels {
  // Rows first ... first + count - 1 in normal form, inverse * stored + shift[k], into x laid out as `block` says.
  void (*decode)(const Rows&, int64_t first, ptrdiff_t count, T inverse, const T* shift, const Block<T>& block, T* x);
  const PanelKernels<T>*wide, *narrow, *gemv;
  // The same of at most kLowdim dimensions into x[k * ld + n], and their norms into n2 if wanted.
  void (*decode_lowdim)(const Rows&, int64_t first, ptrdiff_t count, T inverse, const T* shift, T* x, ptrdiff_t ld,
                        T* n2);
  const LowdimKernels<T>* lowdim;  // for 1, 2 ... kLowdim dimensions
};

// Of a quantized query: the squares of what rounding leaves out, those of the bytes, and their products with the
// offsets.
struct QuerySums {
  double left2, length2, offset;
};

// Of a row that was rounded to a grid of bytes: the squares of what that leaves out, and the largest of it in size.
struct RowSums {
  double left2, largest;
};

// Scores of quantized queries and rows: four products of bytes in a lane, and rigorous bounds on what that leaves out.
struct Int8Kernels {
  int most;  // largest byte of a query
  // A row in normal form: X = scale (byte - 128) + residual, and |residual| to the digits of float32. d is a multiple
  // of the width of the panel / 2.
  void (*quantize)(const float* x, ptrdiff_t d, uint8_t* bytes, float* scale, float* residual);
  // The same on a grid: X = scale (byte + offset) + residual.
  RowSums (*quantize_on_grid)(const double* x, double scale, const double* offsets, ptrdiff_t d, uint8_t* bytes);
  // The bytes of a query: steps (x - alpha center) in whole numbers, those of four dimensions together and `width` such
  // places apart. Offsets of the rows, or one for all.
  QuerySums (*quantize_query)(const double* x, double alpha, const double* center, double steps, const double* offsets,
                              double offset, ptrdiff_t d, int8_t* bytes, ptrdiff_t width);
  PanelKernels<float> panel;
  // Without scores before it: positions row * width + lane of the scores that may reach their
  // thresholds, and those scores; returns how many.
  ptrdiff_t (*find)(const Block<float>&, const Panel<float>&, int32_t* found, float* score);
  // The integers that scores are made of, (rows, width).
  void (*integers)(const Block<float>&, const Panel<float>&, int32_t* out);
  double (*limit)(int64_t rounds);  // the products at best, as in LimitKernels
};

// Sums over rows of bytes by their products alone.
struct DigitKernels {
  // Copies `count` rows of d bytes into the tiles of a block of so many rows, and into the same across. The last one
  // stands in for those that fill it up, and 0 for dimensions.
  void (*pack)(const char* rows, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t d, ptrdiff_t block_rows, uint8_t* tiles,
               uint8_t* across);
  PanelKernels<double> panel;
};

// Of x - alpha center: the sum of squares, and the largest number in size; and the squares of alpha center.
struct Measured {
  double squares, largest, products;
};

// Float64 work on the rows as given.
struct ExactKernels {
  void (*values)(const Rows&, int64_t row, double* out);
  double (*distance2)(const Rows&, int64_t row, const double* x, double alpha);    // |x - alpha x_row|^2
  double (*norm2)(const Rows&, int64_t row, double inverse, const double* shift);  // |inverse * stored + shift|^2
  // delta = x_row - ref: sum += t delta, and returns |delta|^2; if u, also sum_u += t <delta, u> delta.
  double (*add)(const Rows&, int64_t row, const double* ref, double t, double* sum, const double* u, double* sum_u);
  // On queries and on sums over rows, (d,). Nothing is fused but the squares of the last: factor (x - alpha center),
  // origin + factor x, and |x|^2.
  Measured (*measure)(const double* x, const double* center, double alpha, ptrdiff_t d);
  void (*normal_form)(const double* x, const double* center, double alpha, double factor, ptrdiff_t d, double* out);
  void (*add_scaled)(const double* origin, double factor, const double* x, ptrdiff_t d, double* out);
  double (*norm2_of)(const double* x, ptrdiff_t d);
};

// out[i * d + j] = the standard normal of (key, first_sample + i, row, j) for i < n, j < d.
using NormalsKernel = void (*)(uint64_t key, uint64_t first_sample, uint32_t row, ptrdiff_t n, ptrdiff_t d,
                               double* out);

// What the instructions can do at best; each returns the operations done. See limits-inl.h.
struct LimitKernels {
  double (*fma_f32)(int64_t rounds);
  double (*fma_f64)(int64_t rounds);
  double (*exp_f32)(int64_t rounds);
  double (*exp_f64)(int64_t rounds);
  double (*read)(const char* memory, int64_t bytes);
};

struct KernelTable {
  const char* name;
  const Int8Kernels* int8;     // or nullptr
  const DigitKernels* digits;  // or nullptr
  TypedKernels<float> f32;
  TypedKernels<double> f64;
  const ExactKernels* exact;
  const NormalsKernel* normals;
  LimitKernels limits;
};

}  // namespace interp_fast
