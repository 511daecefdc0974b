// The arithmetic of the vector and softmax units, element by element: what every family computes.
//
// Each family includes this file and compiles it for its own processor, hence the unnamed namespace: functions of one
// family must never be taken for those of another.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels.h"

namespace sta {
namespace {

template <typename T>
inline T load(const void* address) {
    T value;
    std::memcpy(&value, address, sizeof(T));
    return value;
}

template <typename T>
inline void store(void* address, T value) {
    std::memcpy(address, &value, sizeof(T));
}

inline std::int64_t limit(std::int64_t value, std::int64_t low, std::int64_t high) {
    return value < low ? low : value > high ? high : value;
}

inline bool fits_int32(std::int64_t value) {
    return value == static_cast<std::int32_t>(value);
}

// (value * multiplier + half) >> shift of a value saturated to [-2^(shift-1), 2^(shift-1) - 1]; exact for any value.
inline std::int64_t rescaled_wide(std::int64_t value, Scale scale) {
    const std::int64_t half = std::int64_t{1} << (scale.shift - 1);
    const __int128 product = static_cast<__int128>(limit(value, -half, half - 1)) * scale.multiplier;
    return static_cast<std::int64_t>((product + half) >> scale.shift);
}

// The same for values that fit int32: neither product nor sum leaves int64.
inline std::int64_t rescaled(std::int64_t value, Scale scale) {
    const std::int64_t half = std::int64_t{1} << (scale.shift - 1);
    return (limit(value, -half, half - 1) * scale.multiplier + half) >> scale.shift;
}

// x / 2^shift, a half toward plus infinity, without ever forming x + half; shift in 0..63.
inline std::int64_t rounding_shift(std::int64_t x, int shift) {
    if (shift == 0) return x;
    const std::int64_t halves = x >> (shift - 1);
    return (halves >> 1) + (halves & 1);
}

inline void lay_out_matrix(const Matrix& matrix, Layout layout, std::int8_t* laid_out, std::int32_t* column_sums) {
    const int columns = layout.columns(matrix.columns);
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
            const std::int64_t other = element(residual, map.residual_type, column) + parameters.residual_bias;
            if (map.multiply) {
                const std::int64_t product = limit(result, -32768, 32767) * limit(other, -32768, 32767);
                result = rescaled(product, parameters.residual);
            } else {
                result += rescaled_wide(other, parameters.residual);
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

// The number of keys that the causal test of a row lets through.
inline int visible_keys(const Softmax& softmax, int row) {
    if (!softmax.causal) return softmax.keys;
    return static_cast<int>(limit(row + softmax.diagonal + 1, 0, softmax.keys));
}

inline std::int32_t exponential_of(const Exponentials& exponentials, std::int64_t exponent) {
    const std::int64_t position = std::min<std::int64_t>(exponent, exponentials.count - 1);
    if (exponentials.bytes == 1) return exponentials.results[position];
    return load<std::uint16_t>(exponentials.results + 2 * position);
}

inline bool is_admissible(const std::uint8_t* mask, int key, int visible) {
    return key < visible && (!mask || mask[key]);
}

inline void store_exponential(const Softmax& softmax, std::uint8_t* row, int key, std::int32_t exponential) {
    if (softmax.exponentials.bytes == 1) row[key] = static_cast<std::uint8_t>(exponential);
    else store(row + 2 * key, static_cast<std::uint16_t>(exponential));
}

inline bool softmax_row(const Softmax& softmax, int row) {
    const std::uint8_t* scores = softmax.scores + row * softmax.scores_stride;
    const std::uint8_t* mask = softmax.mask ? softmax.mask + row * softmax.mask_stride : nullptr;
    std::uint8_t* destination = softmax.destination + row * softmax.destination_stride;
    const int visible = visible_keys(softmax, row);
    std::int64_t largest = std::numeric_limits<std::int32_t>::min();
    for (int key = 0; key < visible; ++key) {
        if (is_admissible(mask, key, visible)) largest = std::max<std::int64_t>(largest, load<std::int32_t>(scores + 4 * key));
    }
    std::int64_t sum = 0;
    for (int key = 0; key < softmax.keys; ++key) {
        std::int32_t exponential = 0;
        if (is_admissible(mask, key, visible)) {
            const std::int64_t difference = load<std::int32_t>(scores + 4 * key) - largest;
            exponential = exponential_of(softmax.exponentials, -rescaled_wide(difference, softmax.scale));
        }
        sum += exponential;
        store_exponential(softmax, destination, key, exponential);
    }
    softmax.sums[row] = static_cast<std::int32_t>(sum);
    return true;
}

constexpr std::int64_t no_maximum = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t largest_row_shift = 31;

// Takes a row's state to the maximum of its keys so far, given the largest exponent of these keys.
inline void raise_maximum(const RowStates& states, int row, bool any, std::int64_t largest) {
    const std::int64_t before = states.known_sums ? states.known_maxima[row] : no_maximum;
    const std::int64_t maximum = any ? std::max(before, (largest + 1023) >> 10) : before;
    const std::int64_t shift = before == no_maximum ? 0 : std::min(maximum - before, largest_row_shift);
    states.maxima[row] = static_cast<std::int32_t>(maximum);
    states.shifts[row] = static_cast<std::int32_t>(shift);
}

// Adds the exponentials of a row to what it has summed up; false if that is not in 0..2^31-1.
inline bool add_to_sum(const Softmax& softmax, int row, std::int64_t exponentials) {
    const RowStates& states = *softmax.states;
    const std::int64_t before = states.known_sums ? states.known_sums[row] : 0;
    const std::int64_t sum = rounding_shift(before, states.shifts[row]) + exponentials;
    softmax.sums[row] = static_cast<std::int32_t>(sum);
    return before >= 0 && fits_int32(sum);
}

inline bool online_softmax_row(const Softmax& softmax, int row) {
    const std::uint8_t* scores = softmax.scores + row * softmax.scores_stride;
    const std::uint8_t* mask = softmax.mask ? softmax.mask + row * softmax.mask_stride : nullptr;
    std::uint8_t* destination = softmax.destination + row * softmax.destination_stride;
    const int visible = visible_keys(softmax, row);
    const auto exponent = [&](int key) { return rescaled(load<std::int32_t>(scores + 4 * key), softmax.scale); };
    bool any = false;
    std::int64_t largest = std::numeric_limits<std::int64_t>::min();
    for (int key = 0; key < visible; ++key) {
        if (!is_admissible(mask, key, visible)) continue;
        any = true;
        largest = std::max(largest, exponent(key));
    }
    raise_maximum(*softmax.states, row, any, largest);
    const std::int64_t origin = std::int64_t{softmax.states->maxima[row]} * 1024;
    std::int64_t sum = 0;
    for (int key = 0; key < softmax.keys; ++key) {
        const bool counts = is_admissible(mask, key, visible);
        const std::int32_t exponential =
            counts ? exponential_of(softmax.exponentials, origin - exponent(key)) : 0;
        sum += exponential;
        store_exponential(softmax, destination, key, exponential);
    }
    return add_to_sum(softmax, row, sum);
}

inline bool softmax_rows(const Softmax& softmax, int first, int last) {
    bool fits = true;
    for (int row = first; row < last; ++row) {
        fits = (softmax.states ? online_softmax_row(softmax, row) : softmax_row(softmax, row)) && fits;
    }
    return fits;
}

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
}  // namespace sta
