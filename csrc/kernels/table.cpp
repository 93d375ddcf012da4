// The table of kernels of one instruction set.
#include "limits-inl.h"
#include "lowdim_rows-inl.h"
#include "parts.h"
#include "rows-inl.h"

#define IF_STRING_(x) #x
#define IF_STRING(x) IF_STRING_(x)

namespace interp_fast {
namespace ISA {

const KernelTable kernel_table = {.name = IF_STRING(ISA),
#if defined(__AVX2__) && !defined(__AVX512F__)
                                  .int8 = &int8_kernels,
#else
                                  .int8 = nullptr,  // with AVX-512 three instructions for 64 bytes gain little on one
                                                    // for 16 floats
#endif
                                  .digits = nullptr,
                                  .f32 = {.decode = decode<float>,
                                          .wide = &wide_f32,
                                          .narrow = &narrow_f32,
                                          .gemv = &gemv_f32,
                                          .decode_lowdim = decode_lowdim<float>,
                                          .lowdim = lowdim_f32},
                                  .f64 = {.decode = decode<double>,
                                          .wide = &wide_f64,
                                          .narrow = &narrow_f64,
                                          .gemv = &gemv_f64,
                                          .decode_lowdim = decode_lowdim<double>,
                                          .lowdim = lowdim_f64},
                                  .exact = &exact_kernels,
                                  .normals = &normals_kernel,
                                  .limits = {.fma_f32 = limit_fma<float>,
                                             .fma_f64 = limit_fma<double>,
                                             .exp_f32 = limit_exp<float>,
                                             .exp_f64 = limit_exp<double>,
                                             .read = limit_read}};

}  // namespace ISA
}  // namespace interp_fast
