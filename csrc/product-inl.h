// The two products of a block of rows with a panel of queries, both on one register tile.
//
//     scores   s[n][q]   = sum_k X[n][k] q[k][q]        tile over 12 rows (6 with 16 registers) x the lanes
//     sums     acc[k][q] += sum_n X[n][k] p[n][q]       tile over dimensions x the lanes
//
// A lane is a query, so both products broadcast numbers of X against vectors of queries, and everything between them
// (maxima, exponentials, sums) is vertical. Sums over k are cut into chunks of at most kChunk terms and sums over n into
// blocks of at most kBlock, each with fresh accumulators that are then added to memory: two levels of summation, on
// which the error bounds of the driver rely.
//
// Loop order: chunk of dimensions, tile of rows, k. A chunk of X (50 kB) and of q (14 kB) and the scores stay in the
// first two levels of cache; per block q and acc pass by once, and X once per panel and product. While the scores are
// formed, the rows that come next are fetched from memory, a little with every k.

#include "kernels.h"
#include "math-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// Memory to be fetched in equal steps.
struct Ahead {
  const char* at;
  ptrdiff_t step;
};

// finish(i, v, sum) for each i < R, v < V, with sum[lane] = sum_{k < K} a[i * row + k * col] b[k][lane], lanes of vector v;
// b has V vectors per row. With a list, its entries take the place of k in a.
template <class T, int R, int V, bool Fetch, bool Listed, class Finish>
IF_INLINE void tile(ptrdiff_t K, const T* a, ptrdiff_t row, ptrdiff_t col, const int32_t* list, const T* b,
                    Ahead* ahead, Finish finish) {
  Vec<T> sum[R][V];
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) sum[i][v] = Vec<T>{};
  }
  // One pointer for three rows: the other two are within reach of an address with a scaled index.
  const T* pointer[(R + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (R + 2) / 3; i++) pointer[i] = a + 3 * i * row;
  for (ptrdiff_t k = 0; k < K; k++) {
    if (Fetch) {
      __builtin_prefetch(ahead->at, 0, 2);
      ahead->at += ahead->step;
    }
#pragma GCC unroll 4
    for (int i = 0; Listed && i < (R + 2) / 3; i++) pointer[i] = a + list[k] * col + 3 * i * row;
    Vec<T> x[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) x[v] = load(b + (k * V + v) * kWidth<T>);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      const Vec<T> y = fill(pointer[i / 3][(i % 3) * row]);
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sum[i][v] += y * x[v];
    }
#pragma GCC unroll 4
    for (int i = 0; !Listed && i < (R + 2) / 3; i++) pointer[i] += col;
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) finish(i, v, sum[i][v]);
  }
}

// Rows of a tile: what 32 or 16 vector registers hold beside the operands.
template <int V>
constexpr int kTileRows = V == 1 || kManyRegisters ? 12 : 6;

// s[n][lane] = sum_k x[n][k] q[k][lane], and then finish(n, v, s) in place of storing the last chunk's sums; `part` of
// `parts` of what is ahead is fetched meanwhile.
template <class T, int V, class Finish>
IF_INLINE void multiply(const Block<T>& block, const T* q, T* s, int part, int parts, Finish finish) {
  constexpr int R = kTileRows<V>, W = kWidth<T>;
  const ptrdiff_t share = block.ahead_bytes / parts, steps = block.d * (block.rows / R);
  Ahead ahead = {block.ahead + part * share, share / steps + 1};
  const T* x = block.x;
  for (ptrdiff_t k = 0; k < block.d; k += block.chunk, x += block.chunk_stride, q += block.chunk * V * W) {
    const ptrdiff_t left = block.d - k;
    for (ptrdiff_t n = 0; n < block.rows; n += R) {
      T* const to = s + n * V * W;
      const T* const from = x + n * block.ld;
      if (left > block.chunk) {
        const auto keep = [&](int i, int v, Vec<T> sum) IF_INLINED {
          T* const at = to + (i * V + v) * W;
          store(at, k == 0 ? sum : load(at) + sum);
        };
        tile<T, R, V, true, false>(block.chunk, from, block.ld, 1, nullptr, q, &ahead, keep);
      } else {
        const auto last = [&](int i, int v, Vec<T> sum) IF_INLINED {
          finish(n + i, v, k == 0 ? sum : load(to + (i * V + v) * W) + sum);
        };
        tile<T, R, V, true, false>(left, from, block.ld, 1, nullptr, q, &ahead, last);
      }
    }
  }
}

// The rows of a block that count, in increasing order; p has one row for each of them.
struct Alive {
  ptrdiff_t count;
  int32_t rows[kBlock];
};

template <class T, int R, int V>
void add_rows(const Block<T>& block, const Alive& alive, const T* x, const T* p, T* acc) {
  const auto finish = [&](int i, int v, Vec<T> sum) IF_INLINED {
    T* const at = acc + (i * V + v) * kWidth<T>;
    store(at, load(at) + sum);
  };
  // Sums of other panels have driven these out of the caches near the core.
  constexpr ptrdiff_t kSums = R * V * kWidth<T>, kLine = 64 / static_cast<ptrdiff_t>(sizeof(T));
  for (ptrdiff_t at = 0; at < kSums; at += kLine) __builtin_prefetch(acc + at, 1, 2);
  if (alive.count == block.rows) {
    tile<T, R, V, false, false>(block.rows, x, 1, block.ld, nullptr, p, nullptr, finish);
  } else {
    tile<T, R, V, false, true>(alive.count, x, 1, block.ld, alive.rows, p, nullptr, finish);
  }
}

// acc[k][lane] += sum_n x[alive n][k] p[n][lane]
template <class T, int V>
void multiply_transposed(const Block<T>& block, const Alive& alive, const T* p, T* acc) {
  constexpr int R = kTileRows<V>, W = V * kWidth<T>;
  using AddRows = void (*)(const Block<T>&, const Alive&, const T*, const T*, T*);
  constexpr AddRows by_height[] = {
      nullptr,
      add_rows<T, 1, V>,
      add_rows<T, 2, V>,
      add_rows<T, 3, V>,
      add_rows<T, 4, V>,
      add_rows<T, 5, V>,
      add_rows<T, 6, V>,
      add_rows<T, R == 12 ? 7 : 1, V>,
      add_rows<T, R == 12 ? 8 : 1, V>,
      add_rows<T, R == 12 ? 9 : 1, V>,
      add_rows<T, R == 12 ? 10 : 1, V>,
      add_rows<T, R == 12 ? 11 : 1, V>,
      add_rows<T, R == 12 ? 12 : 1, V>,
  };
  const T* x = block.x;
  for (ptrdiff_t k = 0; k < block.d; k += block.chunk, x += block.chunk_stride) {
    ptrdiff_t left = block.d - k < block.chunk ? block.d - k : block.chunk;
    for (ptrdiff_t j = 0; left > 0;) {
      // Whole tiles; the last two are made equal, so that none is too small to fill the pipelines.
      const ptrdiff_t height = left >= 2 * R || left == R ? R : left > R ? left / 2 : left;
      by_height[height](block, alive, x + j, p, acc + (k + j) * W);
      j += height, left -= height;
    }
  }
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
