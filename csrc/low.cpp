#include "low.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "dispatch.h"

namespace interp_fast {
namespace {

constexpr int64_t kTogether = 8;          // queries of a task: rows are read from afar once for them
constexpr int64_t kTasks = 32;            // enough that the last ones do not leave workers idle for long
constexpr int64_t kSlabRows = 2048;       // least rows of a task
constexpr int64_t kStageRows = 1 << 16;   // rows decoded at a time
constexpr int64_t kPieceRows = 1 << 12;   // of them by a task
constexpr ptrdiff_t kLowBytes = 1 << 15;  // of rows between two looks at what a query has: half of the first cache
constexpr int kSums = static_cast<int>(kLowDims) + 4;
constexpr double kAtFirst = -2 * kNever;  // no score

// Sums in float64, relative to a score of weight 1, laid out like those of LowQuery.
struct Running {
  double reference = kAtFirst, sums[kSums] = {};

  // Adds others; all are brought to the higher reference.
  void add(double other, const double* more, ptrdiff_t d) {
    const double higher = std::max(reference, other);
    move(reference - higher, sums, d);
    double moved[kSums];
    std::copy(more, more + d + 4, moved);
    move(other - higher, moved, d);
    for (ptrdiff_t i = 0; i < d + 4; i++) sums[i] += moved[i];
    reference = higher;
  }

 private:
  static void move(double by, double* sums, ptrdiff_t d) {
    if (by == 0) return;
    const double f = std::exp2(by);
    if (f == 0) {  // also what is no number
      std::fill(sums, sums + d + 4, 0.0);
      return;
    }
    sums[d + 3] = f * (sums[d + 3] + by * sums[0]);
    for (ptrdiff_t i = 0; i < d + 3; i++) sums[i] *= i == d + 2 ? f * f : f;
  }
};

// h, by which squared differences become scores.
double scale(const Query& query) { return 0.5 * kLog2e * query.alpha * query.alpha / query.variance; }

// y = x / alpha in normal form, about the centre or (`direct`) as rows that are decoded without it.
double position(const Data& data, const Query& query, ptrdiff_t k, bool direct) {
  return (query.x[k] / query.alpha - (direct ? data.rows.b : data.center[k])) / data.unit;
}

template <class T>
LowQuery<T> low_query(const Data& data, const Query& query, bool direct, bool wanted) {
  LowQuery<T> out{};
  const double h = scale(query);
  double rest2 = 0;
  for (ptrdiff_t k = 0; k < data.rows.d; k++) {
    const double y = position(data, query, k, direct);
    out.q[k] = static_cast<T>(direct ? y : 2 * h * y);
    const double rest = direct ? y - static_cast<double>(out.q[k]) : 0.0;
    out.rest[k] = static_cast<T>(rest), rest2 += rest * rest;
  }
  out.h = static_cast<T>(h);
  out.slack = static_cast<T>(std::sqrt(h * rest2));
  out.cut = static_cast<T>(kLog2e * std::min(query.cut, kUnderflow<T>) + 0.01);  // and some for the rounding of scores
  out.low = out.reference = static_cast<T>(kAtFirst);
  out.sparse = true;
  // A dozen or two roundings: of the size of the score where it is one square, else of its terms.
  const double roundings = static_cast<double>(2 * data.rows.d + 12) * kRoundoff<T>, r = data.reach;
  out.wanted = wanted;
  out.blur0 = static_cast<T>(direct ? 0.0 : roundings * h * r * (2 * std::sqrt(query.x2) / query.alpha + r));
  out.blur1 = static_cast<T>(roundings);
  return out;
}

template <class T>
Total total_of(const Data& data, const Query& query, const Running& sums, double low, bool direct, bool statistics) {
  const ptrdiff_t d = data.rows.d;
  const double* const s = sums.sums;
  Total total{sums.reference, low, s[0], s[d + 1], s[d + 2], s[d + 3], {}, {}, 0, 0};
  total.x.assign(s + 1, s + 1 + d);
  if (direct) {
    // The score of a row is exact but for a few roundings of its size, and rows of weight are not far below the best.
    total.logit = 4 * kRoundoff<T> * (std::abs(low) / kLog2e + 8);
    total.spread2 = s[d + 1] / s[0];
    for (ptrdiff_t k = 0; k < d; k++) {
      const double y = position(data, query, k, false);
      total.p_n2 += y * (2 * s[1 + k] + y * s[0]);
      total.x[k] += y * s[0];
    }
  } else {
    total.logit = logit_error<T>(data, query);
    total.offset = -query.x2 / (2 * query.variance);
    if (!statistics) total.p_n2 = data.reach * data.reach * s[0];  // at most
  }
  return total;
}

// The heaviest of the rows that are the best as far as scores in T can tell, the first at ties; -1: there are too many.
template <class T>
int64_t heaviest(const Data& data, const Query& query, const std::vector<const LowQuery<T>*>& slabs, ptrdiff_t step) {
  const ExactKernels& exact = active_kernels().exact;
  double largest = -INFINITY;
  int64_t best = -1;
  for (const LowQuery<T>* slab : slabs) {
    if (slab->found > kLowBest) return -1;
    for (int i = 0; i < slab->found; i++) {
      for (int64_t row = slab->best[i]; row < std::min(data.rows.n, slab->best[i] + step); row++) {
        const double logit = data.log_w[row] - exact.distance2(data.rows, row, query.x, query.alpha) / (2 * query.s2);
        if (logit > largest) largest = logit, best = row;
      }
    }
  }
  return best;
}

// Rows first ... first + count - 1 and, up to a multiple of what is looked at together, blank ones; `folded` is the h
// of the folded form.
template <class T>
LowRows<T> decode(const Data& data, const LowKernels<T>& kernels, int64_t first, int64_t count, LowForm form, T folded,
                  int threads, const Buffer<T>& memory, ptrdiff_t ld) {
  const bool direct = form == LowForm::direct;
  const ptrdiff_t d = data.rows.d;
  static constexpr T kNoShift[kLowDims] = {};
  T *const x = memory.get(), *const log_w = x + d * ld, *const n2 = log_w + ld;
  const bool weighted = data.log_w_span > 0 || data.active < data.rows.n;
  parallel_for((count + kPieceRows - 1) / kPieceRows, threads, [&](int64_t piece, int) {
    const int64_t from = piece * kPieceRows, to = std::min(count, from + kPieceRows);
    kernels.decode(data.rows, first + from, to - from, static_cast<T>(data.inverse),
                   direct ? kNoShift : data.shift<T>(), x + from, ld, direct ? nullptr : n2 + from);
    if (!weighted) std::fill(log_w + from, log_w + to, T{0});
    for (int64_t i = from; weighted && i < to; i++) {
      const double w = data.log_w[first + i];
      log_w[i] = static_cast<T>(w == -INFINITY ? 2 * kAtFirst : kLog2e * (w - data.log_w_max));
    }
    for (int64_t i = from; form == LowForm::folded && i < to; i++) log_w[i] -= folded * n2[i];
  });
  const ptrdiff_t step = kLowStep * kernels.width, whole = (count + step - 1) / step * step;
  for (ptrdiff_t k = 0; k < (direct ? d : d + 2); k++) std::fill(x + k * ld + count, x + k * ld + whole, T{0});
  std::fill(log_w + count, log_w + whole, static_cast<T>(2 * kAtFirst));
  return {x, n2, log_w, weighted, ld, whole, first};
}

// All queries by scores of one form.
template <class T>
std::vector<Query> low_sums(const Data& data, const std::vector<Query>& queries, bool direct, const Outputs& out,
                            const Promise& promise, int threads) {
  if (queries.empty()) return {};
  const ptrdiff_t d = data.rows.d;
  const LowKernels<T>& kernels = typed<T>(active_kernels()).low[d - 1];
  const bool statistics = out.ess || out.entropy || out.variance || out.scatter;
  const double h = scale(queries[0]);
  const bool shared = std::all_of(queries.begin(), queries.end(), [&](const Query& q) { return scale(q) == h; });
  const LowForm form = direct ? LowForm::direct : shared && !statistics ? LowForm::folded : LowForm::norms;
  const auto add = kernels.add[static_cast<int>(form)][statistics];
  const int64_t n = data.rows.n, count = static_cast<int64_t>(queries.size());
  const int64_t groups = (count + kTogether - 1) / kTogether;
  const int64_t slabs = std::clamp<int64_t>((kTasks + groups - 1) / groups, 1, std::max<int64_t>(1, n / kSlabRows));
  const ptrdiff_t step = kLowStep * kernels.width, width = kernels.width;
  const ptrdiff_t most =
      std::min(std::min<ptrdiff_t>(kLowRows, kBlock * width), kLowBytes / (d + 2) / static_cast<ptrdiff_t>(sizeof(T)));
  const ptrdiff_t block = most / step * step;
  const ptrdiff_t ld = (std::min(n, kStageRows) + step - 1) / step * step + step;  // not a power of two
  const Buffer<T> memory(static_cast<size_t>((d + 2) * ld));

  std::vector<LowQuery<T>> states(static_cast<size_t>(slabs * count));  // [slab][query]
  std::vector<Running> totals(states.size());
  const ptrdiff_t size = (d + 4) * width;
  std::vector<Buffer<T>> sums(static_cast<size_t>(threads));
  for (int64_t first = 0; first < n; first += kStageRows) {
    const LowRows<T> stage =
        decode(data, kernels, first, std::min(kStageRows, n - first), form, static_cast<T>(h), threads, memory, ld);
    const ptrdiff_t slab_rows = (stage.count / step + slabs - 1) / slabs * step;
    parallel_for(groups * slabs, threads, [&](int64_t task, int worker) {
      const int64_t slab = task / groups, from = task % groups * kTogether, some = std::min(kTogether, count - from);
      LowQuery<T>* const mine = states.data() + slab * count + from;
      Buffer<T>& running = sums[worker];
      if (!running.get()) running = Buffer<T>(static_cast<size_t>(kTogether * size));
      std::memset(running.get(), 0, static_cast<size_t>(kTogether * size) * sizeof(T));
      for (int64_t q = 0; q < some; q++) {
        if (first == 0) mine[q] = low_query<T>(data, queries[from + q], direct, out.index);
        mine[q].sums = running.get() + q * size;
      }
      const ptrdiff_t last = std::min(stage.count, (slab + 1) * slab_rows);
      for (ptrdiff_t at = slab * slab_rows; at < last; at += block) {
        const ptrdiff_t rows = std::min(block, last - at);
        const bool blank = first + at + rows > n;
        add({stage.x + at, stage.n2 + at, stage.log_w + at, stage.weighted || blank, ld, rows, first + at}, mine, some);
      }
      for (int64_t q = 0; q < some; q++) {
        double more[kSums] = {};
        for (ptrdiff_t i = 0; i < d + 4; i++) {
          for (ptrdiff_t lane = 0; lane < width; lane++) more[i] += static_cast<double>(mine[q].sums[i * width + lane]);
        }
        totals[slab * count + from + q].add(static_cast<double>(mine[q].reference), more, d);
      }
    });
  }

  std::vector<char> settled(static_cast<size_t>(count));
  parallel_for(count, count < 64 ? 1 : threads, [&](int64_t q, int) {
    const Query& query = queries[q];
    Running all;
    double low = kAtFirst;
    int64_t dead_rows = 0;
    for (int64_t slab = 0; slab < slabs; slab++) {
      const size_t i = static_cast<size_t>(slab * count + q);
      all.add(totals[i].reference, totals[i].sums, d);
      low = std::max(low, static_cast<double>(states[i].low));
      dead_rows += states[i].dead_rows;
    }
    const Total total = total_of<T>(data, query, all, low, direct, statistics);
    Outputs of_sums = out;
    of_sums.index = nullptr;
    int64_t row = 0;
    if (out.index) {
      std::vector<const LowQuery<T>*> best;
      for (int64_t slab = 0; slab < slabs; slab++) {
        const LowQuery<T>& state = states[slab * count + q];
        if (static_cast<double>(state.low) >= low - static_cast<double>(state.blur)) best.push_back(&state);
      }
      out.index[query.index] = row = heaviest(data, query, best, step);
    }
    settled[q] = row >= 0 && settle<T>(data, query, total, of_sums, promise);
    const double dead = static_cast<double>(std::min(dead_rows, n));
    if (out.dropped) out.dropped[query.index] = std::min(1.0, dead * std::exp(-query.cut));
    if (out.work) out.work[query.index] = 1 - 0.5 * dead / static_cast<double>(n);
  });
  std::vector<Query> rest;
  for (size_t q = 0; q < settled.size(); q++) {
    if (settled[q]) continue;
    rest.push_back(queries[q]);
    rest.back().counted = true;
  }
  return rest;
}

}  // namespace

template <class T>
std::vector<Query> low_pass(const Data& data, const std::vector<Query>& queries, const Outputs& out,
                            const Promise& promise, int threads) {
  std::vector<Query> far, near, rest;
  for (const Query& query : queries) {
    // Products for queries whose mean they cannot spoil, whatever the posterior.
    const double of_logit = logit_error<T>(data, query), worst = 4 * data.reach * (of_logit + kRoundoff<T>);
    const double a2 = query.alpha * query.alpha;
    const bool finite = query.x2 < kNever * a2 && a2 < kNever * query.variance;
    (worst <= allowed(data, query, promise) ? far : finite ? near : rest).push_back(query);
  }
  for (const bool direct : {false, true}) {
    const std::vector<Query> failed = low_sums<T>(data, direct ? near : far, direct, out, promise, threads);
    rest.insert(rest.end(), failed.begin(), failed.end());
  }
  return rest;
}

template std::vector<Query> low_pass<float>(const Data&, const std::vector<Query>&, const Outputs&, const Promise&,
                                            int);
template std::vector<Query> low_pass<double>(const Data&, const std::vector<Query>&, const Outputs&, const Promise&,
                                             int);

}  // namespace interp_fast
