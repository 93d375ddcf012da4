#define ISA vnni
#include "int8-inl.h"

namespace interp_fast {
namespace ISA {

extern const Int8Kernels int8_kernels;
const Int8Kernels int8_kernels = kInt8Kernels;

}  // namespace ISA
}  // namespace interp_fast
