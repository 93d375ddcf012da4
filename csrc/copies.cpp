#include "copies.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>

namespace interp_fast {
namespace {

size_t bytes_of(const Rows& rows) {
  const size_t d = static_cast<size_t>(rows.d);
  return rows.type == RowType::f64 ? 8 * d : rows.type == RowType::f32 ? 4 * d : rows.type == RowType::u8 ? d : 2 * d;
}

// Of FNV's kind, a word at a time.
uint64_t hash(const char* row, size_t bytes) {
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t at = 0; at < bytes; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, row + at, std::min<size_t>(8, bytes - at));
    h = (h ^ word) * 0x100000001b3u;
    h ^= h >> 32;
  }
  return h;
}

struct Row {
  double n2;
  uint64_t hash;
  int64_t number;
};

}  // namespace

Copies find_copies(const Rows& rows, const double* log_w, const std::vector<double>& n2) {
  Copies copies;
  const size_t bytes = bytes_of(rows);
  const auto bytes_at = [&](int64_t row) { return rows.data + row * rows.stride; };
  std::vector<Row> all;
  for (int64_t i = 0; i < rows.n; i++) {
    if (log_w[i] > -INFINITY) all.push_back({n2[static_cast<size_t>(i)], 0, i});
  }
  copies.distinct = static_cast<int64_t>(all.size());
  std::sort(all.begin(), all.end(), [](const Row& a, const Row& b) { return a.n2 < b.n2; });
  std::vector<Row> alike;  // in length
  for (size_t i = 0; i < all.size(); i++) {
    const bool before = i > 0 && all[i - 1].n2 == all[i].n2, after = i + 1 < all.size() && all[i + 1].n2 == all[i].n2;
    if (before || after) alike.push_back({all[i].n2, hash(bytes_at(all[i].number), bytes), all[i].number});
  }
  std::sort(alike.begin(), alike.end(), [&](const Row& a, const Row& b) {
    return std::tuple(a.n2, a.hash, -log_w[a.number], a.number) < std::tuple(b.n2, b.hash, -log_w[b.number], b.number);
  });
  for (size_t first = 0, i = 1; i < alike.size(); i++) {
    const Row &a = alike[first], &b = alike[i];
    if (a.n2 != b.n2 || a.hash != b.hash || std::memcmp(bytes_at(a.number), bytes_at(b.number), bytes) != 0) {
      first = i;
      continue;
    }
    if (!copies.any()) {
      copies.later.assign(static_cast<size_t>(rows.n), false);
      copies.next.assign(static_cast<size_t>(rows.n), -1);
    }
    copies.later[static_cast<size_t>(b.number)] = true;
    copies.next[static_cast<size_t>(alike[i - 1].number)] = b.number;
    copies.distinct--;
  }
  return copies;
}

}  // namespace interp_fast
