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

}  // namespace interp_fast
