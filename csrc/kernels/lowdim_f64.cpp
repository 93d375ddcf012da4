#include "lowdim-inl.h"
#include "parts.h"

namespace interp_fast {
namespace ISA {

const LowdimKernels<double> lowdim_f64[kLowdim] = {
    lowdim_kernels<double, 1>(), lowdim_kernels<double, 2>(), lowdim_kernels<double, 3>(), lowdim_kernels<double, 4>(),
    lowdim_kernels<double, 5>(), lowdim_kernels<double, 6>(), lowdim_kernels<double, 7>(), lowdim_kernels<double, 8>()};

}  // namespace ISA
}  // namespace interp_fast
