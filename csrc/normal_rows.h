// The rows as given, and what puts them into normal form block by block.
#pragma once

#include <vector>

#include "buffer.h"
#include "grid.h"
#include "kernels/kernels.h"

namespace interp_fast {

// X = (x - center) / unit = inverse * stored + shift. `inverse` is a power of two, so that the one rounding of X is
// that of the difference; center is what the rounded shift makes it.
struct NormalRows {
  Rows rows;
  Grid grid;  // of rows that are no bytes, as far as a few of them tell; the centre is on it, then
  std::vector<double> center;
  double unit, inverse;
  bool float64_only;  // rows of float64, or of a size or of weights that float32 does not know: all work is in float64
  Buffer<float> shift32;
  Buffer<double> shift64;
  double value_error;      // what rounding may move the value of a byte, as a number of X
  std::vector<double> n2;  // |X_i|^2

  template <class T>
  const T* shift() const {
    if constexpr (sizeof(T) == 4) {
      return shift32.get();
    } else {
      return shift64.get();
    }
  }
};

}  // namespace interp_fast
