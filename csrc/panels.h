// How a pass is cut up, and its queries side by side in the lanes of vectors, as kernels read them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "buffer.h"
#include "query.h"

namespace interp_fast {

constexpr int kGemvQueries = 8;  // up to so many the rows are read faster than a panel is filled

// How a pass is cut up; from shapes alone.
struct Plan {
  int width;  // lanes of a panel
  bool gemv, int8;
  const TileKernels* tiles;
  ptrdiff_t tile_rows;  // of which a block has a multiple
  int64_t queries, panels, groups, slabs;
  int64_t together;                 // panels that are shown a block at once
  std::vector<int64_t> slab_begin;  // and where the last one ends
  const int64_t* order;             // in which rows are taken; nullptr: as they lie
  ptrdiff_t block_rows, chunk, ld;  // of a block: rows, dimensions of a chunk, numbers between rows of a chunk
  ptrdiff_t size;                   // numbers of a panel's q, and acc
  int digits;                       // of q8, and the dimensions of each
  ptrdiff_t byte_dims;
  int64_t row(int64_t at) const { return order ? order[at] : at; }
  ptrdiff_t bytes() const { return digits * width * byte_dims; }
  // Where the bytes of a lane begin in q8, four by four and so many lanes apart.
  int bytes_apart() const { return tiles ? kTileHalf : width; }
  ptrdiff_t first_byte(int lane) const {
    return lane / bytes_apart() * bytes_apart() * byte_dims + lane % bytes_apart() * 4;
  }

  // Of a score in a block of so many rows.
  struct Place {
    ptrdiff_t row;
    int lane;
  };
  Place place(int32_t at, ptrdiff_t rows) const {
    if (gemv) return {.row = at % rows, .lane = static_cast<int>(at / rows)};
    return {.row = at / width, .lane = at % width};
  }

  int64_t first_panel(int64_t group) const { return panels * group / groups; }
  int64_t group_of(int64_t panel) const { return ((panel + 1) * groups - 1) / panels; }
  int lanes(int64_t panel) const { return static_cast<int>(std::min<int64_t>(width, queries - panel * width)); }
};

// The panels' side of a pass: one array per field of Panel, panel after panel.
template <class T>
struct Panels {
  Plan plan;
  ptrdiff_t d;
  const PanelKernels<T>* kernels;
  Buffer<T> q, u, lanes;
  Buffer<int8_t> q8, u8;
  Buffer<int32_t> offset, u_offset;
  std::vector<double> left;  // of each query, of digits: |q| of what they leave out

  Panel<T> panel(int64_t p) const {
    Panel<T> out{};
    static_cast<LaneFields<T>&>(out) = lanes_of(p);
    if (plan.digits > 0) {
      out.q8 = q8.get() + p * plan.bytes();
      out.offset = offset.get() + p * plan.digits * plan.width;
      out.u8 = u8.get() ? u8.get() + p * plan.bytes() : nullptr;
      out.u_offset = u_offset.get() + p * plan.digits * plan.width;
    } else {
      out.q = q.get() + p * plan.size;
      out.u = u.get() ? u.get() + p * plan.size : nullptr;
    }
    out.ld = plan.ld;
    out.d = d;
    out.lanes = plan.lanes(p);
    const int64_t group = plan.group_of(p);
    out.number = static_cast<int>(p - plan.first_panel(group));
    out.of = static_cast<int>(plan.first_panel(group + 1) - plan.first_panel(group));
    return out;
  }
  LaneFields<T> lanes_of(int64_t p) const {
    T* field = lanes.get() + p * lane_numbers();
    const auto next = [&] { return std::exchange(field, field + plan.width); };
    return {.h = next(),
            .w = next(),
            .slack1 = next(),
            .slack2 = next(),
            .slack3 = next(),
            .slack4 = next(),
            .cut = next(),
            .grain = next()};
  }
  ptrdiff_t lane_numbers() const { return static_cast<ptrdiff_t>(sizeof(LaneFields<T>) / sizeof(T*)) * plan.width; }
  // Where dimension k of a lane lies in q and acc.
  ptrdiff_t at(int lane, ptrdiff_t k) const { return plan.gemv ? lane * plan.ld + k : k * plan.width + lane; }
};

// The kernels for so many queries.
template <class T>
const PanelKernels<T>& panel_kernels(int64_t queries, ptrdiff_t d);

// Of a slab at most so many rows.
template <class T>
Panels<T> make_panels(const Data& data, const PanelKernels<T>& kernels, int64_t queries, int64_t group_queries,
                      int64_t most_rows = INT64_MAX);

// The factor of (q, h, w) that keeps scores below 1 in size: nothing overflows, however far a query and however small
// its variance.
double normal_factor(const Query& query);
// By how much h is raised, of this factor: also far from all rows, where it is next to nothing, the norm of a row that
// must never count outweighs all scores.
double raised_by(const Query& query, double factor);
// The one that makes scores logits, in units of log 2.
double logit_factor(const Query& query);

// What bounds the rounding of products: gamma is relative; quantization leaves |q - q8| <= `left` out of a query, and
// |q8| <= `length` meets what it leaves out of rows.
struct ProductErrors {
  double gamma, left = 0, length = 0;
};
template <class T>
ProductErrors product_errors(const Data& data);

// The fields of a lane for a query, whose (q, h, w) have this factor; `weighted` false leaves log_w out. Without errors
// scores pass for exact. The memory is 0 before.
template <class T>
void fill_lane(const LaneFields<T>& to, int lane, const Query& query, double factor, bool weighted,
               const ProductErrors* errors);

struct PanelOptions {
  double (*factor)(const Query&);
  bool weighted;
  bool directions = false;  // for Jacobian products
};

template <class T>
void fill_panels(Panels<T>& panels, const Data& data, const Query* queries, const PanelOptions& options, int threads);

}  // namespace interp_fast
