// Integer arithmetic, one element at a time: what every family of kernels computes.
//
// Each family includes this file and compiles it for its own processor, hence the unnamed namespace: functions of one
// family must never be taken for those of another.

#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"

namespace sta::scalar {
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

// x / 2^shift, a half toward plus infinity, without ever forming x + half; shift is below the bits of T.
template <typename T>
inline T rounding_shift(T x, int shift) {
    if (shift == 0) return x;
    const T halves = x >> (shift - 1);
    return (halves >> 1) + (halves & 1);
}

}  // namespace
}  // namespace sta::scalar
