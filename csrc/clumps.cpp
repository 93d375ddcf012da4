#include "clumps.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"

namespace interp_fast {
namespace {

constexpr double kClose = 0x1p-20;  // of the largest |X|: farther apart, roundings of two rows have little in common
constexpr int64_t kFew = 16;        // rows in an interval among which a second look pays

struct Placed {
  double at;
  int64_t row;
};

// The most rows in an interval of length kClose; with `crowded`, also the rows in those that hold more than kFew.
int64_t fullest(std::vector<Placed>& places, double max_norm, std::vector<int64_t>* crowded) {
  std::sort(places.begin(), places.end(), [](const Placed& a, const Placed& b) { return a.at < b.at; });
  size_t most = 0, last = 0, taken = 0;
  for (size_t first = 0; first < places.size(); first++) {
    while (last < places.size() && places[last].at <= places[first].at + kClose * max_norm) last++;
    most = std::max(most, last - first);
    if (!crowded || static_cast<int64_t>(last - first) <= kFew) continue;
    for (taken = std::max(taken, first); taken < last; taken++) crowded->push_back(places[taken].row);
  }
  return static_cast<int64_t>(most);
}

// A point about as far from the center as the rows are, in a direction that nothing in data is aligned with.
std::vector<double> aside(const NormalRows& rows, double max_norm) {
  constexpr double kGolden = 0.6180339887498949;
  std::vector<double> point(rows.center);
  const double size = std::abs(rows.unit) * max_norm * std::sqrt(12 / static_cast<double>(point.size()));
  for (size_t k = 0; k < point.size(); k++) {
    const double turns = kGolden * static_cast<double>(k + 1);
    point[k] += size * (turns - std::floor(turns) - 0.5);
  }
  return point;
}

}  // namespace

// Distances from a point differ by no more than two rows do. Those from the center are at hand; where they say little,
// as of rows on a sphere, those from another point are taken.
int64_t largest_clump(const NormalRows& rows, const double* log_w, double max_norm) {
  std::vector<Placed> places;
  for (int64_t i = 0; i < rows.rows.n; i++) {
    if (log_w[i] > -INFINITY) places.push_back({std::sqrt(rows.n2[static_cast<size_t>(i)]), i});
  }
  std::vector<int64_t> crowded;
  const int64_t by_norm = fullest(places, max_norm, &crowded);
  if (crowded.empty()) return by_norm;
  const std::vector<double> point = aside(rows, max_norm);
  const ExactKernels& exact = *active_kernels().exact;
  places.clear();
  for (int64_t row : crowded) {
    places.push_back({std::sqrt(exact.distance2(rows.rows, row, point.data(), 1.0)) / std::abs(rows.unit), row});
  }
  return std::min(by_norm, std::max(kFew, fullest(places, max_norm, nullptr)));
}

// 0 is added without rounding, and in chains so short errors are small.
bool few_numbers(const double* x, const double* center, double alpha, ptrdiff_t d) {
  constexpr ptrdiff_t kNumbers = 256, kLeast = 32;  // that are looked at
  constexpr double kSame = 0x1p-17;                 // closer than that, relatively, sums round two numbers alike
  constexpr size_t kDistinct = 8;                   // whose roundings are as good as independent
  const ptrdiff_t stride = std::max<ptrdiff_t>(1, d / kNumbers);
  double sizes[kDistinct];
  size_t distinct = 0;
  ptrdiff_t counted = 0;
  for (ptrdiff_t k = 0; k < d; k += stride) {
    const double size = std::abs(x[k] - alpha * center[k]);
    if (size == 0) continue;
    counted++;
    const auto same = [&](double other) { return std::abs(other - size) <= kSame * size; };
    if (std::any_of(sizes, sizes + distinct, same)) continue;
    if (distinct == kDistinct) return false;
    sizes[distinct++] = size;
  }
  return counted > kLeast;
}

bool few_numbers(const NormalRows& rows, const double* log_w) {
  constexpr int64_t kRows = 32;  // that are looked at
  const ptrdiff_t d = rows.rows.d;
  std::vector<double> row(static_cast<size_t>(d));
  int64_t seen = 0, few = 0;
  for (int64_t i = 0; i < rows.rows.n; i += std::max<int64_t>(1, rows.rows.n / kRows)) {
    if (log_w[i] == -INFINITY) continue;
    active_kernels().exact->values(rows.rows, i, row.data());
    seen++, few += few_numbers(row.data(), rows.center.data(), 1, d);
  }
  return 2 * few > seen;
}

}  // namespace interp_fast
