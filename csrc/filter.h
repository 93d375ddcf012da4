// The filter of filter and refine, a pass of scores alone: which rows can be among the best of each query.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "candidate_list.h"
#include "scan.h"

namespace interp_fast {

// Shows the rows of a block to the candidate lists (one per lane) and renews the thresholds of the panel.
template <class T>
void offer_block(const Panels<T>& panels, const Panel<T>& panel, const Visit<T>& visit, CandidateList* lists,
                 T* thresholds);

// Thresholds that let every lane in use pass at first, and no other.
template <class T>
void open_thresholds(const Panel<T>& panel, int width, T* thresholds);

// What a sample of rows, the first of some slabs, tells of each query, so that no slab starts from nothing: fewer rows
// are taken that will be left out in the end.
struct Pilot {
  std::vector<double> bounds;   // a lower bound on the k-th best score
  std::vector<double> sum_exp;  // the sum of 2^score over those rows, as a score
};
struct PilotOptions {
  size_t k;
  Counted counted;
  int64_t sample = 1;  // the first block of every such slab
  bool sum_exp = false;
};

// The two best rows of a slab are read for the bounds. A few queries wait for memory, not for lists: of them nothing is
// told, nor from fewer slabs than one in `sample`.
template <class T>
Pilot pilot_pass(const Data& data, const Panels<T>& panels, const PilotOptions& options, int threads);

// Which rows of a query are looked for: those whose score may lie within its cut of the k-th best score.
struct FilterOptions {
  size_t k;
  bool weighted;                 // false: by distance alone, over all rows and with no cut; else equal rows are one
  size_t capacity = SIZE_MAX;    // lists of more rows overflow
  size_t trim_above = SIZE_MAX;  // longer lists keep the best rows alone
  bool bounds = true;            // false: scores are taken as if they were exact
};

// By products in the arithmetic of the data.
std::vector<CandidateList> filter_by_products(const Data& data, const Query* queries, int64_t count,
                                              const FilterOptions& options, int threads);

// By int8: as rigorous, and longer lists where rows lie closer than int8 can tell.
std::vector<CandidateList> filter_by_int8(const Data& data, const Query* queries, int64_t count,
                                          const FilterOptions& options, int threads);

// How rows are filtered. Without limit lists hold however many there are.
enum class FilterBy { int8, products, products_without_limit };

constexpr int64_t kListBatch = 1 << 13;  // queries that have lists at once
constexpr double kListBytes = 0x1p28;    // most memory for lists of rows

// take(the first of some queries, how many, their lists), as many at a time as have room. capacity(how many) is that of
// a list where there is a limit.
template <class Capacity, class Take>
void filter_in_batches(const Data& data, const std::vector<Query>& queries, FilterBy by, FilterOptions options,
                       int threads, Capacity capacity, Take take) {
  const bool limit = by != FilterBy::products_without_limit;
  const double bytes = sizeof(CandidateList::Entry) * static_cast<double>(data.rows.n);
  const int64_t most = limit ? kListBatch : std::max<int64_t>(1, static_cast<int64_t>(kListBytes / bytes));
  in_batches(queries, most, [&](const Query* some, int64_t count) {
    if (limit) options.capacity = capacity(count);
    take(some, count,
         by == FilterBy::int8 ? filter_by_int8(data, some, count, options, threads)
                              : filter_by_products(data, some, count, options, threads));
  });
}

}  // namespace interp_fast
