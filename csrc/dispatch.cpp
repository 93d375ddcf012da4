#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#ifdef IF_X86
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "buffer.h"

namespace interp_fast {

#define IF_DECLARE(isa)                  \
  namespace isa {                        \
  extern const KernelTable kernel_table; \
  }
IF_DECLARE(base)
#ifdef IF_X86
IF_DECLARE(v3)
IF_DECLARE(v4)
#endif
#undef IF_DECLARE
#define IF_DECLARE(isa)                    \
  namespace isa {                          \
  extern const Int8Kernels int8_kernels;   \
  extern const TileKernels tile_kernels;   \
  extern const DigitKernels digit_kernels; \
  }
#ifdef IF_X86
IF_DECLARE(vnni)
IF_DECLARE(amx)
IF_DECLARE(twin)
#endif
#undef IF_DECLARE

namespace {

#ifdef IF_X86
// Bytes of all kinds through the tiles and through their twin.
bool same_as_twin(const TileKernels& tiles) {
  constexpr ptrdiff_t kSteps = 3, kBytes = kTileSide * kTileStep * kSteps;
  constexpr int kSums = kTileSide * kTileSide;
  Buffer<uint8_t> a(kBytes);
  Buffer<int8_t> b(kBytes);
  Buffer<int32_t> start(kTileSide), sums(kSums), expected(kSums);
  uint32_t random = 1;
  const auto next = [&random] { return (random = random * 1664525 + 1013904223) >> 16; };
  for (ptrdiff_t i = 0; i < kBytes; i++) a[i] = static_cast<uint8_t>(next()), b[i] = static_cast<int8_t>(next());
  for (int i = 0; i < kTileSide; i++) start[i] = static_cast<int32_t>(next() << 8) - (1 << 23);
  for (const int32_t* const from : std::initializer_list<const int32_t*>{start.get(), nullptr}) {
    tiles.begin();
    tiles.multiply(a.get(), b.get(), kSteps, from, sums.get());
    tiles.end();
    twin::tile_kernels.multiply(a.get(), b.get(), kSteps, from, expected.get());
    if (!std::equal(sums.get(), sums.get() + kSums, expected.get())) return false;
  }
  return true;
}

// What keeps AMX from being used; empty: nothing does.
std::string find_amx_obstacle() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTilesAndBytes = 3u << 24, kOsxsave = 1u << 27, kState = 3u << 17;
  const bool has = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTilesAndBytes) == kTilesAndBytes;
  if (!has || !__builtin_cpu_supports("x86-64-v4") || !__builtin_cpu_supports("avx512vnni")) {
    return "the processor has none";
  }
  unsigned low = 0, high = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) && (c & kOsxsave)) asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & kState) != kState) return "the system does not keep its registers";
#if defined(__linux__)
  // A process has to ask for it, once; its threads and children inherit what it is granted. In a thread that was not
  // granted it the first instruction would be illegal.
  constexpr long kRequest = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequest, kTileData) != 0) return "the system refuses it";
#else
  return "this system is not known to grant it";
#endif
  return same_as_twin(amx::tile_kernels) ? "" : "its products are wrong";
}

// A table whose products of bytes are in tiles.
KernelTable in_tiles(const KernelTable& table, const char* name, const Int8Kernels& int8, const DigitKernels& digits) {
  KernelTable other = table;
  other.name = name, other.int8 = &int8, other.digits = &digits;
  return other;
}

const KernelTable& amx_table() {
  static const KernelTable table = in_tiles(v4::kernel_table, "amx", amx::int8_kernels, amx::digit_kernels);
  return table;
}

// What amx does with bytes, in plain C++.
const KernelTable& twin_table() {
  static const KernelTable table = in_tiles(v3::kernel_table, "twin", twin::int8_kernels, twin::digit_kernels);
  return table;
}
#endif

std::vector<const KernelTable*> supported_tables() {
  std::vector<const KernelTable*> tables;
#ifdef IF_X86
  __builtin_cpu_init();
  if (amx_obstacle().empty()) tables.push_back(&amx_table());
  if (__builtin_cpu_supports("x86-64-v4")) tables.push_back(&v4::kernel_table);
  if (__builtin_cpu_supports("x86-64-v3")) tables.push_back(&v3::kernel_table);
#endif
  tables.push_back(&base::kernel_table);
  return tables;
}

const KernelTable* find(const std::string& name, const char* source) {
  std::string names;
  for (const KernelTable* table : supported_tables()) {
    if (name == table->name) return table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
#ifdef IF_X86
  if (name == "twin" && __builtin_cpu_supports("x86-64-v3")) return &twin_table();
#endif
  throw std::invalid_argument(std::string(source) + " must be an instruction set of this processor (" + names +
                              "); got '" + name + "'.");
}

std::atomic<const KernelTable*> active{nullptr};

}  // namespace

const KernelTable& active_kernels() {
  const KernelTable* table = active.load(std::memory_order_acquire);
  if (!table) {
    const char* forced = std::getenv("INTERP_FAST_ISA");
    table = forced && *forced ? find(forced, "INTERP_FAST_ISA") : supported_tables().front();
    active.store(table, std::memory_order_release);
  }
  return *table;
}

const Int8Kernels* active_int8() {
  const KernelTable& table = active_kernels();
#ifdef IF_X86
  if (&table == &v4::kernel_table && __builtin_cpu_supports("avx512vnni")) return &vnni::int8_kernels;
#endif
  return table.int8;
}

const std::string& amx_obstacle() {
#ifdef IF_X86
  static const std::string obstacle = find_amx_obstacle();
#else
  static const std::string obstacle = "the processor has none";
#endif
  return obstacle;
}

void set_isa(const std::string& name) { active.store(find(name, "isa"), std::memory_order_release); }

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : supported_tables()) names.push_back(table->name);
  return names;
}

}  // namespace interp_fast
