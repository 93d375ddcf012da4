// Floating point: the digits and the range of a type, and the mode, which belongs to a thread: how it rounds, and
// whether it takes subnormal numbers for 0.
#pragma once

#include <cfenv>

namespace interp_fast {

constexpr double kLog2e = 1.4426950408889634074;

template <class T>
constexpr double kRoundoff = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
// exp(-this) is 0 in the arithmetic.
template <class T>
constexpr double kUnderflow = sizeof(T) == 4 ? 104.0 : 745.0;

// The default mode while it lives, then the one before: no result depends on what a caller has set.
class DefaultArithmetic {
 public:
  DefaultArithmetic() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultArithmetic() { std::fesetenv(&before_); }
  DefaultArithmetic(const DefaultArithmetic&) = delete;
  DefaultArithmetic& operator=(const DefaultArithmetic&) = delete;

 private:
  std::fenv_t before_;
};

}  // namespace interp_fast
