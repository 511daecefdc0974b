// The vector unit's rotation of pairs of columns, one element at a time.
//
// Each family includes this file and compiles it for its own processor, hence the unnamed namespace: functions of one
// family must never be taken for those of another.

#pragma once

#include <algorithm>
#include <limits>

#include "kernels/scalar/arithmetic.h"
#include "kernels/scalar/map.h"

namespace sta::scalar {
namespace {

inline int partner_of(const Rotation& rotation, int column) {
    if (column >= rotation.width) return column;
    if (!rotation.half) return column ^ 1;
    const int half = rotation.width / 2;
    return column < half ? column + half : column - half;
}

inline void rotate_row(const Rotation& rotation, int row) {
    const std::uint8_t* source = rotation.source + row * rotation.source_stride;
    const std::uint8_t* cosines = rotation.cosines + row * rotation.cosines_stride;
    const std::uint8_t* sines = rotation.sines + row * rotation.sines_stride;
    std::uint8_t* destination = rotation.destination + row * rotation.destination_stride;
    for (int column = 0; column < rotation.columns; ++column) {
        const std::int64_t value = element(source, rotation.source_type, column);
        const std::int64_t partner = element(source, rotation.source_type, partner_of(rotation, column));
        const std::int64_t sum = value * load<std::int16_t>(cosines + 2 * column) +
                                 partner * load<std::int16_t>(sines + 2 * column);
        // The only sum beyond int32 is one more than its largest.
        const std::int64_t limited = std::min<std::int64_t>(sum, std::numeric_limits<std::int32_t>::max());
        saturate_to(destination, rotation.destination_type, column, rescaled(limited, rotation.scale));
    }
}

inline void rotate_rows(const Rotation& rotation, int first, int last) {
    for (int row = first; row < last; ++row) rotate_row(rotation, row);
}

}  // namespace
}  // namespace sta::scalar
