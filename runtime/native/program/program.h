// A program, decoded once and executed any number of times.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "instructions/instruction.h"
#include "instructions/shared.h"
#include "kernels/kernels.h"
#include "machine/machine.h"
#include "program/description.h"

namespace sta {

// A rectangle that an instruction reads or writes, with as many rows as a register says where it is the table of a gather.
struct Access {
    Space space = Space::spad;
    bool writes = false;
    Affine address, stride, rows;
    std::int64_t row_bytes = 0;
};

// Uncertain: something has failed while other threads had gone ahead of it. The run says nothing then.
enum class Progress { running, halted, failed, uncertain };

class Program {
public:
    // Throws BadDescription for a description that would lead outside a memory or out of the program.
    explicit Program(const ProgramDescription& description);

    std::unique_ptr<Machine> machine(int threads) const;

    // Executes instructions until the program ends, one fails, so many have been executed since the start, or the time
    // is over. Nothing goes on afterwards.
    Progress advance(Machine& machine, std::chrono::duration<double> time, std::int64_t executed) const;

    // Looks at what is going on elsewhere, now and then during a walk; may throw.
    using Look = std::function<void()>;

    // Calls visit(pc, counters, issued) for every instruction of a unit, fence and halt of a run in program order, until
    // it returns false; `issued` counts the instructions since the one before. Returns whether all returned true.
    using Visitor = std::function<bool(int pc, const std::int64_t* counters, std::int64_t issued)>;
    bool follow(const Look& look, const Visitor& visit) const;

    // The pc of the instruction at the machine's position.
    int pc(const Machine& machine) const { return nodes_[machine.position].pc; }

    const Kernels& kernels() const { return kernels_; }
    const MachineDescription& runs_on() const { return machine_; }
    // The number that stands for the unit of fences and the halt.
    int sequencer() const { return machine_.units; }
    int code_size() const { return static_cast<int>(rules_of_pc_.size()); }
    // What the timing of an instruction needs; none if it is not of a unit.
    const Job* job(int pc) const {
        const int rules = rules_of_pc_[static_cast<std::size_t>(pc)];
        return rules < 0 ? nullptr : &rules_[static_cast<std::size_t>(rules)].job;
    }
    const TaintRule& taint_rule(int pc_of_unit) const { return rules(pc_of_unit).taint; }
    // What an instruction touches but for constants, in the order of its operands.
    const std::vector<Access>& accesses(int pc_of_unit) const { return rules(pc_of_unit).accesses; }

private:
    struct Node {
        Role role;
        int pc;
        int depth;                // of the loop, for a loop and its end
        std::int64_t iterations;
        std::size_t target;       // after the end for a loop, after the loop for an end
        const DecodedInstruction* decoded;
        std::int64_t issued;  // instructions that the sequencer issues here: address arithmetic before it, and itself
        int weight;           // how many small instructions take as long, at most as many as a look at the clock is after
    };

    // What the analyses of a run need to know of an instruction of a unit.
    struct Rules {
        Job job;
        TaintRule taint;
        std::vector<Access> accesses;
    };

    const Rules& rules(int pc) const {
        return rules_[static_cast<std::size_t>(rules_of_pc_[static_cast<std::size_t>(pc)])];
    }
    Progress run(Machine& machine, std::chrono::duration<double> time, std::int64_t executed) const;
    static bool execute(const DecodedInstruction& decoded, Machine& machine);
    void add(const InstructionDescription& instruction);

    MachineDescription machine_;
    int loop_depth_;
    const Kernels& kernels_;
    std::unique_ptr<Shared> shared_;
    std::vector<std::unique_ptr<DecodedInstruction>> decoded_;
    std::vector<Node> nodes_;
    std::vector<Rules> rules_;
    std::vector<int> rules_of_pc_;  // where they are; -1 for instructions that are not of a unit
};

}  // namespace sta
