// Reading the parameter blocks in the weight buffer; see spec/parameters.py.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "machine/cache.h"
#include "machine/memory.h"

namespace sta {

// Bytes in front of the arrays of a block.
constexpr std::int64_t parameter_header = 32;

// Kernels read whole vectors.
constexpr std::size_t vector_lanes = 16;

template <typename T>
T read_value(const std::uint8_t* block, std::int64_t offset) {
    T value;
    std::memcpy(&value, block + offset, sizeof(T));
    return value;
}

inline std::vector<std::int32_t> read_words(const std::uint8_t* words, int count) {
    const auto size = static_cast<std::size_t>(count);
    std::vector<std::int32_t> values((size + vector_lanes - 1) / vector_lanes * vector_lanes);
    std::memcpy(values.data(), words, 4 * size);
    return values;
}

inline Scale read_scale(const std::uint8_t* block, std::int64_t offset) {
    return {read_value<std::int32_t>(block, offset), read_value<std::int32_t>(block, offset + 4)};
}

inline bool is_scale(Scale scale) {
    return scale.multiplier >= 0 && 2 <= scale.shift && scale.shift <= 62;
}

// The parameters in a block: from the cache, to which they are added if the block is constant and there is room for
// `size` more bytes; otherwise the caller's `own`. Null: a value is outside its field.
template <typename Parameters, typename Read>
const Parameters* find_parameters(const View& block, Cache<Parameters>& cache, std::int64_t size,
                                  std::unique_ptr<Parameters>& own, const Read& read) {
    if (block.constant) {
        if (const Parameters* known = cache.find(block.bytes)) return known;
    }
    own = read(block.bytes);
    if (!own || !block.constant || !cache.has_room(size)) return own.get();
    return cache.keep(block.bytes, std::move(own), size);
}

}  // namespace sta
