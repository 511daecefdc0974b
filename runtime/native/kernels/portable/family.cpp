// Kernels for any processor.

#include "kernels/scalar/map.h"
#include "kernels/scalar/norm.h"
#include "kernels/scalar/product.h"
#include "kernels/scalar/rotate.h"
#include "kernels/scalar/softmax.h"

namespace sta {
namespace {

constexpr int lanes = 16;
constexpr Layout layout{1, lanes};

bool runs_here() {
    return true;
}

// One row and `lanes` columns of the result.
bool multiply_strip(const Product& product, int row, int column) {
    const int stride = layout.padded(product.columns);
    const std::uint8_t* a = product.a + row * product.a_stride;
    const std::int8_t* b = product.b + column;
    std::int32_t sums[lanes] = {};
    for (int k = 0; k < product.depth; ++k, b += stride) {
        const std::int32_t value = product.a_signed ? static_cast<std::int8_t>(a[k]) : a[k];
        for (int lane = 0; lane < lanes; ++lane) sums[lane] += value * b[lane];
    }
    return scalar::finish(product, sums, row, column, std::min(lanes, product.columns - column));
}

bool multiply_rows(const Product& product, int first, int last) {
    bool fits = true;
    for (int row = first; row < last; ++row) {
        for (int column = 0; column < product.columns; column += lanes) fits &= multiply_strip(product, row, column);
    }
    return fits;
}

}  // namespace

const Kernels portable_kernels = {
    .name = "portable",
    .runs_here = runs_here,
    .layout = layout,
    .lay_out = scalar::lay_out<layout>,
    .copy_every_other_byte = scalar::copy_every_other_byte,
    .multiply_rows = multiply_rows,
    .sums_fit = scalar::sums_fit,
    .map_rows = scalar::map_rows,
    .softmax_rows = scalar::softmax_rows,
    .norm_rows = scalar::norm_rows,
    .rotate_rows = scalar::rotate_rows,
    .statistics_of_row = scalar::statistics_of_row,
    .sparse = nullptr,
};

}  // namespace sta
