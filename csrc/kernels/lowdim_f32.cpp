#include "lowdim-inl.h"
#include "parts.h"

namespace interp_fast {
namespace ISA {

const LowdimKernels<float> lowdim_f32[kLowdim] = {
    lowdim_kernels<float, 1>(), lowdim_kernels<float, 2>(), lowdim_kernels<float, 3>(), lowdim_kernels<float, 4>(),
    lowdim_kernels<float, 5>(), lowdim_kernels<float, 6>(), lowdim_kernels<float, 7>(), lowdim_kernels<float, 8>()};

}  // namespace ISA
}  // namespace interp_fast
