// shift: shifts rows of accumulators right, each by as many bits as the scratchpad says.

#include <cstring>

#include "instructions/instruction.h"
#include "kernels/scalar/arithmetic.h"

namespace sta {
namespace {

constexpr std::int32_t largest_shift = 31;

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const int rows = size_field(instruction, "rows"), columns = size_field(instruction, "columns");
    return {{.name = "shifts", .spaces = {Space::spad}, .rows = 1, .row_bytes = word * rows, .lie = Rows::adjacent},
            {.name = "acc",
             .spaces = {Space::acc},
             .rows = rows,
             .row_bytes = word * columns,
             .lie = Rows::apart,
             .writes = true}};
}

class Shift : public DecodedInstruction {
public:
    explicit Shift(const InstructionDescription& instruction)
        : acc_(instruction.operand("acc")), shifts_(instruction.operand("shifts")) {}

    bool execute(Machine& machine) const override {
        const Tile acc = machine.tile(acc_), shifts = machine.tile(shifts_);
        for (std::int64_t row = 0; row < acc.rows; ++row) {
            if (shift_of(shifts, row) < 0 || shift_of(shifts, row) > largest_shift) return false;
        }
        for (std::int64_t row = 0; row < acc.rows; ++row) {
            const std::int32_t shift = shift_of(shifts, row);
            std::uint8_t* values = acc.bytes + row * acc.stride;
            for (std::int64_t byte = 0; shift != 0 && byte < acc.row_bytes; byte += word) {
                scalar::store(values + byte, scalar::rounding_shift(scalar::load<std::int32_t>(values + byte), shift));
            }
        }
        return true;
    }

private:
    static std::int32_t shift_of(const Tile& shifts, std::int64_t row) {
        return scalar::load<std::int32_t>(shifts.bytes + word * row);
    }

    Operand acc_, shifts_;
};

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared&) {
    return std::make_unique<Shift>(instruction);
}

const InstructionType type{"shift", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
