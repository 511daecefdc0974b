#include "program.h"

#include <algorithm>
#include <map>

#include "extents.h"

namespace sta {
namespace {

// Looking at the clock takes as long as a small instruction.
constexpr int instructions_between_looks = 64;
constexpr int steps_between_looks = 1 << 20;

const Kernels& kernels_called(const std::string& name) {
    for (const Kernels* family : families()) {
        if (name.empty() ? family->runs_here() : name == family->name) {
            if (!family->runs_here()) break;
            return *family;
        }
    }
    throw BadDescription("no kernels '" + name + "' on this processor");
}

const std::map<std::string, Maker>& makers() {
    static const std::map<std::string, Maker> all = {
        {"sync", make_sync}, {"ld", make_ld},           {"st", make_st},   {"gather", make_gather},   {"mm", make_mm},
        {"map", make_map},   {"softmax", make_softmax}, {"norm", make_norm}, {"rescale", make_rescale},
    };
    return all;
}

struct Interval {
    __int128 low, high;
};

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

[[noreturn]] void refuse(const InstructionDescription& instruction, const std::string& what) {
    throw BadDescription("instruction " + std::to_string(instruction.pc) + ": " + what);
}

// Registers have 48 bits; sums of several fit int64.
constexpr __int128 register_limit = __int128{1} << 48;

void check_register(const InstructionDescription& instruction, const Affine& value) {
    const Interval range = interval(value, instruction.counts);
    if (range.low < 0 || range.high >= register_limit) refuse(instruction, "a register out of range");
}

void check_inside(const ProgramDescription& program, const InstructionDescription& instruction,
                  const Operand& operand) {
    check_register(instruction, operand.address);
    check_register(instruction, operand.stride);
    if (operand.rows < 1 || operand.row_bytes < 1) refuse(instruction, "an operand without bytes");
    const __int128 last_row = interval(operand.stride, instruction.counts).high * (operand.rows - 1);
    const __int128 end = interval(operand.address, instruction.counts).high + last_row + operand.row_bytes;
    if (end > size_of(program, operand.space)) refuse(instruction, "an operand outside its memory");
}

bool lie_as_said(const InstructionDescription& instruction, const Operand& operand, Rows lie) {
    if (lie == Rows::anyhow) return true;
    const Interval stride = interval(operand.stride, instruction.counts);
    return stride.low >= operand.row_bytes && (lie == Rows::apart || stride.high == operand.row_bytes);
}

// The kernels rely on the instruction's sizes, the check of memories on those of its operands: they must agree.
void check_extents(const InstructionDescription& instruction) {
    const std::vector<Extent> extents = extents_of(instruction);
    if (extents.size() != instruction.operands.size()) refuse(instruction, "operands that it does not have");
    for (const Extent& extent : extents) {
        const Operand& operand = instruction.operand(extent.name);
        const bool may_lie_there =
            std::find(extent.spaces.begin(), extent.spaces.end(), operand.space) != extent.spaces.end();
        const bool is_as_large = operand.rows == extent.rows && operand.row_bytes == extent.row_bytes;
        if (!may_lie_there || !is_as_large || (extent.rows > 1 && !lie_as_said(instruction, operand, extent.lie))) {
            refuse(instruction, "'" + extent.name + "' is not what its sizes make it");
        }
    }
}

void check_taint_rule(const ProgramDescription& program, const InstructionDescription& instruction) {
    const auto check = [&](const Operand& operand) {
        if (operand.space != Space::spad && operand.space != Space::acc) refuse(instruction, "taint in another memory");
        check_inside(program, instruction, operand);
    };
    for (const Operand& source : instruction.taint.sources) check(source);
    for (const TaintRule::Result& result : instruction.taint.results) check(result.operand);
}

void check_access(const ProgramDescription& program, const InstructionDescription& instruction, const Access& access) {
    for (const Affine* value : {&access.address, &access.stride, &access.rows}) check_register(instruction, *value);
    if (access.row_bytes < 1) refuse(instruction, "an access without bytes");
    const __int128 rows = interval(access.rows, instruction.counts).high;
    const __int128 last_row = rows > 1 ? interval(access.stride, instruction.counts).high * (rows - 1) : 0;
    const __int128 end = interval(access.address, instruction.counts).high + last_row + (rows > 0 ? access.row_bytes : 0);
    if (end > size_of(program, access.space)) refuse(instruction, "an access outside its memory");
}

// A small instruction moves fewer bytes, or multiplies 64 times as often.
constexpr std::int64_t small_work = 1 << 18;

int weight_of(const InstructionDescription& instruction) {
    std::int64_t work = 0;
    for (const auto& [name, operand] : instruction.operands) work += operand.rows * operand.row_bytes;
    if (instruction.kind == "mm") {
        work += instruction.number("rows") * instruction.number("columns") * instruction.number("depth") / 64;
    }
    return static_cast<int>(std::min<std::int64_t>(1 + work / small_work, instructions_between_looks));
}

bool uses_statistics(const InstructionDescription& instruction) {
    return (instruction.kind == "map" && instruction.number("gather")) ||
           (instruction.kind == "norm" && instruction.number("gathered"));
}

// The validator has checked most of this before; that it holds here does not depend on it.
void check_instruction(const ProgramDescription& program, const InstructionDescription& instruction) {
    check_extents(instruction);
    for (const auto& [name, operand] : instruction.operands) check_inside(program, instruction, operand);
    for (const auto& [name, value] : instruction.registers) check_register(instruction, value);
    check_register(instruction, instruction.job.stride);
    check_taint_rule(program, instruction);
    for (const Access& access : instruction.accesses) check_access(program, instruction, access);
    if (uses_statistics(instruction) && instruction.number("rows") > program.tile_rows) {
        refuse(instruction, "more rows than have statistics");
    }
    if (instruction.kind != "gather") return;
    // The table has as many rows as a register says.
    const Operand& table = instruction.operand("table");
    const __int128 rows = interval(instruction.in_register("limit"), instruction.counts).high;
    const __int128 end = interval(table.address, instruction.counts).high + rows * table.row_bytes;
    if (end > size_of(program, table.space)) refuse(instruction, "a table outside its memory");
}

constexpr int largest_pc = 1 << 24;

// Counters are as many, and run as far, as the instructions inside say.
void check_loops(const std::vector<InstructionDescription>& instructions) {
    std::vector<std::int64_t> counts;
    std::vector<int> open;
    int before = -1;
    for (int position = 0; position < static_cast<int>(instructions.size()); ++position) {
        const InstructionDescription& instruction = instructions[static_cast<std::size_t>(position)];
        if (instruction.kind == "end") {
            if (open.empty() || instruction.partner != open.back()) refuse(instruction, "the end of no loop");
            const InstructionDescription& loop = instructions[static_cast<std::size_t>(open.back())];
            if (loop.partner != position || loop.number("count") != instruction.number("count")) {
                refuse(instruction, "the end of another loop");
            }
            open.pop_back();
            counts.pop_back();
        }
        if (instruction.counts != counts) refuse(instruction, "other loops than those around it");
        if (instruction.pc <= before || instruction.pc > largest_pc) refuse(instruction, "out of order");
        before = instruction.pc;
        if (instruction.kind != "loop") continue;
        if (open.size() == deepest_loop) refuse(instruction, "loops are nested too deeply");
        if (instruction.number("count") < 0) refuse(instruction, "a negative count");
        open.push_back(position);
        counts.push_back(instruction.number("count"));
    }
    if (!open.empty()) throw BadDescription("a loop without an end");
}

}  // namespace

std::int64_t size_of(const ProgramDescription& program, Space space) {
    switch (space) {
        case Space::spad: return program.spad;
        case Space::wbuf: return program.wbuf;
        case Space::acc: return program.acc;
        case Space::constants: return program.constants_size;
        default: return program.writable;
    }
}

Program::Program(const ProgramDescription& description)
    : kernels_(kernels_called(description.family)), shared_(std::make_unique<Shared>(description, kernels_)) {
    memories_.spad = description.spad;
    memories_.wbuf = description.wbuf;
    memories_.acc = description.acc;
    memories_.writable = description.writable;
    memories_.constants = description.constants;
    memories_.constants_size = description.constants_size;
    memories_.tile_rows = description.tile_rows;
    memories_.queue_depth = description.queue_depth;
    const std::vector<InstructionDescription>& instructions = description.instructions;
    if (instructions.empty() || instructions.back().kind != "halt") throw BadDescription("a program without an end");
    check_loops(instructions);
    for (const InstructionDescription& instruction : instructions) {
        check_instruction(description, instruction);
        add(instruction);
    }
}

void Program::add(const InstructionDescription& instruction) {
    const std::int64_t previous = nodes_.empty() ? -1 : nodes_.back().pc;
    if (instruction.pc <= previous) throw BadDescription("instructions are out of order");
    Node node{};
    node.pc = instruction.pc;
    node.depth = static_cast<int>(instruction.counts.size());
    node.issued = instruction.pc - previous;
    node.weight = weight_of(instruction);
    if (instruction.kind == "loop" || instruction.kind == "end") {
        node.kind = instruction.kind == "loop" ? Kind::loop : Kind::end;
        node.iterations = instruction.number("count");
        node.target = static_cast<std::size_t>(instruction.partner) + 1;
    } else if (instruction.kind == "halt") {
        node.kind = Kind::halt;
    } else if (instruction.kind == "fence") {
        node.kind = Kind::fence;
    } else {
        const auto maker = makers().find(instruction.kind);
        if (maker == makers().end()) throw BadDescription("unknown instruction " + instruction.kind);
        operations_.push_back(maker->second(instruction, *shared_));
        node.kind = Kind::unit;
        node.operation = operations_.back().get();
        node.rules = jobs_.size();
        if (instruction.job.unit < 0 || instruction.job.unit >= unit_count) throw BadDescription("an unknown unit");
        jobs_.push_back(instruction.job);
        taint_rules_.push_back(instruction.taint);
        accesses_.push_back(instruction.accesses);
    }
    rules_of_pc_.resize(static_cast<std::size_t>(instruction.pc) + 1, -1);
    rules_of_pc_.back() = node.kind == Kind::unit ? static_cast<int>(node.rules) : -1;
    nodes_.push_back(node);
}

std::unique_ptr<Machine> Program::machine(int threads) const {
    return std::make_unique<Machine>(memories_, kernels_, threads);
}

Progress Program::advance(Machine& machine, std::chrono::duration<double> time) const {
    const Progress progress = run(machine, time);
    return machine.settle() ? progress : Progress::uncertain;
}

bool Program::execute(const Operation& operation, Machine& machine) {
    return (operation.runs_ahead() || machine.settle()) && operation.execute(machine);
}

Progress Program::run(Machine& machine, std::chrono::duration<double> time) const {
    const auto end = std::chrono::steady_clock::now() + time;
    std::size_t& position = machine.position;
    for (int since_look = 0;;) {
        if (since_look >= instructions_between_looks) {
            if (std::chrono::steady_clock::now() >= end) return Progress::running;
            since_look = 0;
        }
        const Node& node = nodes_[position];
        since_look += node.weight;
        switch (node.kind) {
            case Kind::unit:
                if (node.operation && !execute(*node.operation, machine)) return Progress::failed;
                ++position;
                break;
            case Kind::fence: ++position; break;
            case Kind::loop:
                machine.counters[static_cast<std::size_t>(node.depth)] = 0;
                position = node.iterations ? position + 1 : node.target;
                break;
            case Kind::end: {
                std::int64_t& counter = machine.counters[static_cast<std::size_t>(node.depth)];
                position = ++counter < node.iterations ? node.target : position + 1;
                break;
            }
            case Kind::halt: return Progress::halted;
        }
    }
}

template <typename Visit>
bool Program::walk(const std::function<void()>& look, const Visit& visit) const {
    std::array<std::int64_t, deepest_loop> counters{};
    std::size_t position = 0;
    std::int64_t issued = 0;
    for (int steps = 0;; ++steps) {
        if (steps == steps_between_looks) {
            look();
            steps = 0;
        }
        const Node& node = nodes_[position++];
        issued += node.issued;
        if (node.kind == Kind::loop) {
            counters[static_cast<std::size_t>(node.depth)] = 0;
            if (node.iterations == 0) position = node.target;
        } else if (node.kind == Kind::end) {
            if (++counters[static_cast<std::size_t>(node.depth)] < node.iterations) position = node.target;
        } else {
            if (!visit(node, counters.data(), issued)) return false;
            if (node.kind == Kind::halt) return true;
            issued = 0;
        }
    }
}

bool Program::follow(const std::function<void()>& look, const Visitor& visit) const {
    return walk(look, [&](const Node& node, const std::int64_t* counters, std::int64_t issued) {
        return visit(node.pc, counters, issued);
    });
}

bool Program::scores_stay_on_chip(const std::function<void()>& look) const {
    TaintMap taint(memories_.spad, memories_.acc);
    return walk(look, [&](const Node& node, const std::int64_t* counters, std::int64_t) {
        return node.kind != Kind::unit || taint.apply(taint_rules_[node.rules], counters);
    });
}

}  // namespace sta
