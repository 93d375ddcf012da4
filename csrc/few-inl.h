// The two products for a few queries, where reading the rows once is what takes the time: lanes lie over dimensions.
//
//     scores   s[n][q] = <q, X[n]>              register tile: kFewRows rows x up to 2 queries, each a chain over k
//     sums     acc[q][k] += sum_n p[n][q] X[n][k]   register tile: 4 vectors of k for one query, over the rows
//
// X is a block in the first two levels of cache, decoded there a moment ago; q and acc are a few kB. As in the other
// product no chain is longer than kChunk before its sum goes up a level.
#pragma once

#include "kernels.h"
#include "math-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

constexpr int kFewRows = 4;

// Up to the end of a row by whole vectors: blocks and queries are zero from d to ld.
template <class T>
IF_INLINE ptrdiff_t padded(ptrdiff_t d) {
  return (d + kWidth<T> - 1) / kWidth<T> * kWidth<T>;
}

template <class T, int Q>
IF_INLINE void dot_few(const Block<T>& block, const T* x, const T* q, ptrdiff_t ldq, T* s) {
  constexpr ptrdiff_t W = kWidth<T>;
  const ptrdiff_t d = padded<T>(block.d);
  Vec<T> total[kFewRows][Q] = {};
  for (ptrdiff_t first = 0; first < d; first += kChunk * W) {
    const ptrdiff_t last = d - first < kChunk * W ? d : first + kChunk * W;
    Vec<T> part[kFewRows][Q] = {};
    for (ptrdiff_t k = first; k < last; k += W) {
      Vec<T> y[Q];
#pragma GCC unroll 2
      for (int j = 0; j < Q; j++) y[j] = load(q + j * ldq + k);
#pragma GCC unroll 4
      for (int i = 0; i < kFewRows; i++) {
        const Vec<T> row = load(x + i * block.ld + k);
#pragma GCC unroll 2
        for (int j = 0; j < Q; j++) part[i][j] += row * y[j];
      }
    }
    for (int i = 0; i < kFewRows; i++) {
      for (int j = 0; j < Q; j++) total[i][j] += part[i][j];
    }
  }
  for (int i = 0; i < kFewRows; i++) {
    for (int j = 0; j < Q; j++) s[i * W + j] = sum<T>(total[i][j]);
  }
}

// s[n][lane] for the lanes in use; the others are 0.
template <class T>
void multiply_few(const Block<T>& block, const Panel<T>& panel, const T* q, T* s) {
  constexpr ptrdiff_t W = kWidth<T>;
  for (ptrdiff_t n = 0; n < block.rows; n++) store(s + n * W, Vec<T>{});
  for (ptrdiff_t n = 0; n < block.rows; n += kFewRows) {
    int j = 0;
    for (; j + 2 <= panel.lanes; j += 2) {
      dot_few<T, 2>(block, block.x + n * block.ld, q + j * panel.ld, panel.ld, s + n * W + j);
    }
    if (j < panel.lanes) dot_few<T, 1>(block, block.x + n * block.ld, q + j * panel.ld, panel.ld, s + n * W + j);
  }
}

template <class T, int V>
IF_INLINE void add_strip(const Block<T>& block, const T* p, ptrdiff_t k, T* acc) {
  constexpr ptrdiff_t W = kWidth<T>;
  Vec<T> sum[V] = {};
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    const Vec<T> weight = fill(p[n * W]);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) sum[v] += weight * load(block.x + n * block.ld + k + v * W);
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) store(acc + k + v * W, load(acc + k + v * W) + sum[v]);
}

// acc[lane][k] += sum_n p[n][lane] x[n][k]
template <class T>
void add_few(const Block<T>& block, const Panel<T>& panel, const T* p, T* acc) {
  constexpr ptrdiff_t W = kWidth<T>;
  const ptrdiff_t d = padded<T>(block.d);
  for (int j = 0; j < panel.lanes; j++) {
    ptrdiff_t k = 0;
    for (; k + 4 * W <= d; k += 4 * W) add_strip<T, 4>(block, p + j, k, acc + j * panel.ld);
    for (; k < d; k += W) add_strip<T, 1>(block, p + j, k, acc + j * panel.ld);
  }
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
