// The two products of a block of rows with a panel of queries, both on one register tile.
//
//     scores   s[n][q]   = sum_k X[n][k] q[k][q]        tile over 12 rows (6 with 16 registers) x the lanes
//     sums     acc[k][q] += sum_n X[n][k] p[n][q]       tile over dimensions x the lanes
//
// A lane is a query, so both products broadcast numbers of X against vectors of queries, and everything between them
// (maxima, exponentials, sums) is vertical. Sums over k are cut into chunks of at most kChunk terms and sums over n
// into blocks of at most kBlock, each with fresh accumulators that are then added to memory: two levels of summation,
// on which the error bounds of the driver rely.
//
// Loop order: chunk of dimensions, panel, tile of rows, k. A chunk of X (50 kB) and of q (14 kB) and the scores of a
// few panels stay in the first two levels of cache; per block q and acc pass by once, and X once for those panels and
// each product, however long its rows are. While the scores are formed, the rows that come next are fetched from
// memory, a line now and then: asking again for what is there costs as much as a step of the product.
#pragma once

#include "kernels.h"
#include "math-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// What is fetched from memory while a block meets a panel and those after it, evenly over so many steps of each.
struct Ahead {
  static constexpr ptrdiff_t kBytes = 64;  // of a cache line
  const char* at;
  ptrdiff_t every, left;  // steps to a line, and to the next one

  template <class T>
  Ahead(const Block<T>& block, const Panel<T>& panel, ptrdiff_t steps) {
    const ptrdiff_t share = block.ahead_bytes / panel.of, lines = (share + kBytes - 1) / kBytes;
    at = block.ahead + panel.number * share;
    left = every = lines == 0 ? PTRDIFF_MAX : steps > lines ? steps / lines : 1;
  }

  IF_INLINE void step() {
    if (__builtin_expect(--left > 0, 1)) return;
    __builtin_prefetch(at, 0, 2);
    at += kBytes, left = every;
  }
};

// Hands finish() sum[i][v], whose lanes are those of vector v of sum_{k < K} a[i * row + k * col] b[k]; b has V vectors
// per row. With a list, its entries take the place of k in a.
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
    if (Fetch) ahead->step();
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
  finish(sum);
}

// f(i, v) for the places of a tile.
template <int R, int V, class F>
IF_INLINE void over_tile(F f) {
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) f(i, v);
  }
}

// Rows of a tile: what 32 or 16 vector registers hold next to the operands.
template <int V>
constexpr int kTileRows = V == 1 || kManyRegisters ? 12 : 6;

// Calls f with the first dimension of every chunk.
template <class T, class F>
IF_INLINE void over_chunks(const Block<T>& block, F f) {
  for (ptrdiff_t k = 0; k < block.d; k += block.chunk) f(k);
}

template <class T>
struct Chunk {
  const T* x;
  ptrdiff_t width;
  Chunk(const Block<T>& block, ptrdiff_t k)
      : x(block.x + k / block.chunk * block.chunk_stride),
        width(block.d - k < block.chunk ? block.d - k : block.chunk) {}
};

// The chunk of q after the one that starts at dimension k.
template <class T, int V>
IF_INLINE const T* following(const Block<T>& block, ptrdiff_t k, const T* q) {
  return k + block.chunk < block.d ? q + (k + block.chunk) * V * kWidth<T> : nullptr;
}

template <class T>
constexpr ptrdiff_t kLine = 64 / static_cast<ptrdiff_t>(sizeof(T));  // numbers in a cache line

template <class T, int V>
using Tile = Vec<T>[kTileRows<V>][V];

// s[n][lane] += sum_k x[n][k] q[k][lane] over the chunk that starts at dimension `first`; what the last chunk makes of
// a tile that starts with row n goes to finish(n, tile) instead. `next` will take the place of this chunk of q: it is
// brought closer, a little with every tile, unless nullptr.
template <class T, int V, class Finish>
IF_INLINE void multiply(const Block<T>& block, ptrdiff_t first, const T* q, const T* next, T* s, Ahead& ahead,
                        Finish finish) {
  constexpr int R = kTileRows<V>, W = kWidth<T>;
  const Chunk<T> chunk(block, first);
  const bool last = first + chunk.width == block.d;
  q += first * V * W;
  const ptrdiff_t share = next ? chunk.width * V * W * R / block.rows : 0;
  for (ptrdiff_t n = 0; n < block.rows; n += R, next += share) {
    T* const to = s + n * V * W;
    for (ptrdiff_t at = 0; at < share; at += kLine<T>) __builtin_prefetch(next + at, 0, 2);
    const auto keep = [&](Tile<T, V>& sum) IF_INLINED {
      if (first > 0) {
        over_tile<R, V>([&](int i, int v) IF_INLINED { sum[i][v] += load(to + (i * V + v) * W); });
      }
      if (last) {
        finish(n, sum);
      } else {
        over_tile<R, V>([&](int i, int v) IF_INLINED { store(to + (i * V + v) * W, sum[i][v]); });
      }
    };
    tile<T, R, V, true, false>(chunk.width, chunk.x + n * block.ld, block.ld, 1, nullptr, q, &ahead, keep);
  }
}

// What it fetches in so many steps of each panel.
template <class T, int V>
Ahead ahead_of(const Block<T>& block, const Panel<T>& panel) {
  return {block, panel, block.d * (block.rows / kTileRows<V>)};
}

// Some rows of a block, in increasing order; p has one row for each of them.
struct Listed {
  const int32_t* rows;
  ptrdiff_t count;
};

template <class T, int R, int V>
void add_rows(const Block<T>& block, const Listed& listed, const T* x, const T* p, T* acc) {
  const auto finish = [&](Vec<T>(&sum)[R][V]) IF_INLINED {
    over_tile<R, V>([&](int i, int v) IF_INLINED {
      T* const at = acc + (i * V + v) * kWidth<T>;
      store(at, load(at) + sum[i][v]);
    });
  };
  // Sums of other panels have driven these out of the caches near the core.
  for (ptrdiff_t at = 0; at < R * V * kWidth<T>; at += kLine<T>) __builtin_prefetch(acc + at, 1, 2);
  if (listed.count == block.rows) {
    tile<T, R, V, false, false>(block.rows, x, 1, block.ld, nullptr, p, nullptr, finish);
  } else {
    tile<T, R, V, false, true>(listed.count, x, 1, block.ld, listed.rows, p, nullptr, finish);
  }
}

// acc[k][lane] += sum_n x[listed n][k] p[n][lane] over the chunk that starts at dimension `first`
template <class T, int V>
void multiply_transposed(const Block<T>& block, ptrdiff_t first, const Listed& listed, const T* p, T* acc) {
  constexpr int R = kTileRows<V>, W = V * kWidth<T>;
  using AddRows = void (*)(const Block<T>&, const Listed&, const T*, const T*, T*);
  // clang-format off
  constexpr AddRows by_height[] = {
      nullptr,
      add_rows<T, 1, V>, add_rows<T, 2, V>, add_rows<T, 3, V>, add_rows<T, 4, V>, add_rows<T, 5, V>, add_rows<T, 6, V>,
      add_rows<T, R == 12 ? 7 : 1, V>, add_rows<T, R == 12 ? 8 : 1, V>, add_rows<T, R == 12 ? 9 : 1, V>,
      add_rows<T, R == 12 ? 10 : 1, V>, add_rows<T, R == 12 ? 11 : 1, V>, add_rows<T, R == 12 ? 12 : 1, V>,
  };
  // clang-format on
  const Chunk<T> chunk(block, first);
  acc += first * W;
  for (ptrdiff_t k = 0, left = chunk.width; left > 0;) {
    // Whole tiles; the last two are made equal, so that none is too small to fill the pipelines.
    const ptrdiff_t height = left >= 2 * R || left == R ? R : left > R ? left / 2 : left;
    by_height[height](block, listed, chunk.x + k, p, acc + k * W);
    k += height, left -= height;
  }
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
