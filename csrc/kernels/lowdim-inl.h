// Sums over rows of few dimensions for one query at a time. Lanes lie over rows: a query has a reference, dead rows and
// sums of its own, however many there are, and little is left of a pair but its exponential.
//
// Far from all rows a score is <q, X> - h |X|^2 in normal form, whose second term is folded into the weights where all
// queries share h. Close to them it is -h |X - y|^2, the difference first: rows are decoded for it without a rounding
// and y comes in two parts, so that scores, and sums of p (X - y), are as exact where row and query nearly meet as
// elsewhere.
//
// Steps of kLowStep vectors are what is looked at first, and what is left out when none of their rows can count. While
// most do, nothing is looked at: the weights come at once, and again if their reference was too low.
#pragma once

#include "rows-inl.h"
#include "softmax-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// Row k of the result is dimension k of all rows.
template <class T, int D>
void decode_low(const Rows& rows, int64_t first, ptrdiff_t count, T inverse, const T* shift, T* x, ptrdiff_t ld,
                T* n2) {
  with_type(rows.type, [&](auto stored) {
    using S = decltype(stored);
    const auto spread = [&](ptrdiff_t stride) IF_INLINED {
      for (int k = 0; k < D; k++) {
        const char* __restrict in = rows.data + first * stride + k * static_cast<ptrdiff_t>(sizeof(S));
        T* __restrict out = x + k * ld;
        for (ptrdiff_t i = 0; i < count; i++) {
          out[i] = inverse * static_cast<T>(widen(*reinterpret_cast<const S*>(in + i * stride))) + shift[k];
        }
      }
    };
    if (sizeof(S) == sizeof(T) && rows.stride == D * sizeof(S)) {  // the compiler makes shuffles of it
      spread(D * sizeof(S));
    } else {
      spread(rows.stride);
    }
  });
  for (int k = 0; n2 && k < D; k++) {
    for (ptrdiff_t i = 0; i < count; i++) n2[i] = (k ? n2[i] : 0) + x[k * ld + i] * x[k * ld + i];
  }
}

// The two parts of y matter together only in float32: float64 has more digits than the rows that are this close.
template <class T, int D, LowForm F>
struct LowScore {
  Vec<T> q[D], rest[D], h;

  explicit LowScore(const LowQuery<T>& query) : h(fill(query.h)) {
    for (int k = 0; k < D; k++) q[k] = fill(query.q[k]), rest[k] = fill(query.rest[k]);
  }
  // Scores of the rows from n on; t: X or X - y, n2: |t|^2. Two chains of sums, for their latency.
  IF_INLINE Vec<T> operator()(const LowRows<T>& rows, ptrdiff_t n, Vec<T>* t, Vec<T>& n2) const {
    const Vec<T> base = load(rows.log_w + n);
    Vec<T> part[2] = {F == LowForm::direct ? Vec<T>{} : base, Vec<T>{}};
#pragma GCC unroll 8
    for (int k = 0; k < D; k++) {
      t[k] = load(rows.x + k * rows.ld + n);
      if (F == LowForm::direct) t[k] -= q[k];
      if (F == LowForm::direct && sizeof(T) == 4) t[k] -= rest[k];
      part[D > 3 ? k % 2 : 0] += t[k] * (F == LowForm::direct ? t[k] : q[k]);
    }
    const Vec<T> total = D > 3 ? part[0] + part[1] : part[0];
    if (F == LowForm::folded) return total;
    n2 = F == LowForm::direct ? total : load(rows.n2 + n);
    return (F == LowForm::direct ? base : total) - h * n2;
  }
};

// Which steps have a row whose score reaches `floor`, and the best score of each lane. The differences are compared as
// they are, divided by h and without the second part of y.
template <class T, int D, LowForm F, bool Weighted>
__attribute__((noinline)) ptrdiff_t look(const LowRows<T>& rows, const LowQuery<T>& query, T floor, int32_t* steps,
                                         Vec<T>& best) {
  constexpr ptrdiff_t W = kWidth<T>;
  const LowScore<T, D, F> score(query);
  const T unit = F == LowForm::direct ? query.h : 1;
  const Vec<T> least = fill(floor / unit), per_unit = fill(1 / unit);
  Vec<T> highest = fill(-static_cast<T>(__builtin_inf()));
  ptrdiff_t count = 0;
  for (ptrdiff_t n = 0; n < rows.count; n += kLowStep * W) {
    Vec<T> s[kLowStep], t[D], n2;
#pragma GCC unroll 4
    for (int v = 0; v < kLowStep; v++) {
      const ptrdiff_t i = n + v * W;
      if (F == LowForm::direct) {
        s[v] = Weighted ? load(rows.log_w + i) * per_unit : Vec<T>{};
#pragma GCC unroll 8
        for (int k = 0; k < D; k++) {
          const Vec<T> difference = load(rows.x + k * rows.ld + i) - score.q[k];
          s[v] -= difference * difference;
        }
      } else {
        s[v] = score(rows, i, t, n2);
      }
    }
    const Vec<T> top = max(max(s[0], s[1]), max(s[2], s[3]));
    highest = max(top, highest);
    steps[count] = static_cast<int32_t>(n);
    count += any_reaches(top, least);
  }
  best = highest * unit;
  return count;
}

// Adds the weights p = 2^(score - reference) of the listed steps, or of all, to the sums of the query, unless a score
// exceeds the reference by more than kSlack: then it returns false.
template <class T, int D, LowForm F, LowSums S>
__attribute__((noinline)) bool weigh(const LowRows<T>& rows, LowQuery<T>& query, const int32_t* steps, ptrdiff_t count,
                                     Vec<T>& best) {
  constexpr ptrdiff_t W = kWidth<T>;
  constexpr bool kMoments = S != LowSums::mean, kAlong = S == LowSums::along;
  constexpr int kSums = kAlong ? 2 * D + 4 : kMoments ? D + 4 : F == LowForm::direct ? D + 2 : D + 1;
  const LowScore<T, D, F> score(query);
  const Vec<T> reference = fill(query.reference);
  Vec<T> highest = fill(-static_cast<T>(__builtin_inf())), sum[kSums] = {};
  for (ptrdiff_t i = 0; i < count; i++) {
    const ptrdiff_t first = steps ? steps[i] : 0, last = steps ? first + kLowStep * W : rows.count;
    for (ptrdiff_t n = first; n < last; n += W) {
      Vec<T> t[D], n2;
      // The best score is kept as it is: less a reference it would have the digits of that alone.
      const Vec<T> whole = score(rows, n, t, n2), s = whole - reference;
      const Vec<T> p = exp2(s);
      highest = max(whole, highest);
      sum[0] += p;
#pragma GCC unroll 8
      for (int k = 0; k < D; k++) sum[1 + k] += p * t[k];
      if (F == LowForm::direct || kMoments) sum[D + 1] += p * n2;
      if (kMoments) {
        sum[D + 2] += p * p;
        sum[D + 3] += p * s;
      }
      if (kAlong) {
        Vec<T> along = query.u[0] * t[0];
#pragma GCC unroll 8
        for (int k = 1; k < D; k++) along += query.u[k] * t[k];
        along *= p;
#pragma GCC unroll 8
        for (int k = 0; k < D; k++) sum[D + 4 + k] += along * t[k];
      }
    }
  }
  best = highest;
  if (any_reaches(highest - reference, fill<T>(kSlack))) return false;
#pragma GCC unroll 20
  for (int i = 0; i < kSums; i++) store(query.sums + i * W, load(query.sums + i * W) + sum[i]);
  return true;
}

template <class T, int D>
void raise_reference(LowQuery<T>& query) {
  constexpr ptrdiff_t W = kWidth<T>;
  const Vec<T> up = fill(query.low - query.reference), f = exp2(-up);
  T* const sums = query.sums;
  if (f[0] == 0) memset(sums, 0, (2 * D + 4) * sizeof f);  // also what is no number
  store(sums + (D + 3) * W, load(sums + (D + 3) * W) - up * load(sums));
  store(sums + (D + 2) * W, f * load(sums + (D + 2) * W));
  for (int i = 0; i < 2 * D + 4; i++) store(sums + i * W, f * load(sums + i * W));
  query.reference = query.low;
}

template <class T, int D, LowForm F>
ptrdiff_t look(const LowRows<T>& rows, const LowQuery<T>& query, T floor, int32_t* steps, Vec<T>& best) {
  const auto by_weight = F == LowForm::direct && !rows.weighted ? look<T, D, F, false> : look<T, D, F, true>;
  return by_weight(rows, query, floor, steps, best);
}

// Scores of the rows at hand, the best of each lane.
template <class T>
IF_INLINE void renew(LowQuery<T>& query, Vec<T> best) {
  if (query.lanes) {
    store(query.lanes, max(best, load(query.lanes)));
    query.highest = highest<T>(best);
  } else if (any_reaches(best, fill(query.low))) {
    query.highest = highest<T>(best);
  } else {
    return;
  }
  query.low = query.highest > query.low ? query.highest : query.low;
}

// Returns how many rows were not dead.
template <class T, int D, LowForm F, LowSums S>
ptrdiff_t add_low(const LowRows<T>& rows, LowQuery<T>& query) {
  constexpr ptrdiff_t kRows = kLowStep * kWidth<T>;
  Vec<T> best;
  if (!query.sparse && weigh<T, D, F, S>(rows, query, nullptr, 1, best)) {
    renew(query, best);
    query.sparse = !any_reaches(best, fill(query.low - query.cut));
    return rows.count;
  }
  int32_t steps[kLowRows / kRows];
  const auto find = [&] {
    const T floor = query.low - query.cut;
    return look<T, D, F>(rows, query, floor - coarseness(query, -floor), steps, best);
  };
  const T before = query.low;
  ptrdiff_t count = find();
  renew(query, best);
  if (query.low > before + kSlack) count = find();
  query.sparse = 2 * count < rows.count / kRows;
  if (count == 0) return 0;
  if (query.low > query.reference + kSlack) raise_reference<T, D>(query);
  // What was looked at is not to the last digit what is weighed. Where a reference of that size has no digits left for
  // differences of scores, the sums are no numbers, and no answer is made of them.
  if (!weigh<T, D, F, S>(rows, query, steps, count, best)) {
    query.low = highest<T>(max(best, fill(query.low)));
    raise_reference<T, D>(query);
    if (!weigh<T, D, F, S>(rows, query, steps, count, best)) {
      store(query.sums, fill(static_cast<T>(__builtin_nan(""))));
    }
  }
  return count * kRows;
}

template <class T, int D, LowForm F, LowSums S>
void add_all_low(const LowRows<T>& rows, LowQuery<T>* queries, ptrdiff_t count) {
  const FlushSubnormals flush;
  for (ptrdiff_t q = 0; q < count; q++) {
    queries[q].dead_rows += rows.count - add_low<T, D, F, S>(rows, queries[q]);
  }
}

template <class T, int D, LowForm F>
ptrdiff_t find_low(const LowRows<T>& rows, const LowQuery<T>& query, T floor, int32_t* places, T* scores) {
  constexpr ptrdiff_t W = kWidth<T>;
  const LowScore<T, D, F> score(query);
  ptrdiff_t count = 0;
  for (ptrdiff_t n = 0; n < rows.count; n += W) {
    Vec<T> t[D], n2;
    const Vec<T> s = score(rows, n, t, n2);
    if (!any_reaches(s, fill(floor))) continue;
    T of_lanes[W];
    store(of_lanes, s);
    for (ptrdiff_t lane = 0; lane < W; lane++) {
      if (of_lanes[lane] < floor) continue;
      places[count] = static_cast<int32_t>(n + lane);
      scores[count++] = of_lanes[lane];
    }
  }
  return count;
}

template <class T, int D>
constexpr LowKernels<T> low_kernels() {
  return {kWidth<T>,
          decode_low<T, D>,
          {{add_all_low<T, D, LowForm::norms, LowSums::mean>, add_all_low<T, D, LowForm::norms, LowSums::moments>,
            add_all_low<T, D, LowForm::norms, LowSums::along>},
           {add_all_low<T, D, LowForm::folded, LowSums::mean>, nullptr, nullptr},
           {add_all_low<T, D, LowForm::direct, LowSums::mean>, add_all_low<T, D, LowForm::direct, LowSums::moments>,
            add_all_low<T, D, LowForm::direct, LowSums::along>}},
          {find_low<T, D, LowForm::norms>, find_low<T, D, LowForm::folded>, find_low<T, D, LowForm::direct>}};
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
