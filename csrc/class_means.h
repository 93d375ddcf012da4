// The mean of the rows of one class for each query, of a pass over all rows whose slabs have one class each: the sums
// of the slabs of that class are merged by themselves, too. Then they have to pass the same test as those of all rows.
#pragma once

#include <cmath>
#include <vector>

#include "accuracy.h"
#include "answer.h"
#include "softmax_state.h"

namespace interp_fast {

// Of a sum that has been corrected, at least: float32 then keeps 2^-20.
constexpr double kLeft = 0x1p-4;

// What a distance in float64 and sums have in common has been rounded separately; so has the best score.
inline double rounding_of_logits(const Sums& sums) {
  return 2 * kRoundoff<double> * (std::abs(sums.offset) + std::abs(sums.best) / kLog2e);
}

template <class A, class T>
class ClassMeans {
 public:
  // None are `wanted`: all of this does nothing.
  ClassMeans(const Data& data, const std::vector<Query>& queries, const Outputs& out, const Accuracy& accuracy,
             const Panels<T>& panels, bool wanted)
      : data_(data),
        queries_(queries),
        panels_(panels),
        codes_(out.codes),
        class_of_(out.class_of),
        out_(mean_alone(out)),
        model_(data, out_, accuracy),
        lengths_{.x = panels.plan.size, .u_x = 0, .mass = 0} {
    if (!wanted) return;
    for (int64_t p = 0; p < panels.plan.panels; p++) {
      merged_.emplace_back(panels.plan, lengths_);
      merged_.back().clear(panels.plan, p, lengths_);
    }
    members_.resize(static_cast<size_t>(panels.plan.panels * panels.plan.width));
    sums_.resize(queries.size()), enough_.resize(queries.size());
  }

  bool wanted() const { return !merged_.empty(); }

  // What a panel has of a slab, under the lock of its group.
  template <class Sum>
  void add(int64_t p, int64_t slab, const SoftmaxState<T, Sum>& from) {
    if (!wanted()) return;
    const Plan& plan = panels_.plan;
    const int64_t code = codes_[plan.row(plan.slab_begin[slab])];
    char* const members = members_.data() + p * plan.width;
    bool any = false;
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      members[lane] = class_of_[queries_[p * plan.width + lane].index] == code;
      any |= members[lane] != 0;
    }
    if (any) merge(merged_[p], from, plan, lengths_, members);
  }

  // After the pass, before all else: the sums of a panel.
  void take(int64_t p) {
    if (!wanted()) return;
    const int64_t first = p * panels_.plan.width;
    const SoftmaxState<T, double>& from = merged_[p];
    take_sums(from, from.x, from.u_x, panels_, panels_.plan.lanes(p), lengths_, sums_.data() + first);
    for (int64_t q = first; q < first + panels_.plan.lanes(p); q++) {
      Sums& sums = sums_[q];
      const Query& query = queries_[q];
      sums.logit = logit_error<A>(data_, query);
      sums.offset = -query.x2 / (2 * query.variance), sums.displacement = query.displacement;
      // Rows that count for nothing in all may be all that there is of a class.
      if (query.norm < data_.max_norm) sums.p = 0;
      enough_[q] = sums.p > 0 && model_.enough_in_t(query, sums, model_.tolerated_weight(query)) &&
                   model_.resolved(query, {}, 0);
    }
  }

  // Whether the list of heavy rows of a query can help.
  bool needs_list(int64_t q) const { return wanted() && !enough_[q]; }

  // Of a query whose sums over all rows have passed: writes the mean if this is known as well.
  void answer(int64_t q, const CandidateList& list, const Candidates& candidates) {
    if (!wanted()) return;
    const Query& query = queries_[q];
    Sums& sums = sums_[q];
    if (!enough_[q] && sums.p > 0 && !list.overflowed() && list.threshold() > -INFINITY) {
      Candidates own;
      std::vector<double> scores;
      for (size_t i = 0; i < candidates.rows.size(); i++) {
        if (codes_[candidates.rows[i]] != class_of_[query.index]) continue;
        own.rows.push_back(candidates.rows[i]), own.c.push_back(candidates.c[i]);
        scores.push_back(list.entries()[i].score);
      }
      const double before = sums.p, unsure = std::exp2(list.threshold() - sums.reference) / before;
      correct(data_, query, scores, own, out_, sums);
      enough_[q] = sums.p >= kLeft * before && model_.resolved(query, own, model_.variance_at_most(sums)) &&
                   model_.enough(query, sums, unsure, rounding_of_logits(sums));
    }
    if (enough_[q]) answer_from_sums(data_, query, sums, {}, out_);
  }

 private:
  static Outputs mean_alone(const Outputs& out) {
    Outputs alone{};
    alone.mean = out.class_mean;
    return alone;
  }

  const Data& data_;
  const std::vector<Query>& queries_;
  const Panels<T>& panels_;
  const int64_t *const codes_, *const class_of_;
  const Outputs out_;
  const ErrorModel<A> model_;
  const Lengths lengths_;
  std::vector<SoftmaxState<T, double>> merged_;  // of each panel
  std::vector<char> members_;                    // of each lane of a panel: is its class that of the slab?
  std::vector<Sums> sums_;
  std::vector<char> enough_;
};

}  // namespace interp_fast
