#define ISA vnni
#include "int8-inl.h"

namespace interp_fast {
namespace ISA {

extern const ScreenKernels screen_kernels;
const ScreenKernels screen_kernels = kScreenKernels;

}  // namespace ISA
}  // namespace interp_fast
