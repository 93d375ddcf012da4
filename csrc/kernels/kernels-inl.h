// One instruction set: ISA names the namespace and the target, and this file ends with its table of kernels. Only C
// headers and nothing with external linkage but the table: a template of the standard library compiled here could
// become the copy that the linker keeps for every processor.
#pragma once

#include "gemv-softmax-inl.h"
#include "kernels.h"
#include "limits-inl.h"
#include "lowdim-inl.h"
#include "rows-inl.h"
#include "softmax-inl.h"
#if defined(__AVX2__) && !defined(__AVX512F__)
#define IF_INT8  // not with AVX-512: three instructions for 64 bytes gain little on one for 16 floats
#include "int8-inl.h"
#endif

#define IF_STRING_(x) #x
#define IF_STRING(x) IF_STRING_(x)

namespace interp_fast {
namespace ISA {

extern const ExactKernels exact_kernels;
extern const NormalsKernel normals_kernel;

namespace {

template <class T>
constexpr TypedKernels<T> kTypedKernels = {
    decode<T>,
    kPanelKernels<T, 2>,
    kPanelKernels<T, 1>,
    kGemvKernels<T>,
    {lowdim_kernels<T, 1>(), lowdim_kernels<T, 2>(), lowdim_kernels<T, 3>(), lowdim_kernels<T, 4>(),
     lowdim_kernels<T, 5>(), lowdim_kernels<T, 6>(), lowdim_kernels<T, 7>(), lowdim_kernels<T, 8>()}};

#if defined(IF_INT8)
constexpr const Int8Kernels* kInt8 = &kInt8Kernels;
#else
constexpr const Int8Kernels* kInt8 = nullptr;
#endif

}  // namespace

extern const KernelTable kernel_table;
const KernelTable kernel_table = {
    IF_STRING(ISA),
    kInt8,
    kTypedKernels<float>,
    kTypedKernels<double>,
    // Pointers: these are compiled apart.
    &exact_kernels,
    &normals_kernel,
    {limit_fma<float>, limit_fma<double>, limit_exp<float>, limit_exp<double>, limit_read}};

}  // namespace ISA
}  // namespace interp_fast
