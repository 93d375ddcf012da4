// The posterior over rows of many queries; see interp_fast/backends/__init__.py for what each output is.
#pragma once

#include "query.h"

namespace interp_fast {

void posterior(const Data& data, const QueryArrays& queries, const Outputs& out, int threads);

}  // namespace interp_fast
