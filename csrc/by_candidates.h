// Queries by their candidates: the rows within the cut of the heaviest, or where off-weights count of the second, and
// the top rows asked for; filtered, then refined. Each returns the queries with too many of them.
#pragma once

#include <cstdint>
#include <vector>

#include "accuracy.h"
#include "filter.h"
#include "query.h"

namespace interp_fast {

std::vector<Query> by_candidates(const Data& data, const std::vector<Query>& queries, const Outputs& out, FilterBy by,
                                 int threads);

// By int8 where that pays: where float32 does not tell logits apart, few rows count.
std::vector<Query> by_int8(const Data& data, const std::vector<Query>& queries, const Outputs& out, int threads);

// By int8 up to the noise where that is likely to succeed. The rest has another regime.
std::vector<Query> by_int8_where_sharp(const Data& data, const std::vector<Query>& queries, const Outputs& out,
                                       int threads);

// Excludes the heaviest rows as far as int8 tells; the sums will tell whether they are. Queries for which those are
// some of many that lie close together become clustered instead.
std::vector<Query> exclude_heaviest(const Data& data, std::vector<Query> queries, const Outputs& out,
                                    const Accuracy& accuracy, int threads);

// Excludes all rows that are about as heavy as the heaviest, of queries that have no more of them than are worth it.
std::vector<Query> exclude_clusters(const Data& data, std::vector<Query> queries, const Outputs& out, int threads);

}  // namespace interp_fast
