// Rates that this machine reaches at best with the instructions in use: what `interp-fast bench` measures against.
#pragma once

#include <stdint.h>

#include <map>
#include <string>

namespace interp_fast {

// Operations a second of all threads together, the best of a few tries: "fma_float32", "fma_float64" (flops),
// "exp_float32", "exp_float64", "read" (bytes of `memory`, each read once) and, where the processor multiplies bytes,
// "dot_int8" (two for each pair).
std::map<std::string, double> limits(const char* memory, int64_t bytes, int threads);

}  // namespace interp_fast
