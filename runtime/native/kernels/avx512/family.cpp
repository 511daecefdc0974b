// Kernels for processors with AVX-512 and VNNI.

#if defined(__x86_64__)

#include "kernels/avx512/family.h"
#include "kernels/target.h"

STA_BEGIN_TARGET(STA_AVX512)

#include "kernels/scalar/map.h"

namespace sta {
namespace {

bool runs_here() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Kernels avx512_kernels = {
    .name = "avx512-vnni",
    .runs_here = runs_here,
    .layout = avx512::layout,
    .lay_out = avx512::lay_out,
    .copy_every_other_byte = avx512::copy_every_other_byte,
    .multiply_rows = avx512::multiply_rows,
    .sums_fit = scalar::sums_fit,
    .map_rows = avx512::map_rows,
    .softmax_rows = avx512::softmax_rows,
    .norm_rows = avx512::norm_rows,
    .rotate_rows = avx512::rotate_rows,
    .statistics_of_row = avx512::statistics_of_row,
    .sparse = &avx512::sparse_kernels,
};

}  // namespace sta

STA_END_TARGET

#endif
