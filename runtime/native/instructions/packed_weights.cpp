#include "instructions/packed_weights.h"

#include <algorithm>
#include <cstring>

namespace sta {
namespace {

int position_bits(int m) {
    int bits = 1;
    while (1 << bits < m) ++bits;
    return bits;
}

int group_bits(const PackedShape& shape) {
    return shape.encoding == Encoding::bitmap ? shape.m : shape.n * position_bits(shape.m);
}

int groups(const PackedShape& shape) {
    return (shape.depth + shape.m - 1) / shape.m;
}

int kept(const PackedShape& shape) {
    return shape.encoding == Encoding::dense ? shape.depth : groups(shape) * shape.n;
}

int metadata_bytes(const PackedShape& shape) {
    return shape.encoding == Encoding::dense ? 0 : (groups(shape) * group_bits(shape) + 7) / 8;
}

// Reads a row's metadata from the least significant bit on.
class Bits {
public:
    explicit Bits(const std::uint8_t* bytes) : bytes_(bytes) {}

    // At most 32 bits.
    std::uint32_t take(int count) {
        while (available_ < count) {
            waiting_ |= std::uint64_t{*bytes_++} << available_;
            available_ += 8;
        }
        const auto taken = static_cast<std::uint32_t>(waiting_ & ((std::uint64_t{1} << count) - 1));
        waiting_ >>= count;
        available_ -= count;
        return taken;
    }

    // Whether the bits left over of the last byte are zero.
    bool ends_in_zeros() const { return waiting_ == 0; }

private:
    const std::uint8_t* bytes_;
    std::uint64_t waiting_ = 0;
    int available_ = 0;
};

// The positions of a group's values as a bitmap; 0 if they are malformed (no pattern keeps nothing).
std::uint32_t positions_of_group(Bits& bits, const PackedShape& shape) {
    if (shape.encoding == Encoding::bitmap) {
        const std::uint32_t bitmap = bits.take(shape.m);
        return __builtin_popcount(bitmap) == shape.n ? bitmap : 0;
    }
    std::uint32_t bitmap = 0;
    int previous = -1;
    bool ascends = true;
    for (int i = 0; i < shape.n; ++i) {
        const int position = static_cast<int>(bits.take(position_bits(shape.m)));
        ascends = ascends && previous < position && position < shape.m;
        previous = position;
        bitmap |= std::uint32_t{1} << position;
    }
    return ascends ? bitmap : 0;
}

bool unpack_row(const std::uint8_t* values, const std::uint8_t* metadata, const PackedShape& shape,
                std::uint8_t* weights) {
    Bits bits(metadata);
    for (int start = 0; start < shape.depth; start += shape.m) {
        std::uint32_t positions = positions_of_group(bits, shape);
        if (positions == 0) return false;
        for (; positions; positions &= positions - 1, ++values) {
            const int k = start + __builtin_ctz(positions);
            if (k < shape.depth) weights[k] = *values;
            else if (*values != 0) return false;
        }
    }
    return bits.ends_in_zeros();
}

}  // namespace

std::int64_t packed_size(const PackedShape& shape) {
    return std::int64_t{shape.columns} * (kept(shape) + metadata_bytes(shape));
}

bool unpack(const std::uint8_t* block, const PackedShape& shape, std::uint8_t* weights) {
    const auto size = static_cast<std::size_t>(shape.columns) * static_cast<std::size_t>(shape.depth);
    if (shape.encoding == Encoding::dense) {
        std::memcpy(weights, block, size);
        return true;
    }
    std::memset(weights, 0, size);
    const std::uint8_t* metadata = block + std::int64_t{shape.columns} * kept(shape);
    for (int column = 0; column < shape.columns; ++column) {
        if (!unpack_row(block + std::int64_t{column} * kept(shape), metadata, shape, weights)) return false;
        metadata += metadata_bytes(shape);
        weights += shape.depth;
    }
    return true;
}

}  // namespace sta
