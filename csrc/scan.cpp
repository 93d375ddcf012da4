#include "scan.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>

#include "dispatch.h"
#include "pool.h"

namespace interp_fast {
namespace {

// Tile registers in use by this thread while it lives, if there are any.
class TilesInUse {
 public:
  explicit TilesInUse(const TileKernels* tiles) : tiles_(tiles) {
    if (tiles_) tiles_->begin();
  }
  ~TilesInUse() {
    if (tiles_) tiles_->end();
  }
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;

 private:
  const TileKernels* const tiles_;
};

// One worker's memory for a pass.
template <class T>
struct Scratch {
  Buffer<T> x, rows, s, su, peak, limits;
  Buffer<int32_t> alive, places;
  Buffer<const char*> stored;
  Buffer<uint8_t> bytes;
  std::vector<Panel<T>> panels;  // of the group at hand

  Scratch(const Plan& plan, ptrdiff_t d)
      : x(zeros(plan.gemv || plan.digits > 0 ? 0 : (d + plan.chunk - 1) / plan.chunk * plan.block_rows * plan.ld)),
        rows(static_cast<size_t>(4 * plan.block_rows)),
        s(static_cast<size_t>(plan.together * plan.block_rows * plan.width)),
        su(static_cast<size_t>(plan.block_rows * plan.width)),
        peak(static_cast<size_t>(plan.together * plan.width)),
        limits(static_cast<size_t>(plan.width)),
        alive(static_cast<size_t>(plan.together * plan.block_rows)),
        places(static_cast<size_t>(plan.block_rows * plan.width)),
        stored(static_cast<size_t>(plan.block_rows)),
        bytes(static_cast<size_t>(std::min(2, plan.digits) * plan.block_rows * plan.byte_dims)) {}

  // Of each row of a block, what quantization leaves out at most.
  T* residuals(const Plan& plan) const { return rows.get() + 3 * plan.block_rows; }

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

// Rows first ... first + count - 1 as a block. Those that do not count are blank.
template <class T>
Block<T> make_block(const Data& data, const Plan& plan, int64_t first, ptrdiff_t count, Counted counted,
                    const Scratch<T>& scratch) {
  Block<T> block{};
  block.chunk = plan.chunk, block.chunk_stride = plan.block_rows * plan.ld, block.ld = plan.ld;
  block.first = first, block.d = data.rows.d;
  block.rows = (count + plan.tile_rows - 1) / plan.tile_rows * plan.tile_rows;
  block.type = data.rows.type, block.inverse = static_cast<T>(data.inverse), block.shift = data.shift<T>();
  T* const x = scratch.x.get();
  T* const n2 = scratch.rows.get();
  T* const log_w = n2 + plan.block_rows;
  T* const scale = log_w + plan.block_rows;
  T* const residuals = scratch.residuals(plan);
  const char** const stored = scratch.stored.get();
  block.n2 = n2, block.log_w = log_w, block.scale = scale;
  if (plan.gemv) {
    block.stored = stored;
  } else if (plan.int8) {
    data.quantized->place(block, first, count, plan.tiles, scratch.bytes.get());
  } else if (plan.digits > 0) {
    uint8_t* const tiles = scratch.bytes.get();
    active_kernels().digits->pack(data.quantized->row(first), data.quantized->stride(), count, block.d, block.rows,
                                  tiles, tiles + block.rows * plan.byte_dims);
    block.x8 = tiles;
    if constexpr (std::is_same_v<T, double>) {
      block.inverse = data.quantized->scale(), block.shift = data.quantized->offsets();
    }
  } else {
    block.x = x;
    const auto decode = typed<T>(active_kernels()).decode;
    if (!plan.order) decode(data.rows, first, count, block.inverse, block.shift, block, x);
    for (ptrdiff_t i = 0; plan.order && i < count; i++) {
      decode(data.rows, plan.row(first + i), 1, block.inverse, block.shift, block, x + i * block.ld);
    }
  }
  const int64_t next = std::min(data.rows.n, first + count + plan.block_rows);
  const bool even = counted == Counted::all || (data.log_w_span == 0 && data.active == data.rows.n);
  const bool once = counted == Counted::distinct && data.copies.any();
  const auto fetch = [&](const double* of_rows) {
    for (int64_t row = first + count; row < next; row += kLine / sizeof(double)) __builtin_prefetch(of_rows + row);
  };
  fetch(data.n2.data());
  if (!even) fetch(data.log_w);
  const double of_all = plan.digits > 1 ? data.quantized->farthest() : 0;
  double longest = 0, span = 0, residual = of_all;
  const char* counting = data.rows.data + data.heaviest * data.rows.stride;  // the latest row that does
  for (ptrdiff_t i = 0; i < block.rows; i++) {
    const int64_t row = i < count ? plan.row(first + i) : 0;
    scale[i] = 0, residuals[i] = static_cast<T>(1.001 * of_all);
    const bool blank = i >= count || (!even && data.log_w[row] == -INFINITY) || (once && data.copies.later[row]);
    if (blank) {
      n2[i] = static_cast<T>(kNever), log_w[i] = static_cast<T>(-kNever);
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
    residuals[i] = static_cast<T>(1.001 * data.quantized->residual(row));
    residual = std::max<double>(residual, data.quantized->residual(row));
  }
  // The next block follows this one in memory. Beyond the last row of all there is nothing to fetch, and an address
  // that is not mapped costs more than all else, since no table keeps it: kernels then look at this block again.
  const bool bytes = plan.digits > 0;
  const ptrdiff_t stride = bytes ? data.quantized->stride() : data.rows.stride;
  const int64_t ahead = next > first + count ? first + count : first;
  block.ahead = (bytes ? data.quantized->row(0) : data.rows.data) + ahead * stride;
  // Rows that do not follow one another are not fetched: what tells where they are would take registers of products.
  block.ahead_bytes = plan.order ? 0 : std::max<ptrdiff_t>(0, (next - first - count) * stride);
  block.max_norm = static_cast<T>(1.001 * std::sqrt(longest));
  block.span = static_cast<T>(1.001 * span);
  block.residual = static_cast<T>(1.001 * residual);
  return block;
}

}  // namespace

template <class T>
void scan(const Data& data, const Panels<T>& panels, Counted counted, int threads, Visitor<T>& visitor,
          int64_t sample) {
  const Plan& plan = panels.plan;
  std::vector<std::unique_ptr<Scratch<T>>> scratch(static_cast<size_t>(threads));
  const T common_norm = static_cast<T>(1.001 * data.common_norm);
  const int64_t step = std::max<int64_t>(1, sample), slabs = (plan.slabs + step - 1) / step;
  parallel_for(plan.groups * slabs, threads, [&](int64_t number, int worker) {
    std::unique_ptr<Scratch<T>>& memory = scratch[worker];
    if (!memory) memory = std::make_unique<Scratch<T>>(plan, data.rows.d);
    const int64_t group = number / slabs, slab = number % slabs * step;
    memory->open(panels, group);
    const TilesInUse in_use(plan.tiles);
    const Task<T> task = {.group = group,
                          .slab = slab,
                          .worker = worker,
                          .first = plan.first_panel(group),
                          .count = static_cast<int64_t>(memory->panels.size()),
                          .panels = memory->panels.data()};
    visitor.begin(task);
    const int64_t begin = plan.slab_begin[slab], end = plan.slab_begin[static_cast<size_t>(slab) + 1];
    const int64_t last = sample > 0 ? std::min<int64_t>(end, begin + plan.block_rows) : end;
    for (int64_t first = begin; first < last; first += plan.block_rows) {
      checkpoint();
      const ptrdiff_t rows = std::min<int64_t>(plan.block_rows, last - first);
      const Block<T> block = make_block(data, plan, first, rows, counted, *memory);
      for (int64_t at = 0; at < task.count; at += plan.together) {
        visitor.visit(task, {.block = block,
                             .errors = {.common_norm = common_norm, .residuals = memory->residuals(plan)},
                             .first_row = first,
                             .rows = rows,
                             .at = at,
                             .count = static_cast<int>(std::min(plan.together, task.count - at)),
                             .panels = task.panels + at,
                             .limits = memory->limits.get(),
                             .places = memory->places.get()});
      }
    }
    visitor.end(task);
  });
}

template void scan<float>(const Data&, const Panels<float>&, Counted, int, Visitor<float>&, int64_t);
template void scan<double>(const Data&, const Panels<double>&, Counted, int, Visitor<double>&, int64_t);

}  // namespace interp_fast
