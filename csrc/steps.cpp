#include "steps.h"

#include <algorithm>
#include <vector>

#include "dispatch.h"
#include "pool.h"
#include "posterior.h"

namespace interp_fast {
namespace {

// Samples whose rows make a few pages: small enough that their noise stays in cache until it is used.
int64_t samples_per_task(ptrdiff_t d) { return std::max<int64_t>(1, 4096 / d); }

// One row of the table for samples first ... last - 1, given the smoothed mean `D` and the noise `xi` (or nullptr) of
// these samples; `e` is the error of the row, for all samples, or nullptr.
void advance(const RunState& state, const Table& table, int64_t row, ptrdiff_t d, int64_t first, int64_t last,
             const double* D, const double* e, const double* xi) {
  const double a = table.a[row], b = table.b[row], c = table.c[row], s = table.s[row];
  const bool commit = table.commit[row];
  const ptrdiff_t all = state.n * d, shift = first * d;
  for (ptrdiff_t i = first * d; i < last * d; i++) {
    const double noise = xi ? s * xi[i - shift] : 0.0, error = e ? e[i] : 0.0;
    const double used = D[i] + error, previous = state.previous[i];
    const double out = a * state.base[i] + b * used + c * previous + noise;
    if (state.terms) {
      if (commit) {
        double* const terms = state.terms + i;
        const double previous_error = state.previous_error[i];
        terms[0] = a * terms[0] + (b * D[i] + c * (previous - previous_error));
        terms[all] = a * terms[all] + (b * error + c * previous_error);
        terms[2 * all] = a * terms[2 * all] + noise;
      }
      state.previous_error[i] = error;
    }
    state.cur[i] = out;
    state.previous[i] = used;
    if (commit) state.base[i] = out;
  }
}

}  // namespace

void normals(uint64_t key, uint64_t first_sample, uint32_t row, int64_t n, ptrdiff_t d, double* out, int threads) {
  const NormalsKernel kernel = *active_kernels().normals;
  const int64_t each = samples_per_task(d);
  parallel_for((n + each - 1) / each, threads, [&](int64_t task, int) {
    const int64_t first = task * each;
    kernel(key, first_sample + static_cast<uint64_t>(first), row, std::min(each, n - first), d, out + first * d);
  });
}

void run_steps(const RunState& state, const Data& data, const Table& table, const Run& run, int threads) {
  const int64_t n = state.n;
  const ptrdiff_t d = data.rows.d;
  const size_t samples = static_cast<size_t>(n);
  std::vector<double> mean(samples * static_cast<size_t>(d)), alpha(samples), sigma(samples), dropped(samples);
  std::vector<double> work(samples);
  const std::vector<double> cuts(samples, run.cut);
  std::vector<int64_t> index(samples);
  Outputs out{};
  out.mean = mean.data(), out.index = index.data(), out.dropped = dropped.data(), out.work = work.data();
  const QueryArrays queries = {
      .count = n, .x = state.cur, .alpha = alpha.data(), .sigma = sigma.data(), .cut = cuts.data(), .u = nullptr};
  const NormalsKernel noise = *active_kernels().normals;
  for (int64_t r = run.first; r < run.last; r++) {
    std::fill(alpha.begin(), alpha.end(), table.alpha[r]);
    std::fill(sigma.begin(), sigma.end(), table.sigma[r]);
    posterior(data, queries, out, threads);
    for (size_t i = 0; i < samples; i++) {
      if (index[i] != state.index[i]) state.since[i] = r;
      state.index[i] = index[i];
      state.dropped[i] = std::max(state.dropped[i], dropped[i]);
      state.work[i] += work[i];
    }
    // With a bandwidth D is pulled from the mean towards x / alpha.
    const double s2 = table.sigma[r] * table.sigma[r];
    const double pull = (table.alpha[r] * data.bandwidth) * (table.alpha[r] * data.bandwidth);
    const double keep = s2 / (s2 + pull), draw = pull > 0 ? pull / (table.alpha[r] * (s2 + pull)) : 0.0;
    const double* const e = run.error ? run.error + r * n * d : nullptr;
    const int64_t each = samples_per_task(d);
    parallel_for((n + each - 1) / each, threads, [&](int64_t task, int) {
      const int64_t from = task * each, to = std::min(n, from + each);
      for (ptrdiff_t i = from * d; pull > 0 && i < to * d; i++) {
        mean[i] = keep * mean[i] + draw * state.cur[i];
      }
      std::vector<double> xi;
      if (table.s[r] > 0) {
        xi.resize(static_cast<size_t>((to - from) * d));
        noise(run.key, run.first_sample + static_cast<uint64_t>(from), static_cast<uint32_t>(r), to - from, d,
              xi.data());
      }
      advance(state, table, r, d, from, to, mean.data(), e, xi.empty() ? nullptr : xi.data());
    });
  }
}

}  // namespace interp_fast
