// A pass of a list of queries over all rows: queries in groups of panels, rows in slabs of blocks.
//
// A task is one group times one slab. It decodes a block of rows into its worker's scratch and shows it to all panels
// of the group, a few at a time, before going on to the next, so that X is read from memory and decoded once per group.
// (In the shapes of a GEMV the kernels read the rows as stored.) Groups, slabs and blocks follow from shapes alone
// and a task never looks at another, so that no bit of a result depends on who runs what; what tasks leave behind is
// merged in the order of the slabs. Those become shorter towards the last rows, so that workers come to the end at
// about the same time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "buffer.h"
#include "data.h"
#include "pool.h"

namespace interp_fast {

// Some rows in increasing order, and |x - alpha x_row|^2 of each.
struct Candidates {
  std::vector<int64_t> rows;
  std::vector<double> c;
};

// Rows that are left out of sums, for they dominate the others, and added in float64. `exact_top`: no other row is
// heavier than the lightest that is asked for.
struct Excluded {
  Candidates candidates;
  bool exact_top;
};

struct Query {
  int64_t index;    // row of x and of the outputs
  const double* x;  // (d,), as given
  double alpha;
  double s2;       // S = sigma^2 + alpha^2 bandwidth^2
  double cut;      // nats
  double largest;  // of the numbers of x - alpha center, in size
  // In normal form: x~ = (x - alpha center) / unit, |x~|^2, S / unit^2, and the length of what rounding leaves out of
  // x~.
  double x2, variance, displacement;
  bool counted;                              // its share of the work is known
  std::shared_ptr<const Excluded> excluded;  // or nullptr
};

// take(the first of some queries, how many), so many at a time.
template <class Take>
void in_batches(const std::vector<Query>& queries, int64_t most, Take take) {
  const int64_t count = static_cast<int64_t>(queries.size());
  for (int64_t first = 0; first < count; first += most) take(queries.data() + first, std::min(most, count - first));
}

template <class T>
constexpr double kRoundoff = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
// exp(-this) is 0 in the arithmetic.
template <class T>
constexpr double kUnderflow = sizeof(T) == 4 ? 104.0 : 745.0;

template <class T>
const TypedKernels<T>& typed(const KernelTable& table) {
  if constexpr (sizeof(T) == 4) {
    return table.f32;
  } else {
    return table.f64;
  }
}

// How a pass is cut up; from shapes alone.
struct Plan {
  int width;  // lanes of a panel
  bool gemv, int8;
  int64_t queries, panels, groups, slabs;
  int64_t together;                 // panels that are shown a block at once
  std::vector<int64_t> cuts;        // where slabs begin, and where the last one ends
  ptrdiff_t block_rows, chunk, ld;  // of a block: rows, dimensions of a chunk, numbers between rows of a chunk
  ptrdiff_t size;                   // numbers of a panel's q or q8, and acc

  int64_t first_panel(int64_t group) const { return panels * group / groups; }
  int64_t group_of(int64_t panel) const { return ((panel + 1) * groups - 1) / panels; }
  int lanes(int64_t panel) const { return static_cast<int>(std::min<int64_t>(width, queries - panel * width)); }
};

constexpr int kLaneFields = 7;

// The panels' side of a pass: one array per field of Panel, panel after panel.
template <class T>
struct Panels {
  Plan plan;
  ptrdiff_t d;
  const PanelKernels<T>* kernels;
  Buffer<T> q, u, lanes;  // lanes: kLaneFields arrays
  Buffer<int8_t> q8;
  Buffer<int32_t> offset;

  Panel<T> panel(int64_t p) const {
    Panel<T> out{};
    if (plan.int8) {
      out.q8 = q8.get() + p * plan.size;
      out.offset = offset.get() + p * plan.width;
    } else {
      out.q = q.get() + p * plan.size;
    }
    out.u = u.get() ? u.get() + p * plan.size : nullptr;
    T* const lane = lanes_of(p);
    const T** const fields[] = {&out.h, &out.w, &out.slack1, &out.slack2, &out.slack3, &out.cut, &out.slack4};
    for (int i = 0; i < kLaneFields; i++) *fields[i] = lane + i * plan.width;
    out.ld = plan.ld;
    out.d = d;
    out.lanes = plan.lanes(p);
    const int64_t group = plan.group_of(p);
    out.number = static_cast<int>(p - plan.first_panel(group));
    out.of = static_cast<int>(plan.first_panel(group + 1) - plan.first_panel(group));
    return out;
  }
  T* lanes_of(int64_t p) const { return lanes.get() + p * kLaneFields * plan.width; }
  // Where dimension k of a lane lies in q and acc.
  ptrdiff_t at(int lane, ptrdiff_t k) const { return plan.gemv ? lane * plan.ld + k : k * plan.width + lane; }
};

constexpr int kGemvQueries = 8;            // up to so many queries the rows are read faster than a panel is filled ...
constexpr int64_t kGemvDims = kGemvTile;   // ... if they have so many numbers: no vector is wider
constexpr ptrdiff_t kGemvBytes = 1 << 18;  // of a block read as stored: it stays close to the core
constexpr int64_t kShares = 8;             // a slab takes this part of what is left of all groups, ...
constexpr int64_t kLeastRows = 960;        // ... but no fewer rows than make up for what a task costs

// The kernels for so many queries.
template <class T>
const PanelKernels<T>& panel_kernels(const KernelTable& table, int64_t queries, ptrdiff_t d) {
  const TypedKernels<T>& kernels = typed<T>(table);
  if (queries <= std::min(kGemvQueries, kernels.gemv.width) && d >= kGemvDims) return kernels.gemv;
  return queries <= kernels.narrow.width ? kernels.narrow : kernels.wide;
}

// Of scores of panels that meet a chunk of dimensions one after another: half of the smallest second-level caches.
constexpr ptrdiff_t kTogetherBytes = 1 << 17;

// Of a slab at most so many rows.
template <class T>
Panels<T> make_panels(const Data& data, const PanelKernels<T>& kernels, int64_t queries, int64_t group_queries,
                      int64_t most_rows = INT64_MAX) {
  Panels<T> panels{};
  panels.d = data.rows.d;
  panels.kernels = &kernels;
  Plan& plan = panels.plan;
  const int64_t n = data.rows.n, d = data.rows.d;
  plan.width = panels.kernels->width;
  plan.gemv = panels.kernels->gemv;
  plan.int8 = panels.kernels->int8;
  plan.queries = queries;
  plan.panels = (queries + plan.width - 1) / plan.width;
  const int64_t per_group = std::max<int64_t>(1, group_queries / plan.width);
  plan.groups = (plan.panels + per_group - 1) / per_group;
  const int64_t chunks = plan.gemv ? 1 : (d + kChunk - 1) / kChunk;
  plan.chunk = (d + chunks - 1) / chunks;
  // An odd number of cache lines: rows never fall into few cache sets.
  const ptrdiff_t lines = static_cast<ptrdiff_t>(round_to_line<T>(plan.chunk) * sizeof(T) / kLine);
  plan.ld = (lines | 1) * static_cast<ptrdiff_t>(kLine / sizeof(T));
  plan.size = plan.gemv ? plan.queries * plan.ld : plan.width * (plan.int8 ? (d + 3) / 4 * 4 : d);
  plan.block_rows = kBlock;
  if (plan.gemv) {
    plan.block_rows =
        std::clamp(kGemvBytes / std::max<ptrdiff_t>(1, std::abs(data.rows.stride)), ptrdiff_t{kGemvTile}, kGemvBlock);
    plan.block_rows -= plan.block_rows % kGemvTile;
  }
  const ptrdiff_t scores = plan.block_rows * plan.width * static_cast<ptrdiff_t>(sizeof(T));
  plan.together = chunks == 1 || plan.int8 ? 1 : std::max<int64_t>(1, kTogetherBytes / scores);
  const int64_t least = plan.gemv ? 2 * plan.block_rows : kLeastRows;
  plan.cuts.push_back(0);
  for (int64_t first = 0; first < n; plan.cuts.push_back(first)) {
    const int64_t share = std::clamp((n - first) * plan.groups / kShares, std::min(least, most_rows), most_rows);
    const int64_t blocks = std::max<int64_t>(1, share / plan.block_rows);
    first += std::min(n - first, blocks * plan.block_rows);
  }
  plan.slabs = static_cast<int64_t>(plan.cuts.size()) - 1;
  return panels;
}

// A score is a sum over at most kChunk terms in each of ceil(d / kChunk) chunks, then those; the operands, the norm
// and the weight are rounded a few times more. See Higham, Accuracy and Stability of Numerical Algorithms, ch. 3. The
// value of a byte has been rounded, too: X has a norm of 1/4 or more.
template <class T>
double score_roundoff(const Data& data) {
  const ptrdiff_t d = data.rows.d;
  const double links = static_cast<double>(kChunk + (d + kChunk - 1) / kChunk + 16) * kRoundoff<T>;
  return 1.01 * links / (1 - links) + 8 * std::sqrt(static_cast<double>(d)) * data.value_error;
}

// ... and of what the weight contributes: itself and w rounded, three sums and a comparison.
template <class T>
constexpr double weight_roundoff() {
  return 6.06 * kRoundoff<T>;
}

// The factor of (q, h, w) that keeps scores below 1 in size: nothing overflows, however far a query and however small
// its variance.
inline double normal_scale(const Query& q) {
  return 1 / (q.alpha * std::sqrt(q.x2) + 0.5 * q.alpha * q.alpha + q.variance);
}

// A cut in nats beyond which T knows no weight.
template <class T>
double cut_of(const Query& query) {
  return std::min(query.cut, kUnderflow<T>);
}

// The fields of a lane for a query, whose (q, h, w) have this factor. Bytes leave |q - q8| <= `left` out of it, and
// |q8| <= `length` meets what they leave out of rows. Without `bounds` scores pass for exact.
template <class T>
void fill_lane(T* lanes, int width, int lane, const Query& query, double factor, double gamma, bool weighted,
               double left = 0, double length = 0, bool bounds = true) {
  const double a = query.alpha, w = weighted ? factor * query.variance : 0.0;
  // Also far from all rows, where h is next to nothing, the norm of a row that must never count outweighs all scores.
  const double h = 0.5 * factor * a * a, least = 4 * factor / (kNever * normal_scale(query));
  double fields[kLaneFields] = {std::max(h, least),
                                w,
                                factor * a * (gamma * std::sqrt(query.x2) + query.displacement) + left,
                                gamma * h + std::max(0.0, least - h),
                                weight_roundoff<T>() * w,
                                cut_of<T>(query) * factor * query.variance,
                                length};
  for (int slack : {2, 3, 4, 6}) fields[slack] *= bounds;
  for (int i = 0; i < kLaneFields; i++) lanes[i * width + lane] = static_cast<T>(fields[i]);
}

// Fills the panels: scale(query) is the common factor of (q, h, w), `weighted` false leaves log_w out.
template <class T, class Scale>
void fill_panels(Panels<T>& panels, const Data& data, const Query* queries, const double* u, bool weighted, int threads,
                 Scale scale) {
  const Plan& plan = panels.plan;
  const ptrdiff_t d = data.rows.d;
  panels.q = Buffer<T>(static_cast<size_t>(plan.panels * plan.size));
  if (u) panels.u = Buffer<T>(static_cast<size_t>(plan.panels * plan.size));
  panels.lanes = Buffer<T>(static_cast<size_t>(plan.panels * kLaneFields * plan.width));
  const double gamma = score_roundoff<T>(data);
  parallel_for(plan.panels, threads, [&](int64_t p, int) {
    T* const q = panels.q.get() + p * plan.size;
    std::memset(q, 0, static_cast<size_t>(plan.size) * sizeof(T));
    T* const lanes = panels.lanes_of(p);
    std::memset(lanes, 0, static_cast<size_t>(kLaneFields * plan.width) * sizeof(T));
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      const Query& query = queries[p * plan.width + lane];
      fill_lane(lanes, plan.width, lane, query, scale(query), gamma, weighted);
    }
    constexpr ptrdiff_t kStretch = 64;  // of dimensions: what is written stays in cache for all lanes
    for (ptrdiff_t k = 0; k < d; k += kStretch) {
      for (int lane = 0; lane < plan.lanes(p); lane++) {
        const Query& query = queries[p * plan.width + lane];
        const double factor = scale(query) * query.alpha / data.unit;
        for (ptrdiff_t j = k; j < std::min(d, k + kStretch); j++) {
          const double x = query.x[j] - query.alpha * data.center[j];
          q[panels.at(lane, j)] = static_cast<T>(factor * x);
        }
      }
    }
    if (!u) return;
    T* const to = panels.u.get() + p * plan.size;
    std::memset(to, 0, static_cast<size_t>(plan.size) * sizeof(T));
    for (int lane = 0; lane < plan.lanes(p); lane++) {
      const double* from = u + queries[p * plan.width + lane].index * d;
      double largest = 0;
      for (ptrdiff_t k = 0; k < d; k++) largest = std::max(largest, std::abs(from[k]));
      for (ptrdiff_t k = 0; largest > 0 && k < d; k++) to[panels.at(lane, k)] = static_cast<T>(from[k] / largest);
    }
  });
}

// One worker's memory for a pass.
template <class T>
struct Scratch {
  Buffer<T> x, rows, s, su, peak;
  Buffer<int32_t> alive;
  Buffer<const char*> stored;
  Buffer<uint8_t> bytes;
  std::vector<Panel<T>> panels;  // of the group at hand

  Scratch(const Plan& plan, ptrdiff_t d)
      : x(zeros(plan.gemv || plan.int8 ? 0 : (d + plan.chunk - 1) / plan.chunk * plan.block_rows * plan.ld)),
        rows(static_cast<size_t>(3 * plan.block_rows)),
        s(static_cast<size_t>(plan.together * plan.block_rows * plan.width)),
        su(static_cast<size_t>(plan.block_rows * plan.width)),
        peak(static_cast<size_t>(plan.together * plan.width)),
        alive(static_cast<size_t>(plan.together * plan.block_rows)),
        stored(static_cast<size_t>(plan.block_rows)),
        bytes(static_cast<size_t>(plan.int8 ? plan.block_rows * ((d + 3) / 4 * 4) : 0)) {}

  // Panels that are shown a block at once have their own of what is about the block.
  void open(const Panels<T>& of, int64_t group) {
    const Plan& plan = of.plan;
    panels.clear();
    for (int64_t p = plan.first_panel(group); p < plan.first_panel(group + 1); p++) {
      Panel<T> panel = of.panel(p);
      const ptrdiff_t place = panel.number % plan.together;
      panel.s = s.get() + place * plan.block_rows * plan.width, panel.su = su.get();
      panel.peak = peak.get() + place * plan.width;
      panel.alive = alive.get() + place * plan.block_rows;
      panels.push_back(panel);
    }
  }

 private:
  static Buffer<T> zeros(ptrdiff_t count) {
    Buffer<T> buffer(static_cast<size_t>(count));
    std::memset(buffer.get(), 0, static_cast<size_t>(count) * sizeof(T));
    return buffer;
  }
};

// Rows first ... first + count - 1 as a block. With `weighted` rows of weight 0 are blank and never count.
template <class T>
Block<T> make_block(const Data& data, const TypedKernels<T>& kernels, const Plan& plan, int64_t first, ptrdiff_t count,
                    bool weighted, const Scratch<T>& scratch) {
  Block<T> block{};
  block.chunk = plan.chunk, block.chunk_stride = plan.block_rows * plan.ld, block.ld = plan.ld;
  block.d = data.rows.d;
  const ptrdiff_t tile = plan.gemv ? kGemvTile : kTile;
  block.rows = (count + tile - 1) / tile * tile;
  block.type = data.rows.type, block.inverse = static_cast<T>(data.inverse), block.shift = data.shift<T>();
  T* const x = scratch.x.get();
  T* const n2 = scratch.rows.get();
  T* const log_w = n2 + plan.block_rows;
  T* const scale = log_w + plan.block_rows;
  const char** const stored = scratch.stored.get();
  block.n2 = n2, block.log_w = log_w, block.scale = scale;
  if (plan.gemv) {
    block.stored = stored;
  } else if (plan.int8) {
    data.quantized->place(block, first, count, scratch.bytes.get());
  } else {
    block.x = x;
    kernels.decode(data.rows, first, count, block.inverse, block.shift, block, x);
  }
  const int64_t next = std::min(data.rows.n, first + count + plan.block_rows);
  const bool even = !weighted || (data.log_w_span == 0 && data.active == data.rows.n);
  const auto fetch = [&](const double* of_rows) {
    for (int64_t row = first + count; row < next; row += kLine / sizeof(double)) __builtin_prefetch(of_rows + row);
  };
  fetch(data.n2.data());
  if (!even) fetch(data.log_w);
  double longest = 0, span = 0, residual = 0;
  const char* counting = data.rows.data + data.heaviest * data.rows.stride;  // the latest row that does
  for (ptrdiff_t i = 0; i < block.rows; i++) {
    const int64_t row = first + i;
    const bool blank = i >= count || (!even && data.log_w[row] == -INFINITY);
    if (blank) {
      n2[i] = static_cast<T>(kNever), log_w[i] = static_cast<T>(-kNever), scale[i] = 0;
      stored[i] = counting;
      for (ptrdiff_t k = 0; block.x && k < data.rows.d; k += plan.chunk) {
        T* const part = x + k / plan.chunk * block.chunk_stride + i * plan.ld;
        std::memset(part, 0, static_cast<size_t>(plan.chunk) * sizeof(T));
      }
      continue;
    }
    const double norm = data.n2[row], w = even ? 0.0 : data.log_w[row] - data.log_w_max;
    n2[i] = static_cast<T>(norm), log_w[i] = static_cast<T>(w);
    stored[i] = counting = data.rows.data + row * data.rows.stride;
    longest = std::max(longest, norm), span = std::max(span, -w);
    if (!plan.int8) continue;
    scale[i] = static_cast<T>(data.quantized->scale(row));
    residual = std::max<double>(residual, data.quantized->residual(row));
  }
  // The next block follows this one in memory; beyond the last row of all there is nothing to fetch.
  const ptrdiff_t stride = plan.int8 ? data.quantized->stride() : data.rows.stride;
  block.ahead = (plan.int8 ? data.quantized->row(0) : data.rows.data) + (first + count) * stride;
  block.ahead_bytes = std::max<ptrdiff_t>(0, (next - first - count) * stride);
  block.max_norm = static_cast<T>(1.001 * std::sqrt(longest));
  block.span = static_cast<T>(1.001 * span);
  block.residual = static_cast<T>(1.001 * residual);
  return block;
}

// Runs a pass: start(group, slab, worker, panels of the group) may fill in what else a pass needs of them, then for
// every block and some of those panels at a time visit(group, number of the first, panels, how many, block, first row,
// count, worker), then finish(group, slab, worker). With a `sample` only the first block of every `sample`-th slab.
template <class T, class Start, class Visit, class Finish>
void scan(const Data& data, const KernelTable& table, const Panels<T>& panels, bool weighted, int threads, Start start,
          Visit visit, Finish finish, int64_t sample = 0) {
  const Plan& plan = panels.plan;
  std::vector<std::unique_ptr<Scratch<T>>> scratch(static_cast<size_t>(threads));
  const int64_t step = std::max<int64_t>(1, sample), slabs = (plan.slabs + step - 1) / step;
  parallel_for(plan.groups * slabs, threads, [&](int64_t task, int worker) {
    const int64_t group = task / slabs, slab = task % slabs * step;
    std::unique_ptr<Scratch<T>>& memory = scratch[worker];
    if (!memory) memory = std::make_unique<Scratch<T>>(plan, data.rows.d);
    memory->open(panels, group);
    start(group, slab, worker, memory->panels.data());
    const int64_t begin = plan.cuts[slab], end = plan.cuts[static_cast<size_t>(slab) + 1];
    const int64_t last = sample > 0 ? std::min<int64_t>(end, begin + plan.block_rows) : end;
    for (int64_t first = begin; first < last; first += plan.block_rows) {
      checkpoint();
      const ptrdiff_t count = std::min<int64_t>(plan.block_rows, last - first);
      const Block<T> block = make_block(data, typed<T>(table), plan, first, count, weighted, *memory);
      const int64_t open = static_cast<int64_t>(memory->panels.size());
      for (int64_t p = 0; p < open; p += plan.together) {
        const int some = static_cast<int>(std::min(plan.together, open - p));
        visit(group, p, &memory->panels[p], some, block, first, count, worker);
      }
    }
    finish(group, slab, worker);
  });
}

}  // namespace interp_fast
