// The side of the queries of a pass of int8 products; see kernels/int8-inl.h.
#pragma once

#include "panels.h"

namespace interp_fast {

// Whether int8 is a gain for so many queries: not where the processor lacks it, the rows are not quantized, or the
// queries are so few that reading the rows as given is all the time there is.
bool int8_pays(const Data& data, int64_t queries);

struct Int8Options {
  const Int8Kernels& kernels;
  bool weighted;
  bool bounds;  // false: scores pass for exact
};

// As fill_panels, with quantized queries. Scores are in units that make their scale 1.
void fill_int8_panels(Panels<float>& panels, const Data& data, const Query* queries, const Int8Options& options,
                      int threads);

}  // namespace interp_fast
