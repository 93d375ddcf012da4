// One wave of a pass over rows of few dimensions: queries whose sums are held at once. All of them have rows apart, or
// none.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "accuracy.h"
#include "answer.h"
#include "dispatch.h"

namespace interp_fast {

constexpr int64_t kLowTogether = 8;       // queries of a task: rows are read from afar once for them
constexpr int64_t kTasks = 32;            // enough that the last ones do not leave workers idle for long
constexpr int64_t kSlabRows = 2048;       // least rows of a task
constexpr int64_t kStageRows = 1 << 16;   // rows decoded at a time
constexpr int64_t kPieceRows = 1 << 12;   // of them by a task
constexpr ptrdiff_t kLowBytes = 1 << 15;  // of rows between two looks at what a query has: half of the first cache
constexpr int kLowSums = 2 * static_cast<int>(kLowDims) + 4;
constexpr double kAtFirst = -2 * kNever;  // no score
constexpr double kDepth = 8;              // nats: rows of weight are not much farther below the best
constexpr size_t kMostBest = 1024;        // rows among the best of a query as far as scores tell: more are a tie

// Sums in float64, relative to a score of weight 1, laid out like those of LowQuery.
struct LowTotal {
  double reference = kAtFirst, sums[kLowSums] = {};

  // Adds others; all are brought to the higher reference.
  void add(double other, const double* more, ptrdiff_t d) {
    const double higher = std::max(reference, other);
    move(reference - higher, sums, d);
    double moved[kLowSums];
    std::copy(more, more + 2 * d + 4, moved);
    move(other - higher, moved, d);
    for (ptrdiff_t i = 0; i < 2 * d + 4; i++) sums[i] += moved[i];
    reference = higher;
  }

 private:
  static void move(double by, double* sums, ptrdiff_t d) {
    if (by == 0) return;
    const double f = std::exp2(by);
    if (f == 0) {  // also what is no number
      std::fill(sums, sums + 2 * d + 4, 0.0);
      return;
    }
    sums[d + 3] += by * sums[0];
    for (ptrdiff_t i = 0; i < 2 * d + 4; i++) sums[i] *= i == d + 2 ? f * f : f;
  }
};

// h, by which squared differences become scores.
inline double low_scale(const Query& query) { return 0.5 * kLog2e * query.alpha * query.alpha / query.variance; }

// Whether dimension k is counted from the centre. Where rows are decoded without rounding (`direct`) that is where the
// difference is exact in any case, all rows being close to each other and far from 0: then y has the digits of those
// differences, too.
inline bool centred(const Data& data, ptrdiff_t k, bool direct) {
  return !direct || std::abs(data.center[k]) > 4 * data.reach * std::abs(data.unit);
}

// y = x / alpha in normal form, counted as rows are.
inline double position(const Data& data, const Query& query, ptrdiff_t k, bool direct) {
  const double origin = centred(data, k, direct) ? data.center[k] : data.rows.b;
  return std::fma(-query.alpha, origin, query.x[k]) / (query.alpha * data.unit);
}

template <class T>
LowQuery<T> low_query(const Data& data, const Query& query, const double* u, bool direct) {
  LowQuery<T> out{};
  const double h = low_scale(query), d = static_cast<double>(data.rows.d);
  double rest2 = 0, y2 = 0;
  for (ptrdiff_t k = 0; k < data.rows.d; k++) {
    const double y = position(data, query, k, direct);
    out.q[k] = static_cast<T>(direct ? y : 2 * h * y);
    const double rest = direct ? y - static_cast<double>(out.q[k]) : 0.0;
    out.rest[k] = static_cast<T>(rest), rest2 += rest * rest, y2 += y * y;
  }
  double largest = 0;
  for (ptrdiff_t k = 0; u && k < data.rows.d; k++) largest = std::max(largest, std::abs(u[k]));
  for (ptrdiff_t k = 0; largest > 0 && k < data.rows.d; k++) out.u[k] = static_cast<T>(u[k] / largest);
  out.h = static_cast<T>(h);
  // Also what y and the values of bytes have been rounded by, where that is not among the roundings of products.
  const double rounded = direct ? 2 * kRoundoff<double> * std::sqrt(y2) + std::sqrt(d) * data.value_error : 0.0;
  out.slack = static_cast<T>(std::sqrt(h) * (std::sqrt(rest2) + rounded));
  out.cut = static_cast<T>(kLog2e * std::min(query.cut, kUnderflow<T>) + 0.01);  // and some for the rounding of scores
  out.low = out.reference = static_cast<T>(kAtFirst);
  out.sparse = true;
  return out;
}

// A score of this size and the exact one differ by half of this at most, as two of them do by all of it: a dozen or two
// roundings, of the size of the score where it is one square, else of its terms.
template <class T>
double blur(const Data& data, const Query& query, const LowQuery<T>& state, bool direct, double score) {
  const double unit = kRoundoff<T> + (direct ? 0.0 : data.value_error), r = data.reach;
  const double roundings = static_cast<double>(2 * data.rows.d + 12) * unit;
  const double terms = direct ? 0.0 : low_scale(query) * r * (2 * std::sqrt(query.x2) / query.alpha + r);
  return 2 * (roundings * (terms + std::abs(score)) + coarseness(state, static_cast<T>(-score)));
}

// What rounding y to float64, and the values of bytes, leaves out of x~, at most.
inline double displacement(const Data& data, const Query& query) {
  double y2 = 0;
  for (ptrdiff_t k = 0; k < data.rows.d; k++) {
    const double y = position(data, query, k, true);
    y2 += y * y;
  }
  return query.alpha * (2 * kRoundoff<double> * std::sqrt(y2) + data.value_error);
}

template <class T>
class LowWave {
 public:
  LowWave(const Data& data, const Query* queries, int64_t count, const double* u, bool direct, const Outputs& out,
          const Promise& promise, int threads)
      : data_(data),
        queries_(queries, queries + count),
        u_(out.jvp ? u : nullptr),
        direct_(direct),
        out_(out),
        threads_(threads),
        most_(promise.logit),
        finisher_(data, out, promise, u),
        kernels_(typed<T>(active_kernels()).low[data.rows.d - 1]),
        sums_(out.jvp                                                 ? LowSums::along
              : out.ess || out.entropy || out.variance || out.scatter ? LowSums::moments
                                                                      : LowSums::mean),
        apart_(queries->apart != nullptr),
        h_(low_scale(*queries)),
        form_(form_of()),
        groups_((count + kLowTogether - 1) / kLowTogether),
        slabs_(std::clamp<int64_t>((kTasks + groups_ - 1) / groups_, 1, std::max<int64_t>(1, data.rows.n / kSlabRows))),
        step_(kLowStep * kernels_.width),
        block_(block_of()),
        ld_((std::min(data.rows.n, kStageRows) + step_ - 1) / step_ * step_ + step_),  // not a power of two
        memory_(static_cast<size_t>((data.rows.d + 2) * ld_)),
        states_(static_cast<size_t>(slabs_ * count)),
        totals_(states_.size()),
        workers_(static_cast<size_t>(threads)) {
    const int64_t ordered = std::max<int64_t>({out.gap ? 2 : 0, out.index || out.off_weights() ? 1 : 0, out.top});
    best_ = apart_ ? 0 : static_cast<size_t>(std::min(data.active, ordered));
    if (best_ > 0) lanes_ = Buffer<T>(states_.size() * static_cast<size_t>(kernels_.width));
    std::fill_n(lanes_.get(), best_ > 0 ? states_.size() * static_cast<size_t>(kernels_.width) : 0,
                static_cast<T>(kAtFirst));
    found_.resize(queries_.size());
  }

  // Fills the outputs of the queries for which these sums are enough, and returns the others: with rows apart if those
  // hid the rest.
  std::vector<Query> run() {
    for (int64_t first = 0; first < data_.rows.n; first += kStageRows) {
      const LowRows<T> stage = decode(first, std::min(kStageRows, data_.rows.n - first));
      const ptrdiff_t slab_rows = (stage.count / step_ + slabs_ - 1) / slabs_ * step_;
      const int64_t blocks = (slab_rows + block_ - 1) / block_;
      if (best_ > 0) peaks_.resize(static_cast<size_t>(slabs_ * blocks * count()));
      parallel_for(groups_ * slabs_, threads_, [&](int64_t task, int worker) {
        const int64_t slab = task / groups_, from = slab * slab_rows;
        add(stage, first, from, std::min<ptrdiff_t>(stage.count, from + slab_rows), task % groups_ * kLowTogether, slab,
            slab * blocks, workers_[worker]);
      });
      if (best_ == 0) continue;
      parallel_for(count(), threads_, [&](int64_t q, int worker) {
        for (int64_t slab = 0; slab < slabs_; slab++) {
          const int64_t from = slab * slab_rows;
          find(stage, first, from, std::min<ptrdiff_t>(stage.count, from + slab_rows), q, slab * blocks,
               workers_[worker]);
        }
      });
    }
    passed_.resize(queries_.size());
    parallel_for(count(), count() < 64 ? 1 : threads_, [&](int64_t q, int) { passed_[q] = settle(q); });
    std::vector<Query> rest;
    for (size_t q = 0; q < passed_.size(); q++) {
      queries_[q].counted = true;
      if (!passed_[q]) rest.push_back(std::move(queries_[q]));
    }
    return rest;
  }

 private:
  struct Worker {
    Buffer<T> sums, log_w, scores;
    Buffer<int32_t> places;
  };
  // The rows of a query that may be among its best, in order, with their scores.
  struct Best {
    std::vector<int64_t> rows;
    std::vector<T> scores;
    bool crowded = false;
  };

  int64_t count() const { return static_cast<int64_t>(queries_.size()); }
  const double* direction(int64_t q) const { return u_ ? u_ + queries_[q].index * data_.rows.d : nullptr; }

  LowForm form_of() const {
    const auto same = [&](const Query& query) { return low_scale(query) == h_; };
    const bool shared = std::all_of(queries_.begin(), queries_.end(), same);
    return direct_ ? LowForm::direct : shared && sums_ == LowSums::mean ? LowForm::folded : LowForm::norms;
  }

  ptrdiff_t block_of() const {
    const ptrdiff_t by_bytes = kLowBytes / (data_.rows.d + 2) / static_cast<ptrdiff_t>(sizeof(T));
    return std::min({ptrdiff_t{kLowRows}, kBlock * kernels_.width, by_bytes}) / step_ * step_;
  }

  // Rows first ... first + rows - 1 and, up to a multiple of what is looked at together, blank ones.
  LowRows<T> decode(int64_t first, int64_t rows) const {
    const ptrdiff_t d = data_.rows.d;
    T shift[kLowDims];
    for (ptrdiff_t k = 0; k < d; k++) shift[k] = centred(data_, k, direct_) ? data_.shift<T>()[k] : T{0};
    T *const x = memory_.get(), *const log_w = x + d * ld_, *const n2 = log_w + ld_;
    const bool weighted = data_.log_w_span > 0 || data_.active < data_.rows.n;
    parallel_for((rows + kPieceRows - 1) / kPieceRows, threads_, [&](int64_t piece, int) {
      const int64_t from = piece * kPieceRows, to = std::min(rows, from + kPieceRows);
      kernels_.decode(data_.rows, first + from, to - from, static_cast<T>(data_.inverse), shift, x + from, ld_,
                      direct_ ? nullptr : n2 + from);
      if (!weighted) std::fill(log_w + from, log_w + to, T{0});
      for (int64_t i = from; weighted && i < to; i++) {
        const double w = data_.log_w[first + i];
        log_w[i] = static_cast<T>(w == -INFINITY ? 2 * kAtFirst : kLog2e * (w - data_.log_w_max));
      }
      for (int64_t i = from; form_ == LowForm::folded && i < to; i++) log_w[i] -= static_cast<T>(h_) * n2[i];
    });
    const ptrdiff_t whole = (rows + step_ - 1) / step_ * step_;
    for (ptrdiff_t k = 0; k < (direct_ ? d : d + 2); k++) std::fill(x + k * ld_ + rows, x + k * ld_ + whole, T{0});
    std::fill(log_w + rows, log_w + whole, static_cast<T>(2 * kAtFirst));
    return {x, n2, log_w, weighted, ld_, whole};
  }

  // The part of a stage that starts with row `at`.
  LowRows<T> part(const LowRows<T>& stage, int64_t first, ptrdiff_t at, ptrdiff_t rows) const {
    const bool blank = first + at + rows > data_.rows.n;
    return {stage.x + at, stage.n2 + at, stage.log_w + at, stage.weighted || blank, ld_, rows};
  }

  // Adds rows from ... last - 1 of a stage to some queries; their blocks are number `block` and those after it.
  void add(const LowRows<T>& stage, int64_t first, ptrdiff_t from, ptrdiff_t last, int64_t query, int64_t slab,
           int64_t block, Worker& worker) {
    const auto kernel = kernels_.add[static_cast<int>(form_)][static_cast<int>(sums_)];
    const int64_t some = std::min(kLowTogether, count() - query);
    const ptrdiff_t d = data_.rows.d, width = kernels_.width, size = (2 * d + 4) * width;
    LowQuery<T>* const mine = states_.data() + slab * count() + query;
    if (!worker.sums.get()) worker.sums = Buffer<T>(static_cast<size_t>(kLowTogether * size));
    std::memset(worker.sums.get(), 0, static_cast<size_t>(kLowTogether * size) * sizeof(T));
    for (int64_t q = 0; q < some; q++) {
      if (first == 0) mine[q] = low_query<T>(data_, queries_[query + q], direction(query + q), direct_);
      mine[q].sums = worker.sums.get() + q * size;
      if (best_ > 0) mine[q].lanes = lanes_.get() + (slab * count() + query + q) * width;
    }
    for (ptrdiff_t at = from; at < last; at += block_, block++) {
      const LowRows<T> rows = part(stage, first, at, std::min(block_, last - at));
      if (apart_) {
        for (int64_t q = 0; q < some; q++) kernel(without(rows, first + at, queries_[query + q], worker), mine + q, 1);
      } else {
        kernel(rows, mine, some);
      }
      for (int64_t q = 0; best_ > 0 && q < some; q++) peaks_[block * count() + query + q] = mine[q].highest;
    }
    for (int64_t q = 0; q < some; q++) {
      double more[kLowSums] = {};
      for (ptrdiff_t i = 0; i < 2 * d + 4; i++) {
        for (ptrdiff_t lane = 0; lane < width; lane++) more[i] += static_cast<double>(mine[q].sums[i * width + lane]);
      }
      totals_[slab * count() + query + q].add(static_cast<double>(mine[q].reference), more, d);
    }
  }

  // Rows from number `first` on, of which those that a query has apart never count.
  LowRows<T> without(LowRows<T> rows, int64_t first, const Query& query, Worker& worker) const {
    const std::vector<int64_t>& apart = query.apart->candidates.rows;
    const auto begin = std::lower_bound(apart.begin(), apart.end(), first);
    const auto end = std::lower_bound(begin, apart.end(), first + rows.count);
    if (begin == end) return rows;
    if (!worker.log_w.get()) worker.log_w = Buffer<T>(static_cast<size_t>(block_));
    std::copy(rows.log_w, rows.log_w + rows.count, worker.log_w.get());
    for (auto row = begin; row != end; row++) worker.log_w[*row - first] = static_cast<T>(2 * kAtFirst);
    rows.log_w = worker.log_w.get(), rows.weighted = true;
    return rows;
  }

  // The score that a row of this query needs to be among the best, as far as those scores tell that are known.
  T least_of_best(int64_t q, double known) const {
    const int width = kernels_.width;
    std::vector<T> lanes;
    double low = kAtFirst;
    for (int64_t slab = 0; slab < slabs_; slab++) {
      const size_t at = static_cast<size_t>(slab * count() + q);
      lanes.insert(lanes.end(), lanes_.get() + at * width, lanes_.get() + (at + 1) * width);
      low = std::max(low, static_cast<double>(states_[at].low));
    }
    // The scores of so many rows: lanes have no row in common.
    double kth = kAtFirst;
    if (best_ <= lanes.size()) {
      const auto at = lanes.begin() + static_cast<ptrdiff_t>(best_ - 1);
      std::nth_element(lanes.begin(), at, lanes.end(), std::greater<>());
      kth = *at;
    }
    kth = std::max(kth, known);
    const double score = std::abs(kth) > std::abs(low) ? kth : low;
    return static_cast<T>(std::max(kAtFirst, kth - blur(data_, queries_[q], states_[q], direct_, score)));
  }

  // Adds the rows from ... last - 1 of a stage that may be among the best of a query.
  void find(const LowRows<T>& stage, int64_t first, ptrdiff_t from, ptrdiff_t last, int64_t q, int64_t block,
            Worker& worker) {
    Best& to = found_[q];
    if (to.crowded) return;
    if (!worker.places.get()) {
      worker.places = Buffer<int32_t>(static_cast<size_t>(block_));
      worker.scores = Buffer<T>(static_cast<size_t>(block_));
    }
    T floor = least_of_best(q, kAtFirst);
    for (ptrdiff_t at = from; at < last; at += block_, block++) {
      if (!(peaks_[block * count() + q] >= floor)) continue;
      const LowRows<T> rows = part(stage, first, at, std::min(block_, last - at));
      const ptrdiff_t some =
          kernels_.find[static_cast<int>(form_)](rows, states_[q], floor, worker.places.get(), worker.scores.get());
      for (ptrdiff_t i = 0; i < some; i++) {
        to.rows.push_back(first + at + worker.places[i]), to.scores.push_back(worker.scores[i]);
      }
      if (to.rows.size() > kMostBest + best_) floor = shorten(q, to);
      if (to.crowded) return;
    }
  }

  // Leaves out what the scores of the others exclude.
  T shorten(int64_t q, Best& best) const {
    std::vector<T> scores = best.scores;
    const auto at = scores.begin() + static_cast<ptrdiff_t>(std::min(best_, scores.size()) - 1);
    std::nth_element(scores.begin(), at, scores.end(), std::greater<>());
    const T floor = least_of_best(q, best_ <= scores.size() ? static_cast<double>(*at) : kAtFirst);
    size_t kept = 0;
    for (size_t i = 0; i < best.rows.size(); i++) {
      if (best.scores[i] < floor) continue;
      best.rows[kept] = best.rows[i], best.scores[kept++] = best.scores[i];
    }
    best.rows.resize(kept), best.scores.resize(kept);
    best.crowded = kept > kMostBest + best_;
    return floor;
  }

  Total total_of(const Query& query, const LowTotal& sums, double low) const {
    const ptrdiff_t d = data_.rows.d;
    const double* const s = sums.sums;
    Total total{sums.reference, low, s[0], s[d + 1], s[d + 2], s[d + 3], {}, {}, 0, 0, direct_, 0};
    total.x.assign(s + 1, s + 1 + d);
    if (u_) total.u_x.assign(s + d + 4, s + 2 * d + 4);
    if (sums.reference <= kAtFirst) total.p = 0;  // there is no row beside those that are apart
    if (direct_) {
      // The score of a row is exact but for a few roundings of its size.
      total.logit = 4 * kRoundoff<T> * (std::abs(low) / kLog2e + kDepth);
      total.displacement = displacement(data_, query);
    } else {
      total.logit = logit_error<T>(data_, query);
      total.offset = -query.x2 / (2 * query.variance), total.displacement = query.displacement;
      if (sums_ == LowSums::mean) total.p_n2 = data_.reach * data_.reach * s[0];  // at most
    }
    return total;
  }

  // Fills the outputs of a query if its sums are enough.
  bool settle(int64_t q) {
    Query& query = queries_[q];
    LowTotal all;
    double low = kAtFirst;
    int64_t dead_rows = 0;
    for (int64_t slab = 0; slab < slabs_; slab++) {
      const size_t i = static_cast<size_t>(slab * count() + q);
      all.add(totals_[i].reference, totals_[i].sums, data_.rows.d);
      low = std::max(low, static_cast<double>(states_[i].low));
      dead_rows += states_[i].dead_rows;
    }
    const Total total = total_of(query, all, low);
    const double dead = static_cast<double>(std::min(dead_rows, data_.rows.n));
    if (out_.dropped) out_.dropped[query.index] = std::min(1.0, dead * std::exp(-query.cut));
    if (out_.work && !query.counted) out_.work[query.index] = 1 - 0.5 * dead / static_cast<double>(data_.rows.n);
    if (apart_) {
      const Candidates& candidates = query.apart->candidates;
      const Used used = finish_exact(data_, &query, {candidates}, {total}, u_, out_, 1).front();
      return finisher_.enough(query, total, used) && finisher_.told_apart(query, candidates, used.variance);
    }
    Candidates best;
    if (best_ > 0) {
      if (found_[q].crowded || found_[q].rows.size() < best_) return false;
      shorten(q, found_[q]);
      if (found_[q].rows.size() < best_) return false;
      best.rows = std::move(found_[q].rows);
      const ExactKernels& exact = *active_kernels().exact;
      for (int64_t row : best.rows) best.c.push_back(exact.distance2(data_.rows, row, query.x, query.alpha));
    }
    // Nor where the sums are no numbers.
    if (!(total.p > 0 && total.logit <= most_)) return false;
    // The displacement moves the logit of a row that is `depth` nats below 0 as if in its direction.
    const double depth = std::abs(low) / kLog2e + kDepth;
    const double moved = total.displacement * std::sqrt(2 * depth / query.variance);
    if (out_.off_weights() && moved > most_) return false;
    const double error = direct_ ? total.logit + moved : INFINITY;
    if (finisher_.enough(query, total, total.largest(), error)) {
      finisher_.write(query, total, best);
      return true;
    }
    if (!best.rows.empty() && finisher_.hidden(query, total, total.largest())) {
      query.apart = std::make_shared<const Apart>(Apart{std::move(best), true});
    }
    return false;
  }

  const Data& data_;
  std::vector<Query> queries_;
  const double* const u_;  // directions, where products with the Jacobian are wanted
  const bool direct_;
  const Outputs& out_;
  const int threads_;
  const double most_;  // error of a logit
  const Finisher<T> finisher_;
  const LowKernels<T>& kernels_;
  const LowSums sums_;
  const bool apart_;
  const double h_;  // of the first query
  const LowForm form_;
  const int64_t groups_, slabs_;
  const ptrdiff_t step_, block_, ld_;  // rows that are looked at together, of a block, between dimensions
  const Buffer<T> memory_;
  std::vector<LowQuery<T>> states_;  // [slab][query]
  std::vector<LowTotal> totals_;     // likewise
  std::vector<Worker> workers_;
  size_t best_ = 0;       // so many best rows are wanted
  Buffer<T> lanes_;       // [slab][query][lane]
  std::vector<T> peaks_;  // best score of [block of the stage][query]
  std::vector<Best> found_;
  std::vector<char> passed_;
};

}  // namespace interp_fast
