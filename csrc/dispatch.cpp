#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace interp_fast {

#define IF_DECLARE(isa)                  \
  namespace isa {                        \
  extern const KernelTable kernel_table; \
  }
IF_DECLARE(base)
#ifdef IF_X86
IF_DECLARE(v3)
IF_DECLARE(v4)
namespace vnni {
extern const Int8Kernels int8_kernels;
}
#endif
#undef IF_DECLARE

namespace {

std::vector<const KernelTable*> supported_tables() {
  std::vector<const KernelTable*> tables;
#ifdef IF_X86
  __builtin_cpu_init();
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

void set_isa(const std::string& name) { active.store(find(name, "isa"), std::memory_order_release); }

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : supported_tables()) names.push_back(table->name);
  return names;
}

}  // namespace interp_fast
