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

// The integers that scores are made of, offset + <row, query> of rows and queries of bytes, (rows, queries): what every
// instruction set has to agree on. Bytes of queries are at most `most` of the kernels in size.
void integers(const Rows& rows, const int8_t* queries, const int32_t* offsets, int64_t count, int32_t* out);

}  // namespace interp_fast
