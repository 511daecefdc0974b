#include "program/program.h"

#include <algorithm>

#include "program/checks.h"

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

// A small instruction moves fewer bytes, or multiplies 64 times as often.
constexpr std::int64_t small_work = 1 << 18;

int weight_of(const InstructionDescription& instruction, const DecodedInstruction* decoded) {
    std::int64_t work = decoded ? decoded->work() : 0;
    for (const Operand& operand : instruction.operands) work += operand.rows * operand.row_bytes;
    return static_cast<int>(std::min<std::int64_t>(1 + work / small_work, instructions_between_looks));
}

int deepest_loop(const std::vector<InstructionDescription>& instructions) {
    std::size_t depth = 0;
    for (const InstructionDescription& instruction : instructions) {
        // A loop has a counter even if nothing is in it.
        depth = std::max(depth, instruction.counts.size() + (instruction.role == Role::loop ? 1 : 0));
    }
    return static_cast<int>(depth);
}

// Constants are left out, nothing writes them.
std::vector<Access> accesses_of(const InstructionDescription& instruction) {
    const std::vector<Extent> extents = instruction.type->extents(instruction);
    std::vector<Access> accesses;
    for (std::size_t number = 0; number < extents.size(); ++number) {
        const NamedOperand& operand = instruction.operands[number];
        if (operand.space == Space::constants) continue;
        const std::string& rows_register = extents[number].rows_register;
        const Affine rows = rows_register.empty() ? Affine{operand.rows, {}} : instruction.in_register(rows_register);
        accesses.push_back(
            {operand.space, operand.writes, operand.address, operand.stride, rows, operand.row_bytes});
    }
    return accesses;
}

}  // namespace

Program::Program(const ProgramDescription& description)
    : machine_(description.machine),
      loop_depth_(deepest_loop(description.instructions)),
      kernels_(kernels_called(description.family)),
      shared_(std::make_unique<Shared>(description, kernels_)) {
    check_program(description);
    for (const InstructionDescription& instruction : description.instructions) add(instruction);
}

void Program::add(const InstructionDescription& instruction) {
    Node node{};
    node.role = instruction.role;
    node.pc = instruction.pc;
    node.depth = static_cast<int>(instruction.counts.size());
    node.issued = instruction.pc - (nodes_.empty() ? -1 : nodes_.back().pc);
    rules_of_pc_.resize(static_cast<std::size_t>(instruction.pc) + 1, -1);
    if (instruction.role == Role::loop || instruction.role == Role::end) {
        node.iterations = instruction.number("count");
        node.target = static_cast<std::size_t>(instruction.partner) + 1;
    } else if (instruction.role == Role::unit) {
        rules_of_pc_.back() = static_cast<int>(rules_.size());
        rules_.push_back({instruction.job, instruction.taint, accesses_of(instruction)});
        decoded_.push_back(instruction.type->make(instruction, *shared_));
        node.decoded = decoded_.back().get();
    }
    node.weight = weight_of(instruction, node.decoded);
    nodes_.push_back(node);
}

std::unique_ptr<Machine> Program::machine(int threads) const {
    return std::make_unique<Machine>(machine_, loop_depth_, kernels_, threads);
}

Progress Program::advance(Machine& machine, std::chrono::duration<double> time, std::int64_t executed) const {
    const Progress progress = run(machine, time, executed);
    return machine.settle() ? progress : Progress::uncertain;
}

bool Program::execute(const DecodedInstruction& decoded, Machine& machine) {
    return (decoded.runs_ahead() || machine.settle()) && decoded.execute(machine);
}

Progress Program::run(Machine& machine, std::chrono::duration<double> time, std::int64_t executed) const {
    const auto end = std::chrono::steady_clock::now() + time;
    std::size_t& position = machine.position;
    for (int since_look = 0;;) {
        if (since_look >= instructions_between_looks) {
            if (std::chrono::steady_clock::now() >= end) return Progress::running;
            since_look = 0;
        }
        const Node& node = nodes_[position];
        since_look += node.weight;
        switch (node.role) {
            case Role::unit:
                if (machine.executed >= executed) return Progress::running;
                if (node.decoded && !execute(*node.decoded, machine)) return Progress::failed;
                ++machine.executed;
                ++position;
                break;
            case Role::fence:
                if (machine.executed >= executed) return Progress::running;
                ++machine.executed;
                ++position;
                break;
            case Role::loop:
                machine.counters[static_cast<std::size_t>(node.depth)] = 0;
                position = node.iterations ? position + 1 : node.target;
                break;
            case Role::end: {
                std::int64_t& counter = machine.counters[static_cast<std::size_t>(node.depth)];
                position = ++counter < node.iterations ? node.target : position + 1;
                break;
            }
            case Role::halt: return Progress::halted;
        }
    }
}

bool Program::follow(const Look& look, const Visitor& visit) const {
    std::vector<std::int64_t> counters(static_cast<std::size_t>(loop_depth_));
    std::size_t position = 0;
    std::int64_t issued = 0;
    for (int steps = 0;; ++steps) {
        if (steps == steps_between_looks) {
            look();
            steps = 0;
        }
        const Node& node = nodes_[position++];
        issued += node.issued;
        if (node.role == Role::loop) {
            counters[static_cast<std::size_t>(node.depth)] = 0;
            if (node.iterations == 0) position = node.target;
        } else if (node.role == Role::end) {
            if (++counters[static_cast<std::size_t>(node.depth)] < node.iterations) position = node.target;
        } else {
            if (!visit(node.pc, counters.data(), issued)) return false;
            if (node.role == Role::halt) return true;
            issued = 0;
        }
    }
}

}  // namespace sta
