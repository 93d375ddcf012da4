#include "filter.h"

#include <cmath>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>

#include "accuracy.h"
#include "dispatch.h"
#include "int8.h"
#include "pool.h"

namespace interp_fast {
namespace {

constexpr int64_t kFilterQueries = 128;  // of a group: there is no second product to share the cache with
// Rows that a list has room for during a pass: before the best row has come it holds more than in the end. So many it
// takes before it is pruned for the first time (CandidateList::kFirst), and with less room it might overflow before.
constexpr size_t kRoom = 256;
constexpr double kShort = 1 - 0x1p-20;  // of what is in T that may be rounded up

template <class T>
T rounded_down(double x) {
  const T y = static_cast<T>(x);
  return y > x ? std::nextafter(y, static_cast<T>(-INFINITY)) : y;
}

// One worker's memory for what the int8 kernels find in a block.
template <class T>
struct Int8Hits {
  Buffer<T> scores;
  Buffer<int32_t> places;
  explicit Int8Hits(const Plan& plan)
      : scores(static_cast<size_t>(plan.width * plan.block_rows)),
        places(static_cast<size_t>(plan.width * plan.block_rows)) {}
};

// As offer_block, for rows found by int8 products.
void offer_hits(const Panel<float>& panel, const Visit<float>& visit, int width, ptrdiff_t count,
                const Int8Hits<float>& found, CandidateList* lists, float* thresholds) {
  for (ptrdiff_t i = 0; i < count; i++) {
    const int32_t at = found.places[i];
    const int row = at / width, lane = at % width;
    if (lane >= panel.lanes || visit.block.n2[row] == static_cast<float>(kNever)) continue;
    const double score = found.scores[i], error = visit.errors.of(visit.block, panel, lane, row);
    lists[lane].raise(score - error);
    lists[lane].add(visit.first_row + row, score, score + error);
    thresholds[lane] = rounded_down<float>(lists[lane].threshold());
  }
}

// What the first block of each slab tells of each query.
template <class T>
class PilotVisitor final : public Visitor<T> {
 public:
  struct Slab {
    double best[2] = {-INFINITY, -INFINITY}, sum_exp = -INFINITY;
  };

  PilotVisitor(const Panels<T>& panels, const PilotOptions& options, int threads)
      : panels_(panels),
        two_(options.k > 1),
        sum_exp_(options.sum_exp),
        slabs_(static_cast<size_t>(panels.plan.queries * panels.plan.slabs)),
        workers_(static_cast<size_t>(threads)) {}

  void begin(const Task<T>& task) override {
    const size_t width = static_cast<size_t>(panels_.plan.width);
    workers_[task.worker] = {Buffer<T>(width), Buffer<T>(width)};
  }

  void visit(const Task<T>& task, const Visit<T>& visit) override {
    const Worker& mine = workers_[task.worker];
    const PanelKernels<T>& kernels = *panels_.kernels;
    kernels.scores(visit.block, visit.panels, visit.count);
    for (int i = 0; i < visit.count; i++) {
      const Panel<T>& panel = visit.panels[i];
      if (two_) kernels.second_best(visit.block, panel, mine.second.get());
      if (sum_exp_) kernels.sum_exp(visit.block, panel, mine.sum_exp.get());
      for (int lane = 0; lane < panel.lanes; lane++) {
        const int64_t q = (task.first + visit.at + i) * panels_.plan.width + lane;
        const double peak = panel.peak[lane], error = score_error_of(visit.block, panel, lane);
        Slab& to = slabs_[static_cast<size_t>(q * panels_.plan.slabs + task.slab)];
        to.best[0] = peak - error;
        if (two_) to.best[1] = static_cast<double>(mine.second[lane]) - error;
        if (!visit.errors.of_all(visit.block)) row_by_row(visit, panel, lane, to.best);
        if (sum_exp_) to.sum_exp = peak + std::log2(static_cast<double>(mine.sum_exp[lane]));
      }
    }
  }

  // The bounds where rows have errors of their own.
  void row_by_row(const Visit<T>& visit, const Panel<T>& panel, int lane, double (&best)[2]) const {
    best[0] = best[1] = -INFINITY;
    for (ptrdiff_t row = 0; row < visit.block.rows; row++) {
      const double score = panel.s[row * panels_.plan.width + lane];
      const double lower = score - visit.errors.of(visit.block, panel, lane, row);
      if (lower > best[0]) {
        best[1] = std::exchange(best[0], lower);
      } else {
        best[1] = std::max(best[1], lower);
      }
    }
  }

  const Slab* of_query(size_t q) const { return slabs_.data() + q * static_cast<size_t>(panels_.plan.slabs); }

 private:
  struct Worker {
    Buffer<T> second, sum_exp;
  };

  const Panels<T>& panels_;
  const bool two_, sum_exp_;
  std::vector<Slab> slabs_;  // [query][slab]
  std::vector<Worker> workers_;
};

// Keeps the candidate lists of each slab.
template <class T>
class FilterVisitor final : public Visitor<T> {
 public:
  // `int8` or, nullptr, products.
  FilterVisitor(const Panels<T>& panels, const Int8Kernels* int8, const FilterOptions& options,
                const std::vector<double>& bounds, int threads)
      : panels_(panels),
        int8_(int8),
        options_(options),
        bounds_(bounds),
        lists_(static_cast<size_t>(panels.plan.slabs)),
        workers_(static_cast<size_t>(threads)) {
    for (auto& slab : lists_) slab.resize(static_cast<size_t>(panels.plan.queries));
  }

  void begin(const Task<T>& task) override {
    const Plan& plan = panels_.plan;
    Worker& mine = workers_[task.worker];
    if (int8_ && !mine.found) mine.found = std::make_unique<Int8Hits<T>>(plan);
    mine.thresholds = Buffer<T>(static_cast<size_t>(task.count * plan.width));
    for (int64_t i = 0; i < task.count; i++) {
      Panel<T>& panel = task.panels[i];
      T* const thresholds = mine.thresholds.get() + i * plan.width;
      panel.threshold = thresholds;
      open_thresholds(panel, plan.width, thresholds);
      for (int lane = 0; lane < panel.lanes; lane++) {
        const double cut = options_.weighted ? static_cast<double>(panel.cut[lane]) : 0.0;
        const size_t q = static_cast<size_t>((task.first + i) * plan.width + lane);
        CandidateList& list = lists_[task.slab][q];
        const size_t capacity = std::max(options_.capacity, kRoom);
        list.start({.k = options_.k, .cut = cut, .trim_above = options_.trim_above, .capacity = capacity});
        list.start_from(bounds_[q]);
        thresholds[lane] = rounded_down<T>(list.threshold());
      }
    }
  }

  void visit(const Task<T>& task, const Visit<T>& visit) override {
    const Plan& plan = panels_.plan;
    const Worker& mine = workers_[task.worker];
    if (!int8_) panels_.kernels->scores(visit.block, visit.panels, visit.count);
    for (int i = 0; i < visit.count; i++) {
      const Panel<T>& panel = visit.panels[i];
      T* const thresholds = mine.thresholds.get() + (visit.at + i) * plan.width;
      CandidateList* const lists = &lists_[task.slab][(task.first + visit.at + i) * plan.width];
      if constexpr (sizeof(T) == sizeof(float)) {
        if (int8_) {
          const Int8Hits<float>& found = *mine.found;
          const ptrdiff_t count = int8_->find(visit.block, panel, found.places.get(), found.scores.get());
          offer_hits(panel, visit, plan.width, count, found, lists, thresholds);
          continue;
        }
      }
      if (panel.found) offer_block(panels_, panel, visit, lists, thresholds);
    }
  }

  // Queries that see parts of a whole learn of the heaviest row of each part.
  void look_at_wholes(const Data& data, const Query* queries, int threads) {
    const int64_t count = panels_.plan.queries;
    if (queries[0].whole < 0) return;
    struct Heaviest {
      double lower = -INFINITY;  // a lower bound on its score
      double logit = -INFINITY, error = 0;
    };
    std::vector<Heaviest> of_part(static_cast<size_t>(count));
    const ExactKernels& exact = *active_kernels().exact;
    parallel_by_query(count, threads, [&](int64_t q) {
      const CandidateList::Entry* best = nullptr;
      for (const auto& slab : lists_) {
        for (const CandidateList::Entry& entry : slab[q].entries()) {
          if (entry.score > (best ? best->score : -INFINITY)) best = &entry;
        }
      }
      const Query& query = queries[q];
      if (!best || query.s2 == 0) return;
      const double c = exact.distance2(data.rows, best->row, query.x, query.alpha);
      of_part[q] = {.lower = 2 * best->score - best->upper,
                    .logit = data.log_w[best->row] - c / (2 * query.s2),
                    .error = largest_error(data, c) / (2 * query.s2)};
    });
    std::unordered_map<int64_t, double> of_whole;  // a lower bound on the heaviest logit
    for (int64_t q = 0; q < count; q++) {
      double& lower = of_whole.try_emplace(queries[q].whole, -INFINITY).first->second;
      lower = std::max(lower, of_part[q].logit - of_part[q].error);
    }
    parallel_by_query(count, threads, [&](int64_t q) {
      const auto [lower, logit, error] = of_part[q];
      const double ahead = of_whole.at(queries[q].whole) - (logit + error);
      if (!(ahead > 0) || !(lower > -INFINITY)) return;  // nor NaN
      const LaneFields<T> lanes = panels_.lanes_of(q / panels_.plan.width);
      const int64_t lane = q % panels_.plan.width;
      const double score =
          lower + kShort * ahead * static_cast<double>(lanes.w[lane]) - static_cast<double>(lanes.cut[lane]);
      for (auto& slab : lists_) slab[q].narrow(score);
    });
  }

  // The lists over all rows.
  std::vector<CandidateList> merged(const Data& data, int threads) {
    std::vector<CandidateList> merged = std::move(lists_[0]);
    parallel_by_query(panels_.plan.queries, threads, [&](int64_t q) {
      CandidateList& list = merged[q];
      for (int64_t slab = 1; slab < panels_.plan.slabs; slab++) list.append(lists_[slab][q]);
      list.prune();
      list.limit(options_.capacity);
      if (!list.overflowed() && list.entries().size() < options_.k) {
        list.take_all(data.rows.n);
      } else if (options_.weighted && data.copies.any()) {
        list.add_copies(data.copies);
      }
    });
    return merged;
  }

 private:
  struct Worker {
    Buffer<T> thresholds;
    std::unique_ptr<Int8Hits<T>> found;
  };

  const Panels<T>& panels_;
  const Int8Kernels* const int8_;
  const FilterOptions& options_;
  const std::vector<double>& bounds_;
  std::vector<std::vector<CandidateList>> lists_;  // [slab][query]
  std::vector<Worker> workers_;
};

template <class T>
std::vector<CandidateList> filter_panels(const Data& data, const Query* queries, const Panels<T>& panels,
                                         const Int8Kernels* int8, const FilterOptions& options, int threads) {
  const Counted counted = options.weighted ? Counted::distinct : Counted::all;
  const Pilot pilot = pilot_pass(data, panels, {.k = options.k, .counted = counted}, threads);
  FilterVisitor<T> visitor(panels, int8, options, pilot.bounds, threads);
  scan(data, panels, counted, threads, visitor);
  if (options.weighted) visitor.look_at_wholes(data, queries, threads);
  return visitor.merged(data, threads);
}

template <class T>
std::vector<CandidateList> filter_in(const Data& data, const Query* queries, int64_t count,
                                     const FilterOptions& options, int threads) {
  Panels<T> panels = make_panels(data, panel_kernels<T>(count, data.rows.d), count, kFilterQueries);
  fill_panels(panels, data, queries, {.factor = normal_factor, .weighted = options.weighted}, threads);
  return filter_panels<T>(data, queries, panels, nullptr, options, threads);
}

}  // namespace

template <class T>
void offer_block(const Panels<T>& panels, const Panel<T>& panel, const Visit<T>& visit, CandidateList* lists,
                 T* thresholds) {
  const Block<T>& block = visit.block;
  const RowErrors<T>& errors = visit.errors;
  T* const limits = visit.limits;
  std::fill_n(limits, panels.plan.width, static_cast<T>(INFINITY));  // closed, as lanes that are not in use remain
  bool any = false;
  for (int lane = 0; lane < panel.lanes; lane++) {
    const T error = score_error_of(block, panel, lane);
    if (panel.peak[lane] + error < thresholds[lane]) continue;
    CandidateList& list = lists[lane];
    // The peak says all of its lower bounds.
    if (list.k() == 1 && errors.of_all(block)) list.raise(static_cast<double>(panel.peak[lane]) - error);
    thresholds[lane] = rounded_down<T>(list.threshold());
    limits[lane] = thresholds[lane] - error;
    any |= !(panel.peak[lane] < limits[lane]);
  }
  if (!any) return;
  const ptrdiff_t found = panels.kernels->find(block, panel, limits, visit.places);
  for (ptrdiff_t i = 0; i < found; i++) {
    const int32_t at = visit.places[i];
    const auto [row, lane] = panels.plan.place(at, block.rows);
    const T score = panel.s[at];
    if (limits[lane] == static_cast<T>(INFINITY) || score < limits[lane]) continue;
    if (block.n2[row] == static_cast<T>(kNever)) continue;
    CandidateList& list = lists[lane];
    const double own = errors.of(block, panel, lane, row);
    if (list.k() > 1 || !errors.of_all(block)) list.raise(score - own);
    list.add(panels.plan.row(visit.first_row + row), score, score + own);
    thresholds[lane] = rounded_down<T>(list.threshold());
    limits[lane] = thresholds[lane] - score_error_of(block, panel, lane);
  }
}

template <class T>
void open_thresholds(const Panel<T>& panel, int width, T* thresholds) {
  for (int lane = 0; lane < width; lane++) {
    thresholds[lane] = static_cast<T>(lane < panel.lanes ? -INFINITY : INFINITY);
  }
}

template <class T>
Pilot pilot_pass(const Data& data, const Panels<T>& panels, const PilotOptions& options, int threads) {
  const Plan& plan = panels.plan;
  const size_t queries = static_cast<size_t>(plan.queries), slabs = static_cast<size_t>(plan.slabs), k = options.k;
  Pilot pilot = {.bounds = std::vector<double>(queries, -INFINITY), .sum_exp = std::vector<double>(queries, -INFINITY)};
  const size_t taken = std::min<size_t>(k, 2);
  if ((k > taken * slabs && !options.sum_exp) || plan.gemv || options.sample > plan.slabs) return pilot;
  PilotVisitor<T> visitor(panels, options, threads);
  scan(data, panels, options.counted, threads, visitor, options.sample);
  std::vector<double> best(taken * slabs);
  for (size_t q = 0; q < queries; q++) {
    const auto* const from = visitor.of_query(q);
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < slabs; i++) {
      for (size_t j = 0; j < taken; j++) {
        const double lower = from[i].best[j];
        best[i * taken + j] = std::isnan(lower) ? -INFINITY : lower;
      }
      if (options.sum_exp) largest = std::max(largest, from[i].sum_exp);
    }
    if (k <= best.size()) {
      const auto kth = best.begin() + static_cast<ptrdiff_t>(k - 1);
      std::nth_element(best.begin(), kth, best.end(), std::greater<>());
      pilot.bounds[q] = *kth;
    }
    for (size_t i = 0; largest > -INFINITY && i < slabs; i++) sum += std::exp2(from[i].sum_exp - largest);
    pilot.sum_exp[q] = largest + std::log2(sum);
  }
  return pilot;
}

std::vector<CandidateList> filter_by_products(const Data& data, const Query* queries, int64_t count,
                                              const FilterOptions& options, int threads) {
  return (data.float64_only ? filter_in<double> : filter_in<float>)(data, queries, count, options, threads);
}

std::vector<CandidateList> filter_by_int8(const Data& data, const Query* queries, int64_t count,
                                          const FilterOptions& options, int threads) {
  const Int8Kernels& kernels = *active_int8();
  data.quantized->make(data, kernels, threads);
  Panels<float> panels = make_panels(data, kernels.panel, count, kFilterQueries);
  const Int8Options how = {.kernels = kernels, .weighted = options.weighted, .bounds = options.bounds};
  fill_int8_panels(panels, data, queries, how, threads);
  return filter_panels(data, queries, panels, &kernels, options, threads);
}

template void offer_block<float>(const Panels<float>&, const Panel<float>&, const Visit<float>&, CandidateList*,
                                 float*);
template void open_thresholds<float>(const Panel<float>&, int, float*);
template Pilot pilot_pass<float>(const Data&, const Panels<float>&, const PilotOptions&, int);
template void offer_block<double>(const Panels<double>&, const Panel<double>&, const Visit<double>&, CandidateList*,
                                  double*);
template void open_thresholds<double>(const Panel<double>&, int, double*);
template Pilot pilot_pass<double>(const Data&, const Panels<double>&, const PilotOptions&, int);

}  // namespace interp_fast
