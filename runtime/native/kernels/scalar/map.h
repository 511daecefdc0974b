// The vector unit's map, one element at a time.
//
// Each family includes this file and compiles it for its own processor, hence the unnamed namespace: functions of one
// family must never be taken for those of another.

#pragma once

#include <limits>

#include "kernels/scalar/arithmetic.h"

namespace sta::scalar {
namespace {

inline std::int64_t element(const std::uint8_t* row, Element type, int column) {
    switch (type) {
        case Element::s8: return static_cast<std::int8_t>(row[column]);
        case Element::u8: return row[column];
        case Element::s16: return load<std::int16_t>(row + 2 * column);
        case Element::s32: return load<std::int32_t>(row + 4 * column);
        default: return 0;
    }
}

inline std::int64_t source_element(const Map& map, const std::uint8_t* row, int column) {
    if (map.source_type != Element::wide) return element(row, map.source_type, column);
    const std::int64_t high = load<std::int32_t>(row + 4 * column);
    return 256 * high + load<std::int32_t>(row + 4 * (map.columns + column));
}

inline void saturate_to(std::uint8_t* row, Element type, int column, std::int64_t value) {
    switch (type) {
        case Element::s8: row[column] = static_cast<std::uint8_t>(limit(value, -128, 127)); return;
        case Element::u8: row[column] = static_cast<std::uint8_t>(limit(value, 0, 255)); return;
        case Element::s16: store(row + 2 * column, static_cast<std::int16_t>(limit(value, -32768, 32767))); return;
        default:
            store(row + 4 * column, static_cast<std::int32_t>(limit(value, std::numeric_limits<std::int32_t>::min(),
                                                                    std::numeric_limits<std::int32_t>::max())));
    }
}

// TOSA TABLE on int16: linear interpolation between 513 entries, seven fraction bits.
inline std::int64_t looked_up(const std::int16_t* table, std::int64_t value) {
    const std::int64_t position = limit(value, -32768, 32767) + 32768;
    const auto* entry = reinterpret_cast<const std::uint8_t*>(table) + 2 * (position >> 7);
    const std::int32_t low = load<std::int16_t>(entry), high = load<std::int16_t>(entry + 2);
    return low * 128 + (high - low) * static_cast<std::int32_t>(position & 127);
}

// A rescaled value and its rescaled residual.
inline std::int64_t combined(Combination combine, std::int64_t value, std::int64_t residual) {
    switch (combine) {
        case Combination::subtract: return value - residual;
        case Combination::subtract_from: return residual - value;
        case Combination::maximum: return value > residual ? value : residual;
        case Combination::minimum: return value < residual ? value : residual;
        default: return value + residual;
    }
}

inline bool map_row(const Map& map, int row) {
    const MapParameters& parameters = *map.parameters;
    const std::uint8_t* source = map.source + row * map.source_stride;
    const std::uint8_t* residual = map.residual + (map.residual ? row * map.residual_stride : 0);
    std::uint8_t* destination = map.destination + row * map.destination_stride;
    const bool wide = map.source_type == Element::wide;
    bool fits = true;
    for (int column = 0; column < map.columns; ++column) {
        const int channel = map.per_channel ? column : 0;
        const Scale scale =
            map.rows ? map.rows[row] : Scale{parameters.multiplier[channel], parameters.shift[channel]};
        const std::int64_t value = source_element(map, source, column) + parameters.bias[channel];
        fits = fits && (wide || fits_int32(value));
        std::int64_t result = wide ? rescaled_wide(value, scale) : rescaled(value, scale);
        if (map.rows && map.empty[row]) result = 0;
        if (map.table) result = rescaled(looked_up(map.table, result), parameters.table);
        if (map.residual) {
            const std::int64_t other =
                element(residual, map.residual_type, map.residual_column ? 0 : column) + parameters.residual_bias;
            if (map.combine == Combination::multiply) {
                const std::int64_t product = limit(result, -32768, 32767) * limit(other, -32768, 32767);
                result = rescaled(product, parameters.residual);
            } else {
                result = combined(map.combine, result, rescaled_wide(other, parameters.residual));
            }
        }
        saturate_to(destination, map.destination_type, column, result + parameters.zero_point);
    }
    return fits;
}

inline bool map_rows(const Map& map, int first, int last) {
    bool fits = true;
    for (int row = first; row < last; ++row) fits = map_row(map, row) && fits;
    return fits;
}

template <typename Source>
inline bool row_sums_fit(const std::uint8_t* source, const std::int32_t* bias, bool per_channel, int columns) {
    std::uint32_t wrong = 0;
    for (int column = 0; column < columns; ++column) {
        const auto value = static_cast<std::uint32_t>(std::int32_t{load<Source>(source + sizeof(Source) * column)});
        const auto term = static_cast<std::uint32_t>(bias[per_channel ? column : 0]);
        // The sign of a sum out of range differs from those of both terms.
        wrong |= ((value + term) ^ value) & ((value + term) ^ term);
    }
    return wrong >> 31 == 0;
}

inline bool sums_fit(const Map& map, int first, int last) {
    const std::int32_t* bias = map.parameters->bias.data();
    bool fits = true;
    for (int row = first; row < last; ++row) {
        const std::uint8_t* source = map.source + row * map.source_stride;
        switch (map.source_type) {
            case Element::s8: fits &= row_sums_fit<std::int8_t>(source, bias, map.per_channel, map.columns); break;
            case Element::u8: fits &= row_sums_fit<std::uint8_t>(source, bias, map.per_channel, map.columns); break;
            case Element::s16: fits &= row_sums_fit<std::int16_t>(source, bias, map.per_channel, map.columns); break;
            case Element::s32: fits &= row_sums_fit<std::int32_t>(source, bias, map.per_channel, map.columns); break;
            default: break;  // sums of 64 bits
        }
    }
    return fits;
}

}  // namespace
}  // namespace sta::scalar
