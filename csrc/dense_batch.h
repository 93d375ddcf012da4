// One batch of a dense pass: queries whose results are held at once. All of them have excluded rows, or none.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "accuracy.h"
#include "answer.h"
#include "dispatch.h"
#include "filter.h"
#include "softmax_state.h"

namespace interp_fast {

constexpr int64_t kSumQueries = 256;                            // of a group: rows are decoded once for so many
constexpr int64_t kSumRows = 32 * kBlock, kGemvSumRows = 1536;  // of a slab: then sums in T go up a level
// Rows whose weights may be corrected: up to so many nats below the best, and about so many, if they may weigh more
// than is tolerated. What is left has weights below 1/2000 of the largest, or below about 1/32; the errors of those
// average out, and few rows cost little.
constexpr double kHeavy = 8;
constexpr size_t kMostHeavy = 64;
constexpr int64_t kSample = 48;  // about this part of the rows tells where lists start

// Rows that cannot end with more than a tolerated weight need no place in the lists: the rows so far and those of this
// block are part of the final sum. Where there are rows so far, the heaviest of the block is enough of it.
template <class T>
void raise_bars(const PanelKernels<T>& kernels, const Block<T>& block, const Panel<T>& panel,
                const double* tolerated_weight, T* sum_exp, CandidateList* lists) {
  const bool first = panel.sums[0] == 0;
  if (first) kernels.sum_exp(block, panel, sum_exp);
  for (int lane = 0; lane < panel.lanes; lane++) {
    if (panel.peak[lane] + score_error_of(block, panel, lane) < panel.threshold[lane]) continue;  // nothing to list
    const double reference = panel.reference[lane], peak = panel.peak[lane], level = std::max(reference, peak);
    const double before = panel.sums[lane] * std::exp2(reference - level);
    const double sum = before + (first ? sum_exp[lane] : 1) * std::exp2(peak - level);
    lists[lane].raise_bar(level + std::log2(tolerated_weight[lane] * sum));
  }
}

// Excluded rows never count among the others.
template <class T>
void leave_out(const Plan& plan, const Block<T>& block, const Panel<T>& panel, const Query* queries, int64_t first) {
  for (int lane = 0; lane < panel.lanes; lane++) {
    const std::vector<int64_t>& rows = queries[lane].excluded->candidates.rows;
    const auto begin = std::lower_bound(rows.begin(), rows.end(), first);
    const auto end = std::lower_bound(begin, rows.end(), first + block.rows);
    if (begin == end) continue;
    const ptrdiff_t step = plan.gemv ? 1 : plan.width;
    T* const scores = panel.s + (plan.gemv ? lane * block.rows : lane);
    for (auto row = begin; row != end; row++) scores[(*row - first) * step] = static_cast<T>(-kNever);
    T peak = static_cast<T>(-INFINITY);
    for (ptrdiff_t n = 0; n < block.rows; n++) peak = std::max(peak, scores[n * step]);
    panel.peak[lane] = peak;
  }
}

template <class T>
class DenseBatch {
 public:
  DenseBatch(const Data& data, const Query* queries, int64_t count, const double* u, const Outputs& out,
             const Accuracy& accuracy, int threads)
      : data_(data),
        queries_(queries, queries + count),
        u_(out.jvp ? u : nullptr),
        out_(out),
        threads_(threads),
        model_(data, out, accuracy, u),
        kernels_(panel_kernels<T>(active_kernels(), count, data.rows.d)),
        panels_(make_panels(data, kernels_, count, kSumQueries, kernels_.gemv ? kGemvSumRows : kSumRows)),
        plan_(panels_.plan),
        best_(static_cast<size_t>(std::min(data.active, std::max<int64_t>(out.gap ? 2 : 1, out.top)))),
        excluded_(queries->excluded != nullptr),
        groups_(static_cast<size_t>(plan_.groups)),
        workers_(static_cast<size_t>(threads)) {
    const auto scale = [](const Query& q) { return kLog2e / q.variance; };
    fill_panels(panels_, data, queries, u_, true, threads, scale);
    for (const Query& query : queries_) tolerated_.push_back(model_.tolerated_weight(query));
    doubts_ = !excluded_ && *std::min_element(tolerated_.begin(), tolerated_.end()) < 1;
    listed_ = !excluded_ && (out.order() || doubts_);
    for (int64_t p = 0; p < plan_.panels; p++) merged_.emplace_back(plan_, u_ != nullptr);
    for (Group<T>& group : groups_) group.waiting.resize(static_cast<size_t>(plan_.slabs));
  }

  // Fills the outputs of the queries that pass the test, and returns the others: with excluded rows if those dominated
  // the rest.
  std::vector<Query> run() {
    const KernelTable& table = active_kernels();
    const int64_t sample = kSample * plan_.slabs * plan_.block_rows / data_.rows.n + 1;
    if (listed_) pilot_ = pilot_pass(data_, table, panels_, best_, true, sample, doubts_, threads_);
    parallel_for(plan_.panels, threads_, [&](int64_t p, int) { merged_[p].clear(plan_, p, u_ != nullptr); });
    const auto start = [&](int64_t group, int64_t, int worker, Panel<T>* panels) { open(group, panels, worker); };
    const auto visit = [&](int64_t group, int64_t from, Panel<T>* panels, int number, const Block<T>& block,
                           int64_t first, ptrdiff_t rows, int worker) {
      add(block, first, rows, plan_.first_panel(group) + from, panels, number, workers_[worker], from);
    };
    const auto finish = [&](int64_t group, int64_t slab, int worker) {
      hand_in(group, slab, std::move(workers_[worker].running));
    };
    scan(data_, table, panels_, true, threads_, start, visit, finish);

    totals_.resize(queries_.size());
    parallel_for(plan_.panels, threads_, [&](int64_t p, int) { take_totals(p); });
    passed_.resize(queries_.size());
    excluded_ ? settle_excluded() : settle();
    std::vector<Query> rest;
    for (int64_t q = 0; q < count(); q++) {
      Query& query = queries_[q];
      const double dead_rows = static_cast<double>(merged_[q / plan_.width].dead_rows);
      if (out_.dropped) out_.dropped[query.index] = std::min(1.0, dead_rows * std::exp(-query.cut));
      if (out_.work && !query.counted) {
        out_.work[query.index] = 1 - 0.5 * dead_rows / static_cast<double>(data_.rows.n);
      }
      query.counted = true;
      if (!passed_[q]) rest.push_back(std::move(query));
    }
    return rest;
  }

 private:
  // A worker's task at hand: its panels, with everything that runs.
  struct Worker {
    std::vector<SoftmaxState<T, T>> running;
    Buffer<T> thresholds, sum_exp;
  };

  int64_t count() const { return static_cast<int64_t>(queries_.size()); }

  // A slab of a group begins.
  void open(int64_t g, Panel<T>* panels, int worker) {
    Worker& mine = workers_[worker];
    Group<T>& group = groups_[g];
    const int W = plan_.width;
    const int64_t first = plan_.first_panel(g), open = plan_.first_panel(g + 1) - first;
    {
      std::lock_guard<std::mutex> lock(group.mutex);
      if (!group.spare.empty()) mine.running = std::move(group.spare.back()), group.spare.pop_back();
    }
    while (static_cast<int64_t>(mine.running.size()) < open) mine.running.emplace_back(plan_, u_ != nullptr);
    mine.thresholds = Buffer<T>(static_cast<size_t>(open * W));
    mine.sum_exp = Buffer<T>(static_cast<size_t>(W));
    for (int64_t i = 0; i < open; i++) {
      SoftmaxState<T, T>& running = mine.running[i];
      running.clear(plan_, first + i, u_ != nullptr);
      Panel<T>& panel = panels[i];
      panel.best = running.scores.get(), panel.reference = running.scores.get() + W;
      panel.sums = running.sums.get();
      panel.acc = running.x.get();
      if (u_) panel.acc_u = running.u_x.get();
      if (!listed_) continue;
      start_lists(first + i, running.lists);
      open_thresholds(panel, W, mine.thresholds.get() + i * W);
      panel.threshold = mine.thresholds.get() + i * W;
    }
  }

  void start_lists(int64_t p, std::vector<CandidateList>& lists) const {
    lists.resize(static_cast<size_t>(plan_.lanes(p)));
    for (int lane = 0; lane < plan_.lanes(p); lane++) {
      const size_t q = static_cast<size_t>(p * plan_.width + lane);
      const double least = out_.order() ? 0.0 : -INFINITY, cut = std::min(kHeavy, queries_[q].cut);
      const size_t capacity = std::max<size_t>(1024, 4 * best_);
      lists[lane].start(best_, kLog2e * cut, least, std::max(kMostHeavy, best_), capacity);
      lists[lane].start_from(pilot_.bounds[q]);
      lists[lane].raise_bar(tolerated_[q] < 1 ? pilot_.sum_exp[q] + std::log2(tolerated_[q]) : INFINITY);
    }
  }

  // Adds a block to panels p ... p + number - 1, of which the first is number `at` of its group.
  void add(const Block<T>& block, int64_t first, ptrdiff_t rows, int64_t p, Panel<T>* panels, int number, Worker& mine,
           int64_t at) const {
    SoftmaxState<T, T>* const running = mine.running.data() + at;
    kernels_.scores(block, panels, number);
    for (int i = 0; i < number; i++) {
      const int64_t query = (p + i) * plan_.width;
      if (excluded_) leave_out(plan_, block, panels[i], queries_.data() + query, first);
      if (!panels[i].found) continue;
      CandidateList* const lists = running[i].lists.data();
      if (doubts_) raise_bars(kernels_, block, panels[i], tolerated_.data() + query, mine.sum_exp.get(), lists);
      offer_block(plan_, panels[i], block, first, lists, mine.thresholds.get() + (at + i) * plan_.width);
    }
    kernels_.add(block, panels, number, out_.ess || out_.entropy);
    for (int i = 0; i < number; i++) {
      running[i].dead_rows += std::max<ptrdiff_t>(0, rows - panels[i].alive_rows);
      if (panels[i].alive_rows > 0 && u_) kernels_.add_along(block, panels[i]);
    }
  }

  // A slab of a group ends: its sums wait for those of the slabs before it.
  void hand_in(int64_t g, int64_t slab, std::vector<SoftmaxState<T, T>> running) {
    Group<T>& group = groups_[g];
    std::lock_guard<std::mutex> lock(group.mutex);
    group.waiting[slab] = std::move(running);
    for (; group.next < plan_.slabs; group.next++) {
      std::vector<SoftmaxState<T, T>>& next = group.waiting[group.next];
      if (next.empty()) return;
      for (size_t i = 0; i < next.size(); i++) {
        merge(merged_[static_cast<size_t>(plan_.first_panel(g)) + i], next[i], plan_, u_ != nullptr);
      }
      group.spare.push_back(std::move(next));
    }
    group.spare.clear();
  }

  // The totals of a panel's queries.
  void take_totals(int64_t p) {
    const SoftmaxState<T, double>& from = merged_[p];
    const int lanes = plan_.lanes(p);
    const ptrdiff_t d = data_.rows.d;
    Sums* const totals = totals_.data() + p * plan_.width;
    for (int lane = 0; lane < lanes; lane++) {
      const Query& query = queries_[p * plan_.width + lane];
      const auto sum = [&](int i) { return from.sums[i * plan_.width + lane]; };
      Sums& total = totals[lane];
      total.reference = from.reference(lane, plan_), total.best = from.best(lane);
      total.p = sum(0), total.p_n2 = sum(1), total.p_p = sum(2), total.p_score = sum(3);
      if (total.reference <= -kNever / 2) total.p = 0;  // there is no row but the excluded ones
      total.logit = logit_error<T>(data_, query);
      total.offset = -query.x2 / (2 * query.variance), total.displacement = query.displacement;
      total.x.resize(static_cast<size_t>(d)), total.u_x.resize(static_cast<size_t>(u_ ? d : 0));
    }
    constexpr ptrdiff_t kStretch = kLine / sizeof(double);  // of dimensions: a line of each total
    for (ptrdiff_t k = 0; k < d; k += kStretch) {
      for (int lane = 0; lane < lanes; lane++) {
        for (ptrdiff_t j = k; j < std::min(d, k + kStretch); j++) {
          totals[lane].x[j] = from.x[panels_.at(lane, j)];
          if (u_) totals[lane].u_x[j] = from.u_x[panels_.at(lane, j)];
        }
      }
    }
  }

  // Queries without excluded rows.
  void settle() {
    std::vector<CandidateList> lists(queries_.size());
    parallel_for(count(), threads_, [&](int64_t q, int) {
      passed_[q] = model_.enough_in_t(queries_[q], totals_[q], tolerated_[q]);
      if (!listed_) return;
      lists[q] = std::move(merged_[q / plan_.width].lists[static_cast<size_t>(q % plan_.width)]);
      if (passed_[q]) lists[q].raise_bar(INFINITY);
      lists[q].prune();
    });
    std::vector<Candidates> candidates(queries_.size());
    if (listed_) candidates = refine(data_, queries_.data(), lists, threads_);
    parallel_for(count(), threads_, [&](int64_t q, int) {
      Sums& total = totals_[q];
      Query& query = queries_[q];
      if (lists[q].overflowed()) {
        passed_[q] = false;
        return;
      }
      if (passed_[q]) {
        passed_[q] = model_.resolved(query, candidates[q], 0);
      } else if (listed_) {
        const double unsure = std::exp2(lists[q].threshold() - total.reference) / total.p;
        model_.correct(query, lists[q], candidates[q], total);
        if (!model_.resolved(query, candidates[q], total.variance())) return;
        // What a distance in float64 and the sums have in common has been rounded separately.
        const double error = 2 * kRoundoff<double> * std::abs(total.offset);
        passed_[q] = model_.enough(query, total, unsure, error);
        if (!passed_[q] && !candidates[q].rows.empty() && model_.dominated(query, total, unsure)) {
          query.excluded = std::make_shared<const Excluded>(Excluded{std::move(candidates[q]), true});
        }
      }
      if (out_.order() && candidates[q].rows.size() < best_) passed_[q] = false;
      if (passed_[q]) model_.write(query, total, candidates[q]);
    });
  }

  // Queries with excluded rows: those and the sums over all others make the answer.
  void settle_excluded() {
    std::vector<Candidates> candidates;
    for (const Query& query : queries_) candidates.push_back(query.excluded->candidates);
    const std::vector<AnswerInfo> used = finish_exact(data_, queries_.data(), candidates, totals_, u_, out_, threads_);
    for (int64_t q = 0; q < count(); q++) {
      const Query& query = queries_[q];
      passed_[q] = model_.enough(query, totals_[q], used[q]) &&
                   model_.resolved(query, candidates[q], used[q].variance) &&
                   (query.excluded->exact_top || model_.kth_logit(query, candidates[q], best_) >= highest_remaining(q));
    }
  }

  // An upper bound on the logits of the rows that are not excluded.
  double highest_remaining(int64_t q) const {
    const Sums& total = totals_[q];
    Block<T> all{};
    all.max_norm = static_cast<T>(data_.max_norm), all.span = static_cast<T>(data_.log_w_span);
    const double error = score_error_of(all, panels_.panel(q / plan_.width), static_cast<int>(q % plan_.width));
    return total.p == 0 ? -INFINITY : (total.best + 2 * error) / kLog2e + total.offset + data_.log_w_max;
  }

  const Data& data_;
  std::vector<Query> queries_;
  const double* const u_;  // directions, where products with the Jacobian are wanted
  const Outputs& out_;
  const int threads_;
  const ErrorModel<T> model_;
  const PanelKernels<T>& kernels_;
  Panels<T> panels_;
  const Plan& plan_;
  const size_t best_;              // the best rows that are asked for
  const bool excluded_;            // which is all that is asked of single rows, then
  std::vector<double> tolerated_;  // of each query
  bool doubts_, listed_;           // some heavy row may do harm; lists are kept
  Pilot pilot_;
  std::vector<SoftmaxState<T, double>> merged_;  // of each panel
  std::vector<Group<T>> groups_;
  std::vector<Worker> workers_;
  std::vector<Sums> totals_;
  std::vector<char> passed_;
};

}  // namespace interp_fast
