#include "limits.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "dispatch.h"
#include "pool.h"

namespace interp_fast {

namespace {

// Best rate of a few tries of all tasks; `work` does one task and returns the operations it did.
template <class Work>
double rate(int64_t tasks, int threads, Work work) {
  double best = 0;
  for (int attempt = 0; attempt < 4; attempt++) {
    std::vector<double> done(tasks);
    const auto start = std::chrono::steady_clock::now();
    parallel_for(tasks, threads, [&](int64_t task, int) { done[task] = work(task); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    double total = 0;
    for (double operations : done) total += operations;
    best = std::max(best, total / seconds.count());
  }
  return best;
}

}  // namespace

std::map<std::string, double> limits(const char* memory, int64_t bytes, int threads) {
  const LimitKernels& kernels = active_kernels().limits;
  const int64_t tasks = 4 * threads;  // of some milliseconds each
  const auto arithmetic = [&](double (*kernel)(int64_t), int64_t rounds) {
    return rate(tasks, threads, [&](int64_t) { return kernel(rounds); });
  };
  constexpr int64_t kPiece = 1 << 20;
  std::map<std::string, double> rates = {{"fma_float32", arithmetic(kernels.fma_f32, 500000)},
                                         {"fma_float64", arithmetic(kernels.fma_f64, 500000)},
                                         {"exp_float32", arithmetic(kernels.exp_f32, 10000)},
                                         {"exp_float64", arithmetic(kernels.exp_f64, 4000)},
                                         {"read", rate((bytes + kPiece - 1) / kPiece, threads, [&](int64_t piece) {
                                            const int64_t count = std::min(kPiece, bytes - piece * kPiece);
                                            return kernels.read(memory + piece * kPiece, count);
                                          })}};
  if (const Int8Kernels* int8 = active_int8()) rates["dot_int8"] = arithmetic(int8->limit, 500000);
  return rates;
}

}  // namespace interp_fast
