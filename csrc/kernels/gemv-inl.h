// The two products for a few queries (GEMV), where reading the rows once is what takes the time: lanes lie over
// dimensions.
//
//     scores   s[q][n] = <q, X[n]>                  one row after another for the first kGemvLanes queries
//     sums     acc[q][k] += sum_n p[q][n] X[n][k]   kGemvRows rows; they are summed in registers
//
// Rows are read as stored and put into normal form in registers, once per product and kGemvLanes queries: what comes
// from memory is what was given, and nothing is written but s and acc. The first product reads a block in one stream,
// which the processor's own prefetching follows better than several rows at once, or than software that fetches ahead;
// it leaves the block in the second-level cache, where the second product finds it. As in the other product no chain is
// longer than kChunk before its sum goes up a level.
//
// Rows are at least a vector long. What whole vectors leave at the end of a row is read in one that ends with the row,
// in which only what is new counts.
#pragma once

#include "gemv-u8-inl.h"
#include "kernels.h"
#include "math-inl.h"
#include "rows-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

constexpr int kGemvRows = 4, kGemvLanes = 4;

// Whole vectors before the one that ends with the row, in numbers.
template <class T>
IF_INLINE ptrdiff_t before_end(ptrdiff_t d) {
  return (d - 1) / kWidth<T> * kWidth<T>;
}
// Of that last one: 1 where it is new, 0 where the others have been before.
template <class T>
struct Ends {
  T zeros_and_ones[2 * kWidth<T>] = {};
  constexpr Ends() {
    for (ptrdiff_t i = kWidth<T>; i < 2 * kWidth<T>; i++) zeros_and_ones[i] = 1;
  }
};
template <class T>
constexpr Ends<T> kEnds;
template <class T>
IF_INLINE Vec<T> new_at_end(ptrdiff_t d) {
  const ptrdiff_t is_new = d - before_end<T>(d);
  return load(kEnds<T>.zeros_and_ones + is_new);
}

// s[j * rows + n] = <q[j], X[n]> for j < Q, with R rows at once
template <class T, class S, int R, int Q>
__attribute__((noinline)) void gemv_dot(const Block<T>& block, const T* q, ptrdiff_t ld, T* s) {
  constexpr ptrdiff_t W = kWidth<T>;
  constexpr int kChains = R * Q < 4 ? 4 / (R * Q) : 1;  // enough of them to hide the latency
  constexpr ptrdiff_t kStretch = kChains * kChunk * W;
  const ptrdiff_t d = block.d, whole = before_end<T>(d);
  const Vec<T> inverse = fill(block.inverse);
  Vec<T> end[Q];
  for (int j = 0; j < Q; j++) end[j] = new_at_end<T>(d) * load(q + j * ld + d - W);
  for (ptrdiff_t n = 0; n < block.rows; n += R) {
    const S* x[R];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) x[i] = reinterpret_cast<const S*>(block.stored[n + i]);
    Vec<T> total[R][Q] = {};
    for (ptrdiff_t first = 0; first < whole; first += kStretch) {
      const ptrdiff_t last = whole - first < kStretch ? whole : first + kStretch;
      const ptrdiff_t together = first + (last - first) / (kChains * W) * (kChains * W);
      Vec<T> part[kChains][R][Q] = {};
      const auto step = [&](int chain, ptrdiff_t k) IF_INLINED {
        const Vec<T> shift = load(block.shift + k);
        Vec<T> y[Q];
#pragma GCC unroll 4
        for (int j = 0; j < Q; j++) y[j] = load(q + j * ld + k);
#pragma GCC unroll 4
        for (int i = 0; i < R; i++) {
          const Vec<T> row = inverse * widen_all<T>(x[i] + k) + shift;
#pragma GCC unroll 4
          for (int j = 0; j < Q; j++) part[chain][i][j] += row * y[j];
        }
      };
#pragma GCC unroll 1
      for (ptrdiff_t k = first; k < together; k += kChains * W) {
#pragma GCC unroll 4
        for (int chain = 0; chain < kChains; chain++) step(chain, k + chain * W);
      }
#pragma GCC unroll 1
      for (ptrdiff_t k = together; k < last; k += W) step(0, k);
#pragma GCC unroll 4
      for (int chain = 0; chain < kChains; chain++) {
        for (int i = 0; i < R; i++) {
          for (int j = 0; j < Q; j++) total[i][j] += part[chain][i][j];
        }
      }
    }
    for (int i = 0; i < R; i++) {
      const Vec<T> row = inverse * widen_all<T>(x[i] + d - W) + load(block.shift + d - W);
      for (int j = 0; j < Q; j++) s[j * block.rows + n + i] = sum<T>(total[i][j] + row * end[j]);
    }
  }
}

// acc[j * ld + k] += sum_n p[j * rows + n] X[n][k] for j < Q. With one query memory would be idle meanwhile: for every
// kGemvRows rows as much of what is ahead is fetched as one of them has.
template <class T, class S, int Q>
__attribute__((noinline)) void gemv_add(const Block<T>& block, const T* p, T* acc, ptrdiff_t ld) {
  constexpr ptrdiff_t W = kWidth<T>;
  const ptrdiff_t d = block.d, whole = d / W * W;
  const Vec<T> inverse = fill(block.inverse);
  for (ptrdiff_t n = 0; n < block.rows; n += kGemvRows) {
    Vec<T> weight[kGemvRows][Q];
    const S* x[kGemvRows];
    bool some = false;
#pragma GCC unroll 4
    for (int i = 0; i < kGemvRows; i++) {
      x[i] = reinterpret_cast<const S*>(block.stored[n + i]);
#pragma GCC unroll 4
      for (int j = 0; j < Q; j++) {
        some |= p[j * block.rows + n + i] != 0;
        weight[i][j] = fill(p[j * block.rows + n + i]);
      }
    }
    if (!some) continue;
    const T* const ahead = reinterpret_cast<const T*>(block.ahead) + n / kGemvRows * whole;
    for (ptrdiff_t k = 0; k < whole; k += W) {
      if (Q == 1) __builtin_prefetch(ahead + k, 0, 2);
      const Vec<T> shift = load(block.shift + k);
      Vec<T> part[Q] = {};
#pragma GCC unroll 4
      for (int i = 0; i < kGemvRows; i++) {
        const Vec<T> row = inverse * widen_all<T>(x[i] + k) + shift;
#pragma GCC unroll 4
        for (int j = 0; j < Q; j++) part[j] += weight[i][j] * row;
      }
#pragma GCC unroll 4
      for (int j = 0; j < Q; j++) store(acc + j * ld + k, load(acc + j * ld + k) + part[j]);
    }
  }
}

// The same for what whole vectors leave at the end of the rows.
template <class T, class S, int Q>
__attribute__((noinline)) void gemv_add_ends(const Block<T>& block, const T* p, T* acc, ptrdiff_t ld) {
  const ptrdiff_t at = block.d - kWidth<T>;
  const Vec<T> inverse = fill(block.inverse), shift = load(block.shift + at);
  Vec<T> total[Q] = {};
  for (ptrdiff_t n = 0; n < block.rows; n++) {
    const Vec<T> row = inverse * widen_all<T>(reinterpret_cast<const S*>(block.stored[n]) + at) + shift;
    for (int j = 0; j < Q; j++) total[j] += p[j * block.rows + n] * row;
  }
  for (int j = 0; j < Q; j++) {
    T* const to = acc + j * ld + at;
    store(to, load(to) + total[j] * new_at_end<T>(block.d));
  }
}

// f(constant, first) for the lanes of a panel, Q at a time and then fewer.
template <int Q, class F>
IF_INLINE void over_lanes(int lanes, F f, int first = 0) {
  for (; first + Q <= lanes; first += Q) f(Constant<Q>{}, first);
  if constexpr (Q > 1) over_lanes<Q / 2>(lanes, f, first);
}

// s[lane][n] = <q[lane], X[n]>
template <class T>
void gemv_multiply(const Block<T>& block, const Panel<T>& panel, const T* q, T* s) {
#if defined(__SSE4_1__)
  if constexpr (sizeof(T) == 4) {
    if (block.type == RowType::u8 && block.d >= kU8Dims) {
      for (int j = 0; j < panel.lanes; j++) u8_dot(block, q + j * panel.ld, s + j * block.rows);
      return;
    }
  }
#endif
  with_type(block.type, [&](auto stored) IF_INLINED {
    over_lanes<kGemvLanes>(panel.lanes, [&](auto Q, int j) IF_INLINED {
      // The first of the queries read from memory, row after row; the others from cache.
      using S = decltype(stored);
      constexpr int kRows = kManyRegisters ? kGemvRows : 2;
      const auto dot = j == 0 ? gemv_dot<T, S, 1, Q.value> : gemv_dot<T, S, kRows, Q.value>;
      dot(block, q + j * panel.ld, panel.ld, s + j * block.rows);
    });
  });
}

// acc[lane][k] += sum_n p[lane][n] X[n][k]
template <class T>
void gemv_multiply_transposed(const Block<T>& block, const Panel<T>& panel, const T* p, T* acc) {
#if defined(__SSE4_1__)
  if constexpr (sizeof(T) == 4) {
    if (block.type == RowType::u8 && block.d >= kU8Dims) {
      for (int j = 0; j < panel.lanes; j++) u8_add(block, p + j * block.rows, acc + j * panel.ld);
      return;
    }
  }
#endif
  with_type(block.type, [&](auto stored) IF_INLINED {
    // Every row has a weight of its own for every query: with 16 registers there is room for one query.
    over_lanes<kManyRegisters ? kGemvLanes : 1>(panel.lanes, [&](auto Q, int j) IF_INLINED {
      using S = decltype(stored);
      gemv_add<T, S, Q.value>(block, p + j * block.rows, acc + j * panel.ld, panel.ld);
      if (block.d % kWidth<T> == 0) return;
      gemv_add_ends<T, S, Q.value>(block, p + j * block.rows, acc + j * panel.ld, panel.ld);
    });
  });
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
