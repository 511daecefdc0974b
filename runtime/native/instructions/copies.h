// Copies of rows, as ld and st make them.

#pragma once

#include <cstdint>
#include <cstring>

#include "instructions/instruction.h"

namespace sta {

inline void copy_rows(const std::uint8_t* source, std::int64_t source_stride, std::uint8_t* destination,
                      std::int64_t destination_stride, std::int64_t rows, std::int64_t row_bytes) {
    const bool is_one_piece = source_stride == row_bytes && destination_stride == row_bytes;
    const std::int64_t pieces = is_one_piece ? 1 : rows, bytes = is_one_piece ? rows * row_bytes : row_bytes;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
        std::memcpy(destination + piece * destination_stride, source + piece * source_stride,
                    static_cast<std::size_t>(bytes));
    }
}

class Copy : public DecodedInstruction {
public:
    Copy(const Operand& source, const Operand& destination) : source_(source), destination_(destination) {}

    bool execute(Machine& machine) const override {
        const Tile source = machine.tile(source_), destination = machine.tile(destination_);
        copy_rows(source.bytes, source.stride, destination.bytes, destination.stride, source.rows, source.row_bytes);
        return true;
    }

private:
    Operand source_, destination_;
};

}  // namespace sta
