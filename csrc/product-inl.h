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
// Loop order: chunk of k, tile of rows, k. The chunk of q (a dozen kB) and the scores stay in the first-level cache and
// X comes from the second, `width` multiply-adds for each number of it; per block q and acc pass by once.
#pragma once

#include "kernels.h"
#include "math-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// c[i][lane] (+)= sum_{k < K} a[i * row + k * col] b[k][lane] for i < R; b and c have V vectors per row.
template <class T, int R, int V>
IF_INLINE void tile(ptrdiff_t K, const T* a, ptrdiff_t row, ptrdiff_t col, const T* b, T* c, bool fresh) {
  constexpr int W = kWidth<T>;
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
    Vec<T> x[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) x[v] = load(b + k * V * W + v * W);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      const Vec<T> y = fill(pointer[i / 3][(i % 3) * row]);
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sum[i][v] += y * x[v];
    }
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; i++) pointer[i] += col;
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) {
      T* to = c + (i * V + v) * W;
      store(to, fresh ? sum[i][v] : load(to) + sum[i][v]);
    }
  }
}

// Rows of a tile: what 32 or 16 vector registers hold beside the operands.
template <int V>
constexpr int kTileRows = V == 1 || kManyRegisters ? 12 : 6;

// s[n][lane] = sum_k x[n][k] q[k][lane]
template <class T, int V>
void multiply(const Block<T>& block, const T* q, T* s) {
  constexpr int R = kTileRows<V>, W = V * kWidth<T>;
  const ptrdiff_t chunks = (block.d + kChunk - 1) / kChunk, chunk = (block.d + chunks - 1) / chunks;
  for (ptrdiff_t k = 0; k < block.d; k += chunk) {
    const ptrdiff_t terms = block.d - k < chunk ? block.d - k : chunk;
    for (ptrdiff_t n = 0; n < block.rows; n += R) {
      tile<T, R, V>(terms, block.x + n * block.ld + k, block.ld, 1, q + k * W, s + n * W, k == 0);
    }
  }
}

template <class T, int R, int V>
void add_rows(const Block<T>& block, ptrdiff_t k, const T* p, T* acc) {
  tile<T, R, V>(block.rows, block.x + k, 1, block.ld, p, acc + k * V * kWidth<T>, false);
}

// acc[k][lane] += sum_n x[n][k] p[n][lane]
template <class T, int V>
void multiply_transposed(const Block<T>& block, const T* p, T* acc) {
  constexpr int R = kTileRows<V>;
  using AddRows = void (*)(const Block<T>&, ptrdiff_t, const T*, T*);
  constexpr AddRows some[] = {nullptr,           add_rows<T, 1, V>, add_rows<T, 2, V>,  add_rows<T, 3, V>,
                              add_rows<T, 4, V>, add_rows<T, 5, V>, add_rows<T, 6, V>,  add_rows<T, R == 12 ? 7 : 1, V>,
                              add_rows<T, R == 12 ? 8 : 1, V>, add_rows<T, R == 12 ? 9 : 1, V>,
                              add_rows<T, R == 12 ? 10 : 1, V>, add_rows<T, R == 12 ? 11 : 1, V>};
  ptrdiff_t k = 0;
  for (; k + 2 * R <= block.d; k += R) add_rows<T, R, V>(block, k, p, acc);
  // Fewer than two tiles are left: in two equal parts, so that neither is too small to fill the pipelines.
  const ptrdiff_t left = block.d - k;
  if (left == R) return add_rows<T, R, V>(block, k, p, acc);
  if (left > R) {
    const ptrdiff_t half = left / 2;
    some[half](block, k, p, acc);
    k += half;
  }
  const ptrdiff_t rest = block.d - k;
  if (rest == R) return add_rows<T, R, V>(block, k, p, acc);
  if (rest > 0) some[rest](block, k, p, acc);
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
