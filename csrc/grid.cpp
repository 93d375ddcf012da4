#include "grid.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "dispatch.h"

namespace interp_fast {
namespace {

constexpr int64_t kSample = 32;  // rows that are looked at
constexpr size_t kLevels = 256;

// The different numbers of a few rows, and how often they come; none if they are more than there are bytes.
std::map<double, double> levels(const Rows& rows) {
  std::map<double, double> all;
  std::vector<double> row(static_cast<size_t>(rows.d));
  const int64_t count = std::min(rows.n, kSample);
  for (int64_t i = 0; i < count; i++) {
    active_kernels().exact->values(rows, i * rows.n / count, row.data());
    for (double value : row) all[value]++;
    if (all.size() > kLevels) return {};
  }
  return all;
}

}  // namespace

// The shortest way from one number to the next is a step, at first; then what steps were on average so far, in which
// less and less of the rounding of single numbers is left. The grid is a line through all of them, by least squares.
Grid find_grid(const Rows& rows) {
  if (rows.type == RowType::u8 || rows.type == RowType::f64) return {};
  const std::map<double, double> all = levels(rows);
  if (all.size() < 2) return {};
  const double lowest = all.begin()->first;
  double step = INFINITY, before = -INFINITY;
  for (const auto& [value, times] : all) step = std::min(step, value - std::exchange(before, value));
  std::vector<double> bytes;
  double byte = 0, sum = 0, of_bytes = 0, of_values = 0;
  for (const auto& [value, times] : all) {
    if (!bytes.empty()) {
      byte += std::nearbyint((value - before) / step);
      if (!(byte > bytes.back() && byte < kLevels)) return {};
      step = (value - lowest) / byte;
    }
    before = value;
    bytes.push_back(byte);
    sum += times, of_bytes += times * byte, of_values += times * value;
  }
  of_bytes /= sum, of_values /= sum;
  double both = 0, squares = 0, largest = 0;
  auto at = bytes.begin();
  for (const auto& [value, times] : all) {
    const double from_mean = *at++ - of_bytes;
    both += times * from_mean * (value - of_values), squares += times * from_mean * from_mean;
  }
  const double a = both / squares, b = of_values - a * of_bytes;
  at = bytes.begin();
  for (const auto& [value, times] : all) largest = std::max(largest, std::abs(value - (a * *at++ + b)));
  // As fine as there are bytes for, so that a centre is not far from it; those that the sample lacks may be below and
  // above.
  const double parts = std::floor((kLevels - 1) / byte), fine = a / parts;
  if (!(largest <= Grid::kMostApart * fine)) return {};
  return {.a = fine, .b = b - fine * std::floor((kLevels - 1 - parts * byte) / 2)};
}

}  // namespace interp_fast
