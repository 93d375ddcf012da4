// Runs rows of a step table; see interp_fast/backends/__init__.py.
#pragma once

#include <cstdint>

#include "data.h"

namespace interp_fast {

struct Table {  // arrays over the rows of a StepTable
  const double *alpha, *sigma, *a, *b, *c, *s;
  const bool* commit;
};

struct RunState {  // (n, d) and (n,); terms is (3, n, d) or nullptr, previous_error goes with it
  int64_t n;
  double *base, *cur, *previous, *terms, *previous_error, *dropped, *work;
  int64_t *index, *since;
};

struct Run {
  int64_t first, last;         // rows of the table: first <= r < last
  uint64_t key, first_sample;  // of the noise
  const double* error;         // (R, n, d) or nullptr
  double cut;
};

void run_steps(const RunState& state, const Data& data, const Table& table, const Run& run, int threads);

// out (n, d): the standard normals of (key, first_sample + i, row, j).
void normals(uint64_t key, uint64_t first_sample, uint32_t row, int64_t n, ptrdiff_t d, double* out, int threads);

}  // namespace interp_fast
