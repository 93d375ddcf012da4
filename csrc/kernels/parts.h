// What the sources of this folder are for one instruction set: ISA names the namespace and the target. Only C headers
// and nothing with external linkage but these tables: a template of the standard library compiled here could become the
// copy that the linker keeps for every processor.
#pragma once

#include "kernels.h"

namespace interp_fast {
namespace ISA {

extern const PanelKernels<float> wide_f32, narrow_f32, gemv_f32;
extern const PanelKernels<double> wide_f64, narrow_f64, gemv_f64;
extern const LowdimKernels<float> lowdim_f32[kLowdim];
extern const LowdimKernels<double> lowdim_f64[kLowdim];
extern const TileKernels tile_kernels;
extern const Int8Kernels int8_kernels;
extern const DigitKernels digit_kernels;
extern const ExactKernels exact_kernels;
extern const NormalsKernel normals_kernel;
extern const KernelTable kernel_table;

}  // namespace ISA
}  // namespace interp_fast
