// gather: copies the rows of a table in DRAM that indices name.

#include <cstring>

#include "instructions/instruction.h"

namespace sta {
namespace {

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const int rows = size_field(instruction, "rows");
    const int row_bytes = size_field(instruction, "row_bytes", largest_row_bytes);
    return {{.name = "table",
             .spaces = {Space::constants, Space::writable},
             .rows = 1,
             .row_bytes = row_bytes,
             .lie = Rows::adjacent,
             .rows_register = "limit"},
            {.name = "indices", .spaces = {Space::spad}, .rows = 1, .row_bytes = word * rows},
            {.name = "destination",
             .spaces = {Space::spad},
             .rows = rows,
             .row_bytes = row_bytes,
             .lie = Rows::apart,
             .writes = true}};
}

class Gather : public DecodedInstruction {
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

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared&) {
    return std::make_unique<Gather>(instruction);
}

const InstructionType type{"gather", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
