// Sums over rows of few dimensions for one query at a time. Lanes lie over rows: a query has a reference, dead rows and
// sums of its own, however many there are, and little is left of a pair but its exponential.
//
// Far from all rows a score is <q, X> - h |X|^2 in normal form, whose second term is folded into the weights where all
// queries share h. Close to them it is -h |X - y|^2, the difference first: rows are decoded for it without a rounding
// and y comes in two parts, so that scores, and sums of p (X - y), are as exact where row and query nearly meet as
// elsewhere.
//
// Steps of kLowdimStep vectors are scored first, and left out when none of their rows can count. While most do, the
// weights come at once, and again if their reference was too low.
#pragma once

#include "kernels.h"
#include "math-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// The two parts of y matter together only in float32: float64 has more digits than the rows that are this close.
template <class T, int D, LowdimForm F>
struct LowdimScore {
  Vec<T> q[D], rest[D], h;

  explicit LowdimScore(const LowdimQuery<T>& query) : h(fill(query.h)) {
    for (int k = 0; k < D; k++) q[k] = fill(query.q[k]), rest[k] = fill(query.rest[k]);
  }
  // Scores of the rows from n on; t: X or X - y, n2: |t|^2. Two chains of sums, for their latency.
  IF_INLINE Vec<T> operator()(const LowdimRows<T>& rows, ptrdiff_t n, Vec<T>* t, Vec<T>& n2) const {
    const Vec<T> base = load(rows.log_w + n);
    Vec<T> part[2] = {F == LowdimForm::direct ? Vec<T>{} : base, Vec<T>{}};
#pragma GCC unroll 8
    for (int k = 0; k < D; k++) {
      t[k] = load(rows.x + k * rows.ld + n);
      if (F == LowdimForm::direct) t[k] -= q[k];
      if (F == LowdimForm::direct && sizeof(T) == 4) t[k] -= rest[k];
      part[D > 3 ? k % 2 : 0] += t[k] * (F == LowdimForm::direct ? t[k] : q[k]);
    }
    const Vec<T> total = D > 3 ? part[0] + part[1] : part[0];
    if (F == LowdimForm::folded) return total;
    n2 = F == LowdimForm::direct ? total : load(rows.n2 + n);
    return (F == LowdimForm::direct ? base : total) - h * n2;
  }
};

// Which steps have a row whose score reaches `floor`, and the best score of each lane. The differences are compared as
// they are, divided by h and without the second part of y.
template <class T, int D, LowdimForm F, bool Weighted>
__attribute__((noinline)) ptrdiff_t live_steps(const LowdimRows<T>& rows, const LowdimQuery<T>& query, T floor,
                                               int32_t* steps, Vec<T>& peaks) {
  constexpr ptrdiff_t W = kWidth<T>;
  const LowdimScore<T, D, F> score(query);
  const T unit = F == LowdimForm::direct ? query.h : 1;
  const Vec<T> least = fill(floor / unit), per_unit = fill(1 / unit);
  Vec<T> highest = fill(-static_cast<T>(__builtin_inf()));
  ptrdiff_t count = 0;
  for (ptrdiff_t n = 0; n < rows.count; n += kLowdimStep * W) {
    Vec<T> s[kLowdimStep], t[D], n2;
#pragma GCC unroll 4
    for (int v = 0; v < kLowdimStep; v++) {
      const ptrdiff_t i = n + v * W;
      if (F == LowdimForm::direct) {
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
  peaks = highest * unit;
  return count;
}

// Adds the weights p = 2^(score - reference) of the listed steps, or of all, to the sums of the query, unless a score
// exceeds the reference by more than kRescale: then it returns false.
template <class T, int D, LowdimForm F, LowdimSums S>
__attribute__((noinline)) bool add_steps(const LowdimRows<T>& rows, LowdimQuery<T>& query, const int32_t* steps,
                                         ptrdiff_t count, Vec<T>& peaks) {
  constexpr ptrdiff_t W = kWidth<T>;
  constexpr bool kMoments = S != LowdimSums::mean, kAlong = S == LowdimSums::along;
  constexpr LowdimPlaces at = {D};
  constexpr int kSums = kAlong ? at.count() : kMoments ? at.along() : F == LowdimForm::direct ? at.p_p() : at.n2();
  const LowdimScore<T, D, F> score(query);
  const Vec<T> reference = fill(query.reference);
  Vec<T> highest = fill(-static_cast<T>(__builtin_inf())), total[kSums] = {};
  const ptrdiff_t vectors = steps ? count * kLowdimStep : rows.count / W;
  for (ptrdiff_t begin = 0; begin < vectors; begin += kLowdimChain) {
    const ptrdiff_t end = begin + kLowdimChain < vectors ? begin + kLowdimChain : vectors;
    const ptrdiff_t together = steps ? kLowdimStep : end - begin;
    Vec<T> sum[kSums] = {};
    for (ptrdiff_t v = begin; v < end; v += together) {
      const ptrdiff_t first = steps ? steps[v / kLowdimStep] : v * W;
      for (ptrdiff_t n = first; n < first + together * W; n += W) {
        Vec<T> t[D], n2;
        // The best score is kept as it is: less a reference it would have the digits of that alone.
        const Vec<T> whole = score(rows, n, t, n2), s = whole - reference;
        const Vec<T> p = exp2(s);
        highest = max(whole, highest);
        sum[at.p] += p;
#pragma GCC unroll 8
        for (int k = 0; k < D; k++) sum[at.x + k] += p * t[k];
        if (F == LowdimForm::direct || kMoments) sum[at.n2()] += p * n2;
        if (kMoments) {
          sum[at.p_p()] += p * p;
          sum[at.p_score()] += times_log2(p, s);
        }
        if (kAlong) {
          Vec<T> along = query.u[0] * t[0];
#pragma GCC unroll 8
          for (int k = 1; k < D; k++) along += query.u[k] * t[k];
          along *= p;
#pragma GCC unroll 8
          for (int k = 0; k < D; k++) sum[at.along() + k] += along * t[k];
        }
      }
    }
#pragma GCC unroll 20
    for (int i = 0; i < kSums; i++) total[i] += sum[i];
  }
  peaks = highest;
  if (any_reaches(highest - reference, fill<T>(kRescale))) return false;
#pragma GCC unroll 20
  for (int i = 0; i < kSums; i++) store(query.sums + i * W, load(query.sums + i * W) + total[i]);
  return true;
}

// The same in all dimensions, forms and kinds of sums, and compiled once for them: a call is for many rows.
template <class T>
struct LowdimWay {
  int d;
  ptrdiff_t (*live_steps)(const LowdimRows<T>&, const LowdimQuery<T>&, T floor, int32_t* steps, Vec<T>& peaks);
  bool (*add_steps)(const LowdimRows<T>&, LowdimQuery<T>&, const int32_t* steps, ptrdiff_t count, Vec<T>& peaks);
};

template <class T>
void raise_reference(LowdimQuery<T>& query, int d) {
  constexpr ptrdiff_t W = kWidth<T>;
  const Vec<T> up = fill(query.best - query.reference), f = exp2(-up);
  T* const sums = query.sums;
  const LowdimPlaces at = {d};
  if (f[0] == 0) memset(sums, 0, at.count() * sizeof f);  // also what is NaN
  T *const p = sums + at.p * W, *const p_p = sums + at.p_p() * W, *const p_score = sums + at.p_score() * W;
  store(p_score, load(p_score) - up * load(p));
  store(p_p, f * load(p_p));
  for (int i = 0; i < at.count(); i++) store(sums + i * W, f * load(sums + i * W));
  query.reference = query.best;
}

// Scores of the rows at hand, the best of each lane.
template <class T>
IF_INLINE void renew(LowdimQuery<T>& query, Vec<T> peaks) {
  if (query.lanes) {
    store(query.lanes, max(peaks, load(query.lanes)));
    query.peak = highest<T>(peaks);
  } else if (any_reaches(peaks, fill(query.best))) {
    query.peak = highest<T>(peaks);
  } else {
    return;
  }
  query.best = query.peak > query.best ? query.peak : query.best;
}

// Returns how many rows were not dead.
template <class T>
ptrdiff_t add_lowdim(const LowdimRows<T>& rows, LowdimQuery<T>& query, const LowdimWay<T>& way) {
  constexpr ptrdiff_t kRows = kLowdimStep * kWidth<T>;
  Vec<T> peaks;
  if (!query.sparse && way.add_steps(rows, query, nullptr, 1, peaks)) {
    renew(query, peaks);
    query.sparse = !any_reaches(peaks, fill(query.best - query.cut));
    return rows.count;
  }
  int32_t steps[kLowdimRows / kRows];
  const auto find = [&] {
    const T floor = query.best - query.cut;
    return way.live_steps(rows, query, floor - split_error(query, -floor), steps, peaks);
  };
  const T before = query.best;
  ptrdiff_t count = find();
  renew(query, peaks);
  if (query.best > before + kRescale) count = find();
  query.sparse = 2 * count < rows.count / kRows;
  if (count == 0) return 0;
  if (query.best > query.reference + kRescale) raise_reference(query, way.d);
  // These scores are not to the last digit those that are weighed. Where a reference of that size has no digits left
  // for differences of scores, the sums are NaN, and no answer is made of them.
  if (!way.add_steps(rows, query, steps, count, peaks)) {
    query.best = highest<T>(max(peaks, fill(query.best)));
    raise_reference(query, way.d);
    if (!way.add_steps(rows, query, steps, count, peaks)) {
      store(query.sums, fill(static_cast<T>(__builtin_nan(""))));
    }
  }
  renew(query, peaks);  // by the scores that were weighed, of which the best tells how much the others have
  return count * kRows;
}

template <class T>
__attribute__((noinline)) void add_all_lowdim(const LowdimRows<T>& rows, LowdimQuery<T>* queries, ptrdiff_t count,
                                              const LowdimWay<T>& way) {
  const FlushSubnormals flush;
  for (ptrdiff_t q = 0; q < count; q++) queries[q].dead_rows += rows.count - add_lowdim(rows, queries[q], way);
}

template <class T, int D, LowdimForm F, LowdimSums S>
void add_all_lowdim(const LowdimRows<T>& rows, LowdimQuery<T>* queries, ptrdiff_t count) {
  const auto live = F == LowdimForm::direct && !rows.weighted ? live_steps<T, D, F, false> : live_steps<T, D, F, true>;
  add_all_lowdim<T>(rows, queries, count, {D, live, add_steps<T, D, F, S>});
}

template <class T, int D, LowdimForm F>
ptrdiff_t find_lowdim(const LowdimRows<T>& rows, const LowdimQuery<T>& query, T floor, int32_t* places, T* scores) {
  constexpr ptrdiff_t W = kWidth<T>;
  const LowdimScore<T, D, F> score(query);
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
constexpr LowdimKernels<T> lowdim_kernels() {
  return {.width = kWidth<T>,
          .add = {{add_all_lowdim<T, D, LowdimForm::norms, LowdimSums::mean>,
                   add_all_lowdim<T, D, LowdimForm::norms, LowdimSums::moments>,
                   add_all_lowdim<T, D, LowdimForm::norms, LowdimSums::along>},
                  {add_all_lowdim<T, D, LowdimForm::folded, LowdimSums::mean>, nullptr, nullptr},
                  {add_all_lowdim<T, D, LowdimForm::direct, LowdimSums::mean>,
                   add_all_lowdim<T, D, LowdimForm::direct, LowdimSums::moments>,
                   add_all_lowdim<T, D, LowdimForm::direct, LowdimSums::along>}},
          .find = {find_lowdim<T, D, LowdimForm::norms>, find_lowdim<T, D, LowdimForm::folded>,
                   find_lowdim<T, D, LowdimForm::direct>}};
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
