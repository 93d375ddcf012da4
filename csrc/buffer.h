// Memory for kernels: aligned to cache lines, not initialised, freed with its owner.
#pragma once

#include <stddef.h>

#include <cstdlib>
#include <memory>
#include <new>

namespace interp_fast {

constexpr size_t kLine = 64;

template <class T>
constexpr size_t round_to_line(size_t count) {
  return (count * sizeof(T) + kLine - 1) / kLine * kLine / sizeof(T);
}

template <class T>
class Buffer {
 public:
  Buffer() = default;
  // Whole lines, as aligned_alloc wants them, also of structs that none holds a whole number of; at least one.
  explicit Buffer(size_t count)
      : data_(static_cast<T*>(std::aligned_alloc(kLine, (count * sizeof(T) / kLine + 1) * kLine))) {
    if (!data_) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }
  T& operator[](size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> data_;
};

}  // namespace interp_fast
