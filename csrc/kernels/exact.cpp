// The float64 work that decides an answer, on one row as given.
//
// The value of a byte is the product and then the sum, each rounded, as NumPy has it: a value is the same number
// wherever it is formed, and a distance to it can be exactly 0. So this file is compiled without contraction, and
// multiply-adds are fused where that is written, on targets that have them.
#include "parts.h"
#include "rows-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// a b + c
IF_INLINE double fused(double a, double b, double c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// x - alpha v, rounded once.
IF_INLINE double less_product(double x, double alpha, double v) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma(-alpha, v, x);
#else  // the product in two parts (Dekker)
  const auto upper = [](double a) { return 0x1.0000002p27 * a - (0x1.0000002p27 * a - a); };
  const double product = alpha * v, a = upper(alpha), b = upper(v), c = alpha - a, e = v - b;
  return (x - product) - (((a * b - product) + a * e + c * b) + c * e);
#endif
}

template <class S>
IF_INLINE double value(const Rows&, S stored) {
  return static_cast<double>(widen(stored));
}
IF_INLINE double value(const Rows& rows, uint8_t stored) {
  return rows.a * static_cast<double>(widen(stored)) + rows.b;
}

// sum_k f(k) g(k) in several chains: term(k, sum) adds one product to a chain.
constexpr int kStrip = 64 / sizeof(double);

IF_INLINE double total(double* chain) {
  for (int half = kStrip / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) chain[i] += chain[i + half];
  }
  return chain[0];
}

template <class F>
IF_INLINE double sum_over(ptrdiff_t d, F term) {
  double chain[kStrip] = {};
  ptrdiff_t k = 0;
  for (; k + kStrip <= d; k += kStrip) {
    for (int i = 0; i < kStrip; i++) chain[i] = term(k + i, chain[i]);
  }
  for (int i = 0; k < d; k++, i++) chain[i] = term(k, chain[i]);
  return total(chain);
}

// Calls f with the row as a pointer to its stored type.
template <class F>
IF_INLINE auto with_row(const Rows& rows, int64_t row, F f) {
  return with_type(rows.type, [&](auto stored) IF_INLINED { return f(row_of<decltype(stored)>(rows, row)); });
}

void values(const Rows& rows, int64_t row, double* __restrict out) {
  with_row(rows, row, [&](const auto* in) {
    for (ptrdiff_t k = 0; k < rows.d; k++) out[k] = value(rows, in[k]);
  });
}

double distance2(const Rows& rows, int64_t row, const double* x, double alpha) {
  return with_row(rows, row, [&](const auto* in) {
    return sum_over(rows.d, [&](ptrdiff_t k, double sum) {
      const double difference = less_product(x[k], alpha, value(rows, in[k]));
      return fused(difference, difference, sum);
    });
  });
}

double norm2(const Rows& rows, int64_t row, double inverse, const double* shift) {
  return with_row(rows, row, [&](const auto* in) {
    return sum_over(rows.d, [&](ptrdiff_t k, double sum) {
      const double difference = fused(inverse, static_cast<double>(widen(in[k])), shift[k]);
      return fused(difference, difference, sum);
    });
  });
}

double add_row(const Rows& rows, int64_t row, const double* ref, double t, double* __restrict sum, const double* u,
               double* __restrict sum_u) {
  return with_row(rows, row, [&](const auto* in) {
    const auto delta = [&](ptrdiff_t k) { return value(rows, in[k]) - ref[k]; };
    if (u) {
      const double along = t * sum_over(rows.d, [&](ptrdiff_t k, double part) { return fused(delta(k), u[k], part); });
      for (ptrdiff_t k = 0; k < rows.d; k++) sum_u[k] = fused(along, delta(k), sum_u[k]);
    }
    for (ptrdiff_t k = 0; k < rows.d; k++) sum[k] = fused(t, delta(k), sum[k]);
    return sum_over(rows.d, [&](ptrdiff_t k, double part) { return fused(delta(k), delta(k), part); });
  });
}

Measured measure(const double* x, const double* center, double alpha, ptrdiff_t d) {
  using V = Vec<double>;
  constexpr int kVectors = kStrip / kWidth<double>;
  V squares[kVectors] = {}, products[kVectors] = {}, largest[kVectors] = {};
  const auto take = [&](int i, V at, V of_center) IF_INLINED {
    const V product = alpha * of_center, difference = at - product;
    squares[i] += difference * difference, products[i] += product * product;
    largest[i] = max(max(difference, -difference), largest[i]);
  };
  ptrdiff_t k = 0;
  for (; k + kStrip <= d; k += kStrip) {
    for (int i = 0; i < kVectors; i++) {
      take(i, load(x + k + i * kWidth<double>), load(center + k + i * kWidth<double>));
    }
  }
  if (k < d) {
    double at[kStrip] = {}, of_center[kStrip] = {};
    for (int i = 0; k < d; k++, i++) at[i] = x[k], of_center[i] = center[k];
    for (int i = 0; i < kVectors; i++) take(i, load(at + i * kWidth<double>), load(of_center + i * kWidth<double>));
  }
  double chains[3][kStrip];
  memcpy(chains[0], squares, sizeof squares);
  memcpy(chains[1], products, sizeof products);
  memcpy(chains[2], largest, sizeof largest);
  double most = 0;
  for (double one : chains[2]) most = one > most ? one : most;
  return {.squares = total(chains[0]), .largest = most, .products = total(chains[1])};
}

void normal_form(const double* __restrict x, const double* __restrict center, double alpha, double factor, ptrdiff_t d,
                 double* __restrict out) {
  for (ptrdiff_t k = 0; k < d; k++) out[k] = factor * (x[k] - alpha * center[k]);
}

void add_scaled(const double* __restrict origin, double factor, const double* __restrict x, ptrdiff_t d,
                double* __restrict out) {
  for (ptrdiff_t k = 0; k < d; k++) out[k] = origin[k] + factor * x[k];
}

double norm2_of(const double* x, ptrdiff_t d) {
  return sum_over(d, [&](ptrdiff_t k, double sum) { return fused(x[k], x[k], sum); });
}

}  // namespace

const ExactKernels exact_kernels = {.values = values,
                                    .distance2 = distance2,
                                    .norm2 = norm2,
                                    .add = add_row,
                                    .measure = measure,
                                    .normal_form = normal_form,
                                    .add_scaled = add_scaled,
                                    .norm2_of = norm2_of};

}  // namespace ISA
}  // namespace interp_fast
