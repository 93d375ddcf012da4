// One batch of a pass over rows of few dimensions: queries whose sums are held at once. All of them have excluded
// rows, or none.
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
#include "lowdim_state.h"
#include "pool.h"

namespace interp_fast {

constexpr int64_t kLowdimTogether = 8;       // queries of a task: rows are read from afar once for them
constexpr int64_t kTasks = 32;               // enough that the last ones do not leave workers idle for long
constexpr int64_t kSlabRows = 2048;          // least rows of a task
constexpr int64_t kDecodedRows = 1 << 16;    // rows decoded at a time
constexpr int64_t kDecodeRows = 1 << 12;     // of them by a task
constexpr ptrdiff_t kLowdimBytes = 1 << 15;  // of rows between two looks at what a query has: half of the first cache
constexpr int64_t kLowdimBlocks = 32;        // whose sums are added before they are put away in float64
constexpr double kDepth = 8;                 // nats: rows of weight are not much farther below the best, ...
constexpr double kMeanDepth = 4;             // ... and the rows that a mean is made of, most of them, than this
constexpr size_t kMostBest = 1024;           // rows among the best of a query as far as scores tell: more are a tie

template <class T>
class LowdimBatch {
 public:
  LowdimBatch(const Data& data, const Query* queries, int64_t count, bool direct, const Outputs& out,
              const Accuracy& accuracy, int threads)
      : data_(data),
        queries_(queries, queries + count),
        direct_(direct),
        out_(out),
        threads_(threads),
        most_(accuracy.logit),
        model_(data, out, accuracy),
        kernels_(typed<T>(active_kernels()).lowdim[data.rows.d - 1]),
        places_{static_cast<int>(data.rows.d)},
        which_(out.jvp                                           ? LowdimSums::along
               : out.statistics() || out.variance || out.scatter ? LowdimSums::moments
                                                                 : LowdimSums::mean),
        excluded_(queries->excluded != nullptr),
        h_(lowdim_h(*queries)),
        form_(form_of()),
        groups_((count + kLowdimTogether - 1) / kLowdimTogether),
        slabs_(std::clamp<int64_t>((kTasks + groups_ - 1) / groups_, 1, std::max<int64_t>(1, data.rows.n / kSlabRows))),
        step_(kLowdimStep * kernels_.width),
        block_(block_of()),
        ld_((std::min(data.rows.n, kDecodedRows) + step_ - 1) / step_ * step_ + step_),  // not a power of two
        memory_(static_cast<size_t>((data.rows.d + 2) * ld_)),
        states_(static_cast<size_t>(slabs_ * count)),
        totals_(states_.size()),
        workers_(static_cast<size_t>(threads)) {
    const int64_t ordered = std::max<int64_t>({out.gap ? 2 : 0, out.index || out.off_weights() ? 1 : 0, out.top});
    best_ = excluded_ ? 0 : static_cast<size_t>(std::min(data.active, ordered));
    if (best_ > 0) lanes_ = Buffer<T>(states_.size() * static_cast<size_t>(kernels_.width));
    std::fill_n(lanes_.get(), best_ > 0 ? states_.size() * static_cast<size_t>(kernels_.width) : 0,
                static_cast<T>(kAtFirst));
    found_.resize(queries_.size());
  }

  // Fills the outputs of the queries for which these sums are enough, and returns the others: with excluded rows if
  // those dominated the rest.
  std::vector<Query> run() {
    for (int64_t first = 0; first < data_.rows.n; first += kDecodedRows) {
      const LowdimRows<T> decoded = decode(first, std::min(kDecodedRows, data_.rows.n - first));
      const ptrdiff_t slab_rows = (decoded.count / step_ + slabs_ - 1) / slabs_ * step_;
      const int64_t blocks = (slab_rows + block_ - 1) / block_;
      if (best_ > 0) peaks_.resize(static_cast<size_t>(slabs_ * blocks * count()));
      parallel_for(groups_ * slabs_, threads_, [&](int64_t task, int worker) {
        const int64_t slab = task / groups_, from = slab * slab_rows;
        add(decoded, first, from, std::min<ptrdiff_t>(decoded.count, from + slab_rows),
            task % groups_ * kLowdimTogether, slab, slab * blocks, workers_[worker]);
      });
      if (best_ == 0) continue;
      parallel_for(count(), threads_, [&](int64_t q, int worker) {
        for (int64_t slab = 0; slab < slabs_; slab++) {
          const int64_t from = slab * slab_rows;
          find(decoded, first, from, std::min<ptrdiff_t>(decoded.count, from + slab_rows), q, slab * blocks,
               workers_[worker]);
        }
      });
    }
    passed_.resize(queries_.size());
    parallel_by_query(count(), count() < 64 ? 1 : threads_, [&](int64_t q) { passed_[q] = settle(q); });
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
  struct BestRows {
    std::vector<int64_t> rows;
    std::vector<T> scores;
    bool overflowed = false;
  };

  int64_t count() const { return static_cast<int64_t>(queries_.size()); }

  LowdimForm form_of() const {
    const auto same = [&](const Query& query) { return lowdim_h(query) == h_; };
    const bool shared = std::all_of(queries_.begin(), queries_.end(), same);
    return direct_ ? LowdimForm::direct : shared && which_ == LowdimSums::mean ? LowdimForm::folded : LowdimForm::norms;
  }

  ptrdiff_t block_of() const {
    const ptrdiff_t by_bytes = kLowdimBytes / (data_.rows.d + 2) / static_cast<ptrdiff_t>(sizeof(T));
    return std::min({ptrdiff_t{kLowdimRows}, kBlock * kernels_.width, by_bytes}) / step_ * step_;
  }

  // Rows first ... first + rows - 1 and, up to a multiple of what is read together, blank ones.
  LowdimRows<T> decode(int64_t first, int64_t rows) const {
    const ptrdiff_t d = data_.rows.d;
    T shift[kLowdim];
    for (ptrdiff_t k = 0; k < d; k++) shift[k] = centred(data_, k, direct_) ? data_.shift<T>()[k] : T{0};
    T *const x = memory_.get(), *const log_w = x + d * ld_, *const n2 = log_w + ld_;
    const bool weighted = data_.log_w_span > 0 || data_.active < data_.rows.n;
    parallel_for((rows + kDecodeRows - 1) / kDecodeRows, threads_, [&](int64_t piece, int) {
      const int64_t from = piece * kDecodeRows, to = std::min(rows, from + kDecodeRows);
      typed<T>(active_kernels())
          .decode_lowdim(data_.rows, first + from, to - from, static_cast<T>(data_.inverse), shift, x + from, ld_,
                         direct_ ? nullptr : n2 + from);
      if (!weighted) std::fill(log_w + from, log_w + to, T{0});
      for (int64_t i = from; weighted && i < to; i++) {
        const double w = data_.log_w[first + i];
        log_w[i] = static_cast<T>(w == -INFINITY ? 2 * kAtFirst : kLog2e * (w - data_.log_w_max));
      }
      for (int64_t i = from; form_ == LowdimForm::folded && i < to; i++) log_w[i] -= static_cast<T>(h_) * n2[i];
    });
    const ptrdiff_t whole = (rows + step_ - 1) / step_ * step_;
    for (ptrdiff_t k = 0; k < (direct_ ? d : d + 2); k++) std::fill(x + k * ld_ + rows, x + k * ld_ + whole, T{0});
    std::fill(log_w + rows, log_w + whole, static_cast<T>(2 * kAtFirst));
    return {x, n2, log_w, weighted, ld_, whole};
  }

  // The part of the decoded rows that starts with row `at`.
  LowdimRows<T> part(const LowdimRows<T>& decoded, int64_t first, ptrdiff_t at, ptrdiff_t rows) const {
    const bool blank = first + at + rows > data_.rows.n;
    return {decoded.x + at, decoded.n2 + at, decoded.log_w + at, decoded.weighted || blank, ld_, rows};
  }

  // Adds rows from ... last - 1 of those decoded to some queries; their blocks are number `block` and those after it.
  void add(const LowdimRows<T>& decoded, int64_t first, ptrdiff_t from, ptrdiff_t last, int64_t query, int64_t slab,
           int64_t block, Worker& worker) {
    const auto kernel = kernels_.add[static_cast<int>(form_)][static_cast<int>(which_)];
    const int64_t some = std::min(kLowdimTogether, count() - query);
    const ptrdiff_t width = kernels_.width, size = places_.count() * width;
    const size_t held = static_cast<size_t>(kLowdimTogether * size);
    LowdimQuery<T>* const mine = states_.data() + slab * count() + query;
    if (!worker.sums.get()) worker.sums = Buffer<T>(held);
    std::memset(worker.sums.get(), 0, held * sizeof(T));
    const auto put_away = [&] {
      for (int64_t q = 0; q < some; q++) {
        totals_[slab * count() + query + q] += LowdimTotal::of(mine[q], places_.d, width);
      }
      std::memset(worker.sums.get(), 0, held * sizeof(T));
    };
    for (int64_t q = 0; q < some; q++) {
      if (first == 0) mine[q] = lowdim_query<T>(data_, queries_[query + q], direct_);
      mine[q].sums = worker.sums.get() + q * size;
      if (best_ > 0) mine[q].lanes = lanes_.get() + (slab * count() + query + q) * width;
    }
    for (ptrdiff_t at = from; at < last; at += block_, block++) {
      const LowdimRows<T> rows = part(decoded, first, at, std::min(block_, last - at));
      if (excluded_) {
        for (int64_t q = 0; q < some; q++) kernel(without(rows, first + at, queries_[query + q], worker), mine + q, 1);
      } else {
        kernel(rows, mine, some);
      }
      for (int64_t q = 0; best_ > 0 && q < some; q++) peaks_[block * count() + query + q] = mine[q].peak;
      if (at + block_ < last && (at - from) / block_ % kLowdimBlocks == kLowdimBlocks - 1) put_away();
    }
    put_away();
  }

  // Rows from number `first` on, of which those that a query excludes never count.
  LowdimRows<T> without(LowdimRows<T> rows, int64_t first, const Query& query, Worker& worker) const {
    const std::vector<int64_t>& excluded = query.excluded->candidates.rows;
    const auto begin = std::lower_bound(excluded.begin(), excluded.end(), first);
    const auto end = std::lower_bound(begin, excluded.end(), first + rows.count);
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
    double best = kAtFirst;
    for (int64_t slab = 0; slab < slabs_; slab++) {
      const size_t at = static_cast<size_t>(slab * count() + q);
      lanes.insert(lanes.end(), lanes_.get() + at * width, lanes_.get() + (at + 1) * width);
      best = std::max(best, static_cast<double>(states_[at].best));
    }
    // The scores of so many rows: lanes have no row in common.
    double kth = kAtFirst;
    if (best_ <= lanes.size()) {
      const auto at = lanes.begin() + static_cast<ptrdiff_t>(best_ - 1);
      std::nth_element(lanes.begin(), at, lanes.end(), std::greater<>());
      kth = *at;
    }
    kth = std::max(kth, known);
    const double score = std::abs(kth) > std::abs(best) ? kth : best;
    return static_cast<T>(std::max(kAtFirst, kth - blur(data_, queries_[q], states_[q], direct_, score)));
  }

  // Adds the rows from ... last - 1 of those decoded that may be among the best of a query.
  void find(const LowdimRows<T>& decoded, int64_t first, ptrdiff_t from, ptrdiff_t last, int64_t q, int64_t block,
            Worker& worker) {
    BestRows& to = found_[q];
    if (to.overflowed) return;
    if (!worker.places.get()) {
      worker.places = Buffer<int32_t>(static_cast<size_t>(block_));
      worker.scores = Buffer<T>(static_cast<size_t>(block_));
    }
    T floor = least_of_best(q, kAtFirst);
    for (ptrdiff_t at = from; at < last; at += block_, block++) {
      if (!(peaks_[block * count() + q] >= floor)) continue;
      const LowdimRows<T> rows = part(decoded, first, at, std::min(block_, last - at));
      const ptrdiff_t some =
          kernels_.find[static_cast<int>(form_)](rows, states_[q], floor, worker.places.get(), worker.scores.get());
      for (ptrdiff_t i = 0; i < some; i++) {
        to.rows.push_back(first + at + worker.places[i]), to.scores.push_back(worker.scores[i]);
      }
      if (to.rows.size() > kMostBest + best_) floor = shorten(q, to);
      if (to.overflowed) return;
    }
  }

  // Leaves out what the scores of the others exclude.
  T shorten(int64_t q, BestRows& best) const {
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
    best.overflowed = kept > kMostBest + best_;
    return floor;
  }

  Sums sums_of(const Query& query, const LowdimTotal& total, double best) const {
    const ptrdiff_t d = data_.rows.d;
    Sums sums{};
    static_cast<WeightSums&>(sums) = total.weights;
    sums.reference = total.reference, sums.best = best;
    sums.x.assign(total.x, total.x + d);
    for (double x : sums.x) sums.x2 += x * x;
    if (out_.jvp) sums.u_x.assign(total.u_x, total.u_x + d);
    sums.about_query = direct_;
    if (total.reference <= kAtFirst) sums.p = 0;  // there is no row but the excluded ones
    if (direct_) {
      // The score of a row is exact but for a few roundings of its size.
      sums.logit = 4 * kRoundoff<T> * (std::abs(best) / kLog2e + kMeanDepth);
      sums.displacement = displacement(data_, query);
    } else {
      sums.logit = logit_error<T>(data_, query);
      sums.offset = -query.x2 / (2 * query.variance), sums.displacement = query.displacement;
      if (which_ == LowdimSums::mean) sums.p_n2 = query.norm * query.norm * total.weights.p;  // at most
    }
    return sums;
  }

  // Fills the outputs of a query if its sums are enough.
  bool settle(int64_t q) {
    Query& query = queries_[q];
    LowdimTotal all;
    double best = kAtFirst;
    int64_t dead_rows = 0;
    for (int64_t slab = 0; slab < slabs_; slab++) {
      const size_t i = static_cast<size_t>(slab * count() + q);
      all += totals_[i];
      best = std::max(best, static_cast<double>(states_[i].best));
      dead_rows += states_[i].dead_rows;
    }
    const Sums sums = sums_of(query, all, best);
    const double dead = static_cast<double>(std::min(dead_rows, data_.rows.n));
    if (out_.dropped) out_.dropped[query.index] = std::min(1.0, dead * std::exp(-query.cut));
    if (out_.work && !query.counted) out_.work[query.index] = 1 - 0.5 * dead / static_cast<double>(data_.rows.n);
    if (excluded_) {
      // All others have vanished: next to a reference that was scored with fewer digits, or so far away that the best
      // one lies below the cut for roundings of its score.
      if (sums.best > kAtFirst && !(sums.p > 0)) return false;
      const Candidates& candidates = query.excluded->candidates;
      const AnswerInfo info = answer_from_candidates(data_, &query, {candidates}, {sums}, out_, 1).front();
      return model_.enough_beside(query, sums, info.remainder, info.variance) &&
             model_.resolved(query, candidates, info.variance);
    }
    Candidates candidates;
    if (best_ > 0) {
      if (found_[q].overflowed || found_[q].rows.size() < best_) return false;
      shorten(q, found_[q]);
      if (found_[q].rows.size() < best_) return false;
      candidates.rows = std::move(found_[q].rows);
      const ExactKernels& exact = *active_kernels().exact;
      for (int64_t row : candidates.rows)
        candidates.c.push_back(exact.distance2(data_.rows, row, query.x, query.alpha));
    }
    // Sums about the centre know nothing of the distance that the top row's weight would be taken from.
    if (!direct_ && !model_.resolved(query, candidates, 0)) return false;
    // Nor where the sums are NaN.
    if (!(sums.p > 0 && sums.logit <= most_)) return false;
    // The displacement moves the logit of a row that is `depth` nats below 0 as if in its direction.
    const double depth = std::abs(best) / kLog2e + kDepth;
    const double moved = sums.displacement * std::sqrt(2 * depth / query.variance);
    if (out_.off_weights() && moved > most_) return false;
    const double error = direct_ ? sums.logit + moved : INFINITY;
    if (model_.enough(query, sums, sums.largest(), error)) {
      answer_from_sums(data_, query, sums, candidates, out_);
      return true;
    }
    if (!candidates.rows.empty() && model_.dominated(query, sums, sums.largest())) {
      query.excluded =
          std::make_shared<const Excluded>(Excluded{.candidates = std::move(candidates), .exact_top = true});
    }
    return false;
  }

  const Data& data_;
  std::vector<Query> queries_;
  const bool direct_;
  const Outputs& out_;
  const int threads_;
  const double most_;  // error of a logit
  const ErrorModel<T> model_;
  const LowdimKernels<T>& kernels_;
  const LowdimPlaces places_;
  const LowdimSums which_;  // of the sums are wanted
  const bool excluded_;
  const double h_;  // of the first query
  const LowdimForm form_;
  const int64_t groups_, slabs_;
  const ptrdiff_t step_, block_, ld_;  // rows that are read together, of a block, between dimensions
  const Buffer<T> memory_;
  std::vector<LowdimQuery<T>> states_;  // [slab][query]
  std::vector<LowdimTotal> totals_;     // likewise
  std::vector<Worker> workers_;
  size_t best_ = 0;       // so many best rows are wanted
  Buffer<T> lanes_;       // [slab][query][lane]
  std::vector<T> peaks_;  // best score of [block of those decoded][query]
  std::vector<BestRows> found_;
  std::vector<char> passed_;
};

}  // namespace interp_fast
