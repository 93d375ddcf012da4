// The floating-point mode, which belongs to a thread: how it rounds, and whether it takes subnormal numbers for 0.
#pragma once

#include <cfenv>

namespace interp_fast {

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
