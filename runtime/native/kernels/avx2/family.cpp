// Kernels for processors with AVX2: all but the product are the scalar ones, which the compiler makes vectors of.

#if defined(__x86_64__)

#include "kernels/avx2/family.h"
#include "kernels/target.h"

namespace sta {
namespace {

bool runs_here() {
    return __builtin_cpu_supports("avx2");
}

}  // namespace
}  // namespace sta

STA_BEGIN_TARGET(STA_AVX2)

#include "kernels/scalar/map.h"
#include "kernels/scalar/norm.h"
#include "kernels/scalar/product.h"
#include "kernels/scalar/rotate.h"
#include "kernels/scalar/softmax.h"

namespace sta {

const Kernels avx2_kernels = {
    .name = "avx2",
    .runs_here = runs_here,
    .layout = avx2::layout,
    .lay_out = scalar::lay_out<avx2::layout>,
    .copy_every_other_byte = scalar::copy_every_other_byte,
    .multiply_rows = avx2::multiply_rows,
    .sums_fit = scalar::sums_fit,
    .map_rows = scalar::map_rows,
    .softmax_rows = scalar::softmax_rows,
    .norm_rows = scalar::norm_rows,
    .rotate_rows = scalar::rotate_rows,
    .statistics_of_row = scalar::statistics_of_row,
    .sparse = nullptr,
};

}  // namespace sta

STA_END_TARGET

#endif
