// Packed weights; see spec/nm_format.py.

#pragma once

#include <cstdint>

namespace sta {

enum class Encoding { dense, bitmap, index };

struct PackedShape {
    int columns, depth;
    int n, m;
    Encoding encoding;
};

// Bytes of a packed block.
std::int64_t packed_size(const PackedShape& shape);

// Writes a packed block as int8[columns][depth]; false if its metadata is malformed.
bool unpack(const std::uint8_t* block, const PackedShape& shape, std::uint8_t* weights);

}  // namespace sta
