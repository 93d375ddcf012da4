// A pass of a list of queries over all rows: queries in groups of panels, rows in slabs of blocks.
//
// A task is one group times one slab. It decodes a block of rows into its worker's scratch and shows it to all panels
// of the group, a few at a time, before going on to the next, so that X is read from memory and decoded once per group.
// (In the shapes of a GEMV the kernels read the rows as stored.) Groups, slabs and blocks follow from shapes alone
// and a task never looks at another, so that no bit of a result depends on who runs what; what tasks leave behind is
// merged in the order of the slabs. Those become shorter towards the last rows, so that workers come to the end at
// about the same time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "panels.h"

namespace interp_fast {

template <class T>
struct Task {
  int64_t group, slab;
  int worker;     // no two tasks of one worker run at once
  int64_t first;  // number of the first panel of the group
  int64_t count;  // of panels
  Panel<T>* panels;
};

// Bounds on the errors of scores of a block, row by row where some rows are longer by far than most rows of all.
template <class T>
struct RowErrors {
  T common_norm;       // |X| of the others is no larger
  const T* residuals;  // of each row

  // Whether that of the block is that of each row.
  bool of_all(const Block<T>& block) const { return common_norm >= block.max_norm; }
  T of(const Block<T>& block, const Panel<T>& panel, int lane, ptrdiff_t row) const {
    if (of_all(block)) return score_error_of(block, panel, lane);
    Block<T> alone{};
    alone.max_norm = std::max(common_norm, static_cast<T>(1.001) * std::sqrt(block.n2[row]));
    alone.span = block.span;
    alone.residual = residuals[row];
    return score_error_of(alone, panel, lane);
  }
};

// Some panels of a group meet a block of rows.
template <class T>
struct Visit {
  const Block<T>& block;
  RowErrors<T> errors;
  int64_t first_row;
  ptrdiff_t rows;  // of the block, without those that fill it up
  int64_t at;      // place of the first panel in the group
  int count;       // of panels
  Panel<T>* panels;
  // Memory for what is looked for in scores of a panel: a limit of each lane, and places.
  T* limits;
  int32_t* places;
};

// What is done with the blocks of a pass.
template <class T>
class Visitor {
 public:
  virtual void begin(const Task<T>&) {}  // fills in what else the pass needs of the panels
  virtual void visit(const Task<T>&, const Visit<T>&) = 0;
  virtual void end(const Task<T>&) {}

 protected:
  ~Visitor() = default;
};

// What counts in a pass: every row; those of weight above 0; of these one of those that are equal.
enum class Counted { all, weighted, distinct };

// Runs a pass. With a `sample` only the first block of every `sample`-th slab.
template <class T>
void scan(const Data& data, const Panels<T>& panels, Counted counted, int threads, Visitor<T>& visitor,
          int64_t sample = 0);

}  // namespace interp_fast
