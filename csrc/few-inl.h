// The two products for a few queries, where reading the rows once is what takes the time: lanes lie over dimensions.
//
//     scores   s[n][q] = <q, X[n]>                 register tile: kFewRows rows x up to kFewQueries queries, over k
//     sums     acc[q][k] += sum_n p[n][q] X[n][k]  the same tile; its rows are summed in registers
//
// Rows are read as stored and put into normal form in registers, once per product and kFewQueries queries: what comes
// from memory is what was given, and nothing is written but s and acc. The first product brings a block into the
// second-level cache, where the second finds it. With every step a little of the next block is fetched: by the first
// product all of it, or by each of them half where the latest block was not dead. As in the other product no chain is
// longer than kChunk before its sum goes up a level.
#pragma once

#include "kernels.h"
#include "math-inl.h"
#include "rows-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

constexpr int kFewRows = 4, kFewQueries = kManyRegisters ? 4 : 2;

// One step's share of the rows ahead.
template <class T, class S>
IF_INLINE void fetch(const char* ahead) {
  constexpr ptrdiff_t kBytes = kFewRows * kWidth<T> * static_cast<ptrdiff_t>(sizeof(S));
#pragma GCC unroll 8
  for (ptrdiff_t at = 0; at < kBytes; at += 64) __builtin_prefetch(ahead + at, 0, 2);
}

// kFewRows rows from some dimension on, by whole vectors; what is left of them comes last, copied, with zeros after it.
template <class T, class S>
struct RowTile {
  const S* x[kFewRows];
  const T* shift;

  RowTile(const Block<T>& block, ptrdiff_t n)
      : shift(block.shift), left(block.d / kWidth<T>), rest(block.d % kWidth<T>) {
    for (int i = 0; i < kFewRows; i++) x[i] = reinterpret_cast<const S*>(block.stored[n + i]);
  }
  // How many vectors come next, at most so many; 0 at the end.
  ptrdiff_t next(ptrdiff_t most) {
    if (left == 0) return rest > 0 ? last() : 0;
    const ptrdiff_t count = left < most ? left : most;
    left -= count;
    return count;
  }
  void advance(ptrdiff_t count) {
    for (int i = 0; i < kFewRows; i++) x[i] += count * kWidth<T>;
    shift += count * kWidth<T>;
  }

 private:
  __attribute__((noinline)) ptrdiff_t last() {
    for (int i = 0; i < kFewRows; i++) {
      memset(x_rest[i], 0, sizeof x_rest[i]);
      memcpy(x_rest[i], x[i], static_cast<size_t>(rest) * sizeof(S));
      x[i] = x_rest[i];
    }
    memset(shift_rest, 0, sizeof shift_rest);
    memcpy(shift_rest, shift, static_cast<size_t>(rest) * sizeof(T));
    shift = shift_rest;
    rest = 0;
    return 1;
  }

  ptrdiff_t left;  // whole vectors
  ptrdiff_t rest;  // numbers after those
  S x_rest[kFewRows][kWidth<T>];
  T shift_rest[kWidth<T>];
};

// The two products of kFewRows rows: functions of their own, so that each has all registers.
template <class T, class S, int Q>
__attribute__((noinline)) void dot_few(const Block<T>& block, ptrdiff_t n, const T* q, ptrdiff_t ld, T* s,
                                       const char* ahead) {
  constexpr ptrdiff_t W = kWidth<T>;
  RowTile<T, S> rows(block, n);
  const Vec<T> inverse = fill(block.inverse);
  Vec<T> total[kFewRows][Q] = {};
  while (const ptrdiff_t count = rows.next(kChunk)) {
    Vec<T> part[kFewRows][Q] = {};
    for (ptrdiff_t k = 0; k < count * W; k += W) {
      fetch<T, S>(ahead + k * kFewRows * static_cast<ptrdiff_t>(sizeof(S)));
      const Vec<T> shift = load(rows.shift + k);
      Vec<T> y[Q];
#pragma GCC unroll 4
      for (int j = 0; j < Q; j++) y[j] = load(q + j * ld + k);
#pragma GCC unroll 4
      for (int i = 0; i < kFewRows; i++) {
        const Vec<T> row = inverse * widen_all<T>(rows.x[i] + k) + shift;
#pragma GCC unroll 4
        for (int j = 0; j < Q; j++) part[i][j] += row * y[j];
      }
    }
    rows.advance(count), q += count * W, ahead += count * W * kFewRows * static_cast<ptrdiff_t>(sizeof(S));
    for (int i = 0; i < kFewRows; i++) {
      for (int j = 0; j < Q; j++) total[i][j] += part[i][j];
    }
  }
  for (int i = 0; i < kFewRows; i++) {
    for (int j = 0; j < Q; j++) s[i * W + j] = sum<T>(total[i][j]);
  }
}

// acc[j][k] += sum_i p[i][j] X[n + i][k]
template <class T, class S, int Q>
__attribute__((noinline)) void add_few(const Block<T>& block, ptrdiff_t n, const T* p, T* acc, ptrdiff_t ld,
                                       const char* ahead) {
  constexpr ptrdiff_t W = kWidth<T>;
  Vec<T> weight[kFewRows][Q];
  bool some = false;
#pragma GCC unroll 4
  for (int i = 0; i < kFewRows; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < Q; j++) {
      some |= p[i * W + j] != 0;
      weight[i][j] = fill(p[i * W + j]);
    }
  }
  if (!some) return;
  RowTile<T, S> rows(block, n);
  const Vec<T> inverse = fill(block.inverse);
  while (const ptrdiff_t count = rows.next(block.d)) {
    for (ptrdiff_t k = 0; k < count * W; k += W) {
      fetch<T, S>(ahead + k * kFewRows * static_cast<ptrdiff_t>(sizeof(S)));
      const Vec<T> shift = load(rows.shift + k);
      Vec<T> part[Q] = {};
#pragma GCC unroll 4
      for (int i = 0; i < kFewRows; i++) {
        const Vec<T> row = inverse * widen_all<T>(rows.x[i] + k) + shift;
#pragma GCC unroll 4
        for (int j = 0; j < Q; j++) part[j] += weight[i][j] * row;
      }
#pragma GCC unroll 4
      for (int j = 0; j < Q; j++) store(acc + j * ld + k, load(acc + j * ld + k) + part[j]);
    }
    rows.advance(count), acc += count * W, ahead += count * W * kFewRows * static_cast<ptrdiff_t>(sizeof(S));
  }
}

template <int N>
struct Constant {
  static constexpr int value = N;
};

// f(constant, first) for the lanes of a panel, Q at a time and then fewer.
template <int Q, class F>
IF_INLINE void over_lanes(int lanes, F f, int first = 0) {
  for (; first + Q <= lanes; first += Q) f(Constant<Q>{}, first);
  if constexpr (Q > 1) over_lanes<Q / 2>(lanes, f, first);
}

// Where the rows that are fetched along with rows n ... lie; those rows themselves where nothing is to be.
template <class S, class T>
IF_INLINE const char* fetched_at(const Block<T>& block, ptrdiff_t n, bool wanted) {
  return wanted ? block.ahead + n * block.d * static_cast<ptrdiff_t>(sizeof(S)) : block.stored[n];
}

// s[n][lane] for the lanes in use; the others are 0.
template <class T>
void multiply_few(const Block<T>& block, const Panel<T>& panel, const T* q, T* s) {
  constexpr ptrdiff_t W = kWidth<T>;
  with_type(block.type, [&](auto stored) IF_INLINED {
    using S = decltype(stored);
    for (ptrdiff_t n = 0; n < block.rows; n += kFewRows) {
      const char* const ahead = fetched_at<S>(block, n, !panel.added || n / kFewRows % 2 == 0);
      for (int i = 0; i < kFewRows; i++) store(s + (n + i) * W, Vec<T>{});
      over_lanes<kFewQueries>(panel.lanes, [&](auto Q, int j) IF_INLINED {
        dot_few<T, S, Q.value>(block, n, q + j * panel.ld, panel.ld, s + n * W + j, ahead);
      });
    }
  });
}

// acc[lane][k] += sum_n p[n][lane] x[n][k]
template <class T>
void multiply_transposed_few(const Block<T>& block, const Panel<T>& panel, const T* p, T* acc) {
  constexpr ptrdiff_t W = kWidth<T>;
  with_type(block.type, [&](auto stored) IF_INLINED {
    using S = decltype(stored);
    for (ptrdiff_t n = 0; n < block.rows; n += kFewRows) {
      const char* const ahead = fetched_at<S>(block, n, n / kFewRows % 2 == 1);
      // Every row has a weight of its own for every query: with 16 registers there is room for one query.
      over_lanes<kManyRegisters ? kFewQueries : 1>(panel.lanes, [&](auto Q, int j) IF_INLINED {
        add_few<T, S, Q.value>(block, n, p + n * W + j, acc + j * panel.ld, panel.ld, ahead);
      });
    }
  });
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
