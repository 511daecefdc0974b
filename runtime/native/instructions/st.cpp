// st: copies rows from the scratchpad to the writable part of DRAM.

#include "instructions/copies.h"

namespace sta {
namespace {

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const int rows = size_field(instruction, "rows");
    const int row_bytes = size_field(instruction, "row_bytes", largest_row_bytes);
    return {{.name = "sram", .spaces = {Space::spad}, .rows = rows, .row_bytes = row_bytes},
            {.name = "dram",
             .spaces = {Space::writable},
             .rows = rows,
             .row_bytes = row_bytes,
             .lie = Rows::apart,
             .writes = true}};
}

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared&) {
    return std::make_unique<Copy>(instruction.operand("sram"), instruction.operand("dram"));
}

const InstructionType type{"st", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
