// rescale: shifts rows of accumulators right.

#include "operation.h"

namespace sta {
namespace {

constexpr std::int32_t largest_shift = 31;

// A half is rounded toward plus infinity; the sum with a half is never formed.
std::int32_t rounding_shift(std::int32_t value, std::int32_t shift) {
    if (shift == 0) return value;
    const std::int32_t halves = value >> (shift - 1);
    return (halves >> 1) + (halves & 1);
}

class Rescale : public Operation {
public:
    explicit Rescale(const InstructionDescription& instruction)
        : acc_(instruction.operand("acc")), shifts_(instruction.operand("shifts")) {}

    bool execute(Machine& machine) const override {
        const Tile acc = machine.tile(acc_), shifts = machine.tile(shifts_);
        for (std::int64_t row = 0; row < acc.rows; ++row) {
            if (shift_of(shifts, row) < 0 || shift_of(shifts, row) > largest_shift) return false;
        }
        for (std::int64_t row = 0; row < acc.rows; ++row) {
            const std::int32_t shift = shift_of(shifts, row);
            std::uint8_t* values = acc.bytes + row * acc.stride;
            for (std::int64_t byte = 0; shift != 0 && byte < acc.row_bytes; byte += 4) {
                std::int32_t value;
                std::memcpy(&value, values + byte, 4);
                value = rounding_shift(value, shift);
                std::memcpy(values + byte, &value, 4);
            }
        }
        return true;
    }

private:
    static std::int32_t shift_of(const Tile& shifts, std::int64_t row) {
        std::int32_t shift;
        std::memcpy(&shift, shifts.bytes + 4 * row, 4);
        return shift;
    }

    Operand acc_, shifts_;
};

}  // namespace

std::unique_ptr<Operation> make_rescale(const InstructionDescription& instruction, Shared&) {
    return std::make_unique<Rescale>(instruction);
}

}  // namespace sta
