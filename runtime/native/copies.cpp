// ld, st and gather: copies between DRAM and the memories on the chip.

#include "operation.h"

namespace sta {
namespace {

void copy_rows(const std::uint8_t* source, std::int64_t source_stride, std::uint8_t* destination,
               std::int64_t destination_stride, std::int64_t rows, std::int64_t row_bytes) {
    if (source_stride == row_bytes && destination_stride == row_bytes) {
        row_bytes *= rows;
        rows = 1;
    }
    for (std::int64_t row = 0; row < rows; ++row) {
        std::memcpy(destination + row * destination_stride, source + row * source_stride,
                    static_cast<std::size_t>(row_bytes));
    }
}

class Copy : public Operation {
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

class LoadWeights : public Operation {
public:
    // What others read of constants, they read where these are: there is nothing in the buffer that they need.
    bool runs_ahead() const override { return source_.space == Space::constants; }

    LoadWeights(const Operand& source, const Operand& destination) : source_(source), destination_(destination) {}

    bool execute(Machine& machine) const override {
        const Tile source = machine.tile(source_);
        const std::int64_t* counters = machine.counters.data();
        const std::int64_t address = destination_.address.at(counters);
        const std::int64_t stride = source.rows == 1 ? source.row_bytes : destination_.stride.at(counters);
        const std::int64_t source_stride = source.rows == 1 ? source.row_bytes : source.stride;
        const bool is_one_piece = stride == source.row_bytes && source_stride == source.row_bytes;
        if (is_one_piece && source_.space == Space::constants) {
            machine.wbuf.load_constants(address, source.rows * source.row_bytes, source.bytes);
            return true;
        }
        const std::int64_t size = (source.rows - 1) * stride + source.row_bytes;
        // Between the rows the memory keeps what it holds.
        if (!is_one_piece) machine.wbuf.settled();
        std::uint8_t* destination = machine.wbuf.writable(address, size);
        copy_rows(source.bytes, source_stride, destination, stride, source.rows, source.row_bytes);
        return true;
    }

private:
    Operand source_, destination_;
};

class Gather : public Operation {
public:
    explicit Gather(const InstructionDescription& instruction)
        : table_(instruction.operand("table")),
          indices_(instruction.operand("indices")),
          destination_(instruction.operand("destination")),
          limit_(instruction.in_register("limit")) {}

    bool execute(Machine& machine) const override {
        const Tile table = machine.tile(table_), destination = machine.tile(destination_);
        const std::int64_t limit = limit_.at(machine.counters.data());
        // The rows may overwrite the indices.
        auto* indices = reinterpret_cast<std::int32_t*>(machine.rows.take(4 * static_cast<std::size_t>(destination.rows)));
        std::memcpy(indices, machine.tile(indices_).bytes, 4 * static_cast<std::size_t>(destination.rows));
        for (std::int64_t row = 0; row < destination.rows; ++row) {
            if (indices[row] < 0 || indices[row] >= limit) return false;
        }
        for (std::int64_t row = 0; row < destination.rows; ++row) {
            std::memcpy(destination.bytes + row * destination.stride, table.bytes + indices[row] * table.row_bytes,
                        static_cast<std::size_t>(table.row_bytes));
        }
        return true;
    }

private:
    Operand table_, indices_, destination_;
    Affine limit_;
};

}  // namespace

std::unique_ptr<Operation> make_ld(const InstructionDescription& instruction, Shared&) {
    const Operand &dram = instruction.operand("dram"), &sram = instruction.operand("sram");
    if (sram.space == Space::wbuf) return std::make_unique<LoadWeights>(dram, sram);
    return std::make_unique<Copy>(dram, sram);
}

std::unique_ptr<Operation> make_st(const InstructionDescription& instruction, Shared&) {
    return std::make_unique<Copy>(instruction.operand("sram"), instruction.operand("dram"));
}

std::unique_ptr<Operation> make_gather(const InstructionDescription& instruction, Shared&) {
    return std::make_unique<Gather>(instruction);
}

}  // namespace sta
