// The side of the queries of a pass that looks at bytes; see int8-inl.h.
#pragma once

#include "scan.h"

namespace interp_fast {

// The kernels for so many queries, or nullptr where bytes are no gain: the processor lacks them, the rows are not kept
// in bytes, or the queries are so few that reading the rows as given is all the time there is.
const ScreenKernels* screen_for(const Data& data, int64_t queries);

// As fill_panels, with queries rounded to bytes. Scores are in units that make their step 1.
void fill_bytes(Panels<float>& panels, const Data& data, const Query* queries, const ScreenKernels& kernels,
                bool weighted, bool bounds, int threads);

}  // namespace interp_fast
