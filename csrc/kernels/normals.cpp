// Counter-based normals: Philox4x32-10 (Salmon et al., SC 2011), then Box-Muller with our own polynomials. The Python
// definition is interp_fast/_random.py; every operation here is the same float64 operation in the same order, so this
// file is compiled without contraction of multiply-adds and the bits agree on every instruction set.
//
// One block of four normals is one lane. kLanes blocks go through each stage together as plain loops over arrays, which
// the compiler turns into vector code; nothing but `out` is written to memory beyond the first-level cache.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "parts.h"

namespace interp_fast {
namespace ISA {
namespace {

constexpr int kLanes = 32;

void philox(uint32_t (&c0)[kLanes], uint32_t (&c1)[kLanes], uint32_t (&c2)[kLanes], uint32_t (&c3)[kLanes], uint32_t k0,
            uint32_t k1) {
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < kLanes; i++) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0[i];
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = static_cast<uint32_t>(p1);
      c3[i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// sqrt(-2 log((word + 1/2) 2^-32)): exponent split around sqrt(1/2), then the atanh series of the mantissa.
inline double radius(uint32_t word) {
  // A 32-bit word is converted in signed halves of the range: vector units without unsigned conversion have this one.
  const double u = (static_cast<double>(static_cast<int32_t>(word ^ 0x80000000u)) + 2147483648.0 + 0.5) * 0x1p-32;
  uint64_t bits;
  memcpy(&bits, &u, 8);
  const uint64_t above = bits - 0x3FE6A09E667F3BCDull;
  const int32_t exponent = static_cast<int32_t>(above >> 32) >> 20;
  bits -= (above >> 52) << 52;
  double m;
  memcpy(&m, &bits, 8);
  const double f = m - 1.0, s = f / (f + 2.0), z = s * s;
  double p = 0.14798198605116586;
  p = p * z + 0.15313837699209373;
  p = p * z + 0.1818357216161805;
  p = p * z + 0.22222198432149784;
  p = p * z + 0.2857142874366239;
  p = p * z + 0.3999999999940941;
  p = p * z + 0.6666666666666735;
  return __builtin_sqrt(-2.0 * (exponent * 0.6931471805599453 + (s * (p * z) + 2.0 * s)));
}

// (sin, cos)(2 pi word 2^-32): quadrant of the word, then polynomials on [-pi/4, pi/4).
inline void sin_cos(uint32_t word, double* sin_out, double* cos_out) {
  const uint32_t quadrant = (word + 0x20000000u) >> 30;
  const double a = static_cast<int32_t>(word - (quadrant << 30)) * 1.4629180792671596e-09, z = a * a;
  double p = 1.58962301576546568060e-10;
  p = p * z - 2.50507477628578072866e-8;
  p = p * z + 2.75573136213857245213e-6;
  p = p * z - 1.98412698295895385996e-4;
  p = p * z + 8.33333333332211858878e-3;
  p = p * z - 1.66666666666666307295e-1;
  const double s = a + (a * z) * p;
  p = -1.13585365213876817300e-11;
  p = p * z + 2.08757008419747316778e-9;
  p = p * z - 2.75573141792967388112e-7;
  p = p * z + 2.48015872888517045348e-5;
  p = p * z - 1.38888888888730564116e-3;
  p = p * z + 4.16666666666665929218e-2;
  const double c = (1.0 - 0.5 * z) + (z * z) * p;
  // Swapped in odd quadrants; the signs are those of quadrants 2, 3 (sine) and 1, 2 (cosine).
  uint64_t s_bits, c_bits;
  memcpy(&s_bits, &s, 8);
  memcpy(&c_bits, &c, 8);
  const uint64_t swap = (s_bits ^ c_bits) & (uint64_t{0} - (quadrant & 1));
  s_bits ^= swap ^ (uint64_t{quadrant & 2} << 62);
  c_bits ^= swap ^ (uint64_t{(quadrant + 1) & 2} << 62);
  memcpy(sin_out, &s_bits, 8);
  memcpy(cos_out, &c_bits, 8);
}

void normals(uint64_t key, uint64_t first_sample, uint32_t row, ptrdiff_t n, ptrdiff_t d, double* out) {
  const ptrdiff_t blocks = (d + 3) / 4, total = n * blocks;
  ptrdiff_t sample = 0, block = 0;
  for (ptrdiff_t first = 0; first < total; first += kLanes) {
    const int count = static_cast<int>(total - first < kLanes ? total - first : kLanes);
    uint32_t c0[kLanes] = {}, c1[kLanes], c2[kLanes] = {}, c3[kLanes] = {};
    double* target[kLanes];
    ptrdiff_t room[kLanes];
    for (int i = 0; i < count; i++) {
      const uint64_t address = first_sample + static_cast<uint64_t>(sample);
      c0[i] = static_cast<uint32_t>(block);
      c2[i] = static_cast<uint32_t>(address);
      c3[i] = static_cast<uint32_t>(address >> 32);
      target[i] = out + sample * d + 4 * block;
      room[i] = d - 4 * block;
      if (++block == blocks) block = 0, sample++;
    }
    for (int i = 0; i < kLanes; i++) c1[i] = row;
    philox(c0, c1, c2, c3, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
    double r0[kLanes], r1[kLanes], sin0[kLanes], cos0[kLanes], sin1[kLanes], cos1[kLanes];
    for (int i = 0; i < kLanes; i++) r0[i] = radius(c0[i]);
    for (int i = 0; i < kLanes; i++) r1[i] = radius(c2[i]);
    for (int i = 0; i < kLanes; i++) sin_cos(c1[i], &sin0[i], &cos0[i]);
    for (int i = 0; i < kLanes; i++) sin_cos(c3[i], &sin1[i], &cos1[i]);
    for (int i = 0; i < count; i++) {
      const double z[4] = {r0[i] * cos0[i], r0[i] * sin0[i], r1[i] * cos1[i], r1[i] * sin1[i]};
      memcpy(target[i], z, (room[i] < 4 ? room[i] : 4) * sizeof(double));
    }
  }
}

}  // namespace

const NormalsKernel normals_kernel = normals;

}  // namespace ISA
}  // namespace interp_fast
