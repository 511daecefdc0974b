// The softmax unit, one element at a time.
//
// Each family includes this file and compiles it for its own processor, hence the unnamed namespace: functions of one
// family must never be taken for those of another.

#pragma once

#include <algorithm>
#include <limits>

#include "kernels/scalar/arithmetic.h"

namespace sta::scalar {
namespace {

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

// A score and its bias, in log2 units with 10 fraction bits.
inline std::int64_t exponent_of(const Softmax& softmax, const std::uint8_t* scores, const std::uint8_t* bias, int key) {
    const std::int64_t exponent = rescaled(load<std::int32_t>(scores + 4 * key), softmax.scale);
    return bias ? exponent + rescaled(load<std::int16_t>(bias + 2 * key), softmax.bias_scale) : exponent;
}

inline const std::uint8_t* bias_of(const Softmax& softmax, int row) {
    return softmax.bias ? softmax.bias + row * softmax.bias_stride : nullptr;
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
    const std::uint8_t* bias = bias_of(softmax, row);
    // Without a bias differences are rescaled, with one what they are of.
    const auto value = [&](int key) -> std::int64_t {
        return bias ? exponent_of(softmax, scores, bias, key) : load<std::int32_t>(scores + 4 * key);
    };
    std::int64_t largest = std::numeric_limits<std::int32_t>::min();
    for (int key = 0; key < visible; ++key) {
        if (is_admissible(mask, key, visible)) largest = std::max(largest, value(key));
    }
    std::int64_t sum = 0;
    for (int key = 0; key < softmax.keys; ++key) {
        std::int32_t exponential = 0;
        if (is_admissible(mask, key, visible)) {
            const std::int64_t difference = value(key) - largest;
            const std::int64_t exponent = bias ? difference : rescaled_wide(difference, softmax.scale);
            exponential = exponential_of(softmax.exponentials, -exponent);
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
    const std::uint8_t* bias = bias_of(softmax, row);
    const auto exponent = [&](int key) { return exponent_of(softmax, scores, bias, key); };
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

}  // namespace
}  // namespace sta::scalar
