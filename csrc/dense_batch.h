// One batch of a dense pass: queries whose results are held at once. All of them have excluded rows, or none.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "accuracy.h"
#include "answer.h"
#include "class_means.h"
#include "classes_of_slabs.h"
#include "dense_block.h"
#include "digits.h"
#include "dispatch.h"
#include "filter.h"
#include "pool.h"
#include "refine.h"
#include "rounding.h"
#include "scan.h"
#include "softmax_state.h"

namespace interp_fast {

// Of a group: rows are decoded once for so many, with digits packed; and of a slab: then sums go up a level. Of digits
// both products are so short that packing counts; more queries together are fewer tasks, which shorter slabs make up
// for.
constexpr int64_t kSumQueries = 256, kDigitQueries = 1024;
constexpr int64_t kSumRows = 32 * kBlock, kGemvSumRows = 1536;
// Rows whose weights may be corrected: up to so many nats below the best, and about so many, if they may weigh more
// than is tolerated. What is left has weights below 1/2000 of the largest, or below about 1/32; the errors of those
// average out, and few rows cost little.
constexpr double kHeavy = 8;
constexpr size_t kMostHeavy = 64;
// One row in d / kSampleDims, within these, tells where lists start: what a list costs does not depend on d, what it
// costs to look does. Measured in 16 to 784 dimensions.
constexpr int64_t kSampleDims = 4, kLeastSample = 8, kMostSample = 48;

// What scores are, in a pass whose products are in A, and sums p X over a slab.
template <class A>
using ScoreOf = std::conditional_t<std::is_same_v<A, Digits>, double, A>;
template <class A>
using SumOf = std::conditional_t<std::is_same_v<A, Digits>, float, A>;

template <class A>
const PanelKernels<ScoreOf<A>>& kernels_of(const Data& data, int64_t queries) {
  if constexpr (std::is_same_v<A, Digits>) {
    return active_kernels().digits->panel;
  } else {
    return panel_kernels<A>(queries, data.rows.d);
  }
}

template <class A, class T = ScoreOf<A>>
class DenseBatch final : public Visitor<T> {
 public:
  DenseBatch(const Data& data, const Query* queries, int64_t count, const Outputs& out, const Accuracy& accuracy,
             int threads)
      : data_(data),
        queries_(queries, queries + count),
        out_(out),
        threads_(threads),
        directions_(out.jvp != nullptr),
        vectors_(digits_ || out.vectors()),
        model_(data, out, accuracy),
        kernels_(kernels_of<A>(data, count)),
        by_class_(out.class_mean && !digits_ && !kernels_.gemv && !queries->excluded),
        panels_(cut_up(data, kernels_, count, out, by_class_)),
        plan_(panels_.plan),
        classes_(out.mass ? ClassesOfSlabs(plan_, out.codes, out.classes) : ClassesOfSlabs()),
        lengths_{
            .x = vectors_ ? plan_.size : 0, .u_x = directions_ ? plan_.size : 0, .mass = classes_.most * plan_.width},
        of_all_{.x = lengths_.x, .u_x = lengths_.u_x, .mass = out.mass ? out.classes * plan_.width : 0},
        merges_{.x = plan_.slabs > 1 ? of_all_.x : 0, .u_x = plan_.slabs > 1 ? of_all_.u_x : 0, .mass = of_all_.mass},
        means_(data, queries_, out, accuracy, panels_, by_class_),
        best_(static_cast<size_t>(std::min(data.active, std::max<int64_t>(out.gap ? 2 : 1, out.top)))),
        excluded_(queries->excluded != nullptr),
        groups_(static_cast<size_t>(plan_.groups)),
        workers_(static_cast<size_t>(threads)) {
    if constexpr (digits_) {
      fill_digit_panels(panels_, data, queries, directions_, threads);
    } else {
      const PanelOptions options = {.factor = logit_factor, .weighted = true, .directions = directions_};
      fill_panels(panels_, data, queries, options, threads);
    }
    tolerated_.resize(queries_.size());
    for (int64_t p = 0; p < plan_.panels; p++) merged_.emplace_back(plan_, merges_);
    parallel_by_query(plan_.panels, threads, [&](int64_t p) {
      merged_[p].clear(plan_, p, {.x = 0, .u_x = 0, .mass = merges_.mass});
      const int64_t first = p * plan_.width;
      for (int64_t q = first; q < first + plan_.lanes(p); q++) tolerated_[q] = model_.tolerated_weight(queries_[q]);
    });
    doubts_ = !excluded_ && *std::min_element(tolerated_.begin(), tolerated_.end()) < 1;
    listed_ = !excluded_ && (out.order() || doubts_);
    for (Group<State>& group : groups_) group.waiting.resize(static_cast<size_t>(plan_.slabs));
  }

  // Fills the outputs of the queries that pass the test, and returns the others: with excluded rows if those dominated
  // the rest.
  std::vector<Query> run() {
    if (listed_) {
      const int64_t one_in = std::clamp<int64_t>(data_.rows.d / kSampleDims, kLeastSample, kMostSample);
      const int64_t sample = one_in * plan_.slabs * plan_.block_rows / data_.rows.n + 1;
      const PilotOptions options = {.k = best_, .counted = Counted::weighted, .sample = sample, .sum_exp = doubts_};
      pilot_ = pilot_pass(data_, panels_, options, threads_);
    }
    sums_.resize(queries_.size());
    scan(data_, panels_, Counted::weighted, threads_, *this);

    if (plan_.slabs > 1) {
      parallel_by_query(plan_.panels, threads_, [&](int64_t p) { take_sums(p, merged_[p].x, merged_[p].u_x); });
    }
    passed_.resize(queries_.size());
    excluded_ ? settle_excluded() : settle();
    std::vector<Query> rest;
    for (int64_t q = 0; q < count(); q++) {
      Query& query = queries_[q];
      const double dead_rows = static_cast<double>(merged_[q / plan_.width].dead_rows);
      if (out_.dropped) out_.dropped[query.index] = std::min(1.0, dead_rows * std::exp(-query.cut));
      if (out_.work && !query.counted) {
        const double alive = 1 - dead_rows / static_cast<double>(data_.rows.n);
        out_.work[query.index] = 0.5 + (vectors_ ? 0.5 * alive : 0);
      }
      query.counted = true;
      if (!passed_[q]) rest.push_back(std::move(query));
    }
    return rest;
  }

  // A slab of a group begins.
  void begin(const Task<T>& task) override {
    Worker& mine = workers_[task.worker];
    Group<State>& group = groups_[task.group];
    const int W = plan_.width;
    {
      std::lock_guard<std::mutex> lock(group.mutex);
      if (!group.spare.empty()) mine.states = std::move(group.spare.back()), group.spare.pop_back();
    }
    while (static_cast<int64_t>(mine.states.size()) < task.count) mine.states.emplace_back(plan_, lengths_);
    mine.thresholds = Buffer<T>(static_cast<size_t>(task.count * W));
    mine.sum_exp = Buffer<T>(static_cast<size_t>(W));
    for (int64_t i = 0; i < task.count; i++) {
      State& state = mine.states[i];
      state.clear(plan_, task.first + i, lengths_);
      Panel<T>& panel = task.panels[i];
      panel.best = state.scores.get(), panel.reference = state.scores.get() + W;
      panel.sums = state.sums.get();
      if constexpr (digits_) {
        panel.acc32 = state.x.get(), panel.acc_u32 = directions_ ? state.u_x.get() : nullptr;
      } else {
        panel.acc = vectors_ ? state.x.get() : nullptr, panel.acc_u = directions_ ? state.u_x.get() : nullptr;
      }
      if (!listed_) continue;
      start_lists(task.first + i, state.lists);
      open_thresholds(panel, W, mine.thresholds.get() + i * W);
      panel.threshold = mine.thresholds.get() + i * W;
    }
  }

  void visit(const Task<T>& task, const Visit<T>& visit) override {
    const Block<T>& block = visit.block;
    Worker& mine = workers_[task.worker];
    State* const states = mine.states.data() + visit.at;
    kernels_.scores(block, visit.panels, visit.count);
    for (int i = 0; i < visit.count; i++) {
      const Panel<T>& panel = visit.panels[i];
      const int64_t query = (task.first + visit.at + i) * plan_.width;
      if (excluded_) leave_out(plan_, block, panel, queries_.data() + query, visit.first_row);
      raise_best(plan_, visit, panel);
      if (!panel.found) continue;
      CandidateList* const lists = states[i].lists.data();
      if (doubts_) raise_bars(kernels_, block, panel, tolerated_.data() + query, mine.sum_exp.get(), lists);
      T* const thresholds = mine.thresholds.get() + (visit.at + i) * plan_.width;
      offer_block(panels_, panel, visit, lists, thresholds);
    }
    kernels_.add(block, visit.panels, visit.count, out_.statistics());
    for (int i = 0; i < visit.count; i++) {
      Panel<T>& panel = visit.panels[i];
      states[i].dead_rows += std::max<ptrdiff_t>(0, visit.rows - panel.alive_rows);
      if (panel.alive_rows == 0) continue;
      if (directions_) kernels_.add_along(block, panel);
      if (out_.mass) {
        states[i].add_mass(plan_, lengths_, panel, block, classes_.places.data() + visit.first_row, visit.rows);
      }
    }
  }

  // A slab of a group ends: its sums wait for those of the slabs before it.
  void end(const Task<T>& task) override {
    Group<State>& group = groups_[task.group];
    std::lock_guard<std::mutex> lock(group.mutex);
    group.waiting[task.slab] = std::move(workers_[task.worker].states);
    for (; group.next < plan_.slabs; group.next++) {
      std::vector<State>& next = group.waiting[group.next];
      if (next.empty()) return;
      for (size_t i = 0; i < next.size(); i++) {
        const int64_t p = task.first + static_cast<int64_t>(i);
        if (group.next == 0) {
          start(merged_[p], next[i], plan_, merges_);
        } else {
          merge(merged_[p], next[i], plan_, merges_);
        }
        merge_lists(merged_[p], next[i]);
        if (out_.mass) merge_mass(merged_[p], next[i], plan_, classes_.classes[group.next], of_all_.mass);
        means_.add(p, group.next, next[i]);
        if (plan_.slabs == 1) take_sums(p, next[i].x, next[i].u_x);
      }
      group.spare.push_back(std::move(next));
    }
    group.spare.clear();
  }

 private:
  using State = SoftmaxState<T, SumOf<A>>;
  static constexpr bool digits_ = std::is_same_v<A, Digits>;

  // A worker's task at hand: its panels, with everything that runs.
  struct Worker {
    std::vector<State> states;
    Buffer<T> thresholds, sum_exp;
  };

  static Panels<T> cut_up(const Data& data, const PanelKernels<T>& kernels, int64_t count, const Outputs& out,
                          bool by_class) {
    const int64_t rows = digits_ ? kDigitRows : kernels.gemv ? kGemvSumRows : kSumRows;
    Panels<T> panels = make_panels(data, kernels, count, digits_ ? kDigitQueries : kSumQueries, rows);
    if (by_class) end_slabs_with_classes(data, out.codes, out.by_class, panels.plan);
    return panels;
  }

  static std::vector<double> scores_of(const CandidateList& list) {
    std::vector<double> scores;
    for (const CandidateList::Entry& entry : list.entries()) scores.push_back(entry.score);
    return scores;
  }

  int64_t count() const { return static_cast<int64_t>(queries_.size()); }

  void start_lists(int64_t p, std::vector<CandidateList>& lists) const {
    lists.resize(static_cast<size_t>(plan_.lanes(p)));
    for (int lane = 0; lane < plan_.lanes(p); lane++) {
      const size_t q = static_cast<size_t>(p * plan_.width + lane);
      const double least = out_.order() ? 0.0 : -INFINITY, cut = std::min(kHeavy, queries_[q].cut);
      const size_t capacity = std::max<size_t>(1024, 4 * best_);
      lists[lane].start({.k = best_,
                         .cut = kLog2e * cut,
                         .least = least,
                         .trim_above = std::max(kMostHeavy, best_),
                         .capacity = capacity});
      lists[lane].start_from(pilot_.bounds[q]);
      lists[lane].raise_bar(tolerated_[q] < 1 ? pilot_.sum_exp[q] + std::log2(tolerated_[q]) : INFINITY);
    }
  }

  // The sums of a panel's queries, those of rows from these.
  template <class Sum>
  void take_sums(int64_t p, const Buffer<Sum>& x, const Buffer<Sum>& u_x) {
    Sums* const all = sums_.data() + p * plan_.width;
    interp_fast::take_sums(merged_[p], x, u_x, panels_, plan_.lanes(p), of_all_, all);
    for (int lane = 0; lane < plan_.lanes(p); lane++) {
      const Query& query = queries_[p * plan_.width + lane];
      Sums& sums = all[lane];
      sums.logit = logit_error<A>(data_, query);
      sums.offset = -query.x2 / (2 * query.variance), sums.displacement = query.displacement;
      if (digits_) sums.displacement += displaced_by_digits(data_, query);
    }
    means_.take(p);
  }

  // Queries without excluded rows.
  void settle() {
    parallel_by_query((count() + kRefineTogether - 1) / kRefineTogether, threads_, [&](int64_t task) {
      const int64_t first = task * kRefineTogether, some = std::min(kRefineTogether, count() - first);
      std::vector<CandidateList> lists(static_cast<size_t>(some));
      std::vector<Candidates> candidates(static_cast<size_t>(some));
      for (int64_t i = 0; i < some; i++) judge(first + i, lists[i]);
      if (listed_) refine_together(data_, queries_.data() + first, lists.data(), some, candidates.data());
      for (int64_t i = 0; i < some; i++) answer(first + i, lists[i], candidates[i]);
    });
  }

  // Whether sums are enough as they are; and takes the list of a query, with what may be wanted of it.
  void judge(int64_t q, CandidateList& list) {
    passed_[q] = model_.enough_in_t(queries_[q], sums_[q], tolerated_[q]);
    if (!listed_) return;
    list = std::move(merged_[q / plan_.width].lists[static_cast<size_t>(q % plan_.width)]);
    if (passed_[q] && !means_.needs_list(q)) list.raise_bar(INFINITY);
    list.prune();
    if (plan_.order) list.sort();
  }

  void answer(int64_t q, const CandidateList& list, Candidates& candidates) {
    Sums& sums = sums_[q];
    Query& query = queries_[q];
    // Sums that are enough as they are need no list, unless rows are asked for. What an overflow has left of one, the
    // rows that may be the best, says as well as a whole one how near the nearest is; it goes with this function.
    if (list.overflowed() && (out_.order() || !passed_[q])) {
      passed_[q] = false;
      return;
    }
    if (passed_[q]) {
      passed_[q] = model_.resolved(query, candidates, 0);
    } else if (listed_) {
      const double unsure = std::exp2(list.threshold() - sums.reference) / sums.p;
      const double before = sums.p;
      correct(data_, query, scores_of(list), candidates, out_, sums);
      // What is taken away leaves its roundings, 2^-24 of it: where nearly all was, nothing else is left.
      if (!(sums.p >= kLeft * before) || !model_.resolved(query, candidates, model_.variance_at_most(sums))) return;
      passed_[q] = model_.enough(query, sums, unsure, rounding_of_logits(sums));
      const bool dominated = !passed_[q] && model_.dominated(query, sums, unsure);
      if (dominated && model_.clustered(query, sums)) {
        query.regime = Regime::clustered;
      } else if (dominated && !candidates.rows.empty()) {
        query.excluded =
            std::make_shared<const Excluded>(Excluded{.candidates = std::move(candidates), .exact_top = true});
      }
    }
    if (out_.order() && candidates.rows.size() < best_) passed_[q] = false;
    if (!passed_[q]) return;
    answer_from_sums(data_, query, sums, candidates, out_);
    means_.answer(q, list, candidates);
    if (!bounds_rounding()) return;
    bound_rounding(q, {.share = 1, .exact = sums.exact / sums.p, .variance = sums.variance()});
  }

  // Queries with excluded rows: those and the sums over all others make the answer.
  void settle_excluded() {
    std::vector<Candidates> candidates;
    for (const Query& query : queries_) candidates.push_back(query.excluded->candidates);
    const std::vector<AnswerInfo> info =
        answer_from_candidates(data_, queries_.data(), candidates, sums_, out_, threads_);
    for (int64_t q = 0; q < count(); q++) {
      const Query& query = queries_[q];
      passed_[q] = model_.enough_beside(query, sums_[q], info[q].remainder, info[q].variance) &&
                   model_.resolved(query, candidates[q], info[q].variance) &&
                   (query.excluded->exact_top || kth_logit(query, candidates[q]) >= highest_remaining(q));
      const double share = info[q].remainder;
      if (passed_[q] && bounds_rounding())
        bound_rounding(q, {.share = share, .exact = 1 - share, .variance = info[q].variance});
    }
  }

  // Where all that is rounded is known.
  bool bounds_rounding() const { return digits_ && out_.rounding; }
  void bound_rounding(int64_t q, const Posterior& posterior) {
    const Query& query = queries_[q];
    const double left = panels_.left[static_cast<size_t>(q)], length = 1.001 * data_.max_norm;
    const ScoreErrors errors = {.left = left, .others = score_error(q, length) - left * length};
    const double* const mean = out_.mean + query.index * data_.rows.d;
    out_.rounding[query.index] = rounding_of_mean(data_, query, sums_[q], errors, posterior, mean);
  }

  // A bound on what the score of a row that is no longer is off by.
  double score_error(int64_t q, double norm) const {
    Block<T> all{};
    all.max_norm = static_cast<T>(norm), all.span = static_cast<T>(data_.log_w_span);
    if (digits_) all.residual = static_cast<T>(1.001 * data_.quantized->farthest());
    return score_error_of(all, panels_.panel(q / plan_.width), static_cast<int>(q % plan_.width));
  }

  // The last of the best logits of these candidates; -inf if there are fewer.
  double kth_logit(const Query& query, const Candidates& candidates) const {
    std::vector<double> logits;
    for (size_t i = 0; i < candidates.rows.size(); i++) {
      logits.push_back(data_.log_w[candidates.rows[i]] - candidates.c[i] / (2 * query.s2));
    }
    if (logits.size() < best_) return -INFINITY;
    const auto kth = logits.begin() + static_cast<ptrdiff_t>(best_ - 1);
    std::nth_element(logits.begin(), kth, logits.end(), std::greater<>());
    return *kth;
  }

  // An upper bound on the logits of the rows that are not excluded.
  double highest_remaining(int64_t q) const {
    const Sums& sums = sums_[q];
    const double error = score_error(q, queries_[q].norm);
    return sums.p == 0 ? -INFINITY : (sums.best + 2 * error) / kLog2e + sums.offset + data_.log_w_max;
  }

  const Data& data_;
  std::vector<Query> queries_;
  const Outputs& out_;
  const int threads_;
  const bool directions_;  // for products with the Jacobian
  const bool vectors_;     // sums of rows are wanted
  const ErrorModel<A> model_;
  const PanelKernels<T>& kernels_;
  const bool by_class_;  // the means of classes are wanted, too
  Panels<T> panels_;
  const Plan& plan_;
  const ClassesOfSlabs classes_;
  const Lengths lengths_, of_all_;  // of slabs, and of all
  const Lengths merges_;            // what is kept of several slabs: the sums of a single one are taken as they are
  ClassMeans<A, T> means_;
  const size_t best_;              // the best rows that are asked for
  const bool excluded_;            // which is all that is asked of single rows, then
  std::vector<double> tolerated_;  // of each query
  bool doubts_, listed_;           // some heavy row may do harm; lists are kept
  Pilot pilot_;
  std::vector<SoftmaxState<T, double>> merged_;  // of each panel
  std::vector<Group<State>> groups_;
  std::vector<Worker> workers_;
  std::vector<Sums> sums_;
  std::vector<char> passed_;
};

}  // namespace interp_fast
