// The classes of rows in a pass: slabs of one class each, and which classes a slab has.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "panels.h"

namespace interp_fast {

// From now on rows are taken class by class, in an `order` in which classes lie together, and slabs end where a class
// does.
inline void end_slabs_with_classes(const Data& data, const int64_t* codes, const int64_t* order, Plan& plan) {
  plan.order = order;
  std::vector<int64_t>& begin = plan.slab_begin;
  for (int64_t at = 1; at < data.rows.n; at++) {
    if (codes[plan.row(at)] != codes[plan.row(at - 1)]) begin.push_back(at);
  }
  std::sort(begin.begin(), begin.end());
  begin.erase(std::unique(begin.begin(), begin.end()), begin.end());
  plan.slabs = static_cast<int64_t>(begin.size()) - 1;
}

struct ClassesOfSlabs {
  std::vector<int32_t> places;                // of each row in the pass: of its class among those of its slab
  std::vector<std::vector<int64_t>> classes;  // [slab]
  ptrdiff_t most = 0;                         // classes of a slab

  ClassesOfSlabs() = default;
  ClassesOfSlabs(const Plan& plan, const int64_t* codes, int64_t count)
      : places(static_cast<size_t>(plan.slab_begin.back())), classes(static_cast<size_t>(plan.slabs)) {
    std::vector<int32_t> place(static_cast<size_t>(count), -1);
    for (int64_t slab = 0; slab < plan.slabs; slab++) {
      std::vector<int64_t>& found = classes[slab];
      for (int64_t at = plan.slab_begin[slab]; at < plan.slab_begin[static_cast<size_t>(slab) + 1]; at++) {
        const int64_t code = codes[plan.row(at)];
        if (place[code] < 0) {
          place[code] = static_cast<int32_t>(found.size());
          found.push_back(code);
        }
        places[at] = place[code];
      }
      for (int64_t code : found) place[code] = -1;
      most = std::max(most, static_cast<ptrdiff_t>(found.size()));
    }
  }
};

}  // namespace interp_fast
