// The side of the queries of a pass of int8 products; see kernels/int8-inl.h.
#pragma once

#include "scan.h"

namespace interp_fast {

// The kernels for so many queries, or nullptr where int8 is no gain: the processor lacks them, the rows are not
// quantized, or the queries are so few that reading the rows as given is all the time there is.
const Int8Kernels* int8_for(const Data& data, int64_t queries);

// As fill_panels, with quantized queries. Scores are in units that make their scale 1.
void fill_int8_panels(Panels<float>& panels, const Data& data, const Query* queries, const Int8Kernels& kernels,
                      bool weighted, bool bounds, int threads);

}  // namespace interp_fast
