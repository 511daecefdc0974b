// The vector unit's norm, one element at a time.
//
// Each family includes this file and compiles it for its own processor, hence the unnamed namespace: functions of one
// family must never be taken for those of another.

#pragma once

#include "kernels/scalar/arithmetic.h"

namespace sta::scalar {
namespace {

// Products wrap, as NumPy's do: they can leave int64 only if a row is normalized with the statistics of another.
inline std::int64_t wrapping_product(std::int64_t a, std::int64_t b) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}

inline std::int64_t wrapping_sum(std::int64_t a, std::int64_t b) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

inline void norm_row(const Norm& norm, int row) {
    const NormParameters& parameters = *norm.parameters;
    const RowNorm& scale = norm.rows[row];
    const std::uint8_t* source = norm.source + row * norm.source_stride;
    std::uint8_t* destination = norm.destination + (norm.destination ? row * norm.destination_stride : 0);
    std::uint8_t* copy = norm.copy + (norm.copy ? row * norm.copy_stride : 0);
    for (int column = 0; column < norm.columns; ++column) {
        const std::int64_t centred = std::int64_t{norm.columns} * load<std::int16_t>(source + 2 * column) - scale.mean;
        const std::int64_t normalized = rounding_shift(centred * scale.root, scale.shift);
        const std::int64_t offset = std::int64_t{parameters.beta[column]} * (1 << 20);
        const std::int64_t scaled = wrapping_sum(wrapping_product(normalized, parameters.gamma[column]), offset);
        const std::int64_t result = limit(rounding_shift(scaled, parameters.shift), -32768, 32767);
        if (norm.destination) store(destination + 2 * column, static_cast<std::int16_t>(result));
        if (!norm.copy) continue;
        const std::int64_t narrow = rescaled(result, parameters.copy) + parameters.copy_zero_point;
        copy[column] = static_cast<std::uint8_t>(limit(narrow, -128, 127));
    }
}

inline void norm_rows(const Norm& norm, int first, int last) {
    for (int row = first; row < last; ++row) norm_row(norm, row);
}

inline void statistics_of_row(const std::uint8_t* row, int columns, std::int64_t& sum, std::int64_t& squares) {
    std::int64_t total = 0, square_total = 0;
    for (int column = 0; column < columns; ++column) {
        const std::int32_t value = load<std::int16_t>(row + 2 * column);
        total += value;
        square_total += static_cast<std::int64_t>(value) * value;
    }
    sum = total;
    squares = square_total;
}

}  // namespace
}  // namespace sta::scalar
