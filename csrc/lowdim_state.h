// What a pass over rows of few dimensions knows of a query: how rows meet it, and its sums.
#pragma once

#include <algorithm>
#include <cmath>

#include "arithmetic.h"
#include "query.h"

namespace interp_fast {

constexpr double kAtFirst = -2 * kNever;  // no score

// Sums in float64, relative to a score of weight 1: those of LowdimQuery.
struct LowdimTotal {
  double reference = kAtFirst;
  WeightSums weights = {};
  double x[kLowdim] = {}, u_x[kLowdim] = {};  // sum p t, sum p <u, t> t

  // The sums of a query whose kernel has vectors of this width.
  template <class T>
  static LowdimTotal of(const LowdimQuery<T>& query, int d, ptrdiff_t width) {
    const LowdimPlaces at = {d};
    const auto sum = [&](int place) {
      double total = 0;
      for (ptrdiff_t lane = 0; lane < width; lane++) total += static_cast<double>(query.sums[place * width + lane]);
      return total;
    };
    LowdimTotal out;
    out.reference = static_cast<double>(query.reference);
    out.weights = {.p = sum(at.p), .p_n2 = sum(at.n2()), .p_p = sum(at.p_p()), .p_score = sum(at.p_score())};
    for (int k = 0; k < d; k++) out.x[k] = sum(at.x + k), out.u_x[k] = sum(at.along() + k);
    return out;
  }

  // All are brought to the higher reference.
  void operator+=(LowdimTotal more) {
    const double higher = std::max(reference, more.reference);
    move_to(higher), more.move_to(higher);
    weights += more.weights;
    for (ptrdiff_t k = 0; k < kLowdim; k++) x[k] += more.x[k], u_x[k] += more.u_x[k];
  }

 private:
  void move_to(double higher) {
    const double by = reference - higher;
    if (by == 0) return;
    reference = higher;
    const double f = std::exp2(by);
    if (f == 0) {  // also what is NaN
      *this = {.reference = higher};
      return;
    }
    rescale(weights, f, by);
    for (double* sums : {x, u_x}) {
      for (ptrdiff_t k = 0; k < kLowdim; k++) sums[k] *= f;
    }
  }
};

// h, by which squared differences become scores.
inline double lowdim_h(const Query& query) { return 0.5 * kLog2e * query.alpha * query.alpha / query.variance; }

// Whether dimension k is counted from the centre. Where rows are decoded without rounding (`direct`) that is where the
// difference is exact in any case, all rows being close to each other and far from 0: then y has the digits of those
// differences, too.
inline bool centred(const Data& data, ptrdiff_t k, bool direct) {
  return !direct || std::abs(data.center[k]) > 4 * data.max_norm * std::abs(data.unit);
}

// y = x / alpha in normal form, counted as rows are.
inline double position(const Data& data, const Query& query, ptrdiff_t k, bool direct) {
  const double origin = centred(data, k, direct) ? data.center[k] : data.rows.b;
  return std::fma(-query.alpha, origin, query.x[k]) / (query.alpha * data.unit);
}

template <class T>
LowdimQuery<T> lowdim_query(const Data& data, const Query& query, bool direct) {
  LowdimQuery<T> out{};
  const double h = lowdim_h(query), d = static_cast<double>(data.rows.d);
  double rest2 = 0, y2 = 0;
  for (ptrdiff_t k = 0; k < data.rows.d; k++) {
    const double y = position(data, query, k, direct);
    out.q[k] = static_cast<T>(direct ? y : 2 * h * y);
    const double rest = direct ? y - static_cast<double>(out.q[k]) : 0.0;
    out.rest[k] = static_cast<T>(rest), rest2 += rest * rest, y2 += y * y;
  }
  for (ptrdiff_t k = 0; query.largest_u > 0 && k < data.rows.d; k++) {
    out.u[k] = static_cast<T>(query.u[k] / query.largest_u);
  }
  out.h = static_cast<T>(h);
  // Also what y and the values of bytes have been rounded by, where that is not among the roundings of products.
  const double rounded = direct ? 2 * kRoundoff<double> * std::sqrt(y2) + std::sqrt(d) * data.value_error : 0.0;
  out.slack = static_cast<T>(std::sqrt(h) * (std::sqrt(rest2) + rounded));
  out.cut = static_cast<T>(kLog2e * std::min(query.cut, kUnderflow<T>) + 0.01);  // and some for the rounding of scores
  out.best = out.reference = static_cast<T>(kAtFirst);
  out.sparse = true;
  return out;
}

// A score of this size and the exact one differ by half of this at most, as two of them do by all of it: a dozen or two
// roundings, of the size of the score where it is one square, else of its terms.
template <class T>
double blur(const Data& data, const Query& query, const LowdimQuery<T>& state, bool direct, double score) {
  const double unit = kRoundoff<T> + (direct ? 0.0 : data.value_error), r = query.norm;
  const double roundings = static_cast<double>(2 * data.rows.d + 12) * unit;
  const double terms = direct ? 0.0 : lowdim_h(query) * r * (2 * std::sqrt(query.x2) / query.alpha + r);
  return 2 * (roundings * (terms + std::abs(score)) + split_error(state, static_cast<T>(-score)));
}

// What rounding y to float64, and the values of bytes, leaves out of x~, at most.
inline double displacement(const Data& data, const Query& query) {
  double y2 = 0;
  for (ptrdiff_t k = 0; k < data.rows.d; k++) {
    const double y = position(data, query, k, true);
    y2 += y * y;
  }
  return query.alpha * (2 * kRoundoff<double> * std::sqrt(y2) + data.value_error);
}

}  // namespace interp_fast
