#include "program/checks.h"

#include <algorithm>

#include "instructions/instruction.h"

namespace sta {
namespace {

struct Interval {
    __int128 low, high;
};

// What a value may be inside loops with these counts.
Interval interval(const Affine& affine, const std::vector<std::int64_t>& counts) {
    Interval range{affine.base, affine.base};
    for (const auto& [depth, step] : affine.terms) {
        if (depth < 0 || depth >= static_cast<int>(counts.size())) throw BadDescription("a counter of no loop");
        const std::int64_t count = counts[static_cast<std::size_t>(depth)];
        const __int128 span = static_cast<__int128>(step) * (count > 1 ? count - 1 : 0);
        (span < 0 ? range.low : range.high) += span;
    }
    return range;
}

// Registers have 48 bits; sums of several fit int64.
constexpr __int128 register_limit = __int128{1} << 48;

void check_register(const InstructionDescription& instruction, const Affine& value) {
    const Interval range = interval(value, instruction.counts);
    if (range.low < 0 || range.high >= register_limit) instruction.refuse("a register out of range");
}

void check_inside(const MachineDescription& machine, const InstructionDescription& instruction,
                  const Operand& operand) {
    check_register(instruction, operand.address);
    check_register(instruction, operand.stride);
    if (operand.rows < 1 || operand.row_bytes < 1) instruction.refuse("an operand without bytes");
    const __int128 last_row = interval(operand.stride, instruction.counts).high * (operand.rows - 1);
    const __int128 end = interval(operand.address, instruction.counts).high + last_row + operand.row_bytes;
    if (end > machine.size_of(operand.space)) instruction.refuse("an operand outside its memory");
}

bool lies_as_said(const InstructionDescription& instruction, const Operand& operand, Rows lie) {
    if (lie == Rows::anyhow) return true;
    const Interval stride = interval(operand.stride, instruction.counts);
    return stride.low >= operand.row_bytes && (lie == Rows::apart || stride.high == operand.row_bytes);
}

// The kernels rely on the instruction's sizes, the check of memories on those of its operands: they must agree.
void check_extent(const InstructionDescription& instruction, const NamedOperand& operand, const Extent& extent) {
    const bool may_lie_there =
        std::find(extent.spaces.begin(), extent.spaces.end(), operand.space) != extent.spaces.end();
    const bool is_as_large = operand.rows == extent.rows && operand.row_bytes == extent.row_bytes;
    const bool has_rows = extent.rows > 1 || !extent.rows_register.empty();
    if (operand.name != extent.name || operand.writes != extent.writes || !may_lie_there || !is_as_large ||
        (has_rows && !lies_as_said(instruction, operand, extent.lie))) {
        instruction.refuse("'" + extent.name + "' is not what its sizes make it");
    }
}

// An operand of as many adjacent rows as a register says.
void check_rows(const MachineDescription& machine, const InstructionDescription& instruction, const Operand& operand,
                const std::string& rows_register) {
    const __int128 rows = interval(instruction.in_register(rows_register), instruction.counts).high;
    const __int128 end = interval(operand.address, instruction.counts).high + rows * operand.row_bytes;
    if (end > machine.size_of(operand.space)) instruction.refuse("a table outside its memory");
}

void check_operands(const MachineDescription& machine, const InstructionDescription& instruction) {
    const std::vector<Extent> extents = instruction.type->extents(instruction);
    if (extents.size() != instruction.operands.size()) instruction.refuse("operands that it does not have");
    for (std::size_t number = 0; number < extents.size(); ++number) {
        const NamedOperand& operand = instruction.operands[number];
        check_extent(instruction, operand, extents[number]);
        check_inside(machine, instruction, operand);
        const std::string& rows_register = extents[number].rows_register;
        if (!rows_register.empty()) check_rows(machine, instruction, operand, rows_register);
    }
}

void check_taint_rule(const MachineDescription& machine, const InstructionDescription& instruction) {
    const auto check = [&](const Operand& operand) {
        if (operand.space != Space::spad && operand.space != Space::acc) instruction.refuse("taint in another memory");
        check_inside(machine, instruction, operand);
    };
    for (const Operand& source : instruction.taint.sources) check(source);
    for (const TaintRule::Result& result : instruction.taint.results) check(result.operand);
}

void check_of_unit(const MachineDescription& machine, const InstructionDescription& instruction) {
    for (const auto& [field, value] : instruction.registers) check_register(instruction, value);
    check_operands(machine, instruction);
    check_register(instruction, instruction.job.stride);
    check_taint_rule(machine, instruction);
    if (instruction.job.unit < 0 || instruction.job.unit >= machine.units) instruction.refuse("an unknown unit");
}

constexpr int largest_pc = 1 << 24;

// Counters are as many, and run as far, as the instructions inside say.
void check_loops(const std::vector<InstructionDescription>& instructions) {
    std::vector<std::int64_t> counts;
    std::vector<int> open;
    int before = -1;
    for (int position = 0; position < static_cast<int>(instructions.size()); ++position) {
        const InstructionDescription& instruction = instructions[static_cast<std::size_t>(position)];
        if (instruction.role == Role::end) {
            if (open.empty() || instruction.partner != open.back()) instruction.refuse("the end of no loop");
            const InstructionDescription& loop = instructions[static_cast<std::size_t>(open.back())];
            if (loop.partner != position || loop.number("count") != instruction.number("count")) {
                instruction.refuse("the end of another loop");
            }
            open.pop_back();
            counts.pop_back();
        }
        if (instruction.counts != counts) instruction.refuse("other loops than those around it");
        if (instruction.pc <= before || instruction.pc > largest_pc) instruction.refuse("out of order");
        before = instruction.pc;
        if (instruction.role != Role::loop) continue;
        if (instruction.number("count") < 0) instruction.refuse("a negative count");
        open.push_back(position);
        counts.push_back(instruction.number("count"));
    }
    if (!open.empty()) throw BadDescription("a loop without an end");
}

}  // namespace

void check_program(const ProgramDescription& program) {
    const std::vector<InstructionDescription>& instructions = program.instructions;
    if (instructions.empty() || instructions.back().role != Role::halt) throw BadDescription("a program without an end");
    if (program.machine.units < 1) throw BadDescription("a machine without units");
    check_loops(instructions);
    for (const InstructionDescription& instruction : instructions) {
        if (instruction.role == Role::unit) check_of_unit(program.machine, instruction);
    }
}

}  // namespace sta
