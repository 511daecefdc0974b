// The instructions of the units. Each has a file of its own in this folder, which adds it to the table: the extents of
// its operands, and how it is decoded.

#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "instructions/shared.h"
#include "machine/machine.h"
#include "program/description.h"

namespace sta {

// How the rows of an operand must lie.
enum class Rows {
    anyhow,
    apart,     // they are written, by several threads perhaps
    adjacent,  // the kernels take them to follow each other
};

// The rectangle of an operand, given the instruction's sizes and choices. The instruction table defines it; the kernels
// rely on it, and a description that says anything else is refused: so no kernel leaves a rectangle that has been
// checked, whoever made the description.
struct Extent {
    std::string name;
    std::vector<Space> spaces;  // one of which it lies in
    std::int64_t rows, row_bytes;
    Rows lie = Rows::anyhow;
    bool writes = false;
    std::string rows_register = {};  // with the number of adjacent rows, in place of `rows`
};

// An instruction, decoded: what the program does with it.
class DecodedInstruction {
public:
    virtual ~DecodedInstruction() = default;
    // False if the instruction breaks a rule of the machine with the data it meets; then it has written nothing that
    // matters to another attempt.
    virtual bool execute(Machine& machine) const = 0;
    // Whether it may begin while other threads are at instructions before it; then it waits itself, where it has to.
    virtual bool runs_ahead() const { return false; }
    // What it does beside moving its operands, as bytes that could be moved in the same time.
    virtual std::int64_t work() const { return 0; }
};

struct InstructionType {
    const char* name;
    // The operands in the order of the instruction table. Throws BadDescription for sizes and choices that no
    // instruction has.
    std::vector<Extent> (*extents)(const InstructionDescription&);
    // Null: there is nothing to do.
    std::unique_ptr<DecodedInstruction> (*make)(const InstructionDescription&, Shared&);
};

// Adds an instruction to the table; a static object of its file.
struct Registration {
    explicit Registration(const InstructionType& type);
};

// Null if there is none.
const InstructionType* instruction_called(const std::string& name);

std::vector<std::string> instruction_names();

// Fields are narrower; products of any two sizes fit int.
constexpr std::int64_t largest_size = (1 << 14) - 1;
constexpr std::int64_t largest_row_bytes = (1 << 20) - 1;

constexpr std::int64_t word = 4;

// Elements below which an instruction of the vector or softmax unit is done before another thread has begun.
constexpr int smallest_shared = 2048;

// A size, which must be in 1..largest.
int size_field(const InstructionDescription& instruction, const std::string& field, std::int64_t largest = largest_size);

// The value that stands for the choice of a field.
template <typename Value>
Value choice_field(const InstructionDescription& instruction, const std::string& field,
                   std::initializer_list<std::pair<std::string_view, Value>> options) {
    const std::string& chosen = instruction.choice(field);
    for (const auto& [name, value] : options) {
        if (name == chosen) return value;
    }
    instruction.refuse("'" + field + "' is '" + chosen + "', which is not known");
}

}  // namespace sta
