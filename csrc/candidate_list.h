// The rows that may still be among the best of one query, from scores with rigorous error bounds.
//
// With lb_(k) the k-th largest lower bound so far, a row whose score is at most `upper` can be left out for good once
// upper < lb_(k) - cut: k rows are known to lie more than `cut` above it. A list that need not go down so far has a
// bar, raised by its owner, and by itself whenever it holds more than `trim_above` rows; rows within `least` of lb_(k)
// are wanted however high that is. One that outgrows its capacity has overflowed: from then on it is about the heaviest
// rows alone, or, where even those are more than its capacity, empty.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "copies.h"

namespace interp_fast {

class CandidateList {
 public:
  struct Entry {
    int64_t row;
    double score, upper;
  };

  struct Options {
    size_t k;
    double cut, least = 0;
    size_t trim_above, capacity;
  };

  // Starts anew, in the memory that it has.
  void start(const Options& options) {
    k_ = options.k, cut_ = options.cut, least_ = options.least;
    trim_above_ = options.trim_above, capacity_ = options.capacity;
    bar_ = floor_ = -INFINITY;
    next_ = std::min({kFirst, trim_above_, capacity_});
    overflowed_ = empty_ = false;
    best_.clear(), entries_.clear();
  }

  size_t k() const { return k_; }
  // Every row whose score reaches this is in the list.
  double threshold() const {
    if (empty_) return INFINITY;
    return std::max(kth() - cut_, std::min(bar_, kth() - least_));
  }

  // A lower bound on the k-th best score of all, known from elsewhere.
  void start_from(double lower) { floor_ = lower; }

  // From now on only rows whose scores reach this, and those within `least`.
  void raise_bar(double score) { bar_ = std::max(bar_, score); }

  // A lower bound on the score of a row; each row at most once.
  void raise(double lower) {
    if (!(lower > floor_)) return;  // nor NaN
    if (k_ == 1) {
      floor_ = lower;
      return;
    }
    if (best_.size() == k_) {
      if (lower <= best_.front()) return;
      std::pop_heap(best_.begin(), best_.end(), std::greater<>());
      best_.back() = lower;
    } else {
      best_.push_back(lower);
    }
    std::push_heap(best_.begin(), best_.end(), std::greater<>());
  }

  // A row, its score and an upper bound on that; rows in the order of the pass. A score that is NaN (of a row so long
  // that it overflows) stays.
  void add(int64_t row, double score, double upper) {
    if (empty_ || upper < threshold()) return;
    if (entries_.empty()) entries_.reserve(16);
    entries_.push_back({row, score, upper});
    if (entries_.size() < next_) return;
    prune();
    if (entries_.size() > trim_above_) shrink();
    if (entries_.size() > capacity_) overflow();
    next_ = std::max(std::min({kFirst, trim_above_, capacity_}), 2 * entries_.size());
  }

  // The lists of consecutive slabs of rows, in order.
  void append(const CandidateList& later) {
    for (double lower : later.best_) raise(lower);
    floor_ = std::max(floor_, later.floor_);
    raise_bar(later.bar_);
    entries_.insert(entries_.end(), later.entries_.begin(), later.entries_.end());
    empty_ |= later.empty_;
    if (entries_.size() > capacity_) prune();
    if (later.overflowed_ || entries_.size() > capacity_) overflow();
  }

  // Leaves out what the final threshold excludes.
  void prune() {
    const double limit = threshold();
    entries_.erase(
        std::remove_if(entries_.begin(), entries_.end(), [limit](const Entry& e) { return e.upper < limit; }),
        entries_.end());
  }

  // Only rows whose scores reach this are wanted, and those within `least`: for the whole list there may be room again.
  void narrow(double score) {
    if (score >= bar_ && !empty_) overflowed_ = false;
    raise_bar(score);
    prune();
  }

  // No more rows than this from now on.
  void limit(size_t capacity) {
    capacity_ = capacity;
    if (entries_.size() > capacity_) overflow();
  }

  // All rows, or an overflow: for scores that are NaN and tell nothing.
  void take_all(int64_t rows) {
    entries_.clear();
    overflowed_ = empty_ = static_cast<size_t>(rows) > capacity_;
    for (int64_t row = 0; row < rows && !empty_; row++) entries_.push_back({row, -INFINITY, INFINITY});
  }

  // Rows that came in another order.
  void sort() {
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.row < b.row; });
  }

  // Every row that one in the list stands for.
  void add_copies(const Copies& copies) {
    for (size_t i = 0, known = entries_.size(); i < known; i++) {
      Entry entry = entries_[i];
      while ((entry.row = copies.next[static_cast<size_t>(entry.row)]) >= 0) entries_.push_back(entry);
    }
    sort();
    if (entries_.size() > capacity_) overflow();
  }

  // Rows within the cut are missing, for there are many of them.
  bool trimmed() const { return bar_ > kth() - cut_; }
  // Rows between the thresholds of before and after the overflow are missing.
  bool overflowed() const { return overflowed_; }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  static constexpr size_t kFirst = 256, kHeaviest = 64;

  double kth() const { return best_.size() < k_ ? floor_ : std::max(floor_, best_.front()); }

  // To half of what it is trimmed above.
  void shrink() {
    std::vector<double> upper;
    for (const Entry& entry : entries_) {
      if (!std::isnan(entry.upper)) upper.push_back(entry.upper);
    }
    if (upper.size() <= trim_above_ / 2) return;
    const auto middle = upper.begin() + static_cast<ptrdiff_t>(trim_above_ / 2);
    std::nth_element(upper.begin(), middle, upper.end(), std::greater<>());
    raise_bar(*middle);
    prune();
  }

  void overflow() {
    overflowed_ = true;
    least_ = 0;
    trim_above_ = std::max(kHeaviest, k_), capacity_ = std::max(capacity_, 4 * trim_above_);
    if (entries_.size() > trim_above_) shrink();
    empty_ |= entries_.size() > capacity_;
    if (empty_) entries_ = {};
  }

  size_t k_ = 1;
  double cut_ = 0, least_ = 0, bar_ = -INFINITY;
  size_t trim_above_ = SIZE_MAX, capacity_ = SIZE_MAX, next_ = kFirst;
  bool overflowed_ = false, empty_ = false;
  double floor_ = -INFINITY;
  std::vector<double> best_;  // the k largest lower bounds, the smallest first; empty where `floor_` is all
  std::vector<Entry> entries_;
};

}  // namespace interp_fast
