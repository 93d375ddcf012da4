// Which instruction set runs: the best that this processor has, unless the environment or a test says otherwise.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace interp_fast {

// The table in use. First use reads INTERP_FAST_ISA; std::invalid_argument if it names nothing that runs here.
const KernelTable& active_kernels();
// The int8 kernels that go with that table on this processor, or nullptr.
const Int8Kernels* active_int8();
// Why `amx` is not among the sets; empty if it is. The first call asks the system for it.
const std::string& amx_obstacle();
// One of those below, or `twin`: v3 with the products of bytes as `amx` has them, in plain C++. For tests.
void set_isa(const std::string& name);
std::vector<std::string> supported_isas();  // best first

// The kernels for one type.
template <class T>
const TypedKernels<T>& typed(const KernelTable& table) {
  if constexpr (sizeof(T) == 4) {
    return table.f32;
  } else {
    return table.f64;
  }
}

}  // namespace interp_fast
