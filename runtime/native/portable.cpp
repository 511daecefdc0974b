// Kernels for any processor.

#include "scalar.h"

namespace sta {
namespace {

constexpr int lanes = 16;

bool always() {
    return true;
}

constexpr Layout layout{1, lanes};

void lay_out(const Matrix& matrix, std::int8_t* laid_out, std::int32_t* column_sums) {
    lay_out_matrix(matrix, layout, laid_out, column_sums);
}

// One row and `lanes` columns of the result.
bool product_strip(const Product& product, int row, int column) {
    const int stride = layout.columns(product.columns);
    const std::uint8_t* a = product.a + row * product.a_stride;
    const std::int8_t* b = product.b + column;
    std::int32_t sums[lanes] = {};
    for (int k = 0; k < product.depth; ++k, b += stride) {
        const std::int32_t value = product.a_signed ? static_cast<std::int8_t>(a[k]) : a[k];
        for (int lane = 0; lane < lanes; ++lane) sums[lane] += value * b[lane];
    }
    return finish(product, sums, row, column, std::min(lanes, product.columns - column));
}

bool product(const Product& product, int first, int last) {
    bool fits = true;
    for (int row = first; row < last; ++row) {
        for (int column = 0; column < product.columns; column += lanes) fits &= product_strip(product, row, column);
    }
    return fits;
}

}  // namespace

const Kernels portable_kernels = {
    "portable", always, layout, lay_out, copy_every_other_byte, product, sums_fit, map_rows, softmax_rows, norm_rows,
    statistics_of_row, nullptr,
};

}  // namespace sta
