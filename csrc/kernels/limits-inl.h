// What this target's instructions can do at best, with everything in registers or in one stream: the yardstick that
// `interp-fast bench` holds the kernels against.
#pragma once

#include "math-inl.h"

namespace interp_fast {
namespace ISA {
namespace {

// Multiply-adds in independent chains, enough of them to hide the latency. Returns the flops done.
template <class T>
double limit_fma(int64_t rounds) {
  constexpr int kChains = kManyRegisters ? 24 : 12;
  volatile T factor = T(0.5), term = T(1);
  const Vec<T> a = fill<T>(factor), b = fill<T>(term);
  Vec<T> chain[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; i++) chain[i] = fill<T>(T(i));
  for (int64_t k = 0; k < rounds; k++) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; i++) chain[i] = chain[i] * a + b;
  }
  Vec<T> total = chain[0];
#pragma GCC unroll 24
  for (int i = 1; i < kChains; i++) total += chain[i];
  volatile T sink = sum<T>(total);
  (void)sink;
  return 2.0 * kChains * kWidth<T> * double(rounds);
}

// Powers of two of numbers in the first-level cache, summed. Returns how many.
template <class T>
double limit_exp(int64_t rounds) {
  constexpr int kNumbers = 1024, kChains = 4;
  T x[kNumbers];
  for (int i = 0; i < kNumbers; i++) x[i] = T(-30) * T(i) / T(kNumbers);
  Vec<T> total[kChains] = {};
  for (int64_t k = 0; k < rounds; k++) {
    asm volatile("" : : "r"(x) : "memory");  // x may have changed: do it again
    for (int i = 0; i < kNumbers; i += kChains * kWidth<T>) {
#pragma GCC unroll 4
      for (int j = 0; j < kChains; j++) total[j] += exp2(load(x + i + j * kWidth<T>));
    }
  }
  volatile T sink = sum<T>((total[0] + total[1]) + (total[2] + total[3]));
  (void)sink;
  return double(kNumbers) * double(rounds);
}

// Reads memory once, in one stream. Returns the bytes read.
double limit_read(const char* p, int64_t bytes) {
  constexpr int kStreams = 8;
  typedef int64_t Int __attribute__((vector_size(kVectorBytes)));
  Int total[kStreams] = {};
  const int64_t whole = bytes / (kStreams * kVectorBytes) * (kStreams * kVectorBytes);
  for (int64_t i = 0; i < whole; i += kStreams * kVectorBytes) {
#pragma GCC unroll 8
    for (int j = 0; j < kStreams; j++) {
      Int bits;
      memcpy(&bits, p + i + j * kVectorBytes, sizeof bits);
      total[j] ^= bits;
    }
  }
  Int all = total[0];
  for (int j = 1; j < kStreams; j++) all ^= total[j];
  volatile int64_t sink = all[0];
  (void)sink;
  return double(whole);
}

}  // namespace
}  // namespace ISA
}  // namespace interp_fast
