// The noise kernel of one instruction set.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace interp_fast {

// out[i * d + j] = the standard normal of (key, first_sample + i, row, j) for i < n, j < d.
using NormalsKernel = void (*)(uint64_t key, uint64_t first_sample, ptrdiff_t n, uint32_t row, ptrdiff_t d,
                               double* out);

}  // namespace interp_fast
