// Products, one element at a time.
//
// Each family includes this file and compiles it for its own processor, hence the unnamed namespace: functions of one
// family must never be taken for those of another.

#pragma once

#include "kernels/scalar/arithmetic.h"

namespace sta::scalar {
namespace {

// Lays a matrix out, and sums its columns.
template <Layout layout>
void lay_out(const Matrix& matrix, std::int8_t* laid_out, std::int32_t* column_sums) {
    const int columns = layout.padded(matrix.columns);
    std::memset(laid_out, 0, layout.size(matrix.columns, matrix.depth));
    std::memset(column_sums, 0, sizeof(std::int32_t) * static_cast<std::size_t>(columns));
    for (int column = 0; column < matrix.columns; ++column) {
        const std::uint8_t* source = matrix.bytes + column * matrix.column_stride;
        for (int k = 0; k < matrix.depth; ++k) {
            const auto value = static_cast<std::int8_t>(source[k * matrix.depth_stride]);
            laid_out[(k / layout.group * columns + column) * layout.group + k % layout.group] = value;
            column_sums[column] += value;
        }
    }
}

// Ends a part of a product: what becomes of `count` sums. Returns whether they fit int32.
inline bool finish(const Product& product, const std::int32_t* sums, int row, int column, int count) {
    std::uint8_t* acc = product.acc + row * product.acc_stride + 4 * column;
    if (product.result == Result::replace) {
        std::memcpy(acc, sums, 4 * static_cast<std::size_t>(count));
        return true;
    }
    std::uint32_t wrong = 0;
    for (int i = 0; i < count; ++i) {
        const auto before = load<std::uint32_t>(acc + 4 * i), term = static_cast<std::uint32_t>(sums[i]);
        const std::uint32_t sum = product.result == Result::add ? before + term : before - term;
        // The sign of a sum out of range differs from those of both terms.
        wrong |= (sum ^ before) & (sum ^ term);
        store(acc + 4 * i, sum);
    }
    return wrong >> 31 == 0;
}

inline void copy_every_other_byte(const std::uint8_t* source, std::uint8_t* destination, int count) {
    for (int k = 0; k < count; ++k) destination[k] = source[2 * k];
}

}  // namespace
}  // namespace sta::scalar
