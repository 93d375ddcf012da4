// Rows that are bytes but for rounding, as images divided by 255 are.
#pragma once

#include <cmath>

#include "kernels/kernels.h"

namespace interp_fast {

// The numbers a byte + b; none where a = 0.
struct Grid {
  double a = 0, b = 0;

  // How far from the grid, in units of a, a row may be: no farther than quantized rows are from what they stand for.
  static constexpr double kMostApart = 0x1p-3;

  explicit operator bool() const { return a > 0; }
  double byte(double value) const { return std::nearbyint((value - b) / a); }
  double value(double byte) const { return a * byte + b; }
};

// The grid that a few of the rows are on, if there is one: of numbers that are no bytes, nor float64.
Grid find_grid(const Rows& rows);

}  // namespace interp_fast
